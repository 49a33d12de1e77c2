/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

#include "cli.h"

/*
 * A wait that may be ended by SIGTERM, SIGINT or SIGHUP: what was asked for stays, and that is said
 * on stderr before the process dies of the signal. One at a time; not for commands with children.
 */
struct pending {
        pthread_t thread;
        pthread_mutex_t lock; /* of id */
        char id[64]; /* promotion; empty while the request has no answer */
        bool running;
        sigset_t before;
};

int pending_start(struct cli *cli, struct pending *p) MLC_CHECK;
void pending_name(struct pending *p, const char *id);
void pending_stop(struct pending *p); /* nothing when it was not started; for _cleanup_ */
