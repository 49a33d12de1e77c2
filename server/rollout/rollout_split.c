/* SPDX-License-Identifier: Apache-2.0 */
/* How routes are split: the entries of gateways' tables (server/gateway/README.md). */
#include <arpa/inet.h>
#include <inttypes.h>
#include <string.h>

#include "client/call.h"
#include "codec/jcs.h"
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

const char *served_name(struct mlc_ctx *ctx, const char *ns, const char *name, int64_t version)
{
        return ctx_printf(ctx, "%s--%s--%" PRId64, ns, name, version);
}

int rollout_model_document(struct mlc_ctx *ctx, struct db_tx *tx, const char *model, json_t **ret)
{
        struct gate_document d;
        int r = gate_document_get(ctx, tx, "Model", model, &d);

        *ret = NULL;
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                return 0;
        }
        return r < 0 ? r : gate_document_json(ctx, &d, ret);
}

/* "http://127.0.0.1:8081" → "127.0.0.1:8081". What a name leads to is known once an instance was
 * ready (served.address); until then it has none: gateways look nothing up. */
static void add_endpoint(json_t *list, const char *url, const char *address)
{
        char host[MLC_HOST_PORT_MAX];
        struct mlc_err ignored = {0};
        unsigned char raw[sizeof(struct in6_addr)];
        char *colon;

        if (*address != '\0') {
                (void)json_array_append_new(list, json_string(address));
                return;
        }
        if (mlc_url_host_port(url, host, &ignored) < 0)
                return;
        colon = strrchr(host, ':');
        *colon = '\0';
        if (host[0] != '[' && inet_pton(AF_INET, host, raw) != 1)
                return;
        *colon = ':';
        (void)json_array_append_new(list, json_string(host));
}

/* Those that are ready; before any is, all that there shall be. */
static int endpoints(struct db_tx *tx, const char *environment, const json_t *target,
                     const char *name, json_t *list)
{
        const json_t *instances = json_object_get(json_object_get(target, "serving"), "instances");
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const json_t *e;
        size_t i;
        int r = db_run(tx, SQL_SERVED_ENDPOINTS, &rows, DB_TEXT(environment),
                       DB_TEXT(text_of(target, "name")), DB_TEXT(name));

        for (int k = 0; r == 0 && k < rows.n; k++)
                add_endpoint(list, db_text(&rows, k, 0), db_text(&rows, k, 1));
        if (r < 0 || rows.n > 0)
                return r;
        json_array_foreach (instances, i, e)
                add_endpoint(list, text_of(e, "url"), "");
        return 0;
}

static int variant(struct mlc_ctx *ctx, struct db_tx *tx, const struct split_in *in,
                   const json_t *target, const struct split_variant *v, json_t *variants)
{
        const char *name = served_name(ctx, in->ns, in->name, v->version);
        _cleanup_(json_decref_p) json_t *list = json_array();
        int r;

        if (name == NULL)
                return ctx->err.code;
        r = endpoints(tx, in->environment, target, name, list);
        if (r < 0)
                return r;
        (void)json_array_append_new(
                variants,
                json_pack("{s:s, s:I, s:s, s:i, s:O, s:b, s:s, s:o}", "name", v->name, "version",
                          (json_int_t)v->version, "model", name, "weight", v->weight, "endpoints",
                          list, "lease", v->leased, "on_lost_control",
                          in->on_lost_control != NULL ? in->on_lost_control : "stable",
                          "error_limit",
                          v->error_limit > 0 ? json_integer(v->error_limit) : json_null()));
        return 0;
}

/* By whose inputs requests are checked: stable's, or those of what takes all traffic. */
static int64_t checked_version(const struct split_in *in)
{
        return in->variants[0].weight == ROLLOUT_WHOLE ? in->variants[0].version
                                                       : in->variants[in->n - 1].version;
}

