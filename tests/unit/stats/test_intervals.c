/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Intervals cover at their level. At one fixed share a score interval of counts, which are whole
 * numbers, covers a little more or less than its level, by turns as n grows (Brown, Cai and
 * DasGupta 2001), and more where only few examples are wrong; averaged over shares it covers at its
 * level. So the average over shares drawn at random is held to three standard errors and `average`
 * on either side, each fixed share to three and `below` under its level.
 */
#include "unit/simulate.h"

#include "base/cleanup.h"
#include "stats/stats.h"

static const struct {
        int64_t n;
        int runs;
        double average, below;
} sizes[] = {
        {50, 20000, 0.006, 0.030},
        {200, 20000, 0.003, 0.020},
        {1000, 8000, 0.002, 0.010},
        {5000, 3000, 0.001, 0.005},
};
static const double levels[] = {0.90, 0.95, 0.99};

struct truth {
        double p, q; /* shares of right answers; paired: only the first's, only the second's */
};

static bool covers(struct mlc_interval i, double value)
{
        return i.lo <= value && value <= i.hi;
}

/* One draw of n examples; whether the interval has the truth in it. */
typedef bool draw(uint64_t *seed, int64_t n, struct truth t, double level);

static bool wilson(uint64_t *seed, int64_t n, struct truth t, double level)
{
        return covers(mlc_wilson(binomial(seed, n, t.p), n, level), t.p);
}

static bool newcombe(uint64_t *seed, int64_t n, struct truth t, double level)
{
        struct mlc_counts one = {binomial(seed, n, t.p), n}, two = {binomial(seed, n, t.q), n};

        return covers(mlc_newcombe(one, two, level), t.p - t.q);
}

static bool tango(uint64_t *seed, int64_t n, struct truth t, double level)
{
        struct mlc_paired d = {.n = n};

        for (int64_t i = 0; i < n; i++) {
                double u = uniform(seed);

                d.b += u < t.p;
                d.c += u >= t.p && u < t.p + t.q;
        }
        return covers(mlc_tango(d, level), t.p - t.q);
}

static void simulate(const char *name, draw *one, const struct truth *fixed, size_t n_fixed,
                     struct truth (*any)(uint64_t *seed))
{
        size_t n_sizes = SIMULATE_LESS > 1 ? 2 : ARRAY_LEN(sizes);
        uint64_t seed = 20261124;

        for (size_t i = 0; i < n_sizes; i++)
                for (size_t l = 0; l < ARRAY_LEN(levels); l++)
                        for (size_t k = 0; k <= n_fixed; k++) {
                                int runs = sizes[i].runs, found = 0;
                                char what[128];

                                (void)snprintf(what, sizeof(what), "%s, n %lld, level %.2f, %s %zu",
                                               name, (long long)sizes[i].n, levels[l],
                                               k < n_fixed ? "case" : "any of", k);
                                for (int j = 0; j < runs; j++) {
                                        struct truth t = k < n_fixed ? fixed[k] : any(&seed);

                                        found += one(&seed, sizes[i].n, t, levels[l]);
                                }
                                if (k == n_fixed)
                                        share_is(what, found, runs, levels[l], sizes[i].average);
                                else if (found < (int)(levels[l] * runs))
                                        share_is(what, found, runs, levels[l], sizes[i].below);
                        }
}

static struct truth any_shares(uint64_t *seed)
{
        double p = 0.5 + 0.49 * uniform(seed);

        return (struct truth){p, 0.5 + 0.49 * uniform(seed)};
}

/* 2 to 30 % of the pairs differ, more of them in favour of either. */
static struct truth any_pairs(uint64_t *seed)
{
        double discordant = 0.02 + 0.28 * uniform(seed), first = 0.2 + 0.6 * uniform(seed);

        return (struct truth){discordant * first, discordant * (1.0 - first)};
}

static void wilson_covers(void **state)
{
        static const struct truth t[] = {{0.5, 0}, {0.8, 0}, {0.9, 0}, {0.95, 0}};

        (void)state;
        simulate("wilson", wilson, t, ARRAY_LEN(t), any_shares);
}

static void newcombe_covers(void **state)
{
        static const struct truth t[] = {{0.9, 0.9}, {0.88, 0.9}, {0.95, 0.9}, {0.6, 0.5}};

        (void)state;
        simulate("newcombe", newcombe, t, ARRAY_LEN(t), any_shares);
}

static void tango_covers(void **state)
{
        static const struct truth t[] = {{0.05, 0.05}, {0.04, 0.06}, {0.1, 0.05}, {0.02, 0.02}};

        (void)state;
        simulate("tango", tango, t, ARRAY_LEN(t), any_pairs);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(wilson_covers),
                cmocka_unit_test(newcombe_covers),
                cmocka_unit_test(tango_covers),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
