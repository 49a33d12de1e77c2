/* SPDX-License-Identifier: Apache-2.0 */
/* Published values, and what the tests promise, by simulation with fixed seeds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "stats/sequential.h"

static void close_to(double got, double want, double tolerance)
{
        if (!(fabs(got - want) <= tolerance))
                fail_msg("%.15g is not %.15g within %g", got, want, tolerance);
}

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

static void share_evalue(void **state)
{
        double sum = 0.0;
        int64_t k = 0;

        (void)state;
        close_to(exp(mlc_share_evalue(5, 10, 0.1)), 61.09339, 5e-6);
        close_to(exp(-mlc_share_evalue(5, 10, 0.1)), 0.0164, 5e-5);
        for (int64_t i = 0; i < 10; i++) { /* one by one, in any order, is the same */
                bool first = i % 2 == 1;

                sum += mlc_share_evalue_step(k, i, first, 0.1);
                k += first;
        }
        close_to(sum, mlc_share_evalue(5, 10, 0.1), 1e-12);
}

/* confseq's uniform_boundaries: v_opt 100, alpha 0.05 */
static void normal_mixture(void **state)
{
        double rho = mlc_mixture_rho(100, 0.05);

        (void)state;
        close_to(rho, 12.60056, 5e-6);
        close_to(mlc_mixture_bound(100, 0.05, rho), 30.35209, 5e-6);
        close_to(mlc_mixture_ln(10, 100, rho), -0.6510052, 5e-8);
        close_to(mlc_mixture_one_sided_bound(100, 0.05, mlc_mixture_rho(100, 0.1)), 27.66071, 5e-6);
        close_to(mlc_mixture_ln(mlc_mixture_bound(70, 0.01, rho), 70, rho), log(100), 1e-12);
        /* far tails stay finite */
        assert_true(mlc_mixture_one_sided_ln(-500, 100, rho) < -5);
        assert_true(isfinite(mlc_mixture_one_sided_ln(-5000, 100, rho)));
        assert_true(isfinite(mlc_mixture_one_sided_ln(5000, 100, rho)));
}

static void bernoulli_sequence(void **state)
{
        struct mlc_interval i = mlc_bernoulli_sequence((struct mlc_counts){700, 1000}, 0.05, 100);

        (void)state;
        close_to(i.lo, 0.651629, 1e-5);
        close_to(i.hi, 0.745949, 1e-5);
        i = mlc_bernoulli_sequence((struct mlc_counts){100, 200}, 0.05, 1);
        close_to(i.lo, 0.32892335, 1e-8);
        close_to(i.hi, 0.67107665, 1e-8);
        i = mlc_bernoulli_sequence((struct mlc_counts){0, 500}, 0.05, 100);
        close_to(i.lo, 0, 0);
        assert_true(i.hi > 0.005 && i.hi < 0.05);
        i = mlc_bernoulli_sequence((struct mlc_counts){500, 500}, 0.05, 100);
        close_to(i.hi, 1, 0);
}

/* Jennison and Turnbull 1999, tables 2.1 and 2.3 */
static void group_sequential(void **state)
{
        static const double pocock[] = {2.178, 2.289, 2.361, 2.413},
                            fleming[] = {1.977, 2.004, 2.024, 2.040};

        (void)state;
        for (unsigned k = 2; k <= 5; k++) {
                close_to(mlc_pocock(k, 0.05), pocock[k - 2], 6e-4);
                close_to(mlc_obrien_fleming(k, 0.05), fleming[k - 2], 6e-4);
        }
}

/* ln M by summing over all hypergeometric outcomes, the slow way. */
static double odds_by_definition(struct mlc_batch b, double r)
{
        double sum = 0.0, all = 0.0;
        int64_t e = b.k_candidate + b.k_stable;

        for (int64_t j = 0; j <= e; j++) {
                double ways;

                if (j > b.n_candidate || e - j > b.n_stable)
                        continue;
                ways = exp(lgamma((double)b.n_candidate + 1) - lgamma((double)j + 1) -
                           lgamma((double)(b.n_candidate - j) + 1) +
                           lgamma((double)b.n_stable + 1) - lgamma((double)(e - j) + 1) -
                           lgamma((double)(b.n_stable - e + j) + 1));
                all += ways;
                sum += ways * pow(r, (double)j);
        }
        return (double)b.k_candidate * log(r) - log(sum / all);
}

static void odds_are_hypergeometric(void **state)
{
        static const struct mlc_batch batches[] = {
                {20, 80, 3, 2}, {80, 20, 3, 2}, {5, 5, 5, 4}, {50, 50, 0, 7}, {10, 30, 10, 25}};

        (void)state;
        for (size_t i = 0; i < sizeof(batches) / sizeof(batches[0]); i++) {
                struct mlc_odds o = {0};

                mlc_odds_add(&o, batches[i]);
                close_to(o.ln[4], odds_by_definition(batches[i], 2.0), 1e-10);
                close_to(o.ln[9], odds_by_definition(batches[i], 100.0), 1e-10);
        }
        for (int side = 0; side < 2; side++) { /* an arm alone, or no error, says nothing */
                struct mlc_odds o = {0};

                mlc_odds_add(&o, side == 0 ? (struct mlc_batch){0, 50, 0, 9}
                                           : (struct mlc_batch){40, 50, 0, 0});
                close_to(mlc_odds_ln(&o), 0, 1e-15);
        }
}

