/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <string.h>

#include "auth/auth.h"
#include "base/cleanup.h"
#include "base/str.h"
#include "gate/gate.h"
#include "mlctl/serving.h"
#include "rollout/materialise.h"
#include "rollout/rollout.h"
#include "rollout/rollout_jobs.h"

/* Inside server/rollout. Everything lives in ctx's arena unless said otherwise. */

#define ROLLOUT_TASK "rollout.step" /* of the leader: evaluates, and decides */
#define ROLLOUT_TASK_MS 1000
#define ROLLOUT_GATEWAY_TASK "rollout.gateway" /* of the leader: brings gateways up to the rows */
#define ROLLOUT_GATEWAY_MS 1000
#define ROLLOUT_SERVE_TASK "rollout.serve" /* of the leader: loads, unloads */
#define ROLLOUT_SERVE_MS 500
#define ROLLOUT_LEASE_MS 60000
#define ROLLOUT_JOB_ARENA (64u << 20)
#define ROLLOUT_RETRY_MS 1000 /* after a failure; doubles up to a minute */
#define ROLLOUT_RETRY_MAX_MS 60000
#define ROLLOUT_TRIES_MAX 5 /* a load that was refused so often has failed */
#define ROLLOUT_WHOLE 10000 /* weights are parts of this */
#define ROLLOUT_TAP_REQUESTS 2000 /* so many of a step's are copied where outputs are looked at */
#define ROLLOUT_TAP_SAMPLE 1000 /* but at least this share, of the whole */

/* How long nobody tries again what has failed `tries` times before. */
static inline int64_t rollout_retry_ms(int64_t tries)
{
        int64_t delay = ROLLOUT_RETRY_MS;

        for (int64_t i = 0; i < tries && delay < ROLLOUT_RETRY_MAX_MS; i++)
                delay *= 2;
        return delay;
}

/* Whether the text is one of an array's. */
static inline bool rollout_names(const json_t *array, const char *text)
{
        const json_t *e;
        size_t i;

        json_array_foreach (array, i, e)
                if (mlc_streq(json_string_value(e), text))
                        return true;
        return false;
}

/* A row. rollout_done frees. */
struct rollout {
        const char *id, *promotion, *model, *ns, *name, *environment, *digest, *state;
        const char *from_digest, *hold, *outcome; /* or NULL */
        const char *requested_by;
        int64_t version, from_version; /* from: 0 when nothing was live */
        int64_t step_since_ms; /* 0: not in force yet */
        int64_t created_ms, now_ms;
        int step;
        bool paused;
        json_t *plan, *stats, *seen;
};
void rollout_done(struct rollout *r); /* for _cleanup_ */

/* --- rows and leaves (rollout_db.c) --- */

int rollout_parse(struct mlc_ctx *ctx, const char *text, json_t **ret) MLC_CHECK;
/* RFC 8785 form; NULL with the error set. */
const char *rollout_text(struct mlc_ctx *ctx, const json_t *j);
/* Held until the transaction ends when `lock`. MLC_E_NOT_FOUND, also for a model that the caller
 * may not read. */
int rollout_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, bool lock,
                 struct rollout *ret) MLC_CHECK;
/* The same without `stats` and `seen` (NULL), and without a lock: sooner. */
int rollout_peek(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                 struct rollout *ret) MLC_CHECK;
/* The state as leaves have it; *ret NULL when there is none. The caller's. */
int rollout_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                  json_t **ret) MLC_CHECK;
struct rollout_change {
        const char *action; /* "rollout.step" */
        const char *state; /* NULL: as it is */
        int step; /* -1: as it is */
        int paused; /* -1: as it is */
        const char *hold; /* what holds it from now on; NULL: nothing */
        const char *outcome; /* NULL: as it is */
        const json_t *detail; /* of the leaf */
};
/* Row and leaf; r becomes what the row then is. Without a difference there is no leaf. */
int rollout_set(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                const struct rollout_change *c) MLC_CHECK;

/* --- plan (lib/rollout/plan.h; rollout_plan.c) --- */

/* The model's document, the caller's; *ret NULL when it has none. */
int rollout_model_document(struct mlc_ctx *ctx, struct db_tx *tx, const char *model,
                           json_t **ret) MLC_CHECK;

/* The present step of the plan, borrowed; NULL behind the last one. */
const json_t *rollout_step(const struct rollout *r, int step);
/* The weight of the candidate in a step, of ROLLOUT_WHOLE, in the targets that it is about. */
int rollout_weight(const struct rollout *r, int step);

