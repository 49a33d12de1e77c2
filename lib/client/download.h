/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "client/http.h"
#include "codec/digest.h"

struct mlc_download {
        const char *repository; /* "ns/model" */
        struct mlc_digest digest;
        uint64_t size;
        int dir_fd; /* of the file */
        const char *name; /* bytes that it holds already are kept, and the rest asked for */
        void (*progress)(void *userdata, int64_t bytes); /* optional */
        void *userdata;
};

/*
 * Fetches a blob into a file, and returns 0 only when the file is that blob. Broken connections are
 * taken up where they broke until six tries in turn moved nothing. MLC_E_VERIFY when the server
 * sent other bytes (the file is gone then), MLC_E_UNREACHABLE, MLC_E_NOT_FOUND.
 */
int mlc_download_blob(struct mlc_client *c, const struct mlc_download *d, uint64_t *ret_received,
                      struct mlc_err *err) MLC_CHECK;
