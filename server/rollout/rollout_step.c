/* SPDX-License-Identifier: Apache-2.0 */
/* The leader's look at each rollout: counts, decides, and takes the next step. */
#include <inttypes.h>

#include "app.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "gen/rollout.sql.h"
#include "promotion/promotion.h"
#include "rollout/analysis.h"
#include "rollout/measure.h"
#include "rollout/mirror.h"
#include "rollout/observation.h"
#include "rollout/rollout_internal.h"

#define ANSWER_MS                                                                                  \
        700 /* a tick waits for all gateways together; what comes later is the next one's */
#define WATCHED_MS                                                                                 \
        5000 /* of the time between two looks so much counts: who is away does not watch */

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static int64_t int_of(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

/* --- a look --- */

struct tick {
        int64_t until_ms; /* gateways are waited for */
        const char *boot; /* of the machine */
        json_t *asked, *watch; /* owned; see struct look */
        bool changed;
};

static void tick_done(struct tick *t)
{
        json_decref(t->asked);
        json_decref(t->watch);
}

/* What a look finds before its transaction. */
struct look {
        const char *id, *state;
        int step;
        bool counted;
        const char *fault; /* why gateways could not be asked */
        json_t *gateways; /* {CONTROL: {"driver","stats","routes"}}, owned */
        json_t *mirrored; /* of mirror_take, owned */
        json_t *asked; /* of the whole tick: {CONTROL: stats, or why it could not be asked} */
        int64_t until_ms;
        const char *boot;
        json_t *watch; /* of the whole tick: what the mirror is to look at */
        bool *changed; /* something for the gateways to do */
};

static void look_done(struct look *l)
{
        json_decref(l->gateways);
        json_decref(l->mirrored);
}

/* {CONTROL: {"driver","routes":{ROUTE: entry}}} of the rollout, the caller's. */
static int read_routes(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *gateways = json_object();
        int e = db_run(tx, SQL_SPLIT_COUNTED, &rows, DB_TEXT(r->model), DB_TEXT(r->environment));

        for (int i = 0; e == 0 && i < rows.n; i++) {
                const char *control = db_text(&rows, i, 0), *target = db_text(&rows, i, 4);
                json_t *g = json_object_get(gateways, control), *entry = NULL;

                if (rollout_step_in(r, target) < 0)
                        continue; /* its wave is still to come: nobody needs to ask it */
                if (g == NULL) {
                        g = json_pack("{s:s, s:s, s:{}}", "driver", db_text(&rows, i, 3), "target",
                                      target, "routes");
                        (void)json_object_set_new(gateways, control, g);
                }
                e = rollout_parse(ctx, db_text(&rows, i, 2), &entry);
                if (e < 0)
                        return e;
                (void)json_object_set_new(entry, "generation", json_integer(db_int(&rows, i, 5)));
                (void)json_object_set_new(json_object_get(g, "routes"), db_text(&rows, i, 1),
                                          entry);
        }
        if (e < 0)
                return e;
        *ret = TAKE_PTR(gateways);
        return 0;
}

/* {"model","host"} of a variant; an empty object without one. */
static json_t *whom(const json_t *entry, const char *variant)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(entry, "variants"), i, v)
                if (mlc_streq(text_of(v, "name"), variant))
                        return json_pack("{s:O, s:O?}", "model", json_object_get(v, "model"),
                                         "host",
                                         json_array_get(json_object_get(v, "endpoints"), 0));
        return json_object();
}

