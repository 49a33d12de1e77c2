/* SPDX-License-Identifier: Apache-2.0 */
/* Statistics of a rollout, and what is added to them at a look. */
#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/analysis.h"
#include "rollout/num.h"
#include "rollout/stats.h"

struct arm {
        int64_t requests, errors, labels, wrong;
        const json_t *latency, *outputs, *values;
};

struct fold {
        const json_t *plan, *in;
        json_t *out; /* statistics */
        int64_t generation, step, weight;
        bool shadow;
        struct arm candidate, stable;
};

json_t *mlc_rollout_stats_new(void)
{
        return json_pack(
                "{s:s, s:[], s:{s:{s:i, s:i}, s:{s:i, s:i}}, s:{}, s:{}, s:{}, s:[], s:{}, "
                "s:n}",
                "schema", "rollout-stats/v1", "generations", "totals", "candidate", "requests", 0,
                "errors", 0, "stable", "requests", 0, "errors", 0, "steps", "rates", "agreement",
                "classes", "promql", "ab");
}

/* --- reading the increment --- */

static int count(const json_t *obj, const char *at, const char *key, int64_t *ret,
                 struct mlc_err *err)
{
        const json_t *v = json_object_get(obj, key);
        char where[MLC_JSON_POINTER_MAX];

        if (v == NULL || json_is_null(v))
                return 0;
        mlc_json_pointer(where, at, key);
        if (!json_is_integer(v) || json_integer_value(v) < 0 ||
            json_integer_value(v) > STATS_COUNT_MAX)
                return mlc_fail_field(err, MLC_E_INVALID, where, "a count is expected");
        *ret = json_integer_value(v);
        return 0;
}

int stats_cells_add(const json_t *list, const char *at, struct stats_cells c, struct mlc_err *err)
{
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v) {
                int64_t cell = json_integer_value(json_array_get(v, 0)),
                        n = json_integer_value(json_array_get(v, 1));

                if (!json_is_integer(json_array_get(v, 0)) ||
                    !json_is_integer(json_array_get(v, 1)) || n < 0 || n > STATS_COUNT_MAX)
                        return mlc_fail_field(err, MLC_E_INVALID, at,
                                              "pairs of a bucket and a count are expected");
                cell -= c.first;
                cell = cell < 0 ? 0 : cell >= (int64_t)c.size ? (int64_t)c.size - 1 : cell;
                c.n[cell] += n;
        }
        return 0;
}

json_t *stats_cells_store(struct stats_cells c)
{
        json_t *list = json_array();

        for (unsigned i = 0; i < c.size; i++)
                if (c.n[i] > 0)
                        json_array_append_new(list, json_pack("[I, I]",
                                                              (json_int_t)c.first + (json_int_t)i,
                                                              (json_int_t)c.n[i]));
        return list;
}

int stats_latency_add(const json_t *buckets, const char *at, struct mlc_latency *h,
                      struct mlc_err *err)
{
        int64_t n[MLC_LATENCY_BUCKETS] = {0};
        int r = stats_cells_add(
                buckets, at, (struct stats_cells){n, MLC_LATENCY_FIRST, MLC_LATENCY_BUCKETS}, err);

        for (unsigned i = 0; r == 0 && i < MLC_LATENCY_BUCKETS; i++)
                h->n[i] += (uint64_t)n[i];
        return r;
}

/* {"zero", "positive", "negative"}, by magnitude, added to cells in order. */
static int values_add(const json_t *values, const char *at, int64_t *cells, struct mlc_err *err)
{
        static const char *const signs[] = {"positive", "negative"};
        int64_t zero = 0;
        int r = count(values, at, "zero", &zero, err);

        cells[MLC_SKETCH_SIDE] += zero;
        for (int side = 0; r == 0 && side < 2; side++) {
                int64_t n[MLC_SKETCH_SIDE] = {0};
                struct stats_cells c = {n, MLC_SKETCH_FIRST, MLC_SKETCH_SIDE};

                r = stats_cells_add(json_object_get(values, signs[side]), at, c, err);
                for (int i = 0; r == 0 && i < MLC_SKETCH_SIDE; i++)
                        cells[side == 0 ? MLC_SKETCH_SIDE + 1 + i : MLC_SKETCH_SIDE - 1 - i] +=
                                n[i];
        }
        return r;
}

