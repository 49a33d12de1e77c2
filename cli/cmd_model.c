/* SPDX-License-Identifier: Apache-2.0 */
/* list; show and diff are in show.c and diff.c */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "model.h"
#include "resource.h"

#define LIMIT_DEFAULT 1000
#define LIMIT_MAX 100000
#define PAGE_MAX 1000
#define METRICS_SHOWN 3
#define DIGITS_SHOWN 12

/* Rows of the tables */

/* "NAME@sha256:…" and "URL@COMMIT" with 12 digits of what is longer. */
static json_t *shortened(const json_t *v)
{
        const char *s = json_string_value(v), *hex;
        size_t n, digits = 0;

        if (s == NULL)
                return json_null();
        hex = strrchr(s, '@');
        if (hex == NULL)
                return json_string(s);
        hex++;
        if (mlc_starts_with(hex, "sha256:"))
                hex += strlen("sha256:");
        while (isxdigit((unsigned char)hex[digits]))
                digits++;
        n = (size_t)(hex - s);
        if (hex[digits] != '\0' || digits < 40)
                return json_string(s);
        return json_stringn(s, n + DIGITS_SHOWN);
}

static json_t *shortened_list(const json_t *list)
{
        json_t *short_list = json_array(), *v;
        size_t i;

        json_array_foreach (list, i, v)
                (void)json_array_append_new(short_list, shortened(v));
        return short_list;
}

static json_t *first_metrics(const json_t *metrics)
{
        json_t *few = json_object(), *v;
        const char *name;

        json_object_foreach ((json_t *)(uintptr_t)metrics, name, v) {
                if (json_object_size(few) == METRICS_SHOWN) {
                        (void)json_object_set_new(
                                few, "more",
                                json_integer(
                                        (json_int_t)(json_object_size(metrics) - METRICS_SHOWN)));
                        break;
                }
                (void)json_object_set(few, name, v);
        }
        return few;
}

static json_t *version_row(const json_t *version)
{
        json_t *row = json_copy((json_t *)(uintptr_t)version);
        const json_t *author = json_object_get(version, "author"),
                     *lineage = json_object_get(version, "lineage");
        json_t *who = json_object_get(author, "name");

        if (!json_is_string(who))
                who = json_object_get(author, "id");
        (void)json_object_set(row, "who", who);
        (void)json_object_set_new(row, "dataset",
                                  shortened_list(json_object_get(lineage, "dataset")));
        (void)json_object_set_new(row, "code", shortened(json_object_get(lineage, "code")));
        (void)json_object_set_new(row, "metrics",
                                  first_metrics(json_object_get(version, "metrics")));
        return row;
}

static void print_versions(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"VERSION", "ref", OUT_TEXT},
                {"ALIASES", "aliases", OUT_LIST},
                {"SIZE", "size", OUT_SIZE},
                {"DIGEST", "digest", OUT_DIGEST},
                {"WHO", "who", OUT_TEXT},
                {"WHEN (UTC)", "created", OUT_TIME},
                {"STATUS", "status", OUT_TEXT},
                {"DATASET", "dataset", OUT_LIST},
                {"CODE", "code", OUT_TEXT},
                {"METRICS", "metrics", OUT_LIST},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        json_t *v;
        size_t i;

        json_array_foreach (j, i, v)
                (void)json_array_append_new(rows, version_row(v));
        out_table(cli, rows, columns);
}

static void print_models(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"MODEL", "model", OUT_TEXT},
                {"VERSIONS", "latest", OUT_TEXT},
                {"ALIASES", "aliases", OUT_LIST},
                {"SINCE (UTC)", "created", OUT_TIME},
                {0},
        };

        out_table(cli, j, columns);
}

/* What is asked for */

static int read_limit(struct cli *cli, size_t *ret)
{
        const char *text = cli_opt(cli, "limit");
        unsigned long long n = LIMIT_DEFAULT;

        if (text != NULL && (!mlc_parse_u64(text, &n) || n == 0 || n > LIMIT_MAX))
                return mlc_fail(&cli->err, MLC_E_USAGE, "--limit '%s' is no number from 1 to %d",
                                text, LIMIT_MAX);
        *ret = (size_t)n;
        return 0;
}

static bool has_any(const struct cli *cli, const char *const *options)
{
        for (; *options != NULL; options++)
                if (cli_opt(cli, *options) != NULL)
                        return true;
        return false;
}

static void add_queries(const struct cli *cli, struct mlc_str *path, const char *const *options)
{
        for (; *options != NULL; options++)
                resource_query(path, *options, cli_opt(cli, *options));
}

/* A search goes over everything that the caller may read: keeps what is of `where`, a namespace or
 * a model. */
