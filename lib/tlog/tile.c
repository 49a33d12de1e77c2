/* SPDX-License-Identifier: Apache-2.0 */
#include "tlog/tile.h"

#include <assert.h>

static void index_path(uint64_t index, char ret[32])
{
        char rest[32];

        if (index < 1000) {
                (void)snprintf(ret, 32, "%03u", (unsigned)index);
                return;
        }
        (void)snprintf(rest, sizeof(rest), "%03u", (unsigned)(index % 1000));
        for (uint64_t n = index / 1000; n > 0; n /= 1000) {
                (void)snprintf(ret, 32, "x%03u/%s", (unsigned)(n % 1000), rest);
                memcpy(rest, ret, sizeof(rest));
        }
}

void mlc_tile_path(const struct mlc_tile *t, char ret[MLC_TILE_PATH_MAX])
{
        char level[16] = "entries", index[32], part[16] = "";

        assert(t->width >= 1 && t->width <= MLC_TILE_WIDTH);
        assert(t->index < 1ULL << 56);
        index_path(t->index, index);
        if (t->level >= 0)
                (void)snprintf(level, sizeof(level), "%d", t->level);
        if (t->width < MLC_TILE_WIDTH)
                (void)snprintf(part, sizeof(part), ".p/%u", t->width);
        (void)snprintf(ret, MLC_TILE_PATH_MAX, "tile/%s/%s%s", level, index, part);
}

/* Up to three digits at *s; -1 when there is none. */
static int digits(const char **s, int *ret_n)
{
        int v = 0, n = 0;

        for (; n < 3 && **s >= '0' && **s <= '9'; n++, (*s)++)
                v = v * 10 + (**s - '0');
        *ret_n = n;
        return n == 0 ? -1 : v;
}

static bool parse_index(const char **s, uint64_t *ret)
{
        uint64_t index = 0;
        bool more = true;
        int v, n;

        for (int group = 0; more; group++) {
                if (group > 5)
                        return false;
                more = **s == 'x';
                if (more)
                        (*s)++;
                v = digits(s, &n);
                if (v < 0 || n != 3 || (more && *(*s)++ != '/'))
                        return false;
                index = index * 1000 + (uint64_t)v;
        }
        *ret = index;
        return index < 1ULL << 56;
}

int mlc_tile_parse(const char *path, struct mlc_tile *ret, struct mlc_err *err)
{
        struct mlc_tile t = {.level = MLC_TILE_ENTRIES, .width = MLC_TILE_WIDTH};
        char again[MLC_TILE_PATH_MAX];
        const char *s = path;
        int n;

        if (!mlc_starts_with(s, "tile/"))
                return mlc_fail(err, MLC_E_INVALID, "not the path of a tile");
        s += 5;
        if (mlc_starts_with(s, "entries/"))
                s += 7;
        else
                t.level = digits(&s, &n);
        if ((t.level < 0 && t.level != MLC_TILE_ENTRIES) || t.level > 63 || *s != '/')
                return mlc_fail(err, MLC_E_INVALID, "not the level of a tile");
        s++;
        if (!parse_index(&s, &t.index))
                return mlc_fail(err, MLC_E_INVALID, "not the index of a tile");
        if (mlc_starts_with(s, ".p/")) {
                s += 3;
                t.width = (unsigned)digits(&s, &n);
        }
        if (t.width < 1 || t.width > MLC_TILE_WIDTH || *s != '\0')
                return mlc_fail(err, MLC_E_INVALID, "not the width of a tile");
        /* one path for each tile: leading zeros, "x000/" and ".p/256" do not survive the round trip
         */
        mlc_tile_path(&t, again);
        if (!mlc_streq(again, path))
                return mlc_fail(err, MLC_E_INVALID, "not the canonical path of a tile");
        *ret = t;
        return 0;
}

unsigned mlc_tile_width(int level, uint64_t index, uint64_t size)
{
        unsigned shift = level < 0 ? 0 : 8 * (unsigned)level;
        uint64_t n = shift > 63 ? 0 : size >> shift, start;

        if (index >= 1ULL << 56)
                return 0;
        start = index * MLC_TILE_WIDTH;
        if (n <= start)
                return 0;
        return n - start < MLC_TILE_WIDTH ? (unsigned)(n - start) : MLC_TILE_WIDTH;
}

