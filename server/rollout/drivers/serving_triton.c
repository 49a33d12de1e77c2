/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Triton's dialect of the Open Inference Protocol (reference: src/http_server.cc of server v2.71,
 * HttpCodeFromError): INTERNAL 500, NOT_FOUND 404, UNAVAILABLE 503, UNSUPPORTED 501, all else 400.
 *
 * - Not ready is 400, and so is a model that does not exist: /ready cannot tell them apart.
 * - Loading works only with --model-control-mode=explicit; otherwise it is UNAVAILABLE, which looks
 * as if it would pass.
 * - A load that fails says so in the reply to the load call (400, or 500 for a bad parameter).
 * - Unloading answers before the model is gone.
 * - A model that went stays in the index, as UNAVAILABLE.
 */
#include <stdio.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "serving_internal.h"

static enum mlc_serving_outcome map(const struct mlc_reply *reply)
{
        if (reply->status == 503 &&
            strstr(mlc_str_cstr(&reply->body), "explicit model load") != NULL)
                return MLC_SERVING_REFUSED;
        return srv_outcome(reply->status);
}

static int check(const json_t *settings, struct mlc_err *err)
{
        return srv_check(settings, "backend", true, err);
}

static bool is_backend(const char *s)
{
        return *s != '\0' && strlen(s) < 64 &&
               s[strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_")] == '\0';
}

/* The environment's owners may name any backend for all models of a target; an artifact not the
 * python one, which would run the code that lies in it. */
static const char *backend_of(const struct mlc_serving_artifact *in, const char **ret_suffix,
                              struct mlc_err *err)
{
        const json_t *yaml = in->model_yaml;
        const char *format = json_string_value(json_object_get(yaml, "format"));
        const char *said =
                json_string_value(json_object_get(json_object_get(yaml, "runtime"), "backend"));
        const char *set = json_string_value(json_object_get(in->settings, "backend"));

        *ret_suffix = mlc_streq(format, "onnx") && said == NULL && set == NULL ? ".onnx" : NULL;
        if (set != NULL && is_backend(set) && (said == NULL || mlc_streq(set, said)))
                return set;
        if (set != NULL)
                (void)mlc_fail_field(err, MLC_E_INVALID, "/runtime/backend",
                                     "model.yaml asks for '%.60s', the environment for the backend "
                                     "'%.60s'",
                                     said != NULL ? said : "nothing", set);
        else if (said != NULL && is_backend(said) && !mlc_streq(said, "python"))
                return said;
        else if (said != NULL)
                (void)mlc_fail_field(err, MLC_E_INVALID, "/runtime/backend",
                                     "model.yaml asks for the backend '%.60s': a name as "
                                     "onnxruntime is expected, and 'python' would run the "
                                     "artifact's code",
                                     said);
        else if (*ret_suffix != NULL)
                return "onnxruntime";
        else
                (void)mlc_fail_field(err, MLC_E_INVALID, "/format",
                                     "no Triton backend is known for the format '%.60s'; name one "
                                     "in model.yaml: runtime: {backend: …}",
                                     format != NULL ? format : "(none in model.yaml)");
        return NULL;
}

static bool plain(const char *path)
{
        return path[strspn(path,
                           "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] ==
               '\0';
}

/* The one model file at the top, or NULL when the backend's own default name is to count. */
static int model_file(const struct mlc_serving_artifact *in, const char *suffix, const char **ret,
                      struct mlc_err *err)
{
        const char *one = NULL;
        size_t n = 0;

        for (size_t i = 0; suffix != NULL && i < in->n_paths; i++)
                if (mlc_ends_with(in->paths[i], suffix) && plain(in->paths[i])) {
                        one = in->paths[i];
                        n++;
                }
        if (suffix != NULL && n != 1)
                return mlc_fail(err, MLC_E_INVALID,
                                "exactly one file *%s at the top of the artifact is expected, of "
                                "letters, digits, '.', '_' and '-'; there are %zu",
                                suffix, n);
        *ret = one;
        return 0;
}

static int layout(const struct mlc_serving_artifact *in, struct mlc_arena *a,
                  struct mlc_serving_layout *ret, struct mlc_err *err)
{
        const char *suffix, *file = NULL, *backend = backend_of(in, &suffix, err);
        char *text, *under;
        int r;

        if (backend == NULL)
                return err->code;
        r = model_file(in, suffix, &file, err);
        if (r < 0)
                return r;
        text = mlc_arena_printf(
                a, err,
                "name: \"%s\"\nbackend: \"%s\"\n%s%s%s"
                "version_policy: { specific: { versions: [ %llu ] } }\n",
                in->model->name, backend, file != NULL ? "default_model_filename: \"" : "",
                file != NULL ? file : "", file != NULL ? "\"\n" : "", in->model->version);
        under = text != NULL ? mlc_arena_printf(a, err, "%llu", in->model->version) : NULL;
        if (under == NULL)
                return err->code;
        *ret = (struct mlc_serving_layout){
                .files_under = under,
                .extra = {{"config.pbtxt", text, strlen(text)}},
                .n_extra = 1,
        };
        return 0;
}

static void load(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                 struct mlc_serving_result *ret)
{
        oip_load(c, m, map, ret);
        if (ret->outcome == MLC_SERVING_REFUSED && ret->status == 503)
                srv_set(ret, MLC_SERVING_REFUSED, 503,
                        "Triton must run with --model-control-mode=explicit");
}

static void ready(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                  struct mlc_serving_result *ret)
{
        oip_ready(c, m, map, ret);
}

/* Refuses to unload what it does not have: then there is nothing to do. */
static void unload(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                   struct mlc_serving_result *ret)
{
        struct mlc_serving_result state;

        oip_unload(c, m, map, ret);
        if (ret->outcome != MLC_SERVING_REFUSED || ret->status != 400)
                return;
        oip_ready(c, m, map, &state);
        if (state.outcome == MLC_SERVING_NOT_READY || state.outcome == MLC_SERVING_NOT_FOUND)
                srv_set(ret, MLC_SERVING_OK, state.status, "%s", "");
}

/* What went is not there any more. */
static void list(const struct mlc_serving_call *c, struct mlc_arena *a,
                 struct mlc_serving_list *ret_list, struct mlc_serving_result *ret)
{
        struct mlc_serving_list all = {0};
        size_t n = 0;

        oip_list(c, a, &all, ret);
        if (ret->outcome != MLC_SERVING_OK)
                return;
        for (size_t i = 0; i < all.n; i++)
                if (!mlc_streq(all.items[i].state, "unavailable") && all.items[i].state[0] != '\0')
                        all.items[n++] = all.items[i];
        *ret_list = (struct mlc_serving_list){.items = all.items, .n = n};
}

const struct mlc_serving_ops serving_triton = {
        .name = "triton",
        .repository = true,
        .check = check,
        .layout = layout,
        .load = load,
        .ready = ready,
        .unload = unload,
        .list = list,
        .infer = oip_infer,
};
