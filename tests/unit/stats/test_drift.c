/* SPDX-License-Identifier: Apache-2.0 */
/* Published values (Evidently's tests, scipy, R), and simulations with fixed seeds. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "stats/drift.h"
#include "stats/samples.h"
#include "stats/sketch.h"
#include "stats/special.h"

static void close_to(double got, double want, double tolerance)
{
        if (!(fabs(got - want) <= tolerance))
                fail_msg("%.15g is not %.15g within %g", got, want, tolerance);
}

static const int64_t REFERENCE[] = {16, 18, 16, 14, 12, 12}, CURRENT[] = {16, 16, 16, 16, 16, 8};
static const struct mlc_categories F1 = {CURRENT, REFERENCE, 6};
static const double X[] = {38.7, 41.5, 43.8, 44.5, 45.5, 46.0, 47.7, 58.0},
                    Y[] = {39.2, 39.3, 39.7, 41.4, 41.8, 42.9, 43.3, 45.8};

static void special(void **state)
{
        static const double df[] = {1, 5, 9, 19}, five[] = {3.8415, 11.0705, 16.9190, 30.1435},
                            one[] = {6.6349, 15.0863, 21.6660, 36.1909},
                            tails[] = {.1, .05, .01, .001},
                            lambda[] = {1.22385, 1.35810, 1.62762, 1.94947};

        (void)state;
        for (int i = 0; i < 4; i++) {
                close_to(mlc_chi2_critical(.05, df[i]), five[i], 5e-5);
                close_to(mlc_chi2_critical(.01, df[i]), one[i], 5e-5);
                close_to(mlc_kolmogorov_critical(tails[i]), lambda[i], 5e-6);
        }
        close_to(mlc_kolmogorov_tail(1), 0.26999967167735, 1e-14);
        close_to(mlc_kolmogorov_tail(.70710678), 0.699374199131, 1e-8);
        close_to(mlc_kolmogorov_tail(.9999999), mlc_kolmogorov_tail(1.0000001), 1e-6);
        close_to(mlc_chi2_tail(3.1746031746, 5), 0.6730876007, 1e-10);
        /* scipy.special.betainc(2.5, .5, .3), gammaincc(.5, 30) */
        close_to(mlc_beta_cdf(.3, 2.5, .5), 0.01892712407194569, 1e-15);
        close_to(mlc_gamma_tail(.5, 30) / 9.485737571073843e-15, 1, 1e-12);
        close_to(mlc_ln_choose(10, 3), log(120), 1e-13);
}

static void categories(void **state)
{
        static const int64_t p[] = {2, 2, 2, 2, 2, 2, 2, 2, 2, 2},
                             q[] = {1, 1, 2, 2, 2, 2, 2, 2, 2, 4};
        static const int64_t a[] = {50, 30, 1, 1, 1}, b[] = {40, 45, 2, 0, 1};
        struct mlc_chi2 c = mlc_contingency(F1);

        (void)state;
        close_to(mlc_psi(F1), 0.037218381577290835, 1e-15);
        close_to(mlc_psi((struct mlc_categories){p, q, 10}), 0.2 * M_LN2, 1e-15);
        close_to(mlc_kl(F1), 0.01890967696532, 1e-13);
        close_to(mlc_js_distance(F1), 0.068048196177, 1e-12);
        close_to(mlc_js_distance(F1) / sqrt(M_LN2), 0.081734213306, 1e-12);
        close_to(mlc_hellinger(F1), 0.068127743710, 1e-12);
        close_to(mlc_total_variation(F1), 0.0681818182, 1e-10);
        close_to(mlc_share_max(F1), 0.0454545455, 1e-10);
        close_to(c.statistic, 1.6224089636, 1e-10);
        assert_int_equal(c.df, 5);
        close_to(c.p, 0.8985262394, 1e-10);
        close_to(c.effect, sqrt(1.6224089636 / 176), 1e-10);
        close_to(mlc_psi_critical(F1, .05), 2.0 / 88 * 11.0704976935, 1e-9);
        c = mlc_contingency((struct mlc_categories){a, b, 5}); /* the rare ones are one cell */
        assert_int_equal(c.df, 2);
        c = mlc_contingency((struct mlc_categories){a + 1, b + 1, 1});
        assert_int_equal(c.df, 0);
        close_to(c.p, 1, 0);
}

