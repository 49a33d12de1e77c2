/* SPDX-License-Identifier: Apache-2.0 */
/* Calls of drivers, and what their replies say. */
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/utf8.h"
#include "serving_internal.h"

#define READY_MS_MAX (24LL * 3600 * 1000)
#define DRAIN_MS_MAX (7LL * 24 * 3600 * 1000)

/* One printable line of at most size - 1 bytes. */
static void printable(const char *s, size_t len, char *ret, size_t size)
{
        size_t n = 0;

        while (len > 0 && n + 5 < size) {
                uint32_t c = 0;
                size_t k = mlc_utf8_next(s, len, &c);

                if (k == 0 || (mlc_utf8_unsafe(c) && c != '\n' && c != '\t')) {
                        ret[n++] = '?';
                        k = k == 0 ? 1 : k;
                } else if (c == '\n' || c == '\t') {
                        ret[n++] = ' ';
                } else {
                        memcpy(ret + n, s, k);
                        n += k;
                }
                s += k;
                len -= k;
        }
        while (n > 0 && ret[n - 1] == ' ')
                n--;
        ret[n] = '\0';
}

void srv_set(struct mlc_serving_result *ret, enum mlc_serving_outcome outcome, int status,
             const char *fmt, ...)
{
        char text[2 * MLC_SERVING_TEXT_MAX];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        ret->outcome = outcome;
        ret->status = status;
        printable(text, strlen(text), ret->text, sizeof(ret->text));
}

static const char *words(const json_t *j)
{
        static const char *const keys[] = {"error", "detail", "message", "title"};

        for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
                const json_t *v = json_object_get(j, keys[i]);

                if (json_is_string(v) && json_string_length(v) > 0)
                        return json_string_value(v);
        }
        return NULL;
}

void srv_set_reply(struct mlc_serving_result *ret, enum mlc_serving_outcome outcome,
                   const struct mlc_reply *reply)
{
        struct mlc_err ignored = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;
        const char *body = mlc_str_cstr(&reply->body), *said;

        if (mlc_json_parse(body, reply->body.len, &j, &ignored) < 0)
                j = NULL;
        said = words(j);
        if (said == NULL && reply->body.len > 0)
                said = body;
        if (said != NULL)
                srv_set(ret, outcome, reply->status, "%s", said);
        else if (outcome == MLC_SERVING_OK)
                srv_set(ret, outcome, reply->status, "%s", "");
        else
                srv_set(ret, outcome, reply->status, "answered %d without a word", reply->status);
}

enum mlc_serving_outcome srv_outcome(int status)
{
        if (status >= 200 && status < 300)
                return MLC_SERVING_OK;
        if (status == 404)
                return MLC_SERVING_NOT_FOUND;
        if (status == 408 || status == 425 || status == 429)
                return MLC_SERVING_TRANSIENT;
        if (status >= 500 && status != 501 && status != 505)
                return MLC_SERVING_TRANSIENT;
        return MLC_SERVING_REFUSED; /* 3xx, too: redirects are not followed */
}

/* Address and policy; MLC_E_FORBIDDEN, MLC_E_INVALID. */
static int may_call(const struct mlc_serving_call *c, bool *ret_loopback_only, struct mlc_err *err)
{
        if (c->egress != NULL)
                return c->egress(c->userdata, c->url, ret_loopback_only, err);
        return mlc_egress_check(NULL, 0, c->url, ret_loopback_only, err);
}

static void failed(const struct mlc_err *err, struct mlc_serving_result *ret)
{
        enum mlc_serving_outcome o = MLC_SERVING_UNREACHABLE;

        if (err->code == MLC_E_FORBIDDEN || err->code == MLC_E_INVALID)
                o = MLC_SERVING_REFUSED;
        else if (err->code == MLC_E_LIMIT)
                o = MLC_SERVING_TRANSIENT; /* garbage, like a reply that is no JSON */
        srv_set(ret, o, 0, "%s", err->msg);
}

bool srv_call(const struct mlc_serving_call *c, const struct srv_request *req,
              struct mlc_reply *ret_reply, struct mlc_serving_result *ret)
{
        _cleanup_(mlc_caller_free_p) struct mlc_caller *own = NULL;
        static_assert(sizeof(ret->peer) == sizeof(ret_reply->peer), "one is copied to the other");
        char url[1024 + SRV_PATH_MAX];
        struct mlc_err err = {0};
        int64_t left = c->deadline_ms - mlc_monotonic_ms();
        struct mlc_call call = {
                .method = req->method,
                .url = url,
                .address = c->address,
                .headers = req->headers,
                .body = req->body,
                .body_len = req->body_len,
                .timeout_ms = req->timeout_ms < left ? req->timeout_ms : left,
                .reply_max = req->reply_max,
                .cancelled = c->cancelled,
                .userdata = c->userdata,
        };
        size_t n = strlen(c->url);
        int k;

