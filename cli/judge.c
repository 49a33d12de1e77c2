/* SPDX-License-Identifier: Apache-2.0 */
#include "judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/ref.h"
#include "policy/policy.h"

int judge_again(struct cli *cli, const json_t *bundle, struct examples *x, json_t **ret)
{
        const struct mlc_policy_examples examples = {examples_open, x};
        const char *model;
        struct mlc_ref ref;
        int rc = mlc_json_get_str(json_object_get(bundle, "version"), "/bundle/version", "model",
                                  &model, &cli->err);

        if (rc == 0)
                rc = mlc_ref_parse_model(model, &ref, &cli->err);
        return rc < 0 ? rc : mlc_policy_judge(bundle, &examples, ret, &cli->err);
}

/* What differs */

static const char *check_id(const json_t *check)
{
        const char *id = json_string_value(json_object_get(check, "id"));

        return id != NULL ? id : "?";
}

static int compare_checks(struct cli *cli, const json_t *ours, const json_t *served)
{
        const json_t *check;
        size_t i;

        json_array_foreach (ours, i, check) {
                const json_t *other = json_array_get(served, i);
                const char *key;
                json_t *value;

                json_object_foreach ((json_t *)(uintptr_t)check, key, value)
                        if (!json_equal(value, json_object_get(other, key)))
                                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                                "the server shows another verdict than its "
                                                "evidence gives: check '%s', '%s'",
                                                check_id(check), key);
        }
        return 0;
}

int judge_compare(struct cli *cli, const json_t *ours, const json_t *served)
{
        const char *key;
        json_t *value;
        int rc;

        if (json_equal(ours, served))
                return 0;
        rc = compare_checks(cli, json_object_get(ours, "checks"),
                            json_object_get(served, "checks"));
        if (rc < 0)
                return rc;
        json_object_foreach ((json_t *)(uintptr_t)ours, key, value)
                if (!json_equal(value, json_object_get(served, key)))
                        return mlc_fail(&cli->err, MLC_E_VERIFY,
                                        "the server shows another verdict than its evidence gives: "
                                        "'%s'",
                                        key);
        return mlc_fail(&cli->err, MLC_E_VERIFY,
                        "the server shows more in its verdict than its evidence gives");
}

/* As people read it */

/* "0.951000000" → "0.951"; what is no such number stays. */
static void add_number(struct mlc_str *s, const json_t *v)
{
        const char *text = json_string_value(v);
        char *end = NULL;
        double d = text != NULL ? strtod(text, &end) : 0;

        if (json_is_integer(v))
                mlc_str_addf(s, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
        else if (text != NULL && end != text && *end == '\0')
                mlc_str_addf(s, "%.6g", d);
        else if (text != NULL)
                mlc_str_add(s, text);
}

static json_t *short_number(const json_t *v)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, 65536);
        add_number(&s, v);
        return json_string(mlc_str_cstr(&s));
}

static json_t *short_interval(const json_t *v)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, 256);
        if (json_array_size(v) == 2) {
                mlc_str_addc(&s, '[');
                add_number(&s, json_array_get(v, 0));
                mlc_str_add(&s, ", ");
                add_number(&s, json_array_get(v, 1));
                mlc_str_addc(&s, ']');
        }
        return json_string(mlc_str_cstr(&s));
}

void judge_print_checks(struct cli *cli, const json_t *checks)
{
        static const struct out_column columns[] = {
                {"CHECK", "id", OUT_TEXT},
                {"VERDICT", "shown", OUT_TEXT},
                {"OBSERVED", "observed", OUT_TEXT},
                {"REQUIRED", "required", OUT_TEXT},
                {"INTERVAL", "interval", OUT_TEXT},
                {"N", "n", OUT_TEXT},
                {"NEEDED", "n_needed", OUT_TEXT},
                {"WHY", "reason", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *check;
        size_t i;

        json_array_foreach (checks, i, check) {
                json_t *row = json_copy((json_t *)(uintptr_t)check);
                const char *mode = json_string_value(json_object_get(check, "mode"));
                const char *verdict = json_string_value(json_object_get(check, "verdict"));

                (void)json_object_set_new(row, "observed",
                                          short_number(json_object_get(check, "observed")));
                (void)json_object_set_new(row, "interval",
                                          short_interval(json_object_get(check, "interval")));
                if (mode != NULL && strcmp(mode, "enforce") != 0)
                        (void)json_object_set_new(row, "shown",
                                                  json_sprintf("%s (%s only)",
                                                               verdict != NULL ? verdict : "?",
                                                               mode));
                else
                        (void)json_object_set(row, "shown", json_object_get(check, "verdict"));
                (void)json_array_append_new(rows, row);
        }
        if (json_array_size(rows) == 0)
                (void)printf("no checks\n");
        else
                out_table(cli, rows, columns);
}

void judge_print_word(struct cli *cli, const char *verdict)
{
        bool pass = mlc_streq(verdict, "pass");

        (void)printf("%s", pass ? out_green(cli) : out_red(cli));
        out_text(verdict != NULL ? verdict : "not judged yet");
        (void)printf("%s", out_reset(cli));
}
