/* SPDX-License-Identifier: Apache-2.0 */
/* The plan of a rollout in a model's document. Keys that came later are in the normalised form only
 * where they are written, so that older documents keep their digest. */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "policy/document.h"
#include "policy/read.h"

#define STEPS_MAX 50
#define TARGETS_MAX 64

static const struct pol_range PERCENT = {0, 1, true, false};
static const struct pol_range SHARE = {0, 1, false, false};
static const struct pol_range INNER = {0, 1, true, true};
static const struct pol_range MARGIN = {0, 1, false, true};
static const struct pol_range RELATIVE = {0, 10, false, false};
static const struct pol_range TOLERANCE = {0, 1e300, false, false};
static const struct pol_range ANY = {-1e300, 1e300, false, false};
static const struct pol_range ALPHAS = {0, 0.5, true, true};
static const int64_t COUNT[2] = {0, 1000000000};

static int number_if(const struct pol_in *in, const char *key, const struct pol_range *range,
                     struct mlc_err *err)
{
        return pol_has(in, key) ? pol_number(in, key, range, NULL, err) : 0;
}

/* --- steps --- */

static int step_later(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const waits[] = {"person", NULL};
        int r = 0;

        if (pol_has(in, "labels"))
                r = pol_int(in, "labels", COUNT, 0, err);
        if (r == 0 && pol_has(in, "checks"))
                r = pol_texts(in, "checks", pol_id, MLC_CHECKS_MAX, err);
        if (r == 0 && pol_has(in, "wait"))
                r = pol_enum(in, "wait", waits, NULL, err);
        if (r == 0 && pol_has(in, "targets")) {
                r = pol_texts(in, "targets", pol_id, TARGETS_MAX, err);
                if (r == 0 && json_array_size(json_object_get(in->out, "targets")) == 0)
                        r = pol_fail(in, "targets", err, "name some, or leave it out for all");
        }
        if (r < 0 || !pol_has(in, "approvals"))
                return r;
        r = pol_items(in, "approvals", pol_read_approval, MLC_APPROVAL_RULES_MAX, err);
        return r < 0 ? r : pol_distinct(in, "approvals", "name", err);
}

static int step(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"mirror",  "weight",    "requests", "for",
                                           "labels",  "advance",   "checks",   "wait",
                                           "targets", "approvals", NULL};
        static const char *const advance[] = {"no-harm", "proven", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r < 0)
                return r;
        if (pol_has(in, "mirror") == pol_has(in, "weight"))
                return pol_fail(in, NULL, err, "a step has either 'mirror' or 'weight'");
        r = pol_number(in, "mirror", &PERCENT, NULL, err);
        if (r == 0)
                r = pol_number(in, "weight", &PERCENT, NULL, err);
        if (r == 0)
                r = pol_int(in, "requests", COUNT, 0, err);
        if (r == 0)
                r = pol_duration(in, "for", err);
        if (r == 0)
                r = pol_enum(in, "advance", advance, "no-harm", err);
        return r < 0 ? r : step_later(in, err);
}

/* --- checks --- */

static int error_rate(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "margin", err);

        if (r == 0)
                r = pol_number(in, "margin", &MARGIN, NULL, err);
        return r < 0 ? r : pol_number(in, "alpha", &ALPHAS, "0.0500000000", err);
}

static int slower_than(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "limit", err);

        if (r == 0)
                r = pol_duration(in, "limit", err);
        return r < 0 ? r : error_rate(in, err);
}

/* A quantile of the latency, against stable's: worse by at most a share of it. */
static int latency(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "margin", err);

        if (r == 0)
                r = pol_number(in, "margin", &RELATIVE, NULL, err);
        if (r == 0)
                r = pol_number(in, "quantile", &INNER, "0.990000000", err);
        return r < 0 ? r : pol_number(in, "alpha", &ALPHAS, "0.0500000000", err);
}

static int distribution(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const methods[] = {"psi", "chi-square", "ks", NULL};
        int r = pol_number(in, "alpha", &ALPHAS, "0.0500000000", err);

        if (r == 0 && pol_has(in, "method"))
                r = pol_enum(in, "method", methods, NULL, err);
        return r < 0 ? r : number_if(in, "floor", &SHARE, err);
}

