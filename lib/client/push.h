/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "client/collect.h"
#include "client/http.h"
#include "codec/json.h"
#include "codec/manifest.h"
#include "codec/ref.h"

#define MLC_PUSH_TAR_FILES 500 /* with more files than this … */
#define MLC_PUSH_TAR_FILE_MAX ((uint64_t)1 << 20) /* … those smaller than this … */
#define MLC_PUSH_TAR_MAX ((uint64_t)64 << 20) /* … share archives of at most this size */

/* How far a transfer is. Called from several threads; may be all NULL. */
struct mlc_meter {
        void (*phase)(void *userdata, const char *what, uint64_t total); /* "hashing", "pushing" */
        void (*add)(void *userdata, int64_t bytes);
        void *userdata;
};

struct mlc_push {
        const char *ns, *model;
        const struct mlc_files *files;
        struct mlc_lineage lineage;
        const json_t *labels, *metrics; /* objects, may be empty */
        const char *alias; /* or NULL */
        const char *state_dir; /* for uploads that go on in a later process; may be NULL */
        unsigned jobs; /* 1..MLC_PARALLEL_MAX */
        bool dry_run; /* ends before anything is sent */
        struct mlc_meter meter;
};

struct mlc_push_result {
        json_t *version; /* the server's reply; NULL for a dry run. Owned by the caller. */
        char digest[MLC_DIGEST_STR]; /* of the manifest */
        uint64_t bytes; /* of all layers */
        uint64_t bytes_sent; /* of layers, by this call; a dry run: that it would send */
        size_t n_layers;
};

/*
 * Hashes the files, sends what the repository lacks, and makes the manifest a version. Two calls
 * with the same files and lineage make one version. Errors as mlc_upload_blob and
 * mlc_manifest_build have them, and the server's.
 */
int mlc_push_run(struct mlc_client *c, const struct mlc_push *p, struct mlc_push_result *ret,
                 struct mlc_err *err) MLC_CHECK;

/*
 * How the files become layers, in order: each entry is a run of files->list (by index) that is one
 * layer; `tar` ones are archives. For the tests and for mlc_push_run.
 */
struct mlc_layer_plan {
        bool tar;
        size_t n;
        const struct mlc_file **files; /* n of them, in order of path */
        uint64_t size; /* of the blob */
        struct mlc_digest digest; /* once hashed */
        bool missing; /* from the repository */
};
struct mlc_plan {
        struct mlc_layer_plan *layers;
        size_t n;
};
int mlc_plan_layers(const struct mlc_files *files, struct mlc_plan *ret,
                    struct mlc_err *err) MLC_CHECK;
void mlc_plan_done(struct mlc_plan *plan); /* for _cleanup_ */
