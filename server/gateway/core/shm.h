/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "rollout/latency.h"
#include "table.h"

/*
 * What the workers share: two tables of which one is in force, counters, the health of endpoints,
 * the lease. Readers never wait and take no lock: a sequence number per table tells when a copy was
 * torn (words.h; Boehm, "Can seqlocks get along with programming language memory models?"). Writers
 * take a robust mutex between processes. Everything zero is not yet valid:
 * gw_shm_init() first.
 */
#define GW_SHM_MAGIC UINT64_C(0x3379617774616c6d) /* "mlatway3" */
#define GW_CELLS_MAX (2 * GW_VARIANTS_MAX)
#define GW_LEASE_MS 60000 /* what a new table brings */
#define GW_LEASE_MS_MAX 3600000
#define GW_BACKOFF_MS 1000 /* an endpoint that failed is left alone, doubled up to */
#define GW_BACKOFF_MS_MAX 10000

/* Of one variant in one bank. All members count up and are changed atomically. */
struct gw_cell {
        uint64_t id; /* of the use of this cell; 0: free */
        uint64_t generation;
        uint32_t version;
        char name[GW_VARIANT_NAME_MAX + 1];
        uint64_t turn; /* for round-robin */
        uint64_t requests; /* for which the variant was chosen */
        uint64_t status[4]; /* finished, by class 2xx … 5xx as the client got it */
        uint64_t upstream_errors; /* no usable answer: refused, reset, garbage, not loaded */
        uint64_t timeouts;
        uint64_t wrong_version;
        uint64_t invalid; /* failed the validation of the request */
        uint64_t rejected; /* ended below 500 without being sent: says nothing of the variant */
        uint64_t errors; /* finished with any of 5xx, upstream error, timeout, wrong version */
        uint64_t latency_sum_us;
        struct mlc_latency latency; /* of those that were sent upstream */
} __attribute__((aligned(64)));

struct gw_health {
        uint64_t down_until_ms;
        uint64_t fails; /* in a row */
        char text[56]; /* of the address that it belongs to */
};

struct gw_slot {
        uint64_t sequence; /* odd while it is written */
        struct gw_table table;
};

struct gw_shm {
        uint64_t magic, size;
        uint64_t boot; /* random: changes when counters begin anew */
        pthread_mutex_t writer;
        uint32_t active; /* slot in force */
        uint64_t lease_until_ms;
        uint64_t file_generation; /* of the table in the file */
        uint64_t last_id; /* of cells */
        uint32_t next_cell; /* where the search for a free one begins: reused as late as possible */
        uint64_t tap_sent, tap_dropped;
        uint64_t late; /* finished after their bank was gone */
        struct gw_slot slots[2];
        struct gw_health health[GW_ADDRESSES_MAX];
        struct gw_cell cells[GW_CELLS_MAX];
};

/* `shm` is all zero. Without a table every route is unknown. */
int gw_shm_init(struct gw_shm *shm, struct mlc_err *err) MLC_CHECK;
bool gw_shm_valid(const struct gw_shm *shm);

/* Writers exclude each other between these two. */
void gw_shm_lock(struct gw_shm *shm);
void gw_shm_unlock(struct gw_shm *shm);

/* The table in force; stable while the lock is held. */
const struct gw_table *gw_shm_table(const struct gw_shm *shm);
/*
 * Puts `table` in force (lock held, generation checked by the caller) and renews the lease; banks
 * and health are filled in. Banks of routes whose split did not change go on. MLC_E_LIMIT when no
 * counters are left; then nothing has changed.
 */
int gw_shm_put(struct gw_shm *shm, struct gw_table *table, uint64_t now_ms,
               struct mlc_err *err) MLC_CHECK;
void gw_shm_lease(struct gw_shm *shm, uint64_t until_ms);
uint64_t gw_shm_lease_until(const struct gw_shm *shm);
/* Whether variant `i` of a route of the table in force has used up its error limit. */
bool gw_shm_tripped(const struct gw_shm *shm, const struct gw_table *t,
                    const struct gw_route *route, size_t i);

/* What was decided for a request: a private copy, valid whatever happens to the table. */
struct gw_choice {
        uint64_t generation; /* of the table */
        unsigned bucket;
        unsigned n_variants; /* of the route; 0: nothing live */
        uint16_t cell;
        uint64_t cell_id;
        struct gw_route route;
        struct gw_variant variant;
        struct gw_address endpoints[GW_ENDPOINTS_MAX]; /* variant.n_endpoints of them */
};

/* Who asks for what. `key` may be called more than once (a torn copy), so it must answer alike;
 * what it returns lives until gw_choose returns. */
struct gw_asked {
        const char *route; /* not terminated */
        size_t len;
        size_t (*key)(const struct gw_route *route, const char **ret_key, void *userdata);
        void *userdata;
};

/*
 * false when the route is unknown. With n_endpoints 0 nothing is live. The last variant takes the
 * share of those that have no endpoints, no lease, or have tripped.
 */
bool gw_choose(const struct gw_shm *shm, const struct gw_asked *asked, uint64_t now_ms,
               struct gw_choice *ret);
/* What requests to a route are checked against. */
struct gw_check {
        uint8_t mode; /* enum gw_validate */
        uint16_t n_inputs;
        struct gw_input inputs[GW_ROUTE_INPUTS_MAX];
};
/* As the table in force says, which need not be the one that the choice was made by: a body comes
 * as slowly as its sender likes. False when the route is no longer in it. */
bool gw_choice_check(const struct gw_shm *shm, const struct gw_choice *c, struct gw_check *ret);

/* Which endpoint to try: the next in turn that is up and not in `tried` (bits), else the one that
 * has been down longest; -1 when all were tried. */
int gw_pick(struct gw_shm *shm, const struct gw_choice *c, uint32_t tried, uint64_t now_ms);
void gw_endpoint_result(struct gw_shm *shm, const struct gw_address *a, bool failed,
                        uint64_t now_ms);

/* How a request ended. */
struct gw_outcome {
        unsigned status; /* as the client got it; 0: it got none */
        bool upstream_error, timeout, wrong_version, invalid;
        bool sent; /* upstream, so that latency_us counts */
        uint64_t latency_us;
};
void gw_count_chosen(struct gw_shm *shm, const struct gw_choice *c);
void gw_count_outcome(struct gw_shm *shm, const struct gw_choice *c, const struct gw_outcome *o);
