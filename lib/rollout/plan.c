/* SPDX-License-Identifier: Apache-2.0 */
/* From documents to the steps of a rollout. */
#include "rollout/plan.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/num.h"

#define MINUTE_MS 60000
#define AB_HORIZON 10000

struct making {
        const struct mlc_rollout_docs *docs;
        const json_t *rollout; /* of the model's document, or NULL */
        json_t *plan;
        const char *strategy;
        bool first; /* nothing to compare with */
};

static bool named(const json_t *list, const char *id)
{
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (mlc_streq(json_string_value(v), id))
                        return true;
        return false;
}

static const json_t *with(const json_t *list, const char *key, const char *value)
{
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (mlc_streq(json_string_value(json_object_get(v, key)), value))
                        return v;
        return NULL;
}

/* --- steps --- */

static json_t *step_new(int weight, int mirror, int requests, int64_t for_ms)
{
        return json_pack("{s:s, s:i, s:i, s:i, s:i, s:I, s:s, s:[], s:[], s:b}", "kind",
                         mirror > 0 ? "mirror" : "weight", "weight", weight, "mirror", mirror,
                         "requests", requests, "labels", 0, "for_ms", (json_int_t)for_ms, "advance",
                         "no-harm", "checks", "needs", "wait", 0);
}

/* Parts of 10000; what is written above 0 stays above 0. */
static int parts(const json_t *v)
{
        double d = num_of(v);

        return isfinite(d) ? (int)fmax(1.0, round(d * MLC_ROLLOUT_ALL)) : 0;
}

static json_t *step_of(const json_t *doc)
{
        json_t *s = step_new(parts(json_object_get(doc, "weight")),
                             parts(json_object_get(doc, "mirror")), (int)int_get(doc, "requests"),
                             int_get(doc, "for_ms"));
        static const char *const lists[] = {"approvals", "targets"};

        json_object_set_new(s, "labels", json_integer(int_get(doc, "labels")));
        json_object_set_new(s, "wait", json_boolean(json_object_get(doc, "wait") != NULL));
        if (json_object_get(doc, "advance") != NULL)
                json_object_set(s, "advance", json_object_get(doc, "advance"));
        for (size_t i = 0; i < ARRAY_LEN(lists); i++)
                if (json_array_size(json_object_get(doc, lists[i])) > 0)
                        json_object_set(s, lists[i], json_object_get(doc, lists[i]));
        if (json_object_get(doc, "checks") != NULL) /* decided upon in checks_of_step */
                json_object_set(s, "named", json_object_get(doc, "checks"));
        return s;
}

static json_t *steps_default(const char *strategy)
{
        json_t *s = json_array();

        if (mlc_streq(strategy, "shadow"))
                json_array_append_new(s, step_new(0, 1000, 1000, 10 * MINUTE_MS));
        if (mlc_streq(strategy, "canary"))
                for (int i = 0; i < 3; i++) {
                        static const int weights[] = {500, 2500, 5000};

                        json_array_append_new(s, step_new(weights[i], 0, 500, 5 * MINUTE_MS));
                }
        if (mlc_streq(strategy, "ab"))
                json_array_append_new(s, step_new(5000, 0, 0, 0));
        json_array_append_new(s, step_new(MLC_ROLLOUT_ALL, 0, 0, 0));
        return s;
}

/* All traffic at once: how long, and who is asked, as the document's last step says. */
static json_t *steps_first(const json_t *doc)
{
        const json_t *last = json_array_get(doc, json_array_size(doc) - 1);
        json_t *s = json_array(), *step;

        if (json_array_size(doc) == 0 || parts(json_object_get(last, "weight")) != MLC_ROLLOUT_ALL)
                step = step_new(MLC_ROLLOUT_ALL, 0, 0, 0);
        else
                step = step_of(last);
        json_object_set_new(step, "advance", json_string("no-harm"));
        (void)json_object_del(step, "targets");
        json_array_append_new(s, step);
        return s;
}

static bool has_mirror(const json_t *plan)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(plan, "steps"), i, v)
                if (int_get(v, "mirror") > 0)
                        return true;
        return false;
}

/* Whether some target's traffic driver neither counts latencies nor copies requests. */
static bool counts_only(const json_t *environment)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(environment, "targets"), i, v)
                if (mlc_streq(text_get(json_object_get(v, "traffic"), "driver"), "haproxy"))
                        return true;
        return false;
}

/* --- waves --- */

static bool covers(const json_t *step, const char *target)
{
        const json_t *targets = json_object_get(step, "targets");

        return json_array_size(targets) == 0 || named(targets, target);
}

int mlc_rollout_step_of(const json_t *plan, int step, const char *target)
{
        const json_t *list = json_object_get(plan, "steps");

        while (step >= 0 && !covers(json_array_get(list, (size_t)step), target))
                step--;
        return step;
}

