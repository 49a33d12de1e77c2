/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ctx.h"

/*
 * Work without a request: the leader among the servers of one database, and tasks that run again
 * and again, each in a thread of its own. app->work.
 *
 * The leader holds a session advisory lock on a connection of its own and looks after it every
 * second, so after a lost connection two servers may think for up to six seconds that they lead:
 * what must be done by one alone also needs a lock or an epoch where it writes.
 */
struct work;

#define WORK_TASKS_MAX 32
#define WORK_CALLBACKS_MAX 8

struct work_task {
        const char *name; /* noun.verb, static; also the payload of a notification */
        int64_t interval_ms; /* from the end of one run to the start of the next */
        int64_t timeout_ms; /* the ctx deadline of one run */
        bool leader_only;
        int (*run)(
                struct mlc_ctx *ctx); /* safe to run twice; an error is logged, and it runs again */
};

/* Makes app->work; db_start came before. Tasks and callbacks are added until work_start. */
void work_init(struct app *app);
/* Runs first soon after work_start (and for leaders after becoming it). The struct is copied. */
void work_every(struct app *app, const struct work_task *task);
/*
 * Called in the leader's thread: `gained` (may be NULL) before the first leader_only task runs, and
 * `lost` (may be NULL) when the lock is gone or about to be given back. When `gained` fails, the
 * lock is given back and asked for again later.
 */
void work_on_leader(struct app *app, int (*gained)(struct mlc_ctx *ctx),
                    void (*lost)(struct app *app));

int work_start(struct app *app, struct mlc_err *err) MLC_CHECK;
/* Waits for runs in progress; then gives the lock back. Idempotent. */
void work_stop(struct app *app);

/* Any thread; the second is false before work_start. */
bool work_is_leader(const struct app *app);
/*
 * Runs the task of this name soon. A name that no task has is ignored. In another server the same
 * is done by `NOTIFY mlctl, 'NAME'` (outside of transactions of requests: PostgreSQL takes a lock
 * on all of them at COMMIT). Wakes may be lost with a connection, the interval covers that.
 */
void work_wake(struct app *app, const char *name);
