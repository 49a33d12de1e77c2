/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth_internal.h"

#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/map.h"
#include "codec/hex.h"

#define ENTRIES_MAX 10000
#define TTL_MS 5000 /* against changes that reach neither the counter nor NOTIFY */

/*
 * What tokens may, remembered. The epoch lies in a file that all servers on this DIR map: whoever
 * commits a change raises it before the reply, and an entry of another epoch is not used.
 */
struct auth_cache {
        pthread_mutex_t lock; /* guards entries */
        struct mlc_map entries;
        _Atomic uint64_t *epoch;
};

struct entry {
        uint64_t epoch;
        int64_t until_ms; /* monotonic */
        struct auth_principal principal; /* its grants point into this entry */
        struct auth_grant grants[]; /* followed by the namespaces' text */
};

struct auth_cache *auth_cache_new(const char *dir, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        char path[PATH_MAX];
        struct auth_cache *c;
        void *p;

        (void)snprintf(path, sizeof(path), "%s/auth-epoch", dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || ftruncate(fd, sizeof(uint64_t)) < 0) {
                (void)mlc_fail_errno(err, "open", path);
                return NULL;
        }
        p = mmap(NULL, sizeof(uint64_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
                (void)mlc_fail_errno(err, "map", path);
                return NULL;
        }
        c = calloc(1, sizeof(*c));
        if (c == NULL)
                abort();
        (void)pthread_mutex_init(&c->lock, NULL);
        mlc_map_init(&c->entries);
        c->epoch = p;
        return c;
}

void auth_cache_free(struct auth_cache *c)
{
        mlc_map_done(&c->entries, free);
        (void)munmap(c->epoch, sizeof(uint64_t));
        (void)pthread_mutex_destroy(&c->lock);
        free(c);
}

uint64_t auth_cache_epoch(struct auth_cache *c)
{
        return atomic_load(c->epoch);
}

void auth_cache_bump(struct auth_cache *c)
{
        (void)atomic_fetch_add(c->epoch, 1);
}

static const struct auth_principal *copy_out(struct mlc_ctx *ctx, const struct entry *e)
{
        struct auth_principal *p = ctx_alloc(ctx, sizeof(*p));
        struct auth_grant *grants =
                mlc_arena_array(&ctx->arena, e->principal.n_grants, sizeof(*grants), &ctx->err);

        if (p == NULL || grants == NULL)
                return NULL;
        *p = e->principal;
        for (unsigned i = 0; i < p->n_grants; i++) {
                grants[i].roles = e->grants[i].roles;
                grants[i].ns = ctx_strdup(ctx, e->grants[i].ns);
                if (grants[i].ns == NULL)
                        return NULL;
        }
        p->grants = grants;
        return p;
}

const struct auth_principal *auth_cache_get(struct mlc_ctx *ctx, struct auth_cache *c,
                                            const struct mlc_digest *hash)
{
        const struct auth_principal *p = NULL;
        const struct entry *e;
        char key[65];

        mlc_hex_encode(hash->b, sizeof(hash->b), key);
        (void)pthread_mutex_lock(&c->lock);
        e = mlc_map_get(&c->entries, key);
        if (e != NULL && e->epoch == auth_cache_epoch(c) && e->until_ms > mlc_monotonic_ms())
                p = copy_out(ctx, e);
        (void)pthread_mutex_unlock(&c->lock);
        return p;
}

static struct entry *copy_in(const struct auth_principal *p)
{
        size_t text = 0;
        struct entry *e;
        char *at;

        for (unsigned i = 0; i < p->n_grants; i++)
                text += strlen(p->grants[i].ns) + 1;
        e = calloc(1, sizeof(*e) + p->n_grants * sizeof(e->grants[0]) + text);
        if (e == NULL)
                abort();
        e->principal = *p;
        e->principal.grants = e->grants;
        at = (char *)&e->grants[p->n_grants];
        for (unsigned i = 0; i < p->n_grants; i++) {
                size_t n = strlen(p->grants[i].ns) + 1;

                memcpy(at, p->grants[i].ns, n);
                e->grants[i] = (struct auth_grant){.ns = at, .roles = p->grants[i].roles};
                at += n;
        }
        return e;
}

void auth_cache_put(struct auth_cache *c, const struct mlc_digest *hash, uint64_t epoch,
                    const struct auth_principal *p)
{
        struct entry *e = copy_in(p);
        char key[65];

        e->epoch = epoch;
        e->until_ms = mlc_monotonic_ms() + TTL_MS;
        mlc_hex_encode(hash->b, sizeof(hash->b), key);
        (void)pthread_mutex_lock(&c->lock);
        if (c->entries.n >= ENTRIES_MAX) {
                mlc_map_done(&c->entries, free);
                mlc_map_init(&c->entries);
        }
        free(mlc_map_set(&c->entries, key, e));
        (void)pthread_mutex_unlock(&c->lock);
}
