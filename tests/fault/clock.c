/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD for the tests of clocks that are set: what asks for the time of day, the server or
 * PostgreSQL, gets it moved by the nanoseconds in the shared file MLC_CLOCK_FILE.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL

static _Atomic(int64_t) *moved;

__attribute__((constructor)) static void start(void)
{
        const char *file = getenv("MLC_CLOCK_FILE");
        int fd = file != NULL ? open(file, O_RDONLY | O_CLOEXEC) : -1;
        void *p;

        if (fd < 0)
                return;
        p = mmap(NULL, sizeof(*moved), PROT_READ, MAP_SHARED, fd, 0);
        (void)close(fd);
        if (p != MAP_FAILED)
                moved = p;
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
        int r = (int)syscall(SYS_clock_gettime, id, ts);
        int64_t ns;

        if (r != 0 || moved == NULL || (id != CLOCK_REALTIME && id != CLOCK_REALTIME_COARSE))
                return r;
        ns = (int64_t)ts->tv_sec * NS + ts->tv_nsec + atomic_load(moved);
        ts->tv_sec = ns / NS;
        ts->tv_nsec = ns % NS;
        return 0;
}

int gettimeofday(struct timeval *tv, void *zone)
{
        struct timespec ts;

        (void)zone;
        (void)clock_gettime(CLOCK_REALTIME, &ts);
        tv->tv_sec = ts.tv_sec;
        tv->tv_usec = ts.tv_nsec / 1000;
        return 0;
}

time_t time(time_t *ret)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_REALTIME, &ts);
        if (ret != NULL)
                *ret = ts.tv_sec;
        return ts.tv_sec;
}
