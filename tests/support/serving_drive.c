/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Serving drivers and materialise for tests that need real servers: one JSON object a line on
 * standard input is done, one JSON object a line is answered.
 *   {"do":
 * "load|ready|unload|list|infer|weights|bring_up|take_down|check|make|expected|remove|scan| drift",
 * "driver", "url", "settings", "ms", "allow": [], "cancel": bool, "model":
 * {"model","version","digest","dir","example"}, "request", "weights", "roots": [], "repository",
 * "blobs": DIR, "manifest": PATH, "included": bool, "pause": PATH, "expected":
 * [{"model","version","digest","tree","optional"}], "retired": [{"model","version"}]}
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "client/call.h"
#include "codec/hex.h"
#include "codec/json.h"
#include "crypto/sign.h"
#include "rollout/drift.h"
#include "rollout/materialise.h"

#define LIST_MAX 64

struct job {
        const json_t *in;
        json_t *out;
        const struct mlc_serving_ops *ops;
        struct mlc_serving_call call;
        struct mlc_serving_model model;
        char name[MLC_SERVING_NAME_MAX];
        const char *allow[LIST_MAX], *roots[LIST_MAX];
        size_t n_allow;
        struct mat_place place;
        struct mlc_signer signer;
        struct mlc_err err;
        struct mat_cache *cache; /* kept between lines */
        struct mlc_caller *caller;
};

