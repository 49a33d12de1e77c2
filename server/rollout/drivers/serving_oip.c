/* SPDX-License-Identifier: Apache-2.0 */
/*
 * MLServer over the Open Inference Protocol (reference: MLServer 1.7.1; what is said of it here was
 * seen on a running one).
 *
 * - Loading answers when the model is loaded, 500 "Internal Server Error" for a file that cannot be
 *   read, 422 for a path that leads nowhere, 404 for a name without model-settings.json.
 * - It lists what lies on disk, not what is in memory, and takes the state from the name alone.
 * - It does not announce the model_repository extension that it has.
 * - While it imports a model's runtime, the folder of model-settings.json is first in Python's
 *   module path: a joblib.py beside it would be run. Hence the artifact's files lie one folder
 *   deeper. It also takes every model-settings.json at any depth for one more model.
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "crypto/random.h"
#include "serving_internal.h"

#define FILES_UNDER "artifact"

static enum mlc_serving_outcome map(const struct mlc_reply *reply)
{
        return srv_outcome(reply->status); /* 400 and 422: refused */
}

/* --- calls, shared with Triton --- */

static void model_path(char ret[SRV_PATH_MAX], const struct mlc_serving_model *m, const char *tail)
{
        (void)snprintf(ret, SRV_PATH_MAX, "/v2/models/%s/versions/%llu%s", m->name, m->version,
                       tail);
}

static void repository_path(char ret[SRV_PATH_MAX], const struct mlc_serving_model *m,
                            const char *verb)
{
        (void)snprintf(ret, SRV_PATH_MAX, "/v2/repository/models/%s/%s", m->name, verb);
}

/* Whatever answers 200 to everything is no inference server. */
static bool is_oip(const struct mlc_serving_call *c, struct mlc_serving_result *ret)
{
        const struct srv_request req = {
                .method = "GET",
                .path = "/v2",
                .timeout_ms = SRV_CALL_MS,
        };
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;

        if (!srv_call(c, &req, &reply, ret))
                return false;
        if (reply.status != 200) {
                srv_set_reply(ret, srv_outcome(reply.status), &reply);
                if (ret->outcome == MLC_SERVING_NOT_FOUND)
                        srv_set(ret, MLC_SERVING_REFUSED, reply.status,
                                "is no Open Inference Protocol server: GET /v2 answers 404");
                return false;
        }
        j = srv_json(&reply, JSON_OBJECT, ret);
        if (j == NULL)
                return false;
        if (!json_is_string(json_object_get(j, "name"))) {
                srv_set(ret, MLC_SERVING_REFUSED, reply.status,
                        "is no Open Inference Protocol server: GET /v2 names no server");
                return false;
        }
        return true;
}

void oip_load(const struct mlc_serving_call *c, const struct mlc_serving_model *m, srv_map to,
              struct mlc_serving_result *ret)
{
        char path[SRV_PATH_MAX];
        const struct srv_request req = {
                .method = "POST",
                .path = path,
                .body = "{}",
                .body_len = 2,
                .timeout_ms = srv_ready_ms(c),
        };
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};

        if (!is_oip(c, ret))
                return;
        oip_ready(c, m, to, ret); /* loading it again would replace it under its requests */
        if (ret->outcome == MLC_SERVING_OK)
                return;
        repository_path(path, m, "load");
        if (srv_call(c, &req, &reply, ret))
                srv_set_reply(ret, to(&reply), &reply);
}

void oip_ready(const struct mlc_serving_call *c, const struct mlc_serving_model *m, srv_map to,
               struct mlc_serving_result *ret)
{
        char path[SRV_PATH_MAX];
        const struct srv_request req = {
                .method = "GET",
                .path = path,
                .timeout_ms = SRV_CALL_MS,
        };
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;
        const json_t *name;
        enum mlc_serving_outcome o;

        model_path(path, m, "/ready");
        if (!srv_call(c, &req, &reply, ret))
                return;
        o = reply.status == 400 ? MLC_SERVING_NOT_READY : to(&reply);
        srv_set_reply(ret, o, &reply);
        if (o != MLC_SERVING_OK || reply.body.len == 0)
                return;
        /* the body is optional, but must not contradict the status */
        j = srv_json(&reply, JSON_OBJECT, ret);
        if (j == NULL)
                return;
        name = json_object_get(j, "name");
        if (name != NULL && !mlc_streq(json_string_value(name), m->name))
                srv_set(ret, MLC_SERVING_REFUSED, reply.status,
                        "is ready, but says so of another model than '%s'", m->name);
        else if (json_is_false(json_object_get(j, "ready")))
                srv_set(ret, MLC_SERVING_NOT_READY, reply.status, "%s", "");
}

