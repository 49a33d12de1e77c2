/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/json.h"
#include "ctx.h"

/*
 * Calls to servers that may hang, each in a thread of its own, so that one that hangs delays nobody
 * else. One job of a key at a time. Threads: any.
 */
struct rollout_jobs; /* app->rollout_jobs */

#define ROLLOUT_JOBS_MAX 64 /* that run at the same time */

struct rollout_job {
        const char *key; /* copied */
        const char *group; /* copied; NULL: none */
        unsigned group_max; /* of a group at the same time */
        bool again; /* while it runs already: once more afterwards */
        void (*run)(struct app *app, void *userdata);
        void (*free)(void *userdata); /* NULL: nothing to free */
        void *userdata; /* the job's when it was taken */
};

void rollout_jobs_init(struct app *app);
/* False when it was not taken: the key runs already (with `again` it will run once more), the group
 * or all is full, or mlctld ends. */
bool rollout_jobs_start(struct app *app, const struct rollout_job *job);
/* Jobs are to give up: mlctld ends, or leads no more. */
bool rollout_jobs_cancelled(const struct app *app);
/* Waits for all, which are to give up; nothing is taken any more. Before work_stop; NULL-safe. */
void rollout_jobs_stop(struct app *app);
void rollout_jobs_free(struct app *app); /* after work_stop; NULL-safe */

/* What a job found out, for whoever asks next: the last of a key. Takes the answer over. */
void rollout_jobs_answer(struct app *app, const char *key, json_t *answer);
/* Waits for one until then (monotonic); NULL when none came. One that is older than 5 s is none.
 * The caller's. */
json_t *rollout_jobs_answered(struct app *app, const char *key, int64_t until_ms);
