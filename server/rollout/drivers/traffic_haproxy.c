/* SPDX-License-Identifier: Apache-2.0 */
/*
 * HAProxy through its runtime API: splits are entries of a map, which the configuration reads for
 * each request, so nothing is ever reloaded. What HAProxy cannot do: leases and limits of errors
 * (it holds what it was told), latencies, and copies of requests.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "rollout/drivers/haproxy.h"
#include "rollout/drivers/traffic.h"
#include "rollout/latency.h"

static const char *text_of(const json_t *obj, const char *key)
{
        const char *s = json_string_value(json_object_get(obj, key));

        return s != NULL ? s : "";
}

static int64_t generation_of(const json_t *map)
{
        return strtoll(text_of(map, "/generation"), NULL, 10);
}

/* --- servers of a backend --- */

struct putting {
        struct hap h;
        const json_t *table;
        json_t *map; /* as it was; owned */
        json_t *want; /* as it shall be; owned */
        json_t *servers; /* {BACKEND: servers with "wanted"}; owned */
        char boot[HAP_BOOT_MAX];
};

static void putting_done(struct putting *p)
{
        json_decref(p->map);
        json_decref(p->want);
        json_decref(p->servers);
}

/* What is to be ready of a backend. Every endpoint must be one of its servers. */
static int read_backend(struct putting *p, const char *backend, const json_t *endpoints,
                        struct mlc_err *err)
{
        json_t *servers, *s;
        const json_t *e;
        size_t i, j;
        int r = hap_servers(&p->h, backend, &servers, err);

        if (r < 0)
                return r;
        (void)json_object_set_new(p->servers, backend, servers);
        json_array_foreach (endpoints, i, e) {
                bool found = false;

                json_array_foreach (servers, j, s)
                        if (mlc_streq(text_of(s, "address"), json_string_value(e))) {
                                (void)json_object_set_new(s, "wanted", json_true());
                                found = true;
                        }
                if (!found)
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "backend '%s' of haproxy at '%s' has no server %s: add it "
                                        "to its configuration",
                                        backend, p->h.socket, json_string_value(e));
        }
        return 0;
}

/* Those that shall be ready are made so before the split, the others taken out after it. */
static int set_servers(const struct putting *p, bool ready, struct mlc_err *err)
{
        const char *backend;
        json_t *servers, *s;
        size_t i;
        int r = 0;

        json_object_foreach (p->servers, backend, servers)
                json_array_foreach (servers, i, s) {
                        bool wanted = json_is_true(json_object_get(s, "wanted"));

                        if (r < 0 || wanted != ready ||
                            json_is_true(json_object_get(s, "maint")) != ready)
                                continue;
                        r = hap_do(&p->h, err, "set server %s/%s state %s", backend,
                                   text_of(s, "name"), ready ? "ready" : "maint");
                }
        return r;
}

/* --- what the map shall hold --- */

static void want(struct putting *p, const char *key, const struct mlc_str *value)
{
        (void)json_object_set_new(p->want, key, json_string(mlc_str_cstr(value)));
}

struct backend {
        char name[300], key[320]; /* in HAProxy, and of its banks in the map */
        const json_t *variant;
        bool stays; /* its split is the one that is in force */
};

/* A split that stays as it is keeps its banks. */
static void want_bank(struct putting *p, const struct backend *b, const json_t *counters)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        struct hap_bank old = {0}, bank = {0};
        bool known = hap_bank_read(text_of(p->map, b->key), &old) && mlc_streq(old.boot, p->boot);

        mlc_str_init(&text, 4096);
        bank.version = json_integer_value(json_object_get(b->variant, "version"));
        if (b->stays && known) {
                bank = old;
        } else if (b->stays && old.generation != 0) { /* its counters began anew */
                bank.generation = old.generation;
        } else {
                bank.generation = json_integer_value(json_object_get(p->table, "generation"));
                hap_counts_read(json_object_get(counters, b->name), &bank.base);
                bank.before = known ? old.generation : 0;
                bank.before_version = known ? old.version : 0;
                if (known)
                        bank.of_before = hap_counts_since(&bank.base, &old.base);
        }
        memcpy(bank.boot, p->boot, sizeof(bank.boot));
        hap_bank_write(&bank, &text);
        want(p, b->key, &text);
}

static int want_route(struct putting *p, const json_t *route, const json_t *counters,
                      struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str entry;
        const char *name = text_of(route, "route");
        const json_t *v;
        bool stays;
        size_t i;
        int r;

        mlc_str_init(&entry, 1024);
        r = hap_entry(route, &entry, err);
        if (r < 0)
                return r;
        stays = mlc_streq(mlc_str_cstr(&entry), text_of(p->map, name));
        want(p, name, &entry);
        json_array_foreach (json_object_get(route, "variants"), i, v) {
                struct backend b = {.variant = v, .stays = stays};

                (void)snprintf(b.name, sizeof(b.name), "%.140s.%.100s", name, text_of(v, "name"));
                (void)snprintf(b.key, sizeof(b.key), "/bank/%.140s/%.100s", name,
                               text_of(v, "name"));
                r = read_backend(p, b.name, json_object_get(v, "endpoints"), err);
                if (r < 0)
                        return r;
                want_bank(p, &b, counters);
        }
        return 0;
}

