/* SPDX-License-Identifier: Apache-2.0 */
/* The leader: sequences, signs, writes tiles, publishes. In that order; see README.md. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/clock.h"

#define CHUNK_ARENA ((size_t)AUDIT_ROWS_MAX * (MLC_ENTRY_MAX + 512) + 65536)
#define CHUNK_MS 30000

/* A tile, and with those of level 0 the bundle of the same entries. */
static int write_tile(void *userdata, const struct mlc_tile *t, const struct mlc_digest *hashes,
                      struct mlc_err *err)
{
        struct audit_leader *l = userdata;
        struct mlc_tile entries = {MLC_TILE_ENTRIES, t->index, t->width};
        char path[MLC_TILE_PATH_MAX];
        struct audit_file f = {.path = path, .data = hashes, .len = t->width * sizeof(*hashes)};
        int r;

        if (t->level == 0) {
                struct audit_file bundle = {path, l->bundle.data, l->bundle.len};

                mlc_tile_path(&entries, path);
                r = audit_file_create(l->a->dir, &bundle, err);
                if (r < 0)
                        return r;
                if (t->width == MLC_TILE_WIDTH)
                        mlc_str_reset(&l->bundle);
        }
        mlc_tile_path(t, path);
        return audit_file_create(l->a->dir, &f, err);
}

struct audit_leader *audit_leader_new(struct audit *a)
{
        struct audit_leader *l = calloc(1, sizeof(*l));

        if (l == NULL)
                abort();
        l->a = a;
        mlc_str_init(&l->bundle, MLC_BUNDLE_MAX);
        l->tiler.emit = write_tile;
        l->tiler.userdata = l;
        return l;
}

void audit_leader_free(struct audit_leader **l)
{
        if (*l == NULL)
                return;
        mlc_str_done(&(*l)->bundle);
        audit_state_done(&(*l)->state);
        free(TAKE_PTR(*l));
}

/* Calls fn for the rows of the range, in order. */
struct row_walk {
        struct audit *a;
        struct audit_range range; /* from moves on */
        int (*fn)(void *userdata, const struct mlc_tlog_row *row, struct mlc_err *err);
        void *userdata;
};

