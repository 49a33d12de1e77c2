/* SPDX-License-Identifier: Apache-2.0 */
#include "validate.h"

#include <inttypes.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/json.h"

#define ELEMENTS_MAX (INT64_C(1) << 40)

struct check {
        const struct gw_input *in;
        int64_t counted;
        char *why;
};

static bool no(char *why, const char *what, const char *name)
{
        size_t n = 0;

        for (const char *s = name; *s != '\0' && n < 60; s++)
                n++;
        (void)snprintf(why, GW_WHY_MAX, "input \"%.*s\": %s", (int)n, name, what);
        for (char *s = why; *s != '\0'; s++)
                if (*s < ' ' || *s > '~')
                        *s = '?';
        return false;
}

static bool check_element(struct check *c, const json_t *one)
{
        const char *type = c->in->datatype;
        double v;

        c->counted++;
        if (mlc_streq(type, "BYTES"))
                return json_is_string(one) || no(c->why, "a text is needed", c->in->name);
        if (mlc_streq(type, "BOOL"))
                return json_is_boolean(one) || json_is_integer(one) ||
                       no(c->why, "true or false is needed", c->in->name);
        if (type[0] == 'F' || type[0] == 'B') {
                if (!json_is_number(one))
                        return no(c->why, "a number is needed", c->in->name);
        } else if (!json_is_integer(one)) {
                return no(c->why, "a whole number is needed", c->in->name);
        }
        v = json_number_value(one);
        if (c->in->ranged && (v < c->in->lo || v > c->in->hi))
                return no(c->why, "a value is out of its range", c->in->name);
        return true;
}

/* Data is flat, or nested as the shape is. */
static bool check_data(struct check *c, const json_t *data, unsigned depth)
{
        const json_t *one;
        size_t i;

        json_array_foreach (data, i, one) {
                if (json_is_array(one)) {
                        if (depth == GW_DIMS_MAX || !check_data(c, one, depth + 1))
                                return depth != GW_DIMS_MAX
                                               ? false
                                               : no(c->why, "data is nested too deeply",
                                                    c->in->name);
                } else if (!check_element(c, one)) {
                        return false;
                }
        }
        return true;
}

static bool check_shape(const struct gw_input *in, const json_t *given, int64_t *ret_elements,
                        char *why)
{
        const json_t *shape = json_object_get(given, "shape");
        int64_t elements = 1;

        if (!json_is_array(shape) || json_array_size(shape) != in->n_dims)
                return no(why, "another number of dimensions is declared", in->name);
        for (size_t i = 0; i < in->n_dims; i++) {
                const json_t *dim = json_array_get(shape, i);
                int64_t n = json_integer_value(dim);

                if (!json_is_integer(dim) || n < 0 || n > INT32_MAX)
                        return no(why, "a dimension is not a whole number", in->name);
                if (in->shape[i] >= 0 && in->shape[i] != n)
                        return no(why, "another shape is declared", in->name);
                elements *= n;
                if (elements > ELEMENTS_MAX)
                        return no(why, "the shape is too large", in->name);
        }
        *ret_elements = elements;
        return true;
}

static bool is_binary(const json_t *given)
{
        return json_is_integer(
                json_object_get(json_object_get(given, "parameters"), "binary_data_size"));
}

static bool check_input(const struct gw_input *in, const json_t *given, char *why)
{
        const char *datatype = json_string_value(json_object_get(given, "datatype"));
        const json_t *data = json_object_get(given, "data");
        struct check c = {.in = in, .why = why};
        int64_t elements = 0;

        if (datatype == NULL || !mlc_streq(datatype, in->datatype))
                return no(why, "another datatype is declared", in->name);
        if (!check_shape(in, given, &elements, why))
                return false;
        if (data == NULL && is_binary(given))
                return true;
        if (!json_is_array(data))
                return no(why, "data is missing", in->name);
        if (!check_data(&c, data, 1))
                return false;
        if (c.counted != elements)
                return no(why, "there is not as much data as the shape says", in->name);
        return true;
}

static const json_t *find(const json_t *inputs, const char *name, size_t *ret_times)
{
        const json_t *one, *found = NULL;
        size_t i;

        *ret_times = 0;
        json_array_foreach (inputs, i, one) {
                if (!mlc_streq(json_string_value(json_object_get(one, "name")), name))
                        continue;
                found = one;
                (*ret_times)++;
        }
        return found;
}

bool gw_validate(const struct gw_input *inputs, size_t n_inputs, const char *body, size_t json_len,
                 char ret_why[GW_WHY_MAX])
{
        _cleanup_(json_decref_p) json_t *root = NULL;
        struct mlc_err err = {0};
        const json_t *given;

        (void)snprintf(ret_why, GW_WHY_MAX, "the request is not a JSON object with inputs");
        if (mlc_json_parse(body, json_len, &root, &err) < 0)
                return false;
        given = json_object_get(root, "inputs");
        if (!json_is_array(given))
                return false;
        for (size_t i = 0; i < n_inputs; i++) {
                size_t times;
                const json_t *one = find(given, inputs[i].name, &times);

                if (times != 1)
                        return no(ret_why, times == 0 ? "is missing" : "is given twice",
                                  inputs[i].name);
                if (!check_input(&inputs[i], one, ret_why))
                        return false;
        }
        if (json_array_size(given) == n_inputs)
                return true;
        (void)snprintf(ret_why, GW_WHY_MAX, "%zu inputs are given, %zu are declared",
                       json_array_size(given), n_inputs);
        return false;
}