/* NULL with the error set. */
static json_t *entry_of(struct mlc_ctx *ctx, struct db_tx *tx, const struct split_in *in,
                        const json_t *target, const json_t *route)
{
        const char *key = text_of(route, "key"), *protocol = text_of(route, "protocol");
        bool copies = !mlc_streq(text_of(json_object_get(target, "traffic"), "driver"), "haproxy");
        _cleanup_(json_decref_p) json_t *variants = json_array();
        const char *mode = route_validation(route);
        json_t *entry, *inputs = NULL;

        for (size_t i = 0; i < in->n; i++)
                if (variant(ctx, tx, in, target, &in->variants[i], variants) < 0)
                        return NULL;
        if (mode != NULL)
                inputs = inputs_declared(ctx, tx, in->model, checked_version(in));
        entry = json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o}", "route", text_of(route, "route"),
                          "protocol", protocol != NULL ? protocol : "oip", "salt", in->salt, "key",
                          key != NULL ? key : "random", "tap",
                          copies && in->tap > 0 ? json_pack("{s:i}", "share", in->tap)
                                                : json_null(),
                          "validate",
                          inputs != NULL ? json_pack("{s:s, s:o}", "mode", mode, "inputs", inputs)
                                         : json_null(),
                          "variants", TAKE_PTR(variants));
        if (entry == NULL)
                (void)ctx_fail(ctx, MLC_E_INTERNAL, "a split cannot be written");
        return entry;
}

/* The next generation of a gateway, once for each in this call. */
static int raise(struct db_tx *tx, const char *control, const char *driver, json_t *generations,
                 int64_t *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const json_t *known = json_object_get(generations, control);
        int r;

        if (known != NULL) {
                *ret = json_integer_value(known);
                return 0;
        }
        r = db_run(tx, SQL_GATEWAY_RAISE, &rows, DB_TEXT(control), DB_TEXT(driver));
        if (r < 0)
                return r;
        *ret = db_int(&rows, 0, 0);
        (void)json_object_set_new(generations, control, json_integer(*ret));
        return 0;
}

/* The entry that a route has now, NULL when it has none of this model; borrowed from rows. */
static const char *entry_now(const struct db_rows *rows, const char *control, const char *route)
{
        for (int i = 0; i < rows->n; i++)
                if (mlc_streq(db_text(rows, i, 0), control) &&
                    mlc_streq(db_text(rows, i, 1), route))
                        return db_text(rows, i, 3);
        return NULL;
}

struct writing {
        const struct split_in *in;
        const struct db_rows *before; /* splits of the model */
        json_t *generations; /* of gateways that change */
        json_t *kept; /* {"CONTROL ROUTE": true} */
};

/* As drivers/traffic.h has it; NULL with the error set. */
static const char *control_of(struct mlc_ctx *ctx, const json_t *traffic)
{
        const char *control = text_of(traffic, "control"), *map = text_of(traffic, "map");

        return map != NULL ? ctx_printf(ctx, "%s;map=%s", control, map) : ctx_strdup(ctx, control);
}

static int64_t error_limit(const struct rollout *r, int at)
{
        int64_t requests = json_integer_value(json_object_get(rollout_step(r, at), "requests"));

        return requests / 2 > 50 ? requests / 2 : 50;
}

static bool looks_at_outputs(const struct rollout *r)
{
        const json_t *check;
        size_t i;

        json_array_foreach (json_object_get(r->plan, "checks"), i, check)
                if (mlc_streq(text_of(check, "type"), "prediction-distribution"))
                        return true;
        return false;
}

/* The share of requests to copy: what a mirror asks for; where outputs are looked at all of a short
 * step, and of a longer one as many as decide in it. */
