/* SPDX-License-Identifier: Apache-2.0 */
/* From a bundle to a verdict: reads what counts, runs each check, combines. */
#include "policy/judge.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "base/utf8.h"
#include "crypto/hash.h"
#include "policy/decimal.h"
#include "policy/read.h"

#define ARENA_MAX ((size_t)64 << 20)
#define RECORDS_MAX 500

static const char *const VERDICTS[] = {"pass", "inconclusive", "fail", "error"};

static const struct {
        const char *type;
        judge_check *run;
} TYPES[] = {
        {"threshold", check_threshold}, {"compare", check_compare}, {"freshness", check_freshness},
        {"imports", check_imports},     {"card", check_card},       {"lineage", check_lineage},
        {"after", check_after},
};

static void judge_done(struct judge *j)
{
        for (size_t i = 0; i < CACHE_SIZE; i++)
                mlc_examples_free(j->cache[i].x);
        mlc_arena_done(&j->arena);
}

const char *judge_text(struct judge *j, const char *fmt, ...)
{
        char buf[1024];
        char *copy;
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(buf, sizeof(buf), fmt, ap);
        va_end(ap);
        /* a cut may have fallen into a character */
        for (size_t n = strlen(buf); n > 0 && !mlc_utf8_valid(buf, n); n--)
                buf[n - 1] = '\0';
        copy = mlc_arena_strdup(&j->arena, buf, NULL);
        return copy != NULL ? copy : "";
}

const char *judge_decimal(struct judge *j, double d)
{
        char text[MLC_DECIMAL_MAX];

        mlc_decimal(d, text);
        return judge_text(j, "%s", text);
}

double judge_number(const json_t *check, const char *key)
{
        const char *s = json_string_value(json_object_get(check, key));

        return s != NULL ? mlc_decimal_value(s) : 0.0;
}

bool outcome_worse(const struct outcome *a, const struct outcome *b)
{
        if (a->verdict != b->verdict)
                return a->verdict > b->verdict;
        return a->worse > b->worse;
}

bool judge_wants(const json_t *check, const struct record *r)
{
        const char *dataset = json_string_value(json_object_get(check, "dataset"));

        return dataset == NULL || strcmp(dataset, r->e.dataset.name) == 0 ||
               strcmp(dataset, r->e.dataset_ref) == 0;
}

bool judge_is_share(const struct mlc_metric *m)
{
        static const char *const others[] = {"auc", "rmse", "mae", "mse", "r2", "f1", "log_loss"};

        for (size_t i = 0; i < ARRAY_LEN(others); i++)
                if (strcmp(m->name, others[i]) == 0)
                        return false;
        return m->unit == NULL && m->value >= 0 && m->value <= 1;
}

/* What the server computed itself goes before what was declared. */
static bool recomputed(const struct record *r, const char *name, const json_t *slice,
                       struct mlc_metric *ret)
{
        json_t *v;
        size_t i;

        json_array_foreach (r->recomputed, i, v) {
                const json_t *s = json_object_get(v, "slice");

                if (!mlc_streq(json_string_value(json_object_get(v, "name")), name) ||
                    !mlc_slice_equal(json_is_null(s) ? NULL : s, slice))
                        continue;
                ret->value = mlc_decimal_value(json_string_value(json_object_get(v, "value")));
                ret->n = json_integer_value(json_object_get(v, "n"));
                ret->has_interval = false;
                return true;
        }
        return false;
}

bool judge_metric(const json_t *check, const struct record *r, struct mlc_metric *ret)
{
        const char *name = json_string_value(json_object_get(check, "metric"));
        const char *unit = json_string_value(json_object_get(check, "unit"));
        const json_t *slice = json_object_get(check, "slice");
        bool found = false;

        *ret = (struct mlc_metric){.name = name, .unit = unit};
        for (size_t i = 0; i < r->e.n_metrics && !found; i++) {
                const struct mlc_metric *m = &r->e.metrics[i];

                if (strcmp(m->name, name) == 0 && mlc_slice_equal(m->slice, slice)) {
                        *ret = *m;
                        found = true;
                }
        }
        if (found && !mlc_streq(ret->unit, unit))
                return false; /* in another unit it is another quantity */
        if (unit == NULL)
                found = recomputed(r, name, slice, ret) || found;
        return found;
}

