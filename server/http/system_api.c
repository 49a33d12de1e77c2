/* SPDX-License-Identifier: Apache-2.0 */
#include "app.h"
#include "base/cleanup.h"
#include "gen/api.h"
#include "http/conn.h"
#include "http/http.h"
#include "http/metrics_store.h"

#define METRICS_MAX (8u << 20)

static int reply_status(struct mlc_ctx *ctx, struct http_reply *reply, const char *status)
{
        json_t *j = json_pack("{s:s}", "status", status);

        if (j == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "out of memory");
        http_reply_json(reply, 200, j);
        return 0;
}

int api_healthz(struct mlc_ctx *ctx, const struct api_healthz_req *req, struct http_reply *reply)
{
        (void)req;
        return reply_status(ctx, reply, "ok");
}

int api_readyz(struct mlc_ctx *ctx, const struct api_readyz_req *req, struct http_reply *reply)
{
        const struct app_hooks *hooks = &ctx->app->hooks;

        (void)req;
        for (unsigned i = 0; i < hooks->n_ready; i++) {
                if (hooks->ready[i](ctx) < 0) {
                        struct mlc_err why = ctx->err;

                        mlc_err_clear(&ctx->err);
                        return ctx_fail(ctx,
                                        why.code == MLC_E_READ_ONLY ? why.code : MLC_E_UNAVAILABLE,
                                        "%s", why.msg);
                }
        }
        if (http_draining(ctx))
                return ctx_fail(ctx, MLC_E_UNAVAILABLE, "the server is stopping");
        return reply_status(ctx, reply, "ready");
}

int api_metrics(struct mlc_ctx *ctx, const struct api_metrics_req *req, struct http_reply *reply)
{
        const struct app_hooks *hooks = &ctx->app->hooks;
        struct metrics_out out = {0};
        int r;

        (void)req;
        mlc_str_init(&out.text, METRICS_MAX);
        http_write_numbers(ctx->app->http, &out);
        for (unsigned i = 0; i < hooks->n_metrics; i++)
                hooks->metrics[i](ctx->app, &out);
        r = mlc_str_check(&out.text, &ctx->err);
        if (r == 0)
                http_reply_bytes(reply, 200, "text/plain; version=0.0.4; charset=utf-8",
                                 mlc_str_cstr(&out.text), out.text.len);
        mlc_str_done(&out.text);
        return r;
}

int api_openapi(struct mlc_ctx *ctx, const struct api_openapi_req *req, struct http_reply *reply)
{
        (void)ctx;
        (void)req;
        http_reply_borrowed(reply, 200, "application/json", gen_openapi, gen_openapi_len);
        return 0;
}
