/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * Latency histogram in logarithmic buckets (DDSketch, Masson, Rim, Lee 2019): relative error 1 %,
 * gamma = 1.01 / 0.99, bucket i holds gamma^(i-1) < x <= gamma^i microseconds. Histograms add up
 * bucket by bucket, so gateways, restarts and increments merge exactly.
 * Everything up to 10 us is in the first bucket, everything above about an hour and a half in the
 * last. In JSON: {"gamma": "1.02020202", "min_us": 10, "buckets": [[i, n], …]}, i ascending, n > 0.
 */
#define MLC_LATENCY_ACCURACY 0.01
#define MLC_LATENCY_GAMMA_TEXT "1.02020202"
#define MLC_LATENCY_MIN_US 10
#define MLC_LATENCY_FIRST 116 /* number i of the first bucket */
#define MLC_LATENCY_BUCKETS 1008
#define MLC_LATENCY_LAST (MLC_LATENCY_FIRST + MLC_LATENCY_BUCKETS - 1)

struct mlc_latency {
        uint64_t n[MLC_LATENCY_BUCKETS]; /* of bucket MLC_LATENCY_FIRST + index */
};

/* The number of the bucket that holds `us`: MLC_LATENCY_FIRST … MLC_LATENCY_LAST. */
unsigned mlc_latency_bucket(uint64_t us);
/* What bucket `i` stands for, in microseconds: 2 gamma^i / (gamma + 1). */
double mlc_latency_value(unsigned i);
/* The largest value of bucket `i`, in microseconds: gamma^i. */
double mlc_latency_upper(unsigned i);

void mlc_latency_add(struct mlc_latency *h, uint64_t us);
void mlc_latency_merge(struct mlc_latency *h, const struct mlc_latency *other);
uint64_t mlc_latency_count(const struct mlc_latency *h);
/*
 * How many were slower than `us`: the sum of the buckets above the one that holds `us`. Exact where
 * `us` is the upper bound of a bucket, else with `us` rounded up to it, by at most 2.02 %.
 */
uint64_t mlc_latency_above(const struct mlc_latency *h, uint64_t us);
/* In microseconds; q in [0, 1] (asserted). NaN for an empty histogram. */
double mlc_latency_quantile(const struct mlc_latency *h, double q);
