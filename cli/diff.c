/* SPDX-License-Identifier: Apache-2.0 */
/* diff REF REF */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "model.h"
#include "resource.h"

/*
 * The result: {"from": {ref, version, digest, size}, "to": {…}, "identical": bool (same artifact),
 * "fields": [{"name", "from", "to"}], "files" and "tensors": [{"name", "change", "from", "to"}],
 * "metrics": [{"name", "from", "to", "delta"}], "labels": [{"name", "from", "to"}]}. Only what
 * differs is listed; change is added, removed or changed; what one side lacks is null there.
 */

static json_t *or_null(json_t *v)
{
        return v != NULL ? v : json_null(); /* json_null is static, never counted */
}

static json_t *identity(const json_t *v)
{
        return json_pack("{s:O?, s:O?, s:O?, s:O?}", "ref", json_object_get(v, "ref"), "version",
                         json_object_get(v, "version"), "digest", json_object_get(v, "digest"),
                         "size", json_object_get(v, "size"));
}

/* Members side by side */

/* "lineage.code" of a version. */
static json_t *member(const json_t *j, const char *path)
{
        const char *dot = strchr(path, '.');
        char first[32];

        if (dot == NULL)
                return json_object_get(j, path);
        (void)snprintf(first, sizeof(first), "%.*s", (int)(dot - path), path);
        return json_object_get(json_object_get(j, first), dot + 1);
}

static json_t *diff_fields(const json_t *a, const json_t *b)
{
        static const char *const names[] = {
                "status",      "lineage.dataset",    "lineage.code",
                "lineage.run", "lineage.base",       "format",
                "parameters",  "metadata.precision", "metadata.architecture",
                "safety",      "metadata.imports",
        };
        json_t *list = json_array();

        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                json_t *x = or_null(member(a, names[i])), *y = or_null(member(b, names[i]));

                if (!json_equal(x, y))
                        (void)json_array_append_new(list, json_pack("{s:s, s:O, s:O}", "name",
                                                                    names[i], "from", x, "to", y));
        }
        return list;
}

static void add_delta(json_t *row, const json_t *x, const json_t *y)
{
        char text[32];

        /* nine digits: 0.97 - 0.96 is 0.01, not 0.010000000000000009 */
        (void)snprintf(text, sizeof(text), "%.9g", json_number_value(y) - json_number_value(x));
        if (json_is_number(x) && json_is_number(y))
                (void)json_object_set_new(row, "delta", json_real(strtod(text, NULL)));
        else
                (void)json_object_set_new(row, "delta", json_null());
}

static void diff_pair(json_t *list, const char *name, json_t *x, json_t *y, bool delta)
{
        json_t *row;

        if (json_is_number(x) && json_is_number(y) ? json_number_value(x) == json_number_value(y)
                                                   : json_equal(or_null(x), or_null(y)) != 0)
                return;
        row = json_pack("{s:s, s:O, s:O}", "name", name, "from", or_null(x), "to", or_null(y));
        if (delta)
                add_delta(row, x, y);
        (void)json_array_append_new(list, row);
}

/* Two objects of scalars: labels, metrics. */
static json_t *diff_pairs(json_t *a, json_t *b, bool delta)
{
        json_t *list = json_array(), *v;
        const char *name;

        json_object_foreach (a, name, v)
                diff_pair(list, name, v, json_object_get(b, name), delta);
        json_object_foreach (b, name, v)
                if (json_object_get(a, name) == NULL)
                        diff_pair(list, name, NULL, v, delta);
        return list;
}

/* Things with names: files, tensors */

static void add_change(json_t *list, const char *name, json_t *x, json_t *y)
{
        const char *change = x == NULL ? "added" : y == NULL ? "removed" : "changed";

        (void)json_array_append_new(list, json_pack("{s:s, s:s, s:O, s:O}", "name", name, "change",
                                                    change, "from", or_null(x), "to", or_null(y)));
}