static int outputs_check(const json_t *outputs, const char *at, struct mlc_err *err)
{
        const char *name;
        json_t *v;
        int r = 0;

        if (outputs != NULL && !json_is_object(outputs))
                return mlc_fail_field(err, MLC_E_INVALID, at, "classes with counts are expected");
        json_object_foreach ((json_t *)(uintptr_t)outputs, name, v) {
                int64_t ignored;

                r = count(outputs, at, name, &ignored, err);
                if (r < 0)
                        break;
        }
        return r;
}

static int arm_read(const json_t *in, const char *name, struct arm *ret, struct mlc_err *err)
{
        const json_t *arm = json_object_get(json_object_get(in, "arms"), name),
                     *labels = json_object_get(arm, "labels"),
                     *latency = json_object_get(arm, "latency"),
                     *gamma = json_object_get(latency, "gamma");
        char at[MLC_JSON_POINTER_MAX], inner[MLC_JSON_POINTER_MAX];
        int r;

        mlc_json_pointer(at, "/arms", name);
        r = count(arm, at, "requests", &ret->requests, err);
        if (r == 0)
                r = count(arm, at, "errors", &ret->errors, err);
        mlc_json_pointer(inner, at, "labels");
        if (r == 0)
                r = count(labels, inner, "n", &ret->labels, err);
        if (r == 0)
                r = count(labels, inner, "wrong", &ret->wrong, err);
        if (r == 0 && ret->wrong > ret->labels)
                r = mlc_fail_field(err, MLC_E_INVALID, inner, "more wrong than labels");
        mlc_json_pointer(inner, at, "latency");
        if (r == 0 && gamma != NULL && !mlc_streq(json_string_value(gamma), MLC_LATENCY_GAMMA_TEXT))
                r = mlc_fail_field(err, MLC_E_INVALID, inner, "other buckets than gamma %s",
                                   MLC_LATENCY_GAMMA_TEXT);
        ret->latency = json_object_get(latency, "buckets");
        ret->outputs = json_object_get(arm, "outputs");
        ret->values = json_object_get(arm, "values");
        mlc_json_pointer(inner, at, "outputs");
        return r < 0 ? r : outputs_check(ret->outputs, inner, err);
}

static int fold_read(struct fold *f, struct mlc_err *err)
{
        int r;

        if (!json_is_integer(json_object_get(f->in, "generation")))
                return mlc_fail_field(err, MLC_E_INVALID, "/generation",
                                      "an increment belongs to a generation");
        r = count(f->in, "", "generation", &f->generation, err);
        if (r == 0)
                r = count(f->in, "", "step", &f->step, err);
        if (r == 0)
                r = count(f->in, "", "weight", &f->weight, err);
        if (r == 0 && f->weight > 10000)
                r = mlc_fail_field(err, MLC_E_INVALID, "/weight", "a weight is at most 10000");
        f->shadow = mlc_streq(text_get(f->in, "source"), "shadow");
        if (r == 0)
                r = arm_read(f->in, "candidate", &f->candidate, err);
        if (r == 0)
                r = arm_read(f->in, "stable", &f->stable, err);
        if (r == 0 && f->shadow &&
            json_object_get(json_object_get(json_object_get(f->in, "arms"), "stable"),
                            "requests") == NULL)
                f->stable.requests = f->candidate.requests;
        return r;
}

/* --- adding it --- */

static json_t *generation_of(struct fold *f)
{
        json_t *list = json_object_get(f->out, "generations"), *g;

        for (size_t i = json_array_size(list); i-- > 0;) {
                g = json_array_get(list, i);
                if (int_get(g, "generation") == f->generation &&
                    json_is_true(json_object_get(g, "shadow")) == f->shadow)
                        return g;
        }
        if (json_array_size(list) >= STATS_GENERATIONS)
                json_array_remove(list, 0);
        g = json_pack("{s:I, s:I, s:I, s:s, s:b, s:{}, s:{}}", "generation",
                      (json_int_t)f->generation, "step", (json_int_t)f->step, "weight",
                      (json_int_t)f->weight, "key",
                      mlc_streq(text_get(f->in, "key"), "sticky") ? "sticky" : "random", "shadow",
                      f->shadow, "candidate", "stable");
        json_array_append_new(list, g);
        return g;
}

