/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/read.h"

#include <assert.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"
#include "policy/decimal.h"

int pol_fail(const struct pol_in *in, const char *key, struct mlc_err *err, const char *fmt, ...)
{
        char at[MLC_JSON_POINTER_MAX], msg[400];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(msg, sizeof(msg), fmt, ap);
        va_end(ap);
        if (key == NULL)
                return mlc_fail_field(err, MLC_E_INVALID, in->at, "%s", msg);
        mlc_json_pointer(at, in->at, key);
        if (*key >= '0' && *key <= '9') /* of a list: the place says which */
                return mlc_fail_field(err, MLC_E_INVALID, at, "%s", msg);
        return mlc_fail_field(err, MLC_E_INVALID, at, "%s: %s", key, msg);
}

static json_t *member(const struct pol_in *in, const char *key)
{
        json_t *v = json_object_get(in->obj, key);

        return json_is_null(v) ? NULL : v;
}

static bool listed(const char *const *list, const char *key)
{
        for (; list != NULL && *list != NULL; list++)
                if (strcmp(*list, key) == 0)
                        return true;
        return false;
}

static void join(struct mlc_str *s, const char *const *list)
{
        for (size_t i = 0; list[i] != NULL; i++)
                mlc_str_addf(s, "%s%s", i > 0 ? ", " : "", list[i]);
}

static int unknown_key(const char *at, const char *key, const char *const *keys,
                       struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str known;

        mlc_str_init(&known, 300);
        join(&known, keys);
        return mlc_fail_field(err, MLC_E_INVALID, at, "key '%.60s' is not known here: use %s", key,
                              mlc_str_cstr(&known));
}

int pol_only(const struct pol_in *in, const char *const *keys, const char *const *later,
             struct mlc_err *err)
{
        char at[MLC_JSON_POINTER_MAX];
        const char *key;
        json_t *v;

        if (!json_is_object(in->obj))
                return mlc_fail_field(err, MLC_E_INVALID, in->at,
                                      "keys with values are expected here (key: value)");
        json_object_foreach ((json_t *)(uintptr_t)in->obj, key, v) {
                if (listed(keys, key))
                        continue;
                mlc_json_pointer(at, in->at, key);
                if (listed(later, key))
                        return mlc_fail_field(err, MLC_E_NOT_SUPPORTED, at,
                                              "'%s' is not supported yet: leave it out", key);
                return unknown_key(at, key, keys, err);
        }
        return 0;
}

bool pol_has(const struct pol_in *in, const char *key)
{
        return member(in, key) != NULL;
}

int pol_need(const struct pol_in *in, const char *key, struct mlc_err *err)
{
        if (pol_has(in, key))
                return 0;
        return mlc_fail_field(err, MLC_E_INVALID, in->at, "key '%s' is missing", key);
}

static int set(const struct pol_in *in, const char *key, json_t *value)
{
        assert(value != NULL);
        json_object_set_new(in->out, key, value);
        return 0;
}

/* A text that satisfies the rule; fails at in->at/key. */
static int text_of(const struct pol_in *in, const char *key, const json_t *v, pol_rule *rule,
                   struct mlc_err *err)
{
        struct mlc_err why = {0};

        if (!json_is_string(v))
                return pol_fail(in, key, err, "text is expected (put numbers in quotes)");
        if (pol_plain(json_string_value(v), &why) < 0 ||
            (rule != NULL && rule(json_string_value(v), &why) < 0))
                return pol_fail(in, key, err, "%s", why.msg);
        return 0;
}

int pol_text(const struct pol_in *in, const char *key, pol_rule *rule, struct mlc_err *err)
{
        json_t *v = member(in, key);
        int r;

        if (v == NULL)
                return set(in, key, json_null());
        r = text_of(in, key, v, rule, err);
        return r < 0 ? r : set(in, key, json_string(json_string_value(v)));
}

int pol_enum(const struct pol_in *in, const char *key, const char *const *values,
             const char *otherwise, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str known;
        json_t *v = member(in, key);

        mlc_str_init(&known, 300);
        if (v == NULL && otherwise != NULL)
                return set(in, key, json_string(otherwise));
        if (json_is_string(v) && listed(values, json_string_value(v)))
                return set(in, key, json_string(json_string_value(v)));
        join(&known, values);
        return v == NULL ? pol_need(in, key, err)
                         : pol_fail(in, key, err, "use one of %s", mlc_str_cstr(&known));
}

