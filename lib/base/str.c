/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void mlc_str_init(struct mlc_str *s, size_t cap)
{
        *s = (struct mlc_str){.cap = cap};
}

void mlc_str_done(struct mlc_str *s)
{
        if (s == NULL)
                return;
        free(s->data);
        s->data = NULL;
        s->len = s->size = 0;
}

void mlc_str_reset(struct mlc_str *s)
{
        s->len = 0;
        s->over = false;
        if (s->data != NULL)
                s->data[0] = '\0';
}

static bool reserve(struct mlc_str *s, size_t more)
{
        size_t need, size;
        char *p;

        if (s->over || more > s->cap - s->len) {
                s->over = true;
                return false;
        }
        need = s->len + more + 1;
        if (s->data != NULL && need <= s->size)
                return true;
        size = s->size * 2 > need ? s->size * 2 : need;
        if (size < 64)
                size = 64;
        p = realloc(s->data, size);
        if (p == NULL)
                abort();
        s->data = p;
        s->size = size;
        return true;
}

void mlc_str_addn(struct mlc_str *s, const void *data, size_t len)
{
        if (!reserve(s, len))
                return;
        if (len > 0)
                memcpy(s->data + s->len, data, len);
        s->len += len;
        s->data[s->len] = '\0';
}

void mlc_str_add(struct mlc_str *s, const char *text)
{
        mlc_str_addn(s, text, strlen(text));
}

void mlc_str_addc(struct mlc_str *s, char c)
{
        mlc_str_addn(s, &c, 1);
}

void mlc_str_addf(struct mlc_str *s, const char *fmt, ...)
{
        va_list ap;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        assert(n >= 0);
        if (!reserve(s, (size_t)n))
                return;
        va_start(ap, fmt);
        (void)vsnprintf(s->data + s->len, (size_t)n + 1, fmt, ap);
        va_end(ap);
        s->len += (size_t)n;
}

const char *mlc_str_cstr(const struct mlc_str *s)
{
        return s->data != NULL ? s->data : "";
}

int mlc_str_check(const struct mlc_str *s, struct mlc_err *err)
{
        if (s->over)
                return mlc_fail(err, MLC_E_LIMIT, "text longer than %zu bytes", s->cap);
        return 0;
}

char *mlc_str_take(struct mlc_str *s)
{
        char *p;

        if (s->data == NULL)
                mlc_str_add(s, "");
        p = s->data;
        *s = (struct mlc_str){.cap = s->cap};
        return p;
}

bool mlc_streq(const char *a, const char *b)
{
        if (a == NULL || b == NULL)
                return a == b;
        return strcmp(a, b) == 0;
}

bool mlc_starts_with(const char *s, const char *prefix)
{
        return strncmp(s, prefix, strlen(prefix)) == 0;
}

bool mlc_ends_with(const char *s, const char *suffix)
{
        size_t n = strlen(s), m = strlen(suffix);

        return n >= m && memcmp(s + n - m, suffix, m) == 0;
}

bool mlc_parse_u64(const char *s, unsigned long long *ret)
{
        unsigned long long v = 0;

        if (s == NULL || *s == '\0' || (s[0] == '0' && s[1] != '\0'))
                return false;
        for (; *s != '\0'; s++) {
                if (*s < '0' || *s > '9')
                        return false;
                if (__builtin_mul_overflow(v, 10ULL, &v) ||
                    __builtin_add_overflow(v, (unsigned long long)(*s - '0'), &v))
                        return false;
        }
        *ret = v;
        return true;
}
