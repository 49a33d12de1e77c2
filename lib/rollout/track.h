/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "codec/json.h"
#include "stats/sequential.h"

/*
 * A rate of bad outcomes (errors, slow requests, wrong answers) of candidate and stable, compared
 * while weights change: sufficient statistics, the test of harm, and the confidence sequence of the
 * difference.
 *
 * Test of harm (H0: the candidate's odds are not higher). Counts gather in batches of at least
 * TRACK_BATCH requests of one generation; conditional on how many requests and bad ones a batch
 * had, the candidate's are hypergeometric, so M is a product over batches that holds whatever
 * weights and rates do between them. Splitting N requests into batches costs 1/N of the
 * information. Once 100 requests of each are in, the test is chosen for good: rare (below 5 %)
 * stays exact; otherwise M so far is multiplied by the normal mixture (mSPRT) over the batches that
 * follow, of the score sum(k_c - k n_c / n) with its hypergeometric variance.
 *
 * Difference: Mantel-Haenszel over batches, sum (k_c n_s - k_s n_c) / n over sum n_c n_s / n.
 * Bounds are those differences d that the one-sided normal mixture does not refute, with the
 * variance that d itself implies; mixed for the sample size at which `margin` can be told from 0.
 */
#define TRACK_BATCH 32
#define TRACK_FLOOR 100 /* of each arm, before a test is chosen */
#define TRACK_RARE 0.05

struct track {
        struct mlc_counts candidate, stable; /* all; k may run ahead of n for a moment */
        struct mlc_odds odds;
        double max_ln; /* the largest ln M so far; 0 at the start */
        double score, weight, v_stable, v_candidate; /* sums of (k_c n_s - k_s n_c)/n, n_c n_s/n,
                                                        n_c n_s^2/n^2, n_c^2 n_s/n^2 */
        bool chosen, mixture;
        double from, s, v, rho; /* of the mixture: ln M when it began, score, variance, rho */
        int64_t pairs, only_stable, only_candidate; /* right answers to the same request */
};

struct track_test {
        double alpha; /* of the test of harm */
        double margin;
};

/* Statistics as JSON, NULL or {}: none yet. Numbers that cannot be are MLC_E_INVALID. */
int track_load(const json_t *json, struct track *ret, struct mlc_err *err) MLC_CHECK;
void track_store(const struct track *t, json_t *json); /* sets its members */

/* The batches that still gather are in json's "gathering". */
struct track_stratum {
        int64_t generation;
        bool shadow;
};
void track_add(struct track *t, json_t *json, struct track_stratum at, struct mlc_batch b,
               struct track_test test);
void track_add_pairs(struct track *t, int64_t n, int64_t only_stable, int64_t only_candidate);

double track_ln(const struct track *t); /* ln M now */
bool track_known(const struct track *t); /* there is a difference to speak of */
double track_estimate(const struct track *t);
/* Both ends, each wrong at any time with probability at most alpha. */
struct mlc_interval track_interval(const struct track *t, double alpha, double margin);
