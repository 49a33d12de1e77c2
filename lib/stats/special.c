/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/special.h"

#include <assert.h>
#include <math.h>

#define STEPS 10000
#define TINY 1e-300
#define EPS 1e-16

double mlc_ln_gamma(double x)
{
        int sign;

        assert(x > 0);
        return lgamma_r(x, &sign); /* lgamma() writes a global */
}

double mlc_ln_beta(double a, double b)
{
        return mlc_ln_gamma(a) + mlc_ln_gamma(b) - mlc_ln_gamma(a + b);
}

double mlc_ln_choose(double n, double k)
{
        assert(k >= 0 && k <= n);
        return mlc_ln_gamma(n + 1.0) - mlc_ln_gamma(k + 1.0) - mlc_ln_gamma(n - k + 1.0);
}

/* P(a, x) by its series (DLMF 8.11.4), for x < a + 1. */
static double gamma_series(double a, double x)
{
        double term = 1.0 / a, sum = term;

        for (int i = 1; i < STEPS && term > sum * EPS; i++) {
                term *= x / (a + i);
                sum += term;
        }
        return sum * exp(-x + a * log(x) - mlc_ln_gamma(a));
}

/* Q(a, x) by its continued fraction (DLMF 8.9.2), Lentz's method. */
static double gamma_fraction(double a, double x)
{
        double b = x + 1.0 - a, c = 1.0 / TINY, d = 1.0 / b, h = d;

        for (int i = 1; i < STEPS; i++) {
                double an = -i * (i - a), step;

                b += 2.0;
                d = an * d + b;
                d = 1.0 / (fabs(d) < TINY ? TINY : d);
                c = b + an / c;
                c = fabs(c) < TINY ? TINY : c;
                step = d * c;
                h *= step;
                if (fabs(step - 1.0) < EPS)
                        break;
        }
        return h * exp(-x + a * log(x) - mlc_ln_gamma(a));
}

double mlc_gamma_tail(double a, double x)
{
        assert(a > 0 && x >= 0);
        if (x == 0.0)
                return 1.0;
        return x < a + 1.0 ? 1.0 - gamma_series(a, x) : gamma_fraction(a, x);
}

/* DLMF 8.17.22, Lentz's method. */
static double beta_fraction(double x, double a, double b)
{
        double c = 1.0, d = 1.0 - (a + b) * x / (a + 1.0), h;

        d = 1.0 / (fabs(d) < TINY ? TINY : d);
        h = d;
        for (int i = 1; i < STEPS; i++) {
                double m = i, step = 1.0;
                double odd[2] = {m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m)),
                                 -(a + m) * (a + b + m) * x /
                                         ((a + 2.0 * m) * (a + 2.0 * m + 1.0))};

                for (int j = 0; j < 2; j++) {
                        d = 1.0 + odd[j] * d;
                        d = 1.0 / (fabs(d) < TINY ? TINY : d);
                        c = 1.0 + odd[j] / c;
                        c = fabs(c) < TINY ? TINY : c;
                        step = d * c;
                        h *= step;
                }
                if (fabs(step - 1.0) < EPS)
                        break;
        }
        return h;
}

double mlc_beta_cdf(double x, double a, double b)
{
        double front;

        assert(x >= 0 && x <= 1 && a > 0 && b > 0);
        if (x == 0.0 || x == 1.0)
                return x;
        front = exp(a * log(x) + b * log1p(-x) - mlc_ln_beta(a, b));
        if (x < (a + 1.0) / (a + b + 2.0))
                return front * beta_fraction(x, a, b) / a;
        return 1.0 - front * beta_fraction(1.0 - x, b, a) / b;
}

double mlc_chi2_tail(double x, double df)
{
        assert(df >= 1);
        return mlc_gamma_tail(df / 2.0, x / 2.0);
}

/* Where a falling function reaches `tail`; lo is left of it. */
static double root(double (*f)(double x, double df), double df, double tail)
{
        double lo = 0.0, hi = 1.0;

        while (f(hi, df) > tail)
                hi *= 2.0;
        for (int i = 0; i < 200 && hi - lo > 1e-15 * hi; i++) {
                double middle = lo + (hi - lo) / 2.0;

                if (f(middle, df) > tail)
                        lo = middle;
                else
                        hi = middle;
        }
        return lo + (hi - lo) / 2.0;
}

double mlc_chi2_critical(double tail, double df)
{
        assert(tail > 0 && tail < 1);
        return root(mlc_chi2_tail, df, tail);
}

double mlc_t_two_sided(double t, double df)
{
        assert(df > 0);
        return mlc_beta_cdf(df / (df + t * t), df / 2.0, 0.5);
}

double mlc_kolmogorov_tail(double x)
{
        double sum = 0.0;

        assert(x >= 0);
        if (x < 0.2) /* 1 to full precision */
                return 1.0;
        if (x < 1.0) { /* the other theta series converges here */
                for (int k = 1; k < 20; k++)
                        sum += exp(-(2.0 * k - 1.0) * (2.0 * k - 1.0) * M_PI * M_PI /
                                   (8.0 * x * x));
                return 1.0 - sqrt(2.0 * M_PI) / x * sum;
        }
        for (int k = 1; k < 20; k++)
                sum += (k % 2 == 1 ? 2.0 : -2.0) * exp(-2.0 * k * k * x * x);
        return sum;
}

static double kolmogorov(double x, double unused)
{
        (void)unused;
        return mlc_kolmogorov_tail(x);
}

double mlc_kolmogorov_critical(double tail)
{
        assert(tail > 0 && tail < 1);
        return root(kolmogorov, 0.0, tail);
}