static const char *text(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static int egress(void *userdata, const char *url, bool *ret_loopback_only, struct mlc_err *err)
{
        struct job *j = userdata;

        return mlc_egress_check(j->allow, j->n_allow, url, ret_loopback_only, err);
}

static int sign(void *userdata, const void *msg, size_t len, unsigned char ret[64],
                struct mlc_err *err)
{
        struct job *j = userdata;

        return mlc_sign(&j->signer, msg, len, ret, err);
}

static int secret(void *userdata, const json_t *ref, struct mlc_str *ret, struct mlc_err *err)
{
        (void)userdata, (void)err;
        mlc_str_add(ret, text(ref, "env"));
        return 0;
}

static bool cancelled(void *userdata)
{
        struct job *j = userdata;
        const char *pause = text(j->in, "pause");

        /* between files: says that it is there, and waits to be killed */
        if (pause != NULL && access(pause, F_OK) == 0) {
                (void)unlink(pause);
                mlc_sleep_ms(600000);
        }
        return json_is_true(json_object_get(j->in, "cancel"));
}

static int open_blob(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct job *j = userdata;
        char path[4096];

        (void)snprintf(path, sizeof(path), "%s/%s", text(j->in, "blobs"), digest + 7);
        *ret_fd = open(path, O_RDONLY | O_CLOEXEC);
        return *ret_fd < 0 ? mlc_fail_errno(err, "open", path) : 0;
}

static int included(void *userdata, const char *model, unsigned long long version,
                    const char *digest, struct mlc_err *err)
{
        struct job *j = userdata;

        (void)digest;
        return json_is_false(json_object_get(j->in, "included"))
                       ? mlc_fail(err, MLC_E_VERIFY, "%s:%llu is under no checkpoint", model,
                                  version)
                       : 0;
}

static void put(struct job *j, const char *key, json_t *value)
{
        (void)json_object_set_new(j->out, key, value);
}

static void put_result(struct job *j, const struct mlc_serving_result *r)
{
        put(j, "outcome", json_string(mlc_serving_outcome_name(r->outcome)));
        put(j, "status", json_integer(r->status));
        put(j, "text", json_string(r->text));
}

static void put_error(struct job *j)
{
        put(j, "error", json_string(mlc_error_slug(j->err.code)));
        put(j, "field", json_string(j->err.field));
        put(j, "message", json_string(j->err.msg));
}

static void put_tree(struct job *j, const struct mlc_digest *tree)
{
        char s[MLC_DIGEST_STR];

        mlc_digest_format(tree, s);
        put(j, "tree", json_string(s));
}

static int read_model(const json_t *m, char name[MLC_SERVING_NAME_MAX],
                      struct mlc_serving_model *ret, struct mlc_err *err)
{
        *ret = (struct mlc_serving_model){
                .name = name,
                .model = text(m, "model"),
                .version = (unsigned long long)json_integer_value(json_object_get(m, "version")),
                .digest = text(m, "digest"),
                .dir = text(m, "dir"),
                .example = json_object_get(m, "example"),
        };
        return mlc_serving_name(ret->model, ret->version, name, err);
}

static void do_list(struct job *j, struct mlc_arena *a)
{
        struct mlc_serving_list list = {0};
        struct mlc_serving_result r;
        json_t *items = json_array();

        j->ops->list(&j->call, a, &list, &r);
        put_result(j, &r);
        for (size_t i = 0; r.outcome == MLC_SERVING_OK && i < list.n; i++)
                (void)json_array_append_new(
                        items, json_pack("{s:s, s:s, s:s}", "name", list.items[i].name, "version",
                                         list.items[i].version, "state", list.items[i].state));
        put(j, "models", items);
}

static void do_infer(struct job *j)
{
        struct mlc_serving_result r;
        struct mlc_str reply;

        j->ops->infer(&j->call, &j->model, json_object_get(j->in, "request"), &reply, &r);
        put_result(j, &r);
        put(j, "reply", json_string(mlc_str_cstr(&reply)));
        mlc_str_done(&reply);
}

static bool do_call(struct job *j, const char *what, struct mlc_arena *a)
{
        struct mlc_serving_result r = {0};

        if (strcmp(what, "list") == 0) {
                do_list(j, a);
                return true;
        }
        if (strcmp(what, "infer") == 0) {
                do_infer(j);
                return true;
        }
        if (strcmp(what, "load") == 0)
                j->ops->load(&j->call, &j->model, &r);
        else if (strcmp(what, "ready") == 0)
                j->ops->ready(&j->call, &j->model, &r);
        else if (strcmp(what, "unload") == 0)
                j->ops->unload(&j->call, &j->model, &r);
        else if (strcmp(what, "weights") == 0)
                j->ops->weights(&j->call, json_object_get(j->in, "weights"), &r);
        else if (strcmp(what, "bring_up") == 0)
                mlc_serving_bring_up(j->ops, &j->call, &j->model, &r);
        else if (strcmp(what, "take_down") == 0)
                mlc_serving_take_down(j->ops, &j->call, &j->model, &r);
        else
                return false;
        put_result(j, &r);
        return true;
}

static void do_drift(struct job *j, struct mlc_arena *a)
{
        static struct drift_expected expected[LIST_MAX];
        static struct mlc_serving_model retired[LIST_MAX];
        static char names[2 * LIST_MAX][MLC_SERVING_NAME_MAX];
        const json_t *e = json_object_get(j->in, "expected"),
                     *o = json_object_get(j->in, "retired");
        struct drift_in in = {.ops = j->ops,
                              .call = &j->call,
                              .place = j->place.repository != NULL ? &j->place : NULL,
                              .cache = j->cache,
                              .expected = expected,
                              .n_expected = json_array_size(e),
                              .retired = retired,
                              .n_retired = json_array_size(o)};
        struct drift_seen seen;
        json_t *report;
        int r = 0;

        for (size_t i = 0; i < in.n_expected && r == 0; i++) {
                const json_t *one = json_array_get(e, i);

                r = read_model(one, names[i], &expected[i].model, &j->err);
                expected[i].optional = json_is_true(json_object_get(one, "optional"));
                if (r == 0 && text(one, "tree") != NULL)
                        r = mlc_digest_parse(text(one, "tree"), &expected[i].tree, &j->err);
        }
        for (size_t i = 0; i < in.n_retired && r == 0; i++)
                r = read_model(json_array_get(o, i), names[LIST_MAX + i], &retired[i], &j->err);
        if (r == 0)
                r = drift_look(&in, a, &seen, &j->err);
        if (r < 0) {
                put_error(j);
                return;
        }
        report = drift_compare(&in, &seen);
        put(j, "clean", json_boolean(drift_clean(report)));
        put(j, "report", report);
}

static void do_scan(struct job *j, struct mlc_arena *a)
{
        struct mat_found *found;
        json_t *items = json_array();
        size_t n = 0;

        if (mat_scan(&j->place, j->cache, a, &found, &n, &j->err) < 0)
                put_error(j);
        for (size_t i = 0; i < n; i++) {
                char tree[MLC_DIGEST_STR];

                mlc_digest_format(&found[i].tree, tree);
                (void)json_array_append_new(
                        items, json_pack("{s:s, s:b, s:s, s:s, s:s}", "name", found[i].name,
                                         "folder", found[i].folder, "digest", found[i].digest,
                                         "what", found[i].what, "tree", tree));
        }
        put(j, "found", items);
}

static void do_files(struct job *j, const char *what)
{
        const struct mat_source source = {open_blob, included, cancelled, j};
        struct mat_in in = {.place = j->place,
                            .ops = j->ops,
                            .settings = json_object_get(j->in, "settings"),
                            .model = &j->model,
                            .source = &source};
        _cleanup_(free_p) char *manifest = NULL;
        struct mlc_digest tree;
        int r = 0;

        if (strcmp(what, "remove") == 0) {
                r = mat_remove(&j->place, j->name, &j->err);
        } else {
                r = mlc_read_file(text(j->in, "manifest"), (size_t)1 << 22, &manifest,
                                  &in.manifest_len, &j->err);
                in.manifest = manifest;
                if (r == 0)
                        r = strcmp(what, "make") == 0 ? mat_make(&in, &tree, &j->err)
                                                      : mat_expected(&in, &tree, &j->err);
                if (r == 0)
                        put_tree(j, &tree);
        }
        put(j, "ok", json_boolean(r == 0));
        if (r < 0)
                put_error(j);
}

static size_t texts(const json_t *list, const char **ret)
{
        size_t n = json_array_size(list) < LIST_MAX ? json_array_size(list) : LIST_MAX;

        for (size_t i = 0; i < n; i++)
                ret[i] = json_string_value(json_array_get(list, i));
        return n;
}

static int prepare(struct job *j)
{
        const json_t *m = json_object_get(j->in, "model");
        const json_t *ms = json_object_get(j->in, "ms");

        j->n_allow = texts(json_object_get(j->in, "allow"), j->allow);
        j->place = (struct mat_place){.roots = j->roots,
                                      .n_roots = texts(json_object_get(j->in, "roots"), j->roots),
                                      .repository = text(j->in, "repository")};
        j->ops = mlc_serving_find(text(j->in, "driver"));
        j->call = (struct mlc_serving_call){
                .url = text(j->in, "url"),
                .settings = json_object_get(j->in, "settings"),
                .environment = "production",
                .target = "eu",
                .deadline_ms = mlc_monotonic_ms() + (ms != NULL ? json_integer_value(ms) : 10000),
                .egress = egress,
                .sign = sign,
                .secret = secret,
                .cancelled = cancelled,
                .userdata = j,
                .caller = j->caller,
        };
        if (j->ops == NULL)
                return mlc_fail(&j->err, MLC_E_NOT_FOUND, "no such driver");
        return m != NULL ? read_model(m, j->name, &j->model, &j->err) : 0;
}

static void work(struct job *j)
{
        _cleanup_(mlc_arena_done) struct mlc_arena a = {0};
        const char *what = text(j->in, "do");
        int64_t began = mlc_monotonic_ms();

        mlc_arena_init(&a, (size_t)64 << 20);
        if (prepare(j) < 0) {
                put_error(j);
        } else if (strcmp(what, "check") == 0) {
                if (j->ops->check(json_object_get(j->in, "settings"), &j->err) < 0)
                        put_error(j);
        } else if (strcmp(what, "drift") == 0) {
                do_drift(j, &a);
        } else if (strcmp(what, "scan") == 0) {
                do_scan(j, &a);
        } else if (!do_call(j, what, &a)) {
                do_files(j, what);
        }
        put(j, "took_ms", json_integer(mlc_monotonic_ms() - began));
}

int main(void)
{
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        _cleanup_(mat_cache_done) struct mat_cache cache = {0};
        _cleanup_(free_p) char *line = NULL;
        static const unsigned char seed[32] = "a seed that only the tests know";
        size_t size = 0;

        mlc_caller_new(&caller);
        while (getline(&line, &size, stdin) > 0) {
                struct job j = {.caller = caller, .cache = &cache};
                _cleanup_(json_decref_p) json_t *in = NULL, *out = json_object();
                _cleanup_(free_p) char *text_out = NULL;

                if (mlc_signer_from_seed(seed, &j.signer, &j.err) < 0 ||
                    mlc_json_parse(line, strlen(line), &in, &j.err) < 0) {
                        fprintf(stderr, "%s\n", j.err.msg);
                        return 2;
                }
                j.in = in;
                j.out = out;
                work(&j);
                text_out = json_dumps(out, JSON_COMPACT);
                puts(text_out);
                (void)fflush(stdout);
        }
        return 0;
}