static int want_all(struct putting *p, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *counters = NULL;
        const json_t *route;
        size_t i;
        int r = hap_counters(&p->h, &counters, err);

        json_array_foreach (json_object_get(p->table, "routes"), i, route) {
                if (r == 0)
                        r = want_route(p, route, counters, err);
        }
        (void)json_object_set_new(p->want, "/boot", json_string(p->boot));
        return r;
}

/* --- writing it --- */

static int set_one(const struct putting *p, const char *key, const char *value, struct mlc_err *err)
{
        const char *now = json_string_value(json_object_get(p->map, key));

        if (mlc_streq(now, value))
                return 0;
        return hap_do(&p->h, err, "%s map %s %s %s", now != NULL ? "set" : "add", p->h.map, key,
                      value);
}

/* Each route's entry changes at once. */
static int set_map(const struct putting *p, struct mlc_err *err)
{
        const char *key;
        json_t *value;
        int r = 0;

        json_object_foreach (p->want, key, value) {
                r = set_one(p, key, json_string_value(value), err);
                if (r < 0)
                        return r;
        }
        json_object_foreach (p->map, key, value) {
                if (json_object_get(p->want, key) == NULL && !mlc_streq(key, "/generation"))
                        r = hap_do(&p->h, err, "del map %s %s", p->h.map, key);
                if (r < 0)
                        return r;
        }
        return r;
}

/* So that HAProxy comes back with it after a reload or a restart. */
static int write_file(const struct putting *p, int64_t generation, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        const char *key;
        json_t *value;
        int r;

        mlc_str_init(&text, HAP_REPLY_MAX);
        mlc_str_add(&text, "# written by mlctld: splits of routes (deploy/haproxy/mlctl.cfg)\n");
        json_object_foreach (p->want, key, value)
                mlc_str_addf(&text, "%s %s\n", key, json_string_value(value));
        mlc_str_addf(&text, "/generation %" PRId64 "\n", generation);
        r = mlc_str_check(&text, err);
        return r < 0 ? r : mlc_write_file_atomic(p->h.map, text.data, text.len, 0644, err);
}

/* What is in memory is read back before its generation counts. */
static int verify(const struct putting *p, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *map = NULL;
        const char *key;
        json_t *value;
        int r = hap_map(&p->h, &map, err);

        if (r < 0)
                return r;
        (void)json_object_del(map, "/generation");
        if (json_object_size(map) != json_object_size(p->want))
                return mlc_fail(err, MLC_E_CONFLICT, "haproxy at '%s' holds another map",
                                p->h.socket);
        json_object_foreach (p->want, key, value)
                if (!json_equal(value, json_object_get(map, key)))
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "haproxy at '%s' holds another entry of '%s'", p->h.socket,
                                        key);
        return 0;
}

static int put_all(struct putting *p, int64_t generation, struct mlc_err *err)
{
        char number[24];
        int r = want_all(p, err);

        (void)snprintf(number, sizeof(number), "%" PRId64, generation);
        if (r == 0)
                r = set_servers(p, true, err);
        if (r == 0)
                r = set_map(p, err);
        if (r == 0)
                r = set_servers(p, false, err);
        if (r == 0)
                r = verify(p, err);
        if (r == 0)
                r = write_file(p, generation, err);
        return r < 0 ? r : set_one(p, "/generation", number, err);
}

/* Whoever puts holds this: the runtime API compares nothing. */
static int lock(const struct hap *h, int *ret_fd, struct mlc_err *err)
{
        char path[HAP_PATH_MAX + 8];
        int fd;

        (void)snprintf(path, sizeof(path), "%s.lock", h->map);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "open", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                (void)close(fd);
                return mlc_fail(err, MLC_E_CONFLICT, "another server writes to '%s'", h->map);
        }
        *ret_fd = fd;
        return 0;
}

/* Whether the table may be put: it is newer, or the same once more. */
static int refuse_older(struct putting *p, int64_t generation, struct mlc_err *err)
{
        int64_t has = generation_of(p->map);
        const json_t *route;
        const char *key;
        size_t i;

        if (generation > has)
                return 0;
        if (generation < has)
                return mlc_fail(err, MLC_E_CONFLICT,
                                "haproxy at '%s' has generation %" PRId64 " in force", p->h.socket,
                                has);
        json_array_foreach (json_object_get(p->table, "routes"), i, route) {
                _cleanup_(mlc_str_done) struct mlc_str entry;

                mlc_str_init(&entry, 1024);
                key = text_of(route, "route");
                if (hap_entry(route, &entry, err) < 0)
                        return err->code;
                if (!mlc_streq(mlc_str_cstr(&entry), text_of(p->map, key)))
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "haproxy at '%s' has another table of generation %" PRId64,
                                        p->h.socket, has);
        }
        return 0;
}

