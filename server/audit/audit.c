/* SPDX-License-Identifier: Apache-2.0 */
/* What rules of other folders call: append, commit and reveal, and whether the log may be written.
 */
#include "audit/audit.h"

#include <assert.h>
#include <stdarg.h>

#include "audit/audit_internal.h"
#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "gen/audit.sql.h"

#define PII_MAX 16384

void audit_halt(struct audit *a, const char *fmt, ...)
{
        char reason[AUDIT_REASON_MAX];
        bool first;
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(reason, sizeof(reason), fmt, ap);
        va_end(ap);
        (void)pthread_mutex_lock(&a->lock);
        first = !atomic_load(&a->read_only);
        if (first)
                (void)snprintf(a->reason, sizeof(a->reason), "%s", reason);
        (void)pthread_mutex_unlock(&a->lock);
        atomic_store(&a->read_only, true);
        log_error(NULL, "audit.halted", KV_STR("reason", reason));
}

int audit_writable(struct mlc_ctx *ctx)
{
        struct audit *a = ctx->app->audit;

        if (!atomic_load(&a->read_only))
                return 0;
        return ctx_fail(ctx, MLC_E_READ_ONLY, "%s", a->reason);
}

int audit_ready(struct mlc_ctx *ctx)
{
        return audit_writable(ctx);
}

void audit_add_sources(struct app *app, const struct audit_source *sources, size_t n)
{
        struct audit *a = app->audit;

        assert(a->n_sources + n <= AUDIT_SOURCES_MAX);
        for (size_t i = 0; i < n; i++)
                a->sources[a->n_sources++] = sources[i];
}

const char *audit_origin(const struct app *app)
{
        return app->audit->origin;
}

const struct mlc_signer *audit_signer(const struct app *app)
{
        return &app->audit->keys.signer[app->audit->keys.n - 1];
}

/* Parsed, not verified: this server signed it, and audit_open verified it. */
int64_t audit_published_size(struct app *app)
{
        _cleanup_(free_p) char *note = NULL;
        char path[AUDIT_PATH_MAX + 16], *end;
        struct mlc_checkpoint cp;
        struct mlc_err err = {0};
        size_t len;

        (void)snprintf(path, sizeof(path), "%s/checkpoint", app->audit->dir);
        if (mlc_read_file(path, MLC_NOTE_MAX, &note, &len, &err) < 0)
                return 0;
        end = strstr(note, "\n\n");
        if (end == NULL || mlc_checkpoint_parse(note, (size_t)(end - note) + 1, &cp, &err) < 0)
                return 0;
        return (int64_t)cp.size;
}

/* The detail as given, with the token that was used. */
static json_t *make_detail(const struct mlc_ctx *ctx, const json_t *detail)
{
        json_t *d = detail == NULL ? json_object() : json_deep_copy(detail);

        if (d != NULL && ctx->principal != NULL && ctx->principal->token[0] != '\0' &&
            json_object_get(d, "token") == NULL)
                (void)json_object_set_new(d, "token", json_string(ctx->principal->token));
        return d;
}

static void nudge(struct audit *a)
{
        (void)pthread_mutex_lock(&a->lock);
        a->nudged = true;
        (void)pthread_cond_signal(&a->wake);
        (void)pthread_mutex_unlock(&a->lock);
}

static void row_done(struct audit_outbox_row *row)
{
        mlc_str_done(&row->leaf);
}