static json_t *only_of(const json_t *found, const char *where)
{
        size_t i, n = where != NULL ? strlen(where) : 0;
        json_t *kept = json_array(), *v;

        json_array_foreach (found, i, v) {
                const char *model = json_string_value(json_object_get(v, "model"));

                if (where == NULL || (model != NULL && strncmp(model, where, n) == 0 &&
                                      (model[n] == '/' || model[n] == '\0')))
                        (void)json_array_append(kept, v);
        }
        return kept;
}

static const char *const MODEL_FILTERS[] = {"alias", "status", NULL};
static const char *const SEARCH_FILTERS[] = {"digest", "dataset", NULL};
static const char *const BOTH_FILTERS[] = {"label", "metric", NULL};

/* Chooses the operation; *ret_search when what it finds is still to be narrowed to the argument. */
static int choose(struct cli *cli, struct mlc_str *path, bool *ret_search, bool *ret_versions)
{
        const char *where = cli->n_args > 0 ? cli->args[0] : NULL;
        bool model = where != NULL && strchr(where, '/') != NULL;
        bool search = has_any(cli, SEARCH_FILTERS) || (!model && has_any(cli, BOTH_FILTERS));
        int r = 0;

        if (has_any(cli, MODEL_FILTERS) && (!model || search))
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "--alias and --status need NS/MODEL and go with --label and "
                                "--metric only");
        if (model)
                r = resource_model(cli, where, path);
        else if (where != NULL)
                r = mlc_namespace_check(where, &cli->err);
        if (r < 0)
                return r;
        if (search) {
                mlc_str_reset(path);
                mlc_str_add(path, "/api/v1/versions");
                add_queries(cli, path, SEARCH_FILTERS);
                add_queries(cli, path, BOTH_FILTERS);
        } else if (model) {
                mlc_str_add(path, "/versions");
                add_queries(cli, path, MODEL_FILTERS);
                add_queries(cli, path, BOTH_FILTERS);
        } else {
                mlc_str_add(path, "/api/v1/models");
                resource_query(path, "namespace", where);
        }
        *ret_search = search;
        *ret_versions = search || model;
        return 0;
}

static int fetch(struct cli *cli, size_t limit, json_t **ret, bool *ret_versions)
{
        _cleanup_(json_decref_p) json_t *all = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        bool search = false;
        char page[24];
        size_t n;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = choose(cli, &path, &search, ret_versions);
        if (r < 0)
                return r;
        /* one more than asked for tells whether there is more */
        n = search && cli->n_args > 0 ? LIMIT_MAX : limit + 1;
        (void)snprintf(page, sizeof(page), "%zu", n < PAGE_MAX ? n : (size_t)PAGE_MAX);
        resource_query(&path, "limit", page);
        r = mlc_str_check(&path, &cli->err);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_list(cli->client, mlc_str_cstr(&path), n, &all, &cli->err);
        if (r < 0)
                return r;
        *ret = only_of(all, search && cli->n_args > 0 ? cli->args[0] : NULL);
        return 0;
}

static int run_list(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *items = NULL;
        bool versions = false;
        size_t limit;
        int r = read_limit(cli, &limit);

        if (r == 0)
                r = fetch(cli, limit, &items, &versions);
        if (r < 0)
                return r;
        if (json_array_size(items) == 0 && cli->output == CLI_TABLE) {
                out_note(cli, "nothing found%s",
                         versions ? "" : "; 'mlctl push NS/MODEL FILE…' makes a first version");
                return 0;
        }
        if (json_array_size(items) > limit) {
                while (json_array_size(items) > limit)
                        (void)json_array_remove(items, json_array_size(items) - 1);
                out_note(cli, "there is more: see --limit");
        }
        out_result(cli, items, versions ? print_versions : print_models);
        return 0;
}

static const struct cli_option LIST_OPTIONS[] = {
        {"label", "KEY[=VALUE]", "versions that carry this label", false},
        {"metric", "NAME[>=N]", "that have this training metric; >= <= > < = compare", false},
        {"digest", "SHA256", "whose manifest, or a file in it, has this digest", false},
        {"dataset", "NAME[@…]", "that were made from this data", false},
        {"alias", "ALIAS", "of a model: the version that an alias names", false},
        {"status", "ready|deprecated|withdrawn", "of a model: in this status", false},
        {"limit", "N", "so many at most; default 1000", false},
        {0},
};

const struct cli_command CMD_MODEL[] = {
        {"list", "[NS | NS/MODEL]", 0, 1, "models, or the versions of a model",
         "Without an argument all models that you may read, with a namespace those in it, with a\n"
         "model its versions, newest first. A filter lists versions, in all of that. Training\n"
         "metrics are what the job said; they are never judged.",
         LIST_OPTIONS, run_list},
        {"show", "REF", 1, 1, "a version: files, lineage, metadata, metrics, labels",
         "REF is NS/MODEL with :N, :latest, :ALIAS or @sha256:…; bare means the newest version.",
         NULL, model_run_show},
        {"diff", "REF REF", 2, 2, "what differs between two versions", NULL, NULL, model_run_diff},
        {0},
};
