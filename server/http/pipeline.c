/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "app.h"
#include "audit/audit.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/conn.h"
#include "http/etag.h"
#include "http/metrics_store.h"
#include "http/request.h"

/* A handler that fails says why, and one that succeeds leaves no error behind. */
static int checked(struct http_request *r, int result)
{
        assert(result <= 0);
        assert((result < 0) == (r->ctx.err.code != 0));
        return result;
}

static int route(struct http_request *r)
{
        const struct router_table table = {.ops = gen_operations, .n = gen_n_operations};
        int n = router_parse(&r->ctx, r->uri, &r->target);

        if (n < 0)
                return n;
        n = router_match(&r->ctx, &table, r->method, &r->target, &r->match);
        if (n == MLC_E_NOT_FOUND && router_oci_name_invalid(&r->target)) {
                mlc_err_clear(&r->ctx.err);
                n = ctx_fail_field(&r->ctx, MLC_E_INVALID, "oci:NAME_INVALID",
                                   "a repository is called NAMESPACE/MODEL");
        }
        if (n < 0)
                return n;
        r->op = r->match.op;
        r->ctx.operation = r->op->id;
        return 0;
}

/* Two of these would let a proxy in front read another request than we do. */
static int check_framing(struct http_request *r)
{
        static const char *const ONCE[] = {"Host",          "Content-Length", "Transfer-Encoding",
                                           "Authorization", "Content-Type",   "Content-Range"};
        const char *te = http_header(&r->ctx, "Transfer-Encoding");

        if (!conn_header_names_valid(r)) {
                r->close = true;
                return ctx_fail(&r->ctx, MLC_E_INVALID,
                                "the name of a header has a character that none may have");
        }
        for (size_t i = 0; i < ARRAY_LEN(ONCE); i++)
                if (conn_header_count(r, ONCE[i]) > 1) {
                        r->close = true;
                        return ctx_fail(&r->ctx, MLC_E_INVALID, "header %s is given more than once",
                                        ONCE[i]);
                }
        if (te != NULL &&
            (http_header(&r->ctx, "Content-Length") != NULL || strcasecmp(te, "chunked") != 0)) {
                r->close = true;
                return ctx_fail_field(&r->ctx, MLC_E_INVALID, "header:Transfer-Encoding",
                                      "must be chunked alone, and without Content-Length");
        }
        return 0;
}

static int identify(struct http_request *r)
{
        const char *authorization = http_header(&r->ctx, "Authorization");

        if (r->op->permission == API_OPEN ||
            (r->op->public_opens && authorization == NULL && r->ctx.app->config.public_log))
                return 0;
        return checked(r, auth_identify(&r->ctx, authorization, &r->ctx.principal));
}

static int forbidden(struct http_request *r, const char *where)
{
        char names[160] = "";

        for (unsigned bit = 1; bit <= AUTH_ANY_ROLE; bit <<= 1) {
                size_t n = strlen(names);

                if ((r->op->roles & bit) != 0)
                        (void)snprintf(names + n, sizeof(names) - n, "%s%s", n > 0 ? " or " : "",
                                       auth_role_name(bit));
        }
        return ctx_fail(&r->ctx, MLC_E_FORBIDDEN, "this needs role %s %s", names, where);
}

/* A namespace in which the caller has no role at all might as well not exist. */
static int permit_at(struct http_request *r)
{
        const char *ns;
        char where[128];

        memcpy(&ns, (const char *)r->req + r->op->off_namespace, sizeof(ns));
        if (!auth_may_read(r->ctx.principal, ns))
                return ctx_fail(&r->ctx, MLC_E_NOT_FOUND, "namespace '%s' not found", ns);
        if (r->op->permission == API_READ_AT ||
            (auth_roles(r->ctx.principal, ns) & r->op->roles) != 0)
                return 0;
        (void)snprintf(where, sizeof(where), "in namespace '%s'", ns);
        return forbidden(r, where);
}

