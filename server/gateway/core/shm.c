/* SPDX-License-Identifier: Apache-2.0 */
#include "shm.h"

#include <assert.h>
#include <errno.h>
#include <string.h>
#include <sys/random.h>

#include "rollout/bucket.h"
#include "words.h"

#define RELAXED __ATOMIC_RELAXED

int gw_shm_init(struct gw_shm *shm, struct mlc_err *err)
{
        pthread_mutexattr_t attr;

        if (getrandom(&shm->boot, sizeof(shm->boot), 0) != (ssize_t)sizeof(shm->boot))
                return mlc_fail(err, MLC_E_IO, "no random numbers");
        (void)pthread_mutexattr_init(&attr);
        (void)pthread_mutexattr_setpshared(&attr, PTHREAD_PROCESS_SHARED);
        (void)pthread_mutexattr_setrobust(&attr, PTHREAD_MUTEX_ROBUST);
        (void)pthread_mutex_init(&shm->writer, &attr);
        (void)pthread_mutexattr_destroy(&attr);
        for (size_t i = 0; i < 2; i++)
                gw_table_clear(&shm->slots[i].table);
        shm->size = sizeof(*shm);
        shm->magic = GW_SHM_MAGIC;
        return 0;
}

bool gw_shm_valid(const struct gw_shm *shm)
{
        return shm->magic == GW_SHM_MAGIC && shm->size == sizeof(*shm);
}

void gw_shm_lock(struct gw_shm *shm)
{
        int r = pthread_mutex_lock(&shm->writer);

        /* what a writer that died left half done is in the slot that is not in force, or in cells
         * that nobody uses yet */
        if (r == EOWNERDEAD)
                r = pthread_mutex_consistent(&shm->writer);
        assert(r == 0);
}

void gw_shm_unlock(struct gw_shm *shm)
{
        int r = pthread_mutex_unlock(&shm->writer);

        assert(r == 0);
}

const struct gw_table *gw_shm_table(const struct gw_shm *shm)
{
        return &shm->slots[__atomic_load_n(&shm->active, __ATOMIC_ACQUIRE) & 1].table;
}

uint64_t gw_shm_lease_until(const struct gw_shm *shm)
{
        return __atomic_load_n(&shm->lease_until_ms, RELAXED);
}

void gw_shm_lease(struct gw_shm *shm, uint64_t until_ms)
{
        __atomic_store_n(&shm->lease_until_ms, until_ms, RELAXED);
}

/* --- a new table ------------------------------------------------------------------------------ */

/* The cells of the table in force, which must not be given to another. */
static void mark_cells(const struct gw_table *t, bool used[GW_CELLS_MAX])
{
        for (size_t i = 0; i < t->n_routes; i++)
                for (size_t b = 0; b < 2; b++) {
                        const struct gw_bank *bank = &t->routes[i].banks[b];

                        for (size_t j = 0; bank->generation != 0 && j < bank->n; j++)
                                used[bank->cells[j]] = true;
                }
}

static bool free_cell(struct gw_shm *shm, bool used[GW_CELLS_MAX], uint16_t *ret)
{
        for (size_t tries = 0; tries < GW_CELLS_MAX; tries++) {
                uint32_t at = shm->next_cell;

                shm->next_cell = (at + 1) % GW_CELLS_MAX;
                if (used[at])
                        continue;
                used[at] = true;
                *ret = (uint16_t)at;
                return true;
        }
        return false;
}

static void begin_cell(struct gw_shm *shm, struct gw_cell *cell, uint64_t generation,
                       const struct gw_variant *v)
{
        bool touched = cell->id != 0; /* a page that was never used stays unmapped */

        __atomic_store_n(&cell->id, 0, __ATOMIC_RELEASE);
        if (touched) {
                __atomic_store_n(&cell->turn, 0, RELAXED);
                gw_words_clear(&cell->requests, sizeof(*cell) - offsetof(struct gw_cell, requests));
        }
        cell->generation = generation;
        cell->version = v->version;
        memcpy(cell->name, v->name, sizeof(cell->name));
        __atomic_store_n(&cell->id, ++shm->last_id, __ATOMIC_RELEASE);
}

