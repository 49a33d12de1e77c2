/* SPDX-License-Identifier: Apache-2.0 */
/* Observations: recorded for clients, and counted for the leader. */
#include <inttypes.h>

#include "codec/ref.h"
#include "gen/observation.sql.h"
#include "rollout/observation.h"

#define FORGET_MAX 100000 /* rows of one run */
#define REPORT_MAX (16u << 20)

/* --- recording --- */

/* A model in an environment, as a report names it. */
struct place {
        const char *environment, *model, *route; /* model: once it is known */
        int64_t newest, candidate, stable; /* versions; 0: none */
};

struct report {
        struct place places[OBSERVATION_PLACES_MAX];
        size_t n;
        json_t *rows; /* what the statements take; owned */
};

static void report_done(struct report *p)
{
        json_decref(p->rows);
}

static int missing(struct mlc_ctx *ctx, const struct place *p, const char *at)
{
        char where[MLC_JSON_POINTER_MAX];

        mlc_json_pointer(where, at, p->route != NULL ? "route" : "model");
        return ctx_fail_field(ctx, MLC_E_NOT_FOUND, where, "'%s' is not served in '%s'",
                              p->route != NULL ? p->route : p->model, p->environment);
}

static int allowed(struct mlc_ctx *ctx, const struct place *p, const char *at)
{
        char where[MLC_JSON_POINTER_MAX];
        struct mlc_err ignored = {0};
        struct mlc_ref ref;

        mlc_json_pointer(where, at, p->route != NULL ? "route" : "model");
        if (mlc_ref_parse_model(p->model, &ref, &ignored) < 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, where, "NAMESPACE/NAME is expected");
        if (!auth_may_read(ctx->principal, ref.ns))
                return missing(ctx, p, at);
        if ((auth_roles(ctx->principal, ref.ns) & (AUTH_EVALUATOR | AUTH_OPERATOR)) == 0)
                return ctx_fail_field(ctx, MLC_E_FORBIDDEN, where,
                                      "this needs the role evaluator or operator in namespace '%s'",
                                      ref.ns);
        return 0;
}

static int resolve(struct mlc_ctx *ctx, struct db_tx *tx, struct place *p, const char *at)
{
        _cleanup_(db_rows_done) struct db_rows route = {0}, rows = {0};
        int r;

        if (p->model == NULL) {
                r = db_run(tx, SQL_OBSERVATION_ROUTE, &route, DB_TEXT(p->environment),
                           DB_TEXT(p->route));
                if (r < 0)
                        return r;
                if (route.n == 0)
                        return missing(ctx, p, at);
                p->model = db_text_dup(ctx, &route, 0, 0);
                if (p->model == NULL)
                        return ctx->err.code;
        }
        r = allowed(ctx, p, at);
        if (r == 0)
                r = db_run(tx, SQL_OBSERVATION_PLACE, &rows, DB_TEXT(p->environment),
                           DB_TEXT(p->model));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return missing(ctx, p, at);
        p->newest = db_int(&rows, 0, 0);
        p->candidate = db_int(&rows, 0, 1);
        p->stable = db_int(&rows, 0, 2);
        return 0;
}

static int place_of(struct mlc_ctx *ctx, struct db_tx *tx, struct report *report,
                    const struct observation_item *o, const char *at, const struct place **ret)
{
        struct place *p = report->places;
        int r;

        for (size_t i = 0; i < report->n; i++)
                if (mlc_streq(p[i].environment, o->environment) &&
                    (o->route != NULL ? mlc_streq(p[i].route, o->route)
                                      : p[i].route == NULL && mlc_streq(p[i].model, o->model))) {
                        *ret = &p[i];
                        return 0;
                }
        if (report->n == OBSERVATION_PLACES_MAX)
                return ctx_fail_field(ctx, MLC_E_INVALID, at,
                                      "a report is about at most %d models and routes",
                                      OBSERVATION_PLACES_MAX);
        p += report->n;
        *p = (struct place){.environment = o->environment, .model = o->model, .route = o->route};
        r = resolve(ctx, tx, p, at);
        if (r < 0)
                return r;
        report->n++;
        *ret = p;
        return 0;
}

/* *ret 0 for a label alone. */
static int version_of(struct mlc_ctx *ctx, const struct place *p, const struct observation_item *o,
                      const char *at, int64_t *ret)
{
        char where[MLC_JSON_POINTER_MAX];

        *ret = o->version;
        if (o->variant != NULL)
                *ret = mlc_streq(o->variant, "candidate") ? p->candidate : p->stable;
        mlc_json_pointer(where, at, o->variant != NULL ? "variant" : "version");
        if (o->variant != NULL && *ret == 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, where,
                                      "'%s' has no %s in '%s' now; give its version", p->model,
                                      o->variant, p->environment);
        if (*ret > p->newest)
                return ctx_fail_field(ctx, MLC_E_INVALID, where, "'%s' has no version %" PRId64,
                                      p->model, *ret);
        return 0;
}

