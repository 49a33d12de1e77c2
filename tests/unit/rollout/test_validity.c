/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What checks promise, by simulation with fixed seeds, through fold and decide: looked at after
 * every batch, equal versions are found harmful at most at rate alpha, and real harm is found.
 * Errors are simulated in tests/bench/rollout_sim.c.
 */
#include "unit/rollout/support.h"

#include "rollout/latency.h"
#include "stats/sketch.h"

#define RUNS 50
#define LOOKS 24
#define BATCH 100

/* splitmix64 */
static double uniform(uint64_t *s)
{
        uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* One request's place in a distribution, worse by `harm`, written into its arm. */
typedef void draw(uint64_t *seed, double harm, int64_t *cells);

struct kind {
        const char *check;
        draw *one;
        unsigned cells;
        /* the arm's member made of the counts */
        void (*write)(json_t *arm, const int64_t *cells);
        double harm;
};

static void draw_latency(uint64_t *seed, double harm, int64_t *cells)
{
        /* exponential, 20 ms at the mean; harm: twice that */
        double us = -20000.0 * log(1.0 - uniform(seed)) * (1.0 + harm);

        cells[mlc_latency_bucket((uint64_t)us) - MLC_LATENCY_FIRST]++;
}

static void write_pairs(json_t *arm, const char *key, const int64_t *cells, const int range[2])
{
        json_t *list = json_array();

        for (int i = 0; i < range[1]; i++)
                if (cells[i] > 0)
                        json_array_append_new(
                                list, json_pack("[i, I]", i + range[0], (json_int_t)cells[i]));
        json_object_set_new(arm, key, list);
}

static void write_latency(json_t *arm, const int64_t *cells)
{
        json_t *latency = json_object();

        write_pairs(latency, "buckets", cells, (int[]){MLC_LATENCY_FIRST, MLC_LATENCY_BUCKETS});
        json_object_set_new(arm, "latency", latency);
}

static void draw_class(uint64_t *seed, double harm, int64_t *cells)
{
        double u = uniform(seed);

        /* three classes; harm moves a share of the first to the second */
        cells[u < .5 * (1 - harm) ? 0 : u < .8 ? 1 : 2]++;
}

static void write_classes(json_t *arm, const int64_t *cells)
{
        json_object_set_new(arm, "outputs",
                            json_pack("{s:I, s:I, s:I}", "a", (json_int_t)cells[0], "b",
                                      (json_int_t)cells[1], "c", (json_int_t)cells[2]));
}

static void draw_value(uint64_t *seed, double harm, int64_t *cells)
{
        cells[mlc_sketch_cell(uniform(seed) + uniform(seed) - 1.0 + harm)]++;
}

static void write_values(json_t *arm, const int64_t *cells)
{
        json_object_set_new(arm, "values", values_of(cells));
}

static const struct kind KINDS[] = {
        {"{'id':'x','type':'slower-than','limit':'50ms','margin':0}", draw_latency,
         MLC_LATENCY_BUCKETS, write_latency, 1.0},
        {"{'id':'x','type':'latency','quantile':0.9,'margin':0}", draw_latency, MLC_LATENCY_BUCKETS,
         write_latency, 1.0},
        {"{'id':'x','type':'prediction-distribution','floor':0}", draw_class, 3, write_classes, .3},
        {"{'id':'x','type':'prediction-distribution','method':'psi','floor':0}", draw_class, 3,
         write_classes, .3},
        {"{'id':'x','type':'prediction-distribution','floor':0}", draw_value, MLC_SKETCH_CELLS,
         write_values, .3},
        {"{'id':'x','type':'prediction-distribution','method':'psi','floor':0}", draw_value,
         MLC_SKETCH_CELLS, write_values, .3},
};

static json_t *increment(const struct kind *k, uint64_t *seed, double harm)
{
        json_t *inc = json_pack("{s:i, s:i, s:i, s:{s:{s:i}, s:{s:i}}}", "generation", 1, "step", 0,
                                "weight", 5000, "arms", "candidate", "requests", BATCH, "stable",
                                "requests", BATCH);
        int64_t *cells = calloc(k->cells, sizeof(*cells));

        assert_non_null(cells);
        for (int arm = 0; arm < 2; arm++) {
                memset(cells, 0, k->cells * sizeof(*cells));
                for (int i = 0; i < BATCH; i++)
                        k->one(seed, arm == 0 ? harm : 0.0, cells);
                k->write(json_object_get(json_object_get(inc, "arms"),
                                         arm == 0 ? "candidate" : "stable"),
                         cells);
        }
        free(cells);
        return inc;
}

static bool found(const json_t *plan, const struct kind *k, uint64_t *seed, double harm)
{
        struct mlc_rollout_now now = {.step_ms = 1};
        json_t *stats = mlc_rollout_stats_new();
        bool ret = false;

        for (int look = 0; look < LOOKS && !ret; look++) {
                json_t *inc = increment(k, seed, harm), *next = NULL, *decision = NULL;
                struct mlc_err err = {0};

                assert_int_equal(mlc_rollout_fold(plan, stats, inc, &next, &err), 0);
                assert_int_equal(mlc_rollout_decide(plan, next, &now, &decision, &err), 0);
                ret = strcmp(text(decision, "decision"), "harm") == 0;
                json_decref(inc);
                json_decref(decision);
                json_decref(stats);
                stats = next;
        }
        json_decref(stats);
        return ret;
}

static void looking_is_free(void **state)
{
        uint64_t seed = 20261124;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
                char model[512];
                _cleanup_(json_decref_p) json_t *plan = NULL;
                int equal = 0, worse = 0;

                (void)snprintf(model, sizeof(model),
                               ROLLOUT("{'strategy':'canary','steps':[{'weight':'50%%'}],'checks':["
                                       "%s]}"),
                               KINDS[i].check);
                plan = plan_of(model);
                for (int run = 0; run < RUNS; run++)
                        equal += found(plan, &KINDS[i], &seed, 0.0);
                for (int run = 0; run < RUNS / 10; run++)
                        worse += found(plan, &KINDS[i], &seed, KINDS[i].harm);
                print_message("%s: %d of %d equal, %d of %d worse\n", KINDS[i].check, equal, RUNS,
                              worse, RUNS / 10);
                /* alpha 5 %, three standard errors of so few runs above it */
                assert_true(equal <= RUNS * 0.05 + 3 * sqrt(RUNS * 0.05 * 0.95));
                assert_int_equal(worse, RUNS / 10);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(looking_is_free)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
