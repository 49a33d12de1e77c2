/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/latency.h"

#include <assert.h>
#include <math.h>

/* 1 / ln(gamma) and ln(gamma), gamma = 101 / 99 */
#define PER_LOG_GAMMA 49.99833328888678
#define LOG_GAMMA 0.020000666706669435

unsigned mlc_latency_bucket(uint64_t us)
{
        double i;

        if (us <= MLC_LATENCY_MIN_US)
                return MLC_LATENCY_FIRST;
        i = ceil(log((double)us) * PER_LOG_GAMMA);
        if (i >= MLC_LATENCY_LAST)
                return MLC_LATENCY_LAST;
        return (unsigned)i;
}

double mlc_latency_upper(unsigned i)
{
        return exp(i * LOG_GAMMA);
}

double mlc_latency_value(unsigned i)
{
        return 0.99 * mlc_latency_upper(i); /* 2 / (gamma + 1) = 1 - 0.01 */
}

void mlc_latency_add(struct mlc_latency *h, uint64_t us)
{
        h->n[mlc_latency_bucket(us) - MLC_LATENCY_FIRST]++;
}

void mlc_latency_merge(struct mlc_latency *h, const struct mlc_latency *other)
{
        for (size_t i = 0; i < MLC_LATENCY_BUCKETS; i++)
                h->n[i] += other->n[i];
}

uint64_t mlc_latency_count(const struct mlc_latency *h)
{
        uint64_t n = 0;

        for (size_t i = 0; i < MLC_LATENCY_BUCKETS; i++)
                n += h->n[i];
        return n;
}

uint64_t mlc_latency_above(const struct mlc_latency *h, uint64_t us)
{
        uint64_t n = 0;

        for (size_t i = mlc_latency_bucket(us) - MLC_LATENCY_FIRST + 1; i < MLC_LATENCY_BUCKETS;
             i++)
                n += h->n[i];
        return n;
}

double mlc_latency_quantile(const struct mlc_latency *h, double q)
{
        uint64_t total = mlc_latency_count(h), seen = 0;
        double rank;

        assert(q >= 0 && q <= 1);
        if (total == 0)
                return (double)NAN;
        rank = q * (double)(total - 1);
        for (unsigned i = 0; i < MLC_LATENCY_BUCKETS; i++) {
                seen += h->n[i];
                if ((double)seen > rank)
                        return mlc_latency_value(MLC_LATENCY_FIRST + i);
        }
        return mlc_latency_value(MLC_LATENCY_LAST);
}
