/* SPDX-License-Identifier: Apache-2.0 */
/* Finding and copying in tables. */
#include "table_internal.h"

#include <string.h>

#include "base/str.h"
#include "words.h"

#define HEAD_SIZE offsetof(struct gw_table, index)

static_assert(HEAD_SIZE % sizeof(gw_word) == 0, "words.h");
static_assert(offsetof(struct gw_table, by_address) % sizeof(gw_word) == 0, "words.h");

static uint32_t hash_of(const void *data, size_t len)
{
        const uint8_t *bytes = data;
        uint32_t h = 2166136261U; /* FNV-1a */

        for (size_t i = 0; i < len; i++)
                h = (h ^ bytes[i]) * 16777619U;
        return h;
}

void gw_table_clear(struct gw_table *t)
{
        t->generation = 0;
        t->text_len = 0;
        t->n_routes = t->n_variants = t->n_addresses = t->n_inputs = 0;
        memset(t->index, 0xff, sizeof(t->index));
        memset(t->by_address, 0xff, sizeof(t->by_address));
        t->text[0] = '\0';
}

void gw_table_set_text(struct gw_table *t, const char *text, size_t len)
{
        memcpy(t->text, text, len);
        t->text[len] = '\0';
        t->text_len = (uint32_t)len;
}

/* --- routes ----------------------------------------------------------------------------------- */

static bool is_named(const struct gw_route *route, const char *name, size_t len)
{
        return memcmp(route->name, name, len) == 0 && route->name[len] == '\0';
}

const struct gw_route *gw_table_route(const struct gw_table *t, const char *name, size_t len)
{
        uint32_t hash;

        if (len == 0 || len > GW_NAME_MAX)
                return NULL;
        hash = hash_of(name, len);
        for (size_t i = hash % GW_INDEX;; i = (i + 1) % GW_INDEX) {
                const struct gw_index *e = &t->index[i];

                if (e->route == GW_NONE)
                        return NULL;
                if (e->hash == hash && is_named(&t->routes[e->route], name, len))
                        return &t->routes[e->route];
        }
}

bool gw_table_read_route(const struct gw_table *t, const char *name, size_t len,
                         struct gw_route *ret)
{
        uint32_t hash;

        if (len == 0 || len > GW_NAME_MAX)
                return false;
        hash = hash_of(name, len);
        for (size_t i = hash % GW_INDEX, tries = 0; tries < GW_INDEX; tries++) {
                struct gw_index e;

                gw_words_load(&e, &t->index[i], sizeof(e));
                if (e.route >= GW_ROUTES_MAX)
                        return false;
                if (e.hash == hash) {
                        gw_words_load(ret, &t->routes[e.route],
                                      offsetof(struct gw_route, banks[1]));
                        if (is_named(ret, name, len))
                                return true;
                }
                i = (i + 1) % GW_INDEX;
        }
        return false;
}

void gw_table_add_route(struct gw_table *t)
{
        const char *name = t->routes[t->n_routes].name;
        uint32_t hash = hash_of(name, strlen(name));
        size_t i = hash % GW_INDEX;

        while (t->index[i].route != GW_NONE)
                i = (i + 1) % GW_INDEX;
        t->index[i] = (struct gw_index){.hash = hash, .route = t->n_routes++};
}

bool gw_route_same_split(const struct gw_table *a, const struct gw_route *ra,
                         const struct gw_table *b, const struct gw_route *rb)
{
        if (ra->n_variants != rb->n_variants || ra->key != rb->key ||
            !mlc_streq(ra->salt, rb->salt) || !mlc_streq(ra->key_name, rb->key_name))
                return false;
        for (size_t i = 0; i < ra->n_variants; i++) {
                const struct gw_variant *va = &a->variants[ra->first_variant + i];
                const struct gw_variant *vb = &b->variants[rb->first_variant + i];

                if (!mlc_streq(va->name, vb->name) || !mlc_streq(va->model, vb->model) ||
                    va->version != vb->version || va->weight != vb->weight ||
                    va->error_limit != vb->error_limit || va->lease != vb->lease ||
                    va->hold != vb->hold)
                        return false;
        }
        return true;
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Where the address stands, or belongs. */
static size_t place_of(const struct gw_table *t, const struct gw_address *a)
{
        size_t i = hash_of(a->raw, sizeof(a->raw)) % GW_BY_ADDRESS;

        while (t->by_address[i] != GW_NONE &&
               memcmp(t->addresses[t->by_address[i]].raw, a->raw, sizeof(a->raw)) != 0)
                i = (i + 1) % GW_BY_ADDRESS;
        return i;
}

uint16_t gw_table_address(const struct gw_table *t, const struct gw_address *a)
{
        return t->by_address[place_of(t, a)];
}

uint16_t gw_table_add_address(struct gw_table *t, const struct gw_address *a)
{
        uint16_t at = t->n_addresses;

        if (at == GW_ADDRESSES_MAX)
                return GW_NONE;
        t->by_address[place_of(t, a)] = at;
        memcpy(&t->addresses[at], a, sizeof(*a));
        t->n_addresses++;
        return at;
}

/* --- copying ---------------------------------------------------------------------------------- */

void gw_table_publish(struct gw_table *shared, const struct gw_table *from)
{
        gw_words_store(shared, from, HEAD_SIZE);
        gw_words_store(shared->index, from->index, sizeof(from->index));
        gw_words_store(shared->routes, from->routes, from->n_routes * sizeof(from->routes[0]));
        gw_words_store(shared->variants, from->variants,
                       from->n_variants * sizeof(from->variants[0]));
        gw_words_store(shared->addresses, from->addresses,
                       from->n_addresses * sizeof(from->addresses[0]));
        gw_words_store(shared->inputs, from->inputs, from->n_inputs * sizeof(from->inputs[0]));
        memcpy(shared->by_address, from->by_address, sizeof(shared->by_address));
        memcpy(shared->text, from->text, (size_t)from->text_len + 1);
}
