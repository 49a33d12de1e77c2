/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/http.h"
#include "codec/digest.h"

/*
 * One blob to a repository, by the OCI distribution API: as much as is not there yet. The address
 * of an upload that began is kept in a file, so that after a broken connection, and in a later
 * process, it goes on where the server says that it stands.
 */
#define MLC_UPLOAD_WHOLE_MAX ((uint64_t)1 << 20) /* bytes sent in one request, without resuming */

struct mlc_upload {
        const char *repository; /* "ns/model" */
        struct mlc_digest digest;
        uint64_t size;
        int fd; /* read by pread from 0 */
        const char *state_dir; /* exists; NULL: nothing is kept for a later process */
        /* Optional: bytes that have arrived since the last call; negative when some got lost. */
        void (*progress)(void *userdata, int64_t bytes);
        void *userdata;
};

/* Whether the repository has it. */
int mlc_blob_present(struct mlc_client *c, const char *repository, const struct mlc_digest *digest,
                     bool *ret, struct mlc_err *err) MLC_CHECK;
/*
 * Returns when the repository has the blob; *ret_sent is what this call sent (0 when the server
 * found it elsewhere). Broken connections and a busy server are waited for until six tries in turn
 * moved nothing: MLC_E_UNREACHABLE or MLC_E_UNAVAILABLE then. MLC_E_CONFLICT when the file is no
 * longer what was hashed.
 */
int mlc_upload_blob(struct mlc_client *c, const struct mlc_upload *u, uint64_t *ret_sent,
                    struct mlc_err *err) MLC_CHECK;

/*
 * The offset that a reply states: "Upload-Offset: N", or the last byte of "Range: 0-N". false when
 * neither is there or well-formed.
 */
bool mlc_upload_offset(const struct mlc_response *res, uint64_t *ret);
