/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "cli.h"
#include "client/push.h"

/*
 * One line on stderr, redrawn at most ten times a second: what, how much, rate, time left. Draws
 * nothing unless stderr is a terminal. Thread-safe; each phase replaces the one before.
 */
struct progress {
        struct cli *cli;
        pthread_mutex_t lock;
        /* under lock */
        const char *what;
        uint64_t done, total;
        int64_t began_ms, drawn_ms;
};

void progress_init(struct progress *p, struct cli *cli);
void progress_done(struct progress *p); /* clears the line; for _cleanup_ */
/* The callbacks for transfers; p must outlive them. */
struct mlc_meter progress_meter(struct progress *p);

/* The line's text, for `seconds_ms` since the phase began: "pushing  45 %  1.2 of 2.6 GiB  …" */
#define PROGRESS_LINE 160
void progress_format(const struct progress *p, int64_t elapsed_ms, char ret[PROGRESS_LINE]);

/* The option --jobs: how many transfers at a time. */
int progress_jobs(struct cli *cli, unsigned *ret) MLC_CHECK;