static struct cached *cache_slot(struct judge *j, const char *digest, bool *ret_new)
{
        struct cached *oldest = &j->cache[0];

        *ret_new = false;
        for (size_t i = 0; i < CACHE_SIZE; i++) {
                if (mlc_streq(j->cache[i].digest, digest))
                        return &j->cache[i];
                if (j->cache[i].used < oldest->used)
                        oldest = &j->cache[i];
        }
        mlc_examples_free(oldest->x);
        *oldest = (struct cached){.digest = digest};
        *ret_new = true;
        return oldest;
}

static int load(struct judge *j, const char *digest, struct mlc_examples **ret, struct mlc_err *err)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
        _cleanup_(close_fd) int fd = -1;
        struct mlc_digest got;
        char text[MLC_DIGEST_STR];
        struct mlc_examples_in in;
        int r;

        if (j->examples == NULL)
                return mlc_fail(err, MLC_E_NOT_FOUND, "examples are not at hand");
        r = j->examples->open(j->examples->userdata, digest, &fd, err);
        if (r < 0)
                return r;
        mlc_examples_in_fd(&in, &fd);
        r = mlc_examples_load(&in, &x, &got, err);
        if (r < 0)
                return r;
        mlc_digest_format(&got, text);
        if (strcmp(text, digest) != 0)
                return mlc_fail(err, MLC_E_VERIFY, "the bytes have another digest");
        *ret = TAKE_PTR(x);
        return 0;
}

const struct mlc_examples *judge_examples(struct judge *j, const char *digest, const char **ret_why)
{
        bool fresh;
        struct cached *c = cache_slot(j, digest, &fresh);

        c->used = ++j->clock;
        if (fresh) {
                struct mlc_err err = {0};

                if (load(j, digest, &c->x, &err) < 0)
                        (void)snprintf(c->why, sizeof(c->why), "%.180s", err.msg);
        }
        if (c->x == NULL)
                *ret_why = judge_text(j, "examples %.20s… cannot be read: %s", digest, c->why);
        return c->x;
}

/* A digest below obj[key] or, when `may_lack`, NULL. */
static int digest_at(const json_t *obj, const char *at, const char *key, bool may_lack,
                     const char **ret, struct mlc_err *err)
{
        char field[MLC_JSON_POINTER_MAX];
        const char *s = NULL;
        struct mlc_digest d;
        struct mlc_err why = {0};
        int r = mlc_json_opt_str(obj, at, key, &s, err);

        if (r < 0)
                return r;
        mlc_json_pointer(field, at, key);
        if (s == NULL && !may_lack)
                return mlc_fail_field(err, MLC_E_INVALID, field, "'%s' is missing", key);
        if (s != NULL && mlc_digest_parse(s, &d, &why) < 0)
                return mlc_fail_field(err, MLC_E_INVALID, field, "%s", why.msg);
        *ret = s;
        return 0;
}

static int check_recomputed(const json_t *list, const char *at, struct mlc_err *err)
{
        json_t *v;
        size_t i;

        json_array_foreach (list, i, v) {
                const char *value = json_string_value(json_object_get(v, "value"));
                char *end = NULL;

                if (json_is_string(json_object_get(v, "name")) && value != NULL && *value != '\0' &&
                    value[strspn(value, "+-.0123456789e")] == '\0' && strtod(value, &end) < 1e300 &&
                    *end == '\0' && json_integer_value(json_object_get(v, "n")) > 0)
                        continue;
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "item %zu of 'recomputed' has no name, value and n", i);
        }
        return 0;
}

