/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/inputs.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"

#define NAME_MAX_BYTES 100
#define DIMS_MAX 8

__attribute__((format(printf, 4, 5))) static int fail(const char *at, const char *key,
                                                      struct mlc_err *err, const char *fmt, ...)
{
        char where[MLC_JSON_POINTER_MAX], what[200];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        mlc_json_pointer(where, at, key);
        return mlc_fail_field(err, MLC_E_INVALID, where, "%s", what);
}

static bool known(const char *datatype)
{
        static const char *const types[] = {"BOOL", "UINT8", "UINT16", "UINT32", "UINT64",
                                            "INT8", "INT16", "INT32",  "INT64",  "FP16",
                                            "FP32", "FP64",  "BF16",   "BYTES"};

        for (size_t i = 0; i < ARRAY_LEN(types); i++)
                if (mlc_streq(types[i], datatype))
                        return true;
        return false;
}

static int shape(const json_t *in, const char *at, json_t *out, struct mlc_err *err)
{
        const json_t *given = json_object_get(in, "shape"), *dim;
        json_t *made = json_array();
        size_t i;

        (void)json_object_set_new(out, "shape", made);
        if (!json_is_array(given) || json_array_size(given) > DIMS_MAX)
                return fail(at, "shape", err, "a list of at most %d dimensions is expected",
                            DIMS_MAX);
        json_array_foreach (given, i, dim) {
                json_int_t n = json_is_null(dim) ? -1 : json_integer_value(dim);

                if ((!json_is_null(dim) && !json_is_integer(dim)) || n < -1 || n > INT32_MAX)
                        return fail(at, "shape", err,
                                    "dimensions are whole numbers from 0 on, or -1 for any");
                (void)json_array_append_new(made, json_integer(n));
        }
        return 0;
}

static int range(const json_t *in, const char *at, json_t *out, struct mlc_err *err)
{
        json_t *given = json_object_get(in, "range"), *lo = json_array_get(given, 0),
               *hi = json_array_get(given, 1);

        (void)json_object_set_new(out, "range", json_null());
        if (given == NULL || json_is_null(given))
                return 0;
        if (json_array_size(given) != 2 || !json_is_number(lo) || !json_is_number(hi) ||
            json_number_value(lo) > json_number_value(hi))
                return fail(at, "range", err, "the least and the greatest value are expected");
        (void)json_object_set_new(out, "range", json_pack("[O, O]", lo, hi));
        return 0;
}

static int input(const json_t *in, const char *at, json_t *list, struct mlc_err *err)
{
        const char *name = json_string_value(json_object_get(in, "name")),
                   *datatype = json_string_value(json_object_get(in, "datatype"));
        json_t *out = json_object(), *other;
        size_t i;
        int r;

        (void)json_array_append_new(list, out);
        if (name == NULL || *name == '\0' || strlen(name) > NAME_MAX_BYTES)
                return fail(at, "name", err, "a name of at most %d bytes is expected",
                            NAME_MAX_BYTES);
        json_array_foreach (list, i, other)
                if (mlc_streq(json_string_value(json_object_get(other, "name")), name))
                        return fail(at, "name", err, "'%.100s' is declared twice", name);
        if (!known(datatype))
                return fail(at, "datatype", err,
                            "a datatype of the Open Inference Protocol is expected, as FP32");
        (void)json_object_set_new(out, "name", json_string(name));
        (void)json_object_set_new(out, "datatype", json_string(datatype));
        r = shape(in, at, out, err);
        return r < 0 ? r : range(in, at, out, err);
}

int mlc_inputs_read(const json_t *model_yaml, json_t **ret, struct mlc_err *err)
{
        const json_t *given = json_object_get(model_yaml, "inputs"), *one;
        _cleanup_(json_decref_p) json_t *list = json_array();
        size_t i;

        if (given == NULL || json_is_null(given)) {
                *ret = NULL;
                return 0;
        }
        if (!json_is_array(given))
                return mlc_fail_field(err, MLC_E_INVALID, "/inputs", "a list is expected");
        if (json_array_size(given) > MLC_INPUTS_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, "/inputs", "at most %d inputs are checked",
                                      MLC_INPUTS_MAX);
        json_array_foreach (given, i, one) {
                char at[MLC_JSON_POINTER_MAX];
                int r;

                (void)snprintf(at, sizeof(at), "/inputs/%zu", i);
                r = input(one, at, list, err);
                if (r < 0)
                        return r;
        }
        *ret = json_array_size(list) > 0 ? TAKE_PTR(list) : NULL;
        return 0;
}