static int permit(struct http_request *r)
{
        if (r->ctx.principal == NULL)
                return 0;
        switch (r->op->permission) {
        case API_OPEN:
        case API_TOKEN:
                return 0;
        case API_ROLES_AT:
        case API_READ_AT:
                return permit_at(r);
        case API_ROLES_SOME:
                return auth_holds_somewhere(r->ctx.principal, r->op->roles)
                               ? 0
                               : forbidden(r, "in some namespace");
        case API_ROLES_ALL:
                return (auth_roles(r->ctx.principal, "*") & r->op->roles) != 0
                               ? 0
                               : forbidden(r, "in every namespace");
        }
        return ctx_fail(&r->ctx, MLC_E_INTERNAL, "operation without permission");
}

/* A misspelt parameter must not be ignored; OCI clients however send some that we need not know. */
static int check_query_names(struct http_request *r)
{
        for (unsigned i = 0; i < r->target.n_query && !r->op->oci; i++) {
                const char *name = r->target.query[i].name;
                char field[128];
                bool known = false;

                for (unsigned p = 0; p < r->op->n_params; p++)
                        known |= r->op->params[p].place == API_QUERY &&
                                 strcmp(r->op->params[p].member.name, name) == 0;
                (void)snprintf(field, sizeof(field), "query:%s", name);
                if (!known)
                        return ctx_fail_field(&r->ctx, MLC_E_INVALID, field, "is not known here");
        }
        return 0;
}

static unsigned param_values(struct http_request *r, unsigned index,
                             const char *ret[ROUTER_QUERY_MAX])
{
        const struct api_param *p = &r->op->params[index];
        unsigned n = 0;

        if (p->place == API_PATH) {
                ret[n++] = r->match.params[index];
        } else if (p->place == API_HEADER) {
                ret[0] = http_header(&r->ctx, p->member.name);
                n = ret[0] != NULL;
        } else {
                for (unsigned i = 0; i < r->target.n_query; i++)
                        if (strcmp(r->target.query[i].name, p->member.name) == 0)
                                ret[n++] = r->target.query[i].value;
        }
        return n;
}

static struct api_decoder decoder(struct http_request *r)
{
        return (struct api_decoder){
                .patterns = http_patterns(r->http), .arena = &r->ctx.arena, .err = &r->ctx.err};
}

static int decode_params(struct http_request *r)
{
        const struct api_decoder d = decoder(r);
        int n = check_query_names(r);

        for (unsigned i = 0; n == 0 && i < r->op->n_params; i++) {
                const char *values[ROUTER_QUERY_MAX];
                unsigned count = param_values(r, i, values);

                n = api_decode_param(&d, &r->op->params[i], values, count, r->req);
        }
        return n;
}

/* Prefer: wait=N (RFC 7240), in seconds; cut to what the server allows. */
static int take_wait(struct http_request *r)
{
        const char *prefer = http_header(&r->ctx, "Prefer"), *p;
        unsigned long s;
        char *end;

        if (!r->op->waits || prefer == NULL)
                return 0;
        p = strstr(prefer, "wait=");
        if (p == NULL || (p != prefer && strchr(" ,;", p[-1]) == NULL))
                return 0;
        s = strtoul(p + 5, &end, 10);
        if (end == p + 5 || strchr("0123456789", p[5]) == NULL)
                return ctx_fail_field(&r->ctx, MLC_E_INVALID, "header:Prefer",
                                      "wait must be a number of seconds");
        r->wait_ms = 1000 * (int64_t)(s < HTTP_WAIT_S_MAX ? s : HTTP_WAIT_S_MAX);
        if (r->wait_ms > 0 && !http_poll_begin(r->http))
                return ctx_fail(&r->ctx, MLC_E_UNAVAILABLE, "too many requests are waiting");
        r->holds_poll = r->wait_ms > 0;
        r->ctx.deadline_ms += r->wait_ms;
        return 0;
}

/* Nothing is decompressed: a body means what its bytes say, and their digest too. */
static int check_coding(struct http_request *r)
{
        const char *coding = http_header(&r->ctx, "Content-Encoding");

        if (!r->has_body || coding == NULL || strcasecmp(coding, "identity") == 0)
                return 0;
        return ctx_fail_field(&r->ctx, MLC_E_MEDIA_TYPE, "header:Content-Encoding",
                              "is not taken; send the body as it is");
}

