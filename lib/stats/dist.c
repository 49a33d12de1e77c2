/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/dist.h"

#include <assert.h>
#include <math.h>

double mlc_normal_cdf(double x)
{
        return 0.5 * erfc(-x * M_SQRT1_2);
}

/* Abramowitz and Stegun 26.2.23: good to 4.5e-4, enough for Halley's cubic convergence. */
static double quantile_start(double p)
{
        double t = sqrt(-2.0 * log(p));

        return -(t - (2.515517 + 0.802853 * t + 0.010328 * t * t) /
                             (1.0 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t));
}

double mlc_normal_quantile(double p)
{
        double x;

        assert(p > 0 && p < 1);
        if (p > 0.5)
                return -mlc_normal_quantile(1.0 - p);
        x = quantile_start(p);
        for (int i = 0; i < 3; i++) {
                double e = mlc_normal_cdf(x) - p;
                double u = e * sqrt(2.0 * M_PI) * exp(x * x / 2.0);

                x -= u / (1.0 + x * u / 2.0);
        }
        return x;
}

double mlc_binomial_pmf(int64_t k, int64_t n, double p)
{
        double lk = (double)k, ln = (double)n;

        assert(k >= 0 && k <= n && p >= 0 && p <= 1);
        if (p == 0.0)
                return k == 0 ? 1.0 : 0.0;
        if (p == 1.0)
                return k == n ? 1.0 : 0.0;
        return exp(lgamma(ln + 1.0) - lgamma(lk + 1.0) - lgamma(ln - lk + 1.0) + lk * log(p) +
                   (ln - lk) * log1p(-p));
}

double mlc_binomial_cdf(int64_t k, int64_t n, double p)
{
        double sum = 0.0, term;

        assert(k >= 0 && k <= n && p >= 0 && p <= 1);
        if (k == n)
                return 1.0;
        if (p == 0.0)
                return 1.0;
        if (p == 1.0)
                return 0.0;
        /* from the largest term of the tail downwards, each from the one before */
        term = mlc_binomial_pmf(k, n, p);
        for (int64_t i = k; i >= 0; i--) {
                double before = sum;

                sum += term;
                if (sum == before && i < k)
                        break;
                term *= (double)i * (1.0 - p) / ((double)(n - i + 1) * p);
        }
        return sum < 1.0 ? sum : 1.0;
}

double mlc_chi2_1_tail(double x)
{
        assert(x >= 0);
        return erfc(sqrt(x / 2.0));
}
