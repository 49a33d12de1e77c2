/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/*
 * Tests and intervals that decide about models. Counts are exact integers, results double, to 1e-9
 * relative of the published fixtures. `level` is two-sided confidence (0.95), `alpha` a one-sided
 * error. Arguments outside their domain (n <= 0, k > n, level outside (0, 1)) are an assert:
 * callers validate what comes from outside.
 */
struct mlc_interval {
        double lo, hi;
};

/* k of n. Wilson's score interval (Wilson 1927). */
struct mlc_interval mlc_wilson(int64_t k, int64_t n, double level);

struct mlc_counts {
        int64_t k, n; /* right answers, examples */
};

/* p1 - p2 of independent samples. Newcombe's hybrid score interval (Newcombe 1998, method 10). */
struct mlc_interval mlc_newcombe(struct mlc_counts one, struct mlc_counts two, double level);
/* z of the pooled two-proportion test of p1 = p2; 0 when both are all right or all wrong. */
double mlc_two_proportion_z(struct mlc_counts one, struct mlc_counts two);

/* Two models on the same n examples: `b` only the first got right, `c` only the second. */
struct mlc_paired {
        int64_t b, c, n;
};

/* p1 - p2 = (b - c) / n. Tango's score interval (Tango 1998), each end solved to 1e-13. */
struct mlc_interval mlc_tango(struct mlc_paired d, double level);

struct mlc_mcnemar {
        double corrected,
                uncorrected; /* chi-square, one degree of freedom; 0 without discordant pairs */
        double p_corrected, p_uncorrected; /* two-sided */
        double p_exact, p_mid; /* two-sided; Binomial(b + c, 1/2) */
};
struct mlc_mcnemar mlc_mcnemar_test(struct mlc_paired d);
/* One-sided exact p that the first is not better: P(X >= b), X ~ Binomial(b + c, 1/2). */
double mlc_mcnemar_superiority(struct mlc_paired d);

/* Examples needed, rounded up; `tail` is the error in one tail (two-sided alpha: alpha / 2). */
int64_t mlc_n_two_proportions(double p1, double p2, double tail,
                              double power); /* per arm, pooled form */
int64_t mlc_n_two_proportions_simple(double p1, double p2, double tail, double power); /* per arm */
/* Pairs needed to tell a difference of `difference` when a share `discordant` of the pairs differs.
 */
int64_t mlc_n_paired(double discordant, double difference, double tail, double power);

/*
 * The probability that a model whose true accuracy differs from p by `difference` (candidate minus
 * champion) passes non-inferiority: lower end of the interval at level 1 - 2 alpha above -margin.
 * Exact, by summing over all outcomes. Unpaired: both scored on n examples each. Paired: a share
 * `discordant` of n pairs differs.
 */
struct mlc_non_inferiority {
        int64_t n;
        double margin, alpha, difference;
};
double mlc_power_unpaired(struct mlc_non_inferiority t, double p);
double mlc_power_paired(struct mlc_non_inferiority t, double discordant);
