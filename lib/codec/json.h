/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The one door to jansson. Decode with mlc_json_parse(): duplicate keys are refused. */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mlctl/error.h"

#define MLC_JSON_FLAGS (JSON_REJECT_DUPLICATES)
#define MLC_JSON_POINTER_MAX 128

/* _cleanup_(json_decref_p) json_t *j = NULL; */
static inline void json_decref_p(json_t **j)
{
        json_decref(*j);
}

/*
 * Exactly one value of any type, UTF-8, nothing after it, no duplicate keys, no NUL in strings,
 * nesting of at most 2048 (jansson's). The caller owns *ret. MLC_E_INVALID with line and column.
 */
int mlc_json_parse(const char *text, size_t len, json_t **ret, struct mlc_err *err) MLC_CHECK;

/*
 * Members of an object. `at` is the JSON pointer of obj itself ("" for the root, "/metrics/0"), so
 * that err.field points at the member at fault. What they return is borrowed from obj.
 * MLC_E_INVALID when the member is missing, null, or of another type.
 */
int mlc_json_get_str(const json_t *obj, const char *at, const char *key, const char **ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_get_i64(const json_t *obj, const char *at, const char *key, int64_t *ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_get_num(const json_t *obj, const char *at, const char *key, double *ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_get_bool(const json_t *obj, const char *at, const char *key, bool *ret,
                      struct mlc_err *err) MLC_CHECK;
int mlc_json_get_obj(const json_t *obj, const char *at, const char *key, json_t **ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_get_arr(const json_t *obj, const char *at, const char *key, json_t **ret,
                     struct mlc_err *err) MLC_CHECK;
/* The same for optional members: absent or null leaves *ret as the caller initialised it. */
int mlc_json_opt_str(const json_t *obj, const char *at, const char *key, const char **ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_opt_i64(const json_t *obj, const char *at, const char *key, int64_t *ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_opt_num(const json_t *obj, const char *at, const char *key, double *ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_opt_bool(const json_t *obj, const char *at, const char *key, bool *ret,
                      struct mlc_err *err) MLC_CHECK;
int mlc_json_opt_obj(const json_t *obj, const char *at, const char *key, json_t **ret,
                     struct mlc_err *err) MLC_CHECK;
int mlc_json_opt_arr(const json_t *obj, const char *at, const char *key, json_t **ret,
                     struct mlc_err *err) MLC_CHECK;
/* Refuses members that are not in the NULL-terminated list. */
int mlc_json_only(const json_t *obj, const char *at, const char *const *keys,
                  struct mlc_err *err) MLC_CHECK;
/* Writes at + "/" + key with "~" and "/" escaped (RFC 6901); cut when longer than the buffer. */
void mlc_json_pointer(char ret[MLC_JSON_POINTER_MAX], const char *at, const char *key);