static int put(const char *control, const json_t *table, struct mlc_err *err)
{
        _cleanup_(putting_done) struct putting p = {
                .table = table, .want = json_object(), .servers = json_object()};
        int64_t generation = json_integer_value(json_object_get(table, "generation"));
        _cleanup_(close_fd) int fd = -1;
        int r = hap_where(control, &p.h, err);

        if (r == 0)
                r = lock(&p.h, &fd, err);
        if (r == 0)
                r = hap_boot(&p.h, p.boot, err);
        if (r == 0)
                r = hap_map(&p.h, &p.map, err);
        if (r == 0)
                r = refuse_older(&p, generation, err);
        return r < 0 ? r : put_all(&p, generation, err);
}

/* --- reading --- */

/* A process that was not told has the map of its file, but servers as they are configured: its
 * table is put again. */
static int in_force(const char *control, int64_t *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *map = NULL;
        char boot[HAP_BOOT_MAX];
        struct hap h;
        int r = hap_where(control, &h, err);

        if (r == 0)
                r = hap_boot(&h, boot, err);
        if (r == 0)
                r = hap_map(&h, &map, err);
        if (r < 0)
                return r;
        *ret = mlc_streq(boot, text_of(map, "/boot")) ? generation_of(map) : 0;
        return 0;
}

static json_t *bank_of(const char *variant, int64_t generation, int64_t version,
                       const struct hap_counts *c)
{
        return json_pack("{s:I, s:s, s:I, s:I, s:{s:I, s:I, s:I, s:I}, s:i, s:i, s:i, s:i, s:I, "
                         "s:{s:s, s:i, s:[]}}",
                         "generation", (json_int_t)generation, "variant", variant, "version",
                         (json_int_t)version, "requests", (json_int_t)c->n[0], "status", "2xx",
                         (json_int_t)c->n[1], "3xx", (json_int_t)c->n[2], "4xx",
                         (json_int_t)c->n[3], "5xx", (json_int_t)c->n[4] + (json_int_t)c->n[5],
                         "upstream_errors", 0, "timeouts", 0, "wrong_version", 0, "invalid", 0,
                         "errors", (json_int_t)c->n[4] + (json_int_t)c->n[5], "latency", "gamma",
                         MLC_LATENCY_GAMMA_TEXT, "min_us", MLC_LATENCY_MIN_US, "buckets");
}

/* The banks of "/bank/ROUTE/VARIANT" → its route's list. */
static void add_banks(json_t *routes, const char *key, const char *value, const char *boot,
                      const json_t *counters)
{
        const char *route = key + strlen("/bank/"), *variant = strrchr(key, '/') + 1;
        char name[200], backend[400];
        struct hap_counts now, since;
        struct hap_bank b;
        json_t *list;

        if (variant <= route || !hap_bank_read(value, &b))
                return;
        (void)snprintf(name, sizeof(name), "%.*s", (int)(variant - route - 1), route);
        (void)snprintf(backend, sizeof(backend), "%s.%s", name, variant);
        list = json_object_get(routes, name);
        if (list == NULL) {
                list = json_array();
                (void)json_object_set_new(routes, name, list);
        }
        hap_counts_read(json_object_get(counters, backend), &now);
        if (!mlc_streq(b.boot, boot))
                memset(&b.base, 0, sizeof(b.base));
        since = hap_counts_since(&now, &b.base);
        (void)json_array_append_new(list, bank_of(variant, b.generation, b.version, &since));
        if (b.before != 0 && mlc_streq(b.boot, boot))
                (void)json_array_append_new(
                        list, bank_of(variant, b.before, b.before_version, &b.of_before));
}

static int stats(const char *control, const json_t *wanted, json_t **ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *map = NULL, *counters = NULL, *routes = json_object();
        json_t *shown = NULL, *value;
        char boot[HAP_BOOT_MAX];
        const char *key;
        struct hap h;
        int r = hap_where(control, &h, err);

        (void)wanted;
        if (r == 0)
                r = hap_boot(&h, boot, err);
        if (r == 0)
                r = hap_map(&h, &map, err);
        if (r == 0)
                r = hap_counters(&h, &counters, err);
        if (r < 0)
                return r;
        json_object_foreach (map, key, value)
                if (mlc_starts_with(key, "/bank/"))
                        add_banks(routes, key, json_string_value(value), boot, counters);
        shown = json_pack("{s:s, s:I, s:[], s:[], s:n}", "boot", boot, "generation",
                          (json_int_t)generation_of(map), "routes", "tripped", "tap");
        json_object_foreach (routes, key, value)
                (void)json_array_append_new(
                        json_object_get(shown, "routes"),
                        json_pack("{s:s, s:O}", "route", key, "variants", value));
        *ret = shown;
        return 0;
}

const struct traffic_ops traffic_haproxy = {
        .name = "haproxy", .in_force = in_force, .put = put, .stats = stats};
