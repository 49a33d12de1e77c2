/* SPDX-License-Identifier: Apache-2.0 */
#include "tlog/verify.h"

#include <assert.h>
#include <stdarg.h>

#include "base/cleanup.h"

/* One pass over the log. On the heap: the tiler alone is 64 KiB. */
struct pass {
        const struct mlc_tlog_verify *v;
        struct mlc_tlog_finding *finding;
        struct mlc_checkpoint cp;
        struct mlc_tiler tiler;
        struct mlc_merkle_frontier frontier; /* roots at the marks */
        struct mlc_digest leaves[MLC_TILE_WIDTH]; /* the level 0 tile on disk */
        struct mlc_digest tile[MLC_TILE_WIDTH];
        struct mlc_tlog_entries entries;
        size_t next_mark;
        uint64_t sound; /* leaves before this are under a mark that fits */
};

int mlc_tlog_found(struct mlc_tlog_finding *finding, uint64_t index, struct mlc_err *err,
                   const char *fmt, ...)
{
        va_list ap;

        va_start(ap, fmt);
        finding->index = index;
        (void)vsnprintf(finding->what, sizeof(finding->what), fmt, ap);
        va_end(ap);
        mlc_err_clear(err);
        return mlc_fail(err, MLC_E_VERIFY, "%s", finding->what);
}

/* Turns "no such file" and "wrong content" of a source into a finding; passes other errors on. */
static int found_err(struct pass *p, uint64_t index, int code, struct mlc_err *err)
{
        char what[sizeof(p->finding->what)];

        if (code != MLC_E_NOT_FOUND && code != MLC_E_VERIFY && code != MLC_E_INVALID &&
            code != MLC_E_LIMIT)
                return code;
        (void)snprintf(what, sizeof(what), "%s", err->msg);
        return mlc_tlog_found(p->finding, index, err, "%s", what);
}

/* Gets every tile that the entries give, full or partial. */
static int compare_tile(void *userdata, const struct mlc_tile *t, const struct mlc_digest *hashes,
                        struct mlc_err *err)
{
        struct pass *p = userdata;
        uint64_t span = 1ULL << (8 * (unsigned)t->level), first;
        char path[MLC_TILE_PATH_MAX];
        int r;

        if (t->level == 0)
                return 0; /* compared leaf by leaf already */
        first = t->index * MLC_TILE_WIDTH * span;
        r = mlc_tlog_read_tile(&p->v->src, t, p->tile, err);
        if (r < 0)
                return found_err(p, first, r, err);
        for (unsigned i = 0; i < t->width; i++) {
                if (mlc_digest_equal(&p->tile[i], &hashes[i]))
                        continue;
                mlc_tile_path(t, path);
                return mlc_tlog_found(p->finding, first + i * span, err,
                                      "hash %u of tile '%s' is not that of the entries below it", i,
                                      path);
        }
        return 0;
}

static int check_row(struct pass *p, uint64_t index, size_t slot, struct mlc_err *err)
{
        struct mlc_tlog_row row;
        int r;

        if (p->v->row == NULL || index >= p->v->rows_to)
                return 0;
        r = p->v->row(p->v->userdata, index, &row, err);
        if (r == MLC_E_NOT_FOUND)
                return mlc_tlog_found(p->finding, index, err,
                                      "entry %llu has no row in the database",
                                      (unsigned long long)index);
        if (r < 0)
                return r;
        if (row.len == p->entries.bundle.entry[slot].len &&
            memcmp(row.leaf, p->entries.bundle.entry[slot].data, row.len) == 0 &&
            mlc_digest_equal(&row.hash, &p->leaves[slot]))
                return 0;
        return mlc_tlog_found(p->finding, index, err,
                              "the row of entry %llu in the database differs from the log",
                              (unsigned long long)index);
}

static int check_marks(struct pass *p, struct mlc_err *err)
{
        const struct mlc_tlog_mark *m;
        struct mlc_digest root;

        for (; p->next_mark < p->v->n_marks; p->next_mark++) {
                m = &p->v->marks[p->next_mark];
                assert(m->size >= p->frontier.size);
                if (m->size != p->frontier.size)
                        return 0;
                mlc_merkle_root(&p->frontier, &root);
                if (!mlc_digest_equal(&root, &m->root))
                        return mlc_tlog_found(p->finding, p->sound, err,
                                              "the log does not contain %s (%llu entries): "
                                              "its root is another",
                                              m->what, (unsigned long long)m->size);
                p->sound = m->size;
        }
        return 0;
}

