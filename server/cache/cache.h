/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ctx.h"

/*
 * What was read from the database, remembered for a moment, and the counter by which the servers on
 * one DIR tell one another to forget it. Threads: any.
 */

/* A counter in a file that all servers on this DIR map. */
struct epoch;

/* DIR/name, made when it is missing; what it holds does not matter. */
int epoch_open(const char *dir, const char *name, struct epoch **ret,
               struct mlc_err *err) MLC_CHECK;
void epoch_close(struct epoch **e); /* NULL-safe; for _cleanup_ */
uint64_t epoch_now(struct epoch *e);
/* After COMMIT and before the reply: whoever sees the reply sees the change, at every server. */
void epoch_raise(struct epoch *e);

struct cache_limits {
        size_t entries; /* over one of these all is forgotten, and it starts anew */
        size_t bytes; /* keys and values */
        size_t value; /* longer values are not kept */
        int64_t ttl_ms; /* against changes that do not raise the epoch */
};

struct cache;

/* The epoch is borrowed and must outlive the cache. */
struct cache *cache_new(struct epoch *e, const struct cache_limits *limits);
void cache_free(struct cache **c); /* NULL-safe; for _cleanup_ */
/* A copy in ctx's arena, aligned for any type; *ret NULL when there is none of this epoch. */
int cache_get(struct mlc_ctx *ctx, struct cache *c, const char *key, void **ret,
              size_t *ret_len) MLC_CHECK;

struct cache_value {
        const void *data; /* copied */
        size_t len;
        uint64_t epoch; /* epoch_now() from before the data was read; kept only if it is still it */
};
void cache_put(struct cache *c, const char *key, const struct cache_value *value);
