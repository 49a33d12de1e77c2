/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/*
 * Handles that are not memory of an arena are freed by scope:
 *     _cleanup_(close_fd) int fd = -1;
 *     _cleanup_(free_p) char *s = NULL;
 * Ownership leaves a scope only by TAKE_PTR or TAKE_FD.
 */
#define _cleanup_(f) __attribute__((cleanup(f)))

#define TAKE_PTR(p)                                                                                \
        __extension__({                                                                            \
                __typeof__(p) _taken = (p);                                                        \
                (p) = NULL;                                                                        \
                _taken;                                                                            \
        })

#define TAKE_FD(fd)                                                                                \
        __extension__({                                                                            \
                int _taken = (fd);                                                                 \
                (fd) = -1;                                                                         \
                _taken;                                                                            \
        })

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

static inline void free_p(void *p)
{
        free(*(void **)p);
}

static inline void close_fd(const int *fd)
{
        if (*fd >= 0)
                (void)close(*fd);
}

static inline void close_file(FILE **f)
{
        if (*f != NULL)
                (void)fclose(*f);
}
