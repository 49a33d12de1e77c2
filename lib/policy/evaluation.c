/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/evaluation.h"

#include <math.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/map.h"
#include "base/str.h"
#include "base/utf8.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "policy/read.h"

#define N_MAX INT64_C(1000000000000)
#define LABELS_MAX 64

static int fail_at(const char *at, const char *key, struct mlc_err *err, const char *what)
{
        char field[MLC_JSON_POINTER_MAX];

        mlc_json_pointer(field, at, key);
        return mlc_fail_field(err, MLC_E_INVALID, field, "'%.64s' %s", key, what);
}

/* Visible text of bounded length. */
static int text(const json_t *obj, const char *at, const char *key, const char **ret,
                struct mlc_err *err)
{
        const char *s = NULL;
        struct mlc_err why = {0};
        int r = mlc_json_opt_str(obj, at, key, &s, err);

        if (r < 0)
                return r;
        if (s != NULL && (pol_plain(s, &why) < 0 || strlen(s) > MLC_METRIC_NAME_MAX))
                return fail_at(at, key, err, "must be visible text of at most 128 bytes");
        *ret = s;
        return 0;
}

static int texts(const json_t *obj, const char *at, const char *key, size_t max,
                 struct mlc_err *err)
{
        json_t *labels = NULL, *v;
        const char *name;
        char inner[MLC_JSON_POINTER_MAX];
        int r = mlc_json_opt_obj(obj, at, key, &labels, err);

        if (r < 0 || labels == NULL)
                return r;
        if (json_object_size(labels) > max)
                return fail_at(at, key, err, "has too many members");
        mlc_json_pointer(inner, at, key);
        json_object_foreach (labels, name, v) {
                struct mlc_err why = {0};

                if (!json_is_string(v))
                        return fail_at(inner, name, err, "must be text");
                if (pol_plain(name, &why) < 0 || pol_plain(json_string_value(v), &why) < 0 ||
                    strlen(name) > MLC_METRIC_NAME_MAX || json_string_length(v) > POL_TEXT_MAX)
                        return fail_at(inner, name, err, "must be visible text of bounded length");
        }
        return 0;
}

/* An end of the interval. */
static int end_of(const json_t *list, const char *at, size_t i, double *ret, struct mlc_err *err)
{
        const json_t *v = json_array_get(list, i);
        char key[8];

        (void)snprintf(key, sizeof(key), "%zu", i);
        if (!json_is_number(v) || !isfinite(json_number_value(v)))
                return fail_at(at, key, err, "must be a finite number");
        *ret = json_number_value(v);
        return 0;
}

static int interval(const json_t *obj, const char *at, struct mlc_metric *m, struct mlc_err *err)
{
        char inner[MLC_JSON_POINTER_MAX];
        json_t *list = NULL;
        int r = mlc_json_opt_arr(obj, at, "interval", &list, err);

        m->confidence = 0.95;
        if (r == 0)
                r = mlc_json_opt_num(obj, at, "confidence", &m->confidence, err);
        if (r < 0)
                return r;
        if (!(m->confidence > 0 && m->confidence < 1))
                return fail_at(at, "confidence", err, "must be between 0 and 1, as in 0.95");
        if (list == NULL)
                return 0;
        if (json_array_size(list) != 2)
                return fail_at(at, "interval", err, "must be [lower, upper]");
        mlc_json_pointer(inner, at, "interval");
        r = end_of(list, inner, 0, &m->lo, err);
        if (r == 0)
                r = end_of(list, inner, 1, &m->hi, err);
        if (r < 0)
                return r;
        if (!(m->lo <= m->value && m->value <= m->hi))
                return fail_at(at, "interval", err, "must hold the value: lower, then upper");
        m->has_interval = true;
        return 0;
}

static int numbers(const json_t *obj, const char *at, struct mlc_metric *m, struct mlc_err *err)
{
        int r = mlc_json_get_num(obj, at, "value", &m->value, err);

        if (r == 0)
                r = mlc_json_get_i64(obj, at, "n", &m->n, err);
        if (r < 0)
                return r;
        if (!isfinite(m->value))
                return fail_at(at, "value", err, "must be a finite number");
        if (m->n < 1 || m->n > N_MAX)
                return fail_at(at, "n", err, "must be at least 1: how many examples it is over");
        return interval(obj, at, m, err);
}

