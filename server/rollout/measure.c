/* SPDX-License-Identifier: Apache-2.0 */
/* promql checks: asked beside the leader's looks. */
#include <ctype.h>

#include "app.h"
#include "base/clock.h"
#include "client/call.h"
#include "client/parallel.h"
#include "gen/measure.sql.h"
#include "rollout/measure.h"

struct question {
        const char *rollout, *check, *query, *source;
        int64_t step;
};

/* --- asking --- */

/* query=…, as forms have it. NULL with the error set. */
static const char *form(struct mlc_ctx *ctx, const char *query)
{
        static const char hex[] = "0123456789ABCDEF", prefix[] = "query=";
        char *out = ctx_alloc(ctx, sizeof(prefix) + 3 * strlen(query)), *p = out;

        if (out == NULL)
                return NULL;
        memcpy(p, prefix, sizeof(prefix) - 1);
        p += sizeof(prefix) - 1;
        for (const unsigned char *s = (const unsigned char *)query; *s != '\0'; s++) {
                if (isalnum(*s) || strchr("-_.~", *s) != NULL) {
                        *p++ = (char)*s;
                        continue;
                }
                *p++ = '%';
                *p++ = hex[*s >> 4];
                *p++ = hex[*s & 15];
        }
        *p = '\0';
        return out;
}

/* A failure is an outcome: *ret says what is not known, and why. */
static void ask(struct mlc_ctx *ctx, const struct question *q, struct mlc_caller *caller,
                struct measure_value *ret)
{
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        size_t len = strlen(q->source);
        const char *body = form(ctx, q->query);
        struct mlc_call call = {
                .method = "POST",
                .url = ctx_printf(ctx, "%.*s/api/v1/query",
                                  (int)(len > 0 && q->source[len - 1] == '/' ? len - 1 : len),
                                  q->source),
                .body = body,
                .body_len = body != NULL ? strlen(body) : 0,
                .content_type = "application/x-www-form-urlencoded",
                .timeout_ms = MEASURE_CALL_MS,
                .reply_max = MEASURE_REPLY_MAX};
        int r = call.url == NULL || body == NULL
                        ? ctx->err.code
                        : serving_egress(ctx, call.url, &call.loopback_only, &ctx->err);

        if (r == 0)
                r = mlc_call(caller, &call, &reply, &ctx->err);
        if (r == 0) {
                measure_read(&(struct measure_reply){.status = reply.status,
                                                     .body = mlc_str_cstr(&reply.body),
                                                     .len = reply.body.len,
                                                     .now_ms = mlc_now_ms()},
                             ret);
                return;
        }
        *ret = (struct measure_value){.outcome = MEASURE_UNAVAILABLE};
        (void)snprintf(ret->problem, sizeof(ret->problem), "%.*s", MEASURE_TEXT_MAX - 1,
                       ctx->err.msg);
        mlc_err_clear(&ctx->err);
}

static int due(struct mlc_ctx *ctx, struct question **ret, size_t *ret_n)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct question *q;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_MEASURE_DUE, &rows, DB_INT(MEASURE_EVERY_MS),
                           DB_INT(MEASURE_AT_ONCE));
        if (r < 0)
                return r;
        q = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*q));
        if (q == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++) {
                q[i] = (struct question){.rollout = db_text_dup(ctx, &rows, i, 0),
                                         .step = db_int(&rows, i, 1),
                                         .check = db_text_dup(ctx, &rows, i, 2),
                                         .query = db_text_dup(ctx, &rows, i, 3),
                                         .source = db_text_dup(ctx, &rows, i, 4)};
                if (ctx->err.code < 0)
                        return ctx->err.code;
        }
        *ret = q;
        *ret_n = (size_t)rows.n;
        return 0;
}

static int write_down(struct mlc_ctx *ctx, const struct question *q, const struct measure_value *v)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        bool known = v->outcome == MEASURE_VALUE;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_MEASURE_SET, NULL, DB_TEXT(q->rollout), DB_TEXT(q->check),
                           DB_INT(q->step), DB_TEXT(known ? v->value : NULL),
                           DB_TEXT(known ? NULL : v->problem));
        return r < 0 ? r : db_tx_commit(&tx);
}

struct asking {
        const struct mlc_ctx *ctx; /* of the task */
        const struct question *questions;
        struct measure_value *values;
};

static int ask_one(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        const struct asking *a = userdata;

        (void)worker;
        (void)err;
        if (a->questions[i].source == NULL) {
                a->values[i] = (struct measure_value){.outcome = MEASURE_UNAVAILABLE,
                                                      .problem = "it has no source"};
                return 0;
        }
        mlc_ctx_init(&ctx, a->ctx->app, MEASURE_TASK, MEASURE_ARENA, 2 * MEASURE_CALL_MS);
        memcpy(ctx.trace, a->ctx->trace, sizeof(ctx.trace));
        mlc_caller_new(&caller);
        ask(&ctx, &a->questions[i], caller, &a->values[i]);
        return 0;
}

int measure_run(struct mlc_ctx *ctx)
{
        struct question *q;
        struct asking a = {.ctx = ctx};
        size_t n = 0;
        int r = due(ctx, &q, &n);

        if (r < 0 || n == 0)
                return r;
        a.questions = q;
        a.values = ctx_alloc(ctx, n * sizeof(*a.values));
        if (a.values == NULL)
                return ctx->err.code;
        /* side by side: a source that hangs does not make the values of others older */
        r = mlc_parallel_run(
                &(struct mlc_parallel){
                        .run = ask_one, .userdata = &a, .n = n, .threads = MLC_PARALLEL_MAX},
                &ctx->err);
        for (size_t i = 0; r == 0 && i < n; i++)
                r = write_down(ctx, &q[i], &a.values[i]);
        return r;
}

/* --- counting --- */

int measure_take(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        json_t *values;
        int e = db_run(tx, SQL_MEASURE_TAKE, &rows, DB_TEXT(r->id), DB_INT(r->step));

        (void)ctx;
        *ret = NULL;
        if (e < 0 || rows.n == 0)
                return e;
        values = json_object();
        for (int i = 0; i < rows.n; i++) {
                bool known = !db_is_null(&rows, i, 1);

                (void)json_object_set_new(
                        values, db_text(&rows, i, 0),
                        json_pack("{s:o, s:o}", "value",
                                  known ? json_string(db_text(&rows, i, 1)) : json_null(), "error",
                                  known ? json_null() : json_string(db_text(&rows, i, 2))));
        }
        *ret = values;
        return 0;
}