static bool begin_bank(struct gw_shm *shm, struct gw_table *t, struct gw_route *route,
                       bool used[GW_CELLS_MAX])
{
        struct gw_bank *bank = &route->banks[0];

        memset(bank, 0, sizeof(*bank));
        bank->generation = t->generation;
        bank->n = route->n_variants;
        for (size_t i = 0; i < bank->n; i++) {
                struct gw_cell *cell;

                if (!free_cell(shm, used, &bank->cells[i]))
                        return false;
                cell = &shm->cells[bank->cells[i]];
                begin_cell(shm, cell, t->generation, &t->variants[route->first_variant + i]);
                bank->ids[i] = cell->id;
        }
        return true;
}

static int assign_banks(struct gw_shm *shm, const struct gw_table *old, struct gw_table *t,
                        struct mlc_err *err)
{
        bool used[GW_CELLS_MAX] = {false};

        mark_cells(old, used);
        for (size_t i = 0; i < t->n_routes; i++) {
                struct gw_route *route = &t->routes[i];
                const struct gw_route *was = gw_table_route(old, route->name, strlen(route->name));

                memset(route->banks, 0, sizeof(route->banks));
                if (was != NULL && gw_route_same_split(old, was, t, route)) {
                        memcpy(route->banks, was->banks, sizeof(route->banks));
                        continue;
                }
                if (was != NULL)
                        route->banks[1] = was->banks[0];
                if (!begin_bank(shm, t, route, used))
                        return mlc_fail(err, MLC_E_LIMIT, "no counters are left for \"%s\"",
                                        route->name);
        }
        return 0;
}

/* The same endpoint keeps its health. */
static void assign_health(struct gw_shm *shm, const struct gw_table *old, struct gw_table *t)
{
        bool used[GW_ADDRESSES_MAX] = {false};
        size_t next = 0;

        for (size_t i = 0; i < t->n_addresses; i++) {
                uint16_t was = gw_table_address(old, &t->addresses[i]);

                t->addresses[i].health = GW_NONE;
                if (was == GW_NONE)
                        continue;
                t->addresses[i].health = old->addresses[was].health;
                used[old->addresses[was].health] = true;
        }
        for (size_t i = 0; i < t->n_addresses; i++) {
                struct gw_address *a = &t->addresses[i];
                struct gw_health *h;

                if (a->health != GW_NONE)
                        continue;
                while (used[next])
                        next++;
                used[next] = true;
                a->health = (uint16_t)next;
                h = &shm->health[next];
                __atomic_store_n(&h->down_until_ms, 0, RELAXED);
                __atomic_store_n(&h->fails, 0, RELAXED);
                memcpy(h->text, a->text, sizeof(h->text));
        }
}

int gw_shm_put(struct gw_shm *shm, struct gw_table *table, uint64_t now_ms, struct mlc_err *err)
{
        const struct gw_table *old = gw_shm_table(shm);
        uint32_t target = 1 - (shm->active & 1);
        struct gw_slot *slot = &shm->slots[target];
        uint64_t sequence = slot->sequence | 1;
        int r = assign_banks(shm, old, table, err);

        if (r < 0)
                return r;
        assign_health(shm, old, table);
        __atomic_store_n(&slot->sequence, sequence, RELAXED);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        gw_table_publish(&slot->table, table);
        __atomic_store_n(&slot->sequence, sequence + 1, __ATOMIC_RELEASE);
        gw_shm_lease(shm, now_ms + GW_LEASE_MS);
        __atomic_store_n(&shm->active, target, __ATOMIC_SEQ_CST);
        return 0;
}

/* --- choosing --------------------------------------------------------------------------------- */

static bool tripped(const struct gw_shm *shm, const struct gw_variant *v, uint16_t cell,
                    uint64_t id)
{
        const struct gw_cell *c = &shm->cells[cell % GW_CELLS_MAX];

        return v->error_limit != GW_NO_LIMIT && __atomic_load_n(&c->id, RELAXED) == id &&
               __atomic_load_n(&c->errors, RELAXED) > v->error_limit;
}

bool gw_shm_tripped(const struct gw_shm *shm, const struct gw_table *t,
                    const struct gw_route *route, size_t i)
{
        return i + 1 < route->n_variants && i < route->banks[0].n &&
               tripped(shm, &t->variants[route->first_variant + i], route->banks[0].cells[i],
                       route->banks[0].ids[i]);
}

static void read_variant(const struct gw_table *t, size_t at, struct gw_choice *c)
{
        gw_words_load(&c->variant, &t->variants[c->route.first_variant + at], sizeof(c->variant));
        c->cell = c->route.banks[0].cells[at];
        c->cell_id = c->route.banks[0].ids[at];
}