static int metric(const json_t *obj, const char *at, struct mlc_metric *ret, struct mlc_err *err)
{
        static const char *const keys[] = {"name", "value",      "n",      "slice", "interval",
                                           "unit", "confidence", "better", NULL};
        const char *better = NULL;
        struct mlc_metric m = {0};
        int r = mlc_json_only(obj, at, keys, err);

        if (r == 0)
                r = mlc_json_get_str(obj, at, "name", &m.name, err);
        if (r == 0)
                r = text(obj, at, "name", &m.name, err);
        if (r == 0)
                r = numbers(obj, at, &m, err);
        if (r == 0)
                r = texts(obj, at, "slice", MLC_SLICE_KEYS_MAX, err);
        if (r == 0)
                r = mlc_json_opt_obj(obj, at, "slice", &m.slice, err);
        if (r == 0)
                r = text(obj, at, "unit", &m.unit, err);
        if (r == 0)
                r = mlc_json_opt_str(obj, at, "better", &better, err);
        if (r < 0)
                return r;
        if (better != NULL && !mlc_streq(better, "lower") && !mlc_streq(better, "higher"))
                return fail_at(at, "better", err, "must be 'lower' or 'higher'");
        if (m.slice != NULL && json_object_size(m.slice) == 0)
                m.slice = NULL;
        m.lower_is_better = mlc_streq(better, "lower");
        *ret = m;
        return 0;
}

/* No metric stands there twice with one name and slice. */
static int distinct(const struct mlc_metric *m, const char *at, struct mlc_map *seen,
                    struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *id = m->slice != NULL
                                                      ? json_pack("[s, O]", m->name, m->slice)
                                                      : json_pack("[s, {}]", m->name);
        _cleanup_(mlc_str_done) struct mlc_str key;
        int r;

        mlc_str_init(&key, (size_t)64 << 10);
        r = mlc_jcs(id, &key, err);
        if (r < 0)
                return r;
        if (mlc_map_set(seen, mlc_str_cstr(&key), seen) != NULL)
                return fail_at(at, "name", err, "stands here twice with the same slice");
        return 0;
}

static int metrics(const json_t *doc, struct mlc_arena *a, struct mlc_evaluation *ret,
                   struct mlc_err *err)
{
        _cleanup_(pol_map_done) struct mlc_map seen = {0};
        char at[MLC_JSON_POINTER_MAX], step[24];
        json_t *list, *v;
        size_t i;
        int r = mlc_json_get_arr(doc, "", "metrics", &list, err);

        if (r < 0)
                return r;
        if (json_array_size(list) < 1 || json_array_size(list) > MLC_METRICS_MAX)
                return fail_at("", "metrics", err, "must hold 1 to 1000 metrics");
        ret->metrics = mlc_arena_array(a, json_array_size(list), sizeof(*ret->metrics), err);
        if (ret->metrics == NULL)
                return MLC_E_LIMIT;
        json_array_foreach (list, i, v) {
                (void)snprintf(step, sizeof(step), "%zu", i);
                mlc_json_pointer(at, "/metrics", step);
                r = metric(v, at, &ret->metrics[i], err);
                if (r == 0)
                        r = distinct(&ret->metrics[i], at, &seen, err);
                if (r < 0)
                        return r;
        }
        ret->n_metrics = json_array_size(list);
        return 0;
}

static int code(const json_t *doc, struct mlc_evaluation *ret, struct mlc_err *err)
{
        static const char *const keys[] = {"repository", "commit", NULL};
        json_t *obj = NULL;
        struct mlc_err why = {0};
        int r = mlc_json_opt_obj(doc, "", "code", &obj, err);
        size_t n;

        if (r < 0 || obj == NULL)
                return r;
        r = mlc_json_only(obj, "/code", keys, err);
        if (r == 0)
                r = mlc_json_get_str(obj, "/code", "repository", &ret->repository, err);
        if (r == 0)
                r = mlc_json_get_str(obj, "/code", "commit", &ret->commit, err);
        if (r < 0)
                return r;
        if (pol_plain(ret->repository, &why) < 0)
                return fail_at("/code", "repository", err, "must be visible text");
        n = strlen(ret->commit);
        if ((n != 40 && n != 64) || strspn(ret->commit, "0123456789abcdef") != n)
                return fail_at("/code", "commit", err, "must be 40 (or 64) lower-case hex digits");
        return 0;
}

int mlc_evaluation_read(const json_t *doc, struct mlc_arena *a, struct mlc_evaluation *ret,
                        struct mlc_err *err)
{
        static const char *const keys[] = {"schema", "dataset", "code", "evaluated_at",
                                           "labels", "metrics", NULL};
        struct mlc_evaluation e = {0};
        struct mlc_err why = {0};
        const char *schema, *at;
        int r = mlc_json_only(doc, "", keys, err);

