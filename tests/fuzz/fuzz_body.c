/* SPDX-License-Identifier: Apache-2.0 */
/* Request bodies and targets. The first byte chooses: 0 a target, else the operation whose body
 * follows. */
#include <assert.h>
#include <stdint.h>

#include "app.h"
#include "base/cleanup.h"
#include "gen/api.h"
#include "http/problem.h"
#include "http/router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void target(struct mlc_ctx *ctx, const char *text)
{
        const struct router_table table = {gen_operations, gen_n_operations};
        struct router_target t;
        struct router_match m;

        if (router_parse(ctx, text, &t) < 0)
                return;
        for (unsigned i = 0; i < t.n_segments; i++)
                assert(strpbrk(t.segments[i], "\n\r\t") == NULL);
        if (router_match(ctx, &table, "GET", &t, &m) == 0)
                for (unsigned i = 0; i < m.op->n_segments; i++)
                        assert(m.op->segments[i].literal != NULL ||
                               m.params[m.op->segments[i].param] != NULL);
        (void)router_oci_name_invalid(&t);
}

static void body(struct mlc_ctx *ctx, unsigned which, const char *text, size_t len)
{
        static struct api_patterns patterns;
        const struct api_decoder d = {&patterns, &ctx->arena, &ctx->err};
        const struct api_operation *op = NULL;
        _cleanup_(json_decref_p) json_t *json = NULL;

        if (patterns.re == NULL)
                assert(api_patterns_init(&patterns, gen_patterns, gen_n_patterns, NULL) == 0);
        for (unsigned i = 0; i < gen_n_operations; i++)
                if (gen_operations[(which + i) % gen_n_operations].body == API_BODY_JSON)
                        op = &gen_operations[(which + i) % gen_n_operations];
        if (op == NULL || mlc_json_parse(text, len, &json, &ctx->err) < 0)
                return;
        void *req = ctx_alloc(ctx, op->req_size);

        if (api_decode_body(&d, op->body_schema, json, (char *)req + op->off_body) < 0)
                assert(ctx->err.code < 0 && ctx->err.msg[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct app app;
        struct mlc_ctx ctx;
        char *text;

        if (size < 1 || size > 1 << 16)
                return 0;
        mlc_ctx_init(&ctx, &app, "fuzz", 8 << 20, 1000);
        text = mlc_arena_strndup(&ctx.arena, (const char *)data + 1, size - 1, NULL);
        if (data[0] == 0)
                target(&ctx, text);
        else
                body(&ctx, data[0], text, size - 1);
        if (ctx.err.code != 0)
                json_decref(problem_json(&ctx.err, ctx.trace));
        mlc_ctx_done(&ctx);
        return 0;
}
