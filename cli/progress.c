/* SPDX-License-Identifier: Apache-2.0 */
#include "progress.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/parallel.h"

#define JOBS_DEFAULT 4
#define REDRAW_MS 100
#define RATE_FROM_MS 500 /* before that a rate would jump about */

static void format_size(uint64_t bytes, char ret[24])
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
        double v = (double)bytes;
        size_t u = 0;

        while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
                v /= 1024;
                u++;
        }
        (void)snprintf(ret, 24, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
}

void progress_format(const struct progress *p, int64_t elapsed_ms, char ret[PROGRESS_LINE])
{
        unsigned percent = p->total > 0 ? (unsigned)((double)p->done * 100 / (double)p->total) : 0;
        char done[24], total[24], rate[24];
        double per_ms;
        long long left;
        size_t n;

        format_size(p->done, done);
        format_size(p->total, total);
        n = (size_t)snprintf(ret, PROGRESS_LINE, "%s  %3u %%  %s of %s", p->what, percent, done,
                             total);
        if (elapsed_ms < RATE_FROM_MS || p->done == 0 || n >= PROGRESS_LINE)
                return;
        per_ms = (double)p->done / (double)elapsed_ms;
        format_size((uint64_t)(per_ms * 1000), rate);
        left = (long long)((double)(p->total - p->done) / per_ms / 1000);
        if (left >= 3600)
                (void)snprintf(ret + n, PROGRESS_LINE - n, "  %s/s  %lld:%02lld:%02lld left", rate,
                               left / 3600, left / 60 % 60, left % 60);
        else
                (void)snprintf(ret + n, PROGRESS_LINE - n, "  %s/s  %lld:%02lld left", rate,
                               left / 60, left % 60);
}

static void draw(struct progress *p, int64_t now)
{
        char line[PROGRESS_LINE];

        progress_format(p, now - p->began_ms, line);
        (void)fprintf(stderr, "\r\033[K%s", line);
        (void)fflush(stderr);
        p->drawn_ms = now;
}

static void on_phase(void *userdata, const char *what, uint64_t total)
{
        struct progress *p = userdata;

        if (!p->cli->progress)
                return;
        (void)pthread_mutex_lock(&p->lock);
        p->what = what;
        p->total = total;
        p->done = 0;
        p->began_ms = mlc_monotonic_ms();
        p->drawn_ms = 0;
        (void)pthread_mutex_unlock(&p->lock);
}

static void on_add(void *userdata, int64_t bytes)
{
        struct progress *p = userdata;
        int64_t now;

        if (!p->cli->progress)
                return;
        (void)pthread_mutex_lock(&p->lock);
        if (bytes < 0 && (uint64_t)-bytes > p->done)
                p->done = 0;
        else
                p->done += (uint64_t)bytes;
        if (p->done > p->total)
                p->done = p->total;
        now = mlc_monotonic_ms();
        if (now - p->drawn_ms >= REDRAW_MS)
                draw(p, now);
        (void)pthread_mutex_unlock(&p->lock);
}

void progress_init(struct progress *p, struct cli *cli)
{
        *p = (struct progress){.cli = cli, .what = ""};
        (void)pthread_mutex_init(&p->lock, NULL);
}

void progress_done(struct progress *p)
{
        if (p->cli->progress && p->drawn_ms != 0) {
                (void)fputs("\r\033[K", stderr);
                (void)fflush(stderr);
        }
        (void)pthread_mutex_destroy(&p->lock);
}

struct mlc_meter progress_meter(struct progress *p)
{
        return (struct mlc_meter){.phase = on_phase, .add = on_add, .userdata = p};
}

int progress_jobs(struct cli *cli, unsigned *ret)
{
        const char *text = cli_opt(cli, "jobs");
        unsigned long long n = JOBS_DEFAULT;

        if (text != NULL && (!mlc_parse_u64(text, &n) || n < 1 || n > MLC_PARALLEL_MAX))
                return mlc_fail(&cli->err, MLC_E_USAGE, "--jobs takes 1 to %d, not '%s'",
                                MLC_PARALLEL_MAX, text);
        *ret = (unsigned)n;
        return 0;
}