void oip_unload(const struct mlc_serving_call *c, const struct mlc_serving_model *m, srv_map to,
                struct mlc_serving_result *ret)
{
        char path[SRV_PATH_MAX];
        const struct srv_request req = {
                .method = "POST",
                .path = path,
                .body = "{}",
                .body_len = 2,
                .timeout_ms = SRV_CALL_MS,
        };
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};

        repository_path(path, m, "unload");
        if (!srv_call(c, &req, &reply, ret))
                return;
        srv_set_reply(ret, to(&reply), &reply);
        if (ret->outcome == MLC_SERVING_NOT_FOUND)
                srv_set(ret, MLC_SERVING_OK, reply.status, "%s", "");
}

bool srv_read_list(const json_t *items, struct mlc_arena *a, struct mlc_serving_list *ret_list,
                   struct mlc_serving_result *ret)
{
        struct mlc_err err = {0};
        size_t n = json_array_size(items);
        struct mlc_serving_listed *list;

        if (n > MLC_SERVING_LIST_MAX) {
                srv_set(ret, MLC_SERVING_REFUSED, ret->status, "lists %zu models, at most %d", n,
                        MLC_SERVING_LIST_MAX);
                return false;
        }
        list = mlc_arena_array(a, n, sizeof(*list), &err);
        if (list == NULL) {
                srv_set(ret, MLC_SERVING_TRANSIENT, ret->status, "%s", err.msg);
                return false;
        }
        for (size_t i = 0; i < n; i++) {
                const json_t *one = json_array_get(items, i);
                const char *name = json_string_value(json_object_get(one, "name"));
                const char *version = json_string_value(json_object_get(one, "version"));
                const char *state = json_string_value(json_object_get(one, "state"));
                struct mlc_serving_result text;

                if (name == NULL) {
                        srv_set(ret, MLC_SERVING_TRANSIENT, ret->status,
                                "lists something without a name");
                        return false;
                }
                srv_set(&text, MLC_SERVING_OK, 0, "%s", name); /* printable */
                (void)snprintf(list[i].name, sizeof(list[i].name), "%s%s",
                               strlen(text.text) < sizeof(list[i].name) ? text.text : "",
                               strlen(text.text) < sizeof(list[i].name) ? "" : "…");
                srv_set(&text, MLC_SERVING_OK, 0, "%.31s", version != NULL ? version : "");
                (void)snprintf(list[i].version, sizeof(list[i].version), "%.31s", text.text);
                srv_set(&text, MLC_SERVING_OK, 0, "%.31s", state != NULL ? state : "");
                (void)snprintf(list[i].state, sizeof(list[i].state), "%.31s", text.text);
                for (char *p = list[i].state; *p != '\0'; p++)
                        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p + 32) : *p;
        }
        *ret_list = (struct mlc_serving_list){.items = list, .n = n};
        return true;
}

void oip_list(const struct mlc_serving_call *c, struct mlc_arena *a,
              struct mlc_serving_list *ret_list, struct mlc_serving_result *ret)
{
        const struct srv_request req = {
                .method = "POST",
                .path = "/v2/repository/index",
                .body = "{}", /* required */
                .body_len = 2,
                .timeout_ms = SRV_CALL_MS,
                .reply_max = SRV_LIST_REPLY_MAX,
        };
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;

        if (!srv_call(c, &req, &reply, ret))
                return;
        if (reply.status != 200) {
                srv_set_reply(ret, srv_outcome(reply.status), &reply);
                if (ret->outcome == MLC_SERVING_OK || ret->outcome == MLC_SERVING_NOT_FOUND)
                        ret->outcome = MLC_SERVING_REFUSED;
                return;
        }
        j = srv_json(&reply, JSON_ARRAY, ret);
        if (j == NULL)
                return;
        srv_set(ret, MLC_SERVING_OK, reply.status, "%s", "");
        (void)srv_read_list(j, a, ret_list, ret);
}

/* The reply must name what was asked: that is the proof of which version answered. */
static bool right_answer(const struct mlc_serving_model *m, const json_t *j, const char *id,
                         struct mlc_serving_result *ret)
{
        const char *name = json_string_value(json_object_get(j, "model_name"));
        const char *version = json_string_value(json_object_get(j, "model_version"));
        const json_t *echo = json_object_get(j, "id");
        char want[32];

