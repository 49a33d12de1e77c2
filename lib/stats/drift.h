/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * How far two distributions are apart. Counts are exact, sums run in the order given. Arguments
 * outside their domain (no category, more than the most, negative counts, no observation) are an
 * assert.
 */
#define MLC_CATEGORIES_MAX 4096
#define MLC_PSI_EPSILON 1e-4 /* share that stands for an empty cell */
#define MLC_PSI_PER_BIN                                                                            \
        25 /* expected in each bin, below which PSI's critical value does not hold */

struct mlc_categories {
        const int64_t *current, *reference; /* counts */
        unsigned k; /* categories */
};

double mlc_psi(struct mlc_categories c);
/* The value that PSI passes with probability `alpha` without any drift: (1/n + 1/m) chi-square. */
double mlc_psi_critical(struct mlc_categories c, double alpha);
double mlc_kl(struct mlc_categories c); /* of reference from current, natural logarithm; infinite
                                           when current lacks a category */
double mlc_js_distance(struct mlc_categories c); /* natural logarithm */
double mlc_hellinger(struct mlc_categories c);
double mlc_total_variation(struct mlc_categories c);
double mlc_share_max(struct mlc_categories c); /* largest difference of shares */

struct mlc_chi2 {
        double statistic, p;
        double effect; /* Cramer's V */
        unsigned df; /* 0: fewer than two categories are left, nothing is tested */
};
/* 2 x k contingency table; categories with an expected count below 5 in either row are merged. */
struct mlc_chi2 mlc_contingency(struct mlc_categories c);

struct mlc_ks {
        double d, p; /* exact when n * m <= 10000, else Kolmogorov's limit */
};
/* Two samples, ascending; or counts in ordered bins (exact but for the width of a bin, and then p
 * is an upper bound, since ties only lower it). */
struct mlc_ks mlc_ks_samples(const double *x, size_t n, const double *y, size_t m);
struct mlc_ks mlc_ks_bins(struct mlc_categories c);

/* Sample ratio: chi-square test that k of n came with probability w; 0 < w < 1. p. */
double mlc_sample_ratio_p(int64_t k, int64_t n, double w);