/* Routes whose requests are copied: what the mirror is to look at until the next tick. */
static void watch_routes(struct mlc_ctx *ctx, struct look *l, const struct rollout *r)
{
        const char *control, *route;
        json_t *g, *entry;

        json_object_foreach (l->gateways, control, g) {
                int at = rollout_step_in(r, text_of(g, "target"));
                const json_t *step = rollout_step(r, at);
                bool mirrors = mlc_streq(text_of(step, "kind"), "mirror");

                json_object_foreach (json_object_get(g, "routes"), route, entry) {
                        bool taps = json_is_object(json_object_get(entry, "tap"));

                        if (!taps && !mirrors)
                                continue;
                        if (!taps && ctx->app->config.mirror_listen == NULL)
                                l->fault = "copies of requests are needed: mlctld runs without "
                                           "--mirror-listen";
                        (void)json_array_append_new(
                                l->watch,
                                json_pack("{s:s, s:s, s:s, s:O, s:b, s:o, s:o, s:I, s:O}",
                                          "control", control, "route", route, "owner", r->id,
                                          "checks", json_object_get(r->plan, "checks"), "mirror",
                                          mirrors, "candidate", whom(entry, "candidate"), "stable",
                                          whom(entry, "stable"), "share",
                                          taps ? (json_int_t)0 : (json_int_t)int_of(step, "mirror"),
                                          "generation", json_object_get(entry, "generation")));
                }
        }
}

static int read_look(struct mlc_ctx *ctx, struct look *l)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(rollout_done) struct rollout r = {0};
        int e = db_tx_begin_read(ctx, &tx);

        if (e == 0)
                e = rollout_peek(ctx, &tx, l->id, &r);
        if (e < 0)
                return e;
        l->state = r.state;
        l->step = r.step;
        if (!mlc_streq(r.state, "running"))
                return 0;
        e = read_routes(ctx, &tx, &r, &l->gateways);
        if (e == 0)
                watch_routes(ctx, l, &r);
        return e;
}

/* The counters of a gateway, asked for once in a tick; text when it could not be asked, or does not
 * answer while the tick waits. */
static json_t *answer(struct mlc_ctx *ctx, const struct look *l, const char *control)
{
        json_t *stats = json_object_get(l->asked, control);

        if (stats != NULL)
                return stats;
        stats = rollout_jobs_answered(ctx->app, control, l->until_ms);
        if (stats == NULL)
                stats = json_string("it does not answer");
        (void)json_object_set_new(l->asked, control, stats);
        return stats;
}

/* What cannot be asked is the look's fault, not ours. */
static void ask_gateways(struct mlc_ctx *ctx, struct look *l)
{
        const char *control;
        json_t *g;

        json_object_foreach (l->gateways, control, g) {
                json_t *stats = answer(ctx, l, control);

                if (!json_is_object(stats)) {
                        l->fault = ctx_printf(ctx, "gateway '%s' cannot be asked: %s", control,
                                              json_string_value(stats));
                        return;
                }
                (void)json_object_set(g, "stats", stats);
        }
        l->mirrored = mirror_take(ctx->app->mirror, l->id);
        l->counted = true;
}

/* --- time: by the machine's monotonic clock, as far as somebody watched --- */

static json_t *child(json_t *obj, const char *key)
{
        json_t *c = json_object_get(obj, key);

        if (c == NULL) {
                c = json_object();
                (void)json_object_set_new(obj, key, c);
        }
        return c;
}

static const char *boot_id(struct mlc_ctx *ctx)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_err ignored = {0};
        size_t len;

        if (mlc_read_file("/proc/sys/kernel/random/boot_id", 64, &text, &len, &ignored) < 0)
                return "";
        return ctx_printf(ctx, "%.36s", text);
}

/* Adds what passed since the last look to seen.step_ms and seen.silent_ms. */
static void pass_time(struct rollout *r, const char *boot)
{
        json_t *watch = child(r->seen, "watch");
        int64_t now = mlc_monotonic_ms(), passed = now - int_of(watch, "ms");

        if (!mlc_streq(boot, text_of(watch, "boot")) || passed < 0)
                passed = 0;
        if (passed > WATCHED_MS)
                passed = WATCHED_MS;
        (void)json_object_set_new(watch, "boot", json_string(boot));
        (void)json_object_set_new(watch, "ms", json_integer(now));
        if (r->step_since_ms == 0 && !ramp_going(r))
                return;
        (void)json_object_set_new(r->seen, "step_ms",
                                  json_integer(int_of(r->seen, "step_ms") + passed));
        (void)json_object_set_new(r->seen, "silent_ms",
                                  json_integer(int_of(r->seen, "silent_ms") + passed));
}

