/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/*
 * Distributions. Pure functions of their arguments in double; sums run in a fixed order, so that
 * the same input gives the same bits. Arguments outside their domain are an assert.
 */
double mlc_normal_cdf(double x);
/* 0 < p < 1; to full double precision (a rational start, two Halley steps on erfc). */
double mlc_normal_quantile(double p);
/* P(X = k) and P(X <= k) of Binomial(n, p), 0 <= k <= n, 0 <= p <= 1. */
double mlc_binomial_pmf(int64_t k, int64_t n, double p);
double mlc_binomial_cdf(int64_t k, int64_t n, double p);
/* Upper tail of chi-square with one degree of freedom, x >= 0. */
double mlc_chi2_1_tail(double x);
