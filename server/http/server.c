/* SPDX-License-Identifier: Apache-2.0 */
#include "http/server.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "crypto/random.h"
#include "http/http.h"
#include "http/limits.h"
#include "http/listener.h"
#include "http/metrics_store.h"

#define CURSOR_KEY_FILE "keys/cursor.key"
#define DRAIN_STEP_MS 20
/* The library's cap closes connections without a word, and counts those that are ending; ours is
 * below it. */
#define LIBRARY_CAP(hard) (2 * (hard) + 64)

/* Written beside and linked into place, so that of several servers that start at once one key wins.
 */
static int make_key(const char *path, struct mlc_err *err)
{
        unsigned char key[CURSOR_KEY_LEN];
        char tmp[PATH_MAX];
        int r;

        mlc_random_bytes(key, sizeof(key));
        (void)snprintf(tmp, sizeof(tmp), "%s.%ld", path, (long)getpid());
        r = mlc_write_file_atomic(tmp, key, sizeof(key), 0600, err);
        if (r < 0)
                return r;
        r = link(tmp, path) < 0 && errno != EEXIST ? mlc_fail_errno(err, "making", path) : 0;
        (void)unlink(tmp);
        return r;
}

static int load_key(const char *data, struct cursor_key *ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        char path[PATH_MAX];
        size_t len;
        int r;

        (void)snprintf(path, sizeof(path), "%s/keys", data);
        r = mlc_mkdirs(path, 0700, err);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/" CURSOR_KEY_FILE, data);
        if (access(path, F_OK) < 0 && errno == ENOENT) {
                r = make_key(path, err);
                if (r < 0)
                        return r;
        }
        r = mlc_read_file(path, CURSOR_KEY_LEN, &text, &len, err);
        if (r < 0)
                return r;
        if (len != CURSOR_KEY_LEN)
                return mlc_fail(err, MLC_E_INVALID, "'%s' is not a key of %d bytes; remove it",
                                path, CURSOR_KEY_LEN);
        memcpy(ret->b, text, CURSOR_KEY_LEN);
        return 0;
}

static void http_free(struct http **h)
{
        if (*h == NULL)
                return;
        http_daemon_stop(*h);
        watch_stop(&(*h)->watch);
        watch_done(&(*h)->watch);
        if ((*h)->listen_fd >= 0)
                (void)close((*h)->listen_fd);
        api_patterns_done(&(*h)->patterns);
        metrics_free((*h)->metrics);
        free(*h);
        *h = NULL;
}

static struct http *http_new(struct app *app, unsigned hard)
{
        struct http *h = calloc(1, sizeof(*h));
        const struct watch_limits limits = {
                .soft = hard - (hard / 8 > 4 ? hard / 8 : 4),
                .hard = hard,
                .per_address = hard / 2,
        };

        assert(h != NULL);
        h->app = app;
        h->listen_fd = -1;
        h->polls_max = limits.soft / 2;
        h->metrics = metrics_new();
        watch_init(&h->watch, &limits);
        return h;
}

int http_start(struct app *app, struct mlc_err *err)
{
        _cleanup_(http_free) struct http *h = NULL;
        unsigned hard = app->config.max_connections > 0 ? (unsigned)app->config.max_connections
                                                        : HTTP_CONNECTIONS_DEFAULT;
        int r;

        assert(app->http == NULL);
        if (hard < 16)
                return mlc_fail(err, MLC_E_USAGE, "at least 16 connections are needed");
        h = http_new(app, hard);
        r = load_key(app->config.data, &h->cursor_key, err);
        if (r < 0)
                return r;
        r = api_patterns_init(&h->patterns, gen_patterns, gen_n_patterns, err);
        if (r < 0)
                return r;
        r = http_listen(app->config.listen, &h->listen_fd, h->address, err);
        if (r < 0)
                return r;
        r = watch_start(&h->watch);
        if (r != 0)
                return mlc_fail(err, MLC_E_INTERNAL, "starting a thread: %s", strerror(r));
        app->http = h; /* before the first request can arrive */
        r = http_daemon_start(h, LIBRARY_CAP(hard), err);
        if (r < 0) {
                app->http = NULL;
                return r;
        }
        log_info(NULL, "http.listening", KV_STR("address", h->address),
                 KV_INT("connections", hard));
        h = NULL;
        return 0;
}

const char *http_address(const struct app *app)
{
        return app->http->address;
}

void http_drain(struct app *app, int64_t timeout_ms)
{
        int64_t until = mlc_monotonic_ms() + timeout_ms;

        if (app->http == NULL)
                return;
        atomic_store(&app->http->draining, true);
        watch_drain(&app->http->watch);
        while (watch_active(&app->http->watch) > 0 && mlc_monotonic_ms() < until)
                mlc_sleep_ms(DRAIN_STEP_MS);
        http_daemon_quiesce(app->http); /* not earlier: who connects would wait for nothing */
}

void http_stop(struct app *app)
{
        http_free(&app->http);
}

bool http_draining(const struct mlc_ctx *ctx)
{
        return atomic_load(&ctx->app->http->draining);
}

const struct api_patterns *http_patterns(const struct http *h)
{
        return &h->patterns;
}

struct metrics_store *http_metrics(struct http *h)
{
        return h->metrics;
}

const struct cursor_key *http_cursor_key(const struct app *app)
{
        return &app->http->cursor_key;
}

bool http_poll_begin(struct http *h)
{
        if (atomic_fetch_add(&h->polls, 1) < h->polls_max)
                return true;
        (void)atomic_fetch_sub(&h->polls, 1);
        return false;
}

void http_poll_end(struct http *h)
{
        (void)atomic_fetch_sub(&h->polls, 1);
}

void http_write_numbers(struct http *h, struct metrics_out *out)
{
        static const char NAME[] = "mlctl_http_cut_total", HELP[] = "Connections cut, by reason.";
        struct watch *w = &h->watch;
        unsigned n, active = watch_active(w);

        (void)pthread_mutex_lock(&w->lock);
        n = w->n;
        (void)pthread_mutex_unlock(&w->lock);
        metrics_gauge(out, "mlctl_http_connections", "Open connections.", NULL, n);
        metrics_gauge(out, "mlctl_http_active", "Requests being read, served or answered.", NULL,
                      active);
        metrics_gauge(out, "mlctl_http_long_polls", "Requests that wait for something.", NULL,
                      atomic_load(&h->polls));
        metrics_counter(out, "mlctl_http_accepted_total", "Connections accepted.", NULL,
                        (double)atomic_load(&w->accepted));
        metrics_counter(out, "mlctl_http_refused_total", "Requests refused because of a cap.", NULL,
                        (double)atomic_load(&w->refused));
        metrics_counter(out, NAME, HELP, "reason=\"head\"", (double)atomic_load(&w->cut_head));
        metrics_counter(out, NAME, HELP, "reason=\"body\"", (double)atomic_load(&w->cut_body));
        metrics_counter(out, NAME, HELP, "reason=\"reply\"", (double)atomic_load(&w->cut_reply));
        metrics_counter(out, NAME, HELP, "reason=\"room\"", (double)atomic_load(&w->cut_room));
        metrics_write(h->metrics, out);
}