/* --- counting --- */

static int fold_one(struct mlc_ctx *ctx, struct rollout *r, json_t *increment)
{
        json_t *stats = NULL;
        int e;

        (void)json_object_set(increment, "step_ms", json_object_get(r->seen, "step_ms"));
        (void)json_object_set_new(increment, "at_ms", json_integer(r->now_ms));
        e = mlc_rollout_fold(r->plan, r->stats, increment, &stats, &ctx->err);
        if (e < 0)
                return e;
        json_decref(r->stats);
        r->stats = stats;
        (void)json_object_set_new(r->seen, "silent_ms", json_integer(0));
        return 0;
}

/* What the mirror counted, under the epoch that its gateway's generation stands for. */
static int fold_mirrored(struct mlc_ctx *ctx, struct rollout *r, const struct look *l)
{
        const json_t *weights = json_object_get(r->seen, "weights"), *epoch;
        json_t *m, *increment;
        size_t i;
        int e = 0;

        json_array_foreach (l->mirrored, i, m) {
                epoch = counters_epoch(json_object_get(weights, text_of(m, "control")),
                                       int_of(m, "generation"));
                increment = json_object_get(m, "increment");
                if (epoch == NULL || int_of(epoch, "step") < 0)
                        continue; /* of before the rollout, or of the target's wave */
                (void)json_object_set(increment, "generation", json_object_get(epoch, "epoch"));
                (void)json_object_set(increment, "step", json_object_get(epoch, "step"));
                (void)json_object_set(increment, "weight", json_object_get(epoch, "weight"));
                e = fold_one(ctx, r, increment);
                if (e < 0)
                        return e;
        }
        return e;
}

static int fold(struct mlc_ctx *ctx, struct rollout *r, const struct look *l)
{
        _cleanup_(json_decref_p) json_t *increments = json_object();
        const char *control, *epoch;
        json_t *g, *increment;
        int e = 0;

        json_object_foreach (l->gateways, control, g) {
                e = counters_fold(ctx, r,
                                  &(struct counters_in){.control = control,
                                                        .stats = json_object_get(g, "stats"),
                                                        .routes = json_object_get(g, "routes")},
                                  increments);
                if (e < 0)
                        return e;
        }
        json_object_foreach (increments, epoch, increment) {
                e = fold_one(ctx, r, increment);
                if (e < 0)
                        return e;
        }
        return fold_mirrored(ctx, r, l);
}

/* How requests are split, in the words of increments. */
static const char *split_by(const struct look *l)
{
        const char *control, *route;
        json_t *g, *entry;

        json_object_foreach (l->gateways, control, g)
                json_object_foreach (json_object_get(g, "routes"), route, entry)
                        if (!mlc_streq(text_of(entry, "key"), "random"))
                                return "sticky";
        return "random";
}

/* What was reported of answers, and labels of them. They say nothing of whether requests come. */
static int fold_observed(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                         const struct look *l)
{
        _cleanup_(json_decref_p) json_t *increments = NULL;
        int64_t silent = int_of(r->seen, "silent_ms");
        const char *epoch;
        json_t *increment;
        int e = observation_take(ctx, tx, r, split_by(l), &increments);

        if (e < 0)
                return e;
        json_object_foreach (increments, epoch, increment) {
                e = fold_one(ctx, r, increment);
                if (e < 0)
                        return e;
        }
        (void)json_object_set_new(r->seen, "silent_ms", json_integer(silent));
        return 0;
}

