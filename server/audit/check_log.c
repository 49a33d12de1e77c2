/* SPDX-License-Identifier: Apache-2.0 */
#include "audit/check.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "gen/audit.sql.h"

/* What mlc_tlog_verify asks while it walks one log. */
struct walk {
        struct check *c;
        struct check_log *log;
        struct mlc_tlog_source dir;
};

static int read_file(void *userdata, const char *path, size_t max, struct mlc_tlog_file *ret,
                     struct mlc_err *err)
{
        const struct walk *w = userdata;

        /* the checkpoint as it was when the snapshot was taken; tiles only grow */
        if (!mlc_streq(path, "checkpoint"))
                return w->dir.read(w->dir.userdata, path, max, ret, err);
        ret->data = strdup(w->log->note);
        if (ret->data == NULL)
                abort();
        ret->len = strlen(ret->data);
        return 0;
}

int check_row(struct check *c, const struct check_log *log, uint64_t index,
              struct mlc_tlog_row *ret)
{
        struct audit_range range = {log->log_id, index, log->rows};
        int r;

        if (index >= log->rows)
                return ctx_fail(c->ctx, MLC_E_NOT_FOUND, "no row");
        if (index < c->rows_from || index >= c->rows_from + c->rows.n) {
                /* the window's leaves live in an arena of their own */
                mlc_arena_done(&c->ctx->arena);
                c->rows.n = 0;
                r = audit_db_leaves(c->ctx, &c->tx, &range, &c->rows);
                if (r < 0)
                        return r;
                c->rows_from = index;
        }
        *ret = c->rows.row[index - c->rows_from];
        return 0;
}

static int row(void *userdata, uint64_t index, struct mlc_tlog_row *ret, struct mlc_err *err)
{
        const struct walk *w = userdata;
        int r;

        r = check_row(w->c, w->log, index, ret);
        if (r < 0 && err != &w->c->ctx->err)
                *err = w->c->ctx->err;
        return r;
}

static int leaf(void *userdata, uint64_t index, const struct mlc_tlog_row *entry,
                struct mlc_err *err)
{
        const struct walk *w = userdata;

        /* what a lost database had is not part of the state any more */
        if (index >= w->log->agreed)
                return 0;
        return mlc_replay_leaf(w->c->replay, index, entry->leaf, entry->len, err);
}

struct marks {
        struct mlc_tlog_mark *at;
        size_t n, size;
};

static void add_mark(struct marks *m, uint64_t size, const struct mlc_digest *root,
                     const char *what)
{
        if (m->n == m->size) {
                m->size = m->size == 0 ? 64 : 2 * m->size;
                m->at = realloc(m->at, m->size * sizeof(*m->at));
                if (m->at == NULL)
                        abort();
        }
        m->at[m->n++] = (struct mlc_tlog_mark){.size = size, .root = *root, .what = what};
}

static void marks_done(struct marks *m)
{
        free(TAKE_PTR(m->at));
}

/* Every checkpoint that the database remembers: signed, of this log, and a mark. */
static int load_marks(struct check *c, const struct check_log *log, struct marks *m)
{
        const struct mlc_vkeys keys = {log->vkeys, log->n_vkeys};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct mlc_checkpoint cp;
        const char *note;
        int r;

        r = db_run(&c->tx, SQL_AUDIT_CHECKPOINTS, &rows, DB_INT(log->log_id), DB_INT(log->agreed));
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                uint64_t size = (uint64_t)db_int(&rows, i, 0);
                char root[MLC_DIGEST_STR];

                note = db_text(&rows, i, 2);
                if (mlc_tlog_open_checkpoint(note, strlen(note), &keys, &cp, &c->ctx->err) < 0)
                        return check_found(
                                c, size,
                                "the checkpoint of size %llu in the database is not signed",
                                (unsigned long long)size);
                mlc_digest_format(&cp.root, root);
                if (cp.size != size || !mlc_streq(root + 7, db_text(&rows, i, 1)))
                        return check_found(
                                c, size, "the checkpoint of size %llu in the database was changed",
                                (unsigned long long)size);
                add_mark(m, size, &cp.root, "a checkpoint in the database");
        }
        return 0;
}

