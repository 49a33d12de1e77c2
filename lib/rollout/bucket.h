/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/*
 * Which variant a caller gets: bucket = XXH32(salt || key, seed 0) mod 10000, the same in the
 * gateway, in other traffic drivers and in `explain`. A route's variants divide the buckets among
 * them in the order of its table, candidates first: variant i has the buckets below the sum of the
 * weights up to and with its own. So a growing candidate only gains callers, it never swaps them.
 */
#define MLC_BUCKETS 10000
#define MLC_SALT_MAX 64

/* 0 … 9999. `salt_len` is at most MLC_SALT_MAX (asserted); a key may have any length. */
unsigned mlc_bucket(const void *salt, size_t salt_len, const void *key, size_t key_len);
/* The first variant whose cumulative bound is above `bucket`; `n` when none is. */
size_t mlc_bucket_variant(unsigned bucket, const unsigned *weights, size_t n);