/* Values of promql checks, of this step. */
static int fold_measured(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                         const struct look *l)
{
        _cleanup_(json_decref_p) json_t *increment = NULL;
        int64_t silent = int_of(r->seen, "silent_ms");
        json_t *values = NULL;
        int e = measure_take(ctx, tx, r, &values);

        if (e < 0 || values == NULL)
                return e;
        increment = json_pack("{s:I, s:i, s:i, s:s, s:o}", "generation",
                              (json_int_t)int_of(r->seen, "epoch"), "step", r->step, "weight",
                              rollout_weight(r, r->step), "key", split_by(l), "promql", values);
        e = fold_one(ctx, r, increment);
        (void)json_object_set_new(r->seen, "silent_ms", json_integer(silent));
        return e;
}

/* --- what follows --- */

/* To the weight that a state and step have; leaf with weights before and after. */
static int move_to(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                   const struct rollout_change *c, const json_t *decision)
{
        _cleanup_(json_decref_p) json_t *detail = NULL;
        struct rollout_change change = *c;
        char evidence[MLC_DIGEST_STR];
        int before = rollout_weight(r, r->step), after, e = 0;
        struct rollout next = *r;

        next.state = c->state != NULL ? c->state : r->state;
        next.step = c->step >= 0 ? c->step : r->step;
        after = rollout_weight(&next, next.step);
        if (decision != NULL)
                e = gate_json_digest(ctx, decision, evidence);
        if (e < 0)
                return e;
        detail = json_pack("{s:{s:i, s:i}, s:s?}", "weights", "before", before, "after", after,
                           "evidence", decision != NULL ? evidence : NULL);
        rollout_detail_targets(detail, r, &next);
        change.detail = detail;
        (void)json_object_set_new(r->seen, "step_ms", json_integer(0));
        (void)json_object_set_new(r->seen, "silent_ms", json_integer(0));
        (void)json_object_del(r->seen, "approved");
        e = rollout_set(ctx, tx, r, &change);
        return e < 0 ? e : split_rollout(ctx, tx, r, after);
}

static int advance(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const json_t *decision)
{
        const json_t *ab = json_object_get(decision, "ab");
        bool last = rollout_step(r, r->step + 1) == NULL;

        if (last && json_is_object(ab) && !mlc_streq(text_of(ab, "verdict"), "proven"))
                return rollout_go_back(ctx, tx, r, "the experiment did not prove it better");
        if (request_end(ctx, tx, r, "approved") < 0)
                return ctx->err.code;
        if (last)
                return move_to(ctx, tx, r,
                               &(struct rollout_change){.action = "rollout.complete",
                                                        .state = "completing",
                                                        .step = -1,
                                                        .paused = -1},
                               decision);
        return move_to(ctx, tx, r,
                       &(struct rollout_change){
                               .action = "rollout.step", .step = r->step + 1, .paused = -1},
                       decision);
}

static int hold(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const char *why)
{
        return rollout_set(
                ctx, tx, r,
                &(struct rollout_change){
                        .action = "rollout.hold", .step = -1, .paused = -1, .hold = why});
}

static int stop_for(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                    const json_t *decision)
{
        const char *why = text_of(decision, "reason");

        if (ramp_going(r) || !mlc_streq(text_of(decision, "action"), "pause"))
                return rollout_go_back(ctx, tx, r, why);
        if (request_end(ctx, tx, r, "void") < 0)
                return ctx->err.code;
        return rollout_set(
                ctx, tx, r,
                &(struct rollout_change){
                        .action = "rollout.pause", .step = -1, .paused = 1, .hold = why});
}

/* Everything is met but somebody: `what` is approval or person. */
static bool waits_for(const json_t *decision, const char *what)
{
        const json_t *w;
        size_t i;

        json_array_foreach (json_object_get(decision, "waiting_for"), i, w)
                if (mlc_streq(text_of(w, "what"), what))
                        return mlc_streq(text_of(decision, "decision"), "wait");
        return false;
}