        (void)snprintf(want, sizeof(want), "%llu", m->version);
        if (!mlc_streq(name, m->name) || !mlc_streq(version, want)) {
                srv_set(ret, MLC_SERVING_REFUSED, ret->status,
                        "a wrong version answered: '%s' version '%s' instead of '%s' version %s",
                        name != NULL ? name : "", version != NULL ? version : "", m->name, want);
                return false;
        }
        if (echo != NULL && !mlc_streq(json_string_value(echo), id)) {
                srv_set(ret, MLC_SERVING_REFUSED, ret->status,
                        "answers another request than the one that was sent");
                return false;
        }
        if (!json_is_array(json_object_get(j, "outputs"))) {
                srv_set(ret, MLC_SERVING_REFUSED, ret->status, "answers without outputs");
                return false;
        }
        return true;
}

static char *inference(const json_t *request, const char *id)
{
        _cleanup_(json_decref_p) json_t *with_id = json_copy((json_t *)(uintptr_t)request);

        if (with_id == NULL || json_object_set_new(with_id, "id", json_string(id)) < 0)
                return NULL;
        return json_dumps(with_id, JSON_COMPACT);
}

void oip_infer(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
               const json_t *request, struct mlc_str *ret_reply, struct mlc_serving_result *ret)
{
        char path[SRV_PATH_MAX], id[MLC_UUID_STR];
        _cleanup_(free_p) char *body = NULL;
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;
        struct srv_request req = {
                .method = "POST",
                .path = path,
                .timeout_ms = SRV_CALL_MS,
                .reply_max = SRV_INFER_REPLY_MAX,
        };

        mlc_str_init(ret_reply, SRV_INFER_REPLY_MAX);
        mlc_uuid4(id);
        body = inference(request, id);
        if (body == NULL) {
                srv_set(ret, MLC_SERVING_REFUSED, 0, "the request is no JSON object");
                return;
        }
        req.body = body;
        req.body_len = strlen(body);
        model_path(path, m, "/infer");
        if (!srv_call(c, &req, &reply, ret))
                return;
        srv_set_reply(ret, srv_outcome(reply.status), &reply);
        if (ret->outcome != MLC_SERVING_OK)
                return;
        j = srv_json(&reply, JSON_OBJECT, ret);
        if (j == NULL || !right_answer(m, j, id, ret))
                return;
        srv_set(ret, MLC_SERVING_OK, reply.status, "%s", "");
        *ret_reply = reply.body;
        reply.body = (struct mlc_str){0};
}

/* --- MLServer --- */

static int check(const json_t *settings, struct mlc_err *err)
{
        return srv_check(settings, "implementation", true, err);
}

static const char *base_name(const char *path)
{
        const char *slash = strrchr(path, '/');

        return slash != NULL ? slash + 1 : path;
}

/* Python's dotted path of a class, in a package of MLServer's own runtimes. */
static bool is_runtime(const char *s)
{
        const char *letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_";
        const char *dot = strchr(s, '.');

        return mlc_starts_with(s, "mlserver_") && dot != NULL && dot[1] != '\0' &&
               s + strspn(s, letters) == dot && dot[1 + strspn(dot + 1, letters)] == '\0' &&
               strlen(s) < 128;
}

/* The environment's owners may name any class for all models of a target; an artifact only one of
 * MLServer's own. */
static const char *runtime_of(const struct mlc_serving_artifact *in, struct mlc_err *err)
{
        const json_t *yaml = in->model_yaml;
        const char *said = json_string_value(
                json_object_get(json_object_get(yaml, "runtime"), "implementation"));
        const char *format = json_string_value(json_object_get(yaml, "format"));
        const char *set = json_string_value(json_object_get(in->settings, "implementation"));

        if (set != NULL && (said == NULL || mlc_streq(set, said)))
                return set;
        if (said != NULL && set != NULL)
                (void)mlc_fail_field(err, MLC_E_INVALID, "/runtime/implementation",
                                     "model.yaml asks for '%.100s', the environment loads all "
                                     "models with '%.100s'",
                                     said, set);
        else if (said != NULL && is_runtime(said))
                return said;
        else if (said != NULL)
                (void)mlc_fail_field(err, MLC_E_INVALID, "/runtime/implementation",
                                     "model.yaml asks for '%.100s': only classes of MLServer's own "
                                     "runtimes are loaded, as mlserver_xgboost.XGBoostModel",
                                     said);
        else if (mlc_streq(format, "sklearn"))
                return "mlserver_sklearn.SKLearnModel";
        else
                (void)mlc_fail_field(err, MLC_E_INVALID, "/format",
                                     "no MLServer runtime is known for the format '%.60s'; name "
                                     "one in model.yaml: runtime: {implementation: "
                                     "mlserver_….…}",
                                     format != NULL ? format : "(none in model.yaml)");
        return NULL;
}