static json_t *diff_named(json_t *a, json_t *b)
{
        json_t *list = json_array(), *v;
        const char *name;

        json_object_foreach (a, name, v)
                if (json_object_get(b, name) == NULL || !json_equal(v, json_object_get(b, name)))
                        add_change(list, name, v, json_object_get(b, name));
        json_object_foreach (b, name, v)
                if (json_object_get(a, name) == NULL)
                        add_change(list, name, NULL, v);
        return list;
}

/* Files by path; archives, which have none, by digest. */
static json_t *files_by_name(const json_t *version)
{
        json_t *named = json_object(), *file;
        size_t i;

        json_array_foreach (json_object_get(version, "files"), i, file) {
                const char *path = json_string_value(json_object_get(file, "path"));
                const char *digest = json_string_value(json_object_get(file, "digest"));

                if (path == NULL)
                        path = digest;
                if (path != NULL)
                        (void)json_object_set_new(named, path,
                                                  json_pack("{s:O?, s:s?}", "size",
                                                            json_object_get(file, "size"), "digest",
                                                            digest));
        }
        return named;
}

static void add_tensors(json_t *named, const char *path, const char *what, const json_t *tensors)
{
        json_t *t;
        size_t i;

        json_array_foreach (tensors, i, t) {
                const char *name = json_string_value(json_object_get(t, "name"));
                _cleanup_(json_decref_p) json_t *key =
                        json_sprintf("%s:%s%s", path, what, name != NULL ? name : "?");

                if (json_string_value(key) != NULL)
                        (void)json_object_set_new(named, json_string_value(key),
                                                  json_pack("{s:O?, s:O?}", "dtype",
                                                            json_object_get(t, "dtype"), "shape",
                                                            json_object_get(t, "shape")));
        }
}

/* What the server keeps of the tensors of each file (the first ones), its inputs and outputs. */
static json_t *tensors_by_name(const json_t *version)
{
        json_t *named = json_object(), *file;
        size_t i;

        json_array_foreach (json_object_get(json_object_get(version, "metadata"), "files"), i,
                            file) {
                const char *path = json_string_value(json_object_get(file, "path"));

                if (path == NULL)
                        continue;
                add_tensors(named, path, "", json_object_get(file, "first_tensors"));
                add_tensors(named, path, "input ", json_object_get(file, "inputs"));
                add_tensors(named, path, "output ", json_object_get(file, "outputs"));
        }
        return named;
}

static json_t *diff_by(json_t *(*by_name)(const json_t *version), const json_t *a, const json_t *b)
{
        _cleanup_(json_decref_p) json_t *x = by_name(a), *y = by_name(b);

        return diff_named(x, y);
}

static json_t *diff_versions(const json_t *a, const json_t *b)
{
        bool same = json_equal(json_object_get(a, "digest"), json_object_get(b, "digest")) != 0;

        return json_pack(
                "{s:o, s:o, s:b, s:o, s:o, s:o, s:o, s:o}", "from", identity(a), "to", identity(b),
                "identical", same, "fields", diff_fields(a, b), "files",
                diff_by(files_by_name, a, b), "tensors", diff_by(tensors_by_name, a, b), "metrics",
                diff_pairs(json_object_get(a, "metrics"), json_object_get(b, "metrics"), true),
                "labels",
                diff_pairs(json_object_get(a, "labels"), json_object_get(b, "labels"), false));
}

/* Text */

static bool print_section(struct cli *cli, const json_t *j, const char *key,
                          const struct out_column *columns)
{
        const json_t *rows = json_object_get(j, key);

        if (json_array_size(rows) == 0)
                return false;
        (void)printf("\n%s%c%s%s\n", out_bold(cli), key[0] - 'a' + 'A', key + 1, out_reset(cli));
        out_table(cli, rows, columns);
        return true;
}

/* ["a", {"name": "b"}] → ["a", "b"] */
static json_t *names_of(const json_t *list)
{
        json_t *names = json_array(), *one;
        size_t i;

        json_array_foreach (list, i, one)
                (void)json_array_append(names,
                                        json_is_object(one) ? json_object_get(one, "name") : one);
        return names;
}