        if (r == 0)
                r = mlc_json_get_str(doc, "", "schema", &schema, err);
        if (r < 0)
                return r;
        if (!mlc_streq(schema, "evaluation/v1"))
                return fail_at("", "schema", err, "must be evaluation/v1");
        r = mlc_json_get_str(doc, "", "dataset", &e.dataset_ref, err);
        if (r < 0)
                return r;
        if (mlc_dataset_parse(e.dataset_ref, &e.dataset, &why) < 0)
                return mlc_fail_field(err, MLC_E_INVALID, "/dataset", "%s", why.msg);
        r = mlc_json_get_str(doc, "", "evaluated_at", &at, err);
        if (r < 0)
                return r;
        if (strlen(at) < 20 || !mlc_time_parse(at, &e.evaluated_at_ms))
                return fail_at("", "evaluated_at", err,
                               "must be a time (RFC 3339), as in 2026-11-23T10:00:00Z");
        r = code(doc, &e, err);
        if (r == 0)
                r = texts(doc, "", "labels", LABELS_MAX, err);
        if (r == 0)
                r = metrics(doc, a, &e, err);
        if (r == 0)
                *ret = e;
        return r;
}

/* The length of the word at s that stands for a number which JSON cannot hold, or 0. */
static size_t no_number(const char *s)
{
        static const char *const words[] = {"NaN", "Infinity", "-Infinity", "-NaN"};
        size_t n = strspn(s, "+-.0123456789eE");

        for (size_t i = 0; i < ARRAY_LEN(words); i++)
                if (strncmp(s, words[i], strlen(words[i])) == 0)
                        return strlen(words[i]);
        return n >= 3 && !isfinite(strtod(s, NULL)) ? n : 0;
}

/* Makes what is no number a text, so that the reader meets it at its field. */
static void quote_no_numbers(char *s)
{
        bool quoted = false;

        while (*s != '\0') {
                size_t n = quoted ? 0 : no_number(s);

                if (n > 0) {
                        memset(s, '~', n);
                        s[0] = s[n - 1] = '"';
                        s += n;
                        continue;
                }
                if (quoted && *s == '\\' && s[1] != '\0')
                        s++;
                else if (*s == '"')
                        quoted = !quoted;
                n = quoted ? 0 : strspn(s, "+-.0123456789eE");
                s += n > 0 ? n : 1;
        }
}

/* For text that is not JSON: where the first number is that JSON cannot hold, if that is all. */
static int explain(const char *bytes, size_t len, struct mlc_arena *a, struct mlc_err *err)
{
        char *copy = mlc_arena_strndup(a, bytes, len, err);
        _cleanup_(json_decref_p) json_t *doc = NULL;
        struct mlc_evaluation ignored;
        struct mlc_err why = {0};

        if (copy == NULL)
                return MLC_E_LIMIT;
        if (memchr(bytes, '\0', len) != NULL)
                return 0;
        quote_no_numbers(copy);
        if (mlc_json_parse(copy, len, &doc, &why) < 0 ||
            mlc_evaluation_read(doc, a, &ignored, &why) == 0 || why.field[0] == '\0')
                return 0;
        return mlc_fail_field(err, MLC_E_INVALID, why.field,
                              "NaN, infinite and overlong numbers are not accepted: %s", why.msg);
}

int mlc_evaluation_parse(const char *bytes, size_t len, struct mlc_arena *a, json_t **ret_doc,
                         struct mlc_evaluation *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        struct mlc_err why = {0};
        int r;

        if (len > MLC_EVALUATION_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the evaluation has more than %zu bytes",
                                MLC_EVALUATION_MAX);
        r = mlc_json_parse(bytes, len, &doc, &why);
        if (r < 0) {
                int explained = explain(bytes, len, a, err);

                return explained < 0 ? explained : mlc_fail(err, r, "%s", why.msg);
        }
        r = mlc_evaluation_read(doc, a, ret, err);
        if (r == 0)
                *ret_doc = TAKE_PTR(doc);
        return r;
}

void mlc_evaluation_id(const struct mlc_digest *manifest, const struct mlc_digest *submitted,
                       const struct mlc_digest *examples, struct mlc_digest *ret)
{
        char m[MLC_DIGEST_STR], s[MLC_DIGEST_STR], x[MLC_DIGEST_STR + 2] = "null", text_of[400];
        int n;

        mlc_digest_format(manifest, m);
        mlc_digest_format(submitted, s);
        if (examples != NULL) {
                mlc_digest_format(examples, x + 1);
                x[0] = '"';
                x[MLC_DIGEST_STR] = '"';
                x[MLC_DIGEST_STR + 1] = '\0';
        }
        n = snprintf(text_of, sizeof(text_of),
                     "{\"examples\":%s,\"manifest\":\"%s\",\"submitted\":\"%s\"}", x, m, s);
        mlc_sha256(text_of, (size_t)n, ret);
}

bool mlc_slice_equal(const json_t *a, const json_t *b)
{
        size_t n = a != NULL ? json_object_size(a) : 0;
        const char *key;
        json_t *v;

        if (n != (b != NULL ? json_object_size(b) : 0))
                return false;
        if (n == 0)
                return true;
        json_object_foreach ((json_t *)(uintptr_t)a, key, v) {
                if (!json_is_string(v) ||
                    !mlc_streq(json_string_value(v), json_string_value(json_object_get(b, key))))
                        return false;
        }
        return true;
}