static int check_content_type(struct http_request *r)
{
        const char *type = http_header(&r->ctx, "Content-Type");
        size_t len;

        if (r->op->body != API_BODY_JSON || !r->has_body)
                return 0;
        len = type != NULL ? strcspn(type, "; \t") : 0;
        if (len != strlen("application/json") || strncasecmp(type, "application/json", len) != 0)
                return ctx_fail_field(&r->ctx, MLC_E_MEDIA_TYPE, "header:Content-Type",
                                      "must be application/json");
        return 0;
}

static int too_large(struct http_request *r)
{
        return ctx_fail(&r->ctx, MLC_E_LIMIT, "the body is larger than %llu bytes",
                        (unsigned long long)r->op->body_max);
}

static int check_body(struct http_request *r)
{
        int n = check_coding(r);

        if (n == 0)
                n = check_content_type(r);
        if (n < 0)
                return n;
        if (r->op->body == API_BODY_NONE && r->has_body)
                return ctx_fail(&r->ctx, MLC_E_INVALID, "this operation takes no body");
        if (r->op->body != API_BODY_NONE && r->body_length > 0 &&
            (uint64_t)r->body_length > r->op->body_max)
                return too_large(r);
        if (r->op->body_required && !r->has_body)
                return ctx_fail(&r->ctx, MLC_E_INVALID, "a JSON body is needed");
        return 0;
}

/* While it drains the server still says how it is; everything else belongs to another. */
static int check_draining(struct http_request *r)
{
        if (!http_draining(&r->ctx) || (r->op->permission == API_OPEN && !r->op->audited))
                return 0;
        return ctx_fail(&r->ctx, MLC_E_UNAVAILABLE, "the server is stopping");
}

static int head(struct http_request *r)
{
        int (*const STEPS[])(struct http_request *) = {check_framing, route,         check_draining,
                                                       identify,      decode_params, permit,
                                                       check_body,    take_wait};
        int n = 0;

        for (size_t i = 0; n == 0 && i < ARRAY_LEN(STEPS); i++) {
                n = STEPS[i](r);
                if (n == 0 && STEPS[i] == route) {
                        r->req = ctx_alloc(&r->ctx, r->op->req_size);
                        n = r->req == NULL ? MLC_E_LIMIT : 0;
                }
        }
        if (n == 0 && (r->op->audited || r->op->body == API_BODY_STREAM))
                n = checked(r, audit_writable(&r->ctx));
        if (n == 0 && r->op->body == API_BODY_STREAM) {
                n = checked(r, r->op->open(&r->ctx, r->req, &r->sink));
                r->sink_open = n == 0;
        }
        return n;
}

void pipeline_head(struct http_request *r)
{
        int n = head(r);

        assert((n < 0) == (r->ctx.err.code != 0));
        if (n == 0)
                mlc_str_init(&r->body,
                             (size_t)(r->op->body == API_BODY_STREAM ? 0 : r->op->body_max));
}

void pipeline_body(struct http_request *r, const void *data, size_t len)
{
        r->received += len;
        if (r->ctx.err.code != 0)
                return;
        if (r->received > r->op->body_max) {
                (void)too_large(r);
                return;
        }
        if (r->op->body != API_BODY_STREAM) {
                mlc_str_addn(&r->body, data, len);
                return;
        }
        /* the time that a client needs to send is not the handler's */
        r->ctx.deadline_ms = mlc_monotonic_ms() + HTTP_REQUEST_MS_MAX;
        (void)checked(r, r->op->write(&r->ctx, r->sink, data, len));
}