/* Steps name targets, and it is among them: the others stay as they are. */
bool rollout_has_waves(const struct rollout *r);
/* The step whose split a target has now; -1: none yet, the candidate has nothing there. */
int rollout_step_in(const struct rollout *r, const char *target);
int rollout_weight_in(const struct rollout *r, const char *target);
/* {TARGET: weight} where steps name targets, else NULL; the caller's. */
json_t *rollout_weights(const struct rollout *r);

/* Where steps name targets, a leaf says the weights of each: {"targets":{"before","after"}}. */
void rollout_detail_targets(json_t *detail, const struct rollout *before,
                            const struct rollout *after);

/* It brings back what was live before. */
bool rollout_is_back(const struct rollout *r);
/* It goes back before any traffic moved: nothing could be loaded, or somebody ended it. */
bool rollout_failed(const struct rollout *r);
/* The plan of a promotion that begins, from the documents as they are; the caller's. */
int rollout_plan(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout_in *in, bool first,
                 json_t **ret) MLC_CHECK;

/* --- counters (rollout_counters.c) --- */

struct counters_in {
        const char *control;
        const json_t *stats; /* of the gateway */
        const json_t *routes; /* of the rollout there: {ROUTE: its split's entry} */
};
/*
 * The epoch that a gateway's counters of this generation belong to, of r->seen.weights of that
 * gateway; NULL: of before the rollout. Not only equal ones: when several splits change between two
 * tables, and when the gateway has begun anew with the table that it had, its counters carry a
 * later generation than the one that set the weights.
 */
const json_t *counters_epoch(json_t *weights, int64_t generation);
/* Adds what was counted since r->seen, which becomes now: {EPOCH: increment of
 * rollout/analysis.h}. An epoch is a number of the rollout for each time that weights changed. */
int counters_fold(struct mlc_ctx *ctx, struct rollout *r, const struct counters_in *in,
                  json_t *increments) MLC_CHECK;

/* --- splits (rollout_split.c) --- */

struct split_variant {
        const char *name; /* "candidate", "stable" */
        int64_t version;
        int weight;
        bool leased;
        int64_t error_limit; /* 0: none */
};
struct split_in {
        const char *environment, *model, *ns, *name;
        const char *salt;
        const char *on_lost_control;
        int tap; /* share of requests that are copied, of ROLLOUT_WHOLE */
        struct split_variant variants[2];
        size_t n;
        const struct rollout *by; /* whose steps say the weights of each target; or NULL */
        json_t *controls; /* NULL, or filled with {CONTROL: target} */
};
/*
 * Writes the splits of every route of the model in the environment, by the documents as they are,
 * and raises the generations of gateways that change. *ret_generations: {CONTROL: generation} of
 * these, the caller's; empty when nothing changes.
 */
int split_write(struct mlc_ctx *ctx, struct db_tx *tx, const struct split_in *in,
                json_t **ret_generations) MLC_CHECK;
/* The same for a rollout: the candidate at `weight`, what was live the rest; remembers the weight
 * of each generation in r->seen. Without anything live the candidate is all there is. */
int split_rollout(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, int weight) MLC_CHECK;
/* After the end: the version alone, without a lease; 0 removes the routes. */
int split_settle(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 int64_t version) MLC_CHECK;
/* --- requests against declared inputs (rollout_inputs.c) --- */

/* "flag" or "reject" of a route in the model's document; NULL: requests are not checked. */
const char *route_validation(const json_t *route);
/* What a version declares in its model.yaml (rollout/inputs.h), the caller's. NULL when it declares
 * none, and when what it declares cannot be read: that is logged, and stops no split, because some
 * of them are the way to safety. */
json_t *inputs_declared(struct mlc_ctx *ctx, struct db_tx *tx, const char *model, int64_t version);
struct inputs_in {
        const char *model, *environment;
        const json_t *document; /* the model's, or NULL */
        int64_t live, next; /* 0: nothing is live; nothing comes */
};
/* [{"route","mode","inputs": number that requests are checked against now,"text"}…] of the routes
 * there that ask for it, the caller's. */
int inputs_told(struct mlc_ctx *ctx, struct db_tx *tx, const struct inputs_in *in,
                json_t **ret) MLC_CHECK;

/* "ns--model--3" */
const char *served_name(struct mlc_ctx *ctx, const char *ns, const char *name, int64_t version);

/* --- what is served (rollout_serve.c) --- */

