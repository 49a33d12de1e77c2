/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "rollout/rollout_internal.h"

/*
 * promql checks: the leader asks Prometheus (the check's `source`, or the environment's) beside its
 * looks, so that a slow one delays no decision, and the next look counts what came.
 */
#define MEASURE_TASK "rollout.measure" /* of the leader */
#define MEASURE_TASK_MS 500
#define MEASURE_EVERY_MS 3000 /* of one check */
#define MEASURE_CALL_MS 2500
#define MEASURE_AT_ONCE 100 /* checks of one run */
#define MEASURE_AWAY_MS 120000 /* the time of a value; clocks differ */
#define MEASURE_REPLY_MAX ((size_t)1 << 20)
#define MEASURE_ARENA ((size_t)4 << 20) /* of one question */
#define MEASURE_TEXT_MAX 200

/* What a query came to. Only `value` is one; all others mean that nothing is known. */
enum measure_outcome {
        MEASURE_VALUE,
        MEASURE_EMPTY, /* success, and no series: there is nothing that could be counted */
        MEASURE_NAN, /* 0/0, or an infinity */
        MEASURE_OLD, /* of another time than now: a cache, or a clock */
        MEASURE_SEVERAL, /* more than one series: the query has to aggregate */
        MEASURE_REFUSED, /* 400 bad_data, 422 execution: the query is wrong */
        MEASURE_UNAVAILABLE, /* 503 timeout or abort, other statuses, not reached */
        MEASURE_GARBAGE /* not what Prometheus answers */
};
struct measure_value {
        enum measure_outcome outcome;
        char value[32]; /* decimal, MEASURE_VALUE only */
        char problem[MEASURE_TEXT_MAX]; /* printable; otherwise */
};
/* A reply of /api/v1/query, pure: an instant vector or a scalar of one value, of now. */
struct measure_reply {
        int status;
        const char *body;
        size_t len;
        int64_t now_ms;
};
void measure_read(const struct measure_reply *reply, struct measure_value *ret);

/* The leader's task: asks for what is due. */
int measure_run(struct mlc_ctx *ctx) MLC_CHECK;

/* What came since the last look, `promql` of an increment; the caller's, NULL when nothing did. */
int measure_take(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 json_t **ret) MLC_CHECK;