static int read_record(struct judge *j, const json_t *obj, const char *at, struct record *ret,
                       struct mlc_err *err)
{
        const char *manifest, *submitted, *received;
        json_t *doc, *again = NULL;
        int r = digest_at(obj, at, "id", false, &ret->id, err);

        if (r == 0)
                r = digest_at(obj, at, "manifest", false, &manifest, err);
        if (r == 0)
                r = digest_at(obj, at, "submitted", false, &submitted, err);
        if (r == 0)
                r = digest_at(obj, at, "examples", true, &ret->examples, err);
        if (r == 0)
                r = mlc_json_get_str(obj, at, "at", &received, err);
        if (r == 0 && !mlc_time_parse(received, &ret->received_ms))
                r = mlc_fail_field(err, MLC_E_INVALID, at, "'at' is no time");
        if (r == 0)
                r = mlc_json_opt_arr(obj, at, "recomputed", &again, err);
        if (r == 0)
                r = check_recomputed(again, at, err);
        if (r == 0)
                r = mlc_json_get_obj(obj, at, "document", &doc, err);
        if (r < 0)
                return r;
        ret->recomputed = again;
        r = mlc_evaluation_read(doc, &j->arena, &ret->e, err);
        return r < 0 ? mlc_wrap(err, "evaluation %s", ret->id) : 0;
}

/* The id must be the digest of the record that it names. */
static int check_id(const struct record *r, const json_t *obj, const char *at, struct mlc_err *err)
{
        const char *examples = r->examples;
        struct mlc_digest m, s, x, id;
        char text[MLC_DIGEST_STR];

        if (mlc_digest_parse(json_string_value(json_object_get(obj, "manifest")), &m, NULL) < 0 ||
            mlc_digest_parse(json_string_value(json_object_get(obj, "submitted")), &s, NULL) < 0 ||
            (examples != NULL && mlc_digest_parse(examples, &x, NULL) < 0))
                return mlc_fail_field(err, MLC_E_INVALID, at, "digests are expected");
        mlc_evaluation_id(&m, &s, examples != NULL ? &x : NULL, &id);
        mlc_digest_format(&id, text);
        if (strcmp(text, r->id) != 0)
                return mlc_fail_field(err, MLC_E_VERIFY, at,
                                      "evaluation %s is not what its id says: it should be %s",
                                      r->id, text);
        return 0;
}

static int by_id(const void *a, const void *b)
{
        return strcmp(((const struct record *)a)->id, ((const struct record *)b)->id);
}

static int read_side(struct judge *j, const json_t *list, const char *at, struct side *ret,
                     struct mlc_err *err)
{
        char item_at[MLC_JSON_POINTER_MAX], step[24];
        json_t *v;
        size_t i;

        if (!json_is_array(list) || json_array_size(list) > RECORDS_MAX)
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "a list of at most %d evaluations is expected", RECORDS_MAX);
        ret->records =
                mlc_arena_array(&j->arena, json_array_size(list) + 1, sizeof(*ret->records), err);
        if (ret->records == NULL)
                return MLC_E_LIMIT;
        json_array_foreach (list, i, v) {
                struct record *rec = &ret->records[ret->n];
                int r;

                if (json_is_true(json_object_get(v, "withdrawn")))
                        continue;
                (void)snprintf(step, sizeof(step), "%zu", i);
                mlc_json_pointer(item_at, at, step);
                r = read_record(j, v, item_at, rec, err);
                if (r == 0)
                        r = check_id(rec, v, item_at, err);
                if (r == 0 &&
                    !mlc_streq(json_string_value(json_object_get(v, "manifest")), ret->digest))
                        r = mlc_fail_field(err, MLC_E_INVALID, item_at,
                                           "it evaluates another version");
                if (r < 0)
                        return r;
                ret->n++;
        }
        qsort(ret->records, ret->n, sizeof(*ret->records), by_id);
        return 0;
}