static int check_entry(struct pass *p, uint64_t index, size_t slot, struct mlc_err *err)
{
        struct mlc_tlog_row entry = {.leaf = p->entries.bundle.entry[slot].data,
                                     .len = p->entries.bundle.entry[slot].len};
        int r;

        mlc_merkle_leaf(entry.leaf, entry.len, &entry.hash);
        if (!mlc_digest_equal(&entry.hash, &p->leaves[slot]))
                return mlc_tlog_found(p->finding, index, err,
                                      "entry %llu does not have the hash that its tile gives",
                                      (unsigned long long)index);
        r = check_row(p, index, slot, err);
        if (r < 0)
                return r;
        mlc_merkle_append(&p->frontier, &entry.hash);
        r = mlc_tiler_append(&p->tiler, &entry.hash, err);
        if (r < 0)
                return r;
        r = check_marks(p, err);
        if (r < 0 || p->v->leaf == NULL)
                return r;
        r = p->v->leaf(p->v->userdata, index, &entry, err);
        return r < 0 ? found_err(p, index, r, err) : 0;
}

static int check_bundle(struct pass *p, uint64_t n, struct mlc_err *err)
{
        struct mlc_tile t = {MLC_TILE_ENTRIES, n, mlc_tile_width(0, n, p->cp.size)};
        uint64_t first = n * MLC_TILE_WIDTH;
        int r;

        mlc_tlog_entries_done(&p->entries);
        r = mlc_tlog_read_entries(&p->v->src, &t, &p->entries, err);
        if (r < 0)
                return found_err(p, first, r, err);
        t.level = 0;
        r = mlc_tlog_read_tile(&p->v->src, &t, p->leaves, err);
        if (r < 0)
                return found_err(p, first, r, err);
        for (unsigned i = 0; i < t.width; i++) {
                r = check_entry(p, first + i, i, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int open_checkpoint(struct pass *p, struct mlc_err *err)
{
        struct mlc_tlog_file note = {0};
        const struct mlc_tlog_mark *last;
        int r;

        r = p->v->src.read(p->v->src.userdata, "checkpoint", MLC_NOTE_MAX, &note, err);
        if (r < 0)
                return r;
        r = mlc_tlog_open_checkpoint(note.data, note.len, &p->v->keys, &p->cp, err);
        free(note.data);
        if (r < 0) {
                (void)mlc_wrap(err, "the checkpoint");
                return found_err(p, 0, r, err);
        }
        last = p->v->n_marks > 0 ? &p->v->marks[p->v->n_marks - 1] : NULL;
        if (last != NULL && last->size > p->cp.size)
                return mlc_tlog_found(p->finding, p->cp.size, err,
                                      "the log has %llu entries, but %s has %llu: it was cut",
                                      (unsigned long long)p->cp.size, last->what,
                                      (unsigned long long)last->size);
        return 0;
}

static int run(struct pass *p, struct mlc_err *err)
{
        struct mlc_digest root;
        int r;

        r = open_checkpoint(p, err);
        if (r < 0)
                return r;
        r = check_marks(p, err);
        if (r < 0)
                return r;
        for (uint64_t n = 0; n * MLC_TILE_WIDTH < p->cp.size; n++) {
                r = check_bundle(p, n, err);
                if (r < 0)
                        return r;
        }
        r = mlc_tiler_flush(&p->tiler, err);
        if (r < 0)
                return r;
        mlc_tiler_root(&p->tiler, &root);
        if (!mlc_digest_equal(&root, &p->cp.root))
                return mlc_tlog_found(p->finding, p->sound, err,
                                      "the entries do not give the root that the checkpoint signs");
        return 0;
}

int mlc_tlog_verify(const struct mlc_tlog_verify *v, struct mlc_checkpoint *ret,
                    struct mlc_tlog_finding *finding, struct mlc_err *err)
{
        _cleanup_(free_p) struct pass *p = calloc(1, sizeof(*p));
        int r;

        if (p == NULL)
                abort();
        p->v = v;
        p->finding = finding;
        p->tiler.emit = compare_tile;
        p->tiler.userdata = p;
        r = run(p, err);
        mlc_tlog_entries_done(&p->entries);
        if (r < 0)
                return r;
        *ret = p->cp;
        return 0;
}