static void kolmogorov_smirnov(void **state)
{
        static const double a[] = {1.1, 2.2, 3.3, 4.4, 5.5}, b[] = {2, 3, 4, 6, 8, 9};
        double c[100], d[100];
        struct mlc_ks k = mlc_ks_samples(X, 8, Y, 8);

        (void)state;
        close_to(k.d, .625, 1e-15);
        close_to(k.p, 0.087024087024, 1e-12);
        k = mlc_ks_samples(a, 5, b, 6);
        close_to(k.d, .5, 1e-15);
        close_to(k.p, .357142857, 5e-10);
        for (int i = 0; i < 100; i++) {
                c[i] = (i + 1) / 101.0;
                d[i] = pow(c[i], 1.3);
        }
        k = mlc_ks_samples(c, 100, d, 100);
        close_to(k.d, .1, 1e-15);
        close_to(k.p, 0.702056982867, 1e-11);
        close_to(mlc_ks_samples(X, 8, X, 8).p, 1, 0);
        k = mlc_ks_bins((struct mlc_categories){CURRENT, REFERENCE, 6});
        close_to(k.d, 4.0 / 88, 1e-15);
}

static void numbers(void **state)
{
        struct mlc_sample x = {X, 8}, y = {Y, 8};
        double mean = 0, square = 0;
        struct mlc_ranks r;
        struct mlc_t t;

        (void)state;
        for (int i = 0; i < 8; i++)
                mean += X[i] / 8;
        for (int i = 0; i < 8; i++)
                square += (X[i] - mean) * (X[i] - mean) / 8;
        close_to(mlc_wasserstein(x, y), 4.1625, 1e-12);
        close_to(mlc_wasserstein(x, y) / sqrt(square), 0.781236105789, 1e-12);
        t = mlc_t_welch(x, y);
        close_to(t.t, 1.859452339622, 1e-11);
        close_to(t.p, .0951205647, 1e-10);
        t = mlc_t_pooled(x, y);
        close_to(t.t, 1.859452339622, 1e-11);
        close_to(t.p, .0841057202, 1e-10);
        t = mlc_t_paired(X, Y, 8);
        close_to(t.t, 3.139814471283, 1e-11);
        close_to(t.p, .016383431762, 1e-11);
        r = mlc_wilcoxon(X, Y, 8);
        close_to(r.statistic, 1, 0);
        close_to(r.p, .015625, 1e-15);
        r = mlc_mann_whitney(x, y);
        close_to(r.statistic, 49, 0);
        close_to(r.p, .082983682984, 1e-11);
        assert_true(r.exact);
}

/* scipy 1.13: mannwhitneyu([1,2,2,3,5], [2,4,4,6,7,8]); and 4 of 16 sign patterns */
static void ranks_with_ties(void **state)
{
        static const double a[] = {1, 2, 2, 3, 5}, b[] = {2, 4, 4, 6, 7, 8}, c[] = {1, 5, 3, 4, 9},
                            d[] = {2, 3, 3, 1, 5};
        struct mlc_ranks r = mlc_mann_whitney((struct mlc_sample){a, 5}, (struct mlc_sample){b, 6});

        (void)state;
        close_to(r.statistic, 5.0, 1e-12);
        assert_false(r.exact);
        close_to(r.p, 0.07934368319771508, 1e-14);
        r = mlc_wilcoxon(c, d, 5);
        close_to(r.statistic, 1, 0);
        close_to(r.p, 0.25, 1e-12);
}