static int read_bundle(struct judge *j, struct mlc_err *err)
{
        json_t *version, *champion = NULL, *policy, *checks, *environment;
        const char *schema, *now;
        int r = mlc_json_get_str(j->bundle, "", "schema", &schema, err);

        if (r < 0)
                return r;
        if (strcmp(schema, "bundle/v1") != 0)
                return mlc_fail_field(err, MLC_E_INVALID, "/schema", "must be bundle/v1");
        r = mlc_json_get_str(j->bundle, "", "now", &now, err);
        if (r == 0 && !mlc_time_parse(now, &j->now_ms))
                r = mlc_fail_field(err, MLC_E_INVALID, "/now", "must be a time (RFC 3339)");
        if (r == 0)
                r = mlc_json_get_obj(j->bundle, "", "version", &version, err);
        if (r == 0)
                r = digest_at(version, "/version", "digest", false, &j->version.digest, err);
        if (r == 0)
                r = mlc_json_get_obj(j->bundle, "", "environment", &environment, err);
        if (r == 0)
                r = mlc_json_get_obj(j->bundle, "", "policy", &policy, err);
        if (r == 0)
                r = mlc_json_get_arr(policy, "/policy", "checks", &checks, err);
        if (r == 0)
                r = read_side(j, json_object_get(j->bundle, "evaluations"), "/evaluations",
                              &j->version, err);
        if (r == 0)
                r = mlc_json_opt_obj(j->bundle, "", "champion", &champion, err);
        if (r < 0 || champion == NULL)
                return r;
        j->has_champion = true;
        r = digest_at(champion, "/champion", "digest", false, &j->champion.digest, err);
        return r < 0 ? r
                     : read_side(j, json_object_get(champion, "evaluations"),
                                 "/champion/evaluations", &j->champion, err);
}

static json_t *text_or_null(const char *s)
{
        json_t *v = s != NULL ? json_string(s) : json_null();

        assert(v != NULL);
        return v;
}

static json_t *count_or_null(int64_t n)
{
        return n > 0 ? json_integer(n) : json_null();
}

static json_t *interval_json(struct judge *j, const struct outcome *o)
{
        return !o->has_interval ? json_null()
                                : json_pack("[s, s]", judge_decimal(j, o->interval.lo),
                                            judge_decimal(j, o->interval.hi));
}

static json_t *outcome_json(struct judge *j, const json_t *check, const struct outcome *o)
{
        json_t *judged = json_object_get(json_object_get(j->bundle, "judged_on"),
                                         o->dataset != NULL ? o->dataset : "");
        json_t *out = json_object();

        json_object_set(out, "id", json_object_get(check, "id"));
        json_object_set(out, "layer", json_object_get(check, "layer"));
        json_object_set(out, "type", json_object_get(check, "type"));
        json_object_set(out, "mode", json_object_get(check, "mode"));
        json_object_set_new(out, "verdict", json_string(VERDICTS[o->verdict]));
        json_object_set_new(out, "observed", text_or_null(o->observed));
        json_object_set_new(out, "required", text_or_null(o->required));
        json_object_set_new(out, "interval", interval_json(j, o));
        json_object_set_new(out, "n", count_or_null(o->n));
        json_object_set_new(out, "n_needed", count_or_null(o->n_needed));
        json_object_set_new(out, "statistic", text_or_null(o->statistic));
        json_object_set_new(out, "reason", text_or_null(o->reason != NULL ? o->reason : ""));
        json_object_set_new(out, "conflict", json_boolean(o->conflict));
        json_object_set_new(out, "judged_on",
                            json_is_integer(judged) ? json_incref(judged) : json_null());
        return out;
}

static bool decimal_in(const json_t *check, const char *key, double lo, double hi)
{
        const json_t *v = json_object_get(check, key);
        const char *s = json_string_value(v);
        char *end;
        double d;

        if (v == NULL || json_is_null(v))
                return true;
        if (s == NULL || *s == '\0' || s[strspn(s, "+-.0123456789e")] != '\0')
                return false;
        d = strtod(s, &end);
        return end != s && *end == '\0' && d > lo && d < hi;
}

