/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/stats.h"

#include <assert.h>
#include <math.h>

#include "stats/dist.h"

static double z_of(double level)
{
        assert(level > 0 && level < 1);
        return mlc_normal_quantile(0.5 + level / 2.0);
}

struct mlc_interval mlc_wilson(int64_t k, int64_t n, double level)
{
        double z = z_of(level), nn = (double)n, p = (double)k / nn, zz = z * z;
        double middle = p + zz / (2.0 * nn), scale = 1.0 + zz / nn;
        double half = z * sqrt(p * (1.0 - p) / nn + zz / (4.0 * nn * nn));
        struct mlc_interval i = {(middle - half) / scale, (middle + half) / scale};

        assert(n > 0 && k >= 0 && k <= n);
        if (k == 0)
                i.lo = 0.0; /* exactly, not up to rounding */
        if (k == n)
                i.hi = 1.0;
        return i;
}

struct mlc_interval mlc_newcombe(struct mlc_counts one, struct mlc_counts two, double level)
{
        struct mlc_interval i1 = mlc_wilson(one.k, one.n, level),
                            i2 = mlc_wilson(two.k, two.n, level);
        double p1 = (double)one.k / (double)one.n, p2 = (double)two.k / (double)two.n, d = p1 - p2;

        return (struct mlc_interval){d - hypot(p1 - i1.lo, i2.hi - p2),
                                     d + hypot(i1.hi - p1, p2 - i2.lo)};
}

double mlc_two_proportion_z(struct mlc_counts one, struct mlc_counts two)
{
        double n1 = (double)one.n, n2 = (double)two.n;
        double p1 = (double)one.k / n1, p2 = (double)two.k / n2;
        double p = (double)(one.k + two.k) / (n1 + n2);
        double v = p * (1.0 - p) * (1.0 / n1 + 1.0 / n2);

        assert(one.n > 0 && two.n > 0);
        return v > 0 ? (p1 - p2) / sqrt(v) : 0.0;
}

static int64_t round_up(double n)
{
        assert(n >= 0 && n < 9e15);
        return (int64_t)ceil(n - 1e-9);
}

int64_t mlc_n_two_proportions(double p1, double p2, double tail, double power)
{
        double za = mlc_normal_quantile(1.0 - tail), zb = mlc_normal_quantile(power);
        double p = (p1 + p2) / 2.0;
        double root = za * sqrt(2.0 * p * (1.0 - p)) + zb * sqrt(p1 * (1.0 - p1) + p2 * (1.0 - p2));

        assert(p1 != p2);
        return round_up(root * root / ((p1 - p2) * (p1 - p2)));
}

int64_t mlc_n_two_proportions_simple(double p1, double p2, double tail, double power)
{
        double z = mlc_normal_quantile(1.0 - tail) + mlc_normal_quantile(power);

        assert(p1 != p2);
        return round_up(z * z * (p1 * (1.0 - p1) + p2 * (1.0 - p2)) / ((p1 - p2) * (p1 - p2)));
}

/* The fewest right answers of the candidate with which it passes against k2 of the champion; n + 1
 * when none do. */
static int64_t fewest_passing(const struct mlc_non_inferiority *t, int64_t k2)
{
        int64_t lo = 0, hi = t->n + 1;

        while (lo < hi) {
                int64_t k = lo + (hi - lo) / 2;
                struct mlc_interval i;

                i = mlc_newcombe((struct mlc_counts){k, t->n}, (struct mlc_counts){k2, t->n},
                                 1.0 - 2.0 * t->alpha);
                if (i.lo > -t->margin)
                        hi = k;
                else
                        lo = k + 1;
        }
        return lo;
}

double mlc_power_unpaired(struct mlc_non_inferiority t, double p)
{
        double p1 = p + t.difference, sum = 0.0;

        assert(t.n > 0 && p1 >= 0 && p1 <= 1);
        for (int64_t k2 = 0; k2 <= t.n; k2++) {
                double weight = mlc_binomial_pmf(k2, t.n, p);
                int64_t k;

                if (weight < 1e-15)
                        continue;
                k = fewest_passing(&t, k2);
                if (k > t.n)
                        continue;
                sum += weight * (k == 0 ? 1.0 : 1.0 - mlc_binomial_cdf(k - 1, t.n, p1));
        }
        return sum;
}
