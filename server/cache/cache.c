/* SPDX-License-Identifier: Apache-2.0 */
#include "cache/cache.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/map.h"

struct epoch {
        _Atomic uint64_t *at;
};

struct cache {
        pthread_mutex_t lock; /* guards what follows */
        struct epoch *epoch;
        struct cache_limits limits;
        struct mlc_map entries;
        uint64_t of; /* the epoch of all entries */
        size_t bytes;
};

struct entry {
        int64_t until_ms; /* monotonic */
        size_t len, cost;
        unsigned char data[];
};

int epoch_open(const char *dir, const char *name, struct epoch **ret, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        char path[PATH_MAX];
        struct epoch *e;
        void *p;

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0)
                return mlc_fail_errno(err, "open", path);
        p = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
                return mlc_fail_errno(err, "map", path);
        e = calloc(1, sizeof(*e));
        if (e == NULL)
                abort();
        e->at = p;
        *ret = e;
        return 0;
}

void epoch_close(struct epoch **e)
{
        if (*e == NULL)
                return;
        (void)munmap((*e)->at, sizeof(uint64_t));
        free(TAKE_PTR(*e));
}

uint64_t epoch_now(struct epoch *e)
{
        return atomic_load(e->at);
}

void epoch_raise(struct epoch *e)
{
        (void)atomic_fetch_add(e->at, 1);
}

struct cache *cache_new(struct epoch *e, const struct cache_limits *limits)
{
        struct cache *c = calloc(1, sizeof(*c));

        if (c == NULL)
                abort();
        (void)pthread_mutex_init(&c->lock, NULL);
        mlc_map_init(&c->entries);
        c->epoch = e;
        c->limits = *limits;
        c->of = epoch_now(e);
        return c;
}

void cache_free(struct cache **c)
{
        if (*c == NULL)
                return;
        mlc_map_done(&(*c)->entries, free);
        (void)pthread_mutex_destroy(&(*c)->lock);
        free(TAKE_PTR(*c));
}

static void forget(struct cache *c)
{
        if (c->entries.n == 0)
                return;
        mlc_map_done(&c->entries, free);
        mlc_map_init(&c->entries);
        c->bytes = 0;
}

/* What is outdated is not kept in memory either: it may be what somebody had erased. */
static uint64_t enter(struct cache *c)
{
        uint64_t now;

        (void)pthread_mutex_lock(&c->lock);
        now = epoch_now(c->epoch);
        if (now != c->of) {
                forget(c);
                c->of = now;
        }
        return now;
}

static void drop(struct cache *c, struct entry *e)
{
        if (e != NULL)
                c->bytes -= e->cost;
        free(e);
}

int cache_get(struct mlc_ctx *ctx, struct cache *c, const char *key, void **ret, size_t *ret_len)
{
        void *copy = NULL;
        struct entry *e;
        size_t len = 0;
        int r = 0;

        (void)enter(c);
        e = mlc_map_get(&c->entries, key);
        if (e != NULL && e->until_ms <= mlc_monotonic_ms()) {
                drop(c, mlc_map_remove(&c->entries, key));
        } else if (e != NULL) {
                len = e->len;
                copy = ctx_alloc(ctx, len);
                r = copy == NULL ? ctx->err.code : 0;
                if (copy != NULL)
                        memcpy(copy, e->data, len);
        }
        (void)pthread_mutex_unlock(&c->lock);
        if (r < 0)
                return r;
        *ret = copy;
        *ret_len = len;
        return 0;
}

void cache_put(struct cache *c, const char *key, const struct cache_value *value)
{
        size_t cost = sizeof(struct entry) + strlen(key) + 1 + value->len;
        struct entry *e;

        if (value->len > c->limits.value || cost > c->limits.bytes)
                return;
        e = malloc(sizeof(*e) + value->len);
        if (e == NULL)
                abort();
        *e = (struct entry){mlc_monotonic_ms() + c->limits.ttl_ms, value->len, cost};
        memcpy(e->data, value->data, value->len);
        if (enter(c) == value->epoch) {
                if (c->entries.n >= c->limits.entries || c->bytes + cost > c->limits.bytes)
                        forget(c);
                c->bytes += cost;
                drop(c, mlc_map_set(&c->entries, key, TAKE_PTR(e)));
        }
        (void)pthread_mutex_unlock(&c->lock);
        free(e);
}
