/* SPDX-License-Identifier: Apache-2.0 */
/* nginx with our module, over its control socket (server/gateway/README.md). */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "client/call.h"
#include "codec/jcs.h"
#include "rollout/drivers/traffic.h"

#define CALL_MS 3000
#define REPLY_MAX ((size_t)64 << 20)
#define TABLE_MAX ((size_t)16 << 20)

struct request {
        const char *method, *path;
        const char *body; /* JSON, or NULL */
        size_t len;
};

/* The reply as JSON, the caller's. Statuses other than 200 are errors with the gateway's words. */
static int ask(const char *control, const struct request *q, json_t **ret, struct mlc_err *err)
{
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        char url[128];
        struct mlc_call call = {.method = q->method,
                                .url = url,
                                .unix_socket = control + strlen("unix:"),
                                .body = q->body,
                                .body_len = q->len,
                                .timeout_ms = CALL_MS,
                                .reply_max = REPLY_MAX};
        int r;

        if (!mlc_starts_with(control, "unix:"))
                return mlc_fail(err, MLC_E_INVALID, "'%s' is no control socket", control);
        (void)snprintf(url, sizeof(url), "http://gateway%s", q->path);
        mlc_caller_new(&caller);
        r = mlc_call(caller, &call, &reply, err);
        if (r < 0)
                return r;
        if (reply.status == 404)
                return mlc_fail(err, MLC_E_NOT_FOUND, "gateway '%s' holds no table", control);
        if (reply.status == 409)
                return mlc_fail(err, MLC_E_CONFLICT, "gateway '%s': %.200s", control,
                                mlc_str_cstr(&reply.body));
        if (reply.status != 200)
                return mlc_fail(err, MLC_E_UNAVAILABLE, "gateway '%s' answers %d: %.200s", control,
                                reply.status, mlc_str_cstr(&reply.body));
        return mlc_json_parse(reply.body.data, reply.body.len, ret, err);
}

static int in_force(const char *control, int64_t *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *now = NULL;
        int r = ask(control, &(struct request){"GET", "/v1/lease", NULL, 0}, &now, err);

        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(err);
                *ret = 0;
                return 0;
        }
        if (r < 0)
                return r;
        *ret = json_integer_value(json_object_get(now, "generation"));
        return 0;
}

static int put(const char *control, const json_t *table, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *reply = NULL;
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, TABLE_MAX);
        r = mlc_jcs(table, &text, err);
        if (r < 0)
                return r;
        return ask(control, &(struct request){"PUT", "/v1/table", text.data, text.len}, &reply,
                   err);
}

static int lease(const char *control, int64_t generation, int64_t ms, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *reply = NULL;
        char body[96];
        int n = snprintf(body, sizeof(body), "{\"generation\":%" PRId64 ",\"ms\":%" PRId64 "}",
                         generation, ms);

        return ask(control, &(struct request){"POST", "/v1/lease", body, (size_t)n}, &reply, err);
}

static int stats_of(const char *control, const json_t *routes, json_t **ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *wanted = json_pack("{s:O}", "routes", routes);
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, TABLE_MAX);
        r = mlc_jcs(wanted, &text, err);
        if (r < 0)
                return r;
        return ask(control, &(struct request){"POST", "/v1/stats", text.data, text.len}, ret, err);
}

static int stats(const char *control, const json_t *routes, json_t **ret, struct mlc_err *err)
{
        return routes != NULL
                       ? stats_of(control, routes, ret, err)
                       : ask(control, &(struct request){"GET", "/v1/stats", NULL, 0}, ret, err);
}

const struct traffic_ops traffic_nginx = {
        .name = "nginx", .in_force = in_force, .put = put, .lease = lease, .stats = stats};
