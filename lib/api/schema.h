/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "codec/json.h"
#include "mlctl/error.h"

/*
 * The tables that apigen.py makes from include/api/ and the decoder that reads them. What arrives
 * in C: string      const char *            NULL when absent or null integer     int64_t with bool
 * has_X unless required and not nullable number      double                  likewise boolean bool
 * likewise object      const struct ... *      NULL when absent or null array       const T *X;
 * unsigned n_X        absent, null and empty are alike: n_X 0 map         const struct {const char
 * *key; T value;} *X; unsigned n_X raw         const json_t *          any JSON; NULL when absent
 * Strings and raw values are borrowed from the decoded JSON, all else is in the arena.
 */
enum api_type {
        API_STRING,
        API_INTEGER,
        API_NUMBER,
        API_BOOLEAN,
        API_OBJECT,
        API_ARRAY,
        API_MAP,
        API_RAW,
};

enum api_format {
        API_FORMAT_NONE,
        API_FORMAT_DATE_TIME,
        API_FORMAT_SHA256_DIGEST,
        API_FORMAT_NAMESPACE,
        API_FORMAT_MODEL_NAME,
        API_FORMAT_ALIAS,
        API_FORMAT_USER_NAME,
        API_FORMAT_UUID,
};

#define API_NO_OFFSET SIZE_MAX

struct api_schema {
        enum api_type type;
        enum api_format format;
        bool nullable;
        uint32_t min_len, max_len; /* characters, items or members */
        double min, max; /* of a number */
        int64_t int_min, int_max;
        const char *const *enums; /* NULL-terminated; NULL: any */
        int pattern; /* index into the patterns, or -1 */
        const struct api_member *members;
        unsigned n_members;
        const struct api_schema *item; /* of an array or a map */
        size_t size; /* of the struct of an object, or of an element */
        size_t item_off; /* where a map's element has its value */
};

struct api_member {
        const char *name;
        const struct api_schema *schema;
        bool required;
        size_t off;
        size_t off_has; /* of has_X or n_X, or API_NO_OFFSET */
};

enum api_place { API_PATH, API_QUERY, API_HEADER };

struct api_param {
        enum api_place place;
        struct api_member member; /* offsets into the request struct */
};

/* Regular expressions (POSIX extended, the generator refuses what ECMAScript reads differently),
 * compiled once. Thread-safe to use. */
struct api_patterns {
        const char *const *text;
        regex_t *re;
        unsigned n;
};

int api_patterns_init(struct api_patterns *p, const char *const *text, unsigned n,
                      struct mlc_err *err) MLC_CHECK;
void api_patterns_done(struct api_patterns *p); /* idempotent */

struct api_decoder {
        const struct api_patterns *patterns;
        struct mlc_arena *arena;
        struct mlc_err *err;
};

/*
 * Decodes a JSON object into the zeroed struct ret. MLC_E_INVALID with the JSON pointer in
 * err.field and what was expected in err.msg; MLC_E_LIMIT when the arena is full.
 */
int api_decode_body(const struct api_decoder *d, const struct api_schema *schema,
                    const json_t *body, void *ret) MLC_CHECK;
/*
 * Decodes the n values that a parameter was given (n > 1 only for arrays) into the request struct.
 * Values are borrowed. MLC_E_INVALID with "query:NAME", "path:NAME" or "header:NAME" in err.field.
 */
int api_decode_param(const struct api_decoder *d, const struct api_param *param,
                     const char *const *values, unsigned n, void *req) MLC_CHECK;
