/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/json.h"

/*
 * What a rollout will do, from the model's and the environment's documents, pure and frozen before
 * anything moves. The same documents give the same plan; its digest (SHA-256 over RFC 8785) names
 * it. Weights and shares are integers of 10000, numbers decimal strings of 9 significant digits.
 *
 * plan {"schema":"rollout-plan/v1","model","environment","strategy","first":bool,
 *   "steps":[STEP…],"checks":[CHECK…],"exposure":decimal|null,"on_harm":"rollback"|"pause",
 *   "on_silence":"hold"|"pause","deadline_ms":int|null,"on_deadline":"pause"|"rollback",
 *   "on_lost_control":"stable"|"hold","ab":null|{"metric":check id,"alpha","margin",
 *   "horizon":int|null (requests or labels of each arm),"horizon_ms":int|null},
 *   "source":URL|null (of Prometheus, the environment's),
 *   "targets":[names of all of the environment's] (only where a step names some)}
 * STEP {"kind":"weight"|"mirror","weight":0…10000 (0 in a mirror step),"mirror":0…10000,
 *   "requests","labels" (least number of the candidate's in this step),"for_ms",
 *   "advance":"no-harm"|"proven","checks":[ids whose harm ends this step],"needs":[ids that must
 *   have data here, and at "proven" be proven, before the step is over],"wait":bool (an operator
 * says go on),"approvals":[rules as in a policy] (only where somebody is asked),"targets":[names]
 * (only where the document names some: the others stay as they are)} needs leaves out:
 * latencies in a mirror step; everything but promql at 100 %, where no stable runs beside; labels
 * where the step names neither them nor a number of labels. CHECK: the document's, normalised, with
 * "alpha_harm": alpha shared among the checks with mode enforce (Bonferroni, which is Holm's first
 * step: one rejection ends the rollout).
 *
 * Defaults where the document has no steps or no checks:
 *   shadow      mirror 10 %, 1000 requests, 10 min; then 100 % at once
 *   canary      5, 25, 50 and 100 %, 500 requests and 5 min each but the last
 *   blue-green  100 % at once
 *   ab          50 % until the horizon (of the check `errors`, at 10000 requests of each arm, when
 *               the document does not say), then 100 %
 *   none        100 % at once, no checks
 *   checks      error-rate (margin 1 %); beside it, where a step mirrors, shadow-agreement 95 %;
 *               none for blue-green and none, where no stable runs beside the candidate
 * Every plan ends with all traffic: 100 % is added where the document's last step is another.
 * Without a stable version (`first`) there is nothing to compare with: every plan is one step of
 * 100 % without checks that compare, and promql checks are asked there, but not waited for: no
 * stable version is to be protected, and what they measure may only be there once something is
 * served.
 */
#define MLC_ROLLOUT_ALL 10000
#define MLC_ROLLOUT_STEPS_MAX 50

struct mlc_rollout_docs {
        const json_t *model; /* normalised, may be NULL: strategy none */
        const json_t *environment; /* normalised */
        bool first; /* no version is live there */
        /* where a traffic driver copies nothing, a proxy sends copies of requests */
        bool mirrored;
};
/* MLC_E_INVALID with err.field the pointer into the model's document where a step names a check or
 * a target that there is not, a query has no source, or a check needs latencies, which a traffic
 * driver of the environment does not count. *ret is the caller's. */
int mlc_rollout_plan(const struct mlc_rollout_docs *docs, json_t **ret,
                     struct mlc_err *err) MLC_CHECK;

/* Which step the split of a target is of, when the rollout is in `step`: the newest up to there
 * that is about it. -1: none yet, the candidate has nothing there. */
int mlc_rollout_step_of(const json_t *plan, int step, const char *target);

/* Whether all that the model's document asks for can be had in an environment where it has a route:
 * what a traffic driver there would silently leave out, and waves that name no target or leave one
 * behind, are refused. MLC_E_INVALID as above. */
int mlc_rollout_suits(const struct mlc_rollout_docs *docs, struct mlc_err *err) MLC_CHECK;

/* What is known of the route when the plan is shown; negative or 0: not known. */
struct mlc_rollout_rate {
        double requests; /* of the whole route, a second */
        double labels; /* that arrive later, a second, of the whole route */
        double errors; /* stable's share of errors; not known: 0.01 */
        double slow; /* stable's share of slow requests; not known: 0.05 */
};
/*
 * One item a step: {"kind","weight","mirror","expected_ms":int|null (not known, or a person is
 * waited for),"decided_by":"requests"|"for"|"labels"|"check"|"horizon"|"nothing","check":id|null,
 * "samples":int|null (of the candidate, that the slowest demand takes),"text": a sentence}. For
 * `proven` and for a stated exposure the median of samples that an equally good candidate takes.
 */
int mlc_rollout_expect(const json_t *plan, const struct mlc_rollout_rate *rate, json_t **ret,
                       struct mlc_err *err) MLC_CHECK;
