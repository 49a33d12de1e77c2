/* SPDX-License-Identifier: Apache-2.0 */
#include "gen/api.h"
#include "http/http.h"
#include "rollout/observation.h"

static bool is_json(struct mlc_ctx *ctx)
{
        const char *type = http_header(ctx, "Content-Type");
        size_t len = type != NULL ? strcspn(type, "; \t") : 0;

        return len == strlen("application/json") && strncasecmp(type, "application/json", len) == 0;
}

int api_observation_record(struct mlc_ctx *ctx, const struct api_observation_record_req *req,
                           struct http_reply *reply)
{
        _cleanup_(json_decref_p) json_t *items = NULL;
        struct observation_done done = {0};
        int r;

        if (!is_json(ctx))
                return ctx_fail_field(ctx, MLC_E_MEDIA_TYPE, "header:Content-Type",
                                      "must be application/json");
        r = mlc_json_parse(req->body.data, req->body.len, &items, &ctx->err);
        if (r == 0)
                r = observation_record(ctx, items, &done);
        if (r < 0)
                return r;
        http_reply_json(reply, 200,
                        json_pack("{s:I, s:I, s:I, s:I}", "received", (json_int_t)done.received,
                                  "predictions", (json_int_t)done.predictions, "labels",
                                  (json_int_t)done.labels, "different",
                                  (json_int_t)done.different));
        return 0;
}
