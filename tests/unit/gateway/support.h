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