static int follow(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const json_t *decision,
                  bool *ret_changed)
{
        const char *d = text_of(decision, "decision");
        bool asks = waits_for(decision, "approval"), goes = mlc_streq(d, "advance"), later = false;
        const char *why = NULL;
        int e = 0;

        if (mlc_streq(d, "harm") ||
            (!r->paused && (mlc_streq(d, "deadline") || mlc_streq(d, "silence")))) {
                *ret_changed = true;
                return stop_for(ctx, tx, r, decision);
        }
        if (r->paused)
                return 0;
        if ((asks || goes) && !rollout_is_back(r))
                e = rollout_barred(ctx, tx, r, &why);
        if (e == 0 && asks && why == NULL && waits_for(decision, "person"))
                why = "an operator says when to go on";
        if (e == 0 && asks)
                e = request_open(ctx, tx, r, decision, why != NULL ? &later : NULL);
        if (e < 0)
                return e;
        if (why != NULL && (goes || later))
                return hold(ctx, tx, r, why);
        if (!goes)
                return hold(ctx, tx, r, text_of(decision, "reason"));
        *ret_changed = true;
        return advance(ctx, tx, r, decision);
}

static int decide(struct mlc_ctx *ctx, struct rollout *r, const struct look *l,
                  const struct request *q, json_t **ret)
{
        const struct mlc_rollout_now now = {
                .step = (unsigned)r->step,
                .step_ms = int_of(r->seen, "step_ms"),
                .silent_ms = int_of(r->seen, "silent_ms"),
                .fault = l->fault,
                .approved = json_is_true(json_object_get(r->seen, "approved")),
                .signed_off = q->open && !q->expired && q->signed_off,
                .asked = q->open};

        (void)json_object_set_new(r->seen, "inputs",
                                  json_pack("{s:i, s:I, s:I, s:s?, s:b, s:b, s:b}", "step", r->step,
                                            "step_ms", (json_int_t)now.step_ms, "silent_ms",
                                            (json_int_t)now.silent_ms, "fault", now.fault,
                                            "approved", now.approved, "signed_off", now.signed_off,
                                            "asked", now.asked));
        return mlc_rollout_decide(r->plan, r->stats, &now, ret, &ctx->err);
}

static int write_folded(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *r,
                        const json_t *decision)
{
        const char *stats = rollout_text(ctx, r->stats);
        const char *seen = stats != NULL ? rollout_text(ctx, r->seen) : NULL;
        const char *text = seen != NULL ? rollout_text(ctx, decision) : NULL;

        if (text == NULL)
                return ctx->err.code;
        return db_run(tx, SQL_ROLLOUT_FOLDED, NULL, DB_TEXT(r->id), DB_TEXT(stats), DB_TEXT(seen),
                      DB_TEXT(text));
}

static int in_force(struct db_tx *tx, const struct rollout *r, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int e = db_run(tx, SQL_ROLLOUT_IN_FORCE, &rows, DB_TEXT(r->model), DB_TEXT(r->environment));

        if (e == 0)
                *ret = db_bool(&rows, 0, 0);
        return e;
}

/* A gateway has taken the candidate to 0 by itself: it used up its limit of errors. */
static bool tripped(const struct look *l)
{
        const char *control;
        const json_t *t;
        json_t *g;
        size_t i;

        json_object_foreach (l->gateways, control, g)
                json_array_foreach (json_object_get(json_object_get(g, "stats"), "tripped"), i, t)
                        if (json_object_get(json_object_get(g, "routes"), text_of(t, "route")) !=
                            NULL)
                                return true;
        return false;
}

