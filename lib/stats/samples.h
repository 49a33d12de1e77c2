/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* Tests of two samples of numbers. n, m at least 2 (asserted); all p are two-sided. */
struct mlc_sample {
        const double *x;
        size_t n;
};

/* Area between the two distribution functions; both ascending. */
double mlc_wasserstein(struct mlc_sample a, struct mlc_sample b);

struct mlc_t {
        double t, df, p; /* p is NaN where all are equal */
};
struct mlc_t mlc_t_welch(struct mlc_sample a, struct mlc_sample b);
struct mlc_t mlc_t_pooled(struct mlc_sample a, struct mlc_sample b);
struct mlc_t mlc_t_paired(const double *a, const double *b, size_t n);

struct mlc_ranks {
        double statistic, p;
        bool exact;
};
/* Mann-Whitney: U = pairs with x > y, ties half. Exact without ties up to 400 pairs, else normal
 * with corrections for ties and continuity. */
struct mlc_ranks mlc_mann_whitney(struct mlc_sample a, struct mlc_sample b);
/* Wilcoxon's signed ranks: the smaller sum; differences of 0 are left out, ties have their mean
 * rank. Exact up to 50 pairs, else normal with corrections. At most 10000 pairs. */
struct mlc_ranks mlc_wilcoxon(const double *a, const double *b, size_t n);

/* Two scores of the same examples (labels 0 and 1): areas under the curve and DeLong's test of
 * their difference. At least two of each label; at most 10000 examples. */
struct mlc_delong {
        double auc[2], z, p;
};
struct mlc_delong mlc_delong_test(const bool *label, const double *one, const double *other,
                                  size_t n);