static json_t *step_of(struct fold *f)
{
        char name[24];

        (void)snprintf(name, sizeof(name), "%" PRId64, f->step);
        return child(json_object_get(f->out, "steps"), name);
}

static void add_counts(struct fold *f)
{
        json_t *places[] = {generation_of(f), json_object_get(f->out, "totals")};
        json_t *step = step_of(f);

        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                int_add(child(places[i], "candidate"), "requests", f->candidate.requests);
                int_add(child(places[i], "candidate"), "errors", f->candidate.errors);
                int_add(child(places[i], "stable"), "requests", f->stable.requests);
                int_add(child(places[i], "stable"), "errors", f->stable.errors);
        }
        int_add(step, "requests", f->candidate.requests);
        int_add(step, "labels",
                f->candidate.labels + int_get(json_object_get(f->in, "paired_labels"), "n"));
}

static int slow_of(const struct arm *arm, int64_t limit_ms, struct mlc_counts *ret,
                   struct mlc_err *err)
{
        struct mlc_latency h = {{0}};
        int r = stats_latency_add(arm->latency, "/arms", &h, err);

        if (r < 0)
                return r;
        ret->n = (int64_t)mlc_latency_count(&h);
        ret->k = (int64_t)mlc_latency_above(&h, (uint64_t)limit_ms * 1000);
        return 0;
}

static int add_pairs(struct fold *f, struct track *t, struct mlc_err *err)
{
        const json_t *pairs = json_object_get(f->in, "paired_labels");
        int64_t n = 0, only_stable = 0, only_candidate = 0;
        int r = count(pairs, "/paired_labels", "n", &n, err);

        if (r == 0)
                r = count(pairs, "/paired_labels", "only_stable", &only_stable, err);
        if (r == 0)
                r = count(pairs, "/paired_labels", "only_candidate", &only_candidate, err);
        if (r == 0 && only_stable + only_candidate > n)
                r = mlc_fail_field(err, MLC_E_INVALID, "/paired_labels",
                                   "more differ than there are");
        if (r == 0 && n > 0)
                track_add_pairs(t, n, only_stable, only_candidate);
        return r;
}

/* error-rate, slower-than, labels */
static int add_rate(struct fold *f, const json_t *check, struct mlc_err *err)
{
        const char *type = text_get(check, "type");
        json_t *json = child(json_object_get(f->out, "rates"), text_get(check, "id"));
        struct track_test test = {num_get(check, "alpha_harm", 0.05),
                                  num_get(check, "margin", 0.0)};
        struct mlc_counts c = {f->candidate.errors, f->candidate.requests},
                          s = {f->stable.errors, f->stable.requests};
        struct track t;
        int r = track_load(json, &t, err);

        if (r == 0 && strcmp(type, "slower-than") == 0) {
                r = slow_of(&f->candidate, int_get(check, "limit_ms"), &c, err);
                if (r == 0)
                        r = slow_of(&f->stable, int_get(check, "limit_ms"), &s, err);
        } else if (strcmp(type, "labels") == 0) {
                c = (struct mlc_counts){f->candidate.wrong, f->candidate.labels};
                s = (struct mlc_counts){f->stable.wrong, f->stable.labels};
                if (r == 0)
                        r = add_pairs(f, &t, err);
        }
        if (r < 0 || (f->shadow && strcmp(type, "slower-than") == 0))
                return r; /* copies are answered off the path of requests */
        track_add(&t, json, (struct track_stratum){f->generation, f->shadow},
                  (struct mlc_batch){c.n, s.n, c.k, s.k}, test);
        track_store(&t, json);
        return 0;
}