static int add(struct mlc_ctx *ctx, struct db_tx *tx, struct report *report, const json_t *item,
               const char *at)
{
        const struct place *p = NULL;
        struct observation_item o;
        int64_t version = 0;
        int r = observation_read(&ctx->arena, item, at, &o, &ctx->err);

        if (r == 0)
                r = place_of(ctx, tx, report, &o, at, &p);
        if (r == 0)
                r = version_of(ctx, p, &o, at, &version);
        if (r < 0)
                return r;
        (void)json_array_append_new(report->rows,
                                    json_pack("{s:s, s:s, s:s, s:o, s:s?, s:s?, s:o}", "m",
                                              p->model, "e", p->environment, "i", o.id, "v",
                                              version > 0 ? json_integer(version) : json_null(),
                                              "o", o.output, "l", o.label, "t",
                                              o.at_ms >= 0 ? json_integer(o.at_ms) : json_null()));
        return 0;
}

static int write_rows(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *rows,
                      struct observation_done *ret)
{
        _cleanup_(free_p) char *text = json_dumps(rows, JSON_COMPACT);
        _cleanup_(db_rows_done) struct db_rows made = {0}, different = {0};
        int r;

        if (text == NULL || strlen(text) > REPORT_MAX)
                return ctx_fail(ctx, MLC_E_LIMIT, "the report is too large");
        r = db_run0(tx, SQL_OBSERVATION_LOCK, NULL);
        if (r == 0)
                r = db_run(tx, SQL_OBSERVATION_RECORD, &made, DB_TEXT(text));
        if (r == 0)
                r = db_run(tx, SQL_OBSERVATION_JOIN, NULL, DB_TEXT(text));
        if (r == 0)
                r = db_run(tx, SQL_OBSERVATION_DIFFERENT, &different, DB_TEXT(text));
        if (r < 0)
                return r;
        *ret = (struct observation_done){.received = (int64_t)json_array_size(rows),
                                         .predictions = db_int(&made, 0, 0),
                                         .labels = db_int(&made, 0, 1),
                                         .different = db_int(&different, 0, 0)};
        return 0;
}

struct recording {
        const json_t *items;
        struct observation_done done;
};

static int record(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct recording *of = userdata;
        _cleanup_(report_done) struct report report = {.rows = json_array()};
        const json_t *item;
        char at[32];
        size_t i;

        json_array_foreach (of->items, i, item) {
                int r;

                (void)snprintf(at, sizeof(at), "/%zu", i);
                r = add(ctx, tx, &report, item, at);
                if (r < 0)
                        return r;
        }
        return write_rows(ctx, tx, report.rows, &of->done);
}

int observation_record(struct mlc_ctx *ctx, const json_t *items, struct observation_done *ret)
{
        struct recording of = {.items = items};
        int r;

        if (!json_is_array(items))
                return ctx_fail_field(ctx, MLC_E_INVALID, "",
                                      "an array of observations is expected");
        if (json_array_size(items) == 0 || json_array_size(items) > OBSERVATION_ITEMS_MAX)
                return ctx_fail_field(ctx, MLC_E_INVALID, "", "between 1 and %d items are expected",
                                      OBSERVATION_ITEMS_MAX);
        r = db_tx_retry(ctx, record, &of);
        if (r == 0)
                *ret = of.done;
        return r;
}

/* --- counting --- */

/* When the weights of an epoch were written. */
struct epoch {
        int64_t since, epoch, step, weight;
};

struct counting {
        struct epoch *epochs; /* by time */
        size_t n;
        const char *key; /* how the routes are split */
        json_t *increments;
};

static int by_time(const void *a, const void *b)
{
        const struct epoch *x = a, *y = b;

        if (x->since != y->since)
                return x->since < y->since ? -1 : 1;
        return x->epoch < y->epoch ? -1 : x->epoch > y->epoch;
}

