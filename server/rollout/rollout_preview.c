/* SPDX-License-Identifier: Apache-2.0 */
/* What a promotion would do to traffic, at the rate that its routes have now. */
#include "base/clock.h"
#include "codec/ref.h"
#include "gen/rollout.sql.h"
#include "registry/registry.h"
#include "rollout/plan.h"
#include "rollout/rollout_internal.h"

#define SAMPLE_MS 1000 /* between two looks at a gateway's counters */

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* A route, with where it is counted. */
struct counted {
        const char *control, *driver, *route, *target;
};

struct preview {
        const struct preview_in *in;
        struct mlc_ref model;
        const char *repo;
        int64_t number;
        json_t *plan, *validation; /* owned */
        struct counted *routes;
        size_t n;
};

static int find_version(struct mlc_ctx *ctx, struct db_tx *tx, struct preview *p,
                        const char *digest)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_ROLLOUT_VERSION_NUMBER, &rows, DB_TEXT(p->model.ns),
                       DB_TEXT(p->model.model), DB_TEXT(digest));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/version",
                                      "'%s' of '%s' is no version", p->in->version, p->repo);
        p->number = db_int(&rows, 0, 0);
        return 0;
}

static int read_routes(struct mlc_ctx *ctx, struct db_tx *tx, struct preview *p)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_SPLIT_COUNTED, &rows, DB_TEXT(p->repo), DB_TEXT(p->in->environment));

        if (r < 0)
                return r;
        p->routes = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*p->routes));
        if (p->routes == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++) {
                struct counted *c = &p->routes[p->n++];

                *c = (struct counted){.control = db_text_dup(ctx, &rows, i, 0),
                                      .route = db_text_dup(ctx, &rows, i, 1),
                                      .driver = db_text_dup(ctx, &rows, i, 3),
                                      .target = db_text_dup(ctx, &rows, i, 4)};
                if (c->control == NULL || c->route == NULL || c->driver == NULL ||
                    c->target == NULL)
                        return ctx->err.code;
        }
        return 0;
}

static int tell_inputs(struct mlc_ctx *ctx, struct db_tx *tx, struct preview *p, int64_t live)
{
        _cleanup_(json_decref_p) json_t *model = NULL;
        struct inputs_in in = {.model = p->repo,
                               .environment = p->in->environment,
                               .live = live,
                               .next = p->number};
        int r = rollout_model_document(ctx, tx, p->repo, &model);

        in.document = model;
        return r < 0 ? r : inputs_told(ctx, tx, &in, &p->validation);
}

static int make_plan(struct mlc_ctx *ctx, struct db_tx *tx, struct preview *p)
{
        _cleanup_(json_decref_p) json_t *environment = NULL;
        _cleanup_(db_rows_done) struct db_rows live = {0};
        struct rollout_in in = {.model = p->repo, .environment = p->in->environment};
        struct gate_document d;
        int r = gate_document_get(ctx, tx, "Environment", p->in->environment, &d);

        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/environment",
                                      "there is no environment '%s'", p->in->environment);
        }
        if (r == 0)
                r = gate_document_json(ctx, &d, &environment);
        if (r == 0)
                r = db_run(tx, SQL_ROLLOUT_LIVE, &live, DB_TEXT(p->in->environment),
                           DB_TEXT(p->repo));
        in.document = environment;
        if (r == 0)
                r = rollout_plan(ctx, tx, &in, live.n == 0, &p->plan);
        return r < 0 ? r : tell_inputs(ctx, tx, p, live.n > 0 ? db_int(&live, 0, 0) : 0);
}

static int read_all(struct mlc_ctx *ctx, struct preview *p)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct registry_manifest manifest;
        int r = registry_manifest_resolve(ctx, p->model.ns, p->model.model, p->in->version,
                                          &manifest);

        if (r == 0)
                r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = find_version(ctx, &tx, p, manifest.digest);
        if (r == 0)
                r = make_plan(ctx, &tx, p);
        return r < 0 ? r : read_routes(ctx, &tx, p);
}