static int agreement(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "at_least", err);

        if (r == 0)
                r = pol_number(in, "at_least", &SHARE, NULL, err);
        if (r == 0)
                r = number_if(in, "tolerance", &TOLERANCE, err);
        if (r == 0)
                r = number_if(in, "relative_tolerance", &SHARE, err);
        return r < 0 ? r : number_if(in, "alpha", &ALPHAS, err);
}

static int source(const char *s, struct mlc_err *err)
{
        return pol_url(s, err);
}

static int promql(const struct pol_in *in, struct mlc_err *err)
{
        static const int64_t times[2] = {1, 1000};
        int r = pol_need(in, "query", err);

        if (r == 0)
                r = pol_text(in, "query", NULL, err);
        if (r == 0 && pol_has(in, "at_most") == pol_has(in, "at_least"))
                return pol_fail(in, NULL, err, "either 'at_least' or 'at_most' is needed");
        if (r == 0)
                r = pol_number(in, "at_most", &ANY, NULL, err);
        if (r == 0)
                r = pol_number(in, "at_least", &ANY, NULL, err);
        if (r == 0)
                r = pol_int(in, "consecutive", times, 3, err);
        return r < 0 ? r : pol_text(in, "source", source, err);
}

static const struct {
        const char *name;
        pol_item *read;
        const char *keys[10];
} TYPES[] = {
        {"error-rate", error_rate, {"id", "type", "mode", "margin", "alpha", NULL}},
        {"slower-than", slower_than, {"id", "type", "mode", "limit", "margin", "alpha", NULL}},
        {"latency", latency, {"id", "type", "mode", "quantile", "margin", "alpha", NULL}},
        {"prediction-distribution",
         distribution,
         {"id", "type", "mode", "alpha", "method", "floor", NULL}},
        {"shadow-agreement",
         agreement,
         {"id", "type", "mode", "at_least", "tolerance", "relative_tolerance", "alpha", NULL}},
        {"labels", error_rate, {"id", "type", "mode", "margin", "alpha", NULL}},
        {"promql",
         promql,
         {"id", "type", "mode", "query", "at_most", "at_least", "consecutive", "source", NULL}},
};

static int check(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const modes[] = {"enforce", "warn", "observe", NULL};
        static const char *const types[] = {
                "error-rate",       "slower-than", "latency", "prediction-distribution",
                "shadow-agreement", "labels",      "promql",  NULL};
        const char *type;
        int r;

        if (!json_is_object(in->obj))
                return pol_fail(in, NULL, err, "a check is {id: …, type: …, …}");
        r = pol_enum(in, "type", types, NULL, err);
        if (r == 0)
                r = pol_need(in, "id", err);
        if (r == 0)
                r = pol_text(in, "id", pol_id, err);
        if (r == 0)
                r = pol_enum(in, "mode", modes, "enforce", err);
        if (r < 0)
                return r;
        type = json_string_value(json_object_get(in->out, "type"));
        for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
                if (strcmp(TYPES[i].name, type) != 0)
                        continue;
                r = pol_only(in, TYPES[i].keys, NULL, err);
                return r < 0 ? r : TYPES[i].read(in, err);
        }
        return pol_fail(in, "type", err, "is not known");
}

/* --- a/b --- */

static int horizon(const struct pol_in *in, struct mlc_err *err)
{
        static const int64_t range[2] = {100, 1000000000};
        int r;

        if (!json_is_string(json_object_get(in->obj, "horizon"))) {
                r = pol_int(in, "horizon", range, 0, err);
                json_object_set_new(in->out, "horizon_ms", json_null());
                return r;
        }
        json_object_set_new(in->out, "horizon", json_null());
        return pol_duration(in, "horizon", err);
}