/* What belongs to the present step only: begun again when the step is another. What a step that is
 * over brings late is left out: NULL. */
static json_t *of_step(struct fold *f, const char *name)
{
        json_t *v = json_object_get(f->out, name);

        if (v != NULL && int_get(v, "step") > f->step)
                return NULL;
        if (v == NULL || int_get(v, "step") < f->step) {
                v = json_pack("{s:I}", "step", (json_int_t)f->step);
                json_object_set_new(f->out, name, v);
        }
        return v;
}

static int add_latency(struct fold *f, struct mlc_err *err)
{
        json_t *of = of_step(f, "latency");
        const struct arm *arms[] = {&f->candidate, &f->stable};
        static const char *const names[] = {"candidate", "stable"};

        for (size_t i = 0; of != NULL && i < 2; i++) {
                int64_t n[MLC_LATENCY_BUCKETS] = {0};
                struct stats_cells c = {n, MLC_LATENCY_FIRST, MLC_LATENCY_BUCKETS};
                int r = stats_cells_add(json_object_get(of, names[i]), "/latency", c, err);

                if (r == 0)
                        r = stats_cells_add(arms[i]->latency, "/arms", c, err);
                if (r < 0)
                        return r;
                json_object_set_new(of, names[i], stats_cells_store(c));
        }
        return 0;
}

static int add_outputs(struct fold *f, struct mlc_err *err)
{
        static const char *const names[] = {"candidate", "stable"}, *const values[] = {
                                                                            "candidate_values",
                                                                            "stable_values"};
        const struct arm *arms[] = {&f->candidate, &f->stable};
        json_t *of = of_step(f, "outputs");

        for (size_t i = 0; of != NULL && i < 2; i++) {
                json_t *classes = child(of, names[i]), *v;
                int64_t n[MLC_SKETCH_CELLS] = {0};
                struct stats_cells c = {n, 0, MLC_SKETCH_CELLS};
                const char *name;
                int r;

                json_object_foreach ((json_t *)(uintptr_t)arms[i]->outputs, name, v)
                        int_add(classes,
                                json_object_get(classes, name) != NULL ||
                                                json_object_size(classes) < MLC_ROLLOUT_CLASSES_MAX
                                        ? name
                                        : "",
                                json_integer_value(v));
                r = stats_cells_add(json_object_get(of, values[i]), "/outputs", c, err);
                if (r == 0)
                        r = values_add(arms[i]->values, "/arms", n, err);
                if (r < 0)
                        return r;
                json_object_set_new(of, values[i], stats_cells_store(c));
        }
        return 0;
}

static int64_t outputs_n(const json_t *of, const char *classes, const char *values)
{
        const json_t *v;
        const char *name;
        int64_t n = 0;
        size_t i;

        json_object_foreach (json_object_get(of, classes), name, v)
                n += json_integer_value(v);
        if (n > 0)
                return n;
        json_array_foreach (json_object_get(of, values), i, v)
                n += json_integer_value(json_array_get(v, 1));
        return n;
}

/*
 * Tests of a whole distribution hold at planned looks only: of each step at 100 outputs of the
 * smaller arm, 200, 400, …; look k of the rollout at alpha / (k (k + 1)), which sums to alpha.
 */
static void look(struct fold *f, const json_t *check)
{
        json_t *of = json_object_get(f->out, "outputs"),
               *l = child(child(f->out, "looks"), text_get(check, "id")), *result;
        int64_t a = outputs_n(of, "candidate", "candidate_values"),
                b = outputs_n(of, "stable", "stable_values"), n = a < b ? a : b;
        double k, alpha;

        if (int_get(of, "step") > f->step)
                return;
        if (json_object_get(l, "look") == NULL || int_get(l, "step") != f->step) {
                json_object_set_new(l, "step", json_integer(f->step));
                json_object_set_new(l, "next", json_integer(STATS_LOOK_FIRST));
                json_object_set_new(l, "look", json_integer(int_get(l, "look")));
        }
        if (n < int_get(l, "next"))
                return;
        int_add(l, "look", 1);
        while (n >= int_get(l, "next"))
                json_object_set_new(l, "next", json_integer(2 * int_get(l, "next")));
        k = (double)int_get(l, "look");
        alpha = num_get(check, "alpha_harm", 0.05) / (k * (k + 1.0));
        result = stats_look_at((struct stats_look){check, of});
        json_object_set_new(result, "alpha", num_json(alpha));
        json_object_set_new(result, "step", json_integer(f->step));
        json_object_set_new(l, "result", result);
        if (num_get(result, "p", 1.0) < alpha &&
            num_get(result, "effect", 0.0) >= num_get(check, "floor", 0.1))
                json_object_set(l, "harm", result);
}

