/* SPDX-License-Identifier: Apache-2.0 */
#include "pending.h"

#include <ctype.h>
#include <stdio.h>

#define STOP SIGUSR2 /* from pending_stop */

static void fill(sigset_t *set)
{
        static const int signals[] = {SIGTERM, SIGINT, SIGHUP, STOP};

        (void)sigemptyset(set);
        for (size_t i = 0; i < sizeof(signals) / sizeof(*signals); i++)
                (void)sigaddset(set, signals[i]);
}

/* Dies of it as if nobody had waited for it. */
static void die_of(int sig)
{
        sigset_t one;

        (void)sigemptyset(&one);
        (void)sigaddset(&one, sig);
        (void)signal(sig, SIG_DFL);
        (void)pthread_sigmask(SIG_UNBLOCK, &one, NULL);
        (void)raise(sig);
}

static void *wait_for_end(void *userdata)
{
        struct pending *p = userdata;
        sigset_t set;
        int sig = STOP;

        fill(&set);
        if (sigwait(&set, &sig) != 0 || sig == STOP)
                return NULL;
        (void)pthread_mutex_lock(&p->lock);
        if (p->id[0] != '\0')
                (void)fprintf(stderr,
                              "mlctl: no longer waiting; %s stays pending: the same command waits "
                              "again, mlctl promotion cancel %s ends it\n",
                              p->id, p->id);
        else
                (void)fprintf(stderr, "mlctl: no longer waiting; if the request arrived, it stays "
                                      "pending: mlctl promotion list --open\n");
        (void)fflush(NULL);
        (void)pthread_mutex_unlock(&p->lock);
        die_of(sig);
        return NULL;
}

int pending_start(struct cli *cli, struct pending *p)
{
        sigset_t set;

        fill(&set);
        p->id[0] = '\0';
        (void)pthread_mutex_init(&p->lock, NULL);
        (void)pthread_sigmask(SIG_BLOCK, &set, &p->before);
        if (pthread_create(&p->thread, NULL, wait_for_end, p) != 0) {
                (void)pthread_sigmask(SIG_SETMASK, &p->before, NULL);
                (void)pthread_mutex_destroy(&p->lock);
                return mlc_fail(&cli->err, MLC_E_INTERNAL, "cannot start a thread");
        }
        p->running = true;
        return 0;
}

void pending_name(struct pending *p, const char *id)
{
        for (const char *c = id; *c != '\0'; c++)
                if (!isalnum((unsigned char)*c)) /* no id of ours: it is not printed */
                        return;
        if (!p->running)
                return;
        (void)pthread_mutex_lock(&p->lock);
        (void)snprintf(p->id, sizeof(p->id), "%s", id);
        (void)pthread_mutex_unlock(&p->lock);
}

void pending_stop(struct pending *p)
{
        if (!p->running)
                return;
        p->running = false;
        (void)pthread_kill(p->thread, STOP);
        (void)pthread_join(p->thread, NULL);
        (void)pthread_sigmask(SIG_SETMASK, &p->before, NULL);
        (void)pthread_mutex_destroy(&p->lock);
}
