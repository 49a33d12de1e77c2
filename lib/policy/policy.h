/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "codec/digest.h"
#include "codec/json.h"

/*
 * Checks to verdict, pure: the same bundle gives the same bytes, in the server, in `mlctl approve`,
 * `mlctl policy test`, `mlctld check` and in an auditor's hands. No clock, no network, no files but
 * the examples that the caller opens by digest.
 *
 * Decisions: an interval decides, so that what is merely not proven is inconclusive.
 *   threshold value      pass when the value meets the bound, else fail
 *   threshold interval   pass when the end of Wilson's interval that is worse meets the bound, fail
 *                        when the value does not, else inconclusive
 *   non-inferiority      interval of candidate - champion at level 1 - 2 alpha: pass when its lower
 *                        end is above -margin, fail when its upper end is below -margin
 *   superiority          pass when the lower end is above +margin, fail when the upper end is below
 *                        it; paired, margin 0, fewer than 25 discordant pairs: the exact binomial
 *                        test decides instead, at alpha on either side
 * A share that is better lower (better: lower) is turned round first. Several evaluations of one
 * dataset digest, and several digests of one dataset name: the worst decides; different values on
 * one digest set conflict. Missing, too few, stale, not live for long enough: inconclusive.
 */

/* The documents that apply, normalised (policy/document.h); all but environment may be NULL. */
struct mlc_policy_layers {
        const json_t *environment;
        const json_t *environment_policy; /* the one that environment.policy names */
        const json_t *model;
        const json_t *model_policy; /* the one that model.policy names */
};

/*
 * The effective policy {"checks":[… each with "layer":"Policy/NAME"],"approvals":[… likewise]}, the
 * environment's first; environment.after becomes checks of type "after" (id "after:ENVIRONMENT",
 * live_for_ms, layer "Environment/NAME"). MLC_E_CONFLICT when a model's policy has a check id or an
 * approval's name that the environment's has: it adds, it never redefines. Where both name the same
 * policy, it stands once, as the environment's. The caller's.
 */
int mlc_policy_effective(const struct mlc_policy_layers *l, json_t **ret,
                         struct mlc_err *err) MLC_CHECK;
/* SHA-256 over the RFC 8785 form of an effective policy. */
int mlc_policy_digest(const json_t *policy, struct mlc_digest *ret, struct mlc_err *err) MLC_CHECK;
/* SHA-256 over {"alias","approvals","name","rollout"} of the environment, the effective policy's
 * approvals and the model's rollout plan (null without one). model may be NULL. */
int mlc_environment_digest(const json_t *environment, const json_t *policy, const json_t *model,
                           struct mlc_digest *ret, struct mlc_err *err) MLC_CHECK;

/* Opens the examples with this digest ("sha256:…") for reading; *ret_fd is then the judge's, which
 * also checks the digest. */
struct mlc_policy_examples {
        int (*open)(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err);
        void *userdata;
};

/*
 * bundle → verdict.
 * bundle {"schema":"bundle/v1","now":RFC 3339,"version":{"model","version","digest","author",
 *   "pushed","status","lineage","card":TEXT|null,"metadata":{safety, imports, files, …}},
 *   "environment":normalised,"environment_digest","policy":effective,"policy_digest",
 *   "documents":[{"kind","name","digest"}],"evaluations":[RECORD…],"champion":null|{"version",
 *   "digest","evaluations":[RECORD…]},"judged_on":{DATASET:count},"after":[{"environment",
 *   "live_for_ms":int|null}]}
 * RECORD {"id","manifest","submitted","examples"|null,"withdrawn":bool,"at":RFC 3339 received,
 *   "document":evaluation,"recomputed":[{"name","slice"|null,"value":decimal,"n"}]}
 * verdict {"schema":"verdict/v1","verdict","model","version","digest","environment",
 *   "protected":whether that has owners (null when it could not be judged),"environment_digest",
 *   "policy_digest","champion":digest|null (when a check compares),"evidence":[ids, sorted],"now",
 *   "checks":[{"id","layer","type","mode","verdict","observed","required","interval":[lo,hi]|null,
 *   "n","n_needed","statistic","reason","conflict","judged_on"}]}; error > fail > inconclusive >
 *   pass over the checks with mode enforce.
 * Verified here: ids of records against what they name, their manifest against the version's or
 * the champion's digest, policy_digest. Not here: `document` against `submitted` and `recomputed`
 * against the examples (whoever has those bytes does), environment_digest.
 * A bundle that is not one: MLC_E_INVALID (or MLC_E_VERIFY) with the pointer. What cannot be
 * computed (examples that cannot be opened or are others than their digest says) is a check with
 * the verdict "error", not a failure of the call. examples may be NULL: then checks that need them
 * are errors. *ret_verdict is the caller's.
 */
int mlc_policy_judge(const json_t *bundle, const struct mlc_policy_examples *examples,
                     json_t **ret_verdict, struct mlc_err *err) MLC_CHECK;
/* SHA-256 over the RFC 8785 form of a verdict. */
int mlc_verdict_digest(const json_t *verdict, struct mlc_digest *ret,
                       struct mlc_err *err) MLC_CHECK;
/* When judging again could give another verdict although nothing but time passed: the moment (ms
 * since 1970) the first `after` of the bundle is fulfilled, or 0 when none is waited for. */
int64_t mlc_policy_wake_ms(const json_t *bundle);

/* What is known of the dataset a check will be judged on; negative: not known, a default is taken.
 */
struct mlc_feasible_in {
        int64_t n; /* examples that evaluations have */
        double share; /* the champion's value; default 0.9 */
        double discordant; /* share of examples that two versions answer differently; default 0.06
                            */
        bool paired; /* examples are submitted */
};

struct mlc_feasible {
        bool possible; /* some outcome at this n passes */
        double power; /* probability that an equally good version passes compare's
                       * non-inferiority; negative where that is no question */
        int64_t n_needed; /* examples for a power of 80 %, or for passing at all; 0: n is enough */
        char reason[256]; /* one clause for a warning; empty when there is nothing to say */
};
/* For a normalised check of any type. Above 5,000 examples the power is by normal approximation. */
void mlc_policy_feasible(const json_t *check, const struct mlc_feasible_in *in,
                         struct mlc_feasible *ret);
