/* SPDX-License-Identifier: Apache-2.0 */
#include "http/conn.h"

#include <assert.h>
#include <errno.h>
#include <microhttpd.h>
#include <poll.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "http/early.h"
#include "http/listener.h"
#include "http/request.h"

/* The only file that speaks to libmicrohttpd: one thread per connection, each request in its
 * thread. */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STACK_SIZE (16u << 20)
#else
#define STACK_SIZE (2u << 20) /* JSON of depth 2048 is parsed by recursion */
#endif

static struct watch_conn *watched(struct MHD_Connection *mhd)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT);

        return info->socket_context;
}

const char *http_header(const struct mlc_ctx *ctx, const char *name)
{
        return MHD_lookup_connection_value(http_request_of_const(ctx)->mhd, MHD_HEADER_KIND, name);
}

struct count {
        const char *name;
        unsigned n;
};

static enum MHD_Result count_one(void *cls, enum MHD_ValueKind kind, const char *key,
                                 const char *value)
{
        struct count *count = cls;

        (void)kind;
        (void)value;
        count->n += strcasecmp(key, count->name) == 0;
        return MHD_YES;
}

unsigned conn_header_count(const struct http_request *r, const char *name)
{
        struct count count = {.name = name};

        (void)MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, count_one, &count);
        return count.n;
}

static enum MHD_Result check_name(void *cls, enum MHD_ValueKind kind, const char *key,
                                  const char *value)
{
        bool *all = cls;

        (void)kind;
        (void)value;
        *all &= key[0] != '\0' && strpbrk(key, " \t\"(),/:;<=>?@[\\]{}") == NULL;
        return MHD_YES;
}

bool conn_header_names_valid(const struct http_request *r)
{
        bool all = true;

        (void)MHD_get_connection_values(r->mhd, MHD_HEADER_KIND, check_name, &all);
        return all;
}

bool http_is_head(const struct mlc_ctx *ctx)
{
        return http_request_of_const(ctx)->head_only;
}

const char *http_peer(const struct mlc_ctx *ctx)
{
        return http_request_of_const(ctx)->peer;
}

int64_t http_body_length(const struct mlc_ctx *ctx)
{
        return http_request_of_const(ctx)->body_length;
}

int64_t http_wait_ms(const struct mlc_ctx *ctx)
{
        return http_request_of_const(ctx)->wait_ms;
}

/* One whose head turned out to be none: the library forgets it without a word. */
static void drop_head(struct watch_conn *c)
{
        struct http_request *r = TAKE_PTR(c->head);

        if (r != NULL)
                free(r->uri);
        free(r);
}

/* Called with the target as sent, before it is decoded: that is done strictly by router.c. */
static void *on_target(void *cls, const char *uri, struct MHD_Connection *mhd)
{
        struct http_request *r = calloc(1, sizeof(*r));
        struct watch_conn *c = watched(mhd);

        assert(r != NULL);
        drop_head(c);
        c->head = r;
        r->http = cls;
        r->uri = strdup(uri);
        assert(r->uri != NULL);
        return r;
}

static size_t keep_escapes(void *cls, struct MHD_Connection *mhd, char *s)
{
        (void)cls;
        (void)mhd;
        return strlen(s);
}

static void begin(struct http_request *r, struct MHD_Connection *mhd, const char *method)
{
        const char *length, *encoding;
        unsigned long long n;

        mlc_ctx_init(&r->ctx, r->http->app, "http", HTTP_ARENA_MAX, HTTP_REQUEST_MS_MAX);
        reply_init(&r->reply, &r->ctx);
        r->mhd = mhd;
        watched(mhd)->head = NULL;
        r->peer = watched(mhd)->peer;
        r->method = method;
        r->head_only = strcmp(method, "HEAD") == 0;
        r->started_ms = mlc_monotonic_ms();
        r->body_length = -1;
        length = http_header(&r->ctx, "Content-Length");
        encoding = http_header(&r->ctx, "Transfer-Encoding");
        if (encoding == NULL && length != NULL && mlc_parse_u64(length, &n) && n <= INT64_MAX)
                r->body_length = (int64_t)n;
        r->has_body = r->body_length > 0 || encoding != NULL;
}

