/* SPDX-License-Identifier: Apache-2.0 */
#include "ctx.h"

#include <assert.h>
#include <sys/random.h>

#include "base/clock.h"

void mlc_ctx_init(struct mlc_ctx *ctx, struct app *app, const char *operation, size_t arena_cap,
                  int64_t timeout_ms)
{
        unsigned char id[16];

        assert(app != NULL);
        *ctx = (struct mlc_ctx){
                .app = app,
                .operation = operation,
                .deadline_ms = mlc_monotonic_ms() + timeout_ms,
        };
        mlc_arena_init(&ctx->arena, arena_cap);
        if (getrandom(id, sizeof(id), 0) != (ssize_t)sizeof(id))
                abort();
        for (size_t i = 0; i < sizeof(id); i++)
                (void)snprintf(ctx->trace + 2 * i, 3, "%02x", id[i]);
}

void mlc_ctx_done(struct mlc_ctx *ctx)
{
        mlc_arena_done(&ctx->arena);
}