static void delong(void **state)
{
        static const double one[] = {.1,  .2,  .15, .3,  .35, .4, .55, .6,
                                     .38, .45, .5,  .65, .7,  .8, .85, .9},
                            other[] = {.2,  .25, .5, .3, .6, .4,  .55, .7,
                                       .35, .45, .5, .3, .7, .65, .85, .8};
        bool label[16] = {false};
        struct mlc_delong d;

        (void)state;
        for (int i = 8; i < 16; i++)
                label[i] = true;
        d = mlc_delong_test(label, one, other, 16);
        close_to(d.auc[0], .890625, 1e-15);
        close_to(d.auc[1], .6953125, 1e-15);
        close_to(d.z, 1.86191285856, 1e-10);
        close_to(d.p, .06261537427, 1e-10);
}

static void sketch(void **state)
{
        static const double xs[] = {1e-6, .001, .5, 1, 3.14159, 1000, 5e8};
        int64_t cells[] = {10, 20, 30, 25, 15, 100}, more[] = {1, 1, 1, 1, 1, 1}, a[4], b[4];

        (void)state;
        assert_int_equal(mlc_sketch_cell(0), MLC_SKETCH_SIDE);
        assert_int_equal(mlc_sketch_cell(1e-12), MLC_SKETCH_SIDE);
        assert_int_equal(mlc_sketch_cell(INFINITY), MLC_SKETCH_CELLS - 1);
        assert_int_equal(mlc_sketch_cell(-INFINITY), 0);
        for (size_t i = 0; i < ARRAY_LEN(xs); i++) {
                unsigned up = mlc_sketch_cell(xs[i]), down = mlc_sketch_cell(-xs[i]);

                close_to(mlc_sketch_value(up) / xs[i], 1, 0.0101);
                close_to(mlc_sketch_value(down), -mlc_sketch_value(up), 0);
                assert_true(down < MLC_SKETCH_SIDE && up > MLC_SKETCH_SIDE);
        }
        assert_int_equal(mlc_rebin((struct mlc_rebin){more, cells, 6, 4}, a, b), 3);
        assert_int_equal(b[0] + b[1] + b[2], 200);
        assert_int_equal(a[0] + a[1] + a[2], 6);
        assert_int_equal(b[0], 60);
}

/* splitmix64 */
static double uniform(uint64_t *s)
{
        uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

/* Without drift, n = m = 1000 in 10 bins: the scaled critical value and the contingency test pass
 * about alpha of the time; the fixed cut-offs say nothing. */
static void size_without_drift(void **state)
{
        const int runs = 2000;
        int psi = 0, chi2 = 0, fixed = 0;
        uint64_t seed = 11;

        (void)state;
        for (int r = 0; r < runs; r++) {
                int64_t a[10] = {0}, b[10] = {0};
                struct mlc_categories c = {a, b, 10};

                for (int i = 0; i < 1000; i++) {
                        a[(int)(uniform(&seed) * 10)]++;
                        b[(int)(uniform(&seed) * 10)]++;
                }
                psi += mlc_psi(c) > mlc_psi_critical(c, .05);
                chi2 += mlc_contingency(c).p < .05;
                fixed += mlc_psi(c) > .1;
        }
        assert_true(psi >= .04 * runs && psi <= .065 * runs);
        assert_true(chi2 >= .04 * runs && chi2 <= .06 * runs);
        assert_int_equal(fixed, 0);
}

static void sample_ratio(void **state)
{
        (void)state;
        close_to(mlc_sample_ratio_p(500, 10000, .05), 1, 0);
        /* chi-square 100^2 / 500 + 100^2 / 9500 */
        close_to(mlc_sample_ratio_p(600, 10000, .05), mlc_chi2_tail(20 + 10000.0 / 9500, 1), 1e-15);
        assert_true(mlc_sample_ratio_p(600, 10000, .05) < .001);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(special),
                cmocka_unit_test(categories),
                cmocka_unit_test(kolmogorov_smirnov),
                cmocka_unit_test(numbers),
                cmocka_unit_test(ranks_with_ties),
                cmocka_unit_test(delong),
                cmocka_unit_test(sketch),
                cmocka_unit_test(size_without_drift),
                cmocka_unit_test(sample_ratio),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
