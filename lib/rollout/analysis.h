/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/json.h"

/*
 * Statistics of a rollout and what follows from them; pure, deterministic, no clock. The leader
 * folds what was counted since its last look and decides; `explain` decides again from what was
 * stored. Numbers are integers and decimal strings of 9 significant digits.
 *
 * stats {"schema":"rollout-stats/v1",…}: sufficient statistics, opaque but for
 *   "generations":[{"generation","weight","key","arms":{"candidate","stable"}}…] (the last 100),
 *   "totals":{"candidate":{"requests","errors"},"stable":{…}},
 *   "classes":[[stable's, candidate's, n]…] (class pairs of compared requests).
 *
 * increment: what was counted between two looks; every member but generation is optional.
 * {"generation":int,"step":int (from 0),"weight":0…10000 (candidate's, of that generation),
 *  "key":"random" (requests are split one by one) | "sticky" (users are; the split may then be off
 *  by a factor of two before it counts as a fault),
 *  "source":"live" (default) | "shadow" (candidate answered copies of what stable answered),
 *  "at_ms":int (wall clock, only for the horizon of ab),"step_ms":int (since the step began),
 *  "arms":{"candidate":ARM,"stable":ARM},
 *  "pairs":{"n","agree":{CHECK ID: n},"classes":[[stable's, candidate's, n]…]},
 *  "noise":{"n","agree":{CHECK ID: n}} (stable asked twice),
 *  "paired_labels":{"n","only_stable","only_candidate"} (right answers of one alone, same request),
 *  "promql":{CHECK ID:{"value":number or decimal text|null,"error":text|null}}}
 * ARM {"requests" (completed, if that is known),"errors" (5xx, upstream errors, timeouts, wrong
 *  versions; may be counted after their requests),
 *  "latency":{"gamma","min_us","buckets":[[i,n]…]} (the gateway's),
 *  "outputs":{CLASS: n} (predicted classes, at most 64 different, further ones count as ""),
 *  "values":{"zero":n,"positive":[[i,n]…],"negative":[[i,n]…]} (numeric outputs, buckets of
 *  stats/sketch.h by magnitude),"labels":{"n","wrong"}}; of source "shadow" stable's requests are
 *  the candidate's when they are left out, since stable answered what was copied.
 * Counters that went backwards are for the caller to see; negative numbers, and parts that
 * are more than the whole, are MLC_E_INVALID with the pointer. Latencies of source "shadow" are
 * left out: copies are answered off the path of requests.
 */
#define MLC_ROLLOUT_CLASSES_MAX 64

/* No data at all. The caller's. */
json_t *mlc_rollout_stats_new(void);
/*
 * stats + increment → *ret, the caller's (stats is not changed). Increments of one generation are
 * strata of their own: what is compared is always concurrent, so weights and error rates may move.
 * Folding is exact: errors are judged within batches of at least 32 requests of both arms together.
 */
int mlc_rollout_fold(const json_t *plan, const json_t *stats, const json_t *increment, json_t **ret,
                     struct mlc_err *err) MLC_CHECK;

/* Where the rollout stands at a look; durations by the caller's monotonic clock. */
struct mlc_rollout_now {
        unsigned step; /* from 0 */
        int64_t step_ms; /* since the step's weight was verified */
        int64_t silent_ms; /* since the last increment with requests; 0 when there was one now */
        const char *fault; /* why no counters could be read, NULL when they could */
        bool approved; /* the person whom this step waits for says go on */
        bool signed_off; /* the approvals that it asks for are there */
        bool asked; /* people are asked for them: no deadline meanwhile */
        bool hasty; /* `fault` is silence at once: what was stored before `asked` was */
};

/*
 * → {"schema":"rollout-decision/v1","step","decision","reason","action":null|"rollback"|"pause",
 *    "waiting_for":[{"what":"requests"|"labels"|"for"|"check"|"exposure"|"approval"|"person"|
 *    "data"|"split"|"horizon","check":id|null,"have","need"}],"exposure":{"next_weight","bound",
 *    "limit"}|null,"split":{"expected","observed","n","e_value","p"}|null,
 *    "checks":[RESULT…],"ab":null|RESULT}
 * decision  advance  to the next step (after the last: live)
 *           hold     minima, data or evidence are missing; goes on by itself
 *           wait     everything is met but a person or an approval
 *           harm     a check with mode enforce proved harm; action is the plan's on_harm
 *           deadline held longer than the plan allows, while nobody is asked; action is the plan's
 *                    on_deadline
 *           silence  no data for a minute and the plan says on_silence: pause
 * `reason` names what decided and changes only when that does (no numbers that move), so that a
 * hold is recorded once.
 * RESULT {"id","type","mode","verdict":"harm"|"ok"|"proven"|"inconclusive","statistic" (name),
 *  "value","estimate","interval":[lo,hi]|null,"confidence","limit" (margin, bound or floor),
 *  "n":{"candidate","stable"},"p":decimal|null (valid at any time),"threshold" (1/alpha),
 *  "decides":bool,"rule" (a sentence: why this verdict)}
 * Estimates and intervals are candidate minus stable, so above 0 is worse; intervals hold at all
 * looks together.
 */
int mlc_rollout_decide(const json_t *plan, const json_t *stats, const struct mlc_rollout_now *now,
                       json_t **ret, struct mlc_err *err) MLC_CHECK;

/* The same from `now` as it is stored: {"step","step_ms","silent_ms","fault"|null,"approved",
 * "signed_off","asked"}; what is left out is 0, and without "asked" it is hasty. */
int mlc_rollout_decide_again(const json_t *plan, const json_t *stats, const json_t *inputs,
                             json_t **ret, struct mlc_err *err) MLC_CHECK;

/* The class of an OIP reply, for counting and for class pairs: the first output's first element
 * (of several numbers the place of the largest), as text. False when there is none. */
#define MLC_ROLLOUT_CLASS_MAX 64
bool mlc_rollout_class(const json_t *reply, char ret[MLC_ROLLOUT_CLASS_MAX]);
/* A numeric output, for "values": the first output is one real number. False when it is not. */
bool mlc_rollout_number(const json_t *reply, double *ret);
/* Whether two OIP replies agree by a shadow-agreement check: same outputs, shapes and texts, and
 * numbers apart by at most its tolerance (absolute) or relative_tolerance. */
bool mlc_rollout_agree(const json_t *check, const json_t *one, const json_t *other);