static int tap_of(const struct rollout *r, int at)
{
        const json_t *step = at < 0 ? NULL : rollout_step(r, at);
        int64_t requests = json_integer_value(json_object_get(step, "requests"));
        int mirror = (int)json_integer_value(json_object_get(step, "mirror"));
        int64_t share;

        if (mirror > 0 || step == NULL || !looks_at_outputs(r))
                return mirror;
        share = requests > 0 ? ROLLOUT_WHOLE * (int64_t)ROLLOUT_TAP_REQUESTS / requests
                             : ROLLOUT_WHOLE;
        if (share > ROLLOUT_WHOLE)
                return ROLLOUT_WHOLE;
        return share < ROLLOUT_TAP_SAMPLE ? ROLLOUT_TAP_SAMPLE : (int)share;
}

/* What is live alone, as it was: nothing changes for a gateway whose wave is still to come. */
static int of_later(struct mlc_ctx *ctx, struct split_in *in, const char *now)
{
        _cleanup_(json_decref_p) json_t *entry = NULL;
        int r = now != NULL ? rollout_parse(ctx, now, &entry) : 0;

        if (r < 0)
                return r;
        if (text_of(entry, "salt") != NULL)
                in->salt = ctx_strdup(ctx, text_of(entry, "salt"));
        in->on_lost_control = NULL;
        in->tap = 0;
        in->variants[0] = (struct split_variant){
                .name = "stable", .version = in->by->from_version, .weight = ROLLOUT_WHOLE};
        in->n = 1;
        return in->salt != NULL ? 0 : ctx->err.code;
}

/* As the step says that the target is in; `now` is the route's entry, or NULL. */
static int of_target(struct mlc_ctx *ctx, struct split_in *in, const char *target, const char *now)
{
        int at = rollout_step_in(in->by, target), weight = rollout_weight_in(in->by, target);

        if (at < 0)
                return of_later(ctx, in, now);
        in->tap = tap_of(in->by, at);
        in->variants[0].weight = weight;
        in->variants[0].error_limit = error_limit(in->by, at);
        in->variants[1].weight = ROLLOUT_WHOLE - weight;
        return 0;
}

static int write_route(struct mlc_ctx *ctx, struct db_tx *tx, struct writing *w,
                       const json_t *target, const json_t *route)
{
        const json_t *traffic = json_object_get(target, "traffic");
        const char *control = control_of(ctx, traffic), *name = text_of(route, "route");
        struct split_in in = *w->in;
        _cleanup_(json_decref_p) json_t *entry = NULL;
        const char *key = ctx_printf(ctx, "%s %s", control, name), *text;
        int64_t generation = 0;
        int r;

        if (control == NULL || key == NULL)
                return ctx->err.code;
        if (in.by != NULL &&
            of_target(ctx, &in, text_of(target, "name"), entry_now(w->before, control, name)) < 0)
                return ctx->err.code;
        entry = entry_of(ctx, tx, &in, target, route);
        if (entry == NULL)
                return ctx->err.code;
        if (in.controls != NULL)
                (void)json_object_set(in.controls, control, json_object_get(target, "name"));
        text = rollout_text(ctx, entry);
        if (text == NULL)
                return ctx->err.code;
        (void)json_object_set_new(w->kept, key, json_true());
        if (mlc_streq(text, entry_now(w->before, control, name)))
                return 0;
        r = raise(tx, control, text_of(traffic, "driver"), w->generations, &generation);
        if (r < 0)
                return r;
        return db_run(tx, SQL_SPLIT_SET, NULL, DB_TEXT(control), DB_TEXT(name),
                      DB_TEXT(w->in->environment), DB_TEXT(text_of(target, "name")),
                      DB_TEXT(w->in->model), DB_TEXT(text), DB_INT(generation));
}

/* Routes of this model that the documents no longer have, or, without variants, all of them. */
static int remove_others(struct mlc_ctx *ctx, struct db_tx *tx, struct writing *w)
{
        int r = 0;

        for (int i = 0; r == 0 && i < w->before->n; i++) {
                const char *control = db_text(w->before, i, 0), *route = db_text(w->before, i, 1);
                const char *key = ctx_printf(ctx, "%s %s", control, route);
                int64_t generation;

                if (key == NULL)
                        return ctx->err.code;
                if (json_object_get(w->kept, key) != NULL)
                        continue;
                r = raise(tx, control, "", w->generations, &generation);
                if (r == 0)
                        r = db_run(tx, SQL_SPLIT_REMOVE, NULL, DB_TEXT(control), DB_TEXT(route));
        }
        return r;
}

