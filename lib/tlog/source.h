/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "crypto/note.h"
#include "tlog/tile.h"

/*
 * Where the files of a log come from: a directory or a server. read() gives the whole file
 * ("checkpoint", "tile/0/000") malloc'ed; MLC_E_NOT_FOUND when there is none, MLC_E_LIMIT above
 * max.
 */
struct mlc_tlog_file {
        char *data; /* malloc'ed, the caller's */
        size_t len;
};
struct mlc_tlog_source {
        int (*read)(void *userdata, const char *path, size_t max, struct mlc_tlog_file *ret,
                    struct mlc_err *err);
        void *userdata;
};

/* Reads below a directory, which is borrowed and must outlive the source. */
struct mlc_tlog_source mlc_tlog_source_dir(const char *dir);

/*
 * Opens a checkpoint that at least one of the keys signed, under a name equal to its origin; no
 * known key's signature may fail. MLC_E_VERIFY, or MLC_E_INVALID when it is no checkpoint at all.
 */
int mlc_tlog_open_checkpoint(const char *note, size_t len, const struct mlc_vkeys *keys,
                             struct mlc_checkpoint *ret, struct mlc_err *err) MLC_CHECK;

/* The tile's hashes, exactly t->width of them; falls back from a partial tile to the full one. */
int mlc_tlog_read_tile(const struct mlc_tlog_source *src, const struct mlc_tile *t,
                       struct mlc_digest *ret, struct mlc_err *err) MLC_CHECK;

struct mlc_tlog_entries {
        char *data; /* owns the bytes of bundle */
        struct mlc_bundle bundle; /* exactly the width asked for */
};

/* ret->data must be NULL; on failure ret->bundle is undefined. */
int mlc_tlog_read_entries(const struct mlc_tlog_source *src, const struct mlc_tile *t,
                          struct mlc_tlog_entries *ret, struct mlc_err *err) MLC_CHECK;
void mlc_tlog_entries_done(struct mlc_tlog_entries *e); /* for _cleanup_ */

/* Sets a zeroed tiler (emit set) to `size`, from the tiles of a tree of tree_size >= size entries.
 */
int mlc_tlog_load_tiler(const struct mlc_tlog_source *src, uint64_t tree_size, uint64_t size,
                        struct mlc_tiler *t, struct mlc_err *err) MLC_CHECK;

/* Hashes for proofs out of tiles (see mlc_merkle_source); keeps the last tile of each level. */
struct mlc_tlog_hashes {
        struct mlc_tlog_source src;
        uint64_t size; /* of the tree whose tiles are there */
        struct mlc_tile have[MLC_TILE_LEVELS]; /* width 0: nothing yet */
        struct mlc_digest cached[MLC_TILE_LEVELS][MLC_TILE_WIDTH];
};

/* Start with src and size set and the rest zero; `h` must outlive the result. */
struct mlc_merkle_source mlc_tlog_merkle_source(struct mlc_tlog_hashes *h);