/* However large the batch: what the expectation under the hypothesis must be, 1. */
static void odds_have_expectation_one(void **state)
{
        (void)state;
        for (int64_t scale = 1; scale <= 1000; scale *= 10) {
                struct mlc_batch b = {3 * scale, 7 * scale, 0, 0};
                int64_t e = 2 * scale;
                double mean[MLC_ODDS_N] = {0}, a = (double)b.n_candidate, n = (double)b.n_stable;

                for (int64_t j = 0; j <= e; j++) {
                        struct mlc_odds o = {0};
                        double ways = lgamma(a + 1) - lgamma((double)j + 1) -
                                      lgamma(a - (double)j + 1) + lgamma(n + 1) -
                                      lgamma((double)(e - j) + 1) -
                                      lgamma(n - (double)(e - j) + 1) - lgamma(a + n + 1) +
                                      lgamma((double)e + 1) + lgamma(a + n - (double)e + 1);

                        b.k_candidate = j;
                        b.k_stable = e - j;
                        mlc_odds_add(&o, b);
                        for (unsigned i = 0; i < MLC_ODDS_N; i++)
                                mean[i] += exp(ways + o.ln[i]);
                }
                for (unsigned i = 0; i < MLC_ODDS_N; i++)
                        close_to(mean[i], 1.0, 1e-8);
        }
}

static void pairs(void **state)
{
        struct mlc_odds o = {0};

        (void)state;
        mlc_odds_add_pairs(&o, 7, 10);
        close_to(o.ln[4], 7 * log(2) - 10 * log(1.5), 1e-12);
}

/* Looked at after each of 200 batches, with a share and an error rate that move: at most alpha
 * ever pass, for an equal and for a better candidate. A doubled rate is found. */
static void odds_hold_alpha_at_every_look(void **state)
{
        const int runs = 1000;
        int alarms[3] = {0};
        uint64_t seed = 4;

        (void)state;
        for (int kind = 0; kind < 3; kind++)
                for (int r = 0; r < runs; r++) {
                        static const double ratio[] = {1.0, 0.7, 2.0};
                        struct mlc_odds o = {0};
                        bool passed = false;

                        for (int look = 0; look < 100 && !passed; look++) {
                                double w = look < 30 ? 0.05 : look < 60 ? 0.25 : 0.5;
                                double p = look % 40 < 20 ? 0.01 : 0.05;
                                int64_t n = binomial(&seed, 200, w);

                                mlc_odds_add(&o,
                                             (struct mlc_batch){n, 200 - n,
                                                                binomial(&seed, n, p * ratio[kind]),
                                                                binomial(&seed, 200 - n, p)});
                                passed = mlc_odds_ln(&o) >= log(20);
                        }
                        alarms[kind] += passed;
                }
        assert_true(alarms[0] <= 0.05 * runs);
        assert_true(alarms[1] <= alarms[0]);
        assert_true(alarms[2] >= 0.95 * runs);
}

/* The mixture test of two proportions: few false alarms at 60 looks; 2 % against 4 % is found. */
static void msprt(void **state)
{
        const int runs = 1000;
        int alarms[2] = {0};
        uint64_t seed = 7;

        (void)state;
        close_to(mlc_msprt_two_proportions((struct mlc_counts){9, 99}, (struct mlc_counts){0, 999},
                                           0.01),
                 0, 0);
        for (int kind = 0; kind < 2; kind++)
                for (int r = 0; r < runs; r++) {
                        struct mlc_counts c = {0, 0}, s = {0, 0};
                        bool passed = false;

                        for (int look = 0; look < 60 && !passed; look++) {
                                c.k += binomial(&seed, 200, kind == 0 ? 0.02 : 0.04);
                                s.k += binomial(&seed, 200, 0.02);
                                c.n += 200;
                                s.n += 200;
                                passed = mlc_msprt_two_proportions(c, s, 0.005) >= log(20);
                        }
                        alarms[kind] += passed;
                }
        assert_true(alarms[0] <= 0.03 * runs);
        assert_int_equal(alarms[1], runs);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(share_evalue),
                cmocka_unit_test(normal_mixture),
                cmocka_unit_test(bernoulli_sequence),
                cmocka_unit_test(group_sequential),
                cmocka_unit_test(odds_are_hypergeometric),
                cmocka_unit_test(odds_have_expectation_one),
                cmocka_unit_test(pairs),
                cmocka_unit_test(odds_hold_alpha_at_every_look),
                cmocka_unit_test(msprt),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