int mlc_bundle_add(struct mlc_str *bundle, const void *entry, size_t len, struct mlc_err *err)
{
        unsigned char head[2];

        if (len > MLC_ENTRY_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "an entry of %zu bytes is above the limit of %u",
                                len, MLC_ENTRY_MAX);
        head[0] = (unsigned char)(len >> 8);
        head[1] = (unsigned char)(len & 0xff);
        mlc_str_addn(bundle, head, sizeof(head));
        mlc_str_addn(bundle, entry, len);
        return mlc_str_check(bundle, err);
}

int mlc_bundle_parse(const void *data, size_t len, struct mlc_bundle *ret, struct mlc_err *err)
{
        const unsigned char *p = data;
        size_t left = len, n = 0, size;

        while (left > 0) {
                if (n == MLC_TILE_WIDTH)
                        return mlc_fail(err, MLC_E_INVALID, "a bundle has more than 256 entries");
                size = left < 2 ? SIZE_MAX : (size_t)p[0] << 8 | p[1];
                if (left < 2 || size > left - 2)
                        return mlc_fail(err, MLC_E_INVALID, "entry %zu of the bundle is cut off",
                                        n);
                ret->entry[n].data = p + 2;
                ret->entry[n].len = size;
                p += size + 2;
                left -= size + 2;
                n++;
        }
        ret->n = n;
        return 0;
}

/* Root over n nodes of one height, of which the last may stand for a smaller subtree. Overwrites.
 */
static void fold(struct mlc_digest *h, size_t n, struct mlc_digest *ret)
{
        assert(n >= 1 && n <= MLC_TILE_WIDTH + 1);
        while (n > 1) {
                for (size_t i = 0; i + 1 < n; i += 2)
                        mlc_merkle_node(&h[i], &h[i + 1], &h[i / 2]);
                if (n % 2 == 1)
                        h[n / 2] = h[n - 1];
                n = (n + 1) / 2;
        }
        *ret = h[0];
}

int mlc_tiler_append(struct mlc_tiler *t, const struct mlc_digest *leaf, struct mlc_err *err)
{
        struct mlc_digest carry = *leaf;
        uint64_t n = t->size;
        int r;

        assert(t->size < (1ULL << 62));
        t->size++;
        for (int level = 0; level < (int)MLC_TILE_LEVELS; level++, n >>= 8) {
                struct mlc_tile tile = {level, n >> 8, MLC_TILE_WIDTH};

                t->edge[level][n & 255] = carry;
                if ((n & 255) != 255)
                        return 0;
                r = t->emit(t->userdata, &tile, t->edge[level], err);
                if (r < 0)
                        return r;
                fold(t->edge[level], MLC_TILE_WIDTH, &carry);
        }
        return 0;
}

int mlc_tiler_flush(struct mlc_tiler *t, struct mlc_err *err)
{
        int r;

        for (int level = 0; level < (int)MLC_TILE_LEVELS; level++) {
                uint64_t n = t->size >> (8 * level);
                struct mlc_tile tile = {level, n >> 8, (unsigned)(n & 255)};

                if (tile.width == 0 || t->flushed >> (8 * level) == n)
                        continue;
                r = t->emit(t->userdata, &tile, t->edge[level], err);
                if (r < 0)
                        return r;
        }
        t->flushed = t->size;
        return 0;
}

void mlc_tiler_root(const struct mlc_tiler *t, struct mlc_digest *ret)
{
        struct mlc_digest h[MLC_TILE_WIDTH + 1], acc;
        bool some = false;

        for (int level = 0; level < (int)MLC_TILE_LEVELS; level++) {
                size_t n = (size_t)((t->size >> (8 * level)) & 255);

                memcpy(h, t->edge[level], n * sizeof(h[0]));
                if (some)
                        h[n++] = acc;
                if (n == 0)
                        continue;
                fold(h, n, &acc);
                some = true;
        }
        if (some)
                *ret = acc;
        else
                mlc_merkle_empty_root(ret);
}
