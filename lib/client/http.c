/* SPDX-License-Identifier: Apache-2.0 */
#include "client/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"

#define CONNECT_TIMEOUT_S 10L
#define SLOW_BYTES_S 1024L
#define SLOW_S 60L
#define REPLY_MAX ((size_t)16 << 20)
#define HEADERS_MAX ((size_t)64 << 10)
#define RETRIES 3

struct mlc_client {
        CURL *curl;
        char *url;
        char *token;
        json_t *problem;
        char curl_error[CURL_ERROR_SIZE];
};

/* What the callbacks of one transfer share. */
struct transfer {
        const struct mlc_request *req;
        struct mlc_response *res;
        CURL *curl;
        uint64_t sent, received;
        uint64_t again; /* sent before curl began anew on another connection */
        bool sink_failed;
        bool upload_failed;
};

static void init_once(void)
{
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
                abort();
}

int mlc_client_new(const char *url, const char *token, struct mlc_client **ret, struct mlc_err *err)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct mlc_client *c;
        size_t n = strlen(url);

        if (!mlc_starts_with(url, "http://") && !mlc_starts_with(url, "https://"))
                return mlc_fail(err, MLC_E_USAGE,
                                "'%s' is no server address; it looks like http://HOST:PORT", url);
        (void)pthread_once(&once, init_once);
        c = calloc(1, sizeof(*c));
        if (c == NULL)
                abort();
        while (n > 0 && url[n - 1] == '/')
                n--;
        c->url = strndup(url, n);
        c->token = token != NULL ? strdup(token) : NULL;
        c->curl = curl_easy_init();
        if (c->curl == NULL || c->url == NULL)
                abort();
        *ret = c;
        return 0;
}

int mlc_client_clone(const struct mlc_client *c, struct mlc_client **ret, struct mlc_err *err)
{
        return mlc_client_new(c->url, c->token, ret, err);
}

void mlc_client_free(struct mlc_client *c)
{
        if (c == NULL)
                return;
        curl_easy_cleanup(c->curl);
        json_decref(c->problem);
        free(c->url);
        free(c->token);
        free(c);
}

void mlc_client_free_p(struct mlc_client **c)
{
        mlc_client_free(*c);
        *c = NULL;
}

const char *mlc_client_url(const struct mlc_client *c)
{
        return c->url;
}

const json_t *mlc_client_problem(const struct mlc_client *c)
{
        return c->problem;
}

void mlc_response_done(struct mlc_response *r)
{
        mlc_str_done(&r->body);
        mlc_str_done(&r->headers);
}

bool mlc_response_header(const struct mlc_response *r, const char *name, char *ret, size_t size)
{
        size_t n_name = strlen(name);

        for (const char *p = mlc_str_cstr(&r->headers); *p != '\0';) {
                size_t n = strcspn(p, "\n");

                if (n > n_name + 1 && memcmp(p, name, n_name) == 0 && p[n_name] == ':') {
                        const char *v = p + n_name + 2;
                        size_t n_v = n - n_name - 2;

                        if (n_v >= size)
                                return false;
                        memcpy(ret, v, n_v);
                        ret[n_v] = '\0';
                        return true;
                }
                p += n + (p[n] == '\n');
        }
        return false;
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata)
{
        struct transfer *t = userdata;
        size_t len = size * n;
        const char *colon = memchr(data, ':', len);
        size_t n_name, from;

        if (len >= 5 &&
            memcmp(data, "HTTP/", 5) == 0) { /* a further reply, after 100 or a redirect */
                mlc_str_reset(&t->res->headers);
                return len;
        }
        if (colon == NULL)
                return len;
        n_name = (size_t)(colon - data);
        for (size_t i = 0; i < n_name; i++)
                mlc_str_addc(&t->res->headers,
                             data[i] >= 'A' && data[i] <= 'Z' ? (char)(data[i] + 32) : data[i]);
        mlc_str_add(&t->res->headers, ": ");
        from = n_name + 1;
        while (from < len && (data[from] == ' ' || data[from] == '\t'))
                from++;
        while (len > from &&
               (data[len - 1] == '\r' || data[len - 1] == '\n' || data[len - 1] == ' '))
                len--;
        mlc_str_addn(&t->res->headers, data + from, len - from);
        mlc_str_addc(&t->res->headers, '\n');
        return size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
        struct transfer *t = userdata;
        size_t len = size * n;
        long status = 0;

        (void)curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
        if (t->req->sink != NULL && (t->req->sink_status != 0 ? status == t->req->sink_status
                                                              : status >= 200 && status < 300)) {
                if (t->req->sink(t->req->userdata, data, len) < 0) {
                        t->sink_failed = true;
                        return 0;
                }
                t->received += len;
                if (t->req->progress != NULL &&
                    t->req->progress(t->req->userdata, t->received) != 0)
                        return 0;
                return len;
        }
        mlc_str_addn(&t->res->body, data, len);
        return t->res->body.over ? 0 : len;
}