/* As mlc_duration_parse, and "50ms". */
static bool duration(const char *s, int64_t *ret)
{
        char digits[16];
        size_t n = strspn(s, "0123456789");
        unsigned long long ms;

        if (!mlc_streq(s + n, "ms"))
                return mlc_duration_parse(s, ret);
        if (n == 0 || n >= sizeof(digits))
                return false;
        memcpy(digits, s, n);
        digits[n] = '\0';
        if (!mlc_parse_u64(digits, &ms) || ms == 0 || ms > 315360000000ULL)
                return false;
        *ret = (int64_t)ms;
        return true;
}

int pol_duration(const struct pol_in *in, const char *key, struct mlc_err *err)
{
        json_t *v = member(in, key);
        char out[64];
        int64_t ms;

        (void)snprintf(out, sizeof(out), "%s_ms", key);
        if (v == NULL)
                return set(in, out, json_null());
        if (!json_is_string(v) || !duration(json_string_value(v), &ms))
                return pol_fail(in, key, err,
                                "a time span is expected: a whole number and ms, s, m, h, d or w, "
                                "as in 72h");
        return set(in, out, json_integer(ms));
}

int pol_int(const struct pol_in *in, const char *key, const int64_t range[2], int64_t otherwise,
            struct mlc_err *err)
{
        json_t *v = member(in, key);

        if (v == NULL)
                return set(in, key, json_integer(otherwise));
        if (!json_is_integer(v) || json_integer_value(v) < range[0] ||
            json_integer_value(v) > range[1])
                return pol_fail(in, key, err, "a whole number from %lld to %lld is expected",
                                (long long)range[0], (long long)range[1]);
        return set(in, key, json_integer(json_integer_value(v)));
}

/* A number, or a text "2%" or "0.5 %". */
static bool number_of(const json_t *v, double *ret)
{
        const char *s = json_string_value(v);
        char *end;

        if (json_is_number(v)) {
                *ret = json_number_value(v);
                return isfinite(*ret);
        }
        if (s == NULL || strchr("+-.0123456789", *s) == NULL ||
            strspn(s, "+-.0123456789eE %") != strlen(s))
                return false;
        *ret = strtod(s, &end) / 100.0;
        if (end == s)
                return false;
        end += *end == ' ';
        return strcmp(end, "%") == 0 && isfinite(*ret);
}

int pol_number(const struct pol_in *in, const char *key, const struct pol_range *range,
               const char *otherwise, struct mlc_err *err)
{
        json_t *v = member(in, key);
        char text[MLC_DECIMAL_MAX];
        double d;

        if (v == NULL && otherwise == NULL)
                return set(in, key, json_null());
        if (v == NULL)
                return set(in, key, json_string(otherwise));
        if (!number_of(v, &d))
                return pol_fail(in, key, err,
                                "a number or a percentage is expected, as in 0.02 or 2%%");
        if (d < range->lo || d > range->hi || (range->open_lo && d <= range->lo) ||
            (range->open_hi && d >= range->hi))
                return pol_fail(in, key, err, "must be %s %g and %s %g",
                                range->open_lo ? "above" : "at least", range->lo,
                                range->open_hi ? "below" : "at most", range->hi);
        mlc_decimal(d, text);
        return set(in, key, json_string(text));
}

int pol_texts(const struct pol_in *in, const char *key, pol_rule *rule, size_t max,
              struct mlc_err *err)
{
        json_t *list = member(in, key), *out = json_array(), *v;
        _cleanup_(pol_map_done) struct mlc_map seen = {0};
        char at[MLC_JSON_POINTER_MAX], step[24];
        struct pol_in items = {list, at, NULL};
        size_t i;
        int r = set(in, key, out);

        mlc_map_init(&seen);
        if (list == NULL)
                return r;
        if (!json_is_array(list))
                return pol_fail(in, key, err, "a list is expected: [one, two]");
        if (json_array_size(list) > max)
                return pol_fail(in, key, err, "at most %zu are allowed", max);
        mlc_json_pointer(at, in->at, key);
        json_array_foreach (list, i, v) {
                (void)snprintf(step, sizeof(step), "%zu", i);
                r = text_of(&items, step, v, rule, err);
                if (r < 0)
                        return r;
                if (mlc_map_set(&seen, json_string_value(v), v) != NULL)
                        return pol_fail(&items, step, err, "'%.100s' stands here twice",
                                        json_string_value(v));
                json_array_append_new(out, json_string(json_string_value(v)));
        }
        return 0;
}

