/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/json.h"
#include "rollout/latency.h"
#include "rollout/track.h"
#include "stats/drift.h"
#include "stats/sketch.h"

/*
 * Inside lib/rollout: the members of rollout-stats/v1.
 *   generations [{generation, step, weight, key, shadow, candidate{requests, errors},
 *     stable{…}}…] the last STATS_GENERATIONS
 *   totals {candidate{requests, errors}, stable{…}}
 *   steps {STEP: {requests, labels}} (the candidate's)
 *   rates {CHECK ID: rollout/track.h}
 *   latency {step, candidate [[bucket, n]…], stable} of the present step
 *   outputs {step, candidate {CLASS: n}, stable, candidate_values [[cell, n]…], stable_values}
 *   looks {CHECK ID: {look, next, result|null, harm|null}} the results of prediction-distribution
 *   agreement {CHECK ID: {n, agree, noise_n, noise_agree}}
 *   classes [[stable's, candidate's, n]…]
 *   promql {CHECK ID: {n, beyond, value|null, error|null}}
 *   ab null | {began_ms|null, frozen null | {candidate{n, bad}, stable, pairs{…}}}
 */
#define STATS_GENERATIONS 100
#define STATS_PAIRS_MAX 256 /* class pairs kept; further ones count as "" */
#define STATS_LOOK_FIRST 100 /* predictions of the smaller arm at the first look of a step */
#define STATS_COUNT_MAX (INT64_C(1) << 40)

/* [[i, n]…] added to n[i - first]; what lies outside of the range counts at its end. MLC_E_INVALID
 * with the pointer `at` for anything else. */
struct stats_cells {
        int64_t *n;
        int first;
        unsigned size;
};
int stats_cells_add(const json_t *list, const char *at, struct stats_cells c,
                    struct mlc_err *err) MLC_CHECK;
json_t *stats_cells_store(struct stats_cells c);
/* The same into a histogram of latencies. */
int stats_latency_add(const json_t *buckets, const char *at, struct mlc_latency *h,
                      struct mlc_err *err) MLC_CHECK;

/* One look at the distribution of outputs (rollout/outputs.c): {"method", "statistic", "p",
 * "effect", "candidate", "stable", "reason"|null}. */
struct stats_look {
        const json_t *check, *outputs;
};
json_t *stats_look_at(struct stats_look in);
