/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "stats/stats.h"

/*
 * Tests that may be looked at after every observation: under the hypothesis the statistic M passes
 * 1/alpha ever, at whatever look, with probability at most alpha (Ville's inequality); p = 1/max M.
 * Everything is in logarithms. Arguments outside their domain are an assert.
 */

/* Mixture likelihood ratio of a normal difference with variance v against N(0, tau^2) (Robbins;
 * Johari, Koomen, Pekelis, Walsh 2022): ln M. */
double mlc_msprt(double difference, double v, double tau);
/* Two proportions with the pooled variance; 0 while fewer than 100 of one arm or fewer than 5 hits
 * were seen, where the normal approximation does not hold. */
double mlc_msprt_two_proportions(struct mlc_counts one, struct mlc_counts two, double tau);

/*
 * Exact for events of which each comes from the first of two arms with probability w (its share at
 * that moment), two-sided, uniform prior: k of n events. ln M for a constant w, and the step for
 * one more event where w moves (k and n before it). 0 < w < 1.
 */
double mlc_share_evalue(int64_t k, int64_t n, double w);
double mlc_share_evalue_step(int64_t k, int64_t n, bool first, double w);

/*
 * One-sided and exact, conditional on how many requests and errors each batch had: errors of the
 * candidate are hypergeometric unless its odds of an error are higher. The alternatives are odds
 * ratios from a fixed list, mixed with equal weights; batches are multiplied, so shares and error
 * rates may move between them. Holds for every odds ratio of at most 1.
 */
#define MLC_ODDS_N 10
struct mlc_odds {
        double ln[MLC_ODDS_N]; /* ln of the likelihood ratio of each alternative; starts at 0 */
};
struct mlc_batch {
        int64_t n_candidate, n_stable, k_candidate, k_stable; /* requests, errors among them */
};
void mlc_odds_add(struct mlc_odds *o, struct mlc_batch b);
/* Matched pairs: `worse` of `n` pairs in which exactly one of the two erred. */
void mlc_odds_add_pairs(struct mlc_odds *o, int64_t worse, int64_t n);
double mlc_odds_ln(const struct mlc_odds *o); /* ln M of the mixture */

/* Normal mixture (Howard, Ramdas, McAuliffe, Sekhon 2021) for a sum s with variance v: rho that is
 * best at v_opt, ln M, and the bound that s passes ever with probability alpha. */
double mlc_mixture_rho(double v_opt, double alpha);
double mlc_mixture_ln(double s, double v, double rho); /* two-sided */
double mlc_mixture_bound(double v, double alpha, double rho);
double mlc_mixture_one_sided_ln(double s, double v, double rho);
double mlc_mixture_one_sided_bound(double v, double alpha, double rho);

/* Confidence sequence of a proportion, k of n, two-sided; beta-binomial mixture, narrowest near
 * t_opt observations. */
struct mlc_interval mlc_bernoulli_sequence(struct mlc_counts c, double alpha, double t_opt);
/* Whether p (0 < p < 1) is in that set. */
bool mlc_bernoulli_holds(struct mlc_counts c, double p, double alpha, double t_opt);

/* Planned looks, equally spaced, two-sided alpha, 2 to 10 of them: reject at look i of n when
 * |Z| >= mlc_pocock, or >= mlc_obrien_fleming * sqrt(n / i). By recursive integration (Armitage,
 * McPherson, Rowe 1969), to 1e-4. */
double mlc_pocock(unsigned looks, double alpha);
double mlc_obrien_fleming(unsigned looks, double alpha);
