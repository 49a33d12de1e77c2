/* SPDX-License-Identifier: Apache-2.0 */
#include "client/call.h"

#include <arpa/inet.h>
#include <assert.h>
#include <curl/curl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"

#define CONNECT_MS_MAX 10000L

struct mlc_caller {
        CURL *curl;
        char curl_error[CURL_ERROR_SIZE];
};

struct transfer {
        const struct mlc_call *call;
        struct mlc_reply reply;
        bool foreign; /* an address that is not on this machine was refused */
        struct curl_slist *connect_to; /* or NULL */
};

static void init_once(void)
{
        if (curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
                abort();
}

void mlc_caller_new(struct mlc_caller **ret)
{
        static pthread_once_t once = PTHREAD_ONCE_INIT;
        struct mlc_caller *c = calloc(1, sizeof(*c));

        (void)pthread_once(&once, init_once);
        if (c == NULL)
                abort();
        c->curl = curl_easy_init();
        if (c->curl == NULL)
                abort();
        *ret = c;
}

void mlc_caller_free(struct mlc_caller *c)
{
        if (c == NULL)
                return;
        curl_easy_cleanup(c->curl);
        free(c);
}

void mlc_caller_free_p(struct mlc_caller **c)
{
        mlc_caller_free(*c);
        *c = NULL;
}

void mlc_reply_done(struct mlc_reply *r)
{
        mlc_str_done(&r->body);
        mlc_str_done(&r->headers);
}

bool mlc_reply_header(const struct mlc_reply *r, const char *name, char *ret, size_t size)
{
        size_t n_name = strlen(name);

        for (const char *p = mlc_str_cstr(&r->headers); *p != '\0';) {
                size_t n = strcspn(p, "\n");

                if (n >= n_name + 2 && memcmp(p, name, n_name) == 0 && p[n_name] == ':') {
                        size_t n_value = n - n_name - 2;

                        if (n_value >= size)
                                return false;
                        memcpy(ret, p + n_name + 2, n_value);
                        ret[n_value] = '\0';
                        return true;
                }
                p += n + (p[n] == '\n');
        }
        return false;
}

static bool on_this_machine(const struct sockaddr *sa)
{
        if (sa->sa_family == AF_UNIX)
                return true;
        if (sa->sa_family == AF_INET) {
                struct sockaddr_in in;

                memcpy(&in, sa, sizeof(in));
                return ntohl(in.sin_addr.s_addr) >> 24 == 127;
        }
        if (sa->sa_family == AF_INET6) {
                struct sockaddr_in6 in6;

                memcpy(&in6, sa, sizeof(in6));
                return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr);
        }
        return false;
}

