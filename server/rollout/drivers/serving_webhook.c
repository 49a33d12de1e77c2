/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Any server behind a small adapter of the user's: each call is one signed POST to the instance's
 * URL.
 *
 *   {"type":"serving.load|ready|unload|list|weights","time","environment","target","data":{…}}
 *   data of load, ready, unload: {"name","model","version","digest","dir"|null}; of list: {};
 *   of weights: {"route","generation","weights":[{"name","version","weight" of 10000}]}
 *
 * Signed as the Standard Webhooks specification says, with the server's own Ed25519 key (the one of
 * /log/vkey, so no secret is shared): headers webhook-id, webhook-timestamp (seconds), and
 * webhook-signature "v1a," and the base64 of the signature over "ID.TIMESTAMP.BODY". The body is
 * one line, so that what is signed can be taken for no note, checkpoint or commit. Who receives it
 * checks the time (5 minutes) and remembers ids.
 *
 * Answers: 2xx done or accepted · 404 no such model · 429 and 5xx later · all else refused,
 * {"error"} says why. ready: 200 with {"ready":true,"name","version","digest"} of exactly this
 * version; that is all that counts. list: 200 with {"models":[{"name","version","state"}]}.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/base64.h"
#include "crypto/random.h"
#include "serving_internal.h"

static int check(const json_t *settings, struct mlc_err *err)
{
        return srv_check(settings, "token", false, err);
}

static char *message(const struct mlc_serving_call *c, const char *type, json_t *data)
{
        char now[MLC_TIME_MAX];
        _cleanup_(json_decref_p) json_t *j = NULL;

        mlc_time_format(mlc_now_ms(), now);
        j = json_pack("{s:s, s:s, s:s?, s:s?, s:o}", "type", type, "time", now, "environment",
                      c->environment, "target", c->target, "data", data);
        return j != NULL ? json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
}

#define TOKEN_MAX 4096

struct signature {
        char id[64], time[64], value[160];
        char token[TOKEN_MAX + 32]; /* "", or the header with the document's token */
};

/* For proxies before the receiver; the signature is what it should believe. */
static int bearer(const struct mlc_serving_call *c, struct signature *ret, struct mlc_err *err)
{
        const json_t *ref = json_object_get(c->settings, "token");
        _cleanup_(mlc_str_done) struct mlc_str token = {0};
        int r;

        ret->token[0] = '\0';
        if (ref == NULL || json_is_null(ref))
                return 0;
        if (c->secret == NULL)
                return mlc_fail(err, MLC_E_NOT_SUPPORTED, "there is nobody to ask for the token");
        mlc_str_init(&token, TOKEN_MAX);
        r = c->secret(c->userdata, ref, &token, err);
        if (r == 0)
                r = mlc_str_check(&token, err);
        if (r < 0)
                return r;
        for (const char *p = mlc_str_cstr(&token); *p != '\0' || p == mlc_str_cstr(&token); p++)
                if (*p <= ' ' || *p >= 0x7f)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "the token has characters that no header may have");
        (void)snprintf(ret->token, sizeof(ret->token), "Authorization: Bearer %s",
                       mlc_str_cstr(&token));
        return 0;
}

static int sign(const struct mlc_serving_call *c, const char *body, struct signature *ret,
                struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str text = {0}, encoded = {0};
        char uuid[MLC_UUID_STR];
        unsigned char raw[64];
        int64_t now = mlc_now_ms() / 1000;
        int r;

        mlc_uuid4(uuid);
        mlc_str_init(&text, strlen(body) + 128);
        mlc_str_init(&encoded, 128);
        mlc_str_addf(&text, "msg_%s.%" PRId64 ".%s", uuid, now, body);
        if (c->sign == NULL)
                return mlc_fail(err, MLC_E_INTERNAL, "there is no key to sign calls with");
        r = mlc_str_check(&text, err);
        if (r == 0)
                r = c->sign(c->userdata, text.data, text.len, raw, err);
        if (r < 0)
                return r;
        mlc_base64_encode(MLC_BASE64_STD, raw, sizeof(raw), &encoded);
        (void)snprintf(ret->id, sizeof(ret->id), "webhook-id: msg_%s", uuid);
        (void)snprintf(ret->time, sizeof(ret->time), "webhook-timestamp: %" PRId64, now);
        (void)snprintf(ret->value, sizeof(ret->value), "webhook-signature: v1a,%s",
                       mlc_str_cstr(&encoded));
        return 0;
}

struct event {
        const char *type;
        json_t *data; /* taken */
        int64_t timeout_ms;
};

