/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int64_t mlc_now_ms(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_REALTIME, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int64_t mlc_monotonic_ms(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

void mlc_sleep_ms(int64_t ms)
{
        struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (ms % 1000) * 1000000};

        while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
                ;
}

void mlc_time_format(int64_t ms, char ret[MLC_TIME_MAX])
{
        time_t sec = ms / 1000;
        struct tm tm;

        if (ms % 1000 < 0)
                sec--;
        (void)gmtime_r(&sec, &tm);
        (void)snprintf(ret, MLC_TIME_MAX, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ",
                       (tm.tm_year + 1900) % 10000, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
                       tm.tm_min, tm.tm_sec, (int)(ms - (int64_t)sec * 1000));
}

static bool digits(const char **s, int n, int *ret)
{
        int v = 0;

        for (int i = 0; i < n; i++, (*s)++) {
                if (**s < '0' || **s > '9')
                        return false;
                v = v * 10 + (**s - '0');
        }
        *ret = v;
        return true;
}

static bool literal(const char **s, char c)
{
        if (**s != c)
                return false;
        (*s)++;
        return true;
}

static bool date_part(const char **s, struct tm *tm)
{
        static const int days[] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
        bool leap;

        if (!digits(s, 4, &tm->tm_year) || !literal(s, '-') || !digits(s, 2, &tm->tm_mon) ||
            !literal(s, '-') || !digits(s, 2, &tm->tm_mday))
                return false;
        if (tm->tm_mon < 1 || tm->tm_mon > 12 || tm->tm_mday < 1 ||
            tm->tm_mday > days[tm->tm_mon - 1])
                return false;
        leap = (tm->tm_year % 4 == 0 && tm->tm_year % 100 != 0) || tm->tm_year % 400 == 0;
        if (tm->tm_mon == 2 && tm->tm_mday == 29 && !leap)
                return false;
        tm->tm_year -= 1900;
        tm->tm_mon -= 1;
        return true;
}

static bool fraction(const char **s, int *ret_ms)
{
        int n = 0, ms = 0;

        *ret_ms = 0;
        if (!literal(s, '.'))
                return true;
        for (; **s >= '0' && **s <= '9'; (*s)++, n++)
                if (n < 3)
                        ms = ms * 10 + (**s - '0');
        if (n == 0 || n > 9)
                return false;
        for (int i = n; i < 3; i++)
                ms *= 10;
        *ret_ms = ms;
        return true;
}

static bool offset(const char **s, int *ret_min)
{
        int h, m, sign = **s == '-' ? -1 : 1;

        *ret_min = 0;
        if (literal(s, 'Z') || literal(s, 'z'))
                return true;
        if (!literal(s, '+') && !literal(s, '-'))
                return false;
        if (!digits(s, 2, &h) || !literal(s, ':') || !digits(s, 2, &m) || h > 23 || m > 59)
                return false;
        *ret_min = sign * (h * 60 + m);
        return true;
}

bool mlc_time_parse(const char *s, int64_t *ret_ms)
{
        struct tm tm = {0};
        int ms = 0, min = 0;

        if (!date_part(&s, &tm))
                return false;
        if (*s != '\0') {
                if (!literal(&s, 'T') && !literal(&s, 't') && !literal(&s, ' '))
                        return false;
                if (!digits(&s, 2, &tm.tm_hour) || !literal(&s, ':') ||
                    !digits(&s, 2, &tm.tm_min) || !literal(&s, ':') || !digits(&s, 2, &tm.tm_sec))
                        return false;
                if (tm.tm_hour > 23 || tm.tm_min > 59 || tm.tm_sec > 60)
                        return false;
                if (!fraction(&s, &ms) || !offset(&s, &min) || *s != '\0')
                        return false;
        }
        *ret_ms = ((int64_t)timegm(&tm) - (int64_t)min * 60) * 1000 + ms;
        return true;
}

bool mlc_duration_parse(const char *s, int64_t *ret_ms)
{
        static const struct {
                char unit;
                int64_t ms;
        } units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}, {'w', 604800000}};
        const int64_t max = INT64_C(3660) * 86400000;
        int64_t v = 0;

        if (*s < '1' || *s > '9')
                return false;
        for (; *s >= '0' && *s <= '9'; s++) {
                v = v * 10 + (*s - '0');
                if (v > max)
                        return false;
        }
        for (unsigned i = 0; i < sizeof(units) / sizeof(units[0]); i++)
                if (s[0] == units[i].unit && s[1] == '\0' && v <= max / units[i].ms) {
                        *ret_ms = v * units[i].ms;
                        return true;
                }
        return false;
}
