/* SPDX-License-Identifier: Apache-2.0 */
/* The checks of a verdict for CI systems that show JUnit files. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "promotion.h"

#define JUNIT_MAX ((size_t)4 << 20)

/* Text of others in XML 1.0: markup escaped, what XML cannot hold becomes "?". */
static void add_escaped(struct mlc_str *s, const char *text)
{
        for (; text != NULL && *text != '\0'; text++) {
                unsigned char c = (unsigned char)*text;

                if (c == '&')
                        mlc_str_add(s, "&amp;");
                else if (c == '<')
                        mlc_str_add(s, "&lt;");
                else if (c == '>')
                        mlc_str_add(s, "&gt;");
                else if (c == '"')
                        mlc_str_add(s, "&quot;");
                else if (c < 0x20 || c == 0x7f)
                        mlc_str_addc(s, c == '\t' || c == '\n' ? ' ' : '?');
                else if (mlc_starts_with(text, "\xef\xbf\xbe") ||
                         mlc_starts_with(text, "\xef\xbf\xbf")) {
                        mlc_str_addc(s, '?');
                        text += 2;
                } else
                        mlc_str_addc(s, *text);
        }
}

static const char *text_of(const json_t *j, const char *key)
{
        const char *text = json_string_value(json_object_get(j, key));

        return text != NULL ? text : "";
}

/* pass, fail, inconclusive or error; what does not decide is never a failure. */
enum outcome { PASSED, FAILED, SKIPPED, BROKEN };
static enum outcome outcome_of(const json_t *check)
{
        const char *verdict = text_of(check, "verdict");

        if (strcmp(verdict, "pass") == 0)
                return PASSED;
        if (strcmp(text_of(check, "mode"), "enforce") != 0 || strcmp(verdict, "inconclusive") == 0)
                return SKIPPED;
        return strcmp(verdict, "fail") == 0 ? FAILED : BROKEN;
}

static void add_attribute(struct mlc_str *s, const char *name, const char *value)
{
        mlc_str_addf(s, " %s=\"", name);
        add_escaped(s, value);
        mlc_str_addc(s, '"');
}

static void add_case(struct mlc_str *s, const json_t *check)
{
        static const char *const elements[] = {NULL, "failure", "skipped", "error"};
        const char *element = elements[outcome_of(check)];

        mlc_str_add(s, "    <testcase");
        add_attribute(s, "classname", text_of(check, "layer"));
        add_attribute(s, "name", text_of(check, "id"));
        mlc_str_add(s, " time=\"0\"");
        if (element == NULL) {
                mlc_str_add(s, "/>\n");
                return;
        }
        mlc_str_addf(s, ">\n      <%s", element);
        add_attribute(s, "message", text_of(check, "reason"));
        if (outcome_of(check) != SKIPPED)
                add_attribute(s, "type", text_of(check, "type"));
        mlc_str_addc(s, '>');
        add_escaped(s, text_of(check, "verdict"));
        if (strcmp(text_of(check, "mode"), "enforce") != 0) {
                mlc_str_add(s, " (");
                add_escaped(s, text_of(check, "mode"));
                mlc_str_add(s, " only)");
        }
        mlc_str_add(s, ": observed ");
        add_escaped(s, text_of(check, "observed"));
        mlc_str_add(s, ", required ");
        add_escaped(s, text_of(check, "required"));
        mlc_str_addf(s, "</%s>\n    </testcase>\n", element);
}

struct counts {
        unsigned of[BROKEN + 1], all;
};

static void count(struct counts *c, const json_t *checks, const char *layer)
{
        const json_t *check;
        size_t i;

        json_array_foreach (checks, i, check)
                if (layer == NULL || strcmp(text_of(check, "layer"), layer) == 0) {
                        c->of[outcome_of(check)]++;
                        c->all++;
                }
}

static void add_counts(struct mlc_str *s, const struct counts *c)
{
        mlc_str_addf(s, " tests=\"%u\" failures=\"%u\" errors=\"%u\" skipped=\"%u\"", c->all,
                     c->of[FAILED], c->of[BROKEN], c->of[SKIPPED]);
}

static void add_suite(struct mlc_str *s, const json_t *checks, const char *layer)
{
        struct counts c = {0};
        const json_t *check;
        size_t i;

        count(&c, checks, layer);
        mlc_str_add(s, "  <testsuite");
        add_attribute(s, "name", layer);
        add_counts(s, &c);
        mlc_str_add(s, " time=\"0\">\n");
        json_array_foreach (checks, i, check)
                if (strcmp(text_of(check, "layer"), layer) == 0)
                        add_case(s, check);
        mlc_str_add(s, "  </testsuite>\n");
}

static bool seen_before(const json_t *checks, size_t i)
{
        const char *layer = text_of(json_array_get(checks, i), "layer");

        for (size_t k = 0; k < i; k++)
                if (strcmp(text_of(json_array_get(checks, k), "layer"), layer) == 0)
                        return true;
        return false;
}

int junit_write(struct cli *cli, const char *file, const json_t *promotion)
{
        const json_t *checks = json_object_get(promotion, "checks");
        _cleanup_(mlc_str_done) struct mlc_str s;
        _cleanup_(mlc_str_done) struct mlc_str name;
        struct counts c = {0};
        int r;

        mlc_str_init(&s, JUNIT_MAX);
        mlc_str_init(&name, 4096);
        mlc_str_addf(&name, "%s:%" JSON_INTEGER_FORMAT " to %s%s", text_of(promotion, "model"),
                     json_integer_value(json_object_get(promotion, "version")),
                     text_of(promotion, "environment"),
                     json_is_true(json_object_get(promotion, "protected")) ? "" : " (unprotected)");
        count(&c, checks, NULL);
        mlc_str_add(&s, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites");
        add_attribute(&s, "name", mlc_str_cstr(&name));
        add_counts(&s, &c);
        mlc_str_add(&s, ">\n");
        for (size_t i = 0; i < json_array_size(checks); i++)
                if (!seen_before(checks, i))
                        add_suite(&s, checks, text_of(json_array_get(checks, i), "layer"));
        mlc_str_add(&s, "</testsuites>\n");
        r = mlc_str_check(&s, &cli->err);
        return r < 0 ? r : mlc_write_file_atomic(file, s.data, s.len, 0644, &cli->err);
}
