/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollout-sim RUNS: simulated rollouts, looked at after every batch of 200 requests of each arm, up
 * to 20000 of each, through the library that the server runs: plan, fold, decide. Fixed seeds.
 * Prints one JSON line. Beside it, on the same requests: a z-test repeated at every look, and the
 * rule "above 3 % errors in a batch, three times".
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "policy/document.h"
#include "rollout/analysis.h"
#include "rollout/plan.h"
#include "stats/dist.h"
#include "stats/stats.h"

#define BATCH 200
#define LOOKS 100

static const char MODEL[] =
        "{\"apiVersion\":\"mlctl/v1\",\"kind\":\"Model\",\"name\":\"a/b\",\"rollout\":{"
        "\"strategy\":\"canary\",\"steps\":[{\"weight\":\"50%\",\"advance\":\"proven\"}],"
        "\"checks\":[{\"id\":\"errors\",\"type\":\"error-rate\",\"margin\":\"MARGIN\"},"
        "{\"id\":\"truth\",\"type\":\"labels\",\"margin\":\"1%\",\"mode\":\"MODE\"}]}}";

/* splitmix64 */
static double uniform(uint64_t *s)
{
        uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static int64_t binomial(uint64_t *s, int64_t n, double p)
{
        int64_t k = 0;

        for (int64_t i = 0; i < n; i++)
                k += uniform(s) < p;
        return k;
}

static void must(int r, const struct mlc_err *err)
{
        if (r == 0)
                return;
        (void)fprintf(stderr, "rollout-sim: %s\n", err->msg);
        exit(1);
}

/* A plan of one check of errors, and, when `two`, one of labels beside it that shares alpha. */
static json_t *plan_of(const char *margin, bool two)
{
        static const char environment[] =
                "{\"apiVersion\":\"mlctl/v1\",\"kind\":\"Environment\",\"name\":\"production\"}";
        struct mlc_err err = {0};
        json_t *written = json_loads(MODEL, 0, NULL), *env = json_loads(environment, 0, NULL),
               *checks = json_object_get(json_object_get(written, "rollout"), "checks"), *plan;
        struct mlc_rollout_docs docs = {0};
        json_t *model = NULL, *normal = NULL;

        json_object_set_new(json_array_get(checks, 0), "margin", json_string(margin));
        json_object_set_new(json_array_get(checks, 1), "mode",
                            json_string(two ? "enforce" : "observe"));
        must(mlc_document_normalise(written, &model, &err), &err);
        must(mlc_document_normalise(env, &normal, &err), &err);
        docs = (struct mlc_rollout_docs){.model = model, .environment = normal};
        must(mlc_rollout_plan(&docs, &plan, &err), &err);
        json_decref(written);
        json_decref(env);
        json_decref(model);
        json_decref(normal);
        return plan;
}

/* How weights and rates move while it is looked at. */
struct scene {
        const char *name;
        double candidate, stable; /* error rates */
        bool ramp; /* 5, 25, 50 % and a stable rate that doubles half-way, for both */
        bool stop; /* at proof or harm; else looked at to the end */
};

struct outcome {
        int harm, harm_look, proven_look; /* look 0: never */
        int z, z_look, rule, rule_look;
};

struct seen {
        struct mlc_counts c, s;
        int failures;
};

static void others(struct seen *seen, int64_t n, int64_t k, int look, struct outcome *o)
{
        double z = mlc_two_proportion_z(seen->c, seen->s);

        if (o->z == 0 && fabs(z) > 1.959963984540054) {
                o->z = 1;
                o->z_look = look;
        }
        seen->failures += (double)k > 0.03 * (double)n;
        if (o->rule == 0 && seen->failures >= 3) {
                o->rule = 1;
                o->rule_look = look;
        }
}

static json_t *increment(int generation, int weight, const int64_t n[2], const int64_t k[2])
{
        return json_pack("{s:i, s:i, s:i, s:{s:{s:I, s:I}, s:{s:I, s:I}}}", "generation",
                         generation, "step", 0, "weight", weight, "arms", "candidate", "requests",
                         (json_int_t)n[0], "errors", (json_int_t)k[0], "stable", "requests",
                         (json_int_t)n[1], "errors", (json_int_t)k[1]);
}

/* One look: what the check of errors says. */
static const char *look_at(const json_t *plan, json_t **stats, json_t *inc)
{
        struct mlc_rollout_now now = {.step = 0, .step_ms = 1000};
        static char verdict[32];
        struct mlc_err err = {0};
        json_t *next, *decision;

        must(mlc_rollout_fold(plan, *stats, inc, &next, &err), &err);
        must(mlc_rollout_decide(plan, next, &now, &decision, &err), &err);
        (void)snprintf(verdict, sizeof(verdict), "%s",
                       json_string_value(json_object_get(
                               json_array_get(json_object_get(decision, "checks"), 0), "verdict")));
        json_decref(decision);
        json_decref(*stats);
        *stats = next;
        return verdict;
}

static struct outcome rollout(const json_t *plan, const struct scene *sc, uint64_t *seed)
{
        struct outcome o = {0};
        struct seen seen = {0};
        json_t *stats = mlc_rollout_stats_new();

        for (int look = 1; look <= LOOKS; look++) {
                static const int weights[] = {500, 2500, 5000};
                int phase = !sc->ramp ? 2 : look <= 33 ? 0 : look <= 66 ? 1 : 2;
                double drift = sc->ramp && look > LOOKS / 2 ? 2.0 : 1.0,
                       w = weights[phase] / 10000.0;
                int64_t n[2] = {binomial(seed, 2L * BATCH, w), 0}, k[2];
                json_t *inc;
                const char *verdict;

                n[1] = 2L * BATCH - n[0];
                k[0] = binomial(seed, n[0], sc->candidate * drift);
                k[1] = binomial(seed, n[1], sc->stable * drift);
                seen.c.n += n[0];
                seen.c.k += k[0];
                seen.s.n += n[1];
                seen.s.k += k[1];
                others(&seen, n[0], k[0], look, &o);
                if (sc->stop && (o.harm || o.proven_look > 0)) {
                        if (o.z && o.rule)
                                break;
                        continue; /* for the others */
                }
                inc = increment(phase + 1, weights[phase], n, k);
                verdict = look_at(plan, &stats, inc);
                json_decref(inc);
                if (verdict[0] == 'h' && o.harm == 0) {
                        o.harm = 1;
                        o.harm_look = look;
                }
                if (verdict[0] == 'p' && o.proven_look == 0)
                        o.proven_look = look;
        }
        json_decref(stats);
        return o;
}

static int by_number(const void *a, const void *b)
{
        return *(const int *)a - *(const int *)b;
}

/* Requests of each arm at the median; those that never came count as more than the most. */
static int64_t median_requests(int *looks, int n)
{
        for (int i = 0; i < n; i++)
                looks[i] = looks[i] == 0 ? LOOKS * 1000 : looks[i];
        qsort(looks, (size_t)n, sizeof(*looks), by_number);
        return looks[n / 2] > LOOKS ? -1 : (int64_t)looks[n / 2] * BATCH;
}

static json_t *share(int k, int n)
{
        return json_real((double)k / n);
}

static json_t *scene(const json_t *plan, const struct scene *sc, int runs)
{
        int *harm = calloc((size_t)runs, sizeof(int)), *proven = calloc((size_t)runs, sizeof(int)),
            *z = calloc((size_t)runs, sizeof(int)), *rule = calloc((size_t)runs, sizeof(int));
        int n_harm = 0, n_z = 0, n_rule = 0, n_proven = 0;
        uint64_t seed = 20261124;
        json_t *ret;

        if (harm == NULL || proven == NULL || z == NULL || rule == NULL)
                abort();
        for (int i = 0; i < runs; i++) {
                struct outcome o = rollout(plan, sc, &seed);

                n_harm += o.harm;
                n_z += o.z;
                n_rule += o.rule;
                n_proven += o.proven_look > 0;
                harm[i] = o.harm_look;
                proven[i] = o.proven_look;
                z[i] = o.z_look;
                rule[i] = o.rule_look;
        }
        ret = json_pack("{s:s, s:i, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "scene", sc->name,
                        "runs", runs, "harm", share(n_harm, runs), "harm_median",
                        json_integer(median_requests(harm, runs)), "proven", share(n_proven, runs),
                        "proven_median", json_integer(median_requests(proven, runs)), "z",
                        share(n_z, runs), "z_median", json_integer(median_requests(z, runs)),
                        "rule", share(n_rule, runs), "rule_median",
                        json_integer(median_requests(rule, runs)));
        free(harm);
        free(proven);
        free(z);
        free(rule);
        return ret;
}

/* Requests of each arm that a one-sided test of non-inferiority takes when looked at once. */
static int64_t fixed_n(double p, double margin, double power)
{
        double z = mlc_normal_quantile(0.95) + mlc_normal_quantile(power);

        return (int64_t)ceil(z * z * 2.0 * p * (1.0 - p) / (margin * margin));
}

int main(int argc, char **argv)
{
        int runs = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 2000;
        static const struct scene scenes[] = {
                {"a/a, margin 0, looked at to the end", .02, .02, false, false},
                {"a/a, margin 0, ramp 5-25-50 %, rate doubles half-way", .02, .02, true, false},
                {"a/a, margin 0, frequent (10 %)", .10, .10, false, false},
                {"healthy, margin 0.5 %", .02, .02, false, true},
                {"healthy, margin 2 %, frequent (10 %)", .10, .10, false, true},
                {"worse by the margin 0.5 %", .025, .02, false, true},
                {"doubled", .04, .02, false, true},
                {"doubled, one of two checks", .04, .02, false, true},
        };
        static const char *const margins[] = {"0%", "0%",   "0%",   "0.5%",
                                              "2%", "0.5%", "0.5%", "0.5%"};
        json_t *list = json_array(), *out;
        int64_t began = mlc_monotonic_ms();
        double power;

        if (runs < 1)
                return 2;
        for (size_t i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
                json_t *plan = plan_of(margins[i], i == 7);

                json_array_append_new(list, scene(plan, &scenes[i], runs));
                json_decref(plan);
        }
        power = json_real_value(json_object_get(json_array_get(list, 3), "proven"));
        out = json_pack("{s:o, s:f, s:I, s:I, s:I}", "scenes", list, "seconds",
                        (double)(mlc_monotonic_ms() - began) / 1000.0, "fixed_n_80",
                        (json_int_t)fixed_n(.02, .005, .8), "fixed_n_equal",
                        (json_int_t)fixed_n(.02, .005, fmin(fmax(power, .01), .999)),
                        "fixed_n_frequent_80", (json_int_t)fixed_n(.10, .02, .8));
        (void)json_dumpf(out, stdout, JSON_COMPACT);
        (void)putchar('\n');
        json_decref(out);
        return 0;
}
