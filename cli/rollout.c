/* SPDX-License-Identifier: Apache-2.0 */
/* Rollouts as people read them. */
#include "rollout.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "rollout/analysis.h"

static const char *text_of(const json_t *j, const char *key)
{
        const char *text = json_string_value(json_object_get(j, key));

        return text != NULL ? text : "";
}

static json_int_t int_of(const json_t *j, const char *key)
{
        return json_integer_value(json_object_get(j, key));
}

/* Of 10,000: "5 %", "0.5 %". */
static json_t *share(json_int_t parts)
{
        return json_sprintf("%g %%", (double)parts / 100);
}

static json_t *duration(const json_t *ms)
{
        json_int_t s = json_integer_value(ms) / 1000;

        if (!json_is_integer(ms))
                return json_null();
        if (s >= 2 * 86400)
                return json_sprintf("%.1f d", (double)s / 86400);
        if (s >= 2 * 3600)
                return json_sprintf("%.1f h", (double)s / 3600);
        if (s >= 120)
                return json_sprintf("%.0f min", (double)s / 60);
        return json_sprintf("%.0f s", (double)json_integer_value(ms) / 1000);
}

json_t *rollout_targets(const json_t *step)
{
        const json_t *name;
        _cleanup_(mlc_str_done) struct mlc_str s;
        size_t i;

        mlc_str_init(&s, 8192);
        json_array_foreach (json_object_get(step, "targets"), i, name)
                mlc_str_addf(&s, "%s%s", i > 0 ? ", " : "", json_string_value(name));
        return s.len > 0 ? json_string(mlc_str_cstr(&s)) : NULL;
}

/* "eu 50 %, us 0 %": what the new version gets in each target, where steps name some. */
static json_t *by_target(const json_t *j)
{
        const json_t *step, *split, *v;
        _cleanup_(json_decref_p) json_t *seen = json_object();
        _cleanup_(mlc_str_done) struct mlc_str s;
        bool waves = false;
        size_t i, k;

        json_array_foreach (json_object_get(j, "steps"), i, step)
                waves = waves || json_array_size(json_object_get(step, "targets")) > 0;
        mlc_str_init(&s, 8192);
        json_array_foreach (json_object_get(j, "splits"), i, split) {
                const char *target = text_of(split, "target");
                json_int_t weight = 0;

                if (!waves || json_object_get(seen, target) != NULL)
                        continue;
                (void)json_object_set_new(seen, target, json_true());
                json_array_foreach (json_object_get(split, "variants"), k, v)
                        if (int_of(v, "version") == int_of(j, "version"))
                                weight = int_of(v, "weight");
                mlc_str_addf(&s, "%s%s %g %%", s.len > 0 ? ", " : "", target, (double)weight / 100);
        }
        return s.len > 0 ? json_string(mlc_str_cstr(&s)) : NULL;
}

static json_t *step_row(const json_t *step, const json_t *expected, json_int_t i)
{
        bool mirror = strcmp(text_of(step, "kind"), "mirror") == 0;
        json_t *row = json_pack("{s:I, s:s, s:o, s:I, s:o, s:s}", "step", i + 1, "kind",
                                mirror ? "mirror" : "weight", "share",
                                share(int_of(step, mirror ? "mirror" : "weight")), "requests",
                                int_of(step, "requests"), "for",
                                duration(json_object_get(step, "for_ms")), "advance",
                                text_of(step, "advance"));

        if (int_of(step, "labels") > 0)
                (void)json_object_set(row, "labels", json_object_get(step, "labels"));
        if (json_array_size(json_object_get(step, "targets")) > 0)
                (void)json_object_set_new(row, "targets", rollout_targets(step));
        if (expected != NULL) {
                (void)json_object_set_new(row, "expected",
                                          duration(json_object_get(expected, "expected_ms")));
                (void)json_object_set(row, "text", json_object_get(expected, "text"));
        }
        return row;
}