/* True when a reply came; then *ret holds the outcome of its status. */
static bool post(const struct mlc_serving_call *c, const struct event *event,
                 struct mlc_reply *ret_reply, struct mlc_serving_result *ret)
{
        _cleanup_(free_p) char *body = message(c, event->type, event->data);
        struct signature s;
        const char *headers[] = {s.id, s.time, s.value, NULL, NULL};
        struct srv_request req = {
                .method = "POST",
                .path = "",
                .body = body,
                .headers = headers,
                .timeout_ms = event->timeout_ms,
                .reply_max = SRV_LIST_REPLY_MAX,
        };
        struct mlc_err err = {0};

        if (body == NULL) {
                srv_set(ret, MLC_SERVING_REFUSED, 0, "what is to be sent is no valid text");
                return false;
        }
        req.body_len = strlen(body);
        if (sign(c, body, &s, &err) < 0 || bearer(c, &s, &err) < 0) {
                srv_set(ret, MLC_SERVING_TRANSIENT, 0, "%s", err.msg);
                return false;
        }
        if (s.token[0] != '\0')
                headers[3] = s.token;
        if (!srv_call(c, &req, ret_reply, ret))
                return false;
        srv_set_reply(ret, srv_outcome(ret_reply->status), ret_reply);
        if (ret->outcome == MLC_SERVING_OK)
                ret->text[0] = '\0';
        return true;
}

static json_t *describe(const struct mlc_serving_model *m)
{
        return json_pack("{s:s, s:s, s:I, s:s, s:s?}", "name", m->name, "model", m->model,
                         "version", (json_int_t)m->version, "digest", m->digest, "dir", m->dir);
}

static void load(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                 struct mlc_serving_result *ret)
{
        const struct event e = {"serving.load", describe(m), srv_ready_ms(c)};
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};

        (void)post(c, &e, &reply, ret);
}

static void ready(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                  struct mlc_serving_result *ret)
{
        const struct event e = {"serving.ready", describe(m), SRV_CALL_MS};
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;

        if (!post(c, &e, &reply, ret) || ret->outcome != MLC_SERVING_OK)
                return;
        if (reply.status != 200) { /* 202 and 204 say nothing about readiness */
                srv_set(ret, MLC_SERVING_NOT_READY, reply.status, "%s", "");
                return;
        }
        j = srv_json(&reply, JSON_OBJECT, ret);
        if (j == NULL)
                return;
        if (!json_is_true(json_object_get(j, "ready"))) {
                srv_set_reply(ret, MLC_SERVING_NOT_READY, &reply);
                return;
        }
        if (!mlc_streq(json_string_value(json_object_get(j, "name")), m->name) ||
            !mlc_streq(json_string_value(json_object_get(j, "digest")), m->digest) ||
            !json_is_integer(json_object_get(j, "version")) ||
            json_integer_value(json_object_get(j, "version")) != (json_int_t)m->version)
                srv_set(ret, MLC_SERVING_REFUSED, reply.status,
                        "is ready, but not with '%s', version %llu, digest %s", m->name, m->version,
                        m->digest);
}

static void unload(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
                   struct mlc_serving_result *ret)
{
        const struct event e = {"serving.unload", describe(m), SRV_CALL_MS};
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};

        if (post(c, &e, &reply, ret) && ret->outcome == MLC_SERVING_NOT_FOUND)
                srv_set(ret, MLC_SERVING_OK, reply.status, "%s", "");
}

static void list(const struct mlc_serving_call *c, struct mlc_arena *a,
                 struct mlc_serving_list *ret_list, struct mlc_serving_result *ret)
{
        const struct event e = {"serving.list", json_object(), SRV_CALL_MS};
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;
        const json_t *models;

        if (!post(c, &e, &reply, ret))
                return;
        if (ret->outcome == MLC_SERVING_NOT_FOUND ||
            (ret->outcome == MLC_SERVING_OK && reply.status != 200))
                ret->outcome = MLC_SERVING_REFUSED;
        if (ret->outcome != MLC_SERVING_OK)
                return;
        j = srv_json(&reply, JSON_OBJECT, ret);
        if (j == NULL)
                return;
        models = json_object_get(j, "models");
        if (!json_is_array(models))
                srv_set(ret, MLC_SERVING_TRANSIENT, reply.status,
                        "answers without a list of models");
        else
                (void)srv_read_list(models, a, ret_list, ret);
}

static void weights(const struct mlc_serving_call *c, const json_t *what,
                    struct mlc_serving_result *ret)
{
        const struct event e = {"serving.weights", json_incref((json_t *)(uintptr_t)what),
                                SRV_CALL_MS};
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};

        if (post(c, &e, &reply, ret) && ret->outcome == MLC_SERVING_NOT_FOUND)
                srv_set(ret, MLC_SERVING_OK, reply.status, "%s", ""); /* it does not care */
}

/* Files, where the instance has a repository, lie there as they are. */
const struct mlc_serving_ops serving_webhook = {
        .name = "webhook",
        .repository = false,
        .check = check,
        .layout = NULL,
        .load = load,
        .ready = ready,
        .unload = unload,
        .list = list,
        .infer = NULL,
        .weights = weights,
};
