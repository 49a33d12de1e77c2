/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/manifest.h"
#include "crypto/hash.h"
#include "materialise.h"

/* Only for materialise*.c. */

#define MAT_HIDDEN ".mlctl-tmp-"
#define MAT_ARENA ((size_t)256 << 20) /* paths of at most MAT_FILES_MAX files, and the manifest */
#define MAT_BUF ((size_t)256 << 10)

struct mat_entry {
        const char *path;
        uint64_t size;
        struct mlc_digest digest;
        bool executable;
};

struct mat_entries {
        struct mlc_arena *arena;
        struct mat_entry *items; /* malloc'ed */
        size_t n, room;
        uint64_t bytes;
};

void mat_entries_done(struct mat_entries *e);
/* The path is copied, with "PREFIX/" before it when prefix is not "". */
int mat_entries_add(struct mat_entries *e, const char *prefix, const struct mat_entry *entry,
                    struct mlc_err *err) MLC_CHECK;
/* Sorts; MLC_E_INVALID when a path is there twice. */
int mat_entries_sort(struct mat_entries *e, struct mlc_err *err) MLC_CHECK;
void mat_entries_tree(const struct mat_entries *e, struct mlc_digest *ret); /* sorted */

/* Where the artifact's files go while they are read; NULL callbacks are not allowed. */
struct mat_sink {
        int (*begin)(void *userdata, const char *path, bool executable, struct mlc_err *err);
        int (*write)(void *userdata, const void *data, size_t len, struct mlc_err *err);
        int (*end)(void *userdata, struct mlc_err *err);
        void *userdata;
};

/*
 * Every file of the artifact, in the order of the manifest; bytes are compared with their digests
 * (MLC_E_VERIFY), but may reach the sink before that. sink NULL: only tar layers are read.
 */
int mat_artifact(const struct mat_in *in, const struct mlc_manifest *m, const struct mat_sink *sink,
                 struct mat_entries *ret, struct mlc_err *err) MLC_CHECK;
/* What the driver wants, given all paths of the artifact (sorted). Without ops->layout: nothing. */
int mat_layout(const struct mat_in *in, const struct mlc_manifest *m,
               const struct mat_entries *files, struct mlc_serving_layout *ret,
               struct mlc_err *err) MLC_CHECK;
/* The manifest, checked against model->digest, and the version's inclusion. In the arena. */
int mat_begin(const struct mat_in *in, struct mlc_arena *a, struct mlc_manifest *ret,
              struct mlc_err *err) MLC_CHECK;

/* The files below an open folder, hashed; `skip` at its top is left out. */
int mat_hash_folder(int fd, const char *skip, struct mat_cache *cache, struct mat_entries *ret,
                    struct mlc_err *err) MLC_CHECK;
