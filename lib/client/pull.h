/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/http.h"
#include "client/push.h"
#include "codec/manifest.h"

#define MLC_PULL_PARTIAL ".mlctl-partial" /* below the target, while a pull is going on */

struct mlc_pull {
        const char *repository; /* "ns/model" */
        const struct mlc_manifest *manifest;
        const char *dir; /* made when missing */
        bool force; /* replaces files that differ */
        unsigned jobs; /* 1..MLC_PARALLEL_MAX */
        struct mlc_meter meter;
};

struct mlc_pull_result {
        uint64_t bytes; /* of all layers */
        uint64_t bytes_received; /* by this call */
        uint64_t files, kept; /* kept: were there already, byte for byte */
};

/*
 * Brings the files of a version into a directory. Everything is fetched, compared with its digest
 * and, for archives, unpacked below MLC_PULL_PARTIAL first; only then do files appear under their
 * names. A call that was broken off is taken up by the next one. MLC_E_CONFLICT for an existing
 * file that differs (unless `force`), a link or directory in the way, or another pull into the same
 * directory; MLC_E_VERIFY for other bytes; MLC_E_INVALID for paths that collide.
 */
int mlc_pull_run(struct mlc_client *c, const struct mlc_pull *p, struct mlc_pull_result *ret,
                 struct mlc_err *err) MLC_CHECK;
