/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Functions behind the tests: full double precision but for the last few bits, pure, no globals.
 * Arguments outside their domain are an assert. */
double mlc_ln_gamma(double x); /* x > 0 */
double mlc_ln_beta(double a, double b); /* a, b > 0 */
double mlc_ln_choose(double n, double k); /* 0 <= k <= n */
double mlc_gamma_tail(double a, double x); /* Q(a, x), regularised; a > 0, x >= 0 */
double mlc_beta_cdf(double x, double a, double b); /* I_x(a, b), regularised; 0 <= x <= 1 */
/* Upper tail of chi-square and the value that leaves `tail` above itself (0 < tail < 1); df >= 1.
 */
double mlc_chi2_tail(double x, double df);
double mlc_chi2_critical(double tail, double df);
double mlc_t_two_sided(double t, double df); /* P(|T| >= |t|), Student; df > 0 */
/* Kolmogorov's limiting distribution: P(K > x), and the x that leaves `tail` above itself. */
double mlc_kolmogorov_tail(double x);
double mlc_kolmogorov_critical(double tail);