static int64_t int_of(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

static int read_epochs(struct mlc_ctx *ctx, const struct rollout *r, struct counting *c)
{
        const char *control, *generation;
        json_t *of, *e;
        size_t n = 0;

        json_object_foreach (json_object_get(r->seen, "weights"), control, of)
                n += json_object_size(of);
        c->epochs = ctx_alloc(ctx, (n + 1) * sizeof(*c->epochs));
        if (c->epochs == NULL)
                return ctx->err.code;
        json_object_foreach (json_object_get(r->seen, "weights"), control, of)
                json_object_foreach (of, generation, e)
                        if (int_of(e, "step") >= 0)
                                c->epochs[c->n++] = (struct epoch){.since = int_of(e, "since_ms"),
                                                                   .epoch = int_of(e, "epoch"),
                                                                   .step = int_of(e, "step"),
                                                                   .weight = int_of(e, "weight")};
        if (c->n > 1)
                qsort(c->epochs, c->n, sizeof(*c->epochs), by_time);
        return 0;
}

static json_t *increment_at(struct counting *c, int64_t at)
{
        const struct epoch *e = c->epochs;
        char name[24];
        json_t *inc;

        for (size_t i = 1; i < c->n && c->epochs[i].since <= at; i++)
                e = &c->epochs[i];
        (void)snprintf(name, sizeof(name), "%" PRId64, e->epoch);
        inc = json_object_get(c->increments, name);
        if (inc != NULL)
                return inc;
        inc = json_pack("{s:I, s:I, s:I, s:s, s:{s:{s:{s:i, s:i}}, s:{s:{s:i, s:i}}}, "
                        "s:{s:i, s:i, s:i}}",
                        "generation", (json_int_t)e->epoch, "step", (json_int_t)e->step, "weight",
                        (json_int_t)e->weight, "key", c->key, "arms", "candidate", "labels", "n", 0,
                        "wrong", 0, "stable", "labels", "n", 0, "wrong", 0, "paired_labels", "n", 0,
                        "only_stable", 0, "only_candidate", 0);
        (void)json_object_set_new(c->increments, name, inc);
        return inc;
}

static void more(json_t *obj, const char *key, bool yes)
{
        (void)json_object_set_new(obj, key, json_integer(int_of(obj, key) + yes));
}

static void count_alone(struct counting *c, const struct db_rows *rows, int i)
{
        const char *arm = db_bool(rows, i, 1) ? "candidate" : "stable";
        json_t *labels = json_object_get(
                json_object_get(json_object_get(increment_at(c, db_int(rows, i, 2)), "arms"), arm),
                "labels");

        more(labels, "n", true);
        more(labels, "wrong", !db_bool(rows, i, 3));
}

/* Both answered the request; it counts where the candidate's answer does. */
static void count_pair(struct counting *c, const struct db_rows *rows, int i, int j)
{
        int candidate = db_bool(rows, i, 1) ? i : j, stable = candidate == i ? j : i;
        json_t *pairs =
                json_object_get(increment_at(c, db_int(rows, candidate, 2)), "paired_labels");

        more(pairs, "n", true);
        more(pairs, "only_stable", db_bool(rows, stable, 3) && !db_bool(rows, candidate, 3));
        more(pairs, "only_candidate", db_bool(rows, candidate, 3) && !db_bool(rows, stable, 3));
}

static void count_rows(struct counting *c, const struct db_rows *rows)
{
        _cleanup_(json_decref_p) json_t *first = json_object(); /* {id: row} of those still alone */
        const char *id;
        json_t *row;

        for (int i = 0; i < rows->n; i++) {
                const json_t *other = json_object_get(first, db_text(rows, i, 0));

                if (other == NULL) {
                        (void)json_object_set_new(first, db_text(rows, i, 0), json_integer(i));
                        continue;
                }
                count_pair(c, rows, (int)json_integer_value(other), i);
                (void)json_object_del(first, db_text(rows, i, 0));
        }
        json_object_foreach (first, id, row)
                count_alone(c, rows, (int)json_integer_value(row));
}

int observation_take(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                     const char *key, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *increments = json_object();
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct counting c = {.key = key, .increments = increments};
        int e = read_epochs(ctx, r, &c);

        if (e == 0 && c.n > 0 && r->from_version != 0 && !rollout_is_back(r)) {
                e = db_run(tx, SQL_OBSERVATION_TAKE, &rows, DB_TEXT(r->model),
                           DB_TEXT(r->environment), DB_INT(r->version), DB_INT(r->from_version),
                           DB_INT(c.epochs[0].since), DB_INT(OBSERVATION_LOOK_MAX));
                if (e == 0)
                        count_rows(&c, &rows);
        }
        if (e < 0)
                return e;
        *ret = TAKE_PTR(increments);
        return 0;
}

/* --- the end --- */

static int forget(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        int r = db_run(tx, SQL_OBSERVATION_FORGET, NULL, DB_INT(OBSERVATION_DAYS),
                       DB_INT(FORGET_MAX));

        (void)ctx;
        (void)userdata;
        if (r < 0)
                return r;
        return db_run(tx, SQL_OBSERVATION_LABEL_FORGET, NULL, DB_INT(OBSERVATION_DAYS),
                      DB_INT(FORGET_MAX));
}

int observation_forget(struct mlc_ctx *ctx)
{
        return db_tx_retry(ctx, forget, NULL);
}
