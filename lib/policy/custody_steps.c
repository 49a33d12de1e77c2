/* SPDX-License-Identifier: Apache-2.0 */
/* Rollouts whose steps ask for approvals: each is left only with those that the documents ask for,
 * and nothing goes live past one. */
#include <inttypes.h>
#include <string.h>

#include "base/str.h"
#include "policy/custody_internal.h"
#include "rollout/plan.h"

static bool asks(const json_t *model)
{
        const json_t *step;
        size_t i;

        json_array_foreach (json_object_get(json_object_get(model, "rollout"), "steps"), i, step)
                if (json_array_size(json_object_get(step, "approvals")) > 0)
                        return true;
        return false;
}

static int fail(const struct custody_promotion *p, const char *why, struct mlc_err *err)
{
        return mlc_fail(err, MLC_E_VERIFY, "%s:%" PRId64 " goes live in '%s' by promotion '%s' %s",
                        p->model, p->version, p->environment, p->id, why);
}

/* The rules of each step of the plan that the accepted documents give. */
static int rules_of(const struct custody_env *e, const struct custody_promotion *p, json_t **ret,
                    struct mlc_err *err)
{
        const struct mlc_rollout_docs docs = {.model = custody_document(e, "Model", p->model),
                                              .environment = custody_environment(e),
                                              .first = custody_live(e, p->model) == NULL,
                                              .mirrored = true};
        struct mlc_err why = {0};
        json_t *plan, *list, *rules;
        const json_t *step;
        bool any = false;
        size_t i;

        *ret = NULL;
        if (!asks(docs.model) || json_array_size(json_object_get(docs.environment, "targets")) == 0)
                return 0;
        if (mlc_rollout_plan(&docs, &plan, &why) < 0)
                return fail(p, "though its documents give no plan", err);
        list = json_array();
        json_array_foreach (json_object_get(plan, "steps"), i, step) {
                rules = json_object_get(step, "approvals");
                any = any || json_array_size(rules) > 0;
                json_array_append_new(list, rules != NULL ? json_incref(rules) : json_array());
        }
        json_decref(plan);
        if (any)
                *ret = list;
        else
                json_decref(list);
        return 0;
}

int custody_steps_begin(struct mlc_custody *c, const struct custody_env *e,
                        struct custody_promotion *p, const struct mlc_leaf *leaf,
                        struct mlc_err *err)
{
        if (!p->passed) {
                int r = rules_of(e, p, &p->steps, err);

                if (r < 0)
                        return r;
                p->policy_digest = custody_text(c, custody_member(leaf->state, "policy"));
                p->environment_digest =
                        custody_text(c, custody_member(leaf->state, "environment_digest"));
                p->verdict_digest = custody_text(c, custody_member(leaf->state, "verdict"));
        }
        if (mlc_streq(custody_member(leaf->state, "state"), "live") &&
            p->left < json_array_size(p->steps))
                return fail(p, "without the approvals that steps of its rollout ask for", err);
        return 0;
}

void custody_request_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        if (mlc_streq(custody_member(leaf->state, "state"), "open"))
                (void)mlc_map_set(&c->requests, leaf->id,
                                  (void *)(uintptr_t)custody_text(
                                          c, custody_member(leaf->state, "evidence")));
}

int custody_rollout_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        struct custody_promotion *p =
                mlc_map_get(&c->promotions, custody_member(leaf->state, "promotion"));
        const char *state = custody_member(leaf->state, "state");
        int64_t at = json_integer_value(json_object_get(leaf->state, "step"));
        struct custody_step step = {.rollout = leaf->id,
                                    .plan = custody_member(leaf->state, "plan")};
        const struct custody_env *e = NULL;
        size_t left = 0, n;

        if (p == NULL || p->steps == NULL)
                return 0;
        for (size_t i = 0; i < c->n_envs; i++)
                if (mlc_streq(c->envs[i].name, p->environment))
                        e = &c->envs[i];
        n = json_array_size(p->steps);
        if (mlc_streq(state, "completing") || mlc_streq(state, "completed"))
                left = n;
        else if (mlc_streq(state, "running") && at > 0)
                left = (uint64_t)at < n ? (size_t)at : n;
        for (; e != NULL && p->left < left; p->left++) {
                int r;

                step.step = p->left;
                r = custody_may_go_on(c, e, p, &step, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

void custody_promotions_done(struct mlc_custody *c)
{
        const char *id;
        size_t pos = 0;
        void *v;

        while (mlc_map_next(&c->promotions, &pos, &id, &v))
                json_decref(((struct custody_promotion *)v)->steps);
}