/* On the way down nobody waits for a gateway that is away: the others go on. */
static int go_down_alone(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r,
                         const struct look *l)
{
        const char *seen;

        pass_time(r, l->boot);
        seen = rollout_text(ctx, r->seen);
        if (seen == NULL || db_run(tx, SQL_ROLLOUT_SEEN, NULL, DB_TEXT(r->id), DB_TEXT(seen)) < 0)
                return ctx->err.code;
        return ramp_step(ctx, tx, r, l->changed);
}

static int run_step(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, const struct look *l)
{
        _cleanup_(json_decref_p) json_t *decision = NULL;
        struct request q = {0};
        bool verified = false;
        int e = in_force(tx, r, &verified);

        if (e < 0)
                return e;
        if (!verified && ramp_going(r))
                return go_down_alone(ctx, tx, r, l);
        if (!verified)
                return hold(ctx, tx, r, "a gateway does not hold the table yet");
        if (r->step_since_ms == 0) {
                e = db_run(tx, SQL_ROLLOUT_STEP_IN_FORCE, NULL, DB_TEXT(r->id));
                r->step_since_ms = r->now_ms;
        }
        pass_time(r, l->boot);
        if (json_object_size(r->stats) == 0) {
                json_decref(r->stats);
                r->stats = mlc_rollout_stats_new();
        }
        if (e == 0 && l->counted)
                e = fold(ctx, r, l);
        if (e == 0)
                e = fold_observed(ctx, tx, r, l);
        if (e == 0)
                e = fold_measured(ctx, tx, r, l);
        if (e == 0)
                e = request_read(ctx, tx, r, &q);
        if (e == 0)
                e = decide(ctx, r, l, &q, &decision);
        if (e == 0)
                e = write_folded(ctx, tx, r, decision);
        if (e == 0 && tripped(l)) {
                *l->changed = true;
                return rollout_go_back(ctx, tx, r, "a gateway took it to 0: too many errors");
        }
        if (e == 0 && q.expired)
                return request_expire(ctx, tx, r, &q, l->changed);
        if (e == 0)
                e = follow(ctx, tx, r, decision, l->changed);
        return e < 0 ? e : ramp_step(ctx, tx, r, l->changed);
}

/* --- the ends --- */

static int withdraw(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, bool *ret_changed)
{
        *ret_changed = true;
        return rollout_go_back(ctx, tx, r, "the version was withdrawn");
}

static int prepare(struct mlc_ctx *ctx, struct db_tx *tx, struct rollout *r, bool *ret_changed)
{
        enum served_state state;
        const char *why = NULL;
        bool stopped = false;
        int e = served_ask(ctx, tx, r, &state, &why);

        if (e == 0)
                e = rollout_stopped(tx, r->environment, &stopped);
        if (e < 0)
                return e;
        if (state == SERVED_FAILED) {
                *ret_changed = true;
                return rollout_go_back(ctx, tx, r, why);
        }
        if (state == SERVED_WAITS)
                return hold(ctx, tx, r, why);
        if (stopped && !rollout_is_back(r))
                return hold(ctx, tx, r, "the line is stopped");
        if (r->paused)
                return 0;
        *ret_changed = true;
        return move_to(
                ctx, tx, r,
                &(struct rollout_change){
                        .action = "rollout.begin", .state = "running", .step = 0, .paused = -1},
                NULL);
}

/* In the order of locks: what promotion holds comes before the rollout's row. */
static int finish(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollout *old, bool live)
{
        _cleanup_(rollout_done) struct rollout r = {0};
        const char *state = live ? "completed" : rollout_failed(old) ? "failed" : "rolled_back";
        bool verified = false;
        int e = live ? promotion_rolled_out(ctx, tx, old->promotion)
                     : promotion_rollout_ended(ctx, tx, old->promotion, state, old->outcome);

        if (e == 0)
                e = rollout_load(ctx, tx, old->id, true, &r);
        if (e == 0)
                e = in_force(tx, &r, &verified);
        if (e < 0)
                return e;
        if (!verified || !mlc_streq(r.state, old->state))
                return ctx_fail(ctx, MLC_E_CONFLICT, "rollout '%s' is no longer %s", old->id,
                                old->state);
        e = rollout_set(ctx, tx, &r,
                        &(struct rollout_change){
                                .action = "rollout.end", .state = state, .step = -1, .paused = 0});
        if (e == 0)
                e = served_release(tx, &r, live ? r.from_version : r.version);
        return e < 0 ? e : rollout_settle(ctx, tx, &r);
}

