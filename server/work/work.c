/* SPDX-License-Identifier: Apache-2.0 */
#include "work/work.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/str.h"
#include "db/db.h"

#define LEADER_LOCK 0x6d6c63746c000002 /* "mlctl", 2 */
#define LEADER_MS 1000
#define LISTEN_MS 10000
#define LISTEN_RETRY_MS 1000
#define ARENA_MAX (64 << 20)
#define CALLBACK_MS 60000

struct task {
        struct work_task def;
        struct work *work;
        pthread_t thread;
        bool woken;
};

struct work {
        struct app *app;
        pthread_mutex_t lock;
        pthread_cond_t changed; /* stopping, leader, or a task was woken */
        bool started, stopping;
        bool tasks_ended; /* then the leader's thread may end */
        atomic_bool leader;
        int wake_fd; /* ends the wait for notifications */
        pthread_t leader_thread, listen_thread;
        struct task tasks[WORK_TASKS_MAX];
        unsigned n_tasks;
        struct {
                int (*gained)(struct mlc_ctx *ctx);
                void (*lost)(struct app *app);
        } callbacks[WORK_CALLBACKS_MAX];
        unsigned n_callbacks;
};

void work_init(struct app *app)
{
        struct work *w = calloc(1, sizeof(*w));
        pthread_condattr_t attr;

        assert(app->work == NULL);
        if (w == NULL)
                abort();
        w->app = app;
        w->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (w->wake_fd < 0)
                abort();
        (void)pthread_mutex_init(&w->lock, NULL);
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&w->changed, &attr);
        (void)pthread_condattr_destroy(&attr);
        app->work = w;
}

void work_every(struct app *app, const struct work_task *task)
{
        struct work *w = app->work;

        assert(!w->started && w->n_tasks < WORK_TASKS_MAX);
        assert(task->interval_ms > 0 && task->timeout_ms > 0 && task->run != NULL);
        w->tasks[w->n_tasks++] = (struct task){.def = *task, .work = w, .woken = true};
}

void work_on_leader(struct app *app, int (*gained)(struct mlc_ctx *ctx),
                    void (*lost)(struct app *app))
{
        struct work *w = app->work;

        assert(!w->started && w->n_callbacks < WORK_CALLBACKS_MAX);
        w->callbacks[w->n_callbacks].gained = gained;
        w->callbacks[w->n_callbacks++].lost = lost;
}

bool work_is_leader(const struct app *app)
{
        return app->work != NULL && atomic_load(&app->work->leader);
}

/* NULL: all of them. */
static void wake(struct work *w, const char *name)
{
        (void)pthread_mutex_lock(&w->lock);
        for (unsigned i = 0; i < w->n_tasks; i++)
                if (name == NULL || mlc_streq(w->tasks[i].def.name, name))
                        w->tasks[i].woken = true;
        (void)pthread_cond_broadcast(&w->changed);
        (void)pthread_mutex_unlock(&w->lock);
}

void work_wake(struct app *app, const char *name)
{
        assert(name != NULL);
        wake(app->work, name);
}

/* Waits on w->changed (held: w->lock) until `until_ms`. */
static void wait_until(struct work *w, int64_t until_ms)
{
        struct timespec ts = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};

        (void)pthread_cond_timedwait(&w->changed, &w->lock, &ts);
}

/* False when it is time to end. */
static bool wait_turn(struct task *t, int64_t due_ms)
{
        struct work *w = t->work;
        bool go;

        (void)pthread_mutex_lock(&w->lock);
        for (;;) {
                bool may = !t->def.leader_only || atomic_load(&w->leader);

                if (w->stopping || (may && (t->woken || mlc_monotonic_ms() >= due_ms)))
                        break;
                wait_until(w, may ? due_ms : mlc_monotonic_ms() + 60000);
        }
        go = !w->stopping;
        t->woken = false;
        (void)pthread_mutex_unlock(&w->lock);
        return go;
}

static void run_once(struct task *t)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;

        mlc_ctx_init(&ctx, t->work->app, t->def.name, ARENA_MAX, t->def.timeout_ms);
        if (t->def.run(&ctx) < 0)
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "work.failed", &ctx.err);
}

static void *task_main(void *arg)
{
        struct task *t = arg;
        int64_t due_ms = 0;

        while (wait_turn(t, due_ms)) {
                run_once(t);
                due_ms = mlc_monotonic_ms() + t->def.interval_ms;
        }
        return NULL;
}

static void set_leader(struct work *w, bool leader)
{
        (void)pthread_mutex_lock(&w->lock);
        atomic_store(&w->leader, leader);
        for (unsigned i = 0; i < w->n_tasks; i++)
                if (leader && w->tasks[i].def.leader_only)
                        w->tasks[i].woken = true;
        (void)pthread_cond_broadcast(&w->changed);
        (void)pthread_mutex_unlock(&w->lock);
}

static void call_lost(struct work *w, unsigned n)
{
        while (n-- > 0)
                if (w->callbacks[n].lost != NULL)
                        w->callbacks[n].lost(w->app);
}