/* Targets that steps name are the environment's. */
static int targets_known(const json_t *doc, const json_t *environment, bool *ret_waves,
                         struct mlc_err *err)
{
        const json_t *step, *name;
        char at[MLC_JSON_POINTER_MAX];
        size_t i, j;

        json_array_foreach (doc, i, step)
                json_array_foreach (json_object_get(step, "targets"), j, name) {
                        *ret_waves = true;
                        if (with(json_object_get(environment, "targets"), "name",
                                 json_string_value(name)) != NULL)
                                continue;
                        (void)snprintf(at, sizeof(at), "/rollout/steps/%zu/targets/%zu", i, j);
                        return mlc_fail_field(
                                err, MLC_E_INVALID, at, "environment '%s' has no target '%s'",
                                text_get(environment, "name"), json_string_value(name));
                }
        return 0;
}

/* Where the last step is all traffic, no target is left behind; else that step is added. */
static int waves_suit(const json_t *doc, const json_t *environment, bool *ret_waves,
                      struct mlc_err *err)
{
        size_t n = json_array_size(doc), i;
        const json_t *target;
        char at[MLC_JSON_POINTER_MAX];
        int r = targets_known(doc, environment, ret_waves, err);

        if (r < 0 || n == 0 ||
            parts(json_object_get(json_array_get(doc, n - 1), "weight")) != MLC_ROLLOUT_ALL)
                return r;
        json_array_foreach (json_object_get(environment, "targets"), i, target) {
                const char *name = text_get(target, "name");
                size_t last = n;
                int weight;

                while (last > 0 && !covers(json_array_get(doc, last - 1), name))
                        last--;
                weight = last > 0 ? parts(json_object_get(json_array_get(doc, last - 1), "weight"))
                                  : 0;
                if (weight == MLC_ROLLOUT_ALL)
                        continue;
                (void)snprintf(at, sizeof(at), "/rollout/steps/%zu", n - 1);
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "after the last step target '%s' of environment '%s' would "
                                      "stay at %g %%: name it there, or leave out 'targets'",
                                      name, text_get(environment, "name"), (double)weight / 100);
        }
        return 0;
}

static int no_copies(struct mlc_err *err)
{
        return mlc_fail_field(err, MLC_E_INVALID, "/rollout/steps",
                              "haproxy copies no requests: have a proxy mirror them to `mlctld "
                              "--mirror-listen`, or use steps with a weight");
}

static int waves(struct making *m, const json_t *doc, struct mlc_err *err)
{
        json_t *names = json_array();
        const json_t *target;
        bool any = false;
        size_t i;
        int r = waves_suit(doc, m->docs->environment, &any, err);

        json_array_foreach (json_object_get(m->docs->environment, "targets"), i, target)
                json_array_append(names, json_object_get(target, "name"));
        if (any)
                json_object_set(m->plan, "targets", names);
        json_decref(names);
        return r;
}

static int steps(struct making *m, struct mlc_err *err)
{
        const json_t *doc = json_object_get(m->rollout, "steps"), *v;
        json_t *list;
        size_t i;

        if (m->first) {
                list = steps_first(doc);
        } else if (json_array_size(doc) == 0) {
                list = steps_default(m->strategy);
        } else {
                const json_t *last = NULL;

                list = json_array();
                json_array_foreach (doc, i, v) {
                        json_array_append_new(list, step_of(v));
                        last = v;
                }
                if (parts(json_object_get(last, "weight")) != MLC_ROLLOUT_ALL)
                        json_array_append_new(list, step_new(MLC_ROLLOUT_ALL, 0, 0, 0));
        }
        json_object_set_new(m->plan, "steps", list);
        if (!m->first) {
                int r = waves(m, doc, err);

                if (r < 0)
                        return r;
        }
        if (has_mirror(m->plan) && !m->docs->mirrored && counts_only(m->docs->environment))
                return no_copies(err);
        return 0;
}

/* --- checks --- */

static json_t *checks_default(const struct making *m)
{
        json_t *list = json_array();

        if (mlc_streq(m->strategy, "none") || mlc_streq(m->strategy, "blue-green"))
                return list;
        json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s, s:s}", "id", "errors", "type",
                                              "error-rate", "mode", "enforce", "margin",
                                              "0.0100000000", "alpha", "0.0500000000"));
        if (has_mirror(m->plan))
                json_array_append_new(list, json_pack("{s:s, s:s, s:s, s:s}", "id", "agreement",
                                                      "type", "shadow-agreement", "mode", "enforce",
                                                      "at_least", "0.950000000"));
        return list;
}

static bool compares(const json_t *check)
{
        return strcmp(text_get(check, "type"), "promql") != 0;
}

