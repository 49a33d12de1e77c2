/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "gen/audit.sql.h"

/* A bytea column of a known length into ret. */
static int get_fixed(struct mlc_ctx *ctx, const struct db_rows *rows, int row, int col,
                     struct mlc_digest *ret)
{
        const void *p;
        size_t len;
        int r;

        r = db_bytes(ctx, rows, row, col, &p, &len);
        if (r < 0)
                return r;
        if (p == NULL || len != sizeof(ret->b))
                return ctx_fail(ctx, MLC_E_INTERNAL, "a hash in the database has %zu bytes", len);
        memcpy(ret->b, p, sizeof(ret->b));
        return 0;
}

int audit_db_origin(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_origin_row *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *state;
        int r;

        r = db_run0(tx, SQL_AUDIT_ORIGIN_GET, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "the database holds no log yet");
        state = db_text(&rows, 0, 2);
        r = mlc_json_parse(state, strlen(state), &ret->state, &ctx->err);
        if (r < 0)
                return r;
        ret->log_id = db_int(&rows, 0, 0);
        (void)snprintf(ret->origin, sizeof(ret->origin), "%s", db_text(&rows, 0, 1));
        return 0;
}

int audit_db_origin_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                           const struct audit_origin_row *row)
{
        _cleanup_(free_p) char *state = json_dumps(row->state, JSON_COMPACT);

        if (state == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "the state of the log is not UTF-8");
        return db_run(tx, SQL_AUDIT_ORIGIN_INSERT, NULL, DB_INT(row->log_id), DB_TEXT(row->origin),
                      DB_TEXT(state));
}

int audit_db_origin_update(struct mlc_ctx *ctx, struct db_tx *tx,
                           const struct audit_origin_row *row)
{
        _cleanup_(free_p) char *state = json_dumps(row->state, JSON_COMPACT);

        if (state == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "the state of the log is not UTF-8");
        return db_run(tx, SQL_AUDIT_ORIGIN_UPDATE, NULL, DB_INT(row->log_id), DB_TEXT(state));
}

int audit_db_head(struct mlc_ctx *ctx, struct db_tx *tx, bool lock, struct audit_head *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct audit_head h = {0};
        const void *edge;
        size_t len;
        int r;

        r = lock ? db_run0(tx, SQL_AUDIT_HEAD_LOCK, &rows) : db_run0(tx, SQL_AUDIT_HEAD_GET, &rows);
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "the database holds no log yet");
        h.log_id = db_int(&rows, 0, 0);
        h.epoch = db_int(&rows, 0, 4);
        r = get_fixed(ctx, &rows, 0, 2, &h.root);
        if (r < 0)
                return r;
        r = db_bytes(ctx, &rows, 0, 3, &edge, &len);
        if (r < 0)
                return r;
        r = mlc_merkle_frontier_import(edge, len, &h.frontier, &ctx->err);
        if (r < 0)
                return r;
        if (h.frontier.size != (uint64_t)db_int(&rows, 0, 1))
                return ctx_fail(ctx, MLC_E_INTERNAL, "the head of the log contradicts itself");
        *ret = h;
        return 0;
}

static int head_write(struct db_tx *tx, const struct db_stmt *stmt, const struct audit_head *h)
{
        unsigned char edge[MLC_MERKLE_FRONTIER_LEN_MAX];
        size_t len = mlc_merkle_frontier_export(&h->frontier, edge);
        const struct db_param params[] = {DB_INT(h->log_id), DB_INT(h->frontier.size),
                                          DB_BYTES(h->root.b, sizeof(h->root.b)),
                                          DB_BYTES(edge, len), DB_INT(h->epoch)};

        return db_exec(tx, stmt, params, (int)ARRAY_LEN(params), NULL);
}

int audit_db_head_insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct audit_head *h)
{
        (void)ctx;
        return head_write(tx, &SQL_AUDIT_HEAD_INSERT, h);
}

int audit_db_head_update(struct mlc_ctx *ctx, struct db_tx *tx, const struct audit_head *h)
{
        (void)ctx;
        return head_write(tx, &SQL_AUDIT_HEAD_UPDATE, h);
}

int audit_db_outbox_any(struct mlc_ctx *ctx, struct db_tx *tx, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        (void)ctx;
        r = db_run0(tx, SQL_AUDIT_OUTBOX_ANY, &rows);
        if (r < 0)
                return r;
        *ret = db_bool(&rows, 0, 0);
        return 0;
}

int audit_db_sequence(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_head *head,
                      int64_t *ret_n)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct mlc_digest leaf;
        int r;

        r = db_run(tx, SQL_AUDIT_SEQUENCE, &rows, DB_INT(head->log_id),
                   DB_INT(head->frontier.size));
        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                assert(db_int(&rows, i, 0) == (int64_t)head->frontier.size);
                r = get_fixed(ctx, &rows, i, 1, &leaf);
                if (r < 0)
                        return r;
                mlc_merkle_append(&head->frontier, &leaf);
        }
        mlc_merkle_root(&head->frontier, &head->root);
        *ret_n = rows.n;
        return rows.n == 0 ? 0 : audit_db_head_update(ctx, tx, head);
}

int audit_db_leaves(struct mlc_ctx *ctx, struct db_tx *tx, const struct audit_range *range,
                    struct audit_rows *ret)
{
        uint64_t n = range->to - range->from;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        assert(range->from < range->to);
        r = db_run(tx, SQL_AUDIT_LEAVES, &rows, DB_INT(range->log_id), DB_INT(range->from),
                   DB_INT(n < AUDIT_ROWS_MAX ? n : AUDIT_ROWS_MAX));
        if (r < 0)
                return r;
        ret->n = 0;
        for (int i = 0; i < rows.n && db_int(&rows, i, 0) == (int64_t)range->from + i; i++) {
                struct mlc_tlog_row *row = &ret->row[i];

                r = db_bytes(ctx, &rows, i, 1, &row->leaf, &row->len);
                if (r < 0)
                        return r;
                r = get_fixed(ctx, &rows, i, 2, &row->hash);
                if (r < 0)
                        return r;
                ret->n++;
        }
        if (ret->n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "entry %llu has no row in the database",
                                (unsigned long long)range->from);
        return 0;
}

int audit_db_checkpoint_insert(struct mlc_ctx *ctx, struct db_tx *tx, int64_t log_id,
                               const struct audit_state *s)
{
        (void)ctx;
        return db_run(tx, SQL_AUDIT_CHECKPOINT_INSERT, NULL, DB_INT(log_id), DB_INT(s->cp.size),
                      DB_BYTES(s->cp.root.b, sizeof(s->cp.root.b)), DB_TEXT(s->note));
}

int audit_db_outbox_insert(struct mlc_ctx *ctx, struct db_tx *tx,
                           const struct audit_outbox_row *row)
{
        const struct audit_entry *e = &row->entry;
        char time[MLC_TIME_MAX];

        (void)ctx;
        mlc_time_format(row->time_ms, time);
        return db_run(tx, SQL_AUDIT_OUTBOX_INSERT, NULL, DB_BYTES(row->leaf.data, row->leaf.len),
                      DB_BYTES(row->hash.b, sizeof(row->hash.b)), DB_TEXT(e->actor),
                      DB_TEXT(e->action), DB_TEXT(e->kind), DB_TEXT(e->id), DB_TEXT(e->model),
                      DB_TEXT(time));
}
