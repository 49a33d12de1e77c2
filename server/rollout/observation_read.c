/* SPDX-License-Identifier: Apache-2.0 */
/* One item of a report of observations. */
#include "base/clock.h"
#include "codec/jcs.h"
#include "rollout/observation.h"

static int text(const json_t *item, const char *at, const char *key, size_t max, const char **ret,
                struct mlc_err *err)
{
        char where[MLC_JSON_POINTER_MAX];
        int r = mlc_json_opt_str(item, at, key, ret, err);

        if (r < 0 || *ret == NULL)
                return r;
        mlc_json_pointer(where, at, key);
        if (**ret == '\0')
                return mlc_fail_field(err, MLC_E_INVALID, where, "must not be empty");
        if (strlen(*ret) > max)
                return mlc_fail_field(err, MLC_E_INVALID, where, "has more than %zu bytes", max);
        return 0;
}

/* Texts as they are, numbers and booleans as RFC 8785 writes them. */
static int value(struct mlc_arena *a, const json_t *item, const char *at, const char *key,
                 const char **ret, struct mlc_err *err)
{
        const json_t *v = json_object_get(item, key);
        _cleanup_(mlc_str_done) struct mlc_str s;
        char where[MLC_JSON_POINTER_MAX];

        mlc_str_init(&s, 1 << 12);
        if (v == NULL || json_is_null(v))
                return 0;
        mlc_json_pointer(where, at, key);
        if (json_is_object(v) || json_is_array(v))
                return mlc_fail_field(err, MLC_E_INVALID, where,
                                      "a text, a number, or true or false is expected");
        if (json_is_string(v))
                mlc_str_addn(&s, json_string_value(v), json_string_length(v));
        else if (mlc_jcs(v, &s, err) < 0)
                return err->code;
        if (s.len > OBSERVATION_VALUE_MAX)
                return mlc_fail_field(err, MLC_E_INVALID, where, "has more than %d bytes",
                                      OBSERVATION_VALUE_MAX);
        *ret = mlc_arena_strdup(a, mlc_str_cstr(&s), err);
        return *ret != NULL ? 0 : err->code;
}

static int moment(const json_t *item, const char *at, int64_t *ret, struct mlc_err *err)
{
        char where[MLC_JSON_POINTER_MAX];
        const char *time = NULL;
        int r = mlc_json_opt_str(item, at, "time", &time, err);

        if (r < 0 || time == NULL)
                return r;
        mlc_json_pointer(where, at, "time");
        if (strchr(time, 'T') == NULL || !mlc_time_parse(time, ret))
                return mlc_fail_field(err, MLC_E_INVALID, where,
                                      "a time is expected, as in 2026-11-24T10:00:00Z");
        if (*ret < 0 || *ret > mlc_now_ms() + 60000)
                return mlc_fail_field(err, MLC_E_INVALID, where, "must not lie in the future");
        return 0;
}

static int number(const json_t *item, const char *at, int64_t *ret, struct mlc_err *err)
{
        char where[MLC_JSON_POINTER_MAX];
        int r = mlc_json_opt_i64(item, at, "version", ret, err);

        if (r < 0 || json_object_get(item, "version") == NULL ||
            json_is_null(json_object_get(item, "version")))
                return r;
        mlc_json_pointer(where, at, "version");
        if (*ret < 1 || *ret > INT64_C(9007199254740991))
                return mlc_fail_field(err, MLC_E_INVALID, where, "must be at least 1");
        return 0;
}

/* Exactly one of two. */
static int either(const char *at, bool one, bool other, const char *what, struct mlc_err *err)
{
        if (one != other)
                return 0;
        return mlc_fail_field(err, MLC_E_INVALID, at, "either %s is needed", what);
}

static int fits(const struct observation_item *o, const char *at, struct mlc_err *err)
{
        char where[MLC_JSON_POINTER_MAX];
        int r = either(at, o->model != NULL, o->route != NULL, "'model' or 'route'", err);

        if (r < 0)
                return r;
        if (o->output == NULL && o->label == NULL)
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "'output', 'label' or both are needed");
        if (o->output != NULL)
                r = either(at, o->variant != NULL, o->version != 0, "'variant' or 'version'", err);
        if (r < 0 || o->variant == NULL)
                return r;
        mlc_json_pointer(where, at, "variant");
        if (!mlc_streq(o->variant, "candidate") && !mlc_streq(o->variant, "stable"))
                return mlc_fail_field(err, MLC_E_INVALID, where,
                                      "must be one of candidate, stable");
        return 0;
}

int observation_read(struct mlc_arena *a, const json_t *item, const char *at,
                     struct observation_item *ret, struct mlc_err *err)
{
        static const char *const keys[] = {"id",      "environment", "model", "route", "variant",
                                           "version", "output",      "label", "time",  NULL};
        static const char *const needed[] = {"id", "environment"};
        struct observation_item o = {.at_ms = -1};
        const struct {
                const char *key;
                const char **text;
                size_t max;
        } texts[] = {{"id", &o.id, OBSERVATION_ID_MAX},
                     {"environment", &o.environment, 100},
                     {"model", &o.model, 201},
                     {"route", &o.route, 100},
                     {"variant", &o.variant, 20}};
        char where[MLC_JSON_POINTER_MAX];
        int r;

        if (!json_is_object(item))
                return mlc_fail_field(err, MLC_E_INVALID, at, "an object is expected");
        r = mlc_json_only(item, at, keys, err);
        for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
                r = text(item, at, texts[i].key, texts[i].max, texts[i].text, err);
        for (size_t i = 0; r == 0 && i < ARRAY_LEN(needed); i++) {
                mlc_json_pointer(where, at, needed[i]);
                if (*texts[i].text == NULL)
                        r = mlc_fail_field(err, MLC_E_INVALID, where, "is missing");
        }
        if (r == 0)
                r = number(item, at, &o.version, err);
        if (r == 0)
                r = value(a, item, at, "output", &o.output, err);
        if (r == 0)
                r = value(a, item, at, "label", &o.label, err);
        if (r == 0)
                r = moment(item, at, &o.at_ms, err);
        if (r == 0)
                r = fits(&o, at, err);
        if (r < 0)
                return r;
        *ret = o;
        return 0;
}