static size_t on_read(char *buf, size_t size, size_t n, void *userdata)
{
        struct transfer *t = userdata;
        uint64_t left = t->req->upload_len - t->sent;
        size_t want = size * n < left ? size * n : (size_t)left;
        ssize_t k;

        if (want == 0)
                return 0;
        k = pread(t->req->upload_fd, buf, want, (off_t)(t->req->upload_off + t->sent));
        if (k <= 0) { /* shorter than announced: the file changed meanwhile */
                t->upload_failed = true;
                return CURL_READFUNC_ABORT;
        }
        t->sent += (uint64_t)k;
        if (t->req->progress != NULL && t->req->progress(t->req->userdata, t->again + t->sent) != 0)
                return CURL_READFUNC_ABORT;
        return (size_t)k;
}

static int on_seek(void *userdata, curl_off_t offset, int origin)
{
        struct transfer *t = userdata;

        if (origin != SEEK_SET || offset < 0)
                return CURL_SEEKFUNC_FAIL;
        if (t->sent > (uint64_t)offset)
                t->again += t->sent - (uint64_t)offset;
        t->sent = (uint64_t)offset;
        return CURL_SEEKFUNC_OK;
}

static void set_body(struct transfer *t)
{
        const struct mlc_request *req = t->req;

        if (req->upload) {
                (void)curl_easy_setopt(t->curl, CURLOPT_UPLOAD, 1L);
                (void)curl_easy_setopt(t->curl, CURLOPT_INFILESIZE_LARGE,
                                       (curl_off_t)req->upload_len);
                (void)curl_easy_setopt(t->curl, CURLOPT_UPLOAD_BUFFERSIZE, 1L << 20);
                (void)curl_easy_setopt(t->curl, CURLOPT_READFUNCTION, on_read);
                (void)curl_easy_setopt(t->curl, CURLOPT_READDATA, t);
                (void)curl_easy_setopt(t->curl, CURLOPT_SEEKFUNCTION, on_seek);
                (void)curl_easy_setopt(t->curl, CURLOPT_SEEKDATA, t);
        } else if (req->body != NULL || strcmp(req->method, "POST") == 0 ||
                   strcmp(req->method, "PUT") == 0) {
                (void)curl_easy_setopt(t->curl, CURLOPT_POST, 1L);
                (void)curl_easy_setopt(t->curl, CURLOPT_POSTFIELDS,
                                       req->body != NULL ? req->body : "");
                (void)curl_easy_setopt(t->curl, CURLOPT_POSTFIELDSIZE_LARGE,
                                       (curl_off_t)req->body_len);
        } else if (strcmp(req->method, "HEAD") == 0) {
                (void)curl_easy_setopt(t->curl, CURLOPT_NOBODY, 1L);
        }
        (void)curl_easy_setopt(t->curl, CURLOPT_CUSTOMREQUEST, req->method);
}

static struct curl_slist *make_headers(const struct mlc_client *c, const struct mlc_request *req)
{
        struct curl_slist *list = NULL;
        struct mlc_str line;

        mlc_str_init(&line, 16384);
        if (c->token != NULL) {
                mlc_str_addf(&line, "Authorization: Bearer %s", c->token);
                list = curl_slist_append(list, mlc_str_cstr(&line));
        }
        if (req->body != NULL || req->upload) {
                mlc_str_reset(&line);
                mlc_str_addf(&line, "Content-Type: %s",
                             req->content_type != NULL ? req->content_type
                             : req->upload             ? "application/octet-stream"
                                                       : "application/json");
                list = curl_slist_append(list, mlc_str_cstr(&line));
        } else {
                list = curl_slist_append(list, "Content-Type:");
        }
        list = curl_slist_append(list, "Expect:");
        for (size_t i = 0; req->headers != NULL && req->headers[i] != NULL; i++)
                list = curl_slist_append(list, req->headers[i]);
        mlc_str_done(&line);
        return list;
}