static int keep_tile(void *userdata, const struct mlc_tile *t, const struct mlc_digest *hashes,
                     struct mlc_err *err)
{
        struct check *c = userdata;
        size_t len = t->width * sizeof(*hashes);
        struct check_file *f = malloc(sizeof(*f) + len);
        char path[MLC_TILE_PATH_MAX];

        (void)err;
        if (f == NULL)
                abort();
        f->len = len;
        memcpy(f->data, hashes, len);
        mlc_tile_path(t, path);
        free(mlc_map_set(&c->tail, path, f));
        return 0;
}

/* Rows after the checkpoint: their hashes, the signing state, the head; and the replay goes on. */
struct tail {
        struct check *c;
        struct check_log *log;
        struct mlc_tiler *tiler;
};

static int tail_row(struct tail *t, uint64_t index)
{
        struct check *c = t->c;
        struct mlc_tlog_row entry;
        struct mlc_digest hash;
        int r;

        r = check_row(c, t->log, index, &entry);
        if (r == MLC_E_NOT_FOUND)
                return check_found(c, index, "entry %llu has no row in the database",
                                   (unsigned long long)index);
        if (r < 0)
                return r;
        mlc_merkle_leaf(entry.leaf, entry.len, &hash);
        if (!mlc_digest_equal(&hash, &entry.hash))
                return check_found(c, index, "the row of entry %llu does not have its hash",
                                   (unsigned long long)index);
        r = mlc_tiler_append(t->tiler, &hash, &c->ctx->err);
        if (r < 0)
                return r;
        r = mlc_replay_leaf(c->replay, index, entry.leaf, entry.len, &c->ctx->err);
        if (r == MLC_E_VERIFY)
                return check_found(c, index, "%s", c->ctx->err.msg);
        return r;
}

static int tail_to(struct tail *t, uint64_t size, const struct mlc_digest *want, const char *what)
{
        uint64_t from = t->tiler->size;
        struct mlc_digest root;
        int r;

        for (uint64_t i = from; i < size; i++) {
                r = tail_row(t, i);
                if (r < 0)
                        return r;
        }
        mlc_tiler_root(t->tiler, &root);
        if (t->tiler->size == size && !mlc_digest_equal(&root, want))
                return check_found(t->c, from, "the rows of the database do not give %s", what);
        return 0;
}

static int check_tail(struct check *c, struct check_log *log)
{
        _cleanup_(free_p) struct mlc_tiler *tiler = calloc(1, sizeof(*tiler));
        struct mlc_tlog_source src = mlc_tlog_source_dir(log->dir);
        struct tail t = {c, log, tiler};
        int r;

        if (tiler == NULL)
                abort();
        tiler->emit = keep_tile;
        tiler->userdata = c;
        r = mlc_tlog_load_tiler(&src, log->cp.size, log->agreed, tiler, &c->ctx->err);
        if (r < 0)
                return r;
        if (log->log_id == c->a->log_id) {
                if (log->rows < log->state.cp.size)
                        return check_found(c, log->rows, "database is older than the log");
                r = tail_to(&t, log->state.cp.size, &log->state.cp.root,
                            "the root of the signing state");
                if (r == 0)
                        r = mlc_tiler_flush(tiler, &c->ctx->err);
                if (r < 0)
                        return r;
        }
        return tail_to(&t, log->rows, &log->root, "the root of the log's head");
}

int check_one_log(struct check *c, struct check_log *log)
{
        struct walk w = {.c = c, .log = log, .dir = mlc_tlog_source_dir(log->dir)};
        struct mlc_tlog_verify v = {.src = {.read = read_file, .userdata = &w},
                                    .keys = {log->vkeys, log->n_vkeys},
                                    .rows_to = log->agreed,
                                    .row = row,
                                    .leaf = leaf,
                                    .userdata = &w};
        _cleanup_(marks_done) struct marks m = {0};
        struct mlc_checkpoint cp;
        int r;

        if (log->rows < log->cp.size && log->log_id == c->a->log_id)
                return check_found(c, log->rows, "database is older than the log");
        r = load_marks(c, log, &m);
        if (r < 0)
                return r;
        c->rows.n = 0;
        v.marks = m.at;
        v.n_marks = m.n;
        if (log->note != NULL) {
                r = mlc_tlog_verify(&v, &cp, &c->finding, &c->ctx->err);
                if (r < 0)
                        return r;
        }
        return check_tail(c, log);
}
