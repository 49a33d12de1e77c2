/* SPDX-License-Identifier: Apache-2.0 */
/* What inference servers have: brought up and taken down by the rows of `served`. */
#include <inttypes.h>
#include <stdlib.h>

#include "app.h"
#include "base/clock.h"
#include "base/log.h"
#include "client/call.h"
#include "codec/hex.h"
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"
#include "store/store.h"

#define DUE_MAX 200
#define INSTANCE_JOBS 4 /* at once, for one instance */
#define UP_MS 300000 /* to load a version and see it ready, when the document does not say */
#define DOWN_MS 30000
#define MANIFEST_MAX (4u << 20)

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* --- rows --- */

static int want(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                const json_t *target, const json_t *instance)
{
        const json_t *serving = json_object_get(target, "serving");
        const char *name = served_name(ctx, r->ns, r->name, r->version), *text;
        _cleanup_(json_decref_p) json_t *settings = NULL;

        settings = json_pack("{s:O, s:O}", "serving", serving, "instance", instance);
        text = settings != NULL && name != NULL ? rollout_text(ctx, settings) : NULL;
        if (text == NULL)
                return ctx->err.code < 0 ? ctx->err.code
                                         : ctx_fail(ctx, MLC_E_INTERNAL, "an instance is broken");
        return db_run(tx, SQL_SERVED_WANT, NULL, DB_TEXT(r->environment),
                      DB_TEXT(text_of(target, "name")), DB_TEXT(text_of(instance, "url")),
                      DB_TEXT(name), DB_TEXT(r->model), DB_INT(r->version), DB_TEXT(r->digest),
                      DB_TEXT(text_of(serving, "driver")), DB_TEXT(text));
}

int served_want(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                const json_t *environment)
{
        const json_t *target, *instance;
        size_t i, j;

        json_array_foreach (json_object_get(environment, "targets"), i, target)
                json_array_foreach (
                        json_object_get(json_object_get(target, "serving"), "instances"), j,
                        instance) {
                        int e = want(ctx, tx, r, target, instance);

                        if (e < 0)
                                return e;
                }
        return 0;
}

int served_leave(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 const json_t *environment)
{
        _cleanup_(json_decref_p) json_t *named = json_array();
        const json_t *target, *instance;
        const char *text;
        size_t i, j;

        json_array_foreach (json_object_get(environment, "targets"), i, target)
                json_array_foreach (
                        json_object_get(json_object_get(target, "serving"), "instances"), j,
                        instance)
                        (void)json_array_append_new(named,
                                                    json_sprintf("%s %s", text_of(target, "name"),
                                                                 text_of(instance, "url")));
        text = rollout_text(ctx, named);
        if (text == NULL)
                return ctx->err.code;
        return db_run(tx, SQL_SERVED_LEAVE, NULL, DB_TEXT(r->environment), DB_TEXT(r->model),
                      DB_INT(r->version), DB_TEXT(text));
}

int served_ask(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
               enum served_state *ret, const char **ret_why)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_SERVED_OF, &rows, DB_TEXT(r->environment), DB_TEXT(r->model),
                       DB_INT(r->version));

        *ret = SERVED_READY;
        for (int i = 0; e == 0 && i < rows.n; i++) {
                const char *problem = db_text(&rows, i, 5);

                if (mlc_streq(db_text(&rows, i, 3), "ready"))
                        continue;
                *ret_why = ctx_printf(ctx, "'%s' is not ready on '%s'%s%s", db_text(&rows, i, 2),
                                      db_text(&rows, i, 1), *problem != '\0' ? ": " : "", problem);
                if (*ret_why == NULL)
                        return ctx->err.code;
                *ret = db_int(&rows, i, 4) >= ROLLOUT_TRIES_MAX ? SERVED_FAILED : SERVED_WAITS;
                if (*ret == SERVED_FAILED)
                        return 0;
        }
        return e;
}

int served_release(struct db_tx *tx, const struct rollout *r, int64_t version)
{
        if (version == 0)
                return 0;
        return db_run(tx, SQL_SERVED_DRAIN, NULL, DB_TEXT(r->environment), DB_TEXT(r->model),
                      DB_INT(version));
}

