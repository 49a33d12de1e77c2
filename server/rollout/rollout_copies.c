/* SPDX-License-Identifier: Apache-2.0 */
/* Whose requests are copied, for the mirror; only who leads looks at copies. */
#include "app.h"
#include "rollout/mirror.h"
#include "rollout/rollout_internal.h"
#include "work/work.h"

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static int64_t int_of(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

void rollout_watch_copies(struct mlc_ctx *ctx, const json_t *watch)
{
        struct mirror_route *routes =
                ctx_alloc(ctx, (json_array_size(watch) + 1) * sizeof(*routes));
        const json_t *w;
        size_t i;

        if (routes == NULL)
                return;
        json_array_foreach (watch, i, w) {
                const json_t *candidate = json_object_get(w, "candidate");
                const json_t *stable = json_object_get(w, "stable");

                routes[i] =
                        (struct mirror_route){.control = text_of(w, "control"),
                                              .route = text_of(w, "route"),
                                              .owner = text_of(w, "owner"),
                                              .checks = json_object_get(w, "checks"),
                                              .mirror = json_is_true(json_object_get(w, "mirror")),
                                              .candidate_model = text_of(candidate, "model"),
                                              .candidate = text_of(candidate, "host"),
                                              .stable_model = text_of(stable, "model"),
                                              .stable = text_of(stable, "host"),
                                              .share = (int)int_of(w, "share"),
                                              .generation = int_of(w, "generation")};
        }
        mirror_watch(ctx->app->mirror, routes, json_array_size(watch));
        if (!work_is_leader(ctx->app)) /* lost while it looked */
                rollout_lost(ctx->app);
}

void rollout_lost(struct app *app)
{
        mirror_watch(app->mirror, NULL, 0);
}
