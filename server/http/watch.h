/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define WATCH_PEER_MAX 46
#define WATCH_SAMPLES 7 /* ten seconds apart: the first and the last span a window */

/*
 * The list of connections, and a thread that cuts those that are too slow. libmicrohttpd's own
 * timeout counts only inactivity, so that a byte now and then would hold a thread for ever. A cut
 * is shutdown(2) of the socket: the connection's thread notices and ends. All calls are
 * thread-safe.
 */
enum watch_state {
        WATCH_HEAD, /* a head is awaited: a new or an idle connection, or part of a head */
        WATCH_BODY,
        WATCH_HANDLER,
        WATCH_REPLY,
};

struct http_request;

struct watch_conn {
        struct watch_conn *prev, *next;
        int fd;
        char peer[WATCH_PEER_MAX];
        bool exempt; /* from the cap on one address: a proxy on this machine speaks for many */
        bool crowded; /* its address is over the cap */
        bool cut;
        enum watch_state state;
        int64_t since_ms; /* in this state */
        atomic_ullong received; /* of the body */
        struct http_request *head; /* the connection's thread's: known so far by its target only */
        atomic_bool busy; /* the server works on what arrived: the client is not to blame */
        uint64_t sample[WATCH_SAMPLES];
        unsigned n_samples;
        int64_t sampled_ms;
};

struct watch_limits {
        unsigned soft; /* active requests; with more connections than that, who has waited long is
                          cut */
        unsigned hard; /* connections; with more, the longest waiting is cut though it has just come
                        */
        unsigned per_address;
};

struct watch {
        pthread_mutex_t lock;
        pthread_cond_t wake;
        pthread_t thread;
        bool running, stopping, draining;
        struct watch_limits limits;
        struct watch_conn *first;
        unsigned n, n_active; /* connections; those not in WATCH_HEAD */
        atomic_ulong accepted, cut_head, cut_body, cut_reply, cut_room, refused;
};

void watch_init(struct watch *w, const struct watch_limits *limits);
int watch_start(struct watch *w); /* 0, or an errno */
void watch_stop(struct watch *w); /* joins the thread; idempotent */
void watch_done(struct watch *w); /* no connections are left */

struct watch_conn *watch_add(struct watch *w, int fd, const struct sockaddr *peer);
void watch_remove(struct watch *w, struct watch_conn *c); /* frees it */

enum watch_verdict { WATCH_SERVE, WATCH_FULL, WATCH_CROWDED };
/* A head has arrived: may it be served? In any case the connection counts as active until
 * watch_idle(). */
enum watch_verdict watch_head(struct watch *w, struct watch_conn *c);
void watch_enter(struct watch *w, struct watch_conn *c, enum watch_state state);
void watch_idle(struct watch *w, struct watch_conn *c);

/* Cuts connections that await a head, now and from now on. */
void watch_drain(struct watch *w);
unsigned watch_active(struct watch *w);
/* One look at every connection at the time now_ms; the thread's work, apart for tests. */
void watch_sweep(struct watch *w, int64_t now_ms);