static int ab(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"metric", "alpha", "margin", "horizon", NULL};
        int r = pol_only(in, keys, NULL, err);

        for (size_t i = 0; r == 0 && keys[i] != NULL; i++)
                if (i != 1)
                        r = pol_need(in, keys[i], err);
        if (r == 0)
                r = pol_text(in, "metric", pol_id, err);
        if (r == 0)
                r = pol_number(in, "alpha", &ALPHAS, "0.0500000000", err);
        if (r == 0)
                r = pol_number(in, "margin", &MARGIN, NULL, err);
        return r < 0 ? r : horizon(in, err);
}

static const json_t *check_of(const struct pol_in *in, const char *id)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(in->out, "checks"), i, v)
                if (mlc_streq(json_string_value(json_object_get(v, "id")), id))
                        return v;
        return NULL;
}

/* What an A/B test compares is counted request by request. */
static int ab_metric(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const types[] = {"error-rate", "slower-than", "labels", NULL};
        const char *name =
                json_string_value(json_object_get(json_object_get(in->out, "ab"), "metric"));
        const json_t *found = check_of(in, name);
        const char *type = json_string_value(json_object_get(found, "type"));

        for (size_t i = 0; found != NULL && types[i] != NULL; i++)
                if (mlc_streq(types[i], type))
                        return 0;
        return pol_fail(in, "ab", err,
                        "'metric' is the id of a check of type error-rate, slower-than or labels");
}

/* --- whole --- */

/* Steps name checks that there are. */
static int step_checks(const struct pol_in *in, struct mlc_err *err)
{
        const json_t *list = json_object_get(in->out, "steps"), *s, *id;
        char at[MLC_JSON_POINTER_MAX];
        struct pol_in place = {NULL, at, NULL};
        size_t i, j;

        if (json_array_size(json_object_get(in->out, "checks")) == 0)
                return 0; /* the defaults, which the plan makes */
        json_array_foreach (list, i, s)
                json_array_foreach (json_object_get(s, "checks"), j, id) {
                        if (check_of(in, json_string_value(id)) != NULL)
                                continue;
                        (void)snprintf(at, sizeof(at), "%s/steps/%zu/checks/%zu", in->at, i, j);
                        return pol_fail(&place, NULL, err, "there is no check '%s'",
                                        json_string_value(id));
                }
        return 0;
}

static int later(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const ends[] = {"pause", "rollback", NULL};
        int r = number_if(in, "exposure", &PERCENT, err);

        if (r == 0 && pol_has(in, "on_deadline"))
                r = pol_enum(in, "on_deadline", ends, NULL, err);
        if (r == 0 && pol_has(in, "on_deadline") && !pol_has(in, "deadline"))
                return pol_fail(in, "on_deadline", err, "needs 'deadline'");
        if (r < 0 || !pol_has(in, "ab"))
                return r;
        if (!mlc_streq(json_string_value(json_object_get(in->out, "strategy")), "ab"))
                return pol_fail(in, "ab", err, "only goes with 'strategy: ab'");
        r = pol_object(in, "ab", ab, err);
        return r < 0 ? r : ab_metric(in, err);
}

int pol_read_rollout(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {
                "strategy",    "steps",    "checks", "on_harm",         "on_silence", "deadline",
                "on_deadline", "exposure", "ab",     "on_lost_control", NULL};
        static const char *const strategies[] = {"shadow", "canary", "blue-green",
                                                 "ab",     "none",   NULL};
        static const char *const harm[] = {"rollback", "pause", NULL};
        static const char *const silence[] = {"hold", "pause", NULL};
        static const char *const lost[] = {"stable", "hold", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_enum(in, "strategy", strategies, NULL, err);
        if (r == 0)
                r = pol_items(in, "steps", step, STEPS_MAX, err);
        if (r == 0)
                r = pol_items(in, "checks", check, MLC_CHECKS_MAX, err);
        if (r == 0)
                r = pol_distinct(in, "checks", "id", err);
        if (r == 0)
                r = step_checks(in, err);
        if (r == 0)
                r = pol_enum(in, "on_harm", harm, "rollback", err);
        if (r == 0)
                r = pol_enum(in, "on_silence", silence, "hold", err);
        if (r == 0)
                r = pol_duration(in, "deadline", err);
        if (r == 0)
                r = pol_enum(in, "on_lost_control", lost, "stable", err);
        return r < 0 ? r : later(in, err);
}
