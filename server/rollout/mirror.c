/* SPDX-License-Identifier: Apache-2.0 */
/* Sockets that gateways send copies to, and what is watched. */
#include "rollout/mirror.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"
#include "base/str.h"
#include "rollout/mirror_internal.h"
#include "rollout/tap.h"

#define SOCKETS_MAX 64
#define SHARES 10000 /* what a share is of */
#define RECEIVE_BUFFER (4 << 20)

struct mirror_socket {
        char control[MIRROR_TEXT];
        struct sockaddr_un address;
        struct stat file; /* of the path, while it is ours */
        int fd;
};

/* --- sockets --- */

/* "unix:/run/mlctl/gateway.sock" → "/run/mlctl/tap.sock" */
static bool address_of(const char *control, struct sockaddr_un *ret)
{
        const char *path = mlc_starts_with(control, "unix:") ? control + 5 : control;
        const char *slash = strrchr(path, '/');
        int n;

        *ret = (struct sockaddr_un){.sun_family = AF_UNIX};
        if (slash == NULL)
                return false;
        n = snprintf(ret->sun_path, sizeof(ret->sun_path), "%.*s/tap.sock", (int)(slash - path),
                     path);
        return n > 0 && (size_t)n < sizeof(ret->sun_path);
}

static void close_socket(struct mirror_socket *s)
{
        struct stat now;

        (void)close(s->fd);
        if (lstat(s->address.sun_path, &now) == 0 && now.st_dev == s->file.st_dev &&
            now.st_ino == s->file.st_ino) /* not that of whoever leads now */
                (void)unlink(s->address.sun_path);
}

