/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>

#include "rollout/latency.h"
#include "rollout/mirror.h"
#include "stats/sketch.h"

/* Between mirror.c (sockets, what is watched) and mirror_ask.c, mirror_count.c. */

#define MIRROR_TEXT 512

/* What is watched, as a copy; counted while jobs refer to it. */
struct mirror_watched {
        char control[MIRROR_TEXT], route[MIRROR_TEXT], owner[32];
        json_t *checks; /* owned */
        bool mirror;
        char candidate_model[MIRROR_TEXT], candidate[MIRROR_TEXT];
        char stable_model[MIRROR_TEXT], stable[MIRROR_TEXT];
        int share;
        int64_t generation;
        /* Copies without answers, and those of them that were asked again or dropped; counted in
         * the first that takes copies of a route. */
        uint64_t submitted, copied;
};

/* A copied request with its answer, on its way to the candidate. */
struct mirror_job {
        struct mirror_watched w; /* `checks` is a reference of its own */
        uint64_t generation;
        char *request, *reply; /* malloc'ed; reply NULL: only the request was copied */
        size_t request_len, reply_len;
};

struct mirror {
        pthread_mutex_t lock;
        pthread_cond_t more;
        bool stop;
        int wake[2];
        pthread_t receiver, workers[MIRROR_WORKERS];
        unsigned n_workers;
        bool receiving;

        struct mirror_watched *watched;
        size_t n_watched;
        struct mirror_socket *sockets;
        size_t n_sockets;

        struct mirror_job queue[MIRROR_QUEUE];
        size_t first, n_queued;

        json_t *counts; /* {OWNER: {"CONTROL GENERATION SOURCE": increment}} */
        uint64_t received, dropped, asked, failed, unanswered;
};

/* --- counting (mirror_count.c); the lock is held --- */

/* The increment that counts for this owner, gateway, generation and source; borrowed. */
json_t *mirror_increment(struct mirror *t, const struct mirror_watched *w, uint64_t generation,
                         const char *source);
/* What a reply predicts: a class, or a number. Nothing when it is no answer of the protocol. */
void mirror_count_reply(json_t *increment, const char *variant, const json_t *reply);
void mirror_add(json_t *object, const char *key, json_int_t n); /* object[key] += n */
json_t *mirror_child(json_t *object, const char *key); /* object[key], made when absent */

/* --- asking again (mirror_ask.c) --- */

void *mirror_work(void *userdata);
void mirror_job_done(struct mirror_job *j);