static void set_options(struct mlc_client *c, struct transfer *t)
{
        curl_easy_reset(c->curl);
        (void)curl_easy_setopt(c->curl, CURLOPT_ERRORBUFFER, c->curl_error);
        (void)curl_easy_setopt(c->curl, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(c->curl, CURLOPT_PROTOCOLS_STR, "http,https");
        (void)curl_easy_setopt(c->curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        (void)curl_easy_setopt(c->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_TIMEOUT_S);
        (void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_LIMIT, SLOW_BYTES_S);
        (void)curl_easy_setopt(c->curl, CURLOPT_LOW_SPEED_TIME, SLOW_S);
        (void)curl_easy_setopt(c->curl, CURLOPT_USERAGENT, "mlctl/" MLC_VERSION);
        (void)curl_easy_setopt(c->curl, CURLOPT_BUFFERSIZE, 512L << 10);
        (void)curl_easy_setopt(c->curl, CURLOPT_HEADERFUNCTION, on_header);
        (void)curl_easy_setopt(c->curl, CURLOPT_HEADERDATA, t);
        (void)curl_easy_setopt(c->curl, CURLOPT_WRITEFUNCTION, on_body);
        (void)curl_easy_setopt(c->curl, CURLOPT_WRITEDATA, t);
}

static int transfer_error(struct mlc_client *c, const struct transfer *t, CURLcode code,
                          struct mlc_err *err)
{
        if (t->sink_failed)
                return mlc_fail(err, MLC_E_IO, "writing what was received failed");
        if (t->upload_failed)
                return mlc_fail(err, MLC_E_IO, "the file became shorter while it was sent");
        if (t->res->body.over)
                return mlc_fail(err, MLC_E_LIMIT, "the reply to %s is larger than expected",
                                t->req->path);
        return mlc_fail(err, MLC_E_UNREACHABLE,
                        "%s: %s; check the address and that the server runs", c->url,
                        c->curl_error[0] != '\0' ? c->curl_error : curl_easy_strerror(code));
}

/* The first code of the list with this status; a refusal without one of its own is INVALID. */
static int code_of_status(int status)
{
        for (int i = 0; i < MLC_EI_COUNT; i++)
                if (mlc_error_status(-(i + 1)) == status)
                        return -(i + 1);
        return status < 500 ? MLC_E_INVALID : MLC_E_INTERNAL;
}

static int status_error(struct mlc_client *c, const struct mlc_response *res, struct mlc_err *err)
{
        static const char prefix[] = "urn:mlctl:error:";
        const char *type, *detail, *pointer = NULL;
        int code = MLC_E_INTERNAL;
        const json_t *first;

        c->problem = json_loadb(mlc_str_cstr(&res->body), res->body.len, MLC_JSON_FLAGS, NULL);
        type = json_string_value(json_object_get(c->problem, "type"));
        detail = json_string_value(json_object_get(c->problem, "detail"));
        first = json_array_get(json_object_get(c->problem, "errors"), 0);
        if (type != NULL && mlc_starts_with(type, prefix))
                code = mlc_error_from_slug(type + strlen(prefix));
        else
                code = code_of_status(res->status);
        if (detail == NULL) /* OCI style */
                detail = json_string_value(json_object_get(first, "message"));
        pointer = json_string_value(json_object_get(first, "pointer"));
        if (detail == NULL)
                return mlc_fail(err, code, "the server answered with status %d", res->status);
        return mlc_fail_field(err, code, pointer, "%s", detail);
}

static int do_once(struct mlc_client *c, const struct mlc_request *req, struct mlc_response *res,
                   struct mlc_err *err)
{
        struct transfer t = {.req = req, .res = res, .curl = c->curl};
        struct curl_slist *headers = make_headers(c, req);
        struct mlc_str url;
        long status = 0;
        CURLcode code;

        mlc_str_init(&res->body, req->reply_max != 0 ? req->reply_max : REPLY_MAX);
        mlc_str_init(&res->headers, HEADERS_MAX);
        mlc_str_init(&url, 65536);
        if (mlc_starts_with(req->path, "http://") || mlc_starts_with(req->path, "https://"))
                mlc_str_add(&url, req->path);
        else
                mlc_str_addf(&url, "%s%s", c->url, req->path);
        c->curl_error[0] = '\0';
        set_options(c, &t);
        set_body(&t);
        (void)curl_easy_setopt(c->curl, CURLOPT_URL, mlc_str_cstr(&url));
        (void)curl_easy_setopt(c->curl, CURLOPT_HTTPHEADER, headers);
        code = curl_easy_perform(c->curl);
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        curl_slist_free_all(headers);
        mlc_str_done(&url);
        res->status = (int)status;
        /* a server that refuses an upload early answers and closes: that answer says more than
         * "send failed" */
        if (code != CURLE_OK && !(req->upload && status >= 400 && res->body.len > 0))
                return transfer_error(c, &t, code, err);
        if (status >= 400 && !req->allow_error)
                return status_error(c, res, err);
        return 0;
}

static bool may_retry(const struct mlc_request *req)
{
        if (req->sink != NULL || req->upload)
                return false;
        if (strcmp(req->method, "GET") == 0 || strcmp(req->method, "HEAD") == 0)
                return true;
        for (size_t i = 0; req->headers != NULL && req->headers[i] != NULL; i++)
                if (strncasecmp(req->headers[i], "Idempotency-Key:", 16) == 0)
                        return true;
        return false;
}

int mlc_client_do(struct mlc_client *c, const struct mlc_request *req, struct mlc_response *ret,
                  struct mlc_err *err)
{
        int r = 0;

        for (int i = 0;; i++) {
                struct mlc_err e = {0};

                json_decref(c->problem);
                c->problem = NULL;
                *ret = (struct mlc_response){0};
                r = do_once(c, req, ret, &e);
                if ((r != MLC_E_UNREACHABLE && r != MLC_E_UNAVAILABLE) || i >= RETRIES ||
                    !may_retry(req)) {
                        if (r < 0)
                                (void)mlc_err_set(err, e.code, e.field, e.file, e.line, "%s",
                                                  e.msg);
                        return r;
                }
                mlc_response_done(ret);
                mlc_sleep_ms(200 << i);
        }
}

int mlc_client_json(struct mlc_client *c, const char *method, const char *path, const json_t *body,
                    json_t **ret, struct mlc_err *err)
{
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        _cleanup_(free_p) char *text = NULL;
        struct mlc_request req = {.method = method, .path = path};
        int r;

        if (body != NULL) {
                text = json_dumps(body, JSON_COMPACT);
                if (text == NULL)
                        abort();
                req.body = text;
                req.body_len = strlen(text);
        }
        r = mlc_client_do(c, &req, &res, err);
        if (r < 0 || ret == NULL)
                return r;
        return mlc_json_parse(mlc_str_cstr(&res.body), res.body.len, ret, err);
}

static int add_page(struct mlc_client *c, const char *path, json_t *all, size_t max,
                    char **ret_next, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *page = NULL;
        const char *next;
        json_t *item;
        size_t i;
        int r = mlc_client_json(c, "GET", path, NULL, &page, err);

        if (r < 0)
                return r;
        json_array_foreach (json_object_get(page, "items"), i, item)
                if (json_array_size(all) < max)
                        (void)json_array_append(all, item);
        next = json_string_value(json_object_get(page, "next"));
        *ret_next = next != NULL && json_array_size(all) < max ? strdup(next) : NULL;
        return 0;
}

int mlc_client_list(struct mlc_client *c, const char *path, size_t max, json_t **ret,
                    struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *all = json_array();
        _cleanup_(free_p) char *next = NULL;
        _cleanup_(mlc_str_done) struct mlc_str p;

        mlc_str_init(&p, 65536);
        mlc_str_add(&p, path);
        do {
                char *following = NULL;
                int r = add_page(c, mlc_str_cstr(&p), all, max, &following, err);

                if (r < 0)
                        return r;
                free(next);
                next = following;
                if (next != NULL) {
                        mlc_str_reset(&p);
                        mlc_str_addf(&p, "%s%ccursor=", path,
                                     strchr(path, '?') != NULL ? '&' : '?');
                        mlc_url_encode(&p, next);
                }
        } while (next != NULL);
        *ret = TAKE_PTR(all);
        return 0;
}

void mlc_url_encode(struct mlc_str *ret, const char *text)
{
        for (const unsigned char *p = (const unsigned char *)text; *p != '\0'; p++) {
                if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
                    (*p >= '0' && *p <= '9') || strchr("-._~", *p) != NULL)
                        mlc_str_addc(ret, (char)*p);
                else
                        mlc_str_addf(ret, "%%%02X", *p);
        }
}