/* Who may send is what the folder's rights say. */
static bool open_socket(const char *control, struct mirror_socket *ret)
{
        struct mirror_socket s = {.fd = -1};
        int size = RECEIVE_BUFFER;

        (void)snprintf(s.control, sizeof(s.control), "%s", control);
        if (!address_of(control, &s.address))
                return false;
        s.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (s.fd < 0)
                return false;
        (void)setsockopt(s.fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
        (void)unlink(s.address.sun_path);
        if (bind(s.fd, (const struct sockaddr *)&s.address, sizeof(s.address)) < 0 ||
            chmod(s.address.sun_path, 0666) < 0 || lstat(s.address.sun_path, &s.file) < 0) {
                log_warn(NULL, "tap.bind_failed", KV_STR("path", s.address.sun_path),
                         KV_STR("why", strerrorname_np(errno)));
                (void)close(s.fd);
                return false;
        }
        *ret = s;
        return true;
}

static bool in_use(const struct mirror *t, const char *control)
{
        for (size_t i = 0; i < t->n_watched; i++)
                if (t->watched[i].share == 0 && mlc_streq(t->watched[i].control, control))
                        return true;
        return false;
}

static bool is_open(const struct mirror *t, const char *control)
{
        for (size_t i = 0; i < t->n_sockets; i++)
                if (mlc_streq(t->sockets[i].control, control))
                        return true;
        return false;
}

static void tend_sockets(struct mirror *t)
{
        for (size_t i = t->n_sockets; i-- > 0;) {
                if (in_use(t, t->sockets[i].control))
                        continue;
                close_socket(&t->sockets[i]);
                t->sockets[i] = t->sockets[--t->n_sockets];
        }
        for (size_t i = 0; i < t->n_watched && t->n_sockets < SOCKETS_MAX; i++)
                if (t->watched[i].share == 0 && !is_open(t, t->watched[i].control) &&
                    open_socket(t->watched[i].control, &t->sockets[t->n_sockets]))
                        t->n_sockets++;
}

/* --- receiving --- */

static const struct mirror_watched *find(const struct mirror *t, const char *control,
                                         const struct mlc_tap *record)
{
        for (size_t i = 0; i < t->n_watched; i++)
                if (t->watched[i].share == 0 && mlc_streq(t->watched[i].control, control) &&
                    strlen(t->watched[i].route) == record->route_len &&
                    memcmp(t->watched[i].route, record->route, record->route_len) == 0)
                        return &t->watched[i];
        return NULL;
}

static char *copy(const char *data, size_t len)
{
        char *c = malloc(len + 1);

        if (c == NULL)
                abort();
        memcpy(c, data, len);
        c[len] = '\0';
        return c;
}

static void enqueue(struct mirror *t, const struct mirror_watched *w, const struct mlc_tap *record)
{
        struct mirror_job *j = &t->queue[(t->first + t->n_queued) % MIRROR_QUEUE];

        if (t->n_queued == MIRROR_QUEUE) {
                t->dropped++;
                return;
        }
        *j = (struct mirror_job){
                .w = *w,
                .generation = record->generation,
                .request = copy(record->request, record->request_len),
                .request_len = record->request_len,
                .reply = record->reply != NULL ? copy(record->reply, record->reply_len) : NULL,
                .reply_len = record->reply_len};
        json_incref(j->w.checks);
        t->n_queued++;
        (void)pthread_cond_signal(&t->more);
}

/* A whole reply is counted; in a mirror step what stable was asked is asked again. */
static void look_at(struct mirror *t, const char *control, const struct mlc_tap *record)
{
        const struct mirror_watched *w = find(t, control, record);
        _cleanup_(json_decref_p) json_t *reply = NULL;
        struct mlc_err ignored = {0};
        char variant[MIRROR_TEXT];

        t->received++;
        if (w == NULL || record->flags != 0 || record->status != 200)
                return;
        (void)snprintf(variant, sizeof(variant), "%.*s", (int)record->variant_len, record->variant);
        if (w->mirror) {
                if (mlc_streq(variant, "stable"))
                        enqueue(t, w, record);
                return;
        }
        if (mlc_json_parse(record->reply, record->reply_len, &reply, &ignored) == 0)
                mirror_count_reply(mirror_increment(t, w, record->generation, "live"), variant,
                                   reply);
}

/* Everything that waits on one socket. */
static void drain(struct mirror *t, const struct mirror_socket *s, char *buffer)
{
        for (int i = 0; i < 256; i++) {
                ssize_t n = recv(s->fd, buffer, MLC_TAP_MAX, MSG_DONTWAIT);
                struct mlc_err ignored = {0};
                struct mlc_tap record;

                if (n <= 0)
                        return;
                if (mlc_tap_parse(buffer, (size_t)n, &record, &ignored) == 0)
                        look_at(t, s->control, &record);
        }
}

static void *receive(void *userdata)
{
        struct mirror *t = userdata;
        char *buffer = malloc(MLC_TAP_MAX);

        while (buffer != NULL) {
                struct pollfd fds[SOCKETS_MAX + 1] = {{.fd = t->wake[0], .events = POLLIN}};
                size_t n;
                bool stop;
                char byte;

                (void)pthread_mutex_lock(&t->lock);
                n = t->n_sockets;
                for (size_t i = 0; i < n; i++)
                        fds[i + 1] = (struct pollfd){.fd = t->sockets[i].fd, .events = POLLIN};
                stop = t->stop;
                (void)pthread_mutex_unlock(&t->lock);
                if (stop)
                        break;
                (void)poll(fds, (nfds_t)n + 1, 1000);
                if ((fds[0].revents & POLLIN) != 0)
                        (void)!read(t->wake[0], &byte, 1);
                (void)pthread_mutex_lock(&t->lock);
                for (size_t i = 0; i < t->n_sockets; i++)
                        drain(t, &t->sockets[i], buffer);
                (void)pthread_mutex_unlock(&t->lock);
        }
        free(buffer);
        return NULL;
}

/* --- copies of requests alone --- */

/* "/v2/models/fraud/infer" → "fraud", not terminated; 0 for anything else. */
static size_t route_of(const char *path, const char **ret)
{
        static const char head[] = "/v2/models/";
        size_t len;

        if (!mlc_starts_with(path, head))
                return 0;
        *ret = path + strlen(head);
        len = strcspn(*ret, "/");
        return mlc_streq(*ret + len, "/infer") ? len : 0;
}

static bool takes(const struct mirror_watched *w, const char *route, size_t len)
{
        return w->share > 0 && strlen(w->route) == len && memcmp(w->route, route, len) == 0;
}

/* Who takes copies of the route: the first, and how many. */
static struct mirror_watched *first_of(const struct mirror *t, const char *route, size_t len,
                                       size_t *ret_n)
{
        struct mirror_watched *first = NULL;

        for (size_t i = 0; i < t->n_watched; i++) {
                if (!takes(&t->watched[i], route, len))
                        continue;
                if (first == NULL)
                        first = &t->watched[i];
                ++*ret_n;
        }
        return first;
}

/* Of several targets that serve the route the next one in turn: who copies does not say which
 * answered. Turns are those of copies that are asked again, or a share could always meet the same
 * target. */
static const struct mirror_watched *next_of(const struct mirror *t,
                                            const struct mirror_watched *first, size_t n)
{
        const struct mirror_watched *w = first;

        for (size_t skip = first->copied % n; skip > 0; skip--)
                do
                        w++;
                while (!takes(w, first->route, strlen(first->route)));
        assert(w < t->watched + t->n_watched);
        return w;
}

/* The first of every so many, so that exactly the share is taken. */
static bool sampled(uint64_t number, int share)
{
        return number * (uint64_t)share % SHARES < (uint64_t)share;
}

void mirror_submit(struct mirror *t, const char *path, const char *body, size_t len)
{
        const char *route = NULL;
        size_t route_len = route_of(path, &route), n = 0;
        struct mirror_watched *first;

        (void)pthread_mutex_lock(&t->lock);
        t->received++;
        first = route_len > 0 ? first_of(t, route, route_len, &n) : NULL;
        if (first != NULL) {
                const struct mirror_watched *w = next_of(t, first, n);
                const struct mlc_tap record = {.generation = (uint64_t)w->generation,
                                               .request = body,
                                               .request_len = (uint32_t)len};

                if (sampled(first->submitted++, w->share)) {
                        first->copied++;
                        if (body != NULL)
                                enqueue(t, w, &record);
                        else
                                t->dropped++;
                }
        }
        (void)pthread_mutex_unlock(&t->lock);
}

/* --- what is watched --- */

static void forget(struct mirror_watched *watched, size_t n)
{
        for (size_t i = 0; i < n; i++)
                json_decref(watched[i].checks);
        free(watched);
}

/* What was sampled of a route goes on with whoever is its first now. */
static void keep_turns(struct mirror_watched *w, const struct mirror_watched *old, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (takes(&old[i], w->route, strlen(w->route))) {
                        w->submitted = old[i].submitted;
                        w->copied = old[i].copied;
                        return;
                }
}

/* Counts of whom nobody looks at any more are asked for by nobody. */
static void drop_counts(struct mirror *t)
{
        const char *owner;
        json_t *of;
        void *next;

        json_object_foreach_safe (t->counts, next, owner, of) {
                bool watched = false;

                for (size_t i = 0; i < t->n_watched && !watched; i++)
                        watched = mlc_streq(t->watched[i].owner, owner);
                if (!watched)
                        (void)json_object_del(t->counts, owner);
        }
}

static bool is_watched(const struct mirror *t, const struct mirror_job *j)
{
        for (size_t i = 0; i < t->n_watched; i++)
                if (mlc_streq(t->watched[i].owner, j->w.owner) && t->watched[i].mirror)
                        return true;
        return false;
}

/* Copies of a step that is over are asked of nobody any more. */
static void clear_queue(struct mirror *t)
{
        size_t n = t->n_queued, kept = 0;

        for (size_t i = 0; i < n; i++) {
                struct mirror_job *j = &t->queue[(t->first + i) % MIRROR_QUEUE];
                struct mirror_job *to = &t->queue[(t->first + kept) % MIRROR_QUEUE];

                if (!is_watched(t, j)) {
                        mirror_job_done(j);
                        t->dropped++;
                        continue;
                }
                if (to != j) {
                        *to = *j;
                        *j = (struct mirror_job){0};
                }
                kept++;
        }
        t->n_queued = kept;
}

static void text(char ret[MIRROR_TEXT], const char *from)
{
        (void)snprintf(ret, MIRROR_TEXT, "%s", from != NULL ? from : "");
}

void mirror_watch(struct mirror *t, const struct mirror_route *routes, size_t n)
{
        struct mirror_watched *old;
        size_t n_old;

        (void)pthread_mutex_lock(&t->lock);
        old = t->watched;
        n_old = t->n_watched;
        t->n_watched = 0;
        t->watched = calloc(n + 1, sizeof(*t->watched));
        if (t->watched == NULL)
                abort();
        for (size_t i = 0; i < n; i++) {
                struct mirror_watched *w = &t->watched[t->n_watched++];

                text(w->control, routes[i].control);
                text(w->route, routes[i].route);
                (void)snprintf(w->owner, sizeof(w->owner), "%s", routes[i].owner);
                w->checks = json_deep_copy(routes[i].checks);
                w->mirror = routes[i].mirror;
                w->share = routes[i].share;
                w->generation = routes[i].generation;
                text(w->candidate_model, routes[i].candidate_model);
                text(w->candidate, routes[i].candidate);
                text(w->stable_model, routes[i].stable_model);
                text(w->stable, routes[i].stable);
                keep_turns(w, old, n_old);
        }
        forget(old, n_old);
        tend_sockets(t);
        clear_queue(t);
        drop_counts(t);
        (void)pthread_mutex_unlock(&t->lock);
        (void)!write(t->wake[1], "", 1);
}

/* --- life --- */

int mirror_new(struct mirror **ret, struct mlc_err *err)
{
        struct mirror *t = calloc(1, sizeof(*t));

        if (t == NULL)
                abort();
        (void)pthread_mutex_init(&t->lock, NULL);
        (void)pthread_cond_init(&t->more, NULL);
        t->counts = json_object();
        t->sockets = calloc(SOCKETS_MAX, sizeof(*t->sockets));
        if (t->sockets == NULL)
                abort();
        if (pipe2(t->wake, O_CLOEXEC | O_NONBLOCK) < 0) {
                t->wake[0] = t->wake[1] = -1;
                mirror_free(t);
                return mlc_fail(err, MLC_E_IO, "no pipe can be opened");
        }
        t->receiving = pthread_create(&t->receiver, NULL, receive, t) == 0;
        while (t->n_workers < MIRROR_WORKERS &&
               pthread_create(&t->workers[t->n_workers], NULL, mirror_work, t) == 0)
                t->n_workers++;
        if (!t->receiving || t->n_workers == 0) {
                mirror_free(t);
                return mlc_fail(err, MLC_E_IO, "no thread can be started");
        }
        *ret = t;
        return 0;
}

void mirror_free(struct mirror *t)
{
        if (t == NULL)
                return;
        (void)pthread_mutex_lock(&t->lock);
        t->stop = true;
        (void)pthread_cond_broadcast(&t->more);
        (void)pthread_mutex_unlock(&t->lock);
        (void)!write(t->wake[1], "", 1);
        if (t->receiving)
                (void)pthread_join(t->receiver, NULL);
        for (unsigned i = 0; i < t->n_workers; i++)
                (void)pthread_join(t->workers[i], NULL);
        while (t->n_queued > 0) {
                mirror_job_done(&t->queue[t->first]);
                t->first = (t->first + 1) % MIRROR_QUEUE;
                t->n_queued--;
        }
        for (size_t i = 0; i < t->n_sockets; i++)
                close_socket(&t->sockets[i]);
        forget(t->watched, t->n_watched);
        free(t->sockets);
        json_decref(t->counts);
        (void)close(t->wake[0]);
        (void)close(t->wake[1]);
        (void)pthread_mutex_destroy(&t->lock);
        (void)pthread_cond_destroy(&t->more);
        free(t);
}