static void print_side(struct cli *cli, const json_t *v, bool from)
{
        _cleanup_(json_decref_p) json_t *names = names_of(v);

        if (json_is_null(v) || (json_is_array(v) && json_array_size(v) == 0))
                return;
        (void)printf("  %s%s ", from ? out_red(cli) : out_green(cli), from ? "-" : "+");
        out_value(json_is_array(v) ? names : v, OUT_LIST);
        (void)printf("%s\n", out_reset(cli));
}

static void print_fields(struct cli *cli, const json_t *fields)
{
        json_t *row;
        size_t i;

        json_array_foreach (fields, i, row) {
                (void)printf("%s\n", json_string_value(json_object_get(row, "name")));
                print_side(cli, json_object_get(row, "from"), true);
                print_side(cli, json_object_get(row, "to"), false);
        }
}

static void print_diff(struct cli *cli, const json_t *j)
{
        static const struct out_column files[] = {
                {"FILE", "name", OUT_TEXT},
                {"CHANGE", "change", OUT_TEXT},
                {"SIZE", "from.size", OUT_SIZE},
                {"NEW SIZE", "to.size", OUT_SIZE},
                {"DIGEST", "from.digest", OUT_DIGEST},
                {"NEW DIGEST", "to.digest", OUT_DIGEST},
                {0},
        };
        static const struct out_column tensors[] = {
                {"TENSOR", "name", OUT_TEXT},
                {"CHANGE", "change", OUT_TEXT},
                {"DTYPE", "from.dtype", OUT_TEXT},
                {"NEW DTYPE", "to.dtype", OUT_TEXT},
                {"SHAPE", "from.shape", OUT_TEXT},
                {"NEW SHAPE", "to.shape", OUT_TEXT},
                {0},
        };
        static const struct out_column metrics[] = {
                {"METRIC", "name", OUT_TEXT},
                {"FROM", "from", OUT_TEXT},
                {"TO", "to", OUT_TEXT},
                {"DELTA", "delta", OUT_TEXT},
                {0},
        };
        static const struct out_column labels[] = {{"LABEL", "name", OUT_TEXT},
                                                   {"FROM", "from", OUT_TEXT},
                                                   {"TO", "to", OUT_TEXT},
                                                   {0}};
        static const struct out_column sides[] = {
                {"from", "from.ref", OUT_TEXT}, {"to", "to.ref", OUT_TEXT}, {0}};
        bool any = json_array_size(json_object_get(j, "fields")) > 0;

        out_fields(cli, j, sides);
        if (json_is_true(json_object_get(j, "identical")))
                (void)puts("the artifact is the same");
        if (any) {
                (void)putchar('\n');
                print_fields(cli, json_object_get(j, "fields"));
        }
        any |= print_section(cli, j, "files", files);
        any |= print_section(cli, j, "tensors", tensors);
        any |= print_section(cli, j, "metrics", metrics);
        any |= print_section(cli, j, "labels", labels);
        if (!any)
                (void)puts("nothing differs");
}

int model_run_diff(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *a = NULL, *b = NULL, *diff = NULL;
        _cleanup_(mlc_str_done) struct mlc_str from, to;
        int r;

        mlc_str_init(&from, RESOURCE_PATH_MAX);
        mlc_str_init(&to, RESOURCE_PATH_MAX);
        r = resource_version(cli, cli->args[0], &from);
        if (r == 0)
                r = resource_version(cli, cli->args[1], &to);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&from), NULL, &a, &cli->err);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&to), NULL, &b, &cli->err);
        if (r < 0)
                return r;
        diff = diff_versions(a, b);
        if (diff == NULL)
                return mlc_fail(&cli->err, MLC_E_INVALID, "the server's reply is not as expected");
        out_result(cli, diff, print_diff);
        return 0;
}