/* Every instance of the environment shall have the version. */
int served_want(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                const json_t *environment) MLC_CHECK;
/* Instances that the environment no longer names shall have it no more. */
int served_leave(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 const json_t *environment) MLC_CHECK;
enum served_state { SERVED_READY, SERVED_WAITS, SERVED_FAILED };
/* Of all instances together; *ret_why says what is waited for, or what failed. */
int served_ask(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
               enum served_state *ret, const char **ret_why) MLC_CHECK;
/* After the end: unloaded when the drain time of its target has passed; until then it is there for
 * a rollback at once. version 0: nothing. */
int served_release(struct db_tx *tx, const struct rollout *r, int64_t version) MLC_CHECK;
/* Where a repository lies, below the --serving-root directories; and struct
 * mlc_serving_call.egress, with the ctx as userdata. */
struct mat_place serving_place(struct app *app, const char *repository);
int serving_egress(void *userdata, const char *url, bool *ret_loopback_only,
                   struct mlc_err *err) MLC_CHECK;
/* struct mlc_serving_call.secret, with the ctx as userdata. */
int serving_secret(void *userdata, const struct json_t *ref, struct mlc_str *ret,
                   struct mlc_err *err) MLC_CHECK;
/* struct mlc_serving_call.sign */
int serving_sign(void *userdata, const void *msg, size_t len, unsigned char ret[64],
                 struct mlc_err *err) MLC_CHECK;
/* Has those told whose driver wants to know how routes are split (rollout_weights.c), each in a job
 * of its own, until they take it; nothing waits for them. */
int weights_tell(struct mlc_ctx *ctx) MLC_CHECK;
/* The leader's task. Does not wait for the servers. */
int rollout_serve(struct mlc_ctx *ctx) MLC_CHECK;

/* The rollout of a model that goes on stays as it is until the transaction ends; without one none
 * begins, and its documents stay as they are. Before any other lock. */
int rollout_still(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                  const char *model) MLC_CHECK;
/* The routes of what is live of a model, or of the rollout that goes on, lead to the instances that
 * are ready. After rollout_still. */
int rollout_follow(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                   const char *model) MLC_CHECK;

/* After the end of a rollout: what is live of its model is on the instances that there are now, and
 * has all traffic of the routes. */
int rollout_settle(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r) MLC_CHECK;

/* --- instances that lost what they had, or do not answer (rollout_watch.c) --- */

#define ROLLOUT_WATCH_TASK "rollout.watch" /* of the leader */
#define ROLLOUT_WATCH_MS 2000
int rollout_watch(struct mlc_ctx *ctx) MLC_CHECK;

/* --- drift (rollout_drift.c) --- */

#define ROLLOUT_DRIFT_TASK "rollout.drift" /* of the leader */
#define ROLLOUT_DRIFT_MS 30000
/* What every instance of the environment has against what it shall have: [finding…] of drift.h,
 * the caller's. Asks the instances: outside of any transaction. */
int drift_environment(struct mlc_ctx *ctx, const char *environment, json_t **ret) MLC_CHECK;
/* The leader's task: what changed is logged. */
int rollout_drift(struct mlc_ctx *ctx) MLC_CHECK;

/* --- gateways (rollout_gateway.c) --- */

/* The leader's task: tables that are behind, leases, gateways that came back with an older one.
 * Does not wait for them. */
int rollout_gateways(struct mlc_ctx *ctx) MLC_CHECK;
/* Asks those with rollouts for their counters; rollout_jobs_answered(CONTROL) has each, or text
 * that says why not. */
int gateways_ask(struct mlc_ctx *ctx) MLC_CHECK;
struct gateway_ask {
        const char *control, *driver;
        const json_t *routes; /* names of those that matter; NULL: all */
};

/* Counters of one gateway (server/gateway/README.md), the caller's. */
int gateway_stats(struct mlc_ctx *ctx, const struct gateway_ask *q, json_t **ret) MLC_CHECK;

/* --- showing (rollout_show.c); the caller's --- */

int rollout_show(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t **ret) MLC_CHECK;
struct preview_in {
        const char *model, *version, *environment;
};
/* What a promotion would do to traffic; looks at the gateways for a second. */
int rollout_preview(struct mlc_ctx *ctx, const struct preview_in *in, json_t **ret) MLC_CHECK;
/* What the last decision was computed from. */
int rollout_explained(struct mlc_ctx *ctx, struct db_tx *tx, const char *id,
                      json_t **ret) MLC_CHECK;

/* --- what people do (rollout_act.c) --- */