static int end(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct look *l = userdata;
        _cleanup_(rollout_done) struct rollout r = {0}, held = {0};
        bool verified = false, gone = false, live;
        int e = rollout_load(ctx, tx, l->id, false, &r);

        live = e == 0 && mlc_streq(r.state, "completing");
        if (live)
                e = rollout_withdrawn(tx, &r, &gone);
        if (e == 0 && gone) {
                e = rollout_load(ctx, tx, l->id, true, &held);
                return e < 0 || !mlc_streq(held.state, r.state)
                               ? e
                               : withdraw(ctx, tx, &held, l->changed);
        }
        if (e == 0)
                e = in_force(tx, &r, &verified);
        if (e < 0 || !verified)
                return e;
        if (!live && !mlc_streq(r.state, "aborting"))
                return 0;
        *l->changed = true;
        return finish(ctx, tx, &r, live);
}

static int step(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct look *l = userdata;
        _cleanup_(rollout_done) struct rollout r = {0};
        bool gone = false;
        int e = rollout_load(ctx, tx, l->id, true, &r);

        if (e < 0 || !mlc_streq(r.state, l->state) || r.step != l->step)
                return e; /* somebody was faster: the next look sees it as it is */
        e = rollout_withdrawn(tx, &r, &gone);
        if (e < 0)
                return e;
        if (gone)
                return withdraw(ctx, tx, &r, l->changed);
        if (mlc_streq(r.state, "preparing"))
                return prepare(ctx, tx, &r, l->changed);
        return run_step(ctx, tx, &r, l);
}

static int look_at(struct mlc_ctx *ctx, struct tick *t, const char *id)
{
        _cleanup_(look_done) struct look l = {.id = id,
                                              .asked = t->asked,
                                              .until_ms = t->until_ms,
                                              .boot = t->boot,
                                              .watch = t->watch,
                                              .changed = &t->changed};
        int e = read_look(ctx, &l);

        if (e < 0)
                return e;
        if (mlc_streq(l.state, "completing") || mlc_streq(l.state, "aborting"))
                return db_tx_retry(ctx, end, &l);
        if (mlc_streq(l.state, "running"))
                ask_gateways(ctx, &l);
        return db_tx_retry(ctx, step, &l);
}

int rollout_tick(struct mlc_ctx *ctx)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(tick_done) struct tick t = {.asked = json_object(), .watch = json_array()};
        struct db_tx tx = {0};
        int e = db_tx_begin_read(ctx, &tx);

        if (e == 0)
                e = db_run0(&tx, SQL_ROLLOUT_ACTIVE, &rows);
        db_tx_done(&tx);
        if (e == 0 && rows.n > 0)
                e = gateways_ask(ctx);
        t.until_ms = mlc_monotonic_ms() + ANSWER_MS;
        t.boot = boot_id(ctx);
        for (int i = 0; e == 0 && i < rows.n; i++) {
                _cleanup_(mlc_ctx_done) struct mlc_ctx one = {0};

                mlc_ctx_init(&one, ctx->app, ROLLOUT_TASK, ROLLOUT_JOB_ARENA, 15000);
                if (look_at(&one, &t, db_text(&rows, i, 0)) < 0)
                        mlc_log_err(MLC_LOG_ERROR, one.trace, "rollout.step_failed", &one.err);
        }
        rollout_watch_copies(ctx, t.watch);
        return e == 0 && t.changed ? rollout_gateways(ctx) : e;
}
