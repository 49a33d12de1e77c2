/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/json.h"

#include <stdio.h>
#include <string.h>

int mlc_json_parse(const char *text, size_t len, json_t **ret, struct mlc_err *err)
{
        json_error_t e;
        json_t *j = json_loadb(text, len, MLC_JSON_FLAGS | JSON_DECODE_ANY, &e);

        if (j == NULL)
                return mlc_fail(err, MLC_E_INVALID, "JSON: %s (line %d, column %d)", e.text, e.line,
                                e.column);
        *ret = j;
        return 0;
}

void mlc_json_pointer(char ret[MLC_JSON_POINTER_MAX], const char *at, const char *key)
{
        size_t n = (size_t)snprintf(ret, MLC_JSON_POINTER_MAX, "%s/", at);

        for (; n + 3 <= MLC_JSON_POINTER_MAX && *key != '\0'; key++) {
                if (*key == '~' || *key == '/') {
                        ret[n++] = '~';
                        ret[n++] = *key == '~' ? '0' : '1';
                } else {
                        ret[n++] = *key;
                }
        }
        if (n < MLC_JSON_POINTER_MAX)
                ret[n] = '\0';
}

static const char *type_name(json_type t)
{
        switch (t) {
        case JSON_OBJECT:
                return "an object";
        case JSON_ARRAY:
                return "an array";
        case JSON_STRING:
                return "a string";
        case JSON_INTEGER:
                return "an integer";
        case JSON_REAL:
                return "a number";
        case JSON_TRUE:
        case JSON_FALSE:
                return "true or false";
        case JSON_NULL:
                return "null";
        }
        return "unknown";
}

struct want {
        const char *at, *key;
        json_type type; /* JSON_TRUE: any boolean; JSON_REAL: any number */
        bool optional;
};

static bool matches(const json_t *v, json_type type)
{
        if (type == JSON_TRUE)
                return json_is_boolean(v);
        if (type == JSON_REAL)
                return json_is_number(v);
        return json_typeof(v) == type;
}

/* *ret is NULL when an optional member is absent or null. */
static int member(const json_t *obj, const struct want *w, json_t **ret, struct mlc_err *err)
{
        char field[MLC_JSON_POINTER_MAX];
        json_t *v;

        if (!json_is_object(obj))
                return mlc_fail_field(err, MLC_E_INVALID, w->at, "an object is expected");
        v = json_object_get(obj, w->key);
        if (v != NULL && json_is_null(v) && w->optional)
                v = NULL;
        if (v == NULL && w->optional) {
                *ret = NULL;
                return 0;
        }
        mlc_json_pointer(field, w->at, w->key);
        if (v == NULL)
                return mlc_fail_field(err, MLC_E_INVALID, field, "'%s' is missing", w->key);
        if (!matches(v, w->type))
                return mlc_fail_field(err, MLC_E_INVALID, field, "'%s' must be %s, not %s", w->key,
                                      type_name(w->type), type_name(json_typeof(v)));
        *ret = v;
        return 0;
}

#define WANT(t, opt) (&(struct want){.at = at, .key = key, .type = (t), .optional = (opt)})

/* One required and one optional getter per type; `expr` reads the value of the member v. */
#define GETTER(name, ctype, jtype, expr)                                                           \
        int mlc_json_get_##name(const json_t *obj, const char *at, const char *key, ctype *ret,    \
                                struct mlc_err *err)                                               \
        {                                                                                          \
                json_t *v;                                                                         \
                int r = member(obj, WANT(jtype, false), &v, err);                                  \
                                                                                                   \
                if (r < 0)                                                                         \
                        return r;                                                                  \
                *ret = expr;                                                                       \
                return 0;                                                                          \
        }                                                                                          \
        int mlc_json_opt_##name(const json_t *obj, const char *at, const char *key, ctype *ret,    \
                                struct mlc_err *err)                                               \
        {                                                                                          \
                json_t *v;                                                                         \
                int r = member(obj, WANT(jtype, true), &v, err);                                   \
                                                                                                   \
                if (r < 0)                                                                         \
                        return r;                                                                  \
                if (v != NULL)                                                                     \
                        *ret = expr;                                                               \
                return 0;                                                                          \
        }

GETTER(str, const char *, JSON_STRING, json_string_value(v))
GETTER(i64, int64_t, JSON_INTEGER, json_integer_value(v))
GETTER(num, double, JSON_REAL, json_number_value(v))
GETTER(bool, bool, JSON_TRUE, json_is_true(v))
GETTER(obj, json_t *, JSON_OBJECT, v)
GETTER(arr, json_t *, JSON_ARRAY, v)

static bool listed(const char *const *keys, const char *key)
{
        for (; *keys != NULL; keys++)
                if (strcmp(*keys, key) == 0)
                        return true;
        return false;
}

int mlc_json_only(const json_t *obj, const char *at, const char *const *keys, struct mlc_err *err)
{
        char field[MLC_JSON_POINTER_MAX];
        const char *key;
        json_t *v;

        if (!json_is_object(obj))
                return mlc_fail_field(err, MLC_E_INVALID, at, "an object is expected");
        json_object_foreach ((json_t *)(uintptr_t)obj, key, v) {
                if (listed(keys, key))
                        continue;
                mlc_json_pointer(field, at, key);
                return mlc_fail_field(err, MLC_E_INVALID, field, "'%.64s' is not a known member",
                                      key);
        }
        return 0;
}