int split_write(struct mlc_ctx *ctx, struct db_tx *tx, const struct split_in *in,
                json_t **ret_generations)
{
        _cleanup_(json_decref_p) json_t *environment = NULL, *model = NULL;
        _cleanup_(json_decref_p) json_t *generations = json_object(), *kept = json_object();
        _cleanup_(db_rows_done) struct db_rows before = {0};
        struct writing w = {.in = in, .before = &before, .generations = generations, .kept = kept};
        const json_t *target, *route;
        struct gate_document d;
        size_t i, j;
        int r = gate_document_get(ctx, tx, "Environment", in->environment, &d);

        if (r == 0)
                r = gate_document_json(ctx, &d, &environment);
        if (r == 0)
                r = rollout_model_document(ctx, tx, in->model, &model);
        if (r == 0)
                r = db_run(tx, SQL_SPLIT_OF_MODEL, &before, DB_TEXT(in->model),
                           DB_TEXT(in->environment));
        if (r < 0)
                return r;
        json_array_foreach (json_object_get(environment, "targets"), i, target)
                json_array_foreach (json_object_get(model, "routes"), j, route) {
                        if (in->n == 0 ||
                            !rollout_names(json_object_get(route, "environments"), in->environment))
                                continue;
                        r = write_route(ctx, tx, &w, target, route);
                        if (r < 0)
                                return r;
                }
        r = remove_others(ctx, tx, &w);
        if (r < 0)
                return r;
        *ret_generations = TAKE_PTR(generations);
        return 0;
}

/* --- what counters of a generation stand for --- */

struct moved {
        const json_t *generations; /* {CONTROL: generation} of those that change */
        const json_t *controls; /* {CONTROL: target} of all */
        int weight; /* where all targets have the same */
};

/* A time and place of one weight: targets that stay as they are in an earlier step are apart from
 * those that the present one is about, whose number is the largest. */
static json_t *epoch_of(const struct rollout *r, const struct moved *m, const char *control,
                        json_int_t last)
{
        const char *target = json_string_value(json_object_get(m->controls, control));
        int at = rollout_step_in(r, target != NULL ? target : "");
        bool waves = rollout_has_waves(r);

        return json_pack("{s:I, s:i, s:i, s:I}", "epoch", last - (r->step - at), "weight",
                         waves ? rollout_weight_in(r, target != NULL ? target : "") : m->weight,
                         "step", at, "since_ms", (json_int_t)r->now_ms);
}

/* The entry of the newest generation of a gateway; *ret_key is its key. */
static const json_t *newest_of(json_t *of, const char **ret_key)
{
        const char *key, *newest = NULL;
        json_t *unused;

        json_object_foreach (of, key, unused)
                if (newest == NULL || strlen(key) > strlen(newest) ||
                    (strlen(key) == strlen(newest) && strcmp(key, newest) > 0))
                        newest = key;
        *ret_key = newest;
        return newest != NULL ? json_object_get(of, newest) : NULL;
}

static bool same_place(const json_t *a, const json_t *b)
{
        return json_equal(json_object_get(a, "step"), json_object_get(b, "step")) != 0 &&
               json_equal(json_object_get(a, "weight"), json_object_get(b, "weight")) != 0;
}

/* What a gateway counts from `generation` on is of this epoch. With NULL its table stays as it is:
 * two steps may have the same weight; those that the step is not about go on. An entry holds for
 * every later generation, so that instances that come and go add none. */