/* The number of callbacks that went through. */
static unsigned call_gained(struct work *w)
{
        unsigned i;

        for (i = 0; i < w->n_callbacks; i++) {
                _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;

                mlc_ctx_init(&ctx, w->app, "leader.gained", ARENA_MAX, CALLBACK_MS);
                if (w->callbacks[i].gained != NULL && w->callbacks[i].gained(&ctx) < 0) {
                        mlc_log_err(MLC_LOG_ERROR, ctx.trace, "leader.failed", &ctx.err);
                        break;
                }
        }
        return i;
}

static void leader_ends(struct work *w, struct db_lock **lock)
{
        set_leader(w, false);
        call_lost(w, w->n_callbacks);
        db_lock_release(lock);
        log_info(NULL, "leader.lost", KV_STR("operation", "leader"));
}

static void leader_tries(struct work *w, struct db_lock **lock)
{
        struct mlc_err err = {0};
        unsigned n;

        if (db_lock_try(w->app, LEADER_LOCK, lock, &err) < 0) {
                mlc_log_err(MLC_LOG_DEBUG, NULL, "leader.unavailable", &err);
                return;
        }
        if (*lock == NULL)
                return;
        n = call_gained(w);
        if (n < w->n_callbacks) {
                call_lost(w, n);
                db_lock_release(lock);
                return;
        }
        log_info(NULL, "leader.gained", KV_STR("operation", "leader"));
        set_leader(w, true);
}

static void *leader_main(void *arg)
{
        _cleanup_(db_lock_release) struct db_lock *lock = NULL;
        struct work *w = arg;
        bool end = false;

        while (!end) {
                struct mlc_err err = {0};
                int64_t until_ms;

                if (lock == NULL)
                        leader_tries(w, &lock);
                else if (db_lock_check(lock, &err) < 0)
                        leader_ends(w, &lock);
                until_ms = mlc_monotonic_ms() + LEADER_MS;
                (void)pthread_mutex_lock(&w->lock);
                while (!w->tasks_ended && mlc_monotonic_ms() < until_ms)
                        wait_until(w, until_ms);
                end = w->tasks_ended;
                (void)pthread_mutex_unlock(&w->lock);
        }
        if (lock != NULL)
                leader_ends(w, &lock);
        return NULL;
}

static bool is_stopping(struct work *w)
{
        bool stopping;

        (void)pthread_mutex_lock(&w->lock);
        stopping = w->stopping;
        (void)pthread_mutex_unlock(&w->lock);
        return stopping;
}

static void *listen_main(void *arg)
{
        _cleanup_(db_listen_close) struct db_listener *l = NULL;
        struct work *w = arg;

        while (!is_stopping(w)) {
                struct mlc_err err = {0};
                char name[64] = "";

                if (l == NULL) {
                        if (db_listen_open(w->app, "mlctl", &l, &err) == 0) {
                                wake(w, NULL); /* what was notified meanwhile is not known */
                                continue;
                        }
                        (void)pthread_mutex_lock(&w->lock);
                        if (!w->stopping)
                                wait_until(w, mlc_monotonic_ms() + LISTEN_RETRY_MS);
                        (void)pthread_mutex_unlock(&w->lock);
                } else if (db_listen_wait(l, w->wake_fd, LISTEN_MS, name, sizeof(name), &err) < 0) {
                        db_listen_close(&l);
                } else if (name[0] != '\0') {
                        wake(w, name);
                }
        }
        return NULL;
}

static void start_thread(pthread_t *thread, void *(*run)(void *), void *arg, const char *name)
{
        if (pthread_create(thread, NULL, run, arg) != 0)
                abort();
        (void)pthread_setname_np(*thread, name);
}

int work_start(struct app *app, struct mlc_err *err)
{
        struct work *w = app->work;

        (void)err;
        assert(!w->started);
        w->started = true;
        start_thread(&w->leader_thread, leader_main, w, "leader");
        start_thread(&w->listen_thread, listen_main, w, "listen");
        for (unsigned i = 0; i < w->n_tasks; i++)
                start_thread(&w->tasks[i].thread, task_main, &w->tasks[i], "task");
        return 0;
}

void work_stop(struct app *app)
{
        struct work *w = app->work;

        if (w == NULL)
                return;
        if (w->started) {
                (void)pthread_mutex_lock(&w->lock);
                w->stopping = true;
                (void)pthread_cond_broadcast(&w->changed);
                (void)pthread_mutex_unlock(&w->lock);
                (void)eventfd_write(w->wake_fd, 1);
                for (unsigned i = 0; i < w->n_tasks; i++)
                        (void)pthread_join(w->tasks[i].thread, NULL);
                (void)pthread_join(w->listen_thread, NULL);
                (void)pthread_mutex_lock(&w->lock);
                w->tasks_ended = true;
                (void)pthread_cond_broadcast(&w->changed);
                (void)pthread_mutex_unlock(&w->lock);
                (void)pthread_join(w->leader_thread, NULL);
        }
        app->work = NULL;
        (void)close(w->wake_fd);
        (void)pthread_cond_destroy(&w->changed);
        (void)pthread_mutex_destroy(&w->lock);
        free(w);
}