/* A bundle comes from others: what the checks rely on is made sure here. */
static bool well_formed(const json_t *check, const char *type)
{
        bool bounded = json_is_string(json_object_get(check, "at_least")) !=
                       json_is_string(json_object_get(check, "at_most"));
        bool tests = json_is_string(json_object_get(check, "margin")) &&
                     json_is_string(json_object_get(check, "alpha"));

        if (mlc_streq(type, "threshold") || mlc_streq(type, "compare"))
                return json_is_string(json_object_get(check, "metric")) &&
                       json_string_length(json_object_get(check, "metric")) <= POL_TEXT_MAX &&
                       json_is_object(json_object_get(check, "slice")) &&
                       decimal_in(check, "at_least", -1e301, 1e301) &&
                       decimal_in(check, "at_most", -1e301, 1e301) &&
                       decimal_in(check, "confidence", 0, 1) &&
                       decimal_in(check, "alpha", 0, 0.5) && decimal_in(check, "margin", -1, 1) &&
                       (mlc_streq(type, "compare")
                                ? tests
                                : bounded && json_is_string(json_object_get(check, "confidence")));
        return true;
}

static int run_check(struct judge *j, const json_t *check, size_t i, struct outcome *ret,
                     struct mlc_err *err)
{
        static const char *const modes[] = {"enforce", "warn", "observe"};
        const char *type = json_string_value(json_object_get(check, "type"));
        const char *mode = json_string_value(json_object_get(check, "mode"));
        char at[64];
        bool known = false;

        (void)snprintf(at, sizeof(at), "/policy/checks/%zu", i);
        for (size_t k = 0; k < ARRAY_LEN(modes); k++)
                known = known || mlc_streq(modes[k], mode);
        if (!known || !json_is_string(json_object_get(check, "id")) ||
            !json_is_string(json_object_get(check, "layer")))
                return mlc_fail_field(err, MLC_E_INVALID, at, "a check needs id, layer and mode");
        for (size_t k = 0; k < ARRAY_LEN(TYPES); k++) {
                if (!mlc_streq(TYPES[k].type, type))
                        continue;
                if (!well_formed(check, type))
                        return mlc_fail_field(err, MLC_E_INVALID, at,
                                              "this is no normalised check of type '%s'", type);
                TYPES[k].run(j, check, ret);
                return 0;
        }
        return mlc_fail_field(err, MLC_E_INVALID, at, "there is no type '%.40s' of check",
                              type != NULL ? type : "");
}

static void list_evidence(const struct side *s, json_t *ret)
{
        for (size_t i = 0; i < s->n; i++)
                json_array_append_new(ret, json_string(s->records[i].id));
}