static int decode_json(struct http_request *r)
{
        const struct api_decoder d = decoder(r);
        char *at = (char *)r->req;
        int n;

        if (r->body.len == 0) {
                return r->op->body_required
                               ? ctx_fail(&r->ctx, MLC_E_INVALID, "a JSON body is needed")
                               : 0;
        }
        n = mlc_json_parse(mlc_str_cstr(&r->body), r->body.len, &r->json, &r->ctx.err);
        if (n < 0)
                return n;
        if (r->op->off_has_body != API_NO_OFFSET)
                *(bool *)(at + r->op->off_has_body) = true;
        return api_decode_body(&d, r->op->body_schema, r->json, at + r->op->off_body);
}

static int finish_stream(struct http_request *r)
{
        void *sink = TAKE_PTR(r->sink);

        r->sink_open = false;
        return checked(r, r->op->finish(&r->ctx, r->req, sink, &r->reply));
}

static int run_handler(struct http_request *r)
{
        bool replayed = false;
        int n;

        if (r->ctx.idempotency_key != NULL) {
                n = idempotency_replay(r, &replayed);
                if (n < 0 || replayed)
                        return n;
        }
        n = checked(r, r->op->call(&r->ctx, r->req, &r->reply));
        if (n == MLC_E_CONFLICT && r->idempotency_raced) {
                mlc_err_clear(&r->ctx.err);
                n = idempotency_replay(r, &replayed);
                if (n == 0 && !replayed)
                        n = ctx_fail(&r->ctx, MLC_E_CONFLICT, "try again with the same key");
        }
        return n;
}

static int handle(struct http_request *r)
{
        struct api_bytes bytes = {.data = mlc_str_cstr(&r->body), .len = r->body.len};
        int n = 0;

        r->ctx.deadline_ms = mlc_monotonic_ms() + HTTP_REQUEST_MS_MAX + r->wait_ms;
        if (r->op->body == API_BODY_STREAM)
                return finish_stream(r);
        if (r->op->body == API_BODY_JSON)
                n = decode_json(r);
        else if (r->op->body == API_BODY_RAW)
                memcpy((char *)r->req + r->op->off_body, &bytes, sizeof(bytes));
        if (n == 0)
                n = idempotency_begin(r);
        return n < 0 ? n : run_handler(r);
}

void pipeline_end(struct http_request *r)
{
        if (r->ctx.err.code == 0 && handle(r) == 0 && r->reply.failed)
                (void)ctx_fail(&r->ctx, MLC_E_INTERNAL, "the reply is too large");
        if (r->ctx.err.code == 0 && r->reply.status == 200 && strcmp(r->op->method, "GET") == 0 &&
            etag_not_modified(&r->ctx, &r->reply))
                http_reply_empty(&r->reply, 304);
        if (r->ctx.err.code != 0)
                problem_reply(r);
        assert(r->reply.status >= 200);
        http_reply_header(&r->reply, "X-Trace-Id", r->ctx.trace);
        metrics_count(http_metrics(r->http), r->op, r->reply.status,
                      mlc_monotonic_ms() - r->started_ms);
}

static void log_request(const struct http_request *r)
{
        const struct auth_principal *p = r->ctx.principal;
        const char *query = strchr(r->uri, '?');
        char path[512];

        (void)snprintf(path, sizeof(path), "%.*s",
                       (int)(query != NULL ? query - r->uri : (long)strlen(r->uri)), r->uri);
        log_info(r->ctx.trace, "http.request", KV_STR("method", r->method), KV_STR("path", path),
                 KV_STR("operation", r->op != NULL ? r->op->id : NULL),
                 KV_INT("status", r->reply.status), KV_INT("received", r->received),
                 KV_INT("ms", mlc_monotonic_ms() - r->started_ms),
                 KV_STR("user", p != NULL ? p->user : NULL), KV_STR("peer", r->peer),
                 KV_STR("error", r->ctx.err.code != 0 ? r->ctx.err.msg : NULL));
}

void pipeline_done(struct http_request *r)
{
        if (r->sink_open) {
                r->sink_open = false;
                r->op->abort(&r->ctx, TAKE_PTR(r->sink));
        }
        if (r->holds_poll)
                http_poll_end(r->http);
        log_request(r);
        reply_done(&r->reply);
        json_decref(TAKE_PTR(r->json));
        mlc_str_done(&r->body);
}