/* Which variant answers; what is read may be torn, so indices are checked. */
static bool choose_variant(const struct gw_shm *shm, const struct gw_table *t, uint64_t now_ms,
                           struct gw_choice *c)
{
        bool lost = now_ms >= gw_shm_lease_until(shm);
        const struct gw_route *r = &c->route;
        size_t last, at = 0;

        if (r->n_variants > GW_ROUTE_VARIANTS_MAX ||
            r->first_variant + r->n_variants > GW_VARIANTS_MAX)
                return false;
        c->n_variants = r->n_variants;
        c->variant.n_endpoints = 0;
        if (r->n_variants == 0)
                return true;
        last = (size_t)r->n_variants - 1;
        while (at < last && c->bucket >= r->bounds[at])
                at++;
        read_variant(t, at, c);
        if (at < last &&
            (c->variant.n_endpoints == 0 || (c->variant.lease && !c->variant.hold && lost) ||
             tripped(shm, &c->variant, c->cell, c->cell_id)))
                read_variant(t, last, c);
        if (c->variant.n_endpoints > GW_ENDPOINTS_MAX || c->cell >= GW_CELLS_MAX)
                return false;
        for (size_t i = 0; i < c->variant.n_endpoints; i++) {
                if (c->variant.endpoints[i] >= GW_ADDRESSES_MAX)
                        return false;
                gw_words_load(&c->endpoints[i], &t->addresses[c->variant.endpoints[i]],
                              sizeof(c->endpoints[i]));
        }
        return true;
}

static bool choose(const struct gw_shm *shm, const struct gw_table *t, uint64_t now_ms,
                   const struct gw_asked *asked, struct gw_choice *ret)
{
        const char *key = NULL;
        size_t len;

        ret->generation = __atomic_load_n(&t->generation, RELAXED);
        ret->n_variants = 0;
        if (!gw_table_read_route(t, asked->route, asked->len, &ret->route)) {
                ret->route.name[0] = '\0';
                return true;
        }
        if (ret->route.salt_len > GW_SALT_MAX)
                return false;
        ret->route.key_name[GW_KEY_NAME_MAX] = '\0';
        len = asked->key(&ret->route, &key, asked->userdata);
        ret->bucket = mlc_bucket(ret->route.salt, ret->route.salt_len, key, len);
        return choose_variant(shm, t, now_ms, ret);
}

static const struct gw_slot *begin_read(const struct gw_shm *shm, uint64_t *ret_sequence)
{
        const struct gw_slot *slot =
                &shm->slots[__atomic_load_n(&shm->active, __ATOMIC_ACQUIRE) & 1];

        *ret_sequence = __atomic_load_n(&slot->sequence, __ATOMIC_ACQUIRE);
        return slot;
}

static bool was_stable(const struct gw_slot *slot, uint64_t sequence)
{
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        return (sequence & 1) == 0 && __atomic_load_n(&slot->sequence, RELAXED) == sequence;
}

bool gw_choose(const struct gw_shm *shm, const struct gw_asked *asked, uint64_t now_ms,
               struct gw_choice *ret)
{
        for (;;) {
                uint64_t sequence;
                const struct gw_slot *slot = begin_read(shm, &sequence);
                bool whole = choose(shm, &slot->table, now_ms, asked, ret);

                if (was_stable(slot, sequence) && whole)
                        return ret->route.name[0] != '\0';
        }
}

/* What is read may be torn, so indices are checked. */
static bool read_check(const struct gw_table *t, const struct gw_route *route, struct gw_check *ret)
{
        if (route->n_inputs > GW_ROUTE_INPUTS_MAX ||
            route->first_input + route->n_inputs > GW_INPUTS_MAX)
                return false;
        ret->mode = route->validate;
        ret->n_inputs = route->n_inputs;
        gw_words_load(ret->inputs, &t->inputs[route->first_input],
                      route->n_inputs * sizeof(ret->inputs[0]));
        return true;
}

bool gw_choice_check(const struct gw_shm *shm, const struct gw_choice *c, struct gw_check *ret)
{
        const char *name = c->route.name;

        for (;;) {
                uint64_t sequence;
                const struct gw_slot *slot = begin_read(shm, &sequence);
                struct gw_route route;
                bool found = gw_table_read_route(&slot->table, name, strlen(name), &route);
                bool whole = !found || read_check(&slot->table, &route, ret);

                if (was_stable(slot, sequence) && whole)
                        return found;
        }
}