/* Requests of a route that a gateway has counted in its present generations; -1 when unknown. */
static int64_t requests_of(const json_t *stats, const char *name)
{
        const json_t *route, *bank;
        int64_t sum = 0;
        size_t i, j;

        json_array_foreach (json_object_get(stats, "routes"), i, route) {
                if (!mlc_streq(text_of(route, "route"), name))
                        continue;
                json_array_foreach (json_object_get(route, "variants"), j, bank)
                        sum += json_integer_value(json_object_get(bank, "requests"));
                return sum;
        }
        return -1;
}

static int64_t look(struct mlc_ctx *ctx, const struct counted *c)
{
        _cleanup_(json_decref_p) json_t *stats = NULL, *routes = json_pack("[s]", c->route);

        if (gateway_stats(ctx, &(struct gateway_ask){c->control, c->driver, routes}, &stats) < 0) {
                mlc_err_clear(&ctx->err);
                return -1;
        }
        return requests_of(stats, c->route);
}

/* A step that is not about the target says so. */
static void only_waves_of(const json_t *plan, const char *target, json_t *expected)
{
        json_t *item;
        size_t i;

        json_array_foreach (expected, i, item) {
                if (mlc_rollout_step_of(plan, (int)i, target) == (int)i)
                        continue;
                (void)json_object_set_new(item, "expected_ms", json_null());
                (void)json_object_set_new(item, "decided_by", json_string("nothing"));
                (void)json_object_set_new(item, "check", json_null());
                (void)json_object_set_new(item, "samples", json_null());
                (void)json_object_set_new(item, "text",
                                          json_string("this target stays as it is; other "
                                                      "targets have this step"));
        }
}

static int expect(struct mlc_ctx *ctx, const struct preview *p, const struct counted *c,
                  double rate, json_t *routes)
{
        const struct mlc_rollout_rate known = {.requests = rate};
        json_t *expected = NULL;
        int r = mlc_rollout_expect(p->plan, &known, &expected, &ctx->err);

        if (r < 0)
                return r;
        only_waves_of(p->plan, c->target, expected);
        (void)json_array_append_new(
                routes, json_pack("{s:s, s:s, s:o, s:o}", "route", c->route, "target", c->target,
                                  "rate", rate < 0 ? json_null() : json_sprintf("%.1f", rate),
                                  "expected", expected));
        return 0;
}

static int measure(struct mlc_ctx *ctx, const struct preview *p, json_t *routes)
{
        int64_t *before = ctx_alloc(ctx, (p->n + 1) * sizeof(*before));
        int64_t start = mlc_monotonic_ms();
        int r = 0;

        if (before == NULL)
                return ctx->err.code;
        for (size_t i = 0; i < p->n; i++)
                before[i] = look(ctx, &p->routes[i]);
        if (p->n > 0)
                mlc_sleep_ms(SAMPLE_MS);
        for (size_t i = 0; r == 0 && i < p->n; i++) {
                int64_t now = look(ctx, &p->routes[i]), ms = mlc_monotonic_ms() - start;
                bool known = before[i] >= 0 && now >= before[i] && ms > 0;

                r = expect(ctx, p, &p->routes[i],
                           known ? (double)(now - before[i]) * 1000 / (double)ms : -1, routes);
        }
        return r;
}

int rollout_preview(struct mlc_ctx *ctx, const struct preview_in *in, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *routes = json_array();
        struct preview p = {.in = in};
        struct mlc_err why = {0};
        int r;

        if (mlc_ref_parse_model(in->model, &p.model, &why) < 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/model", "%s", why.msg);
        if (!auth_may_read(ctx->principal, p.model.ns))
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/model", "there is no model '%s'",
                                      in->model);
        p.repo = ctx_printf(ctx, "%s/%s", p.model.ns, p.model.model);
        if (p.repo == NULL)
                return ctx->err.code;
        r = read_all(ctx, &p);
        if (r == 0)
                r = measure(ctx, &p, routes);
        if (r == 0)
                *ret = json_pack("{s:s, s:I, s:s, s:O, s:O, s:O}", "model", p.repo, "version",
                                 (json_int_t)p.number, "environment", in->environment, "plan",
                                 p.plan, "routes", routes, "validation", p.validation);
        json_decref(p.plan);
        json_decref(p.validation);
        return r;
}
