/* SPDX-License-Identifier: Apache-2.0 */
/* The thread that leads: one among all servers holds the lock and sequences, the others wait for
 * it. */
#include <assert.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "work/work.h"

#define STEP_ARENA (16u << 20)
#define STEP_MS 30000
#define HOT_MS 200 /* how long an append is looked for before it is committed */
#define HOT_POLL_MS 10
#define FOLLOW_MS 50 /* between looks at who leads */
#define RETRY_MS 500 /* after an error */

struct loop {
        struct audit *a;
        struct audit_leader *leader; /* NULL while this server does not lead */
        int64_t hot_until;
};

/* Sleeps until something is appended here or ms are over; false when the server stops. */
static bool wait_ms(struct loop *l, int64_t ms)
{
        struct audit *a = l->a;
        struct timespec until;
        bool go;

        (void)clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_sec += ms / 1000;
        until.tv_nsec += ms % 1000 * 1000000;
        if (until.tv_nsec >= 1000000000) {
                until.tv_sec++;
                until.tv_nsec -= 1000000000;
        }
        (void)pthread_mutex_lock(&a->lock);
        while (!a->stop && !a->nudged)
                if (pthread_cond_timedwait(&a->wake, &a->lock, &until) != 0)
                        break;
        go = !a->stop;
        if (a->nudged)
                l->hot_until = mlc_monotonic_ms() + HOT_MS;
        a->nudged = false;
        (void)pthread_mutex_unlock(&a->lock);
        return go;
}

/* The work module says who leads; the epoch that is taken here fences whoever led before. */
static int take_lead(struct mlc_ctx *ctx, struct loop *l)
{
        int r;

        if (!work_is_leader(l->a->app))
                return 0;
        l->leader = audit_leader_new(l->a);
        r = audit_leader_recover(ctx, l->leader);
        if (r < 0)
                return r;
        log_info(ctx->trace, "log.leading", KV_INT("epoch", l->leader->epoch),
                 KV_INT("size", l->leader->state.cp.size));
        return 0;
}

/* One round of leading. *ret_wait_ms is how long nothing needs doing. */
static int lead(struct mlc_ctx *ctx, struct loop *l, int64_t *ret_wait_ms)
{
        struct audit_leader *leader = l->leader;
        int64_t n, now, due;
        int r;

        if (!work_is_leader(l->a->app))
                return ctx_fail(ctx, MLC_E_PRECONDITION, "this server does not lead any more");
        r = audit_leader_sequence(ctx, leader, &n);
        if (r < 0)
                return r;
        now = mlc_monotonic_ms();
        due = leader->published_ms + AUDIT_PUBLISH_MS - now;
        if (leader->head.frontier.size > leader->state.cp.size && due <= 0) {
                r = audit_leader_publish(ctx, leader);
                if (r < 0)
                        return r;
                now = mlc_monotonic_ms();
        }
        if (audit_anchor_due(leader) && audit_leader_anchor(ctx, leader) < 0) {
                /* the log goes on; `mlctld check` and the next anchor find what is wrong */
                mlc_log_err(MLC_LOG_ERROR, ctx->trace, "log.anchor_failed", &ctx->err);
                mlc_err_clear(&ctx->err);
        }
        *ret_wait_ms = now < l->hot_until ? HOT_POLL_MS : AUDIT_POLL_MS;
        if (leader->head.frontier.size > leader->state.cp.size && due > 0 && due < *ret_wait_ms)
                *ret_wait_ms = due;
        if (n > 0)
                *ret_wait_ms = 1;
        return 0;
}

static int64_t round_of(struct loop *l)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        int64_t wait = FOLLOW_MS;
        int r;

        mlc_ctx_init(&ctx, l->a->app, "audit.sequencer", STEP_ARENA, STEP_MS);
        if (atomic_load(&l->a->read_only)) {
                audit_leader_free(&l->leader);
                return RETRY_MS;
        }
        r = l->leader == NULL ? take_lead(&ctx, l) : lead(&ctx, l, &wait);
        if (r < 0) {
                mlc_log_err(r == MLC_E_PRECONDITION ? MLC_LOG_INFO : MLC_LOG_WARN, ctx.trace,
                            "log.lead_lost", &ctx.err);
                audit_leader_free(&l->leader);
                return RETRY_MS;
        }
        return wait;
}

void *audit_sequencer_main(void *audit)
{
        struct loop l = {.a = audit};
        int64_t wait = 0;

        while (wait_ms(&l, wait))
                wait = round_of(&l);
        audit_leader_free(&l.leader);
        return NULL;
}

int audit_start(struct app *app, struct mlc_err *err)
{
        struct audit *a = app->audit;

        assert(!a->started);
        if (pthread_create(&a->thread, NULL, audit_sequencer_main, a) != 0)
                return mlc_fail(err, MLC_E_INTERNAL, "cannot start the thread of the log");
        a->started = true;
        return 0;
}

void audit_stop(struct app *app)
{
        struct audit *a = app->audit;

        if (a == NULL || !a->started)
                return;
        (void)pthread_mutex_lock(&a->lock);
        a->stop = true;
        (void)pthread_cond_signal(&a->wake);
        (void)pthread_mutex_unlock(&a->lock);
        (void)pthread_join(a->thread, NULL);
        a->started = false;
}