enum rollout_act { ROLLOUT_PAUSE, ROLLOUT_RESUME, ROLLOUT_ABORT, ROLLOUT_RETRY, ROLLOUT_ADVANCE };
struct rollout_do {
        enum rollout_act act;
        const char *reason;
        int64_t over_ms; /* of an abort: little by little over so long; 0: at once */
};
/* By operators of the model's namespace; what is so already changes nothing. */
int rollout_do(struct mlc_ctx *ctx, const char *id, const struct rollout_do *what) MLC_CHECK;
int rollout_line_set(struct mlc_ctx *ctx, const char *environment, bool stopped,
                     const char *reason) MLC_CHECK;

/* --- signed approvals of steps (rollout_request.c) --- */

struct approval_in;
struct request {
        const char *state; /* NULL: nobody was asked */
        const char *evidence, *expires; /* expires: or NULL */
        bool open, expired; /* expired: an open one whose time is over */
        /* every rule has its people now, or had when it expired; they stay who they are until
         * COMMIT */
        bool signed_off;
        int need, have; /* people over all rules */
};
/* Whether the present step asks for approvals. */
bool request_asked(const struct rollout *r);
/* The request of the present step; all is 0 when it asks for none. */
int request_read(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 struct request *ret) MLC_CHECK;
/* Asks for them, with `decision` as evidence; what was asked and is open stays. `ret_later` where
 * the step may not go on by signatures alone (else NULL): what was void is then not opened anew,
 * which *ret_later says. */
int request_open(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 const json_t *decision, bool *ret_later) MLC_CHECK;
/* Nobody answered in time: it goes back. When it is paused, or all had signed and something else
 * held it, they are asked anew afterwards. */
int request_expire(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                   const struct request *q, bool *ret_changed) MLC_CHECK;
/* An open one becomes `state`; what was signed for one that is void or expired is void. */
int request_end(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                const char *state) MLC_CHECK;
/* Completes `approval` of a rollout that is shown: what it has, and whom it waits for. */
int request_show(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                 json_t *shown) MLC_CHECK;
/* What the caller would sign now, and what it is about; MLC_E_CONFLICT when nobody is asked. */
int request_evidence(struct mlc_ctx *ctx, const char *id, json_t **ret) MLC_CHECK;
/* A signed decision; *ret is the reply (ApprovalCreated). */
int request_decide(struct mlc_ctx *ctx, const char *id, const struct approval_in *in,
                   json_t **ret) MLC_CHECK;
/* Decisions about a step (-1: the present one), in the REST form. */
int request_decisions(struct mlc_ctx *ctx, const char *id, int64_t step, json_t **ret) MLC_CHECK;

/* --- down little by little (rollout_ramp.c) --- */

/* A running rollout gives its share back in equal parts over `over_ms`, then it aborts. `detail`:
 * of the leaf. */
int ramp_begin(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, int64_t over_ms,
               const json_t *detail) MLC_CHECK;
/* Whether there is traffic to give back, and somebody to take it. */
bool ramp_can(const struct rollout *r);
bool ramp_going(const struct rollout *r);
bool ramp_over(const struct rollout *r, int64_t over_ms); /* one of that length goes on */
/* What is left of a weight on the way down; all of it otherwise. */
int ramp_weight(const struct rollout *r, int weight);
/* The next part, when its time has come. *ret_changed is set when weights change. */
int ramp_step(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
              bool *ret_changed) MLC_CHECK;

/* --- copies (rollout_copies.c) --- */

/* What the mirror is to look at until the next tick: [{"control","route","owner","checks","mirror",
 * "candidate","stable" (each {"model","host"}),"share","generation"}…]. */
void rollout_watch_copies(struct mlc_ctx *ctx, const json_t *watch);
/* This server no longer leads: it looks at no copies any more. */
void rollout_lost(struct app *app);

/* --- deciding (rollout_step.c) --- */

int rollout_tick(struct mlc_ctx *ctx) MLC_CHECK;
/* To aborting: the candidate to 0 first. `why` is shown; a person's reason (its commitment, may be
 * NULL) stands in the leaf. */
int rollout_go_back_for(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const char *why,
                        const char *reason) MLC_CHECK;
int rollout_go_back(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                    const char *why) MLC_CHECK;
/* Why a step that could go on does not, by what people have set; *ret NULL: it may. */
int rollout_barred(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                   const char **ret) MLC_CHECK;
/* Whether it is to go back because its version was withdrawn. Not a rollback that has moved
 * traffic: what it leaves is worse, and it goes on to its end. */
int rollout_withdrawn(struct db_tx *tx, const struct rollout *r, bool *ret) MLC_CHECK;