static curl_socket_t on_socket(void *userdata, curlsocktype purpose, struct curl_sockaddr *address)
{
        struct transfer *t = userdata;

        (void)purpose;
        if (t->call->loopback_only && !on_this_machine(&address->addr)) {
                t->foreign = true;
                return CURL_SOCKET_BAD;
        }
        return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static int on_progress(void *userdata, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
        const struct transfer *t = userdata;

        (void)a, (void)b, (void)c, (void)d;
        return t->call->cancelled != NULL && t->call->cancelled(t->call->userdata);
}

static size_t on_header(char *data, size_t size, size_t n, void *userdata)
{
        struct transfer *t = userdata;
        struct mlc_str *to = &t->reply.headers;
        size_t len = size * n, n_name, from;
        const char *colon = memchr(data, ':', len);

        if (len >= 5 && memcmp(data, "HTTP/", 5) == 0) { /* the reply after a 1xx, too */
                mlc_str_reset(to);
                return len;
        }
        if (colon == NULL)
                return len;
        n_name = (size_t)(colon - data);
        for (size_t i = 0; i < n_name; i++)
                mlc_str_addc(to, data[i] >= 'A' && data[i] <= 'Z' ? (char)(data[i] + 32) : data[i]);
        mlc_str_add(to, ": ");
        from = n_name + 1;
        while (from < len && (data[from] == ' ' || data[from] == '\t'))
                from++;
        while (len > from && strchr("\r\n \t", data[len - 1]) != NULL)
                len--;
        mlc_str_addn(to, data + from, len - from);
        mlc_str_addc(to, '\n');
        return to->over ? 0 : size * n;
}

static size_t on_body(char *data, size_t size, size_t n, void *userdata)
{
        struct transfer *t = userdata;

        mlc_str_addn(&t->reply.body, data, size * n);
        return t->reply.body.over ? 0 : size * n;
}

static struct curl_slist *make_headers(const struct mlc_call *call)
{
        char line[256];
        struct curl_slist *list = NULL;

        if (call->body != NULL)
                (void)snprintf(line, sizeof(line), "Content-Type: %s",
                               call->content_type != NULL ? call->content_type
                                                          : "application/json");
        list = curl_slist_append(list, call->body != NULL ? line : "Content-Type:");
        list = curl_slist_append(list, "Expect:");
        for (size_t i = 0; call->headers != NULL && call->headers[i] != NULL; i++)
                list = curl_slist_append(list, call->headers[i]);
        return list;
}

static struct curl_slist *make_connect_to(const struct mlc_call *call)
{
        char to[2 * MLC_PEER_MAX];

        if (call->address == NULL || call->address[0] == '\0')
                return NULL;
        (void)snprintf(to, sizeof(to), "::%s", call->address);
        return curl_slist_append(NULL, to);
}

static void set_options(struct mlc_caller *c, struct transfer *t, struct curl_slist *headers)
{
        const struct mlc_call *call = t->call;
        CURL *curl = c->curl;
        long ms = call->timeout_ms < INT32_MAX ? (long)call->timeout_ms : INT32_MAX;

        curl_easy_reset(curl);
        (void)curl_easy_setopt(curl, CURLOPT_URL, call->url);
        (void)curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
        (void)curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, c->curl_error);
        (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
        (void)curl_easy_setopt(curl, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
        (void)curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 0L);
        (void)curl_easy_setopt(curl, CURLOPT_PROXY, ""); /* nor one from the environment */
        (void)curl_easy_setopt(curl, CURLOPT_PATH_AS_IS, 1L);
        (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ms);
        (void)curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS,
                               ms < CONNECT_MS_MAX ? ms : CONNECT_MS_MAX);
        (void)curl_easy_setopt(curl, CURLOPT_USERAGENT, "mlctld/" MLC_VERSION);
        (void)curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
        (void)curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
        (void)curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
        (void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETFUNCTION, on_socket);
        (void)curl_easy_setopt(curl, CURLOPT_OPENSOCKETDATA, t);
        if (call->cancelled != NULL) {
                (void)curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
                (void)curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
                (void)curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
        }
        if (call->unix_socket != NULL)
                (void)curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, call->unix_socket);
        if (t->connect_to != NULL)
                (void)curl_easy_setopt(curl, CURLOPT_CONNECT_TO, t->connect_to);
        if (call->body != NULL || strcmp(call->method, "POST") == 0 ||
            strcmp(call->method, "PUT") == 0) {
                (void)curl_easy_setopt(curl, CURLOPT_POST, 1L);
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDS,
                                       call->body != NULL ? call->body : "");
                (void)curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE,
                                       (curl_off_t)call->body_len);
        }
        (void)curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, call->method);
}

static int failed(const struct mlc_caller *c, const struct transfer *t, CURLcode code,
                  struct mlc_err *err)
{
        const struct mlc_call *call = t->call;

        if (t->foreign)
                return mlc_fail(err, MLC_E_FORBIDDEN,
                                "'%s' leads off this machine; allow it with --egress-allow",
                                call->url);
        if (t->reply.body.over || t->reply.headers.over)
                return mlc_fail(err, MLC_E_LIMIT, "the reply of '%s' is larger than %zu bytes",
                                call->url,
                                t->reply.body.over ? t->reply.body.cap : t->reply.headers.cap);
        if (code == CURLE_ABORTED_BY_CALLBACK)
                return mlc_fail(err, MLC_E_CONFLICT, "the call of '%s' was cancelled", call->url);
        if (code == CURLE_OPERATION_TIMEDOUT)
                return mlc_fail(err, MLC_E_TIMEOUT, "no answer of '%s' within %lld ms", call->url,
                                (long long)call->timeout_ms);
        return mlc_fail(err, MLC_E_UNREACHABLE, "calling '%s' failed: %s", call->url,
                        c->curl_error[0] != '\0' ? c->curl_error : curl_easy_strerror(code));
}

