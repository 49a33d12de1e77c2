/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <math.h>
#include <stdlib.h>

#include "codec/json.h"
#include "policy/decimal.h"

/* Members of statistics and plans, inside lib/rollout. What is missing or of another type is 0. */
static inline json_t *num_json(double d)
{
        char text[MLC_DECIMAL_MAX];

        if (isnan(d))
                return json_null();
        mlc_decimal(fmin(fmax(d, -1e300), 1e300), text);
        return json_string(text);
}

/* A decimal text or a JSON number; NaN for anything else. */
static inline double num_of(const json_t *v)
{
        char *end;
        double d;

        if (json_is_number(v))
                return json_number_value(v);
        if (!json_is_string(v) || json_string_length(v) == 0)
                return NAN;
        d = strtod(json_string_value(v), &end);
        return *end == '\0' ? d : NAN;
}

static inline double num_get(const json_t *obj, const char *key, double otherwise)
{
        double d = num_of(json_object_get(obj, key));

        return isfinite(d) ? d : otherwise;
}

static inline int64_t int_get(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

static inline const char *text_get(const json_t *obj, const char *key)
{
        const char *s = json_string_value(json_object_get(obj, key));

        return s != NULL ? s : "";
}

static inline void int_add(json_t *obj, const char *key, int64_t n)
{
        json_object_set_new(obj, key, json_integer(int_get(obj, key) + n));
}

/* obj[key], an object; made when it is not there. */
static inline json_t *child(json_t *obj, const char *key)
{
        json_t *v = json_object_get(obj, key);

        if (v == NULL) {
                v = json_object();
                json_object_set_new(obj, key, v);
        }
        return v;
}