int audit_append(struct mlc_ctx *ctx, struct db_tx *tx, const struct audit_entry *e,
                 char ret_leaf_hash[65])
{
        _cleanup_(json_decref_p) json_t *detail = make_detail(ctx, e->detail);
        _cleanup_(row_done) struct audit_outbox_row row = {.entry = *e, .time_ms = mlc_now_ms()};
        struct mlc_leaf_in in = {.origin = ctx->app->audit->origin,
                                 .action = e->action,
                                 .kind = e->kind,
                                 .id = e->id,
                                 .time_ms = row.time_ms,
                                 .before = e->before,
                                 .after = e->after,
                                 .detail = detail};
        int r;

        mlc_str_init(&row.leaf, 2 * MLC_ENTRY_MAX);
        if (row.entry.actor == NULL)
                row.entry.actor = ctx->principal != NULL ? ctx->principal->user : "system";
        in.actor = row.entry.actor;
        r = audit_writable(ctx);
        if (r < 0)
                return r;
        r = mlc_leaf_build(&in, &row.leaf, &ctx->err);
        if (r < 0)
                return r;
        mlc_merkle_leaf(row.leaf.data, row.leaf.len, &row.hash);
        r = audit_db_outbox_insert(ctx, tx, &row);
        if (r < 0)
                return r;
        tx->changes = true;
        nudge(ctx->app->audit);
        if (ret_leaf_hash != NULL)
                mlc_hex_encode(row.hash.b, sizeof(row.hash.b), ret_leaf_hash);
        return 0;
}

int audit_commit_pii(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject, const char *value,
                     char ret_commitment[72])
{
        unsigned char salt[32];
        struct mlc_sha256 h;
        struct mlc_digest d;
        char commitment[MLC_DIGEST_STR];
        int r;

        if (strlen(value) > PII_MAX)
                return ctx_fail(ctx, MLC_E_LIMIT, "the text is longer than %d bytes", PII_MAX);
        mlc_random_bytes(salt, sizeof(salt));
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, salt, sizeof(salt));
        mlc_sha256_update(&h, value, strlen(value));
        mlc_sha256_final(&h, &d);
        mlc_digest_format(&d, commitment);
        r = db_run(tx, SQL_AUDIT_PII_INSERT, NULL, DB_TEXT(commitment), DB_TEXT(subject),
                   DB_BYTES(salt, sizeof(salt)), DB_TEXT(value));
        if (r < 0)
                return r;
        memcpy(ret_commitment, commitment, sizeof(commitment));
        return 0;
}

int audit_reveal_pii(struct mlc_ctx *ctx, struct db_tx *tx, const char *commitment,
                     const char **ret_value)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char *value;
        int r;

        r = db_run(tx, SQL_AUDIT_PII_GET, &rows, DB_TEXT(commitment));
        if (r < 0)
                return r;
        if (rows.n == 0) {
                *ret_value = NULL;
                return 0;
        }
        value = db_text_dup(ctx, &rows, 0, 0);
        if (value == NULL)
                return ctx->err.code;
        *ret_value = value;
        return 0;
}

int audit_erase_pii(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject)
{
        (void)ctx;
        return db_run(tx, SQL_AUDIT_PII_ERASE, NULL, DB_TEXT(subject));
}

int audit_quiesce(struct mlc_ctx *ctx, struct db_tx *tx, int *ret_lock)
{
        int r;

        /* every state change writes to the outbox */
        r = db_run0(tx, SQL_AUDIT_QUIESCE, NULL);
        if (r < 0)
                return r;
        return audit_files_lock(ctx->app->audit->dir, ret_lock, &ctx->err);
}

int audit_export(struct mlc_ctx *ctx, struct db_tx *tx, char ret_snapshot[64])
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        (void)ctx;
        r = db_run0(tx, SQL_AUDIT_SNAPSHOT, NULL);
        if (r == 0)
                r = db_run0(tx, SQL_AUDIT_EXPORT, &rows);
        if (r < 0)
                return r;
        (void)snprintf(ret_snapshot, 64, "%s", db_text(&rows, 0, 0));
        return 0;
}

int audit_signed_size(const char *data, uint64_t *ret, struct mlc_err *err)
{
        _cleanup_(audit_state_done) struct audit_state s = {0};
        char dir[AUDIT_PATH_MAX];
        int r;

        (void)snprintf(dir, sizeof(dir), "%s/log", data);
        r = audit_state_read(dir, &s, err);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(err);
                r = 0;
        }
        if (r == 0)
                *ret = s.cp.size;
        return r;
}
