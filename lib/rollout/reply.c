/* SPDX-License-Identifier: Apache-2.0 */
/* What replies of the Open Inference Protocol say, and whether two say the same. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "rollout/analysis.h"
#include "rollout/num.h"

#define DEPTH_MAX 8 /* of nested data */

/* A scalar as a class: texts and whole numbers as they are. */
static bool scalar(const json_t *v, char ret[MLC_ROLLOUT_CLASS_MAX])
{
        if (json_is_string(v))
                (void)snprintf(ret, MLC_ROLLOUT_CLASS_MAX, "%s", json_string_value(v));
        else if (json_is_integer(v))
                (void)snprintf(ret, MLC_ROLLOUT_CLASS_MAX, "%lld",
                               (long long)json_integer_value(v));
        else if (json_is_boolean(v))
                (void)snprintf(ret, MLC_ROLLOUT_CLASS_MAX, "%s",
                               json_is_true(v) ? "true" : "false");
        else if (json_is_real(v))
                (void)snprintf(ret, MLC_ROLLOUT_CLASS_MAX, "%.6g", json_real_value(v));
        else
                return false;
        return true;
}

/* Numbers of the last dimension: of several outputs a row is its scores. */
static size_t row_of(const json_t *output)
{
        const json_t *shape = json_object_get(output, "shape");
        size_t dims = json_array_size(shape);
        json_int_t n = json_integer_value(json_array_get(shape, dims - 1));

        return dims >= 2 && n > 1 && n < 100000 ? (size_t)n : 1;
}

bool mlc_rollout_class(const json_t *reply, char ret[MLC_ROLLOUT_CLASS_MAX])
{
        const json_t *output = json_array_get(json_object_get(reply, "outputs"), 0),
                     *data = json_object_get(output, "data");
        size_t n = row_of(output), best = 0;

        for (int depth = 0; depth < DEPTH_MAX && json_is_array(json_array_get(data, 0)); depth++) {
                data = json_array_get(data, 0);
                if (!json_is_array(json_array_get(data, 0)))
                        n = json_array_size(data) > 1 ? json_array_size(data) : n;
        }
        if (json_array_size(data) == 0)
                return false;
        if (n < 2 || n > json_array_size(data) || !json_is_real(json_array_get(data, 0)))
                return scalar(json_array_get(data, 0), ret);
        for (size_t i = 1; i < n; i++)
                if (json_number_value(json_array_get(data, i)) >
                    json_number_value(json_array_get(data, best)))
                        best = i;
        (void)snprintf(ret, MLC_ROLLOUT_CLASS_MAX, "%zu", best);
        return true;
}

bool mlc_rollout_number(const json_t *reply, double *ret)
{
        const json_t *data =
                json_object_get(json_array_get(json_object_get(reply, "outputs"), 0), "data");

        if (row_of(json_array_get(json_object_get(reply, "outputs"), 0)) > 1)
                return false;
        for (int depth = 0; depth < DEPTH_MAX && json_array_size(data) == 1 &&
                            json_is_array(json_array_get(data, 0));
             depth++)
                data = json_array_get(data, 0);
        if (json_array_size(data) != 1 || !json_is_real(json_array_get(data, 0)))
                return false;
        *ret = json_real_value(json_array_get(data, 0));
        return true;
}

static bool near(double a, double b, const double tolerance[2])
{
        if (a == b || (isnan(a) && isnan(b)))
                return true;
        return fabs(a - b) <= fmax(tolerance[0], tolerance[1] * fmax(fabs(a), fabs(b)));
}

/* NOLINTNEXTLINE(misc-no-recursion): bounded by depth */
static bool same(const json_t *a, const json_t *b, const double tolerance[2], int depth)
{
        if (json_is_number(a) && json_is_number(b))
                return near(json_number_value(a), json_number_value(b), tolerance);
        if (!json_is_array(a) || !json_is_array(b))
                return json_equal(a, b);
        if (json_array_size(a) != json_array_size(b) || depth == DEPTH_MAX)
                return false;
        for (size_t i = 0; i < json_array_size(a); i++)
                if (!same(json_array_get(a, i), json_array_get(b, i), tolerance, depth + 1))
                        return false;
        return true;
}

bool mlc_rollout_agree(const json_t *check, const json_t *one, const json_t *other)
{
        const json_t *a = json_object_get(one, "outputs"), *b = json_object_get(other, "outputs");
        double tolerance[2] = {num_get(check, "tolerance", 0.0),
                               num_get(check, "relative_tolerance", 0.0)};

        if (!json_is_array(a) || !json_is_array(b) || json_array_size(a) != json_array_size(b))
                return false;
        for (size_t i = 0; i < json_array_size(a); i++) {
                const json_t *x = json_array_get(a, i), *y = json_array_get(b, i);

                if (!mlc_streq(text_get(x, "name"), text_get(y, "name")) ||
                    !json_equal(json_object_get(x, "shape"), json_object_get(y, "shape")) ||
                    !same(json_object_get(x, "data"), json_object_get(y, "data"), tolerance, 0))
                        return false;
        }
        return true;
}
