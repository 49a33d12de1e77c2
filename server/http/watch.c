/* SPDX-License-Identifier: Apache-2.0 */
#include "http/watch.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <stddef.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/limits.h"

#define SWEEP_MS 500
#define SAMPLE_MS (HTTP_RATE_WINDOW_MS / (WATCH_SAMPLES - 1))
#define WINDOW_BYTES ((uint64_t)HTTP_RATE_MIN * HTTP_RATE_WINDOW_MS / 1000)

void watch_init(struct watch *w, const struct watch_limits *limits)
{
        pthread_condattr_t attr;

        *w = (struct watch){.limits = *limits};
        (void)pthread_mutex_init(&w->lock, NULL);
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&w->wake, &attr);
        (void)pthread_condattr_destroy(&attr);
}

void watch_done(struct watch *w)
{
        assert(!w->running && w->first == NULL);
        (void)pthread_cond_destroy(&w->wake);
        (void)pthread_mutex_destroy(&w->lock);
}

static void lock(struct watch *w)
{
        (void)pthread_mutex_lock(&w->lock);
}

static void unlock(struct watch *w)
{
        (void)pthread_mutex_unlock(&w->lock);
}

/* The descriptor stays open until watch_remove(), which libmicrohttpd calls before it closes. */
static void cut(struct watch_conn *c, atomic_ulong *counter, const char *why)
{
        if (c->cut)
                return;
        c->cut = true;
        (void)atomic_fetch_add(counter, 1);
        (void)shutdown(c->fd, SHUT_RDWR);
        log_info(NULL, "http.cut", KV_STR("peer", c->peer), KV_STR("why", why));
}

static void peer_name(struct watch_conn *c, const struct sockaddr *peer)
{
        const struct sockaddr_in *v4 = (const void *)peer;
        const struct sockaddr_in6 *v6 = (const void *)peer;

        if (peer != NULL && peer->sa_family == AF_INET)
                (void)inet_ntop(AF_INET, &v4->sin_addr, c->peer, sizeof(c->peer));
        else if (peer != NULL && peer->sa_family == AF_INET6)
                (void)inet_ntop(AF_INET6, &v6->sin6_addr, c->peer, sizeof(c->peer));
        c->exempt = strcmp(c->peer, "127.0.0.1") == 0 || strcmp(c->peer, "::1") == 0 ||
                    strcmp(c->peer, "::ffff:127.0.0.1") == 0;
}

/* The one that has kept us waiting longest, and at least for min_ms; of one address or of all. */
static struct watch_conn *oldest_waiting(struct watch *w, const struct watch_conn *except,
                                         const char *peer, int64_t min_ms)
{
        int64_t since = mlc_monotonic_ms() - min_ms;
        struct watch_conn *found = NULL;

        for (struct watch_conn *c = w->first; c != NULL; c = c->next) {
                if (c == except || c->cut || c->state != WATCH_HEAD || c->since_ms > since ||
                    (peer != NULL && strcmp(c->peer, peer) != 0))
                        continue;
                if (found == NULL || c->since_ms < found->since_ms)
                        found = c;
        }
        return found;
}

static unsigned count_live(const struct watch *w, const char *peer)
{
        unsigned n = 0;

        for (const struct watch_conn *c = w->first; c != NULL; c = c->next)
                n += !c->cut && (peer == NULL || strcmp(c->peer, peer) == 0);
        return n;
}

/*
 * A head that is on its way gets HTTP_PATIENCE_MS before its place can go to another, unless there
 * is no other place.
 */
static void make_room(struct watch *w, struct watch_conn *c)
{
        struct watch_conn *victim;
        unsigned live;

        if (!c->exempt && count_live(w, c->peer) > w->limits.per_address) {
                victim = oldest_waiting(w, c, c->peer, HTTP_PATIENCE_MS);
                c->crowded = victim == NULL;
                if (victim != NULL)
                        cut(victim, &w->cut_room, "its address has too many connections");
        }
        live = count_live(w, NULL);
        if (live > w->limits.soft) {
                victim = oldest_waiting(w, c, NULL, live > w->limits.hard ? 0 : HTTP_PATIENCE_MS);
                if (victim != NULL)
                        cut(victim, &w->cut_room, "its place is needed");
                else if (live > w->limits.hard)
                        cut(c, &w->cut_room, "every place is taken by a request");
        }
}

struct watch_conn *watch_add(struct watch *w, int fd, const struct sockaddr *peer)
{
        struct watch_conn *c = calloc(1, sizeof(*c));
        unsigned dying;

        assert(c != NULL);
        c->fd = fd;
        c->since_ms = mlc_monotonic_ms();
        peer_name(c, peer);
        (void)atomic_fetch_add(&w->accepted, 1);
        lock(w);
        c->next = w->first;
        if (w->first != NULL)
                w->first->prev = c;
        w->first = c;
        w->n++;
        make_room(w, c);
        dying = w->n - count_live(w, NULL);
        unlock(w);
        if (dying > w->limits.soft / 2)
                mlc_sleep_ms(1); /* the accepting thread: let those that were cut end */
        return c;
}

