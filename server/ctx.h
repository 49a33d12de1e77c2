/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "base/arena.h"
#include "mlctl/error.h"

struct app;
struct auth_principal;

/*
 * What a request or a job carries along; the first parameter of server functions. Belongs to one
 * thread. ctx->err is the error of everything below; who swallows one calls mlc_err_clear().
 */
struct mlc_ctx {
        struct app *app; /* the modules, see app.h; never NULL */
        struct mlc_arena arena; /* freed when the request or job ends */
        struct mlc_err err;
        const struct auth_principal *principal; /* who asks; NULL for open operations and jobs */
        int64_t deadline_ms; /* mlc_monotonic_ms() at which to give up */
        char trace[33]; /* hex, in every log line of this request */
        const char *idempotency_key; /* NULL, or what the client sent with a creating POST */
        const char *operation; /* operationId, or the job's name; static */
};

/* Arena allocations on the context; NULL with ctx->err set when the cap is passed. */
#define ctx_alloc(ctx, size) mlc_arena_alloc(&(ctx)->arena, (size), &(ctx)->err)
#define ctx_strdup(ctx, s) mlc_arena_strdup(&(ctx)->arena, (s), &(ctx)->err)
#define ctx_printf(ctx, ...) mlc_arena_printf(&(ctx)->arena, &(ctx)->err, __VA_ARGS__)
#define ctx_fail(ctx, code, ...) mlc_fail(&(ctx)->err, (code), __VA_ARGS__)
#define ctx_fail_field(ctx, code, field, ...)                                                      \
        mlc_fail_field(&(ctx)->err, (code), (field), __VA_ARGS__)

/* For jobs and start-up: an arena of arena_cap bytes, a fresh trace id, a deadline timeout_ms from
 * now. */
void mlc_ctx_init(struct mlc_ctx *ctx, struct app *app, const char *operation, size_t arena_cap,
                  int64_t timeout_ms);
void mlc_ctx_done(struct mlc_ctx *ctx); /* for _cleanup_ */