static int text_order(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, each once. */
static json_t *sorted(struct judge *j, const json_t *list)
{
        size_t n = json_array_size(list);
        const char **ids = mlc_arena_array(&j->arena, n + 1, sizeof(*ids), NULL);
        json_t *out = json_array();

        if (ids == NULL)
                return out;
        for (size_t i = 0; i < n; i++)
                ids[i] = json_string_value(json_array_get(list, i));
        qsort(ids, n, sizeof(*ids), text_order);
        for (size_t i = 0; i < n; i++)
                if (i == 0 || strcmp(ids[i], ids[i - 1]) != 0)
                        json_array_append_new(out, json_string(ids[i]));
        return out;
}

struct totals {
        enum verdict verdict;
        bool compares; /* a check names the champion, which then is bound */
};

static int run_checks(struct judge *j, json_t *out, struct totals *ret, struct mlc_err *err)
{
        const json_t *checks = json_object_get(json_object_get(j->bundle, "policy"), "checks");
        json_t *check;
        size_t i;

        json_array_foreach (checks, i, check) {
                struct outcome o = {0};
                int r = run_check(j, check, i, &o, err);

                if (r < 0)
                        return r;
                json_array_append_new(out, outcome_json(j, check, &o));
                ret->compares = ret->compares || json_object_get(check, "against") != NULL;
                if (mlc_streq(json_string_value(json_object_get(check, "mode")), "enforce") &&
                    o.verdict > ret->verdict)
                        ret->verdict = o.verdict;
        }
        return 0;
}

static json_t *assemble(struct judge *j, const struct totals *t, json_t *checks)
{
        const json_t *version = json_object_get(j->bundle, "version");
        const json_t *environment = json_object_get(j->bundle, "environment");
        _cleanup_(json_decref_p) json_t *evidence = json_array();
        json_t *out = json_object();

        list_evidence(&j->version, evidence);
        if (t->compares && j->has_champion)
                list_evidence(&j->champion, evidence);
        json_object_set_new(out, "schema", json_string("verdict/v1"));
        json_object_set_new(out, "verdict", json_string(VERDICTS[t->verdict]));
        json_object_set(out, "model", json_object_get(version, "model"));
        json_object_set(out, "version", json_object_get(version, "version"));
        json_object_set(out, "digest", json_object_get(version, "digest"));
        json_object_set(out, "environment", json_object_get(environment, "name"));
        json_object_set_new(
                out, "protected",
                json_boolean(json_integer_value(json_object_get(environment, "threshold")) > 0));
        json_object_set(out, "environment_digest",
                        json_object_get(j->bundle, "environment_digest"));
        json_object_set(out, "policy_digest", json_object_get(j->bundle, "policy_digest"));
        json_object_set_new(
                out, "champion",
                text_or_null(t->compares && j->has_champion ? j->champion.digest : NULL));
        json_object_set_new(out, "evidence", sorted(j, evidence));
        json_object_set(out, "now", json_object_get(j->bundle, "now"));
        json_object_set_new(out, "checks", checks);
        return out;
}

/* What the bundle says its policy's digest is must be true. */
static int check_policy(const json_t *bundle, struct mlc_err *err)
{
        const char *said = json_string_value(json_object_get(bundle, "policy_digest"));
        struct mlc_digest d;
        char text[MLC_DIGEST_STR];
        int r = mlc_policy_digest(json_object_get(bundle, "policy"), &d, err);

        if (r < 0)
                return r;
        mlc_digest_format(&d, text);
        if (!mlc_streq(said, text))
                return mlc_fail_field(err, MLC_E_VERIFY, "/policy_digest",
                                      "the policy has the digest %s", text);
        return 0;
}

int mlc_policy_judge(const json_t *bundle, const struct mlc_policy_examples *examples,
                     json_t **ret_verdict, struct mlc_err *err)
{
        _cleanup_(judge_done) struct judge j = {.bundle = bundle, .examples = examples};
        _cleanup_(json_decref_p) json_t *checks = json_array();
        struct totals t = {PASS, false};
        int r;

        mlc_arena_init(&j.arena, ARENA_MAX);
        if (!json_is_object(bundle))
                return mlc_fail_field(err, MLC_E_INVALID, "", "a bundle is an object");
        r = read_bundle(&j, err);
        if (r == 0)
                r = check_policy(bundle, err);
        if (r == 0)
                r = run_checks(&j, checks, &t, err);
        if (r < 0)
                return r;
        *ret_verdict = assemble(&j, &t, TAKE_PTR(checks));
        return 0;
}

int mlc_verdict_digest(const json_t *verdict, struct mlc_digest *ret, struct mlc_err *err)
{
        return mlc_sha256_json(verdict, ret, err);
}

int64_t mlc_policy_wake_ms(const json_t *bundle)
{
        json_t *check;
        size_t i;
        int64_t now, first = 0;

        if (!mlc_time_parse(json_string_value(json_object_get(bundle, "now")), &now))
                return 0;
        json_array_foreach (json_object_get(json_object_get(bundle, "policy"), "checks"), i,
                            check) {
                int64_t left = after_left_ms(bundle, check);

                if (left > 0 && (first == 0 || now + left < first))
                        first = now + left;
        }
        return first;
}