/* The file to load: the only one of its kind, or the one called model.*. */
static const char *model_file(const struct mlc_serving_artifact *in, struct mlc_err *err)
{
        static const char *const kinds[] = {".pkl", ".pickle", ".joblib"};
        const char *one = NULL, *named = NULL;
        size_t n = 0;

        for (size_t i = 0; i < in->n_paths; i++)
                for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                        if (!mlc_ends_with(in->paths[i], kinds[k]))
                                continue;
                        n++;
                        one = in->paths[i];
                        if (named == NULL && mlc_starts_with(one, "model.") &&
                            strlen(one) == 5 + strlen(kinds[k]))
                                named = one;
                }
        if (n == 0 || (n > 1 && named == NULL)) {
                (void)mlc_fail(err, MLC_E_INVALID,
                               n == 0 ? "no file of the artifact is a pickle (.pkl, .pickle, "
                                        ".joblib)"
                                      : "several files are pickles; call the model model.pkl");
                return NULL;
        }
        one = named != NULL ? named : one;
        if (one[strspn(one,
                       "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-/")] !=
            '\0') {
                (void)mlc_fail(err, MLC_E_INVALID,
                               "'%.100s' has characters that MLServer would take for parts of a "
                               "URL; rename it, as to model.pkl",
                               one);
                return NULL;
        }
        return one;
}

/* "artifact", or the path of the one file that scikit-learn's runtime loads. */
static int settings_file(const struct mlc_serving_artifact *in, const char *runtime, char *uri,
                         size_t size, struct mlc_err *err)
{
        const char *file;

        if (!mlc_streq(runtime, "mlserver_sklearn.SKLearnModel")) {
                (void)snprintf(uri, size,
                               "./" FILES_UNDER); /* its runtime knows what to look for */
                return 0;
        }
        file = model_file(in, err);
        if (file == NULL)
                return err->code;
        (void)snprintf(uri, size, "./" FILES_UNDER "/%s", file);
        return 0;
}

static int layout(const struct mlc_serving_artifact *in, struct mlc_arena *a,
                  struct mlc_serving_layout *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        _cleanup_(free_p) char *dumped = NULL;
        char uri[4200], version[32];
        const char *runtime = runtime_of(in, err);
        char *text;
        int r;

        if (runtime == NULL)
                return err->code;
        for (size_t i = 0; i < in->n_paths; i++)
                if (mlc_streq(base_name(in->paths[i]), "model-settings.json"))
                        return mlc_fail(err, MLC_E_INVALID,
                                        "'%.200s' would be one more model to MLServer; push the "
                                        "version without it: mlctl writes these settings",
                                        in->paths[i]);
        r = settings_file(in, runtime, uri, sizeof(uri), err);
        if (r < 0)
                return r;
        (void)snprintf(version, sizeof(version), "%llu", in->model->version);
        j = json_pack("{s:s, s:s, s:{s:s, s:s}}", "name", in->model->name, "implementation",
                      runtime, "parameters", "uri", uri, "version", version);
        dumped = j != NULL ? json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
        if (dumped == NULL)
                abort();
        text = mlc_arena_printf(a, err, "%s\n", dumped);
        if (text == NULL)
                return err->code;
        *ret = (struct mlc_serving_layout){
                .files_under = FILES_UNDER,
                .extra = {{"model-settings.json", text, strlen(text)}},
                .n_extra = 1,
        };
        return 0;
}

static void load(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                 struct mlc_serving_result *ret)
{
        oip_load(c, m, map, ret);
}

static void ready(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                  struct mlc_serving_result *ret)
{
        oip_ready(c, m, map, ret);
}

static void unload(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                   struct mlc_serving_result *ret)
{
        oip_unload(c, m, map, ret);
}

const struct mlc_serving_ops serving_oip = {
        .name = "oip",
        .repository = true,
        .check = check,
        .layout = layout,
        .load = load,
        .ready = ready,
        .unload = unload,
        .list = oip_list,
        .infer = oip_infer,
};
