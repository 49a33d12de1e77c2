/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of a rollout, and where it stands in it. */
#include "app.h"
#include "rollout/plan.h"
#include "rollout/rollout_internal.h"

const json_t *rollout_step(const struct rollout *r, int step)
{
        return json_array_get(json_object_get(r->plan, "steps"), (size_t)step);
}

int rollout_weight(const struct rollout *r, int step)
{
        if (mlc_streq(r->state, "preparing") || mlc_streq(r->state, "aborting") ||
            mlc_streq(r->state, "rolled_back") || mlc_streq(r->state, "failed"))
                return 0;
        if (!mlc_streq(r->state, "running"))
                return ROLLOUT_WHOLE;
        return ramp_weight(
                r, (int)json_integer_value(json_object_get(rollout_step(r, step), "weight")));
}

bool rollout_has_waves(const struct rollout *r)
{
        return json_array_size(json_object_get(r->plan, "targets")) > 0 &&
               (mlc_streq(r->state, "running") || mlc_streq(r->state, "aborting"));
}

int rollout_step_in(const struct rollout *r, const char *target)
{
        return rollout_has_waves(r) ? mlc_rollout_step_of(r->plan, r->step, target) : r->step;
}

int rollout_weight_in(const struct rollout *r, const char *target)
{
        int step = rollout_step_in(r, target);

        return step < 0 ? 0 : rollout_weight(r, step);
}

json_t *rollout_weights(const struct rollout *r)
{
        json_t *of = NULL;
        const json_t *name;
        size_t i;

        json_array_foreach (json_object_get(r->plan, "targets"), i, name) {
                const char *target = json_string_value(name);

                if (of == NULL)
                        of = json_object();
                (void)json_object_set_new(of, target, json_integer(rollout_weight_in(r, target)));
        }
        return of;
}

void rollout_detail_targets(json_t *detail, const struct rollout *before,
                            const struct rollout *after)
{
        json_t *was = rollout_weights(before), *is = rollout_weights(after);

        if (was != NULL && is != NULL)
                (void)json_object_set_new(detail, "targets",
                                          json_pack("{s:O, s:O}", "before", was, "after", is));
        json_decref(was);
        json_decref(is);
}

bool rollout_is_back(const struct rollout *r)
{
        return mlc_streq(json_string_value(json_object_get(r->plan, "strategy")), "rollback");
}

bool rollout_failed(const struct rollout *r)
{
        return json_is_true(json_object_get(r->seen, "failed"));
}

/* A rollback: everything at once, nothing compared. */
static json_t *plan_back(const struct rollout_in *in)
{
        return json_pack("{s:s, s:s, s:s, s:s, s:b, s:[{s:s, s:i, s:i, s:i, s:i, s:i, s:s, s:[], "
                         "s:b, s:[]}], s:[], s:n, s:s, s:s, s:n, s:s, s:s, s:n, s:n}",
                         "schema", "rollout-plan/v1", "model", in->model, "environment",
                         in->environment, "strategy", "rollback", "first", 0, "steps", "kind",
                         "weight", "weight", ROLLOUT_WHOLE, "mirror", 0, "requests", 0, "labels", 0,
                         "for_ms", 0, "advance", "no-harm", "checks", "wait", 0, "needs", "checks",
                         "exposure", "on_harm", "pause", "on_silence", "hold", "deadline_ms",
                         "on_deadline", "pause", "on_lost_control", "hold", "ab", "source");
}

int rollout_plan(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout_in *in, bool first,
                 json_t **ret)
{
        _cleanup_(json_decref_p) json_t *model = NULL;
        struct mlc_rollout_docs docs = {.environment = in->document,
                                        .first = first,
                                        .mirrored = ctx->app->config.mirror_listen != NULL};
        int r;

        if (in->back) {
                *ret = plan_back(in);
                return *ret != NULL ? 0 : ctx_fail(ctx, MLC_E_INTERNAL, "no plan can be made");
        }
        r = rollout_model_document(ctx, tx, in->model, &model);
        if (r < 0)
                return r;
        docs.model = model;
        return mlc_rollout_plan(&docs, ret, &ctx->err);
}
