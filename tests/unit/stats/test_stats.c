/* SPDX-License-Identifier: Apache-2.0 */
/* Published fixtures, and simulations with fixed seeds. */
#include "unit/simulate.h"

#include "stats/dist.h"
#include "stats/stats.h"

static void close_to(double got, double want, double tolerance)
{
        if (!(fabs(got - want) <= tolerance))
                fail_msg("%.15g is not %.15g within %g", got, want, tolerance);
}

/* scipy.stats.norm, binom 1.11 */
static void distributions(void **state)
{
        (void)state;
        close_to(mlc_normal_cdf(1.959963984540054), 0.975, 1e-15);
        close_to(mlc_normal_quantile(0.975), 1.959963984540054, 1e-14);
        close_to(mlc_normal_quantile(0.95), 1.6448536269514722, 1e-14);
        close_to(mlc_normal_quantile(0.8), 0.8416212335729143, 1e-14);
        close_to(mlc_normal_quantile(1e-10), -6.361340902404056, 1e-11);
        close_to(mlc_normal_quantile(0.5), 0.0, 1e-15);
        close_to(mlc_binomial_pmf(3, 10, 0.5), 0.1171875, 1e-14);
        close_to(mlc_binomial_cdf(3, 10, 0.5), 0.171875, 1e-14);
        close_to(mlc_binomial_cdf(0, 5, 0.2), 0.32768, 1e-14);
        close_to(mlc_binomial_cdf(5, 5, 0.2), 1.0, 0);
        close_to(mlc_chi2_1_tail(3.841458820694124), 0.05, 1e-14);
}

/* Newcombe 1998 (Statistics in Medicine 17): table II, method 10; Wilson 0 of 20 as in Brown, Cai,
 * DasGupta. */
static void proportions(void **state)
{
        struct mlc_interval i = mlc_wilson(0, 20, 0.95);

        (void)state;
        close_to(i.lo, 0, 0);
        close_to(i.hi, 0.1611251581, 1e-10);
        i = mlc_wilson(81, 263, 0.95);
        close_to(i.lo, 0.2553, 5e-5);
        close_to(i.hi, 0.3662, 5e-5);
        i = mlc_newcombe((struct mlc_counts){56, 70}, (struct mlc_counts){48, 80}, 0.95);
        close_to(i.lo, 0.0524, 5e-5);
        close_to(i.hi, 0.3339, 5e-5);
        i = mlc_newcombe((struct mlc_counts){9, 10}, (struct mlc_counts){3, 10}, 0.95);
        close_to(i.lo, 0.1705, 5e-5);
        close_to(i.hi, 0.8090, 5e-5);
        i = mlc_newcombe((struct mlc_counts){10, 10}, (struct mlc_counts){0, 10}, 0.95);
        close_to(i.lo, 0.6075, 5e-5);
        close_to(i.hi, 1.0, 1e-12);
}

/* Tango 1998 (Statistics in Medicine 17), as in Newcombe 1998: 21 pairs, 1 against 7. */
static void paired(void **state)
{
        struct mlc_interval i = mlc_tango((struct mlc_paired){1, 7, 21}, 0.95);
        struct mlc_mcnemar m = mlc_mcnemar_test((struct mlc_paired){150, 86, 1600});

        (void)state;
        close_to(i.lo, -0.5172, 5e-5);
        close_to(i.hi, -0.0260, 5e-5);
        i = mlc_tango((struct mlc_paired){7, 1, 21}, 0.95);
        close_to(i.lo, 0.0260, 5e-5);
        close_to(i.hi, 0.5172, 5e-5);
        i = mlc_tango((struct mlc_paired){0, 0, 50}, 0.95);
        close_to(i.lo, -i.hi, 1e-12);
        assert_true(i.hi > 0.05 && i.hi < 0.1);
        i = mlc_tango((struct mlc_paired){10, 0, 10}, 0.95);
        close_to(i.hi, 1.0, 0);
        close_to(m.corrected, 16.8177966102, 1e-9);
        close_to(m.p_corrected, 4.1146e-5, 5e-10);
        close_to(m.uncorrected, 17.3559322034, 1e-9);
        close_to(m.p_exact, 3.71594e-5, 5e-11);
        close_to(m.p_mid, 2.89339e-5, 5e-11);
        close_to(mlc_mcnemar_superiority((struct mlc_paired){9, 1, 100}), 11.0 / 1024, 1e-14);
        close_to(mlc_mcnemar_superiority((struct mlc_paired){0, 0, 100}), 1.0, 0);
}

static void sample_sizes(void **state)
{
        (void)state;
        assert_int_equal(mlc_n_two_proportions(.90, .88, .025, .8), 3841);
        assert_int_equal(mlc_n_two_proportions(.95, .94, .025, .8), 8158);
        assert_int_equal(mlc_n_two_proportions(.80, .78, .025, .8), 6510);
        assert_int_equal(mlc_n_two_proportions_simple(.02, .04, .025, .8), 1139);
        assert_int_equal(mlc_n_paired(.06, .02, .025, .8), 1175);
        assert_int_equal(mlc_n_paired(.10, .02, .025, .8), 1960);
        assert_int_equal(mlc_n_paired(.04, .01, .025, .8), 3138);
}

/* The share of simulated comparisons that pass agrees with the exact power within three standard
 * errors. */
static void power_is_what_simulation_finds(void **state)
{
        static const struct {
                int64_t n;
                double difference;
        } cases[] = {{50, 0}, {50, -0.05}, {200, 0}, {200, -0.05}, {1000, 0}, {1000, -0.05}};
        const int runs = 2000;
        uint64_t seed = 20261124;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct mlc_non_inferiority t = {cases[i].n, 0.05, 0.05, cases[i].difference};
                double want = mlc_power_unpaired(t, 0.9), want2 = mlc_power_paired(t, 0.1);
                int passed = 0, passed2 = 0;

                for (int j = 0; j < runs; j++) {
                        int64_t k1 = binomial(&seed, t.n, 0.9 + t.difference);
                        int64_t k2 = binomial(&seed, t.n, 0.9), m = binomial(&seed, t.n, 0.1);
                        int64_t b = binomial(&seed, m, 0.5 + t.difference / 0.2);

                        passed += mlc_newcombe((struct mlc_counts){k1, t.n},
                                               (struct mlc_counts){k2, t.n}, 0.9)
                                          .lo > -t.margin;
                        passed2 +=
                                mlc_tango((struct mlc_paired){b, m - b, t.n}, 0.9).lo > -t.margin;
                }
                close_to((double)passed / runs, want, 3 * sqrt(want * (1 - want) / runs) + 1e-9);
                close_to((double)passed2 / runs, want2,
                         3 * sqrt(want2 * (1 - want2) / runs) + 1e-9);
        }
}

/* A model that is worse by exactly the margin passes at about alpha, the nearer the larger n. */
static void size_approaches_alpha(void **state)
{
        struct mlc_non_inferiority t = {2000, 0.02, 0.05, -0.02};

        (void)state;
        close_to(mlc_power_unpaired(t, 0.9), 0.05, 0.005);
        close_to(mlc_power_paired(t, 0.06), 0.05, 0.005);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(distributions),
                cmocka_unit_test(proportions),
                cmocka_unit_test(paired),
                cmocka_unit_test(sample_sizes),
                cmocka_unit_test(power_is_what_simulation_finds),
                cmocka_unit_test(size_approaches_alpha),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