        while (*req->path != '\0' && n > 0 && c->url[n - 1] == '/')
                n--;
        k = snprintf(url, sizeof(url), "%.*s%s", (int)(n < 1024 ? n : 1024), c->url, req->path);
        if (n >= 1024 || k < 0 || (size_t)k >= sizeof(url)) {
                srv_set(ret, MLC_SERVING_REFUSED, 0, "the instance's url is too long");
                return false;
        }
        if (c->caller == NULL)
                mlc_caller_new(&own);
        if (may_call(c, &call.loopback_only, &err) < 0 ||
            mlc_call(c->caller != NULL ? c->caller : own, &call, ret_reply, &err) < 0) {
                failed(&err, ret);
                return false;
        }
        memcpy(ret->peer, ret_reply->peer, sizeof(ret->peer));
        return true;
}

json_t *srv_json(const struct mlc_reply *reply, json_type type, struct mlc_serving_result *ret)
{
        struct mlc_err err = {0};
        json_t *j = NULL;

        if (mlc_json_parse(mlc_str_cstr(&reply->body), reply->body.len, &j, &err) < 0) {
                srv_set(ret, MLC_SERVING_TRANSIENT, reply->status, "answers what is no JSON: %s",
                        err.msg);
                return NULL;
        }
        if (json_typeof(j) != type) {
                json_decref(j);
                srv_set(ret, MLC_SERVING_TRANSIENT, reply->status,
                        "answers JSON of another shape than the protocol's");
                return NULL;
        }
        return j;
}

int64_t srv_ready_ms(const struct mlc_serving_call *c)
{
        const json_t *v = json_object_get(c->settings, "ready_timeout_ms");

        return json_is_integer(v) ? json_integer_value(v) : SRV_READY_MS;
}

static bool listed(const char *const *names, const char *key)
{
        for (size_t i = 0; names[i] != NULL; i++)
                if (mlc_streq(names[i], key))
                        return true;
        return false;
}

static int check_instances(const json_t *list, bool repository, struct mlc_err *err)
{
        char at[96];

        if (!json_is_array(list) || json_array_size(list) == 0)
                return mlc_fail_field(err, MLC_E_INVALID, "/instances",
                                      "at least one instance is expected");
        for (size_t i = 0; i < json_array_size(list); i++) {
                const json_t *one = json_array_get(list, i);
                const char *url = json_string_value(json_object_get(one, "url"));
                const json_t *dir = json_object_get(json_object_get(one, "repository"), "dir");
                char host_port[MLC_HOST_PORT_MAX];

                (void)snprintf(at, sizeof(at), "/instances/%zu/url", i);
                if (url == NULL || strlen(url) > 1000)
                        return mlc_fail_field(err, MLC_E_INVALID, at, "http://HOST:PORT");
                if (mlc_url_host_port(url, host_port, err) < 0) {
                        (void)snprintf(err->field, sizeof(err->field), "%s", at);
                        return err->code;
                }
                (void)snprintf(at, sizeof(at), "/instances/%zu/repository", i);
                if (repository && !json_is_string(dir))
                        return mlc_fail_field(err, MLC_E_INVALID, at,
                                              "this driver needs repository: {dir: …}, the folder "
                                              "from which the server loads models");
        }
        return 0;
}

int srv_check(const json_t *settings, const char *own, bool repository, struct mlc_err *err)
{
        static const char *const keys[] = {"driver", "instances", "ready_timeout_ms", "drain_ms",
                                           NULL};
        static const struct {
                const char *key, *field;
                int64_t max;
        } times[] = {{"ready_timeout_ms", "/ready_timeout", READY_MS_MAX},
                     {"drain_ms", "/drain", DRAIN_MS_MAX}};
        const char *driver = json_string_value(json_object_get(settings, "driver")), *key;
        char at[128];
        json_t *value;

        json_object_foreach ((json_t *)(uintptr_t)settings, key, value) {
                (void)snprintf(at, sizeof(at), "/%.100s", key);
                if (!listed(keys, key) && !mlc_streq(own, key))
                        return mlc_fail_field(err, MLC_E_INVALID, at,
                                              "the driver '%s' has no setting '%.100s'",
                                              driver != NULL ? driver : "", key);
        }
        for (size_t i = 0; i < ARRAY_LEN(times); i++) {
                value = json_object_get(settings, times[i].key);
                if (value != NULL && !json_is_null(value) &&
                    (!json_is_integer(value) || json_integer_value(value) < 100 ||
                     json_integer_value(value) > times[i].max))
                        return mlc_fail_field(err, MLC_E_INVALID, times[i].field,
                                              "a duration from 100ms to %lldh is expected",
                                              (long long)(times[i].max / 3600000));
        }
        return check_instances(json_object_get(settings, "instances"), repository, err);
}
