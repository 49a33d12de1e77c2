/* SPDX-License-Identifier: Apache-2.0 */
/* Entry bundles and the paths of tiles: what is accepted comes back the same. */
#include <assert.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "tlog/tile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void bundle(const uint8_t *data, size_t size)
{
        _cleanup_(free_p) struct mlc_bundle *b = malloc(sizeof(*b));
        _cleanup_(mlc_str_done) struct mlc_str again;
        struct mlc_err err = {0};

        assert(b != NULL);
        mlc_str_init(&again, MLC_BUNDLE_MAX);
        if (mlc_bundle_parse(data, size, b, &err) < 0)
                return;
        for (size_t i = 0; i < b->n; i++) {
                int r = mlc_bundle_add(&again, b->entry[i].data, b->entry[i].len, &err);

                assert(r == 0);
        }
        assert(again.len == size && (size == 0 || memcmp(again.data, data, size) == 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(free_p) char *path = strndup(size > 0 ? (const char *)data : "", size);
        char back[MLC_TILE_PATH_MAX];
        struct mlc_err err = {0};
        struct mlc_tile t;

        assert(path != NULL);
        bundle(data, size);
        if (mlc_tile_parse(path, &t, &err) < 0)
                return 0;
        mlc_tile_path(&t, back);
        assert(strcmp(back, path) == 0);
        assert(mlc_tile_width(t.level, t.index, INT64_MAX) <= MLC_TILE_WIDTH);
        return 0;
}
