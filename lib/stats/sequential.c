/* SPDX-License-Identifier: Apache-2.0 */
#include "stats/sequential.h"

#include <assert.h>
#include <math.h>

#include "stats/dist.h"
#include "stats/special.h"

double mlc_msprt(double difference, double v, double tau)
{
        double t = tau * tau;

        assert(v > 0 && tau > 0);
        return 0.5 * log(v / (v + t)) + t * difference * difference / (2.0 * v * (v + t));
}

double mlc_msprt_two_proportions(struct mlc_counts one, struct mlc_counts two, double tau)
{
        double n1 = (double)one.n, n2 = (double)two.n;
        double p = (double)(one.k + two.k) / (n1 + n2);
        double v = p * (1.0 - p) * (1.0 / n1 + 1.0 / n2);

        assert(one.n > 0 && two.n > 0);
        if (one.n < 100 || two.n < 100 || one.k + two.k < 5 || v <= 0)
                return 0.0;
        return mlc_msprt((double)one.k / n1 - (double)two.k / n2, v, tau);
}

double mlc_share_evalue(int64_t k, int64_t n, double w)
{
        double kk = (double)k, rest = (double)(n - k);

        assert(k >= 0 && k <= n && w > 0 && w < 1);
        return mlc_ln_beta(kk + 1.0, rest + 1.0) - kk * log(w) - rest * log1p(-w);
}

double mlc_share_evalue_step(int64_t k, int64_t n, bool first, double w)
{
        double predicted = ((double)k + 1.0) / ((double)n + 2.0);

        assert(k >= 0 && k <= n && w > 0 && w < 1);
        return first ? log(predicted / w) : log((1.0 - predicted) / (1.0 - w));
}

/* From a tenth more to a hundred times as many; two in the middle of what canaries meet. */
static const double RATIOS[MLC_ODDS_N] = {1.15, 1.3, 1.5, 1.75, 2.0, 2.5, 3.5, 6.0, 15.0, 100.0};

#define TERM_MIN 1e-30 /* of the largest: what is below changes no digit */

/* ln of the sum over j of C(a, j) C(b, e - j) r^j, j from lo to hi: in both directions from about
 * the largest term (the mode of Fisher's noncentral hypergeometric distribution), each from the one
 * before. */
static double ln_tilted(const double abe[3], const double range[2], double r)
{
        double a = abe[0], b = abe[1], e = abe[2], sum = 1.0, term = 1.0, most = 1.0;
        double q = e - b - (a + e + 2.0) * r, c = (a + 1.0) * (e + 1.0) * r;
        double mode = floor(-2.0 * c / (q - sqrt(q * q - 4.0 * (r - 1.0) * c))), j;

        mode = fmin(fmax(mode, range[0]), range[1]);
        j = mode;
        while (j < range[1] && term > most * TERM_MIN) {
                term *= r * (a - j) * (e - j) / ((j + 1.0) * (b - e + j + 1.0));
                sum += term;
                most = fmax(most, term);
                j += 1.0;
        }
        term = 1.0;
        j = mode;
        while (j > range[0] && term > most * TERM_MIN) {
                term *= j * (b - e + j) / (r * (a - j + 1.0) * (e - j + 1.0));
                sum += term;
                j -= 1.0;
        }
        return log(sum) + mlc_ln_choose(a, mode) + mlc_ln_choose(b, e - mode) + mode * log(r);
}

void mlc_odds_add(struct mlc_odds *o, struct mlc_batch b)
{
        double a = (double)b.n_candidate, rest = (double)b.n_stable;
        double e = (double)(b.k_candidate + b.k_stable), plain;
        double abe[3] = {a, rest, e}, range[2] = {fmax(0.0, e - rest), fmin(a, e)};

        assert(b.k_candidate >= 0 && b.k_stable >= 0 && b.k_candidate <= b.n_candidate &&
               b.k_stable <= b.n_stable);
        if (range[0] == range[1]) /* no errors, nothing but errors, or one arm alone */
                return;
        plain = ln_tilted(abe, range, 1.0);
        for (unsigned i = 0; i < MLC_ODDS_N; i++)
                o->ln[i] += (double)b.k_candidate * log(RATIOS[i]) -
                            ln_tilted(abe, range, RATIOS[i]) + plain;
}

void mlc_odds_add_pairs(struct mlc_odds *o, int64_t worse, int64_t n)
{
        assert(worse >= 0 && worse <= n);
        for (unsigned i = 0; i < MLC_ODDS_N; i++)
                o->ln[i] +=
                        (double)worse * log(RATIOS[i]) - (double)n * log((1.0 + RATIOS[i]) / 2.0);
}

double mlc_odds_ln(const struct mlc_odds *o)
{
        double most = o->ln[0], sum = 0.0;

        for (unsigned i = 1; i < MLC_ODDS_N; i++)
                most = fmax(most, o->ln[i]);
        for (unsigned i = 0; i < MLC_ODDS_N; i++)
                sum += exp(o->ln[i] - most);
        return most + log(sum / MLC_ODDS_N);
}

double mlc_mixture_rho(double v_opt, double alpha)
{
        assert(v_opt > 0 && alpha > 0 && alpha < 1);
        return v_opt / (2.0 * log(1.0 / alpha) + log(1.0 + 2.0 * log(1.0 / alpha)));
}

double mlc_mixture_ln(double s, double v, double rho)
{
        assert(v >= 0 && rho > 0);
        return 0.5 * log(rho / (v + rho)) + s * s / (2.0 * (v + rho));
}

double mlc_mixture_bound(double v, double alpha, double rho)
{
        assert(v >= 0 && rho > 0 && alpha > 0 && alpha < 1);
        return sqrt((v + rho) * (log(1.0 + v / rho) + 2.0 * log(1.0 / alpha)));
}

