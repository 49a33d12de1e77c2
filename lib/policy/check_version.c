/* SPDX-License-Identifier: Apache-2.0 */
/* Checks of the version itself: imports, lineage, after, freshness of its evaluations. */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "format/format.h"
#include "policy/judge.h"

#define NAMES_MAX 8 /* named in a reason */

static json_t *version_of(const struct judge *j)
{
        return json_object_get(j->bundle, "version");
}

struct age {
        int64_t ms;
        const struct record *record;
};

/* The younger of when it says it was made and when it arrived. */
static int64_t made_ms(const struct record *r)
{
        return r->e.evaluated_at_ms < r->received_ms ? r->e.evaluated_at_ms : r->received_ms;
}

static bool newest_of_name(const struct judge *j, const struct record *r)
{
        for (size_t i = 0; i < j->version.n; i++) {
                const struct record *other = &j->version.records[i];

                if (strcmp(other->e.dataset.name, r->e.dataset.name) == 0 &&
                    made_ms(other) > made_ms(r))
                        return false;
        }
        return true;
}

static const char *span(struct judge *j, int64_t ms)
{
        if (ms >= 2 * 86400000LL)
                return judge_text(j, "%lldd", (long long)(ms / 86400000));
        if (ms >= 2 * 3600000LL)
                return judge_text(j, "%lldh", (long long)(ms / 3600000));
        return judge_text(j, "%llds", (long long)(ms / 1000));
}

/* Of each dataset name the newest evaluation counts; the oldest of those decides. */
void check_freshness(struct judge *j, const json_t *check, struct outcome *ret)
{
        int64_t at_most = json_integer_value(json_object_get(check, "at_most_ms"));
        const struct record *oldest = NULL;

        ret->required = judge_text(j, "<= %s", span(j, at_most));
        for (size_t i = 0; i < j->version.n; i++) {
                const struct record *r = &j->version.records[i];

                if (judge_wants(check, r) && newest_of_name(j, r) &&
                    (oldest == NULL || made_ms(r) < made_ms(oldest)))
                        oldest = r;
        }
        ret->verdict = INCONCLUSIVE;
        if (oldest == NULL) {
                ret->reason = "this version has no evaluation";
                return;
        }
        ret->dataset = oldest->e.dataset_ref;
        ret->observed = span(j, j->now_ms - made_ms(oldest));
        if (j->now_ms - made_ms(oldest) > at_most) {
                ret->reason = judge_text(j, "the evaluation on %.200s is stale: evaluate again",
                                         oldest->e.dataset.name);
        } else {
                ret->verdict = PASS;
                ret->reason = "every dataset was evaluated recently";
        }
}

/* "sklearn.pipeline.Pipeline" against the lists; also {module, name}. */
static bool import_allowed(const json_t *import, const char *const *allow, size_t n_allow)
{
        const char *name = json_string_value(json_object_get(import, "name"));
        const char *module = json_string_value(json_object_get(import, "module"));
        char buf[2048];
        const char *dot;

        if (name == NULL)
                return false;
        if (module != NULL)
                return mlc_format_import_allowed(module, name, allow, n_allow);
        dot = strrchr(name, '.');
        if (dot == NULL || (size_t)(dot - name) >= sizeof(buf))
                return false;
        memcpy(buf, name, (size_t)(dot - name));
        buf[dot - name] = '\0';
        return mlc_format_import_allowed(buf, dot + 1, allow, n_allow);
}

static const char *join_name(struct judge *j, const char *so_far, const json_t *import)
{
        const char *module = json_string_value(json_object_get(import, "module"));
        const char *name = json_string_value(json_object_get(import, "name"));

        return judge_text(j, "%.700s%s%.100s%s%.100s", so_far, *so_far != '\0' ? ", " : "",
                          module != NULL ? module : "", module != NULL ? "." : "",
                          name != NULL ? name : "?");
}

struct findings {
        const char *imports; /* not allowed, joined */
        size_t n_imports;
        size_t n_malformed, n_unverified;
};

static void look_at_file(struct judge *j, const json_t *file, const char *const *allow,
                         size_t n_allow, struct findings *f)
{
        const char *safety = json_string_value(json_object_get(file, "safety"));
        const json_t *imports = json_object_get(file, "imports");
        bool excused = json_array_size(imports) > 0;
        json_t *v;
        size_t i;

        json_array_foreach (imports, i, v) {
                if (import_allowed(v, allow, n_allow))
                        continue;
                excused = false;
                if (f->n_imports++ < NAMES_MAX)
                        f->imports = join_name(j, f->imports, v);
        }
        f->n_malformed += json_is_string(json_object_get(file, "malformed"));
        f->n_unverified += json_is_string(json_object_get(file, "unverified")) ||
                           mlc_streq(safety, "not_verified") ||
                           (!mlc_streq(safety, "unsafe") && !mlc_streq(safety, "allowed") &&
                            !mlc_streq(safety, "no_code"));
        /* unsafe for a reason that is not an import on the list */
        f->n_malformed += mlc_streq(safety, "unsafe") && !excused &&
                          json_array_size(imports) == 0 &&
                          !json_is_string(json_object_get(file, "malformed"));
}

