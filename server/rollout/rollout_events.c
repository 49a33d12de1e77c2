/* SPDX-License-Identifier: Apache-2.0 */
/* Server-sent events (WHATWG HTML, 9.2): rollouts and drift as they change. */
#include "base/clock.h"
#include "base/log.h"
#include "gen/api.h"
#include "gen/rollout.sql.h"
#include "http/http.h"
#include "promotion/promotion.h"
#include "rollout/rollout_internal.h"

#define LOOK_MS 500
#define SILENCE_MS 15000 /* after it a comment keeps proxies from giving up */
#define LOOK_ARENA (32u << 20)

struct stream {
        json_t *sent; /* {"rollout/r7": digest}, owned */
        int64_t said_ms;
};

static void stream_done(void *userdata)
{
        struct stream *s = userdata;

        json_decref(s->sent);
}

/* One event when it is another than the one sent last. Steals data. */
static int event(struct mlc_ctx *ctx, struct stream *s, const char *name, json_t *steal,
                 struct mlc_str *out)
{
        _cleanup_(json_decref_p) json_t *data = steal;
        const char *id = json_string_value(json_object_get(data, "id")), *key, *text;
        char digest[MLC_DIGEST_STR];
        int r = gate_json_digest(ctx, data, digest);

        if (r < 0)
                return r;
        if (id == NULL)
                id = json_string_value(json_object_get(data, "environment"));
        key = ctx_printf(ctx, "%s/%s", name, id);
        text = key != NULL ? rollout_text(ctx, data) : NULL;
        if (text == NULL)
                return ctx->err.code;
        if (mlc_streq(json_string_value(json_object_get(s->sent, key)), digest))
                return 0;
        (void)json_object_set_new(s->sent, key, json_string(digest));
        mlc_str_addf(out, "event: %s\ndata: ", name);
        mlc_str_add(out, text);
        mlc_str_add(out, "\n\n");
        return 0;
}

static int rollouts(struct mlc_ctx *ctx, struct db_tx *tx, struct stream *s, struct mlc_str *out)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *readable = NULL;
        int r = promotion_readable(ctx, &readable);

        if (r == 0)
                r = db_run(tx, SQL_ROLLOUT_RECENT, &rows, DB_TEXT(readable));
        for (int i = 0; r == 0 && i < rows.n; i++) {
                json_t *shown = NULL;

                r = rollout_show(ctx, tx, db_text(&rows, i, 0), &shown);
                if (r == 0)
                        r = event(ctx, s, "rollout", shown, out);
        }
        return r;
}

/* Only whether an environment is clean: what is on its instances is asked for at /drift. */
static int drifts(struct mlc_ctx *ctx, struct db_tx *tx, struct stream *s, struct mlc_str *out)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_DRIFT_RECENT, &rows);

        for (int i = 0; r == 0 && i < rows.n; i++)
                r = event(ctx, s, "drift",
                          json_pack("{s:s, s:b, s:s}", "environment", db_text(&rows, i, 0), "ok",
                                    db_bool(&rows, i, 1), "since", db_text(&rows, i, 3)),
                          out);
        return r;
}

static int look(struct mlc_ctx *request, struct stream *s, struct mlc_str *out)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        mlc_ctx_init(&ctx, request->app, "event_stream", LOOK_ARENA, 10000);
        r = auth_identify(&ctx, http_header(request, "Authorization"), &ctx.principal);
        if (r == MLC_E_UNAUTHENTICATED)
                return r; /* the token was revoked, or has expired */
        if (r == 0)
                r = db_tx_begin_read(&ctx, &tx);
        if (r == 0)
                r = rollouts(&ctx, &tx, s, out);
        if (r == 0)
                r = drifts(&ctx, &tx, s, out);
        if (r < 0)
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "event_stream.failed", &ctx.err);
        return 0; /* the database may be away for a while */
}

static int next(struct mlc_ctx *ctx, void *userdata, struct mlc_str *out)
{
        struct stream *s = userdata;

        if (s->said_ms == 0)
                mlc_str_add(out, "retry: 1000\n\n");
        else
                mlc_sleep_ms(LOOK_MS);
        if (look(ctx, s, out) < 0)
                return MLC_E_UNAUTHENTICATED;
        if (out->len == 0 && mlc_monotonic_ms() - s->said_ms > SILENCE_MS)
                mlc_str_add(out, ":\n\n");
        if (out->len > 0)
                s->said_ms = mlc_monotonic_ms();
        return 0;
}

int api_event_stream(struct mlc_ctx *ctx, const struct api_event_stream_req *req,
                     struct http_reply *reply)
{
        struct stream *s = ctx_alloc(ctx, sizeof(*s));

        (void)req;
        if (s == NULL)
                return ctx->err.code;
        *s = (struct stream){.sent = json_object()};
        return http_reply_stream(ctx, reply,
                                 &(struct http_stream){.content_type = "text/event-stream",
                                                       .next = next,
                                                       .done = stream_done,
                                                       .userdata = s});
}
