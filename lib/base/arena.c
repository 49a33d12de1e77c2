/* SPDX-License-Identifier: Apache-2.0 */
#include "base/arena.h"

#include <assert.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef MLC_ARENA_MALLOC
#define CHUNK_SIZE 0
#else
#define CHUNK_SIZE ((size_t)8192)
#endif
#define ALIGN 16

struct mlc_arena_chunk {
        struct mlc_arena_chunk *next;
        size_t size, used;
        _Alignas(ALIGN) char data[];
};

void mlc_arena_init(struct mlc_arena *a, size_t cap)
{
        *a = (struct mlc_arena){.cap = cap};
}

void mlc_arena_done(struct mlc_arena *a)
{
        if (a == NULL)
                return;
        while (a->chunks != NULL) {
                struct mlc_arena_chunk *next = a->chunks->next;

                free(a->chunks);
                a->chunks = next;
        }
        a->used = 0;
}

void *mlc_arena_alloc(struct mlc_arena *a, size_t size, struct mlc_err *err)
{
        struct mlc_arena_chunk *c = a->chunks;
        size_t need = (size + ALIGN - 1) & ~(size_t)(ALIGN - 1);
        void *p;

        if (need < size || need > a->cap - a->used) {
                (void)mlc_fail(err, MLC_E_LIMIT, "more than %zu bytes of memory needed", a->cap);
                return NULL;
        }
        if (c == NULL || c->size - c->used < need) {
                size_t room = need > CHUNK_SIZE ? need : CHUNK_SIZE;

                c = calloc(1, sizeof(*c) + room);
                if (c == NULL)
                        abort();
                c->size = room;
                c->next = a->chunks;
                a->chunks = c;
        }
        p = c->data + c->used;
        c->used += need;
        a->used += need;
        return p;
}

void *mlc_arena_array(struct mlc_arena *a, size_t n, size_t size, struct mlc_err *err)
{
        size_t total;

        if (__builtin_mul_overflow(n, size, &total))
                total = SIZE_MAX;
        return mlc_arena_alloc(a, total, err);
}

char *mlc_arena_strndup(struct mlc_arena *a, const char *s, size_t len, struct mlc_err *err)
{
        char *p = mlc_arena_alloc(a, len + 1, err);

        if (p != NULL && len > 0)
                memcpy(p, s, len);
        return p;
}

char *mlc_arena_strdup(struct mlc_arena *a, const char *s, struct mlc_err *err)
{
        return mlc_arena_strndup(a, s, strlen(s), err);
}

char *mlc_arena_printf(struct mlc_arena *a, struct mlc_err *err, const char *fmt, ...)
{
        va_list ap;
        char *p;
        int n;

        va_start(ap, fmt);
        n = vsnprintf(NULL, 0, fmt, ap);
        va_end(ap);
        assert(n >= 0);
        p = mlc_arena_alloc(a, (size_t)n + 1, err);
        if (p == NULL)
                return NULL;
        va_start(ap, fmt);
        (void)vsnprintf(p, (size_t)n + 1, fmt, ap);
        va_end(ap);
        return p;
}
