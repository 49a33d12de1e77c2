/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stdlib.h>

#include "base/str.h"
#include "gateway/core/shm.h"

/* A table with one route "fraud" of a candidate and a stable variant. */
static inline char *table_text(unsigned generation, unsigned share, const char *more_of_candidate)
{
        struct mlc_str s;

        mlc_str_init(&s, 1 << 16);
        mlc_str_addf(&s,
                     "{\"schema\":\"gateway-table/v1\",\"generation\":%u,\"routes\":[{\"route\":"
                     "\"fraud\",\"protocol\":\"oip\",\"salt\":\"r17\",\"key\":\"random\","
                     "\"variants\":[",
                     generation);
        mlc_str_addf(&s,
                     "{\"name\":\"candidate\",\"version\":3,\"model\":\"m--3\",\"weight\":%u,"
                     "\"endpoints\":[\"127.0.0.1:81\",\"127.0.0.1:82\"]%s},",
                     share, more_of_candidate);
        mlc_str_addf(&s,
                     "{\"name\":\"stable\",\"version\":2,\"model\":\"m--2\",\"weight\":%u,"
                     "\"endpoints\":[\"127.0.0.1:81\",\"[::1]:82\"]}]}]}",
                     10000 - share);
        return mlc_str_take(&s);
}

static inline struct gw_shm *new_shm(void)
{
        struct gw_shm *shm = aligned_alloc(64, sizeof(struct gw_shm));
        struct mlc_err err = {0};
        int r;

        assert(shm != NULL);
        memset(shm, 0, sizeof(*shm));
        r = gw_shm_init(shm, &err);
        assert(r == 0);
        return shm;
}

static inline int put_text(struct gw_shm *shm, const char *text, uint64_t now_ms,
                           struct mlc_err *err)
{
        struct gw_table *t = malloc(sizeof(*t));
        int r;

        assert(t != NULL);
        r = gw_table_parse(text, strlen(text), t, err);
        if (r == 0) {
                gw_shm_lock(shm);
                r = gw_shm_put(shm, t, now_ms, err);
                gw_shm_unlock(shm);
        }
        free(t);
        return r;
}

static inline size_t key_is_text(const struct gw_route *route, const char **ret_key, void *userdata)
{
        (void)route;
        *ret_key = userdata;
        return strlen(userdata);
}

/* Everything that a table means, and where its parts stand. */
static inline bool same_table(const struct gw_table *a, const struct gw_table *b)
{
        return memcmp(a, b, offsetof(struct gw_table, index)) == 0 &&
               memcmp(a->index, b->index, sizeof(a->index)) == 0 &&
               memcmp(a->routes, b->routes, a->n_routes * sizeof(a->routes[0])) == 0 &&
               memcmp(a->variants, b->variants, a->n_variants * sizeof(a->variants[0])) == 0 &&
               memcmp(a->addresses, b->addresses, a->n_addresses * sizeof(a->addresses[0])) == 0 &&
               memcmp(a->inputs, b->inputs, a->n_inputs * sizeof(a->inputs[0])) == 0 &&
               memcmp(a->by_address, b->by_address, sizeof(a->by_address)) == 0 &&
               memcmp(a->text, b->text, (size_t)a->text_len + 1) == 0;
}

/* gw_table_update() over `old` says of the text what gw_table_parse() says. */
static inline bool update_agrees(const char *text, size_t len, const struct gw_table *old)
{
        struct gw_table *whole = malloc(sizeof(*whole)), *updated = malloc(sizeof(*updated));
        struct mlc_err a = {0}, b = {0};
        int ra, rb;
        bool agrees;

        assert(whole != NULL && updated != NULL);
        ra = gw_table_parse(text, len, whole, &a);
        rb = gw_table_update(text, len, old, updated, &b);
        agrees = ra == rb && a.code == b.code && mlc_streq(a.field, b.field) &&
                 mlc_streq(a.msg, b.msg) && (ra < 0 || same_table(whole, updated));
        free(whole);
        free(updated);
        return agrees;
}