static int walk_chunk(struct mlc_ctx *ctx, struct row_walk *w)
{
        struct audit_rows rows;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct mlc_digest hash;
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = audit_db_leaves(ctx, &tx, &w->range, &rows);
        if (r < 0)
                return r;
        db_tx_done(&tx);
        for (size_t i = 0; i < rows.n; i++, w->range.from++) {
                mlc_merkle_leaf(rows.row[i].leaf, rows.row[i].len, &hash);
                if (!mlc_digest_equal(&hash, &rows.row[i].hash))
                        return ctx_fail(ctx, MLC_E_VERIFY,
                                        "the row of entry %llu does not have its hash",
                                        (unsigned long long)w->range.from);
                r = w->fn(w->userdata, &rows.row[i], &ctx->err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int walk_rows(struct row_walk *w, struct mlc_err *err)
{
        int r = 0;

        while (w->range.from < w->range.to && r == 0) {
                _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;

                mlc_ctx_init(&ctx, w->a->app, "audit.rows", CHUNK_ARENA, CHUNK_MS);
                r = walk_chunk(&ctx, w);
                if (r < 0)
                        *err = ctx.err;
        }
        return r;
}

static int integrate_row(void *userdata, const struct mlc_tlog_row *row, struct mlc_err *err)
{
        struct audit_leader *l = userdata;
        int r;

        r = mlc_bundle_add(&l->bundle, row->leaf, row->len, err);
        if (r < 0)
                return r;
        return mlc_tiler_append(&l->tiler, &row->hash, err);
}

/* Partial tiles that a full one replaced. Best effort: what stays is a prefix, and harmless. */
static void remove_partials(const char *dir, const struct mlc_tile *full)
{
        char path[AUDIT_PATH_MAX + MLC_TILE_PATH_MAX + 4], tile[MLC_TILE_PATH_MAX];
        struct dirent *e;
        DIR *d;

        mlc_tile_path(full, tile);
        (void)snprintf(path, sizeof(path), "%s/%s.p", dir, tile);
        d = opendir(path);
        if (d == NULL)
                return;
        while ((e = readdir(d)) != NULL)
                if (e->d_name[0] != '.')
                        (void)unlinkat(dirfd(d), e->d_name, 0);
        (void)closedir(d);
        (void)rmdir(path);
}

static void remove_replaced(const struct audit_leader *l, uint64_t from)
{
        for (int level = 0; level < (int)MLC_TILE_LEVELS; level++) {
                struct mlc_tile t = {level, from >> (8 * level) >> 8, MLC_TILE_WIDTH};

                if (mlc_tile_width(level, t.index, l->tiler.size) != MLC_TILE_WIDTH)
                        continue;
                remove_partials(l->a->dir, &t);
                t.level = MLC_TILE_ENTRIES;
                if (level == 0)
                        remove_partials(l->a->dir, &t);
        }
}

/* Brings the files from what they hold to the signing state: tiles, then the checkpoint. */
static int finish(struct audit_leader *l, struct mlc_err *err)
{
        struct row_walk w = {.a = l->a,
                             .range = {l->state.log_id, l->tiler.size, l->state.cp.size},
                             .fn = integrate_row,
                             .userdata = l};
        struct audit_file cp = {"checkpoint", l->state.note, strlen(l->state.note)};
        uint64_t before = l->tiler.size;
        struct mlc_digest root;
        int r;

        r = walk_rows(&w, err);
        if (r < 0)
                return r;
        r = mlc_tiler_flush(&l->tiler, err);
        if (r < 0)
                return r;
        mlc_tiler_root(&l->tiler, &root);
        if (!mlc_digest_equal(&root, &l->state.cp.root))
                return mlc_fail(err, MLC_E_VERIFY, "the rows do not give the root that was signed");
        r = audit_file_replace(l->a->dir, &cp, err);
        if (r < 0)
                return r;
        remove_replaced(l, before);
        l->published_ms = mlc_monotonic_ms();
        return 0;
}

/* A failure of finish after which going on would be wrong. */
static int halt_if_wrong(struct audit_leader *l, int r, struct mlc_err *err)
{
        if (r == MLC_E_VERIFY || r == MLC_E_NOT_FOUND) {
                audit_halt(l->a, "%s", err->msg);
                mlc_err_clear(err);
                return mlc_fail(err, MLC_E_READ_ONLY, "%s", l->a->reason);
        }
        return r;
}

static int insert_checkpoint(struct mlc_ctx *ctx, struct audit_leader *l)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = audit_db_checkpoint_insert(ctx, &tx, l->state.log_id, &l->state);
        if (r < 0)
                return r;
        return db_tx_commit(&tx);
}

/* Under the lock: the state on disk is still the one that this leader wrote. */
static int check_fence(struct audit_leader *l, struct mlc_err *err)
{
        _cleanup_(audit_state_done) struct audit_state s = {0};
        int r;

        r = audit_state_read(l->a->dir, &s, err);
        if (r < 0)
                return halt_if_wrong(l, r, err);
        if (s.epoch > l->epoch)
                return mlc_fail(err, MLC_E_PRECONDITION, "another server leads now");
        if (s.epoch == l->epoch && s.log_id == l->state.log_id && s.cp.size == l->state.cp.size &&
            mlc_digest_equal(&s.cp.root, &l->state.cp.root))
                return 0;
        audit_halt(l->a, "the signing state was replaced while this server led");
        return mlc_fail(err, MLC_E_READ_ONLY, "%s", l->a->reason);
}

static int sign_state(struct audit_leader *l, struct mlc_err *err)
{
        struct audit_state next = {
                .log_id = l->head.log_id, .epoch = l->epoch, .previous = l->state.cp.size};
        int r;

        next.cp.size = l->head.frontier.size;
        next.cp.root = l->head.root;
        (void)snprintf(next.cp.origin, sizeof(next.cp.origin), "%s", l->a->origin);
        r = audit_keys_sign(&l->a->keys, &next.cp, &next.note, err);
        if (r < 0)
                return r;
        r = audit_state_write(l->a->dir, &next, err);
        if (r < 0) {
                audit_state_done(&next);
                return r;
        }
        audit_state_done(&l->state);
        l->state = next;
        return 0;
}

int audit_leader_publish(struct mlc_ctx *ctx, struct audit_leader *l)
{
        _cleanup_(close_fd) int lock = -1;
        int r;

        assert(l->tiler.size == l->state.cp.size);
        if (l->head.frontier.size == l->state.cp.size)
                return 0;
        r = audit_files_lock(l->a->dir, &lock, &ctx->err);
        if (r < 0)
                return r;
        r = check_fence(l, &ctx->err);
        if (r < 0)
                return r;
        r = sign_state(l, &ctx->err);
        if (r < 0)
                return r;
        r = finish(l, &ctx->err);
        if (r < 0)
                return halt_if_wrong(l, r, &ctx->err);
        return insert_checkpoint(ctx, l);
}

/* Looks without locking or writing anything: an idle log costs one small read. */
static int outbox_any(struct mlc_ctx *ctx, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        return audit_db_outbox_any(ctx, &tx, ret);
}

int audit_leader_sequence(struct mlc_ctx *ctx, struct audit_leader *l, int64_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct audit_head head;
        bool any;
        int64_t n;
        int r;

        r = outbox_any(ctx, &any);
        if (r < 0)
                return r;
        if (!any) {
                *ret_n = 0;
                return 0;
        }
        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = audit_db_head(ctx, &tx, true, &head);
        if (r < 0)
                return r;
        if (head.epoch != l->epoch || head.log_id != l->head.log_id ||
            head.frontier.size != l->head.frontier.size)
                return ctx_fail(ctx, MLC_E_PRECONDITION,
                                "the head of the log was moved by another");
        r = audit_db_sequence(ctx, &tx, &head, &n);
        if (r < 0)
                return r;
        r = db_tx_commit(&tx);
        if (r < 0)
                return r;
        l->head = head;
        *ret_n = n;
        return 0;
}

/* Loads what the files hold at the published size. */
static int load_files(struct audit_leader *l, const struct mlc_checkpoint *cp, struct mlc_err *err)
{
        struct mlc_tlog_source src = mlc_tlog_source_dir(l->a->dir);
        _cleanup_(mlc_tlog_entries_done) struct mlc_tlog_entries e = {0};
        struct mlc_tile t = {MLC_TILE_ENTRIES, cp->size >> 8, (unsigned)(cp->size & 255)};
        struct mlc_digest root;
        int r;

        r = mlc_tlog_load_tiler(&src, cp->size, cp->size, &l->tiler, err);
        if (r < 0)
                return r;
        mlc_tiler_root(&l->tiler, &root);
        if (!mlc_digest_equal(&root, &cp->root))
                return mlc_fail(err, MLC_E_VERIFY,
                                "the tiles of the log do not give the root of its checkpoint");
        if (t.width == 0)
                return 0;
        r = mlc_tlog_read_entries(&src, &t, &e, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < e.bundle.n; i++) {
                r = mlc_bundle_add(&l->bundle, e.bundle.entry[i].data, e.bundle.entry[i].len, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int emit_nothing(void *userdata, const struct mlc_tile *t, const struct mlc_digest *hashes,
                        struct mlc_err *err)
{
        (void)userdata;
        (void)t;
        (void)hashes;
        (void)err;
        return 0;
}

static int probe_row(void *userdata, const struct mlc_tlog_row *row, struct mlc_err *err)
{
        return mlc_tiler_append(userdata, &row->hash, err);
}

static int probe_to(struct audit_leader *l, struct mlc_tiler *probe, uint64_t size,
                    const struct mlc_digest *want)
{
        struct row_walk w = {.a = l->a,
                             .range = {l->state.log_id, probe->size, size},
                             .fn = probe_row,
                             .userdata = probe};
        struct mlc_digest root;
        struct mlc_err err = {0};
        int r;

        r = walk_rows(&w, &err);
        if (r < 0)
                return halt_if_wrong(l, r, &err);
        mlc_tiler_root(probe, &root);
        if (mlc_digest_equal(&root, want))
                return 0;
        audit_halt(l->a, "the database holds another history than the log that was signed");
        return MLC_E_READ_ONLY;
}

/* Before anything is written: the rows since the checkpoint lead to the signing state and to the
 * head. */
static int probe_rows(struct audit_leader *l, struct mlc_err *err)
{
        _cleanup_(free_p) struct mlc_tiler *probe = malloc(sizeof(*probe));
        int r;

        if (probe == NULL)
                abort();
        *probe = l->tiler;
        probe->emit = emit_nothing;
        probe->userdata = NULL;
        r = probe_to(l, probe, l->state.cp.size, &l->state.cp.root);
        if (r == 0)
                r = probe_to(l, probe, l->head.frontier.size, &l->head.root);
        if (r == MLC_E_READ_ONLY)
                return mlc_fail(err, r, "%s", l->a->reason);
        return r < 0 ? mlc_fail(err, r, "cannot compare the database with the log") : 0;
}

/* Reads the head and takes a new epoch, in one transaction. */
static int take_epoch(struct mlc_ctx *ctx, struct audit_leader *l)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = audit_db_head(ctx, &tx, true, &l->head);
        if (r < 0)
                return r;
        r = audit_compare(l->a, &l->head, &l->state, &ctx->err);
        if (r < 0)
                return r;
        r = audit_db_anchor_last(ctx, &tx, &l->anchor);
        if (r < 0)
                return r;
        l->epoch = (l->head.epoch > l->state.epoch ? l->head.epoch : l->state.epoch) + 1;
        l->head.epoch = l->epoch;
        r = audit_db_head_update(ctx, &tx, &l->head);
        if (r < 0)
                return r;
        return db_tx_commit(&tx);
}

int audit_leader_recover(struct mlc_ctx *ctx, struct audit_leader *l)
{
        _cleanup_(close_fd) int lock = -1;
        struct mlc_checkpoint cp;
        int r;

        r = audit_files_lock(l->a->dir, &lock, &ctx->err);
        if (r < 0)
                return r;
        r = audit_state_read(l->a->dir, &l->state, &ctx->err);
        if (r < 0)
                return halt_if_wrong(l, r, &ctx->err);
        r = take_epoch(ctx, l);
        if (r < 0)
                return r;
        r = audit_published(l->a, &cp, &ctx->err);
        if (r < 0)
                return halt_if_wrong(l, r, &ctx->err);
        r = load_files(l, &cp, &ctx->err);
        if (r < 0) {
                (void)mlc_wrap(&ctx->err, "log is older than its signing state");
                return halt_if_wrong(l, r, &ctx->err);
        }
        r = probe_rows(l, &ctx->err);
        if (r < 0)
                return r;
        if (l->anchor.oid[0] != '\0')
                l->anchored_ms = mlc_monotonic_ms(); /* as late as it can have been */
        l->state.epoch = l->epoch;
        r = audit_state_write(l->a->dir, &l->state, &ctx->err);
        if (r < 0 || l->state.cp.size == cp.size)
                return r;
        r = finish(l, &ctx->err);
        if (r < 0)
                return halt_if_wrong(l, r, &ctx->err);
        return insert_checkpoint(ctx, l);
}