static int add_agreement(struct fold *f, const json_t *check, struct mlc_err *err)
{
        const char *id = text_get(check, "id");
        const json_t *pairs = json_object_get(f->in, "pairs"),
                     *noise = json_object_get(f->in, "noise");
        json_t *a = child(json_object_get(f->out, "agreement"), id);
        int64_t n = 0, agree = 0, noise_n = 0, noise_agree = 0;
        int r = count(pairs, "/pairs", "n", &n, err);

        if (r == 0)
                r = count(json_object_get(pairs, "agree"), "/pairs/agree", id, &agree, err);
        if (r == 0)
                r = count(noise, "/noise", "n", &noise_n, err);
        if (r == 0)
                r = count(json_object_get(noise, "agree"), "/noise/agree", id, &noise_agree, err);
        if (r == 0 && (agree > n || noise_agree > noise_n))
                r = mlc_fail_field(err, MLC_E_INVALID, "/pairs", "more agree than there are");
        if (r < 0)
                return r;
        int_add(a, "n", n);
        int_add(a, "agree", agree);
        int_add(a, "noise_n", noise_n);
        int_add(a, "noise_agree", noise_agree);
        return 0;
}

/* The row of this pair; beyond the most, the one that stands for all others. */
static json_t *class_row(json_t *list, const char *stable, const char *candidate)
{
        const char *names[2] = {stable, candidate};
        json_t *row;
        size_t i;

        if (json_array_size(list) >= STATS_PAIRS_MAX)
                names[0] = names[1] = "";
        json_array_foreach (list, i, row)
                if ((mlc_streq(json_string_value(json_array_get(row, 0)), stable) &&
                     mlc_streq(json_string_value(json_array_get(row, 1)), candidate)) ||
                    (mlc_streq(json_string_value(json_array_get(row, 0)), names[0]) &&
                     mlc_streq(json_string_value(json_array_get(row, 1)), names[1])))
                        return row;
        row = json_pack("[s, s, i]", names[0], names[1], 0);
        json_array_append_new(list, row);
        return row;
}

static int add_classes(struct fold *f, struct mlc_err *err)
{
        const json_t *v, *list = json_object_get(json_object_get(f->in, "pairs"), "classes");
        size_t i;

        json_array_foreach (list, i, v) {
                const char *stable = json_string_value(json_array_get(v, 0)),
                           *candidate = json_string_value(json_array_get(v, 1));
                int64_t n = json_integer_value(json_array_get(v, 2));
                json_t *row;

                if (stable == NULL || candidate == NULL || n < 0 || n > STATS_COUNT_MAX)
                        return mlc_fail_field(err, MLC_E_INVALID, "/pairs/classes",
                                              "two classes and a count are expected");
                row = class_row(json_object_get(f->out, "classes"), stable, candidate);
                json_array_set_new(row, 2,
                                   json_integer(n + json_integer_value(json_array_get(row, 2))));
        }
        return 0;
}