/* --- one instance --- */

struct job {
        json_t *row; /* owned; the texts are its */
        const char *environment, *target, *instance, *name, *model, *digest, *driver, *state;
        int64_t version, tries;
        json_t *settings; /* owned: {"serving","instance"} */
        char peer[MLC_PEER_MAX]; /* the address that was ready */
};

static void job_free(void *userdata)
{
        struct job *j = userdata;

        json_decref(j->row);
        json_decref(j->settings);
        free(j);
}

static int open_blob(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct mlc_ctx *ctx = userdata;
        uint64_t size;
        int r = store_open_blob(ctx, digest, ret_fd, &size);

        if (r < 0) {
                *err = ctx->err;
                mlc_err_clear(&ctx->err);
        }
        return r;
}

/* The version's leaf is under the published checkpoint. */
static int included(void *userdata, const char *model, unsigned long long version,
                    const char *digest, struct mlc_err *err)
{
        struct mlc_ctx *ctx = userdata;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_SERVED_INCLUDED, &rows, DB_TEXT(model), DB_INT(version),
                           DB_TEXT(digest), DB_INT(audit_published_size(ctx->app)));
        if (r < 0) {
                *err = ctx->err;
                mlc_err_clear(&ctx->err);
                return r;
        }
        if (rows.n == 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "version '%s:%llu' is not under a published checkpoint", model,
                                version);
        return 0;
}

struct mat_place serving_place(struct app *app, const char *repository)
{
        const struct app_texts *roots = &app->config.serving_roots;

        return (struct mat_place){roots->items, roots->n, repository};
}

int serving_egress(void *userdata, const char *url, bool *ret_loopback_only, struct mlc_err *err)
{
        const struct mlc_ctx *ctx = userdata;
        const struct app_texts *allow = &ctx->app->config.egress_allow;

        return mlc_egress_check(allow->items, allow->n, url, ret_loopback_only, err);
}

int serving_sign(void *userdata, const void *msg, size_t len, unsigned char ret[64],
                 struct mlc_err *err)
{
        const struct mlc_ctx *ctx = userdata;

        return mlc_sign(audit_signer(ctx->app), msg, len, ret, err);
}

static bool cancelled(void *userdata)
{
        const struct mlc_ctx *ctx = userdata;

        return rollout_jobs_cancelled(ctx->app);
}

static const char *repository_of(const struct job *j)
{
        const json_t *repository =
                json_object_get(json_object_get(j->settings, "instance"), "repository");

        return text_of(repository, "dir");
}

static struct mlc_serving_call call_of(struct mlc_ctx *ctx, const struct job *j, int64_t ms)
{
        return (struct mlc_serving_call){.url = j->instance,
                                         .settings = json_object_get(j->settings, "serving"),
                                         .environment = j->environment,
                                         .target = j->target,
                                         .deadline_ms = mlc_monotonic_ms() + ms,
                                         .egress = serving_egress,
                                         .cancelled = cancelled,
                                         .sign = serving_sign,
                                         .secret = serving_secret,
                                         .userdata = ctx};
}

static struct mlc_serving_model model_of(struct mlc_ctx *ctx, const struct job *j)
{
        const char *repository = repository_of(j);

        return (struct mlc_serving_model){
                .name = j->name,
                .model = j->model,
                .version = (unsigned long long)j->version,
                .digest = j->digest,
                .dir = repository != NULL ? ctx_printf(ctx, "%s/%s", repository, j->name) : NULL};
}

struct made {
        const struct job *j;
        char tree[65];
};

/* Whatever becomes of the load: drift knows what the folder must hold. */
static int write_tree(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        const struct made *m = userdata;

        (void)ctx;
        return db_run(tx, SQL_SERVED_TREE, NULL, DB_TEXT(m->j->environment), DB_TEXT(m->j->target),
                      DB_TEXT(m->j->instance), DB_TEXT(m->j->name), DB_TEXT(m->tree));
}

