/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/json.h"
#include "mlctl/error.h"

/*
 * Copies of requests and replies that gateways send (lib/rollout/mirror.h): what the replies
 * predict is counted, and while a step mirrors, requests are asked again of the candidate and
 * compared. Bodies stay in memory and are gone when they were looked at; counts are kept until they
 * are taken. Knows neither database nor rollouts: the leader says what to look at. Any thread.
 */
struct mirror;

#define MIRROR_QUEUE                                                                               \
        512 /* copies that wait to be asked again; further ones are dropped and counted */
#define MIRROR_WORKERS 4
#define MIRROR_BODY_MAX 131072 /* of a copied request without its answer */
#define MIRROR_HEADER                                                                              \
        "X-Mlctl-Shadow" /* "1" on requests of ours; a copy of one is none to compare */
#define MIRROR_CALL_MS 10000 /* for one answer of a candidate */

/* 0, or an errno as MLC_E_IO. */
int mirror_new(struct mirror **ret, struct mlc_err *err) MLC_CHECK;
void mirror_free(struct mirror *t); /* NULL-safe; ends its threads */

/* One route that is looked at. All strings are borrowed for the call. */
struct mirror_route {
        const char *control; /* of the gateway: its tap socket lies beside it */
        const char *route;
        const char *owner; /* whose counts these are: the rollout's id */
        const json_t *checks; /* of the plan; those of type shadow-agreement compare */
        bool mirror; /* ask the candidate again */
        const char *candidate_model, *candidate; /* name on the server, "HOST:PORT" */
        const char *stable_model, *stable;
        /* Whoever copies there sends requests without answers (mirror_submit): of those `share` (of
         * 10000) are asked of stable twice, to know its noise, and once of the candidate. 0: the
         * gateway's socket brings both. */
        int share;
        int64_t generation; /* with share: under which these count */
};
/* From now on exactly these; sockets of gateways are bound and closed as needed. What was counted
 * for other owners, and copies that wait to be asked for them, are dropped. */
void mirror_watch(struct mirror *t, const struct mirror_route *routes, size_t n);

/* A copy of a request without its answer, as "/v2/models/ROUTE/infer" was sent it; body NULL: one
 * that cannot be asked again. Returns at once. */
void mirror_submit(struct mirror *t, const char *path, const char *body, size_t len);

/*
 * What was counted for an owner since the last call, the caller's: [{"control","generation" (of the
 * gateway's bank),"increment": {"source","arms","pairs","noise"} (rollout/analysis.h)}…].
 */
json_t *mirror_take(struct mirror *t, const char *owner);
/* {"received","dropped","asked","failed","unanswered" (by stable, of mirror_submit)} since the
 * start, the caller's. */
json_t *mirror_totals(struct mirror *t);
