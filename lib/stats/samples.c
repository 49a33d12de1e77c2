/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/samples.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "stats/dist.h"
#include "stats/special.h"

double mlc_wasserstein(struct mlc_sample a, struct mlc_sample b)
{
        double area = 0.0, at = fmin(a.x[0], b.x[0]);
        size_t i = 0, j = 0;

        assert(a.n >= 1 && b.n >= 1);
        while (i < a.n || j < b.n) {
                double next = i == a.n ? b.x[j] : j == b.n ? a.x[i] : fmin(a.x[i], b.x[j]);

                area += (next - at) * fabs((double)i / (double)a.n - (double)j / (double)b.n);
                at = next;
                while (i < a.n && a.x[i] <= at)
                        i++;
                while (j < b.n && b.x[j] <= at)
                        j++;
        }
        return area;
}

static double mean(struct mlc_sample s)
{
        double sum = 0.0;

        for (size_t i = 0; i < s.n; i++)
                sum += s.x[i];
        return sum / (double)s.n;
}

static double squares(struct mlc_sample s)
{
        double m = mean(s), sum = 0.0;

        assert(s.n >= 2);
        for (size_t i = 0; i < s.n; i++)
                sum += (s.x[i] - m) * (s.x[i] - m);
        return sum;
}

static struct mlc_t t_of(double difference, double variance, double df)
{
        double t = difference / sqrt(variance);

        return (struct mlc_t){t, df, isfinite(t) ? mlc_t_two_sided(t, df) : NAN};
}

struct mlc_t mlc_t_welch(struct mlc_sample a, struct mlc_sample b)
{
        double n = (double)a.n, m = (double)b.n;
        double va = squares(a) / (n - 1.0) / n, vb = squares(b) / (m - 1.0) / m;
        double df = (va + vb) * (va + vb) / (va * va / (n - 1.0) + vb * vb / (m - 1.0));

        return t_of(mean(a) - mean(b), va + vb, df);
}

struct mlc_t mlc_t_pooled(struct mlc_sample a, struct mlc_sample b)
{
        double n = (double)a.n, m = (double)b.n, df = n + m - 2.0;

        return t_of(mean(a) - mean(b), (squares(a) + squares(b)) / df * (1.0 / n + 1.0 / m), df);
}

struct mlc_t mlc_t_paired(const double *a, const double *b, size_t n)
{
        double m = 0.0, sum = 0.0, nn = (double)n;

        assert(n >= 2);
        for (size_t i = 0; i < n; i++)
                m += a[i] - b[i];
        m /= nn;
        for (size_t i = 0; i < n; i++)
                sum += (a[i] - b[i] - m) * (a[i] - b[i] - m);
        return t_of(m, sum / (nn - 1.0) / nn, nn - 1.0);
}

/* P(sum of the ranks taken <= w), each of n taken or not; ranks and w are doubled, so that those
 * of ties are whole. */
static double signed_ranks_below(const unsigned *rank, size_t n, size_t w)
{
        double ways[50 * 51 + 1] = {1.0}, sum = 0.0;

        assert(n <= 50);
        for (size_t i = 0, top = 0; i < n; i++) {
                top += rank[i];
                for (size_t j = top; j >= rank[i]; j--)
                        ways[j] += ways[j - rank[i]];
        }
        for (size_t j = 0; j <= w; j++)
                sum += ways[j];
        return ldexp(sum, -(int)n);
}

/* P(U <= u) without ties: the number of partitions into at most n parts, each at most m, by the
 * product of (1 - q^(m+i)) / (1 - q^i). */
static double u_below(size_t n, size_t m, size_t u)
{
        double ways[401] = {1.0}, sum = 0.0;

        assert(n * m <= 400 && u <= n * m);
        for (size_t i = 1; i <= n; i++) {
                for (size_t j = n * m; j >= m + i && j <= n * m; j--)
                        ways[j] -= ways[j - m - i];
                for (size_t j = i; j <= n * m; j++)
                        ways[j] += ways[j - i];
        }
        for (size_t j = 0; j <= u; j++)
                sum += ways[j];
        return sum / exp(mlc_ln_choose((double)(n + m), (double)n));
}

/* Number of values, in both samples, that equal v. */
static double equal_to(struct mlc_sample a, double v)
{
        double n = 0.0;

        for (size_t i = 0; i < a.n; i++)
                n += a.x[i] == v;
        return n;
}

struct mlc_ranks mlc_mann_whitney(struct mlc_sample a, struct mlc_sample b)
{
        double n = (double)a.n, m = (double)b.n, all = n + m, u = 0.0, ties = 0.0, v, off;
        struct mlc_ranks ret;

