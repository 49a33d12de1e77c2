/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Copies to and from what other threads read or write meanwhile, word by word: each word is whole,
 * all together may be a mixture, which is for a sequence number to find out. memcpy would be a data
 * race, whatever comes of it. Both sides are aligned to 8, sizes multiples of 8.
 */
typedef uint64_t gw_word __attribute__((may_alias));

static inline void gw_words_load(void *to, const void *shared, size_t size)
{
        const gw_word *from = shared;
        gw_word *w = to;

        assert(size % sizeof(*w) == 0);
#pragma GCC unroll 4
        for (size_t i = 0; i < size / sizeof(*w); i++)
                w[i] = __atomic_load_n(&from[i], __ATOMIC_RELAXED);
}

static inline void gw_words_store(void *shared, const void *from, size_t size)
{
        const gw_word *w = from;
        gw_word *to = shared;

        assert(size % sizeof(*w) == 0);
        for (size_t i = 0; i < size / sizeof(*w); i++)
                __atomic_store_n(&to[i], w[i], __ATOMIC_RELAXED);
}

static inline void gw_words_clear(void *shared, size_t size)
{
        gw_word *to = shared;

        assert(size % sizeof(*to) == 0);
        for (size_t i = 0; i < size / sizeof(*to); i++)
                __atomic_store_n(&to[i], 0, __ATOMIC_RELAXED);
}
