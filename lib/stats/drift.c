/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/drift.h"

#include <assert.h>
#include <math.h>
#include <stdbool.h>

#include "stats/special.h"

static double total(const int64_t *n, unsigned k)
{
        int64_t sum = 0;

        assert(k >= 1 && k <= MLC_CATEGORIES_MAX);
        for (unsigned i = 0; i < k; i++) {
                assert(n[i] >= 0);
                sum += n[i];
        }
        assert(sum > 0);
        return (double)sum;
}

double mlc_psi(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), sum = 0.0;

        for (unsigned i = 0; i < c.k; i++) {
                double p = (double)c.current[i] / n, q = (double)c.reference[i] / m;

                if (p == 0.0 && q == 0.0)
                        continue;
                p = p > 0 ? p : MLC_PSI_EPSILON;
                q = q > 0 ? q : MLC_PSI_EPSILON;
                sum += (p - q) * log(p / q);
        }
        return sum;
}

double mlc_psi_critical(struct mlc_categories c, double alpha)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k);

        assert(c.k >= 2);
        return (1.0 / n + 1.0 / m) * mlc_chi2_critical(alpha, c.k - 1);
}

static double divergence(double p, double q)
{
        return p > 0 ? p * log(p / q) : 0.0;
}

double mlc_kl(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), sum = 0.0;

        for (unsigned i = 0; i < c.k; i++)
                sum += divergence((double)c.reference[i] / m, (double)c.current[i] / n);
        return sum;
}

double mlc_js_distance(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), sum = 0.0;

        for (unsigned i = 0; i < c.k; i++) {
                double p = (double)c.current[i] / n, q = (double)c.reference[i] / m;

                sum += divergence(p, (p + q) / 2.0) + divergence(q, (p + q) / 2.0);
        }
        return sqrt(fmax(sum, 0.0) / 2.0);
}

double mlc_hellinger(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), sum = 0.0;

        for (unsigned i = 0; i < c.k; i++)
                sum += sqrt((double)c.current[i] / n * ((double)c.reference[i] / m));
        return sqrt(fmax(1.0 - sum, 0.0));
}

double mlc_total_variation(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), sum = 0.0;

        for (unsigned i = 0; i < c.k; i++)
                sum += fabs((double)c.current[i] / n - (double)c.reference[i] / m);
        return sum / 2.0;
}

double mlc_share_max(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), most = 0.0;

        for (unsigned i = 0; i < c.k; i++)
                most = fmax(most, fabs((double)c.current[i] / n - (double)c.reference[i] / m));
        return most;
}

/* One category of the table: its share of the statistic. */
static double cell(double a, double b, double n, double m)
{
        double ea = (a + b) * n / (n + m), eb = (a + b) * m / (n + m);

        return (a - ea) * (a - ea) / ea + (b - eb) * (b - eb) / eb;
}

struct mlc_chi2 mlc_contingency(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k);
        double few = 5.0 * (n + m) / fmin(n, m); /* of both rows, for 5 expected in the smaller */
        double rest_a = 0.0, rest_b = 0.0;
        struct mlc_chi2 ret = {.p = 1.0};
        unsigned kept = 0;

        for (unsigned i = 0; i < c.k; i++) {
                double a = (double)c.current[i], b = (double)c.reference[i];

                if (a + b >= few) {
                        ret.statistic += cell(a, b, n, m);
                        kept++;
                } else {
                        rest_a += a;
                        rest_b += b;
                }
        }
        if (rest_a + rest_b > 0) {
                ret.statistic += cell(rest_a, rest_b, n, m);
                kept++;
        }
        if (kept < 2)
                return (struct mlc_chi2){.p = 1.0};
        ret.df = kept - 1;
        ret.p = mlc_chi2_tail(ret.statistic, ret.df);
        ret.effect = sqrt(ret.statistic / (n + m));
        return ret;
}

/* P(some point of a random path from (0,0) to (n,m) has |i m - j n| >= far): by the share of paths
 * that stay inside, row by row. */
static double ks_exact(int64_t n, int64_t m, int64_t far)
{
        double inside[10001];

        assert(n >= 1 && m >= 1 && n * m <= 10000);
        for (int64_t i = 0; i <= n; i++)
                for (int64_t j = 0; j <= m; j++) {
                        double v = 0.0;
                        int64_t apart = i * m - j * n;

                        if (i == 0 && j == 0)
                                v = 1.0;
                        else if ((apart < 0 ? -apart : apart) < far)
                                v = (i > 0 ? inside[j] * (double)i : 0.0) / (double)(i + j) +
                                    (j > 0 ? inside[j - 1] * (double)j : 0.0) / (double)(i + j);
                        inside[j] = v;
                }
        return 1.0 - inside[m];
}

static struct mlc_ks ks(int64_t n, int64_t m, int64_t far)
{
        double nn = (double)n, mm = (double)m;
        struct mlc_ks ret = {.d = (double)far / (nn * mm)};

        if (far == 0)
                ret.p = 1.0;
        else if (nn * mm <= 10000.0)
                ret.p = ks_exact(n, m, far);
        else
                ret.p = mlc_kolmogorov_tail(sqrt(nn * mm / (nn + mm)) * ret.d);
        return ret;
}

struct mlc_ks mlc_ks_samples(const double *x, size_t n, const double *y, size_t m)
{
        int64_t nn = (int64_t)n, mm = (int64_t)m, far = 0;
        size_t i = 0, j = 0;

        assert(n >= 1 && m >= 1 && n < (1u << 31) && m < (1u << 31));
        while (i < n && j < m) {
                double at = fmin(x[i], y[j]);
                int64_t apart;

                while (i < n && x[i] <= at)
                        i++;
                while (j < m && y[j] <= at)
                        j++;
                apart = (int64_t)i * mm - (int64_t)j * nn;
                far = apart > far ? apart : -apart > far ? -apart : far;
        }
        return ks(nn, mm, far);
}

struct mlc_ks mlc_ks_bins(struct mlc_categories c)
{
        double n = total(c.current, c.k), m = total(c.reference, c.k), d = 0.0;
        int64_t a = 0, b = 0, nn, mm, far = 0;

        nn = (int64_t)n;
        mm = (int64_t)m;
        if (n * m > 1e17) { /* beyond exact integers, where only the limit is used anyway */
                for (unsigned i = 0; i < c.k; i++) {
                        a += c.current[i];
                        b += c.reference[i];
                        d = fmax(d, fabs((double)a / n - (double)b / m));
                }
                return (struct mlc_ks){d, mlc_kolmogorov_tail(sqrt(n * m / (n + m)) * d)};
        }
        for (unsigned i = 0; i < c.k; i++) {
                int64_t apart;

                a += c.current[i];
                b += c.reference[i];
                apart = a * mm - b * nn;
                far = apart > far ? apart : -apart > far ? -apart : far;
        }
        return ks(nn, mm, far);
}

double mlc_sample_ratio_p(int64_t k, int64_t n, double w)
{
        double e = (double)n * w, off = (double)k - e;

        assert(n > 0 && k >= 0 && k <= n && w > 0 && w < 1);
        return mlc_chi2_tail(off * off / e + off * off / ((double)n - e), 1);
}
