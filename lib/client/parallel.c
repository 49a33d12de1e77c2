/* SPDX-License-Identifier: Apache-2.0 */
#include "client/parallel.h"

#include <assert.h>
#include <pthread.h>
#include <stdbool.h>

struct shared {
        const struct mlc_parallel *p;
        pthread_mutex_t lock;
        /* under lock */
        size_t next;
        struct mlc_err err; /* the first failure */
};

struct worker {
        struct shared *shared;
        pthread_t thread;
        unsigned number;
};

static bool take(struct shared *s, size_t *ret)
{
        bool some;

        (void)pthread_mutex_lock(&s->lock);
        some = s->next < s->p->n && s->err.code == 0;
        if (some)
                *ret = s->next++;
        (void)pthread_mutex_unlock(&s->lock);
        return some;
}

static void *work(void *arg)
{
        struct worker *w = arg;
        size_t i;

        while (take(w->shared, &i)) {
                struct mlc_err err = {0};

                if (w->shared->p->run(w->shared->p->userdata, i, w->number, &err) >= 0)
                        continue;
                (void)pthread_mutex_lock(&w->shared->lock);
                if (w->shared->err.code == 0)
                        w->shared->err = err;
                (void)pthread_mutex_unlock(&w->shared->lock);
        }
        return NULL;
}

int mlc_parallel_run(const struct mlc_parallel *p, struct mlc_err *err)
{
        struct shared s = {.p = p, .lock = PTHREAD_MUTEX_INITIALIZER};
        struct worker workers[MLC_PARALLEL_MAX];
        unsigned started = 0;

        assert(p->threads >= 1 && p->threads <= MLC_PARALLEL_MAX);
        for (unsigned i = 1; i < p->threads && i < p->n; i++) {
                workers[started + 1] = (struct worker){.shared = &s, .number = i};
                if (pthread_create(&workers[started + 1].thread, NULL, work,
                                   &workers[started + 1]) != 0)
                        break; /* fewer threads do the same work */
                started++;
        }
        workers[0] = (struct worker){.shared = &s};
        (void)work(&workers[0]);
        for (unsigned i = 1; i <= started; i++)
                (void)pthread_join(workers[i].thread, NULL);
        (void)pthread_mutex_destroy(&s.lock);
        if (s.err.code == 0)
                return 0;
        return mlc_err_set(err, s.err.code, s.err.field[0] != '\0' ? s.err.field : NULL, s.err.file,
                           s.err.line, "%s", s.err.msg);
}
