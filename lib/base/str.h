/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "mlctl/error.h"

/*
 * A growing string with a ceiling. Once an append would pass `cap` the string is marked `over`,
 * keeps what it has, and mlc_str_check() reports MLC_E_LIMIT: append freely, check once. Always
 * NUL-terminated
 * (`data` may be NULL only before the first append; mlc_str_cstr() never returns NULL).
 */
struct mlc_str {
        char *data;
        size_t len;
        size_t size; /* bytes allocated */
        size_t cap; /* longest length allowed */
        bool over;
};

void mlc_str_init(struct mlc_str *s, size_t cap);
void mlc_str_done(struct mlc_str *s); /* for _cleanup_, idempotent */
void mlc_str_reset(struct mlc_str *s); /* empty, keeps the memory */
void mlc_str_add(struct mlc_str *s, const char *text);
void mlc_str_addn(struct mlc_str *s, const void *data, size_t len);
void mlc_str_addc(struct mlc_str *s, char c);
void mlc_str_addf(struct mlc_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *mlc_str_cstr(const struct mlc_str *s);
int mlc_str_check(const struct mlc_str *s, struct mlc_err *err) MLC_CHECK;
/* Hands the malloc'ed, NUL-terminated text to the caller (free()); the string is empty afterwards.
 */
char *mlc_str_take(struct mlc_str *s);

bool mlc_streq(const char *a, const char *b); /* NULL equals only NULL */
bool mlc_starts_with(const char *s, const char *prefix);
bool mlc_ends_with(const char *s, const char *suffix);
/* Strict decimal without sign, leading zeros refused except "0". false on anything else or
 * overflow. */
bool mlc_parse_u64(const char *s, unsigned long long *ret);
