/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/bucket.h"

#include <assert.h>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wcast-qual"
#pragma GCC diagnostic ignored "-Wconversion"
#pragma GCC diagnostic ignored "-Wundef"
#define XXH_INLINE_ALL
#include <xxhash.h>
#pragma GCC diagnostic pop

unsigned mlc_bucket(const void *salt, size_t salt_len, const void *key, size_t key_len)
{
        XXH32_state_t state;

        assert(salt_len <= MLC_SALT_MAX);
        (void)XXH32_reset(&state, 0);
        if (salt_len > 0)
                (void)XXH32_update(&state, salt, salt_len);
        if (key_len > 0)
                (void)XXH32_update(&state, key, key_len);
        return XXH32_digest(&state) % MLC_BUCKETS;
}

size_t mlc_bucket_variant(unsigned bucket, const unsigned *weights, size_t n)
{
        unsigned bound = 0;

        for (size_t i = 0; i < n; i++) {
                bound += weights[i];
                if (bucket < bound)
                        return i;
        }
        return n;
}