static int materialise(struct mlc_ctx *ctx, const struct job *j, const struct mlc_serving_ops *ops,
                       const struct mlc_serving_model *m)
{
        const struct mat_source source = {.open = open_blob, .included = included, .userdata = ctx};
        struct mat_in in = {.place = serving_place(ctx->app, repository_of(j)),
                            .ops = ops,
                            .settings = json_object_get(j->settings, "serving"),
                            .model = m,
                            .source = &source};
        struct made made = {.j = j};
        struct mlc_digest tree;
        const char *manifest;
        int r = store_read_bytes(ctx, j->digest, MANIFEST_MAX, &manifest, &in.manifest_len);

        if (r < 0)
                return r;
        in.manifest = manifest;
        r = mat_make(&in, &tree, &ctx->err);
        if (r < 0)
                return r;
        mlc_hex_encode(tree.b, sizeof(tree.b), made.tree);
        return db_tx_retry(ctx, write_tree, &made);
}

static int64_t load_ms(const struct job *j)
{
        const json_t *serving = json_object_get(j->settings, "serving");
        int64_t ms = json_integer_value(json_object_get(serving, "ready_timeout_ms"));

        return ms > 0 ? ms : UP_MS;
}

static int outcome(struct mlc_ctx *ctx, const struct mlc_serving_result *result)
{
        if (result->outcome == MLC_SERVING_OK)
                return 0;
        return ctx_fail(ctx,
                        result->outcome == MLC_SERVING_REFUSED ? MLC_E_INVALID : MLC_E_UNAVAILABLE,
                        "%s", result->text);
}

static int bring_up(struct mlc_ctx *ctx, struct job *j, const struct mlc_serving_ops *ops)
{
        struct mlc_serving_call call = call_of(ctx, j, load_ms(j));
        struct mlc_serving_model m = model_of(ctx, j);
        struct mlc_serving_result result = {0};
        int r = ops->repository ? materialise(ctx, j, ops, &m) : 0;

        if (r < 0)
                return r;
        mlc_serving_bring_up(ops, &call, &m, &result);
        memcpy(j->peer, result.peer, sizeof(j->peer));
        return outcome(ctx, &result);
}

/* From here on it is not ready any more, whoever wants it again: that one loads it anew. */
static int begin_down(struct mlc_ctx *ctx, const struct job *j, bool *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_SERVED_UNLOADING, &rows, DB_TEXT(j->environment),
                           DB_TEXT(j->target), DB_TEXT(j->instance), DB_TEXT(j->name));
        if (r == 0)
                r = db_tx_commit(&tx);
        *ret = rows.n > 0;
        return r;
}

static int take_down(struct mlc_ctx *ctx, const struct job *j, const struct mlc_serving_ops *ops)
{
        struct mlc_serving_call call = call_of(ctx, j, DOWN_MS);
        struct mlc_serving_model m = model_of(ctx, j);
        struct mlc_serving_result result = {0};
        struct mat_place place = serving_place(ctx->app, repository_of(j));
        bool begun;
        int r = begin_down(ctx, j, &begun);

        if (r < 0 || !begun)
                return r;
        mlc_serving_take_down(ops, &call, &m, &result);
        r = outcome(ctx, &result);
        if (r < 0 || !ops->repository)
                return r;
        return mat_remove(&place, j->name, &ctx->err);
}

static int write_result(struct mlc_ctx *ctx, const struct job *j, int result, const char *problem)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = rollout_still(ctx, &tx, j->environment, j->model);
        if (r == 0 && result == 0)
                r = db_run(&tx, SQL_SERVED_DONE, NULL, DB_TEXT(j->environment), DB_TEXT(j->target),
                           DB_TEXT(j->instance), DB_TEXT(j->name),
                           DB_TEXT(mlc_streq(j->state, "wanted") ? "ready" : "gone"),
                           DB_TEXT(j->state), DB_TEXT(j->peer[0] != '\0' ? j->peer : NULL));
        if (r == 0 && result < 0)
                r = db_run(&tx, SQL_SERVED_FAILED, NULL, DB_TEXT(j->environment),
                           DB_TEXT(j->target), DB_TEXT(j->instance), DB_TEXT(j->name),
                           DB_TEXT(problem), DB_INT(rollout_retry_ms(j->tries)),
                           DB_INT(result == MLC_E_UNAVAILABLE || result == MLC_E_UNREACHABLE
                                          ? 1
                                          : ROLLOUT_TRIES_MAX),
                           DB_TEXT(j->state));
        if (r == 0 && result == 0)
                r = rollout_follow(ctx, &tx, j->environment, j->model);
        return r < 0 ? r : db_tx_commit(&tx);
}