static void head(struct http_request *r)
{
        enum watch_verdict verdict = watch_head(&r->http->watch, watched(r->mhd));

        r->close = verdict != WATCH_SERVE || atomic_load(&r->http->draining);
        if (verdict == WATCH_FULL)
                (void)ctx_fail(&r->ctx, MLC_E_UNAVAILABLE, "the server has too many requests");
        else if (verdict == WATCH_CROWDED)
                (void)ctx_fail(&r->ctx, MLC_E_TOO_MANY, "too many connections from %s", r->peer);
        else if (strlen(r->uri) > HTTP_TARGET_MAX)
                (void)ctx_fail(&r->ctx, MLC_E_HEADER_LIMIT,
                               "the request target is longer than %d bytes", HTTP_TARGET_MAX);
        else
                pipeline_head(r);
}

/* A refused body is worth reading only when it is short and on its way already. */
static bool worth_reading(const struct http_request *r)
{
        return !r->has_body || (r->body_length >= 0 && r->body_length <= HTTP_DISCARD_MAX &&
                                http_header(&r->ctx, "Expect") == NULL);
}

static enum MHD_Result reply_early(struct http_request *r)
{
        const union MHD_ConnectionInfo *info =
                MHD_get_connection_info(r->mhd, MHD_CONNECTION_INFO_CONNECTION_FD);

        watch_enter(&r->http->watch, watched(r->mhd), WATCH_HANDLER);
        pipeline_end(r);
        early_send(r, info->connect_fd);
        return MHD_NO;
}

static void add_headers(const struct http_request *r, struct MHD_Response *response)
{
        const struct http_reply *reply = &r->reply;
        bool cached = false;

        if (reply->content_type != NULL)
                (void)MHD_add_response_header(response, "Content-Type", reply->content_type);
        for (unsigned i = 0; i < reply->n_headers; i++) {
                const struct reply_header *h = &reply->headers[i];

                cached |= strcasecmp(h->name, "Cache-Control") == 0;
                (void)MHD_add_response_header(response, h->name, h->value);
        }
        if (!cached) /* replies hold tokens and what changes */
                (void)MHD_add_response_header(response, "Cache-Control", "no-store");
        (void)MHD_add_response_header(response, "X-Content-Type-Options", "nosniff");
        if (r->close || atomic_load(&r->http->draining))
                (void)MHD_add_response_header(response, "Connection", "close");
}

static bool stream_more(struct http_request *r)
{
        struct http_reply *reply = &r->reply;

        mlc_str_done(&reply->out);
        mlc_str_init(&reply->out, HTTP_STREAM_MAX);
        reply->sent = 0;
        while (reply->out.len == 0) {
                struct mlc_err ignored = {0};

                if (http_draining(&r->ctx) ||
                    reply->stream.next(&r->ctx, reply->stream.userdata, &reply->out) < 0 ||
                    mlc_str_check(&reply->out, &ignored) < 0)
                        return false;
        }
        return true;
}

static ssize_t on_stream(void *cls, uint64_t pos, char *buf, size_t max)
{
        struct http_request *r = cls;
        struct http_reply *reply = &r->reply;
        size_t n;

        (void)pos;
        if (reply->sent == reply->out.len && !stream_more(r))
                return MHD_CONTENT_READER_END_OF_STREAM;
        n = reply->out.len - reply->sent;
        n = n < max ? n : max;
        memcpy(buf, reply->out.data + reply->sent, n);
        reply->sent += n;
        return (ssize_t)n;
}

static struct MHD_Response *make_response(struct http_request *r)
{
        struct http_reply *reply = &r->reply;
        const void *data = NULL;
        char *own = NULL;
        size_t len = 0;

        if (reply->kind == REPLY_FILE && reply->file.len > 0)
                return MHD_create_response_from_fd_at_offset64(
                        reply->file.len, TAKE_FD(reply->file.fd), reply->file.off);
        if (reply->kind == REPLY_STREAM)
                return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, HTTP_POOL_SIZE / 8,
                                                         on_stream, r, NULL);
        if (reply->kind != REPLY_FILE && reply_render(reply, &data, &len, &own) < 0)
                return NULL;
        return MHD_create_response_from_buffer(len, (void *)(uintptr_t)data,
                                               own != NULL ? MHD_RESPMEM_MUST_FREE
                                                           : MHD_RESPMEM_PERSISTENT);
}

static enum MHD_Result send_reply(struct http_request *r)
{
        struct MHD_Response *response = make_response(r);
        enum MHD_Result queued;

        if (response == NULL)
                return MHD_NO;
        add_headers(r, response);
        watch_enter(&r->http->watch, watched(r->mhd), WATCH_REPLY);
        queued = MHD_queue_response(r->mhd, (unsigned)r->reply.status, response);
        MHD_destroy_response(response);
        return queued;
}