void rollout_print_steps(struct cli *cli, const json_t *steps, const json_t *expected)
{
        static const struct out_column columns[] = {
                {"STEP", "step", OUT_TEXT},
                {"KIND", "kind", OUT_TEXT},
                {"SHARE", "share", OUT_TEXT},
                {"IN", "targets", OUT_TEXT},
                {"REQUESTS", "requests", OUT_TEXT},
                {"FOR", "for", OUT_TEXT},
                {"LABELS", "labels", OUT_TEXT},
                {"ADVANCE", "advance", OUT_TEXT},
                {"ABOUT", "expected", OUT_TEXT},
                {"WHAT DECIDES", "text", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *step;
        size_t i;

        json_array_foreach (steps, i, step)
                (void)json_array_append_new(
                        rows, step_row(step, json_array_get(expected, i), (json_int_t)i));
        out_table(cli, rows, columns);
}

static json_t *check_row(const json_t *check)
{
        const json_t *interval = json_object_get(check, "interval");
        const json_t *n = json_object_get(check, "n");
        json_t *row = json_copy((json_t *)(uintptr_t)check);

        if (json_array_size(interval) == 2)
                (void)json_object_set_new(
                        row, "interval",
                        json_sprintf("[%s, %s]", json_string_value(json_array_get(interval, 0)),
                                     json_string_value(json_array_get(interval, 1))));
        if (json_is_object(n))
                (void)json_object_set_new(
                        row, "n",
                        json_sprintf("%" JSON_INTEGER_FORMAT " / %" JSON_INTEGER_FORMAT,
                                     int_of(n, "candidate"), int_of(n, "stable")));
        return row;
}

void rollout_print_decision(struct cli *cli, const json_t *decision)
{
        static const struct out_column columns[] = {
                {"CHECK", "id", OUT_TEXT},
                {"VERDICT", "verdict", OUT_TEXT},
                {"ESTIMATE", "estimate", OUT_TEXT},
                {"INTERVAL", "interval", OUT_TEXT},
                {"LIMIT", "limit", OUT_TEXT},
                {"N NEW / OLD", "n", OUT_TEXT},
                {"STATISTIC", "statistic", OUT_TEXT},
                {"WHY", "rule", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *check;
        size_t i;

        json_array_foreach (json_object_get(decision, "checks"), i, check)
                (void)json_array_append_new(rows, check_row(check));
        if (json_is_object(json_object_get(decision, "ab")))
                (void)json_array_append_new(rows, check_row(json_object_get(decision, "ab")));
        if (json_array_size(rows) > 0)
                out_table(cli, rows, columns);
        (void)printf("%sdecision%s  ", out_dim(cli), out_reset(cli));
        out_text(text_of(decision, "decision"));
        (void)printf(": ");
        out_text(text_of(decision, "reason"));
        (void)printf("\n");
}

static void print_head(struct cli *cli, const json_t *j)
{
        const char *state = text_of(j, "state");
        bool good = strcmp(state, "completed") == 0;
        bool bad = strcmp(state, "rolled_back") == 0 || strcmp(state, "failed") == 0 ||
                   strcmp(state, "aborting") == 0;

        (void)printf("%s", out_bold(cli));
        out_text(text_of(j, "id"));
        (void)printf("%s  ", out_reset(cli));
        out_text(text_of(j, "model"));
        (void)printf(":%" JSON_INTEGER_FORMAT " to ", int_of(j, "version"));
        out_text(text_of(j, "environment"));
        (void)printf(": %s", good ? out_green(cli) : bad ? out_red(cli) : "");
        out_text(state);
        (void)printf("%s%s\n", json_is_true(json_object_get(j, "paused")) ? ", paused" : "",
                     out_reset(cli));
}

static void print_served(struct cli *cli, const json_t *served)
{
        static const struct out_column columns[] = {
                {"TARGET", "target", OUT_TEXT},   {"INSTANCE", "instance", OUT_TEXT},
                {"MODEL", "name", OUT_TEXT},      {"STATE", "state", OUT_TEXT},
                {"PROBLEM", "problem", OUT_TEXT}, {0},
        };

        if (json_array_size(served) == 0)
                return;
        (void)printf("\n");
        out_table(cli, served, columns);
}

/* Routes whose requests are checked against declared inputs, and how many did not fit. */
static void print_validation(const json_t *j)
{
        const json_t *invalid = json_object_get(j, "invalid"), *split;
        size_t i;

        json_array_foreach (json_object_get(j, "splits"), i, split) {
                const json_t *v = json_object_get(split, "validation");

                if (!json_is_object(v))
                        continue;
                (void)printf("\nrequests to ");
                out_text(text_of(split, "route"));
                if (int_of(v, "inputs") == 0)
                        (void)printf(" are not checked: the version declares no inputs that can "
                                     "be\n");
                else
                        (void)printf(" are checked against %" JSON_INTEGER_FORMAT
                                     " declared input%s (%s)\n",
                                     int_of(v, "inputs"), int_of(v, "inputs") == 1 ? "" : "s",
                                     strcmp(text_of(v, "mode"), "reject") == 0 ? "reject" : "flag");
        }
        if (int_of(invalid, "candidate") + int_of(invalid, "stable") > 0)
                (void)printf("%" JSON_INTEGER_FORMAT " requests to the new version and "
                             "%" JSON_INTEGER_FORMAT " to the old one did not fit\n",
                             int_of(invalid, "candidate"), int_of(invalid, "stable"));
}

/* "1 of 2, open until 2026-11-25T10:00:00.000Z; Rea, Ravi could sign" */
static json_t *signed_by(const json_t *approval)
{
        const json_t *rule, *who;
        _cleanup_(mlc_str_done) struct mlc_str s;
        size_t i, k, n = 0;

        mlc_str_init(&s, 8192);
        mlc_str_addf(&s, "%" JSON_INTEGER_FORMAT " of %" JSON_INTEGER_FORMAT ", %s",
                     int_of(approval, "have"), int_of(approval, "need"),
                     text_of(approval, "state"));
        if (json_is_string(json_object_get(approval, "expires")))
                mlc_str_addf(&s, " until %s", text_of(approval, "expires"));
        json_array_foreach (json_object_get(approval, "waiting_for"), i, rule)
                json_array_foreach (json_object_get(rule, "eligible"), k, who)
                        if (n++ < 20)
                                mlc_str_addf(&s, "%s%s", n == 1 ? "; could sign: " : ", ",
                                             text_of(who, "name"));
        return json_string(mlc_str_cstr(&s));
}

void rollout_print(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"promotion", "promotion", OUT_TEXT},
                {"live before", "from.version", OUT_TEXT},
                {"strategy", "strategy", OUT_TEXT},
                {"step", "at", OUT_TEXT},
                {"new version gets", "gets", OUT_TEXT},
                {"in each target", "each", OUT_TEXT},
                {"waits for", "hold", OUT_TEXT},
                {"approvals", "signed", OUT_TEXT},
                {"ended", "outcome", OUT_TEXT},
                {"began", "created", OUT_TIME},
                {0},
        };
        _cleanup_(json_decref_p) json_t *view = json_copy((json_t *)(uintptr_t)j);
        const json_t *steps = json_object_get(j, "steps");
        json_t *each;

        (void)json_object_set_new(view, "at",
                                  json_sprintf("%" JSON_INTEGER_FORMAT " of %zu",
                                               int_of(j, "step") + 1, json_array_size(steps)));
        (void)json_object_set_new(view, "gets",
                                  json_sprintf("%g %%%s", (double)int_of(j, "weight") / 100,
                                               json_is_true(json_object_get(j, "in_force"))
                                                       ? ""
                                                       : " (not in force)"));
        each = by_target(j);
        if (each != NULL)
                (void)json_object_set_new(view, "each", each);
        if (json_is_object(json_object_get(j, "approval")))
                (void)json_object_set_new(view, "signed",
                                          signed_by(json_object_get(j, "approval")));
        print_head(cli, j);
        out_fields(cli, view, fields);
        (void)printf("\n");
        rollout_print_steps(cli, steps, NULL);
        print_served(cli, json_object_get(j, "served"));
        print_validation(j);
        if (json_is_object(json_object_get(j, "decision"))) {
                (void)printf("\n");
                rollout_print_decision(cli, json_object_get(j, "decision"));
        }
}

void rollout_line(const json_t *j, char ret[ROLLOUT_LINE_MAX])
{
        const json_t *steps = json_object_get(j, "steps");
        const json_t *step = json_array_get(steps, (size_t)int_of(j, "step"));
        bool mirror = strcmp(text_of(step, "kind"), "mirror") == 0;
        const char *state = text_of(j, "state");
        const char *why =
                text_of(j, json_is_string(json_object_get(j, "outcome")) ? "outcome" : "hold");
        _cleanup_(json_decref_p) json_t *targets = rollout_targets(step);
        char where[160] = "";

        if (strcmp(state, "running") == 0)
                (void)snprintf(where, sizeof(where),
                               "step %" JSON_INTEGER_FORMAT " of %zu, %s %g %%%s%s",
                               int_of(j, "step") + 1, json_array_size(steps),
                               mirror ? "copies of" : "answers",
                               (double)int_of(step, mirror ? "mirror" : "weight") / 100,
                               targets != NULL ? " in " : "",
                               targets != NULL ? json_string_value(targets) : "");
        (void)snprintf(ret, ROLLOUT_LINE_MAX, "%-11s  %-28s  %s%s",
                       json_is_true(json_object_get(j, "paused")) ? "paused" : state, where,
                       why[0] != '\0' && strcmp(state, "running") == 0 ? "waits: " : "", why);
        for (size_t n = strlen(ret); n > 0 && ret[n - 1] == ' ';)
                ret[--n] = '\0';
}

static int same_decision(struct cli *cli, const json_t *shown, const json_t *ours)
{
        _cleanup_(mlc_str_done) struct mlc_str a, b;
        int r;

        mlc_str_init(&a, 8u << 20);
        mlc_str_init(&b, 8u << 20);
        r = mlc_jcs(shown, &a, &cli->err);
        if (r == 0)
                r = mlc_jcs(ours, &b, &cli->err);
        if (r < 0)
                return r;
        if (!mlc_streq(mlc_str_cstr(&a), mlc_str_cstr(&b)))
                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                "the server's decision does not follow from its statistics");
        return 0;
}

int rollout_decide_again(struct cli *cli, const json_t *j, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *decision = NULL;
        int r = mlc_rollout_decide_again(json_object_get(j, "plan"),
                                         json_object_get(j, "statistics"),
                                         json_object_get(j, "inputs"), &decision, &cli->err);

        if (r == 0)
                r = same_decision(cli, json_object_get(j, "decision"), decision);
        if (r == 0)
                *ret = TAKE_PTR(decision);
        return r;
}