static void add_promql(struct fold *f, const json_t *check)
{
        const char *id = text_get(check, "id");
        const json_t *v = json_object_get(json_object_get(f->in, "promql"), id);
        json_t *p;
        double value = num_of(json_object_get(v, "value")),
               at_most = num_get(check, "at_most", INFINITY),
               at_least = num_get(check, "at_least", -INFINITY);

        if (v == NULL)
                return;
        p = child(json_object_get(f->out, "promql"), id);
        if (!isfinite(value)) { /* no data is neither good nor bad: the run of bad ones stays */
                json_object_set_new(p, "value", json_null());
                json_object_set_new(p, "error",
                                    json_string(*text_get(v, "error") != '\0'
                                                        ? text_get(v, "error")
                                                        : "the query has no value"));
                return;
        }
        int_add(p, "n", 1);
        json_object_set_new(p, "step", json_integer(f->step));
        json_object_set_new(p, "value", num_json(value));
        json_object_set_new(p, "error", json_null());
        json_object_set_new(
                p, "beyond",
                json_integer(value > at_most || value < at_least ? int_get(p, "beyond") + 1 : 0));
}

/* When the horizon of an A/B test is reached its counts are frozen: what is looked at later changes
 * nothing. */
static void freeze(struct fold *f)
{
        const json_t *ab = json_object_get(f->plan, "ab"),
                     *rate = json_object_get(json_object_get(f->out, "rates"),
                                             text_get(ab, "metric"));
        json_t *state;
        int64_t c = int_get(json_object_get(rate, "candidate"), "n"),
                s = int_get(json_object_get(rate, "stable"), "n"),
                pairs = int_get(json_object_get(rate, "pairs"), "n"),
                horizon = int_get(ab, "horizon"), span = int_get(ab, "horizon_ms");

        if (!json_is_object(ab) || rate == NULL)
                return;
        if (!json_is_object(json_object_get(f->out, "ab")))
                json_object_set_new(f->out, "ab", json_pack("{s:n}", "frozen"));
        state = json_object_get(f->out, "ab");
        if (json_object_get(state, "began_ms") == NULL &&
            json_is_integer(json_object_get(f->in, "at_ms")))
                json_object_set(state, "began_ms", json_object_get(f->in, "at_ms"));
        if (json_is_object(json_object_get(state, "frozen")))
                return;
        if ((horizon > 0 && ((c >= horizon && s >= horizon) || pairs >= horizon)) ||
            (span > 0 && json_object_get(state, "began_ms") != NULL &&
             int_get(f->in, "at_ms") - int_get(state, "began_ms") >= span))
                json_object_set_new(state, "frozen",
                                    json_pack("{s:O, s:O, s:O}", "candidate",
                                              json_object_get(rate, "candidate"), "stable",
                                              json_object_get(rate, "stable"), "pairs",
                                              json_object_get(rate, "pairs")));
}

static int add_check(struct fold *f, const json_t *check, struct mlc_err *err)
{
        const char *type = text_get(check, "type");

        if (strcmp(type, "shadow-agreement") == 0)
                return add_agreement(f, check, err);
        if (strcmp(type, "prediction-distribution") == 0)
                look(f, check);
        else if (strcmp(type, "promql") == 0)
                add_promql(f, check);
        else if (strcmp(type, "latency") != 0)
                return add_rate(f, check, err);
        return 0;
}

static bool has_type(const json_t *plan, const char *type)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(plan, "checks"), i, v)
                if (strcmp(text_get(v, "type"), type) == 0)
                        return true;
        return false;
}

int mlc_rollout_fold(const json_t *plan, const json_t *stats, const json_t *increment, json_t **ret,
                     struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *out = json_deep_copy(stats);
        struct fold f = {.plan = plan, .in = increment, .out = out};
        const json_t *v;
        size_t i;
        int r;

        if (!mlc_streq(text_get(stats, "schema"), "rollout-stats/v1"))
                return mlc_fail(err, MLC_E_INVALID, "these are no statistics of a rollout");
        r = fold_read(&f, err);
        if (r < 0)
                return r;
        add_counts(&f);
        if (!f.shadow && has_type(plan, "latency"))
                r = add_latency(&f, err);
        if (r == 0 && has_type(plan, "prediction-distribution"))
                r = add_outputs(&f, err);
        if (r == 0)
                r = add_classes(&f, err);
        json_array_foreach (json_object_get(plan, "checks"), i, v) {
                if (r == 0)
                        r = add_check(&f, v, err);
        }
        if (r < 0)
                return r;
        freeze(&f);
        *ret = TAKE_PTR(out);
        return 0;
}