static enum MHD_Result body(struct http_request *r, const char *data, size_t len)
{
        struct watch_conn *c = watched(r->mhd);
        bool refused = r->ctx.err.code != 0;

        (void)atomic_fetch_add(&c->received, len);
        atomic_store(&c->busy, true);
        pipeline_body(r, data, len);
        atomic_store(&c->busy, false);
        if (r->ctx.err.code != 0 && (!refused || r->received > HTTP_DISCARD_MAX))
                return reply_early(r);
        return MHD_YES;
}

static enum MHD_Result on_request(void *cls, struct MHD_Connection *mhd, const char *url,
                                  const char *method, const char *version, const char *data,
                                  size_t *len, void **con_cls)
{
        struct http_request *r = *con_cls;
        enum MHD_Result result;

        (void)cls;
        (void)url;
        (void)version;
        if (r->mhd == NULL) {
                begin(r, mhd, method);
                head(r);
                return r->ctx.err.code != 0 && !worth_reading(r) ? reply_early(r) : MHD_YES;
        }
        if (*len > 0) {
                result = body(r, data, *len);
                *len = 0;
                return result;
        }
        watch_enter(&r->http->watch, watched(mhd), WATCH_HANDLER);
        pipeline_end(r);
        return send_reply(r);
}

static void on_completed(void *cls, struct MHD_Connection *mhd, void **con_cls,
                         enum MHD_RequestTerminationCode why)
{
        struct http_request *r = *con_cls;

        (void)cls;
        (void)why;
        if (r == NULL)
                return;
        *con_cls = NULL;
        if (r->mhd == NULL) {
                drop_head(watched(mhd));
                return;
        }
        pipeline_done(r);
        watch_idle(&r->http->watch, watched(mhd));
        mlc_ctx_done(&r->ctx);
        free(r->uri);
        free(r);
}

static void on_connection(void *cls, struct MHD_Connection *mhd, void **context,
                          enum MHD_ConnectionNotificationCode what)
{
        struct http *h = cls;

        if (what == MHD_CONNECTION_NOTIFY_STARTED) {
                int fd =
                        MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;

                *context =
                        watch_add(&h->watch, fd,
                                  MHD_get_connection_info(mhd, MHD_CONNECTION_INFO_CLIENT_ADDRESS)
                                          ->client_addr);
        } else {
                drop_head(*context);
                watch_remove(&h->watch, *context);
                *context = NULL;
        }
}

__attribute__((format(printf, 2, 0))) static void on_log(void *cls, const char *format, va_list ap)
{
        char text[512];

        (void)cls;
        (void)vsnprintf(text, sizeof(text), format, ap);
        text[strcspn(text, "\n")] = '\0';
        log_debug(NULL, "http.library", KV_STR("message", text));
}

int http_daemon_start(struct http *h, unsigned hard_cap, struct mlc_err *err)
{
        h->daemon = MHD_start_daemon(
                MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_THREAD_PER_CONNECTION | MHD_USE_POLL |
                        MHD_USE_ITC | MHD_USE_ERROR_LOG,
                0, NULL, NULL, on_request, h, MHD_OPTION_EXTERNAL_LOGGER, on_log, h,
                MHD_OPTION_LISTEN_SOCKET, h->listen_fd, MHD_OPTION_CONNECTION_LIMIT, hard_cap,
                MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)HTTP_POOL_SIZE,
                MHD_OPTION_CONNECTION_TIMEOUT, 0u, MHD_OPTION_THREAD_STACK_SIZE, (size_t)STACK_SIZE,
                MHD_OPTION_NOTIFY_COMPLETED, on_completed, h, MHD_OPTION_NOTIFY_CONNECTION,
                on_connection, h, MHD_OPTION_URI_LOG_CALLBACK, on_target, h,
                MHD_OPTION_UNESCAPE_CALLBACK, keep_escapes, h, MHD_OPTION_STRICT_FOR_CLIENT, 1,
                MHD_OPTION_END);
        if (h->daemon == NULL)
                return mlc_fail(err, MLC_E_INTERNAL, "starting the listener: %s", strerror(errno));
        h->listen_fd = -1;
        return 0;
}

void http_daemon_quiesce(struct http *h)
{
        MHD_socket fd = MHD_quiesce_daemon(h->daemon);

        if (fd != MHD_INVALID_SOCKET)
                h->listen_fd = fd; /* closed when the module is freed */
}

void http_daemon_stop(struct http *h)
{
        if (h->daemon != NULL)
                MHD_stop_daemon(TAKE_PTR(h->daemon));
}