void watch_remove(struct watch *w, struct watch_conn *c)
{
        lock(w);
        if (c->prev != NULL)
                c->prev->next = c->next;
        else
                w->first = c->next;
        if (c->next != NULL)
                c->next->prev = c->prev;
        w->n--;
        if (c->state != WATCH_HEAD)
                w->n_active--;
        unlock(w);
        free(c);
}

static void enter(struct watch_conn *c, enum watch_state state)
{
        c->state = state;
        c->since_ms = mlc_monotonic_ms();
        c->n_samples = 0;
        c->sampled_ms = 0;
}

enum watch_verdict watch_head(struct watch *w, struct watch_conn *c)
{
        enum watch_verdict verdict = WATCH_SERVE;

        lock(w);
        assert(c->state == WATCH_HEAD);
        w->n_active++;
        atomic_store(&c->received, 0);
        enter(c, WATCH_BODY);
        if (w->n_active > w->limits.soft)
                verdict = WATCH_FULL;
        else if (c->crowded && count_live(w, c->peer) > w->limits.per_address)
                verdict = WATCH_CROWDED;
        if (verdict != WATCH_SERVE)
                (void)atomic_fetch_add(&w->refused, 1);
        unlock(w);
        return verdict;
}

void watch_enter(struct watch *w, struct watch_conn *c, enum watch_state state)
{
        assert(state != WATCH_HEAD);
        lock(w);
        enter(c, state);
        unlock(w);
}

void watch_idle(struct watch *w, struct watch_conn *c)
{
        lock(w);
        if (c->state != WATCH_HEAD)
                w->n_active--;
        enter(c, WATCH_HEAD);
        if (w->draining)
                (void)shutdown(c->fd, SHUT_RD);
        unlock(w);
}

void watch_drain(struct watch *w)
{
        lock(w);
        w->draining = true;
        for (struct watch_conn *c = w->first; c != NULL; c = c->next)
                if (c->state == WATCH_HEAD)
                        (void)shutdown(c->fd, SHUT_RD);
        unlock(w);
}

unsigned watch_active(struct watch *w)
{
        unsigned n;

        lock(w);
        n = w->n_active;
        unlock(w);
        return n;
}

/* Bytes that the client has taken in all, as its kernel acknowledged them; false when it has them
 * all and waits for us. */
static bool reply_progress(const struct watch_conn *c, uint64_t *ret)
{
        struct tcp_info info = {0};
        socklen_t len = sizeof(info);

        if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &len) < 0 ||
            len < offsetof(struct tcp_info, tcpi_notsent_bytes) + sizeof(info.tcpi_notsent_bytes))
                return false;
        *ret = info.tcpi_bytes_acked;
        return info.tcpi_unacked > 0 || info.tcpi_notsent_bytes > 0;
}

/* True when less than the least came through in the window that ends now. */
static bool too_slow(struct watch_conn *c, int64_t now_ms)
{
        uint64_t n = atomic_load(&c->received);
        bool blame = c->state == WATCH_BODY ? !atomic_load(&c->busy) : reply_progress(c, &n);

        if (!blame) {
                c->n_samples = 0;
                return false;
        }
        if (c->n_samples > 0 && now_ms - c->sampled_ms < SAMPLE_MS)
                return false;
        if (c->n_samples == WATCH_SAMPLES) {
                memmove(c->sample, c->sample + 1, sizeof(c->sample) - sizeof(c->sample[0]));
                c->n_samples--;
        }
        c->sample[c->n_samples++] = n;
        c->sampled_ms = now_ms;
        return c->n_samples == WATCH_SAMPLES && n - c->sample[0] < WINDOW_BYTES;
}

void watch_sweep(struct watch *w, int64_t now_ms)
{
        lock(w);
        for (struct watch_conn *c = w->first; c != NULL; c = c->next) {
                if (c->state == WATCH_HEAD && now_ms - c->since_ms > HTTP_HEAD_MS_MAX)
                        cut(c, &w->cut_head, "no request head arrived in time");
                else if (c->state == WATCH_BODY && too_slow(c, now_ms))
                        cut(c, &w->cut_body, "the body arrives too slowly");
                else if (c->state == WATCH_REPLY && too_slow(c, now_ms))
                        cut(c, &w->cut_reply, "the reply is taken too slowly");
        }
        unlock(w);
}

static void *run(void *userdata)
{
        struct watch *w = userdata;
        struct timespec until;
        bool stop = false;

        while (!stop) {
                watch_sweep(w, mlc_monotonic_ms());
                lock(w);
                (void)clock_gettime(CLOCK_MONOTONIC, &until);
                until.tv_nsec += SWEEP_MS * 1000000L;
                until.tv_sec += until.tv_nsec / 1000000000L;
                until.tv_nsec %= 1000000000L;
                if (!w->stopping)
                        (void)pthread_cond_timedwait(&w->wake, &w->lock, &until);
                stop = w->stopping;
                unlock(w);
        }
        return NULL;
}

int watch_start(struct watch *w)
{
        int r = pthread_create(&w->thread, NULL, run, w);

        w->running = r == 0;
        return r;
}

void watch_stop(struct watch *w)
{
        if (!w->running)
                return;
        lock(w);
        w->stopping = true;
        (void)pthread_cond_signal(&w->wake);
        unlock(w);
        (void)pthread_join(w->thread, NULL);
        w->running = false;
}