        assert(a.n >= 2 && b.n >= 2);
        for (size_t i = 0; i < a.n; i++)
                for (size_t j = 0; j < b.n; j++)
                        u += a.x[i] > b.x[j] ? 1.0 : a.x[i] == b.x[j] ? 0.5 : 0.0;
        for (int side = 0; side < 2; side++) /* t^3 - t over groups is t^2 - 1 over members */
                for (size_t i = 0; i < (side == 0 ? a.n : b.n); i++) {
                        double t = side == 0 ? a.x[i] : b.x[i];

                        t = equal_to(a, t) + equal_to(b, t);
                        ties += t * t - 1.0;
                }
        ret = (struct mlc_ranks){u, 0.0, ties == 0.0 && a.n * b.n <= 400};
        if (ret.exact) {
                double small = fmin(u, n * m - u);

                ret.p = fmin(1.0, 2.0 * u_below(a.n, b.n, (size_t)small));
                return ret;
        }
        v = n * m / 12.0 * (all + 1.0 - ties / (all * (all - 1.0)));
        off = fmax(fabs(u - n * m / 2.0) - 0.5, 0.0);
        ret.p = v > 0 ? 2.0 * mlc_normal_cdf(-off / sqrt(v)) : 1.0;
        return ret;
}

struct mlc_ranks mlc_wilcoxon(const double *a, const double *b, size_t n)
{
        double plus = 0.0, ties = 0.0, nn, v, off;
        unsigned rank[50] = {0};
        struct mlc_ranks ret;
        size_t m = 0;

        assert(n >= 2 && n <= 10000);
        for (size_t i = 0; i < n; i++) {
                double d = a[i] - b[i], below = 0.0, same = 0.0, mid;

                if (d == 0.0)
                        continue;
                for (size_t j = 0; j < n; j++) {
                        double e = fabs(a[j] - b[j]);

                        below += e > 0 && e < fabs(d);
                        same += e == fabs(d);
                }
                mid = below + (same + 1.0) / 2.0;
                if (m < 50)
                        rank[m] = (unsigned)(2.0 * mid);
                m++;
                ties += same * same - 1.0;
                plus += d > 0 ? mid : 0.0;
        }
        nn = (double)m;
        ret = (struct mlc_ranks){fmin(plus, nn * (nn + 1.0) / 2.0 - plus), 1.0, m <= 50};
        if (m == 0)
                return ret;
        if (ret.exact) {
                v = signed_ranks_below(rank, m, (size_t)(2.0 * ret.statistic));
                ret.p = fmin(1.0, 2.0 * v);
                return ret;
        }
        v = nn * (nn + 1.0) * (2.0 * nn + 1.0) / 24.0 - ties / 48.0;
        off = fmax(nn * (nn + 1.0) / 4.0 - ret.statistic - 0.5, 0.0);
        ret.p = 2.0 * mlc_normal_cdf(-off / sqrt(v));
        return ret;
}

static double half_kernel(double x, double y)
{
        return x > y ? 1.0 : x == y ? 0.5 : 0.0;
}

/* For every example of label `of`: the share of the others that it is placed right against. */
static void placements(const bool *label, const double *score, size_t n, double *ret)
{
        for (size_t i = 0; i < n; i++) {
                double sum = 0.0, others = 0.0;

                for (size_t j = 0; j < n; j++) {
                        if (label[j] == label[i])
                                continue;
                        others += 1.0;
                        sum += label[i] ? half_kernel(score[i], score[j])
                                        : half_kernel(score[j], score[i]);
                }
                ret[i] = sum / others;
        }
}

static double covariance(const bool *label, bool of, const double *v, const double *w, size_t n)
{
        double mv = 0.0, mw = 0.0, sum = 0.0, m = 0.0;

        for (size_t i = 0; i < n; i++)
                if (label[i] == of) {
                        mv += v[i];
                        mw += w[i];
                        m += 1.0;
                }
        assert(m >= 2);
        for (size_t i = 0; i < n; i++)
                if (label[i] == of)
                        sum += (v[i] - mv / m) * (w[i] - mw / m);
        return sum / (m - 1.0) / m;
}

struct mlc_delong mlc_delong_test(const bool *label, const double *one, const double *other,
                                  size_t n)
{
        double v[2][10000], m = 0.0, variance;
        struct mlc_delong ret = {0};

        assert(n >= 4 && n <= 10000);
        placements(label, one, n, v[0]);
        placements(label, other, n, v[1]);
        for (size_t i = 0; i < n; i++)
                if (label[i]) {
                        ret.auc[0] += v[0][i];
                        ret.auc[1] += v[1][i];
                        m += 1.0;
                }
        ret.auc[0] /= m;
        ret.auc[1] /= m;
        variance = 0.0;
        for (int of = 0; of < 2; of++)
                variance += covariance(label, of, v[0], v[0], n) +
                            covariance(label, of, v[1], v[1], n) -
                            2.0 * covariance(label, of, v[0], v[1], n);
        ret.z = variance > 0 ? (ret.auc[0] - ret.auc[1]) / sqrt(variance) : 0.0;
        ret.p = 2.0 * mlc_normal_cdf(-fabs(ret.z));
        return ret;
}
