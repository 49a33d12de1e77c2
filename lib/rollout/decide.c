/* SPDX-License-Identifier: Apache-2.0 */
/* From what the checks say to what the rollout does. */
#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/analysis.h"
#include "rollout/num.h"
#include "rollout/plan.h"
#include "rollout/result.h"
#include "rollout/stats.h"

#define SILENT_MS 60000 /* so long without a request is silence */
#define SPLIT_LEAST 100 /* requests before the split is judged */
#define SPLIT_E 1000 /* e-value of a split that is not the table's */
#define SPLIT_FACTOR 2.0 /* of the odds, when users and not requests are split */

struct look {
        const json_t *plan, *stats, *step, *next; /* next NULL: the last one */
        const struct mlc_rollout_now *now;
        json_t *checks, *waiting, *split, *exposure, *ab; /* of the reply; NULL: null */
        char reason[256];
        bool harm;
};

/* The first reason stands. */
static void reason(struct look *l, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void reason(struct look *l, const char *fmt, ...)
{
        va_list ap;

        if (l->reason[0] != '\0')
                return;
        va_start(ap, fmt);
        (void)vsnprintf(l->reason, sizeof(l->reason), fmt, ap);
        va_end(ap);
}

static void wait_for(struct look *l, const char *what, const char *check, json_t *have,
                     json_t *need)
{
        json_array_append_new(l->waiting,
                              json_pack("{s:s, s:o, s:o, s:o}", "what", what, "check",
                                        check != NULL ? json_string(check) : json_null(), "have",
                                        have, "need", need));
}

static bool named(const json_t *list, const char *id)
{
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (mlc_streq(json_string_value(v), id))
                        return true;
        return false;
}

/* --- is the traffic split as the table says? --- */

/* The newest generation in which both arms had live requests. */
static const json_t *split_generation(const json_t *stats)
{
        const json_t *list = json_object_get(stats, "generations");

        for (size_t i = json_array_size(list); i-- > 0;) {
                const json_t *g = json_array_get(list, i);

                if (!json_is_true(json_object_get(g, "shadow")))
                        return g;
        }
        return NULL;
}

static bool split_is_off(struct look *l)
{
        const json_t *g = split_generation(l->stats);
        int64_t c = int_get(json_object_get(g, "candidate"), "requests"),
                s = int_get(json_object_get(g, "stable"), "requests"),
                weight = int_get(g, "weight");
        double w = (double)weight / MLC_ROLLOUT_ALL, e, odds;
        int64_t n = c + s;
        bool off;

        if (weight <= 0 || weight >= MLC_ROLLOUT_ALL || n < SPLIT_LEAST)
                return false;
        e = mlc_share_evalue(c, n, w);
        odds = ((double)c + 0.5) / ((double)s + 0.5) / (w / (1.0 - w));
        off = e >= log(SPLIT_E) && (!mlc_streq(text_get(g, "key"), "sticky") ||
                                    odds > SPLIT_FACTOR || odds < 1.0 / SPLIT_FACTOR);
        json_decref(l->split);
        l->split = json_pack("{s:o, s:o, s:I, s:o, s:o, s:b}", "expected", num_json(w), "observed",
                             num_json((double)c / (double)n), "n", (json_int_t)n, "e_value",
                             num_json(exp(e)), "p", num_json(mlc_sample_ratio_p(c, n, w)), "fault",
                             off);
        return off;
}

/* --- checks --- */

/* Whether it can prove that it is not worse; the others can only find nothing. */
static bool can_prove(const char *type)
{
        return strcmp(type, "prediction-distribution") != 0 && strcmp(type, "promql") != 0;
}

static bool is_rate(const char *type)
{
        return strcmp(type, "error-rate") == 0 || strcmp(type, "slower-than") == 0 ||
               strcmp(type, "labels") == 0;
}

static void exposed(struct look *l, const json_t *check, const struct result *r)
{
        double limit = num_get(l->plan, "exposure", NAN), w, bound;
        int64_t next = int_get(l->next, "weight");

        if (isnan(limit) || l->next == NULL ||
            (next <= int_get(l->step, "weight") && json_object_get(l->next, "targets") == NULL) ||
            !is_rate(text_get(check, "type")))
                return;
        w = (double)next / MLC_ROLLOUT_ALL;
        bound = isnan(r->interval.hi) ? w : fmax(r->interval.hi, 0.0) * w;
        if (bound > num_get(l->exposure, "bound", -1.0)) {
                json_decref(l->exposure);
                l->exposure = json_pack("{s:I, s:s, s:o, s:o}", "next_weight", (json_int_t)next,
                                        "check", text_get(check, "id"), "bound", num_json(bound),
                                        "limit", num_json(limit));
        }
        if (bound > limit) {
                wait_for(l, "exposure", text_get(check, "id"), num_json(bound), num_json(limit));
                reason(l, "the next weight could expose more than is bearable by check '%s'",
                       text_get(check, "id"));
        }
}

static void needed(struct look *l, const json_t *check, const struct result *r)
{
        bool proven = mlc_streq(text_get(l->step, "advance"), "proven");
        const char *id = text_get(check, "id");

        if (r->verdict == INCONCLUSIVE) {
                bool empty = mlc_streq(text_get(check, "type"), "promql") && isnan(r->value);

                wait_for(l, "check", id, json_string("inconclusive"), json_string("ok"));
                /* why not may differ at every look; the check's rule has it */
                reason(l, empty ? "check '%s' has no value" : "check '%s' is inconclusive", id);
        } else if (proven && r->verdict == OK && can_prove(text_get(check, "type"))) {
                wait_for(l, "check", id, json_string("ok"), json_string("proven"));
                reason(l, "check '%s' is not proven yet", id);
        }
        exposed(l, check, r);
}

static int checks(struct look *l, struct mlc_err *err)
{
        const json_t *check;
        char harm[256] = "";
        size_t i;

        json_array_foreach (json_object_get(l->plan, "checks"), i, check) {
                const char *id = text_get(check, "id");
                bool enforce = mlc_streq(text_get(check, "mode"), "enforce"),
                     decides = enforce && named(json_object_get(l->step, "checks"), id);
                struct result_in in = {check, l->stats, l->step, l->now->step};
                struct result r;
                int e = result_of(&in, &r, err);

                if (e < 0)
                        return e;
                json_array_append_new(l->checks, result_json(&r, check, decides));
                if (decides && r.verdict == HARM && harm[0] == '\0')
                        (void)snprintf(harm, sizeof(harm), "check '%s' proved harm", id);
                if (enforce && named(json_object_get(l->step, "needs"), id))
                        needed(l, check, &r);
        }
        if (harm[0] != '\0') {
                l->harm = true;
                (void)snprintf(l->reason, sizeof(l->reason), "%s", harm);
        }
        return 0;
}

/* --- minima --- */

static void minimum(struct look *l, const char *what, int64_t have, int64_t need)
{
        if (have >= need)
                return;
        wait_for(l, what, NULL, json_integer(have), json_integer(need));
        reason(l, strcmp(what, "for") == 0 ? "the step's time is not over" : "too few %s", what);
}

static void minima(struct look *l)
{
        char name[24];
        const json_t *done;
        int64_t requests = int_get(l->step, "requests");

        (void)snprintf(name, sizeof(name), "%u", l->now->step);
        done = json_object_get(json_object_get(l->stats, "steps"), name);
        if (requests == 0 && json_array_size(json_object_get(l->step, "needs")) > 0)
                requests = 1; /* no data is not good data */
        minimum(l, "requests", int_get(done, "requests"), requests);
        minimum(l, "labels", int_get(done, "labels"), int_get(l->step, "labels"));
        minimum(l, "for", l->now->step_ms, int_get(l->step, "for_ms"));
}

/* Once the horizon is reached the verdict stands. An undecided test needs a person. */
static int ab(struct look *l, bool *ret_undecided, struct mlc_err *err)
{
        const json_t *plan = json_object_get(l->plan, "ab");
        struct result_ab r;
        int e;

        *ret_undecided = false;
        if (!json_is_object(plan) || l->now->step != 0)
                return 0;
        e = result_ab(l->plan, l->stats, &r, err);
        if (e < 0)
                return e;
        {
                _cleanup_(json_decref_p) json_t *as =
                        json_pack("{s:O, s:s, s:s}", "id", json_object_get(plan, "metric"), "type",
                                  "ab", "mode", "enforce");

                l->ab = result_json(&r.r, as, true);
        }
        json_object_set_new(l->ab, "ended", json_boolean(r.ended));
        if (!r.ended) {
                wait_for(l, "horizon", text_get(plan, "metric"), json_integer(r.have),
                         r.need > 0 ? json_integer(r.need) : json_null());
                reason(l, "the horizon of the A/B test is not reached");
        } else if (r.r.verdict == HARM) {
                l->harm = true;
                (void)snprintf(l->reason, sizeof(l->reason), "the A/B test proved harm");
        }
        *ret_undecided = r.ended && r.r.verdict == INCONCLUSIVE;
        return 0;
}

/* --- the decision --- */

static const char *held(struct look *l, const char **ret_action)
{
        int64_t deadline = int_get(l->plan, "deadline_ms");

        /* what people sign is not void for an answer that is late */
        if (deadline > 0 && l->now->step_ms >= deadline && !l->now->asked) {
                char what[sizeof(l->reason)];

                memcpy(what, l->reason, sizeof(what));
                l->reason[0] = '\0';
                reason(l, "the deadline of the step is over: %.200s", what);
                *ret_action = text_get(l->plan, "on_deadline");
                return "deadline";
        }
        return "hold";
}

/* Whether somebody is waited for: an operator, those who approve, or both. */
static bool people(struct look *l, bool undecided)
{
        bool approvals = json_array_size(json_object_get(l->step, "approvals")) > 0;
        bool person = json_is_true(json_object_get(l->step, "wait")) || (undecided && !approvals);

        if (approvals && !l->now->signed_off) {
                wait_for(l, "approval", NULL, json_null(), json_null());
                reason(l, undecided ? "the A/B test ended undecided: approvals decide"
                                    : "approvals are needed");
        }
        if (person && !l->now->approved) {
                wait_for(l, "person", NULL, json_null(), json_null());
                reason(l, undecided ? "the A/B test ended undecided: a person decides"
                                    : "an operator says when to go on");
        }
        return json_array_size(l->waiting) > 0;
}

static const char *decide(struct look *l, bool undecided, const char **ret_action)
{
        bool minute = l->now->silent_ms >= SILENT_MS;
        bool silent = l->now->fault != NULL || (minute && json_array_size(l->waiting) > 0);
        bool off = split_is_off(l);

        if (l->harm) {
                *ret_action = text_get(l->plan, "on_harm");
                return "harm";
        }
        if (silent) {
                wait_for(l, "data", NULL, json_integer(l->now->silent_ms), json_null());
                l->reason[0] = '\0';
                reason(l, "no data: %s", l->now->fault != NULL ? l->now->fault : "no requests");
                if (mlc_streq(text_get(l->plan, "on_silence"), "pause") &&
                    (minute || l->now->hasty)) {
                        *ret_action = "pause";
                        return "silence";
                }
                return held(l, ret_action);
        }
        if (off) {
                wait_for(l, "split", NULL, json_incref(json_object_get(l->split, "observed")),
                         json_incref(json_object_get(l->split, "expected")));
                l->reason[0] = '\0';
                reason(l, "the traffic is not split as the table says");
                return held(l, ret_action);
        }
        if (json_array_size(l->waiting) > 0)
                return held(l, ret_action);
        if (people(l, undecided))
                return "wait";
        reason(l, "everything that this step asks for is met");
        return "advance";
}

static json_t *or_null(json_t *v)
{
        return v != NULL ? json_incref(v) : json_null();
}

int mlc_rollout_decide(const json_t *plan, const json_t *stats, const struct mlc_rollout_now *now,
                       json_t **ret, struct mlc_err *err)
{
        const json_t *steps = json_object_get(plan, "steps");
        _cleanup_(json_decref_p) json_t *list = json_array(), *waiting = json_array();
        struct look l = {.plan = plan,
                         .stats = stats,
                         .step = json_array_get(steps, now->step),
                         .next = json_array_get(steps, now->step + 1),
                         .now = now,
                         .checks = list,
                         .waiting = waiting};
        const char *decision, *action = NULL;
        bool undecided = false;
        int r;

        if (l.step == NULL || !mlc_streq(text_get(stats, "schema"), "rollout-stats/v1"))
                return mlc_fail(err, MLC_E_INVALID,
                                "a step of the plan and its statistics are needed");
        r = checks(&l, err);
        if (r == 0)
                r = ab(&l, &undecided, err);
        if (r == 0) {
                minima(&l);
                decision = decide(&l, undecided, &action);
                *ret = json_pack("{s:s, s:i, s:s, s:s, s:o, s:O, s:o, s:o, s:O, s:o}", "schema",
                                 "rollout-decision/v1", "step", (int)now->step, "decision",
                                 decision, "reason", l.reason, "action",
                                 action != NULL ? json_string(action) : json_null(), "waiting_for",
                                 waiting, "exposure", or_null(l.exposure), "split",
                                 or_null(l.split), "checks", list, "ab", or_null(l.ab));
                assert(*ret != NULL);
        }
        json_decref(l.exposure);
        json_decref(l.split);
        json_decref(l.ab);
        return r;
}

int mlc_rollout_decide_again(const json_t *plan, const json_t *stats, const json_t *inputs,
                             json_t **ret, struct mlc_err *err)
{
        int64_t step = int_get(inputs, "step");
        const struct mlc_rollout_now now = {
                .step = (unsigned)step,
                .step_ms = int_get(inputs, "step_ms"),
                .silent_ms = int_get(inputs, "silent_ms"),
                .fault = json_string_value(json_object_get(inputs, "fault")),
                .approved = json_is_true(json_object_get(inputs, "approved")),
                .signed_off = json_is_true(json_object_get(inputs, "signed_off")),
                .asked = json_is_true(json_object_get(inputs, "asked")),
                .hasty = json_object_get(inputs, "asked") == NULL};

        if (step < 0 || step > MLC_ROLLOUT_STEPS_MAX)
                return mlc_fail(err, MLC_E_INVALID, "there is no such step");
        return mlc_rollout_decide(plan, stats, &now, ret, err);
}