static void get_peer(CURL *curl, char ret[MLC_PEER_MAX])
{
        const char *ip = NULL;
        long port = 0;
        int n;

        (void)curl_easy_getinfo(curl, CURLINFO_PRIMARY_IP, &ip);
        (void)curl_easy_getinfo(curl, CURLINFO_PRIMARY_PORT, &port);
        ret[0] = '\0';
        if (ip == NULL || *ip == '\0' || port <= 0)
                return;
        n = snprintf(ret, MLC_PEER_MAX, strchr(ip, ':') != NULL ? "[%s]:%ld" : "%s:%ld", ip, port);
        if (n < 0 || n >= MLC_PEER_MAX)
                ret[0] = '\0';
}

int mlc_call(struct mlc_caller *c, const struct mlc_call *call, struct mlc_reply *ret,
             struct mlc_err *err)
{
        struct transfer t = {.call = call};
        struct curl_slist *headers;
        CURLcode code;
        long status = 0;

        assert(call->method != NULL && call->url != NULL);
        if (call->timeout_ms <= 0)
                return mlc_fail(err, MLC_E_TIMEOUT, "no time is left to call '%s'", call->url);
        mlc_str_init(&t.reply.body, call->reply_max != 0 ? call->reply_max : MLC_CALL_REPLY_MAX);
        mlc_str_init(&t.reply.headers, MLC_CALL_HEADERS_MAX);
        headers = make_headers(call);
        t.connect_to = make_connect_to(call);
        set_options(c, &t, headers);
        c->curl_error[0] = '\0';
        code = curl_easy_perform(c->curl);
        (void)curl_easy_getinfo(c->curl, CURLINFO_RESPONSE_CODE, &status);
        get_peer(c->curl, t.reply.peer);
        curl_easy_reset(c->curl); /* forgets what points into this frame */
        curl_slist_free_all(headers);
        curl_slist_free_all(t.connect_to);
        if (code == CURLE_OK && (status < 100 || status > 599)) {
                mlc_reply_done(&t.reply);
                return mlc_fail(err, MLC_E_UNREACHABLE, "'%s' answers with a status that is none",
                                call->url);
        }
        if (code != CURLE_OK) {
                int r = failed(c, &t, code, err);

                mlc_reply_done(&t.reply);
                return r;
        }
        t.reply.status = (int)status;
        *ret = t.reply;
        return 0;
}

static void cleanup_url(CURLU **u)
{
        curl_url_cleanup(*u);
}

static void curl_free_p(char **s)
{
        curl_free(*s);
}

static int bad_url(const char *url, const char *what, struct mlc_err *err)
{
        char shown[256];

        (void)snprintf(shown, sizeof(shown), "%.200s", url);
        return mlc_fail(err, MLC_E_INVALID, "'%s' %s; http://HOST:PORT is expected", shown, what);
}

int mlc_url_host_port(const char *url, char ret[MLC_HOST_PORT_MAX], struct mlc_err *err)
{
        _cleanup_(cleanup_url) CURLU *u = curl_url();
        _cleanup_(curl_free_p) char *host = NULL, *port = NULL, *user = NULL, *part = NULL;
        char text[MLC_HOST_PORT_MAX];
        int n;

        if (u == NULL)
                abort();
        for (const unsigned char *p = (const unsigned char *)url; *p != '\0'; p++)
                if (*p <= ' ' || *p >= 0x7f || *p == '\\')
                        return bad_url(url, "has a character that belongs in no address", err);
        if (strncasecmp(url, "http://", 7) != 0 && strncasecmp(url, "https://", 8) != 0)
                return bad_url(url, "is neither http nor https", err);
        if (curl_url_set(u, CURLUPART_URL, url, CURLU_PATH_AS_IS) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK ||
            curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) != CURLUE_OK)
                return bad_url(url, "is no address", err);
        if (curl_url_get(u, CURLUPART_USER, &user, 0) == CURLUE_OK)
                return bad_url(url, "has a user name", err);
        if (curl_url_get(u, CURLUPART_FRAGMENT, &part, 0) == CURLUE_OK)
                return bad_url(url, "has a fragment", err);
        n = snprintf(text, sizeof(text), "%s:%s", host, port);
        if (n < 0 || (size_t)n >= sizeof(text))
                return bad_url(url, "is too long", err);
        for (int i = 0; i <= n; i++)
                ret[i] = text[i] >= 'A' && text[i] <= 'Z' ? (char)(text[i] + 32) : text[i];
        return 0;
}