static void count_anew(const struct rollout *r, json_t *of, const char *generation, json_t *epoch)
{
        const char *newest;
        const json_t *before = newest_of(of, &newest);
        bool other = before == NULL || !same_place(before, epoch);

        if (other && generation != NULL)
                (void)json_object_set(of, generation, epoch);
        else if (other && newest != NULL &&
                 json_integer_value(json_object_get(epoch, "step")) == r->step)
                (void)json_object_set(of, newest, epoch);
        json_decref(epoch);
}

/* seen.weights: {CONTROL: {GENERATION: {"epoch","weight","step","since_ms"}}}, so that counters of
 * a generation find theirs; step -1: the candidate has nothing there yet, nothing is compared. */
static int remember(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const struct moved *m)
{
        json_t *weights = json_object_get(r->seen, "weights"), *of;
        json_int_t last = json_integer_value(json_object_get(r->seen, "epoch")) + 1;
        const char *control, *text;
        const json_t *generation;

        if (rollout_has_waves(r))
                last += r->step + 1; /* room for a number of each step */
        if (weights == NULL) {
                weights = json_object();
                (void)json_object_set_new(r->seen, "weights", weights);
        }
        (void)json_object_set_new(r->seen, "epoch", json_integer(last));
        json_object_foreach (weights, control, of)
                if (json_object_get(m->generations, control) == NULL)
                        count_anew(r, of, NULL, epoch_of(r, m, control, last));
        json_object_foreach ((json_t *)(uintptr_t)m->generations, control, generation) {
                char key[24];

                of = json_object_get(weights, control);
                if (of == NULL) {
                        of = json_object();
                        (void)json_object_set_new(weights, control, of);
                }
                (void)snprintf(key, sizeof(key), "%lld", (long long)json_integer_value(generation));
                count_anew(r, of, key, epoch_of(r, m, control, last));
        }
        text = rollout_text(ctx, r->seen);
        if (text == NULL)
                return ctx->err.code;
        return db_run(tx, SQL_ROLLOUT_SEEN, NULL, DB_TEXT(r->id), DB_TEXT(text));
}

int split_rollout(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, int weight)
{
        _cleanup_(json_decref_p) json_t *generations = NULL, *controls = json_object();
        struct split_in in = {
                .environment = r->environment,
                .model = r->model,
                .ns = r->ns,
                .name = r->name,
                .salt = r->id,
                .on_lost_control = json_string_value(json_object_get(r->plan, "on_lost_control")),
                .tap = tap_of(r, r->step),
                .controls = controls};
        int e;

        if (r->from_version == 0 || rollout_is_back(r)) {
                int64_t alone = weight > 0 ? r->version : r->from_version;

                if (alone != 0)
                        in.variants[in.n++] = (struct split_variant){
                                .name = "stable", .version = alone, .weight = ROLLOUT_WHOLE};
        } else {
                in.variants[in.n++] =
                        (struct split_variant){.name = "candidate",
                                               .version = r->version,
                                               .weight = weight,
                                               .leased = true,
                                               .error_limit = error_limit(r, r->step)};
                in.variants[in.n++] = (struct split_variant){.name = "stable",
                                                             .version = r->from_version,
                                                             .weight = ROLLOUT_WHOLE - weight};
                in.by = rollout_has_waves(r) ? r : NULL;
        }
        e = split_write(ctx, tx, &in, &generations);
        return e < 0 ? e : remember(ctx, tx, r, &(struct moved){generations, controls, weight});
}

int split_settle(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, int64_t version)
{
        _cleanup_(json_decref_p) json_t *generations = NULL;
        struct split_in in = {.environment = r->environment,
                              .model = r->model,
                              .ns = r->ns,
                              .name = r->name,
                              .salt = r->id};

        if (version != 0)
                in.variants[in.n++] = (struct split_variant){
                        .name = "stable", .version = version, .weight = ROLLOUT_WHOLE};
        return split_write(ctx, tx, &in, &generations);
}