static size_t allow_list(struct judge *j, const json_t *check, const char ***ret)
{
        const json_t *list = json_object_get(check, "allow");
        const char **allow =
                mlc_arena_array(&j->arena, json_array_size(list) + 1, sizeof(*allow), NULL);
        size_t n = 0;
        json_t *v;

        *ret = allow;
        for (size_t i = 0; allow != NULL && i < json_array_size(list); i++) {
                v = json_array_get(list, i);
                if (json_is_string(v))
                        allow[n++] = json_string_value(v);
        }
        return n;
}

void check_imports(struct judge *j, const json_t *check, struct outcome *ret)
{
        const json_t *metadata = json_object_get(version_of(j), "metadata");
        const json_t *files = json_object_get(metadata, "files");
        struct findings f = {.imports = ""};
        const char **allow;
        size_t n_allow = allow_list(j, check, &allow), i;
        json_t *file;

        ret->required = "no import that is not allowed";
        ret->observed = json_string_value(json_object_get(metadata, "safety"));
        ret->verdict = FAIL;
        if (ret->observed == NULL) {
                ret->reason = "nothing is known of the version's files";
                return;
        }
        json_array_foreach (files, i, file)
                look_at_file(j, file, allow, n_allow, &f);
        if (json_array_size(files) == 0) /* only the summary is known */
                look_at_file(j, metadata, allow, n_allow, &f);
        if (f.n_imports > 0)
                ret->reason = judge_text(j, "imports not allowed: %.800s%s", f.imports,
                                         f.n_imports > NAMES_MAX ? ", …" : "");
        else if (f.n_malformed > 0)
                ret->reason = judge_text(j, "%zu files are malformed", f.n_malformed);
        else if (f.n_unverified > 0 || mlc_streq(ret->observed, "not_verified"))
                ret->reason = "not everything could be walked: not_verified";
        else
                ret->verdict = PASS;
        if (ret->verdict == PASS)
                ret->reason = "every import is allowed";
}

static bool linked(const json_t *lineage, const char *key)
{
        const json_t *v = json_object_get(lineage, key);

        if (json_is_array(v))
                return json_array_size(v) > 0;
        if (json_is_object(v))
                return json_object_size(v) > 0;
        return json_is_string(v) && json_string_length(v) > 0;
}

void check_lineage(struct judge *j, const json_t *check, struct outcome *ret)
{
        const json_t *lineage = json_object_get(version_of(j), "lineage");
        const char *needed = "", *missing = "";
        json_t *v;
        size_t i;

        json_array_foreach (json_object_get(check, "requires"), i, v) {
                const char *key = json_is_string(v) ? json_string_value(v) : "?";

                needed = judge_text(j, "%.200s%s%.20s", needed, i > 0 ? ", " : "", key);
                if (!linked(lineage, key))
                        missing = judge_text(j, "%.200s%s%.20s", missing,
                                             *missing != '\0' ? ", " : "", key);
        }
        ret->required = needed;
        ret->verdict = *missing == '\0' ? PASS : FAIL;
        ret->reason = *missing == '\0' ? "the lineage is complete"
                                       : judge_text(j,
                                                    "the version does not say its %s: push it "
                                                    "with --dataset, --code, --run, --base",
                                                    missing);
}

/* How long it has been live there: -1 when it is not. */
static int64_t live_ms(const json_t *bundle, const char *environment)
{
        json_t *v;
        size_t i;

        json_array_foreach (json_object_get(bundle, "after"), i, v)
                if (mlc_streq(json_string_value(json_object_get(v, "environment")), environment) &&
                    json_is_integer(json_object_get(v, "live_for_ms")))
                        return json_integer_value(json_object_get(v, "live_for_ms"));
        return -1;
}

int64_t after_left_ms(const json_t *bundle, const json_t *check)
{
        int64_t live, wanted = json_integer_value(json_object_get(check, "live_for_ms"));

        if (!mlc_streq(json_string_value(json_object_get(check, "type")), "after"))
                return 0;
        live = live_ms(bundle, json_string_value(json_object_get(check, "environment")));
        return live < 0 || live >= wanted ? 0 : wanted - live;
}

void check_after(struct judge *j, const json_t *check, struct outcome *ret)
{
        const char *environment = json_string_value(json_object_get(check, "environment"));
        int64_t wanted = json_integer_value(json_object_get(check, "live_for_ms"));
        int64_t live = live_ms(j->bundle, environment);

        ret->required = judge_text(j, ">= %s", span(j, wanted));
        ret->verdict = live >= 0 && live >= wanted ? PASS : INCONCLUSIVE;
        if (live >= 0)
                ret->observed = span(j, live);
        if (live < 0)
                ret->reason = judge_text(j, "this version is not live in %.100s",
                                         environment != NULL ? environment : "");
        else if (live < wanted)
                ret->reason = judge_text(j, "live in %.100s for %s more", environment,
                                         span(j, wanted - live));
        else
                ret->reason = "live there for long enough";
}
