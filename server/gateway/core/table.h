/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlctl/error.h"

/*
 * A table of routes (JSON, "gateway-table/v1", see ../README.md) as flat structures of fixed size
 * without pointers: it is copied into shared memory as it is. Nothing here knows nginx.
 */
#define GW_SCHEMA "gateway-table/v1"
#define GW_TEXT_MAX (2 << 20) /* bytes of a table's JSON */
#define GW_ROUTES_MAX 1024
#define GW_VARIANTS_MAX 3072 /* of all routes */
#define GW_ROUTE_VARIANTS_MAX 8
#define GW_ADDRESSES_MAX 1024 /* different endpoints of all variants */
#define GW_ENDPOINTS_MAX 16 /* of one variant */
#define GW_INPUTS_MAX 2048 /* of all routes */
#define GW_ROUTE_INPUTS_MAX 64
#define GW_DIMS_MAX 8
#define GW_NAME_MAX 100 /* of a route */
#define GW_VARIANT_NAME_MAX 32
#define GW_MODEL_MAX 255
#define GW_KEY_NAME_MAX 64
#define GW_SALT_MAX 64
#define GW_INDEX (2 * GW_ROUTES_MAX) /* of a hash table over the routes' names */
#define GW_BY_ADDRESS (2 * GW_ADDRESSES_MAX) /* of one over the addresses */
#define GW_WORDS __attribute__((aligned(8))) /* is copied by words.h */
#define GW_NO_LIMIT UINT32_MAX
#define GW_NONE UINT16_MAX

enum gw_key { GW_KEY_RANDOM, GW_KEY_ADDRESS, GW_KEY_HEADER, GW_KEY_COOKIE };
enum gw_validate { GW_VALIDATE_OFF, GW_VALIDATE_FLAG, GW_VALIDATE_REJECT };

struct gw_address {
        uint16_t len; /* of `raw`, a struct sockaddr_in or sockaddr_in6, unused bytes zero */
        uint16_t health; /* number of its cell in shared memory */
        uint8_t raw[28];
        char text[56]; /* of raw, ADDRESS:PORT as inet_ntop() writes it */
} GW_WORDS;

struct gw_input {
        char name[GW_NAME_MAX + 1];
        char datatype[12]; /* of the Open Inference Protocol */
        uint8_t n_dims;
        bool ranged;
        int64_t shape[GW_DIMS_MAX]; /* -1: any */
        double lo, hi; /* both allowed, when ranged */
} GW_WORDS;

struct gw_variant {
        char name[GW_VARIANT_NAME_MAX + 1];
        char model[GW_MODEL_MAX + 1]; /* on the inference server */
        uint32_t version;
        uint32_t weight; /* of 10000 */
        uint32_t error_limit; /* GW_NO_LIMIT: none */
        bool lease; /* counts as weight 0 when the lease has run out, unless hold */
        bool hold;
        uint8_t n_endpoints;
        uint16_t endpoints[GW_ENDPOINTS_MAX]; /* indices of addresses */
} GW_WORDS;

/* The counters of a route's variants, valid while split and variants stay as they are. */
struct gw_bank {
        uint64_t generation; /* 0: none */
        uint8_t n;
        uint16_t cells[GW_ROUTE_VARIANTS_MAX]; /* in shared memory */
        uint64_t ids[GW_ROUTE_VARIANTS_MAX]; /* of those cells, while they are this bank's */
};

struct gw_route {
        char name[GW_NAME_MAX + 1];
        char key_name[GW_KEY_NAME_MAX + 1]; /* of header or cookie */
        char salt[GW_SALT_MAX + 1];
        uint8_t salt_len;
        uint8_t key; /* enum gw_key */
        uint8_t validate; /* enum gw_validate */
        uint8_t n_variants;
        bool repeat; /* a request may be sent twice, the models have no side effects */
        uint16_t first_variant;
        uint16_t first_input, n_inputs;
        uint16_t bounds[GW_ROUTE_VARIANTS_MAX]; /* sums of the weights up to and with each */
        uint32_t tap_share; /* of 10000 */
        uint32_t text_at, text_len; /* of its object in the table's text; length 0: not known */
        struct gw_bank banks[2]; /* present and before; filled in by the shared memory */
} GW_WORDS;

struct gw_index {
        uint32_t hash; /* of the route's name */
        uint16_t route; /* GW_NONE: free */
        uint16_t unused;
} GW_WORDS;

struct gw_table {
        uint64_t generation;
        uint32_t text_len;
        uint16_t n_routes, n_variants, n_addresses, n_inputs;
        struct gw_index index[GW_INDEX]; /* by hash of the name, open addressing */
        struct gw_route routes[GW_ROUTES_MAX];
        struct gw_variant variants[GW_VARIANTS_MAX];
        struct gw_address addresses[GW_ADDRESSES_MAX];
        struct gw_input inputs[GW_INPUTS_MAX];
        /* readers of the shared memory do not look at the rest */
        uint16_t by_address[GW_BY_ADDRESS]; /* by hash of raw, open addressing; GW_NONE: free */
        char text[GW_TEXT_MAX + 1]; /* the JSON itself */
};

/*
 * Checks everything and fills *ret (some 6 MB: on the heap). On failure *ret is of no use.
 * MLC_E_INVALID with a JSON pointer in err->field, MLC_E_LIMIT for what is too long or too many.
 */
int gw_table_parse(const char *text, size_t len, struct gw_table *ret,
                   struct mlc_err *err) MLC_CHECK;
/* The same result, sooner when routes are, byte for byte, routes of `old`. */
int gw_table_update(const char *text, size_t len, const struct gw_table *old, struct gw_table *ret,
                    struct mlc_err *err) MLC_CHECK;
/* Without routes. */
void gw_table_clear(struct gw_table *t);
/* Borrowed from t; NULL when there is no such route. `name` need not be terminated. */
const struct gw_route *gw_table_route(const struct gw_table *t, const char *name, size_t len);
/* The same while t may be written: a copy without banks[1], of which each member may be anything
 * until the caller knows that it was not torn. */
bool gw_table_read_route(const struct gw_table *t, const char *name, size_t len,
                         struct gw_route *ret);
/* The index of the address with the same `raw`, GW_NONE when there is none. */
uint16_t gw_table_address(const struct gw_table *t, const struct gw_address *a);
/* Whether callers and counters of the route stay as they are under `b`. */
bool gw_route_same_split(const struct gw_table *a, const struct gw_route *ra,
                         const struct gw_table *b, const struct gw_route *rb);
/* Into shared memory that others may read meanwhile (words.h). Copies only what is in use. */
void gw_table_publish(struct gw_table *shared, const struct gw_table *from);
