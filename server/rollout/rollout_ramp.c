/* SPDX-License-Identifier: Apache-2.0 */
/* A rollout that is taken back little by little: what was live takes its load again in parts. It is
 * paused meanwhile, so that harm still takes it to 0 at once and nothing else moves it. */
#include <inttypes.h>

#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

#define PARTS 10

/* seen.ramp: {"over_ms", "since_ms" (of seen.step_ms), "parts" that are left} */
static json_t *ramp_of(const struct rollout *r)
{
        return json_object_get(r->seen, "ramp");
}

static int64_t int_of(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

bool ramp_going(const struct rollout *r)
{
        return ramp_of(r) != NULL;
}

int ramp_weight(const struct rollout *r, int weight)
{
        const json_t *ramp = ramp_of(r);

        return ramp == NULL ? weight : (int)(weight * int_of(ramp, "parts") / PARTS);
}

/* So many parts are left from now on; its leaf has the weights before and after. */
static int set_parts(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, int64_t parts,
                     const json_t *why)
{
        _cleanup_(json_decref_p) json_t *detail = NULL, *was = rollout_weights(r), *is = NULL;
        int before = rollout_weight(r, r->step), after, e;
        const char *hold = ctx_printf(ctx,
                                      "an operator takes it down: %" PRId64 " %% of its share "
                                      "is left",
                                      parts * 100 / PARTS);

        if (hold == NULL)
                return ctx->err.code;
        (void)json_object_set_new(ramp_of(r), "parts", json_integer(parts));
        after = rollout_weight(r, r->step);
        is = rollout_weights(r);
        detail = json_pack("{s:{s:i, s:i}, s:O*}", "weights", "before", before, "after", after,
                           "reason", json_object_get(why, "reason"));
        if (was != NULL && is != NULL)
                (void)json_object_set_new(detail, "targets",
                                          json_pack("{s:O, s:O}", "before", was, "after", is));
        e = rollout_set(ctx, tx, r,
                        &(struct rollout_change){.action = "rollout.ramp",
                                                 .step = -1,
                                                 .paused = 1,
                                                 .hold = hold,
                                                 .detail = detail});
        return e < 0 ? e : split_rollout(ctx, tx, r, after);
}

bool ramp_can(const struct rollout *r)
{
        _cleanup_(json_decref_p) json_t *weights = rollout_weights(r);
        const char *target;
        json_t *w;

        if (!mlc_streq(r->state, "running") || r->from_version == 0 || rollout_is_back(r))
                return false;
        json_object_foreach (weights, target, w)
                if (json_integer_value(w) > 0)
                        return true;
        return rollout_weight(r, r->step) > 0;
}

bool ramp_over(const struct rollout *r, int64_t over_ms)
{
        return ramp_going(r) && int_of(ramp_of(r), "over_ms") == over_ms;
}

int ramp_begin(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, int64_t over_ms,
               const json_t *detail)
{
        (void)json_object_set_new(r->seen, "ramp",
                                  json_pack("{s:I, s:O?, s:i}", "over_ms", (json_int_t)over_ms,
                                            "since_ms", json_object_get(r->seen, "step_ms"),
                                            "parts", PARTS));
        if (request_end(ctx, tx, r, "void") < 0)
                return ctx->err.code;
        return set_parts(ctx, tx, r, PARTS - 1, detail);
}

int ramp_step(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, bool *ret_changed)
{
        const json_t *ramp = ramp_of(r);
        int64_t passed, parts;

        if (ramp == NULL || !mlc_streq(r->state, "running"))
                return 0;
        passed = int_of(r->seen, "step_ms") - int_of(ramp, "since_ms");
        /* the first part went when it began, the last goes with the abort */
        parts = PARTS - 1 - passed * (PARTS - 1) / int_of(ramp, "over_ms");
        if (parts >= int_of(ramp, "parts"))
                return 0;
        *ret_changed = true;
        return parts > 0 ? set_parts(ctx, tx, r, parts, NULL)
                         : rollout_go_back(ctx, tx, r, "an operator took it back");
}