static bool of_latency(const json_t *check)
{
        const char *type = text_get(check, "type");

        return strcmp(type, "slower-than") == 0 || strcmp(type, "latency") == 0;
}

/* Replies themselves are looked at: copies of them are needed. */
static bool of_replies(const struct making *m, const json_t *check)
{
        const char *type = text_get(check, "type");

        return strcmp(type, "prediction-distribution") == 0 ||
               (strcmp(type, "shadow-agreement") == 0 && !m->docs->mirrored);
}

static int check_allowed(const struct making *m, const json_t *check, size_t i, struct mlc_err *err)
{
        const json_t *environment = m->docs->environment;
        char at[MLC_JSON_POINTER_MAX];

        (void)snprintf(at, sizeof(at), "/rollout/checks/%zu", i);
        if (!compares(check) && !json_is_string(json_object_get(check, "source")) &&
            !json_is_object(json_object_get(environment, "metrics")))
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "check '%s' needs 'source', or environment '%s' 'metrics': "
                                      "the URL of Prometheus",
                                      text_get(check, "id"), text_get(environment, "name"));
        if (of_latency(check) && counts_only(environment))
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "check '%s' would never see a latency: haproxy counts none; "
                                      "use a promql check",
                                      text_get(check, "id"));
        if (of_replies(m, check) && counts_only(environment))
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "check '%s' would never see a reply: haproxy copies none",
                                      text_get(check, "id"));
        return 0;
}

/* Bonferroni over those that can end the rollout by a test. */
static void share_alpha(json_t *list)
{
        double n = 0.0;
        json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                n += compares(v) && mlc_streq(text_get(v, "mode"), "enforce");
        json_array_foreach (list, i, v)
                if (compares(v))
                        json_object_set_new(
                                v, "alpha_harm",
                                num_json(num_get(v, "alpha", 0.05) /
                                         (mlc_streq(text_get(v, "mode"), "enforce") ? n : 1.0)));
}

static int checks(struct making *m, struct mlc_err *err)
{
        const json_t *doc = json_object_get(m->rollout, "checks"), *v;
        _cleanup_(json_decref_p) json_t *made = NULL;
        json_t *list = json_array();
        size_t i;

        if (json_array_size(doc) == 0)
                doc = made = checks_default(m);
        json_object_set_new(m->plan, "checks", list);
        json_array_foreach (doc, i, v) {
                int r = check_allowed(m, v, i, err);

                if (r < 0)
                        return r;
                if (!m->first || !compares(v))
                        json_array_append_new(list, json_copy((json_t *)(uintptr_t)v));
        }
        share_alpha(list);
        return 0;
}

static bool needed(const struct making *m, const json_t *step, const json_t *check, bool is_named)
{
        const char *type = text_get(check, "type");

        if (!mlc_streq(text_get(check, "mode"), "enforce"))
                return false;
        if (!compares(check))
                return !m->first; /* what is measured may come from what is served, and none is */
        if (int_get(step, "weight") >= MLC_ROLLOUT_ALL)
                return false;
        if (int_get(step, "mirror") > 0 && of_latency(check))
                return false;
        return strcmp(type, "labels") != 0 || is_named || int_get(step, "labels") > 0;
}

/* Which checks end a step by harm, and which must have something to say before it is over. */
static int checks_of_step(const struct making *m, json_t *step, size_t i, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *list = json_incref(json_object_get(step, "named"));
        json_t *check, *id, *deciding = json_array(), *needs = json_array();
        char at[MLC_JSON_POINTER_MAX];
        size_t j;

        (void)json_object_del(step, "named");
        json_object_set_new(step, "checks", deciding);
        json_object_set_new(step, "needs", needs);
        json_array_foreach (list, j, id) {
                if (m->first ||
                    with(json_object_get(m->plan, "checks"), "id", json_string_value(id)) != NULL)
                        continue;
                (void)snprintf(at, sizeof(at), "/rollout/steps/%zu/checks/%zu", i, j);
                return mlc_fail_field(err, MLC_E_INVALID, at, "there is no check '%s'",
                                      json_string_value(id));
        }
        json_array_foreach (json_object_get(m->plan, "checks"), j, check) {
                bool is_named = named(list, text_get(check, "id"));

                if (list != NULL && !is_named)
                        continue;
                json_array_append(deciding, json_object_get(check, "id"));
                if (needed(m, step, check, is_named))
                        json_array_append(needs, json_object_get(check, "id"));
        }
        return 0;
}

/* --- a/b --- */