static void work(struct app *app, void *userdata)
{
        struct job *j = userdata;
        const struct mlc_serving_ops *ops = mlc_serving_find(j->driver);
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx = {0};
        const char *problem;
        int r;

        mlc_ctx_init(&ctx, app, ROLLOUT_SERVE_TASK, ROLLOUT_JOB_ARENA, load_ms(j) + DOWN_MS);
        if (ops == NULL)
                r = ctx_fail(&ctx, MLC_E_NOT_SUPPORTED, "there is no serving driver '%s'",
                             j->driver);
        else
                r = mlc_streq(j->state, "wanted") ? bring_up(&ctx, j, ops)
                                                  : take_down(&ctx, j, ops);
        if (r < 0 && rollout_jobs_cancelled(app))
                return; /* what became of it is for the next leader to find out */
        if (r < 0)
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "rollout.serve_failed", &ctx.err);
        problem = ctx_printf(&ctx, "%.900s", ctx.err.msg);
        mlc_err_clear(&ctx.err);
        if (write_result(&ctx, j, r, problem) < 0)
                mlc_log_err(MLC_LOG_ERROR, ctx.trace, "rollout.serve_failed", &ctx.err);
        rollout_wake(&ctx);
}

/* --- the leader's task --- */

static int read_job(struct mlc_ctx *ctx, const struct db_rows *rows, int i, struct job *j)
{
        static const char *const keys[] = {"environment", "target", "instance", "name", "model",
                                           NULL,          "digest", "driver",   NULL,   "state"};
        const char **const texts[] = {
                &j->environment, &j->target, &j->instance, &j->name, &j->model, NULL,
                &j->digest,      &j->driver, NULL,         &j->state};

        j->row = json_object();
        for (size_t c = 0; c < ARRAY_LEN(texts); c++) {
                if (texts[c] == NULL)
                        continue;
                (void)json_object_set_new(j->row, keys[c], json_string(db_text(rows, i, (int)c)));
                *texts[c] = text_of(j->row, keys[c]);
                if (*texts[c] == NULL)
                        return ctx_fail(ctx, MLC_E_INTERNAL, "a row of served is broken");
        }
        j->version = db_int(rows, i, 5);
        j->tries = db_int(rows, i, 10);
        return rollout_parse(ctx, db_text(rows, i, 8), &j->settings);
}

static int begin_job(struct mlc_ctx *ctx, const struct db_rows *rows, int i)
{
        struct job *j = calloc(1, sizeof(*j));
        const char *key = NULL;
        int r;

        if (j == NULL)
                abort();
        r = read_job(ctx, rows, i, j);
        if (r == 0)
                key = ctx_printf(ctx, "serve %s %s %s %s", j->environment, j->target, j->instance,
                                 j->name);
        if (key == NULL ||
            !rollout_jobs_start(ctx->app, &(struct rollout_job){.key = key,
                                                                .group = j->instance,
                                                                .group_max = INSTANCE_JOBS,
                                                                .run = work,
                                                                .free = job_free,
                                                                .userdata = j}))
                job_free(j);
        return r < 0 ? r : key != NULL ? 0 : ctx->err.code;
}

int rollout_serve(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = db_run(&tx, SQL_SERVED_DUE, &rows, DB_INT(DUE_MAX));
        db_tx_done(&tx);
        for (int i = 0; r == 0 && i < rows.n; i++)
                r = begin_job(ctx, &rows, i);
        return r < 0 ? r : weights_tell(ctx);
}