/* --- endpoints -------------------------------------------------------------------------------- */

static struct gw_health *health_of(struct gw_shm *shm, const struct gw_address *a)
{
        return &shm->health[a->health % GW_ADDRESSES_MAX];
}

int gw_pick(struct gw_shm *shm, const struct gw_choice *c, uint32_t tried, uint64_t now_ms)
{
        unsigned n = c->variant.n_endpoints;
        uint64_t turn = __atomic_fetch_add(&shm->cells[c->cell].turn, 1, RELAXED);
        uint64_t longest = UINT64_MAX;
        int best = -1;

        for (unsigned i = 0; i < n; i++) {
                unsigned at = (unsigned)((turn + i) % n);
                struct gw_health *h;
                uint64_t until;

                if ((tried & (1U << at)) != 0)
                        continue;
                h = health_of(shm, &c->endpoints[at]);
                until = __atomic_load_n(&h->down_until_ms, RELAXED);
                if (until == 0)
                        return (int)at;
                /* its time is over: one request tries whether it is back, the others wait for that
                 */
                if (until <= now_ms && __atomic_compare_exchange_n(&h->down_until_ms, &until,
                                                                   now_ms + GW_BACKOFF_MS_MAX,
                                                                   false, RELAXED, RELAXED))
                        return (int)at;
                if (until < longest) {
                        longest = until;
                        best = (int)at;
                }
        }
        return best;
}

void gw_endpoint_result(struct gw_shm *shm, const struct gw_address *a, bool failed,
                        uint64_t now_ms)
{
        struct gw_health *h = health_of(shm, a);
        uint64_t wait = GW_BACKOFF_MS;
        uint64_t fails;

        if (!failed) {
                if (__atomic_load_n(&h->fails, RELAXED) != 0 ||
                    __atomic_load_n(&h->down_until_ms, RELAXED) != 0) {
                        __atomic_store_n(&h->fails, 0, RELAXED);
                        __atomic_store_n(&h->down_until_ms, 0, RELAXED);
                }
                return;
        }
        fails = __atomic_add_fetch(&h->fails, 1, RELAXED);
        for (uint64_t i = 1; i < fails && wait < GW_BACKOFF_MS_MAX; i++)
                wait *= 2;
        if (wait > GW_BACKOFF_MS_MAX)
                wait = GW_BACKOFF_MS_MAX;
        __atomic_store_n(&h->down_until_ms, now_ms + wait, RELAXED);
}

/* --- counting --------------------------------------------------------------------------------- */

static struct gw_cell *cell_of(struct gw_shm *shm, const struct gw_choice *c)
{
        struct gw_cell *cell = &shm->cells[c->cell];

        if (__atomic_load_n(&cell->id, __ATOMIC_ACQUIRE) == c->cell_id)
                return cell;
        (void)__atomic_fetch_add(&shm->late, 1, RELAXED);
        return NULL;
}

static void add(uint64_t *counter, uint64_t n)
{
        (void)__atomic_fetch_add(counter, n, RELAXED);
}

void gw_count_chosen(struct gw_shm *shm, const struct gw_choice *c)
{
        struct gw_cell *cell = cell_of(shm, c);

        if (cell != NULL)
                add(&cell->requests, 1);
}

void gw_count_outcome(struct gw_shm *shm, const struct gw_choice *c, const struct gw_outcome *o)
{
        struct gw_cell *cell = cell_of(shm, c);
        bool error = o->upstream_error || o->timeout || o->wrong_version || o->status >= 500;

        if (cell == NULL)
                return;
        /* first: whoever reads between finds one less that says something, not one more */
        if (!error && !o->sent && o->status >= 200)
                add(&cell->rejected, 1);
        if (o->status >= 200 && o->status < 600)
                add(&cell->status[o->status / 100 - 2], 1);
        if (o->upstream_error)
                add(&cell->upstream_errors, 1);
        if (o->timeout)
                add(&cell->timeouts, 1);
        if (o->wrong_version)
                add(&cell->wrong_version, 1);
        if (o->invalid)
                add(&cell->invalid, 1);
        if (error)
                add(&cell->errors, 1);
        if (!o->sent)
                return;
        add(&cell->latency_sum_us, o->latency_us);
        add(&cell->latency.n[mlc_latency_bucket(o->latency_us) - MLC_LATENCY_FIRST], 1);
}
