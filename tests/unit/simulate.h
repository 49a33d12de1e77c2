/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

/* Simulations with fixed seeds, and how far what they find may be from what is claimed. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SIMULATE_LESS 8 /* times fewer repetitions where each costs that much more */
#else
#define SIMULATE_LESS 1
#endif

/* splitmix64: a fixed sequence for each seed */
static inline double uniform(uint64_t *s)
{
        uint64_t z = (*s += UINT64_C(0x9e3779b97f4a7c15));

        z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
        return (double)((z ^ (z >> 31)) >> 11) * 0x1p-53;
}

static inline int64_t binomial(uint64_t *s, int64_t n, double p)
{
        int64_t k = 0;

        for (int64_t i = 0; i < n; i++)
                k += uniform(s) < p;
        return k;
}

/* A share found in so many runs is `want` within three standard errors, and `beyond` more. */
static inline void share_is(const char *what, int64_t found, int64_t runs, double want,
                            double beyond)
{
        double share = (double)found / (double)runs;
        double error = sqrt(want * (1.0 - want) / (double)runs);
        char text[256];

        (void)snprintf(text, sizeof(text),
                       "%s: %.4f of %lld runs, wanted %.4f within 3 x %.4f + %.4f", what, share,
                       (long long)runs, want, error, beyond);
        if (!(fabs(share - want) <= 3.0 * error + beyond + 1e-9))
                fail_msg("%s", text);
}
