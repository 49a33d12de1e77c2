/* SPDX-License-Identifier: Apache-2.0 */
#include "tlog/source.h"

#include <assert.h>

#include "base/cleanup.h"
#include "base/io.h"

static int dir_read(void *userdata, const char *path, size_t max, struct mlc_tlog_file *ret,
                    struct mlc_err *err)
{
        char full[4096];
        int n = snprintf(full, sizeof(full), "%s/%s", (const char *)userdata, path);

        if (n < 0 || (size_t)n >= sizeof(full))
                return mlc_fail(err, MLC_E_LIMIT, "the path of the log is too long");
        return mlc_read_file(full, max, &ret->data, &ret->len, err);
}

struct mlc_tlog_source mlc_tlog_source_dir(const char *dir)
{
        union {
                const char *in;
                void *out;
        } u = {.in = dir};

        return (struct mlc_tlog_source){.read = dir_read, .userdata = u.out};
}

int mlc_tlog_open_checkpoint(const char *note, size_t len, const struct mlc_vkeys *keys,
                             struct mlc_checkpoint *ret, struct mlc_err *err)
{
        struct mlc_checkpoint c;
        struct mlc_note n;
        int r;

        r = mlc_note_open(note, len, keys, &n, err);
        if (r < 0)
                return r;
        r = mlc_checkpoint_parse(n.text, n.text_len, &c, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < keys->n; i++) {
                if ((n.verified >> i & 1) != 0 && mlc_streq(keys->keys[i].name, c.origin)) {
                        *ret = c;
                        return 0;
                }
        }
        return mlc_fail(err, MLC_E_VERIFY, "the checkpoint is of another log, '%s'", c.origin);
}

static int read_path(const struct mlc_tlog_source *src, const struct mlc_tile *t,
                     struct mlc_tlog_file *ret, struct mlc_err *err)
{
        char path[MLC_TILE_PATH_MAX];

        mlc_tile_path(t, path);
        return src->read(src->userdata, path,
                         t->level == MLC_TILE_ENTRIES ? MLC_BUNDLE_MAX : MLC_TILE_BYTES, ret, err);
}

struct raw {
        struct mlc_tlog_file file;
        unsigned width; /* that the file must have */
};

static void raw_done(struct raw *raw)
{
        free(TAKE_PTR(raw->file.data));
}

/* A partial tile may be deleted once the full one is there: only "not found" leads to that. */
static int read_either(const struct mlc_tlog_source *src, const struct mlc_tile *t, struct raw *ret,
                       struct mlc_err *err)
{
        struct mlc_tile full = {t->level, t->index, MLC_TILE_WIDTH};
        struct mlc_err none = {0};
        int r;

        ret->width = t->width;
        r = read_path(src, t, &ret->file, err);
        if (r != MLC_E_NOT_FOUND || t->width == MLC_TILE_WIDTH)
                return r;
        if (read_path(src, &full, &ret->file, &none) < 0)
                return r;
        ret->width = MLC_TILE_WIDTH;
        mlc_err_clear(err);
        return 0;
}

int mlc_tlog_read_tile(const struct mlc_tlog_source *src, const struct mlc_tile *t,
                       struct mlc_digest *ret, struct mlc_err *err)
{
        _cleanup_(raw_done) struct raw raw = {0};
        char path[MLC_TILE_PATH_MAX];
        int r;

        assert(t->level >= 0);
        r = read_either(src, t, &raw, err);
        if (r < 0)
                return r;
        if (raw.file.len != raw.width * 32u) {
                mlc_tile_path(t, path);
                return mlc_fail(err, MLC_E_VERIFY, "tile '%s' has %zu bytes, expected %u", path,
                                raw.file.len, raw.width * 32u);
        }
        memcpy(ret, raw.file.data, t->width * 32u);
        return 0;
}

int mlc_tlog_read_entries(const struct mlc_tlog_source *src, const struct mlc_tile *t,
                          struct mlc_tlog_entries *ret, struct mlc_err *err)
{
        _cleanup_(raw_done) struct raw raw = {0};
        char path[MLC_TILE_PATH_MAX];
        int r;

        assert(t->level == MLC_TILE_ENTRIES);
        mlc_tile_path(t, path);
        r = read_either(src, t, &raw, err);
        if (r < 0)
                return r;
        if (mlc_bundle_parse(raw.file.data, raw.file.len, &ret->bundle, err) < 0) {
                (void)mlc_wrap(err, "bundle '%s'", path);
                err->code = MLC_E_VERIFY;
                return MLC_E_VERIFY;
        }
        if (ret->bundle.n != raw.width)
                return mlc_fail(err, MLC_E_VERIFY, "bundle '%s' has %zu entries, expected %u", path,
                                ret->bundle.n, raw.width);
        ret->bundle.n = t->width;
        ret->data = TAKE_PTR(raw.file.data);
        return 0;
}

void mlc_tlog_entries_done(struct mlc_tlog_entries *e)
{
        free(TAKE_PTR(e->data));
}

int mlc_tlog_load_tiler(const struct mlc_tlog_source *src, uint64_t tree_size, uint64_t size,
                        struct mlc_tiler *t, struct mlc_err *err)
{
        int r;

        assert(t->size == 0 && t->emit != NULL && size <= tree_size);
        for (int level = 0; level < (int)MLC_TILE_LEVELS; level++) {
                uint64_t n = size >> (8 * level);
                struct mlc_tile tile = {level, n >> 8, mlc_tile_width(level, n >> 8, tree_size)};

                if ((n & 255) == 0)
                        continue;
                r = mlc_tlog_read_tile(src, &tile, t->edge[level], err);
                if (r < 0)
                        return r;
        }
        t->size = size;
        t->flushed = size;
        return 0;
}

static void fold_pow2(const struct mlc_digest *h, size_t n, struct mlc_digest *ret)
{
        struct mlc_digest left, right;

        if (n == 1) {
                *ret = h[0];
                return;
        }
        fold_pow2(h, n / 2, &left);
        fold_pow2(h + n / 2, n / 2, &right);
        mlc_merkle_node(&left, &right, ret);
}

static int hashes_get(void *userdata, unsigned level, uint64_t index, struct mlc_digest *ret,
                      struct mlc_err *err)
{
        struct mlc_tlog_hashes *h = userdata;
        unsigned tl = level / 8, up = level % 8;
        struct mlc_tile t = {.level = (int)tl};
        uint64_t first = index << up;
        int r;

        assert(tl < MLC_TILE_LEVELS);
        t.index = first / MLC_TILE_WIDTH;
        t.width = mlc_tile_width(t.level, t.index, h->size);
        assert((first & 255) + (1u << up) <= t.width);
        if (h->have[tl].width != t.width || h->have[tl].index != t.index) {
                h->have[tl].width = 0;
                r = mlc_tlog_read_tile(&h->src, &t, h->cached[tl], err);
                if (r < 0)
                        return r;
                h->have[tl] = t;
        }
        fold_pow2(&h->cached[tl][first & 255], (size_t)1 << up, ret);
        return 0;
}

struct mlc_merkle_source mlc_tlog_merkle_source(struct mlc_tlog_hashes *h)
{
        return (struct mlc_merkle_source){.get = hashes_get, .userdata = h};
}
