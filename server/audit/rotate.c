/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld log rotate` */
#include "audit/audit_internal.h"
#include "base/cleanup.h"

/* The old key's note over the new one, see README.md. */
static int vouch(const struct audit *a, const struct mlc_vkey *next, struct mlc_str *ret,
                 struct mlc_err *err)
{
        const struct mlc_note_signer by = {a->origin, &a->keys.signer[a->keys.n - 1]};
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, 4096);
        mlc_str_addf(&text, MLC_LOG_ROTATE_TYPE "\n%s\n", a->origin);
        mlc_vkey_format(next, &text);
        mlc_str_addc(&text, '\n');
        r = mlc_str_check(&text, err);
        if (r < 0)
                return r;
        return mlc_note_sign(mlc_str_cstr(&text), &by, 1, ret, err);
}

/* The row and its leaf: all keys so far and the new one. */
static int record(struct mlc_ctx *ctx, struct audit *a, const struct mlc_vkey *next,
                  const char *note)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *detail = json_pack("{ss}", "note", note);
        _cleanup_(json_decref_p) json_t *after = NULL;
        struct audit_origin_row row = {0};
        struct audit_entry e = {.action = "log.rotate",
                                .kind = MLC_REPLAY_KIND_LOG,
                                .id = a->origin,
                                .detail = detail,
                                .actor = "system"};
        _cleanup_(mlc_str_done) struct mlc_str vkey;
        int r;

        mlc_str_init(&vkey, 1024);
        mlc_vkey_format(next, &vkey);
        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = audit_db_origin(ctx, &tx, &row);
        if (r < 0)
                return r;
        after = json_deep_copy(row.state);
        (void)json_array_append_new(json_object_get(after, "keys"),
                                    json_string(mlc_str_cstr(&vkey)));
        e.before = row.state;
        e.after = after;
        r = audit_append(ctx, &tx, &e, NULL);
        json_decref(row.state);
        row.state = after;
        if (r == 0)
                r = audit_db_origin_update(ctx, &tx, &row);
        return r < 0 ? r : db_tx_commit(&tx);
}

int audit_rotate(struct mlc_ctx *ctx)
{
        struct audit *a = ctx->app->audit;
        const char *data = ctx->app->config.data;
        _cleanup_(mlc_signer_done) struct mlc_signer next = {0};
        _cleanup_(mlc_str_done) struct mlc_str note, text;
        struct mlc_vkey vkey;
        int r;

        mlc_str_init(&note, 8192);
        mlc_str_init(&text, 1024);
        r = audit_writable(ctx);
        if (r == 0 && a->keys.n == MLC_REPLAY_KEYS_MAX)
                r = ctx_fail(ctx, MLC_E_LIMIT, "the log has %d keys already: use log succeed",
                             MLC_REPLAY_KEYS_MAX);
        if (r == 0)
                r = audit_keys_next(data, &next, &ctx->err);
        if (r == 0)
                r = mlc_vkey_make(a->origin, next.pub, &vkey, &ctx->err);
        if (r == 0)
                r = vouch(a, &vkey, &note, &ctx->err);
        if (r == 0)
                r = record(ctx, a, &vkey, mlc_str_cstr(&note));
        if (r == 0)
                r = audit_keys_promote(data, audit_signer(ctx->app), &next, &ctx->err);
        if (r < 0)
                return r;
        mlc_vkey_format(&vkey, &text);
        (void)printf("{\"origin\":\"%s\",\"vkey\":\"%s\"}\n", a->origin, mlc_str_cstr(&text));
        return 0;
}