bool mlc_url_leads_to(const char *url, const char *address)
{
        const struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM};
        struct addrinfo *found = NULL;
        char host[MLC_HOST_PORT_MAX], text[INET6_ADDRSTRLEN], peer[MLC_PEER_MAX], *port, *name;
        struct mlc_err ignored = {0};
        bool leads = false;

        if (mlc_url_host_port(url, host, &ignored) < 0)
                return false;
        port = strrchr(host, ':');
        *port++ = '\0';
        name = host;
        if (*name == '[') {
                name++;
                name[strcspn(name, "]")] = '\0';
        }
        if (getaddrinfo(name, port, &hints, &found) != 0)
                return false;
        for (const struct addrinfo *a = found; a != NULL && !leads; a = a->ai_next) {
                if (getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
                                NI_NUMERICHOST) != 0)
                        continue;
                (void)snprintf(peer, sizeof(peer), a->ai_family == AF_INET6 ? "[%s]:%s" : "%s:%s",
                               text, port);
                leads = strcmp(peer, address) == 0;
        }
        freeaddrinfo(found);
        return leads;
}

static bool loopback_name(const char *host_port)
{
        const char *colon = strrchr(host_port, ':');
        size_t n = (size_t)(colon - host_port);
        struct in_addr a;
        char host[INET_ADDRSTRLEN];

        if ((n == 9 && memcmp(host_port, "localhost", 9) == 0) ||
            (n == 5 && memcmp(host_port, "[::1]", 5) == 0))
                return true;
        if (n >= sizeof(host))
                return false;
        memcpy(host, host_port, n);
        host[n] = '\0';
        return inet_pton(AF_INET, host, &a) == 1 && ntohl(a.s_addr) >> 24 == 127;
}

int mlc_egress_check(const char *const *allow, size_t n_allow, const char *url,
                     bool *ret_loopback_only, struct mlc_err *err)
{
        char host_port[MLC_HOST_PORT_MAX];
        int r = mlc_url_host_port(url, host_port, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < n_allow; i++)
                if (strcasecmp(allow[i], host_port) == 0) {
                        *ret_loopback_only = false;
                        return 0;
                }
        if (n_allow != 0 || !loopback_name(host_port))
                return mlc_fail(err, MLC_E_FORBIDDEN,
                                "the server may not call '%s'; allow it with --egress-allow %s",
                                host_port, host_port);
        *ret_loopback_only = true;
        return 0;
}

int mlc_egress_entry_check(const char *entry, struct mlc_err *err)
{
        char url[MLC_HOST_PORT_MAX + 8], host_port[MLC_HOST_PORT_MAX];
        const char *colon = strrchr(entry, ':');
        unsigned long long port;
        struct mlc_err inner = {0};

        (void)snprintf(url, sizeof(url), "http://%s", entry);
        if (strlen(entry) >= MLC_HOST_PORT_MAX || strpbrk(entry, "/?#@*,") != NULL ||
            colon == NULL || !mlc_parse_u64(colon + 1, &port) || port < 1 || port > 65535 ||
            mlc_url_host_port(url, host_port, &inner) < 0 || strcasecmp(entry, host_port) != 0)
                return mlc_fail(err, MLC_E_USAGE,
                                "'%.200s' is not HOST:PORT, as in models.example:8080", entry);
        return 0;
}
