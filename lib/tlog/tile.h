/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/digest.h"
#include "crypto/merkle.h"

/* The static files of a transparency log: C2SP tlog-tiles. Pure; no files are opened here. */
#define MLC_TILE_WIDTH 256u
#define MLC_TILE_LEVELS 8u /* levels 0..7 hold any size below 2^63 */
#define MLC_TILE_ENTRIES (-1) /* level of an entry bundle */
#define MLC_TILE_PATH_MAX 64
#define MLC_TILE_BYTES (MLC_TILE_WIDTH * 32u)
#define MLC_ENTRY_MAX 65535u /* bytes of one entry */
#define MLC_BUNDLE_MAX (MLC_TILE_WIDTH * (MLC_ENTRY_MAX + 2u))

struct mlc_tile {
        int level; /* 0..63, or MLC_TILE_ENTRIES */
        uint64_t index; /* the N-th tile of its level */
        unsigned width; /* 1..256; 256 is a full tile */
};

/* "tile/0/x001/067", "tile/entries/000.p/12". */
void mlc_tile_path(const struct mlc_tile *t, char ret[MLC_TILE_PATH_MAX]);
/* The inverse; exactly what mlc_tile_path writes, MLC_E_INVALID otherwise. */
int mlc_tile_parse(const char *path, struct mlc_tile *ret, struct mlc_err *err) MLC_CHECK;
/* Width of the tile in a tree of `size` leaves: 0 when the tree does not reach it. */
unsigned mlc_tile_width(int level, uint64_t index, uint64_t size);

/* Appends `u16 length || entry` to a bundle; MLC_E_LIMIT above MLC_ENTRY_MAX. */
int mlc_bundle_add(struct mlc_str *bundle, const void *entry, size_t len,
                   struct mlc_err *err) MLC_CHECK;

struct mlc_bundle {
        size_t n; /* at most 256 */
        struct {
                const unsigned char *data; /* borrowed */
                size_t len;
        } entry[MLC_TILE_WIDTH];
};

/* MLC_E_INVALID when bytes are missing or left over, or with more than 256 entries. */
int mlc_bundle_parse(const void *data, size_t len, struct mlc_bundle *ret,
                     struct mlc_err *err) MLC_CHECK;

/*
 * Folds leaf hashes into tiles: emit() gets each tile when it is full, and on flush the partial
 * tiles that changed since the last flush. The writer stores what it gets and the verifier
 * compares it, so that both run this code. 64 KiB: keep it on the heap or in a longer-lived struct.
 */
struct mlc_tiler {
        uint64_t size;
        uint64_t flushed; /* size at the last flush */
        struct mlc_digest edge[MLC_TILE_LEVELS][MLC_TILE_WIDTH];
        int (*emit)(void *userdata, const struct mlc_tile *t, const struct mlc_digest *hashes,
                    struct mlc_err *err);
        void *userdata;
};

/* Start with a zeroed struct and emit set. An error of emit is passed on; the tiler is then spent.
 */
int mlc_tiler_append(struct mlc_tiler *t, const struct mlc_digest *leaf,
                     struct mlc_err *err) MLC_CHECK;
int mlc_tiler_flush(struct mlc_tiler *t, struct mlc_err *err) MLC_CHECK;
void mlc_tiler_root(const struct mlc_tiler *t, struct mlc_digest *ret);