/* ln of the normal distribution function, also far in the lower tail. */
static double ln_phi(double x)
{
        double z = x * x;

        if (x > -30.0)
                return log(mlc_normal_cdf(x));
        return -z / 2.0 - log(-x * sqrt(2.0 * M_PI)) + log1p(-1.0 / z + 3.0 / (z * z));
}

double mlc_mixture_one_sided_ln(double s, double v, double rho)
{
        assert(v >= 0 && rho > 0);
        return 0.5 * log(4.0 * rho / (v + rho)) + s * s / (2.0 * (v + rho)) +
               ln_phi(s / sqrt(v + rho));
}

double mlc_mixture_one_sided_bound(double v, double alpha, double rho)
{
        double lo = 0.0, hi = mlc_mixture_bound(v, alpha, rho) + 1.0, level = log(1.0 / alpha);

        while (mlc_mixture_one_sided_ln(hi, v, rho) < level)
                hi *= 2.0;
        for (int i = 0; i < 200 && hi - lo > 1e-14 * hi; i++) {
                double middle = lo + (hi - lo) / 2.0;

                if (mlc_mixture_one_sided_ln(middle, v, rho) < level)
                        lo = middle;
                else
                        hi = middle;
        }
        return lo + (hi - lo) / 2.0;
}

/* ln M of the beta-binomial mixture at the hypothesis p, 0 < p < 1. */
static double bernoulli_ln(struct mlc_counts c, double p, double alpha, double t_opt)
{
        double g = p, h = 1.0 - p, n = (double)c.n, s = (double)c.k - n * p, v = n * g * h;
        double rho = mlc_mixture_rho(g * h * t_opt, alpha), r = fmax(rho - g * h, 1e-3 * g * h);

        return -(v + h * s) / h * log(g) - (v - g * s) / g * log(h) +
               mlc_ln_beta((r + v - g * s) / g, (r + v + h * s) / h) - mlc_ln_beta(r / g, r / h);
}

bool mlc_bernoulli_holds(struct mlc_counts c, double p, double alpha, double t_opt)
{
        assert(c.n > 0 && c.k >= 0 && c.k <= c.n && p > 0 && p < 1);
        return bernoulli_ln(c, p, alpha, t_opt) < log(1.0 / alpha);
}

struct mlc_interval mlc_bernoulli_sequence(struct mlc_counts c, double alpha, double t_opt)
{
        struct mlc_interval ret = {0.0, 1.0};
        double p = (double)c.k / (double)c.n;

        assert(c.n > 0 && c.k >= 0 && c.k <= c.n && t_opt > 0);
        for (int side = 0; side < 2; side++) {
                double out = side, in = p;

                if (in == out)
                        continue;
                for (int i = 0; i < 100 && fabs(in - out) > 1e-13; i++) {
                        double middle = (in + out) / 2.0;

                        if (mlc_bernoulli_holds(c, middle, alpha, t_opt))
                                in = middle;
                        else
                                out = middle;
                }
                if (side == 0)
                        ret.lo = in;
                else
                        ret.hi = in;
        }
        return ret;
}

#define GRID 801
#define GRID_HI 8.0

/* P(|Z_i| < bound sqrt(shape ? looks / i : 1) for all looks): the density of the score that is
 * still inside, carried from look to look; Simpson's rule. */
static double inside(unsigned looks, double bound, bool shape)
{
        double now[GRID], next[GRID], edge = bound * (shape ? sqrt((double)looks) : 1.0);
        double ret = 0.0;

        for (unsigned j = 0; j < GRID; j++) {
                double x = edge * (2.0 * j / (GRID - 1) - 1.0);

                now[j] = exp(-x * x / 2.0) / sqrt(2.0 * M_PI);
        }
        for (unsigned look = 1;; look++) {
                double to = bound * (shape ? sqrt((double)looks) : sqrt((double)look + 1.0));
                double step = 2.0 * edge / (GRID - 1);

                ret = 0.0;
                for (unsigned j = 0; j < GRID; j++)
                        ret += now[j] * step / 3.0 *
                               (j == 0 || j == GRID - 1 ? 1.0
                                : j % 2 == 1            ? 4.0
                                                        : 2.0);
                if (look == looks)
                        return ret;
                for (unsigned i = 0; i < GRID; i++) {
                        double x = to * (2.0 * i / (GRID - 1) - 1.0), sum = 0.0;

                        for (unsigned j = 0; j < GRID; j++) {
                                double y = edge * (2.0 * j / (GRID - 1) - 1.0), d = x - y;

                                if (fabs(d) < GRID_HI)
                                        sum += now[j] * exp(-d * d / 2.0) *
                                               (j == 0 || j == GRID - 1 ? 1.0
                                                : j % 2 == 1            ? 4.0
                                                                        : 2.0);
                        }
                        next[i] = sum * step / 3.0 / sqrt(2.0 * M_PI);
                }
                for (unsigned i = 0; i < GRID; i++)
                        now[i] = next[i];
                edge = to;
        }
}

static double boundary(unsigned looks, double alpha, bool shape)
{
        double lo = 1.0, hi = 6.0;

        assert(looks >= 2 && looks <= 10 && alpha > 1e-6 && alpha < 0.5);
        while (hi - lo > 1e-5) {
                double middle = (lo + hi) / 2.0;

                if (1.0 - inside(looks, middle, shape) > alpha)
                        lo = middle;
                else
                        hi = middle;
        }
        return (lo + hi) / 2.0;
}

double mlc_pocock(unsigned looks, double alpha)
{
        return boundary(looks, alpha, false);
}

double mlc_obrien_fleming(unsigned looks, double alpha)
{
        return boundary(looks, alpha, true);
}
