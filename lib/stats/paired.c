/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/stats.h"

#include <assert.h>
#include <math.h>

#include "stats/dist.h"

/* Tango's score statistic of H0: p1 - p2 = delta; falls as delta rises. */
static double tango_z(struct mlc_paired d, double delta)
{
        double n = (double)d.n, b = (double)d.b, c = (double)d.c;
        double A = 2.0 * n, B = -b - c + (2.0 * n - b + c) * delta;
        double C = -c * delta * (1.0 - delta);
        double root = B * B - 4.0 * A * C;
        double q = (sqrt(root > 0 ? root : 0.0) - B) / (2.0 * A);
        double v = n * (2.0 * q + delta * (1.0 - delta));

        if (v <= 0) /* at the ends of [-1, 1] the variance vanishes */
                return b - c - n * delta > 0 ? INFINITY : -INFINITY;
        return (b - c - n * delta) / sqrt(v);
}

/* Where the statistic crosses z, between lo (statistic above z) and hi (below). */
static double solve(struct mlc_paired d, double z, double lo, double hi)
{
        while (hi - lo > 1e-14) {
                double middle = lo + (hi - lo) / 2.0;

                if (middle == lo || middle == hi)
                        break;
                if (tango_z(d, middle) > z)
                        lo = middle;
                else
                        hi = middle;
        }
        return lo + (hi - lo) / 2.0;
}

struct mlc_interval mlc_tango(struct mlc_paired d, double level)
{
        double z = mlc_normal_quantile(0.5 + level / 2.0);
        double estimate = (double)(d.b - d.c) / (double)d.n;

        assert(d.n > 0 && d.b >= 0 && d.c >= 0 && d.b + d.c <= d.n && level > 0 && level < 1);
        return (struct mlc_interval){d.c == d.n ? -1.0 : solve(d, z, -1.0, estimate),
                                     d.b == d.n ? 1.0 : solve(d, -z, estimate, 1.0)};
}

struct mlc_mcnemar mlc_mcnemar_test(struct mlc_paired d)
{
        int64_t m = d.b + d.c, small = d.b < d.c ? d.b : d.c;
        double gap = fabs((double)(d.b - d.c)), n = (double)m;
        struct mlc_mcnemar r = {.p_corrected = 1, .p_uncorrected = 1, .p_exact = 1, .p_mid = 1};

        assert(d.b >= 0 && d.c >= 0);
        if (m == 0)
                return r;
        r.corrected = gap > 1 ? (gap - 1.0) * (gap - 1.0) / n : 0.0;
        r.uncorrected = gap * gap / n;
        r.p_corrected = mlc_chi2_1_tail(r.corrected);
        r.p_uncorrected = mlc_chi2_1_tail(r.uncorrected);
        r.p_exact = fmin(1.0, 2.0 * mlc_binomial_cdf(small, m, 0.5));
        r.p_mid =
                fmin(1.0, 2.0 * mlc_binomial_cdf(small, m, 0.5) - mlc_binomial_pmf(small, m, 0.5));
        return r;
}

double mlc_mcnemar_superiority(struct mlc_paired d)
{
        int64_t m = d.b + d.c;

        assert(d.b >= 0 && d.c >= 0);
        /* P(X >= b) = P(X <= c) by symmetry */
        return m == 0 ? 1.0 : mlc_binomial_cdf(d.c, m, 0.5);
}

int64_t mlc_n_paired(double discordant, double difference, double tail, double power)
{
        double za = mlc_normal_quantile(1.0 - tail), zb = mlc_normal_quantile(power);
        double dd = difference * difference, root;

        assert(difference != 0 && discordant >= fabs(difference) && discordant <= 1);
        root = za * sqrt(discordant) + zb * sqrt(discordant - dd);
        return (int64_t)ceil(root * root / dd - 1e-9);
}

/* Of m discordant pairs, the fewest that the candidate must win to pass; m + 1 when none are
 * enough. */
static int64_t fewest_wins(const struct mlc_non_inferiority *t, int64_t m)
{
        int64_t lo = 0, hi = m + 1;

        while (lo < hi) {
                int64_t b = lo + (hi - lo) / 2;
                struct mlc_paired d = {b, m - b, t->n};

                if (mlc_tango(d, 1.0 - 2.0 * t->alpha).lo > -t->margin)
                        hi = b;
                else
                        lo = b + 1;
        }
        return lo;
}

double mlc_power_paired(struct mlc_non_inferiority t, double discordant)
{
        double win = discordant > 0 ? 0.5 + t.difference / (2.0 * discordant) : 0.5, sum = 0.0;

        assert(t.n > 0 && discordant >= fabs(t.difference) && discordant <= 1);
        for (int64_t m = 0; m <= t.n; m++) {
                double weight = mlc_binomial_pmf(m, t.n, discordant);
                int64_t b;

                if (weight < 1e-15)
                        continue;
                b = fewest_wins(&t, m);
                if (b > m)
                        continue;
                sum += weight * (b == 0 ? 1.0 : 1.0 - mlc_binomial_cdf(b - 1, m, win));
        }
        return sum;
}
