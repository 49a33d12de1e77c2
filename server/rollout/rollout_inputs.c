/* SPDX-License-Identifier: Apache-2.0 */
/* Requests are checked against what the version says in its model.yaml, where its route asks for
 * that. */
#include "rollout/inputs.h"

#include <inttypes.h>

#include "base/log.h"
#include "codec/manifest.h"
#include "codec/yaml.h"
#include "gen/rollout.sql.h"
#include "rollout/rollout_internal.h"
#include "store/store.h"

#define MANIFEST_MAX (4u << 20)
#define READ_MS 10000

const char *route_validation(const json_t *route)
{
        const char *mode = json_string_value(json_object_get(route, "validate"));

        return mode == NULL || mlc_streq(mode, "off") ? NULL : mode;
}

/* Digest of model.yaml, NULL when the artifact has none of its own. */
static int model_yaml(struct mlc_ctx *ctx, const char *manifest, const char **ret)
{
        const char *bytes;
        struct mlc_manifest m;
        size_t len;
        int r = store_read_bytes(ctx, manifest, MANIFEST_MAX, &bytes, &len);

        *ret = NULL;
        if (r == 0)
                r = mlc_manifest_parse(bytes, len, NULL, &ctx->arena, &m, &ctx->err);
        for (size_t i = 0; r == 0 && !m.is_index && i < m.n_layers; i++)
                if (!m.layers[i].tar && mlc_streq(m.layers[i].path, "model.yaml")) {
                        *ret = ctx_strdup(ctx, m.layers[i].digest);
                        return *ret != NULL ? 0 : ctx->err.code;
                }
        return r;
}

static int read_inputs(struct mlc_ctx *ctx, const char *manifest, json_t **ret)
{
        _cleanup_(mlc_yaml_done) struct mlc_yaml yaml = {0};
        const char *digest, *text;
        size_t len;
        int r = model_yaml(ctx, manifest, &digest);

        *ret = NULL;
        if (r < 0 || digest == NULL)
                return r;
        r = store_read_bytes(ctx, digest, MLC_YAML_MAX, &text, &len);
        if (r == 0)
                r = mlc_yaml_parse(text, len, &ctx->arena, &yaml, &ctx->err);
        if (r < 0 || yaml.n_docs != 1)
                return r;
        return mlc_inputs_read(yaml.docs[0].json, ret, &ctx->err);
}

/* In an arena of its own: one environment may have many models. `ret_why` is ctx's, NULL unless
 * they cannot be read. */
static int read_version(struct mlc_ctx *ctx, struct db_tx *tx, const struct inputs_in *in,
                        int64_t version, json_t **ret, const char **ret_why)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx own = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_VERSION_DIGEST, &rows, DB_TEXT(in->model), DB_INT(version));

        *ret = NULL;
        *ret_why = NULL;
        if (r < 0 || rows.n == 0)
                return r;
        mlc_ctx_init(&own, ctx->app, "rollout.inputs", ROLLOUT_JOB_ARENA, READ_MS);
        if (read_inputs(&own, db_text(&rows, 0, 0), ret) == 0)
                return 0;
        mlc_log_err(MLC_LOG_WARN, ctx->trace, "rollout.inputs_unreadable", &own.err);
        *ret_why = ctx_printf(ctx, "%.300s%s%.100s", own.err.msg, own.err.field[0] ? " at " : "",
                              own.err.field);
        return *ret_why != NULL ? 0 : ctx->err.code;
}

json_t *inputs_declared(struct mlc_ctx *ctx, struct db_tx *tx, const char *model, int64_t version)
{
        const struct inputs_in in = {.model = model};
        json_t *inputs = NULL;
        const char *why;

        return read_version(ctx, tx, &in, version, &inputs, &why) == 0 ? inputs : NULL;
}

/* --- telling people --- */

struct told {
        json_t *live, *next; /* owned */
        const char *live_why, *next_why;
};

static void told_done(struct told *t)
{
        json_decref(t->live);
        json_decref(t->next);
}

/* "version 2 declares no inputs" and the like, after a blank. */
static const char *nothing(struct mlc_ctx *ctx, int64_t version, const char *why)
{
        return why == NULL ? ctx_printf(ctx, "version %" PRId64 " declares no inputs in model.yaml",
                                        version)
                           : ctx_printf(ctx,
                                        "what version %" PRId64
                                        " declares in model.yaml cannot be used: %s",
                                        version, why);
}

static const char *now_text(struct mlc_ctx *ctx, const struct inputs_in *in, const struct told *t)
{
        int64_t version = in->live != 0 ? in->live : in->next;
        const json_t *inputs = in->live != 0 ? t->live : t->next;
        const char *none;

        if (inputs != NULL)
                return ctx_printf(ctx,
                                  "requests are checked against the inputs that version %" PRId64
                                  " declares",
                                  version);
        none = nothing(ctx, version, in->live != 0 ? t->live_why : t->next_why);
        return none != NULL ? ctx_printf(ctx, "requests are not checked: %s", none) : NULL;
}

static const char *text_for(struct mlc_ctx *ctx, const struct inputs_in *in, const struct told *t)
{
        const char *now = now_text(ctx, in, t), *none;

        if (now == NULL || in->live == 0 || in->next == 0 || in->live == in->next)
                return now;
        if (t->next == NULL) {
                none = nothing(ctx, in->next, t->next_why);
                if (t->live == NULL || none == NULL)
                        return none != NULL ? ctx_printf(ctx, "%s; %s", now, none) : NULL;
                return ctx_printf(ctx, "%s, until version %" PRId64 " takes all traffic; %s", now,
                                  in->next, none);
        }
        if (t->live != NULL && json_equal(t->live, t->next))
                return ctx_printf(ctx, "%s, version %" PRId64 " the same", now, in->next);
        return ctx_printf(ctx,
                          "%s; version %" PRId64 " declares others, which count once it takes all "
                          "traffic",
                          now, in->next);
}

static int read_both(struct mlc_ctx *ctx, struct db_tx *tx, const struct inputs_in *in,
                     struct told *t)
{
        int r = 0;

        if (in->live != 0)
                r = read_version(ctx, tx, in, in->live, &t->live, &t->live_why);
        if (r == 0 && in->next != 0)
                r = read_version(ctx, tx, in, in->next, &t->next, &t->next_why);
        return r;
}

int inputs_told(struct mlc_ctx *ctx, struct db_tx *tx, const struct inputs_in *in, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *list = json_array();
        _cleanup_(told_done) struct told t = {0};
        const json_t *route, *inputs;
        const char *text = NULL;
        size_t i;

        json_array_foreach (json_object_get(in->document, "routes"), i, route) {
                const char *mode = route_validation(route);
                int r = 0;

                if (mode == NULL ||
                    !rollout_names(json_object_get(route, "environments"), in->environment))
                        continue;
                if (text == NULL) {
                        r = read_both(ctx, tx, in, &t);
                        text = r == 0 ? text_for(ctx, in, &t) : NULL;
                }
                if (text == NULL)
                        return r < 0 ? r : ctx->err.code;
                inputs = in->live != 0 ? t.live : t.next;
                (void)json_array_append_new(
                        list, json_pack("{s:O, s:s, s:I, s:s}", "route",
                                        json_object_get(route, "route"), "mode", mode, "inputs",
                                        (json_int_t)json_array_size(inputs), "text", text));
        }
        *ret = TAKE_PTR(list);
        return 0;
}