static int ab(struct making *m, struct mlc_err *err)
{
        json_t *doc = json_object_get(m->rollout, "ab");
        const json_t *errors = with(json_object_get(m->plan, "checks"), "type", "error-rate");

        json_object_set_new(m->plan, "ab", json_null());
        if (!mlc_streq(m->strategy, "ab") || m->first)
                return 0;
        if (doc != NULL) {
                json_object_set(m->plan, "ab", doc);
                return 0;
        }
        if (errors == NULL)
                return mlc_fail_field(err, MLC_E_INVALID, "/rollout/ab",
                                      "say what is compared: ab: {metric, margin, horizon}");
        json_object_set_new(
                m->plan, "ab",
                json_pack("{s:O, s:O, s:O, s:i, s:n}", "metric", json_object_get(errors, "id"),
                          "alpha", json_object_get(errors, "alpha"), "margin",
                          json_object_get(errors, "margin"), "horizon", AB_HORIZON, "horizon_ms"));
        return 0;
}

/* --- whole --- */

static void settings(struct making *m)
{
        static const char *const texts[][2] = {{"on_harm", "rollback"},
                                               {"on_silence", "hold"},
                                               {"on_deadline", "pause"},
                                               {"on_lost_control", "stable"}};
        static const char *const values[] = {"exposure", "deadline_ms"};
        json_t *source =
                json_object_get(json_object_get(m->docs->environment, "metrics"), "prometheus");

        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                const char *s = text_get(m->rollout, texts[i][0]);

                json_object_set_new(m->plan, texts[i][0],
                                    json_string(*s != '\0' ? s : texts[i][1]));
        }
        for (size_t i = 0; i < ARRAY_LEN(values); i++) {
                json_t *v = json_object_get(m->rollout, values[i]);

                json_object_set_new(m->plan, values[i], v != NULL ? json_incref(v) : json_null());
        }
        json_object_set_new(m->plan, "source", source != NULL ? json_incref(source) : json_null());
}

int mlc_rollout_plan(const struct mlc_rollout_docs *docs, json_t **ret, struct mlc_err *err)
{
        const json_t *rollout = json_object_get(docs->model, "rollout");
        struct making m = {.docs = docs, .rollout = json_is_object(rollout) ? rollout : NULL};
        _cleanup_(json_decref_p) json_t *plan = NULL;
        json_t *v;
        size_t i;
        int r;

        assert(docs->environment != NULL);
        m.first = docs->first;
        m.strategy = m.rollout != NULL ? text_get(m.rollout, "strategy") : "none";
        plan = json_pack("{s:s, s:s, s:s, s:s, s:b}", "schema", "rollout-plan/v1", "model",
                         text_get(docs->model, "name"), "environment",
                         text_get(docs->environment, "name"), "strategy", m.strategy, "first",
                         m.first);
        m.plan = plan;
        settings(&m);
        r = steps(&m, err);
        if (r == 0)
                r = checks(&m, err);
        json_array_foreach (json_object_get(plan, "steps"), i, v) {
                if (r == 0)
                        r = checks_of_step(&m, v, i, err);
        }
        if (r == 0)
                r = ab(&m, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(plan);
        return 0;
}

static int validation_suits(const json_t *model, const char *environment, struct mlc_err *err)
{
        const json_t *route;
        size_t i;

        json_array_foreach (json_object_get(model, "routes"), i, route) {
                const char *mode = text_get(route, "validate");
                char at[MLC_JSON_POINTER_MAX];

                if (*mode == '\0' || mlc_streq(mode, "off") ||
                    !named(json_object_get(route, "environments"), environment))
                        continue;
                (void)snprintf(at, sizeof(at), "/routes/%zu/validate", i);
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "haproxy of environment '%s' checks no requests",
                                      environment);
        }
        return 0;
}

int mlc_rollout_suits(const struct mlc_rollout_docs *docs, struct mlc_err *err)
{
        const json_t *rollout = json_object_get(docs->model, "rollout"), *check, *step;
        const struct making m = {.docs = docs, .rollout = rollout};
        bool mirrors = mlc_streq(text_get(rollout, "strategy"), "shadow") &&
                       json_array_size(json_object_get(rollout, "steps")) == 0;
        bool waves = false;
        size_t i;
        int r;

        r = json_array_size(json_object_get(docs->environment, "targets")) > 0
                    ? waves_suit(json_object_get(rollout, "steps"), docs->environment, &waves, err)
                    : 0;
        if (r < 0 || !counts_only(docs->environment))
                return r;
        r = validation_suits(docs->model, text_get(docs->environment, "name"), err);
        json_array_foreach (json_object_get(rollout, "steps"), i, step)
                mirrors = mirrors || num_get(step, "mirror", 0) > 0;
        if (r == 0 && mirrors && !docs->mirrored)
                r = no_copies(err);
        json_array_foreach (json_object_get(rollout, "checks"), i, check)
                if (r == 0 && compares(check))
                        r = check_allowed(&m, check, i, err);
        return r;
}
