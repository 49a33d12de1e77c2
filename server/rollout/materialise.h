/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "base/map.h"
#include "codec/digest.h"
#include "mlctl/error.h"
#include "mlctl/serving.h"

/*
 * The verified files of a version in an instance's repository. Knows neither database nor HTTP:
 * what it needs from the rest of the server comes as callbacks.
 *
 * REPOSITORY_DIR lies below one of the --serving-root directories and is reached from there with
 * openat2 (RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, RESOLVE_NO_MAGICLINKS). Below it:
 *   NAME/                      appears by one rename, whole and verified, or not at all
 *   NAME/mlctl.json {"schema":"materialised/v1","name","model","version","digest","tree"}
 *   NAME/<files_under>/…       the artifact's files, 0644 (0755 if executable)
 *   NAME/<the driver's settings>
 *   .mlctl-tmp-…               being written or removed; removed at the next call by anyone
 * One process at a time works in a REPOSITORY_DIR (flock on the directory).
 */

#define MAT_MARKER "mlctl.json"
#define MAT_FILES_MAX 100000
#define MAT_BYTES_MAX ((uint64_t)1 << 40)

struct mat_source {
        /* A blob for reading, O_CLOEXEC, from offset 0 on; *ret_fd is the callee's gift. */
        int (*open)(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err);
        /* 0 only when the leaf that made this digest version `version` of `model` is under a
         * published checkpoint. Asked before anything is written. */
        int (*included)(void *userdata, const char *model, unsigned long long version,
                        const char *digest, struct mlc_err *err);
        /* Asked between files; true gives up (MLC_E_CONFLICT). NULL: never. */
        bool (*cancelled)(void *userdata);
        void *userdata;
};

struct mat_place {
        const char *const *roots; /* the --serving-root directories, absolute */
        size_t n_roots;
        const char *repository; /* REPOSITORY_DIR, absolute, must exist */
};

struct mat_in {
        struct mat_place place;
        const struct mlc_serving_ops *ops;
        const struct json_t *settings; /* the target's normalised `serving` object */
        const struct mlc_serving_model *model; /* name, model, version, digest */
        const void *manifest; /* its bytes; their SHA-256 must be model->digest */
        size_t manifest_len;
        const struct mat_source *source;
};

/*
 * Makes NAME. Nothing happens when NAME is there already with this digest and its content is what
 * it must be. *ret_tree: SHA-256 over a line "PATH NUL SIZE NUL SHA256HEX LF" (executables: "… NUL
 * x LF") of every file below NAME but the marker, sorted by path: what drift compares with.
 * MLC_E_VERIFY: bytes, digest or inclusion are not what they must be; MLC_E_CONFLICT: NAME holds
 * something else (names are never reused; a folder that somebody changed is to be removed first);
 * MLC_E_FORBIDDEN: no --serving-root covers REPOSITORY_DIR, or a symbolic link is on the way;
 * MLC_E_NOT_FOUND: it does not exist; MLC_E_INVALID: the driver cannot serve it; MLC_E_UNAVAILABLE:
 * another process works there; MLC_E_NO_SPACE; MLC_E_LIMIT. After a failure nothing is left, and
 * after a crash only a hidden folder.
 */
int mat_make(const struct mat_in *in, struct mlc_digest *ret_tree, struct mlc_err *err) MLC_CHECK;

/* The same digest from manifest and blobs alone: what NAME must hold. Reads tar layers only. */
int mat_expected(const struct mat_in *in, struct mlc_digest *ret_tree,
                 struct mlc_err *err) MLC_CHECK;

/* Removes NAME (first by a rename to a hidden name) and every leftover. 0 when it is not there. */
int mat_remove(const struct mat_place *place, const char *name, struct mlc_err *err) MLC_CHECK;

/* One folder of a REPOSITORY_DIR as it lies there. */
struct mat_found {
        const char *name; /* in the arena */
        bool folder; /* false: a file, link or other thing that does not belong there */
        char digest[MLC_DIGEST_STR]; /* what the marker claims; "" without a readable one */
        struct mlc_digest tree; /* of what is there, re-hashed */
        char what[128]; /* "": hashed; else why not (a link inside, too many files, unreadable) */
};

/* Digests of files by device, inode, size, mtime and ctime, so that looking often does not mean
 * reading often. One thread at a time; for _cleanup_ and reuse: mat_cache_done. */
struct mat_cache {
        struct mlc_map map;
        bool ready; /* zeroed: empty */
};
void mat_cache_done(struct mat_cache *c);

/*
 * Everything in REPOSITORY_DIR but hidden entries and plain files at its top, hashed from disk
 * (cache NULL) or from what is remembered of unchanged files. Takes no lock: what appears or goes
 * meanwhile may be missing.
 */
int mat_scan(const struct mat_place *place, struct mat_cache *cache, struct mlc_arena *a,
             struct mat_found **ret, size_t *ret_n, struct mlc_err *err) MLC_CHECK;

/* The directory of the place, for reading. For `apply`: is the path usable? */
int mat_open_repository(const struct mat_place *place, int *ret_fd, struct mlc_err *err) MLC_CHECK;
