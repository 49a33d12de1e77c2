/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/rollout_jobs.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "app.h"
#include "base/clock.h"
#include "base/str.h"
#include "work/work.h"

#define ANSWER_MS 5000

struct running {
        struct app *app;
        char *key, *group; /* key NULL: a free place */
        bool again;
        struct rollout_job job;
};

struct rollout_jobs {
        pthread_mutex_t lock;
        pthread_cond_t changed; /* one ended, or an answer came */
        atomic_bool stopping;
        json_t *answers; /* {KEY: {"ms","answer"}} */
        unsigned n;
        struct running all[ROLLOUT_JOBS_MAX];
};

void rollout_jobs_init(struct app *app)
{
        struct rollout_jobs *j = calloc(1, sizeof(*j));
        pthread_condattr_t attr;

        if (j == NULL)
                abort();
        j->answers = json_object();
        (void)pthread_mutex_init(&j->lock, NULL);
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&j->changed, &attr);
        (void)pthread_condattr_destroy(&attr);
        app->rollout_jobs = j;
}

bool rollout_jobs_cancelled(const struct app *app)
{
        return atomic_load(&app->rollout_jobs->stopping) || !work_is_leader(app);
}

/* Whether it is over. From then on it takes no orders to run again. */
static bool over(struct rollout_jobs *j, struct running *r)
{
        bool is;

        (void)pthread_mutex_lock(&j->lock);
        is = !r->again || atomic_load(&j->stopping);
        r->again = false;
        if (is) {
                free(r->key);
                free(r->group);
                r->key = r->group = NULL;
        }
        (void)pthread_mutex_unlock(&j->lock);
        return is;
}

static void leave(struct rollout_jobs *j)
{
        (void)pthread_mutex_lock(&j->lock);
        j->n--;
        (void)pthread_cond_broadcast(&j->changed);
        (void)pthread_mutex_unlock(&j->lock);
}

static void *run(void *userdata)
{
        struct running *r = userdata;
        const struct rollout_job job = r->job;
        struct rollout_jobs *j = r->app->rollout_jobs;
        struct app *app = r->app;

        do
                job.run(app, job.userdata);
        while (!over(j, r));
        if (job.free != NULL)
                job.free(job.userdata);
        leave(j);
        return NULL;
}

/* A free place, or NULL. Held: the lock. */
static struct running *place(struct rollout_jobs *j, const struct rollout_job *job)
{
        struct running *found = NULL;
        unsigned n = 0;

        for (size_t i = 0; i < ROLLOUT_JOBS_MAX; i++) {
                struct running *r = &j->all[i];

                if (r->key == NULL) {
                        found = found != NULL ? found : r;
                        continue;
                }
                if (job->group != NULL && r->group != NULL && mlc_streq(r->group, job->group))
                        n++;
                if (!mlc_streq(r->key, job->key))
                        continue;
                r->again = r->again || job->again;
                return NULL;
        }
        return job->group != NULL && n >= job->group_max ? NULL : found;
}

static char *copy(const char *text)
{
        char *s = text != NULL ? strdup(text) : NULL;

        if (text != NULL && s == NULL)
                abort();
        return s;
}

bool rollout_jobs_start(struct app *app, const struct rollout_job *job)
{
        struct rollout_jobs *j = app->rollout_jobs;
        struct running *r = NULL;
        pthread_attr_t attr;
        pthread_t thread;

        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        (void)pthread_mutex_lock(&j->lock);
        if (!atomic_load(&j->stopping))
                r = place(j, job);
        if (r != NULL) {
                *r = (struct running){
                        .app = app, .key = copy(job->key), .group = copy(job->group), .job = *job};
                if (pthread_create(&thread, &attr, run, r) == 0) {
                        j->n++;
                } else {
                        free(r->key);
                        free(r->group);
                        *r = (struct running){0};
                        r = NULL;
                }
        }
        (void)pthread_mutex_unlock(&j->lock);
        (void)pthread_attr_destroy(&attr);
        return r != NULL;
}

void rollout_jobs_stop(struct app *app)
{
        struct rollout_jobs *j = app->rollout_jobs;

        if (j == NULL)
                return;
        (void)pthread_mutex_lock(&j->lock);
        atomic_store(&j->stopping, true);
        while (j->n > 0)
                (void)pthread_cond_wait(&j->changed, &j->lock);
        (void)pthread_mutex_unlock(&j->lock);
}

void rollout_jobs_free(struct app *app)
{
        struct rollout_jobs *j = app->rollout_jobs;

        if (j == NULL)
                return;
        app->rollout_jobs = NULL;
        (void)pthread_cond_destroy(&j->changed);
        (void)pthread_mutex_destroy(&j->lock);
        json_decref(j->answers);
        free(j);
}

void rollout_jobs_answer(struct app *app, const char *key, json_t *answer)
{
        struct rollout_jobs *j = app->rollout_jobs;

        (void)pthread_mutex_lock(&j->lock);
        (void)json_object_set_new(
                j->answers, key,
                json_pack("{s:I, s:o}", "ms", (json_int_t)mlc_monotonic_ms(), "answer", answer));
        (void)pthread_cond_broadcast(&j->changed);
        (void)pthread_mutex_unlock(&j->lock);
}

/* The caller's, taken out; NULL when there is none that is young enough. Held: the lock. */
static json_t *take(struct rollout_jobs *j, const char *key)
{
        json_t *held = json_object_get(j->answers, key), *answer = NULL;

        if (held == NULL)
                return NULL;
        if (json_integer_value(json_object_get(held, "ms")) + ANSWER_MS > mlc_monotonic_ms())
                answer = json_incref(json_object_get(held, "answer"));
        (void)json_object_del(j->answers, key);
        return answer;
}

json_t *rollout_jobs_answered(struct app *app, const char *key, int64_t until_ms)
{
        struct timespec ts = {.tv_sec = until_ms / 1000, .tv_nsec = (until_ms % 1000) * 1000000};
        struct rollout_jobs *j = app->rollout_jobs;
        json_t *answer;

        (void)pthread_mutex_lock(&j->lock);
        while ((answer = take(j, key)) == NULL && mlc_monotonic_ms() < until_ms &&
               !atomic_load(&j->stopping))
                (void)pthread_cond_timedwait(&j->changed, &j->lock, &ts);
        (void)pthread_mutex_unlock(&j->lock);
        return answer;
}
