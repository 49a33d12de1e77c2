/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "mlctl/error.h"

/*
 * A capped bump allocator, one per request or job; everything in it goes at once. Memory is zeroed.
 * Passing the cap sets `over` and returns NULL from the checked calls below; a NULL from malloc
 * aborts. Not thread-safe: one thread at a time. With -DMLC_ARENA_MALLOC each allocation is a
 * malloc of its own, so that AddressSanitizer sees overruns.
 */
struct mlc_arena {
        struct mlc_arena_chunk *chunks;
        size_t used; /* bytes given out */
        size_t cap; /* bytes at most */
};

void mlc_arena_init(struct mlc_arena *a, size_t cap);
/* Frees everything; the arena can be used again. NULL-safe, idempotent. */
void mlc_arena_done(struct mlc_arena *a);

/* NULL with MLC_E_LIMIT in *err when the cap would be passed. size 0 gives a valid pointer. */
void *mlc_arena_alloc(struct mlc_arena *a, size_t size, struct mlc_err *err);
/* Array of n zeroed elements; overflow of n * size counts as passing the cap. */
void *mlc_arena_array(struct mlc_arena *a, size_t n, size_t size, struct mlc_err *err);
char *mlc_arena_strdup(struct mlc_arena *a, const char *s, struct mlc_err *err);
char *mlc_arena_strndup(struct mlc_arena *a, const char *s, size_t len, struct mlc_err *err);
char *mlc_arena_printf(struct mlc_arena *a, struct mlc_err *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
