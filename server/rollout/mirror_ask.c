/* SPDX-License-Identifier: Apache-2.0 */
/* Asks the candidate what stable was asked, and compares; never in the way of a client. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "client/call.h"
#include "rollout/analysis.h"
#include "rollout/mirror_internal.h"

#define NOISE_EVERY 10 /* of so many copies one is asked of stable again: its own disagreement */

void mirror_job_done(struct mirror_job *j)
{
        json_decref(j->w.checks);
        free(j->request);
        free(j->reply);
        *j = (struct mirror_job){0};
}

/* An answer to the copied request, the caller's; NULL when there was none. */
static json_t *ask(struct mlc_caller *caller, const struct mirror_job *j, const char *host,
                   const char *model, int64_t *ret_us)
{
        static const char *const headers[] = {MIRROR_HEADER ": 1", NULL};
        _cleanup_(mlc_reply_done) struct mlc_reply reply = {0};
        char url[2 * MIRROR_TEXT + 64];
        const struct mlc_call call = {.method = "POST",
                                      .url = url,
                                      .headers = headers,
                                      .body = j->request,
                                      .body_len = j->request_len,
                                      .timeout_ms = MIRROR_CALL_MS};
        int64_t start = mlc_monotonic_ms();
        struct mlc_err err = {0};
        json_t *answer = NULL;

        (void)snprintf(url, sizeof(url), "http://%s/v2/models/%s/infer", host, model);
        if (mlc_call(caller, &call, &reply, &err) < 0)
                return NULL;
        *ret_us = (mlc_monotonic_ms() - start) * 1000;
        if (reply.status != 200 ||
            mlc_json_parse(reply.body.data, reply.body.len, &answer, &err) < 0)
                return NULL;
        return answer;
}

/* {"n","agree":{CHECK: n}} of two answers to one request. */
static void compare(json_t *pairs, const json_t *checks, const json_t *one, const json_t *other)
{
        const json_t *check;
        size_t i;

        mirror_add(pairs, "n", 1);
        json_array_foreach (checks, i, check) {
                const char *id = json_string_value(json_object_get(check, "id"));

                if (mlc_streq(json_string_value(json_object_get(check, "type")),
                              "shadow-agreement"))
                        mirror_add(mirror_child(pairs, "agree"), id,
                                   mlc_rollout_agree(check, one, other) ? 1 : 0);
        }
}

/* [[stable's, candidate's, n]…] */
static void count_pair(json_t *pairs, const json_t *stable, const json_t *candidate)
{
        json_t *classes = json_object_get(pairs, "classes"), *row;
        char a[MLC_ROLLOUT_CLASS_MAX], b[MLC_ROLLOUT_CLASS_MAX];
        size_t i;

        if (!mlc_rollout_class(stable, a) || !mlc_rollout_class(candidate, b))
                return;
        if (classes == NULL) {
                classes = json_array();
                (void)json_object_set_new(pairs, "classes", classes);
        }
        json_array_foreach (classes, i, row)
                if (mlc_streq(json_string_value(json_array_get(row, 0)), a) &&
                    mlc_streq(json_string_value(json_array_get(row, 1)), b)) {
                        (void)json_array_set_new(
                                row, 2,
                                json_integer(json_integer_value(json_array_get(row, 2)) + 1));
                        return;
                }
        (void)json_array_append_new(classes, json_pack("[s, s, i]", a, b, 1));
}

struct answers {
        json_t *stable, *candidate, *again; /* owned; candidate NULL: it gave none */
        int64_t candidate_us;
};

static void answers_done(struct answers *a)
{
        json_decref(a->stable);
        json_decref(a->candidate);
        json_decref(a->again);
}

static void count(struct mirror *t, const struct mirror_job *j, const struct answers *a)
{
        json_t *whole, *inc, *arm, *pairs;

        (void)pthread_mutex_lock(&t->lock);
        whole = mirror_increment(t, &j->w, j->generation, "shadow");
        inc = json_object_get(whole, "increment");
        arm = json_object_get(json_object_get(inc, "arms"), "candidate");
        t->asked++;
        t->failed += a->candidate == NULL;
        mirror_add(arm, "requests", 1);
        mirror_add(arm, "errors", a->candidate == NULL ? 1 : 0);
        mirror_count_reply(whole, "stable", a->stable);
        if (a->candidate != NULL) {
                pairs = mirror_child(inc, "pairs");
                mirror_count_reply(whole, "candidate", a->candidate);
                compare(pairs, j->w.checks, a->stable, a->candidate);
                count_pair(pairs, a->stable, a->candidate);
        }
        if (a->again != NULL)
                compare(mirror_child(inc, "noise"), j->w.checks, a->stable, a->again);
        (void)pthread_mutex_unlock(&t->lock);
}

/* Whose answer was not copied is asked for it; without one there is nothing to compare with, and
 * that is not the candidate's fault. */
static json_t *ask_stable(struct mirror *t, struct mlc_caller *caller, const struct mirror_job *j)
{
        int64_t us = 0;
        json_t *answer = ask(caller, j, j->w.stable, j->w.stable_model, &us);

        if (answer == NULL) {
                (void)pthread_mutex_lock(&t->lock);
                t->unanswered++;
                (void)pthread_mutex_unlock(&t->lock);
        }
        return answer;
}

static void do_job(struct mirror *t, struct mlc_caller *caller, const struct mirror_job *j,
                   bool noise)
{
        _cleanup_(answers_done) struct answers a = {0};
        struct mlc_err ignored = {0};
        int64_t us = 0;

        if (j->reply == NULL)
                a.stable = ask_stable(t, caller, j);
        else if (mlc_json_parse(j->reply, j->reply_len, &a.stable, &ignored) < 0)
                return;
        if (a.stable == NULL)
                return;
        a.candidate = ask(caller, j, j->w.candidate, j->w.candidate_model, &a.candidate_us);
        if (noise || j->reply == NULL)
                a.again = ask(caller, j, j->w.stable, j->w.stable_model, &us);
        count(t, j, &a);
}

/* The next copy; false when it is over. */
static bool take(struct mirror *t, struct mirror_job *ret)
{
        bool have;

        (void)pthread_mutex_lock(&t->lock);
        while (!t->stop && t->n_queued == 0)
                (void)pthread_cond_wait(&t->more, &t->lock);
        have = !t->stop;
        if (have) {
                *ret = t->queue[t->first];
                t->queue[t->first] = (struct mirror_job){0};
                t->first = (t->first + 1) % MIRROR_QUEUE;
                t->n_queued--;
        }
        (void)pthread_mutex_unlock(&t->lock);
        return have;
}

/* Under the lock: jobs share what they compare by. */
static void give_back(struct mirror *t, struct mirror_job *j)
{
        (void)pthread_mutex_lock(&t->lock);
        mirror_job_done(j);
        (void)pthread_mutex_unlock(&t->lock);
}

void *mirror_work(void *userdata)
{
        _cleanup_(mlc_caller_free_p) struct mlc_caller *caller = NULL;
        struct mirror *t = userdata;
        struct mirror_job job = {0};
        unsigned n = 0;

        mlc_caller_new(&caller);
        while (take(t, &job)) {
                do_job(t, caller, &job, n++ % NOISE_EVERY == 0);
                give_back(t, &job);
        }
        return NULL;
}