/* A scalar as text; NULL for anything else. */
static json_t *as_text(const json_t *v)
{
        if (json_is_string(v))
                return json_string(json_string_value(v));
        if (json_is_integer(v))
                return json_sprintf("%lld", (long long)json_integer_value(v));
        if (json_is_real(v))
                return json_sprintf("%.15g", json_real_value(v));
        return json_is_boolean(v) ? json_string(json_is_true(v) ? "true" : "false") : NULL;
}

int pol_labels(const struct pol_in *in, const char *key, size_t max, struct mlc_err *err)
{
        json_t *labels = member(in, key), *out = json_object(), *v;
        char at[MLC_JSON_POINTER_MAX];
        struct pol_in items = {labels, at, NULL};
        const char *name;
        int r = set(in, key, out);

        if (labels == NULL)
                return r;
        if (!json_is_object(labels))
                return pol_fail(in, key, err, "names with values are expected: {name: value}");
        if (json_object_size(labels) > max)
                return pol_fail(in, key, err, "at most %zu are allowed", max);
        mlc_json_pointer(at, in->at, key);
        json_object_foreach (labels, name, v) {
                _cleanup_(json_decref_p) json_t *text = as_text(v);
                struct mlc_err why = {0};

                if (text == NULL)
                        return pol_fail(&items, name, err, "text is expected");
                if (pol_plain(name, &why) < 0 || pol_plain(json_string_value(text), &why) < 0)
                        return pol_fail(&items, name, err, "%s", why.msg);
                json_object_set(out, name, text);
        }
        return 0;
}

int pol_items(const struct pol_in *in, const char *key, pol_item *read, size_t max,
              struct mlc_err *err)
{
        json_t *list = member(in, key), *out = json_array(), *v;
        char at[MLC_JSON_POINTER_MAX], item_at[MLC_JSON_POINTER_MAX], step[24];
        size_t i;
        int r = set(in, key, out);

        if (list == NULL)
                return r;
        if (!json_is_array(list))
                return pol_fail(in, key, err, "a list is expected, each item with keys of its own");
        if (json_array_size(list) > max)
                return pol_fail(in, key, err, "at most %zu are allowed", max);
        mlc_json_pointer(at, in->at, key);
        json_array_foreach (list, i, v) {
                struct pol_in item = {v, item_at, json_object()};

                json_array_append_new(out, item.out);
                (void)snprintf(step, sizeof(step), "%zu", i);
                mlc_json_pointer(item_at, at, step);
                r = read(&item, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

int pol_object(const struct pol_in *in, const char *key, pol_item *read, struct mlc_err *err)
{
        json_t *v = member(in, key);
        char at[MLC_JSON_POINTER_MAX];
        struct pol_in inner = {v, at, NULL};

        if (v == NULL)
                return set(in, key, json_null());
        inner.out = json_object();
        json_object_set_new(in->out, key, inner.out);
        mlc_json_pointer(at, in->at, key);
        return read(&inner, err);
}

int pol_distinct(const struct pol_in *in, const char *key, const char *id, struct mlc_err *err)
{
        json_t *list = json_object_get(in->out, key), *item;
        _cleanup_(pol_map_done) struct mlc_map seen = {0};
        char at[MLC_JSON_POINTER_MAX], item_at[MLC_JSON_POINTER_MAX], step[24];
        size_t i;

        mlc_map_init(&seen);
        mlc_json_pointer(at, in->at, key);
        json_array_foreach (list, i, item) {
                const char *v = json_string_value(json_object_get(item, id));
                struct pol_in place = {item, item_at, NULL};

                if (v == NULL || mlc_map_set(&seen, v, item) == NULL)
                        continue;
                (void)snprintf(step, sizeof(step), "%zu", i);
                mlc_json_pointer(item_at, at, step);
                return pol_fail(&place, id, err, "'%.100s' is there already: choose another", v);
        }
        return 0;
}
