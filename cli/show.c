/* SPDX-License-Identifier: Apache-2.0 */
/* show REF */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "model.h"
#include "resource.h"

#define CARD_LINES 12
#define IMPORTS_SHOWN 12

static void heading(struct cli *cli, const char *text)
{
        (void)printf("\n%s%s%s\n", out_bold(cli), text, out_reset(cli));
}

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static void set_text(json_t *view, const char *key, const struct mlc_str *s)
{
        (void)json_object_set_new(view, key, json_string(mlc_str_cstr(s)));
}

/* 1234567 → "1,234,567" */
static void add_grouped(struct mlc_str *s, json_int_t n)
{
        char digits[32];
        size_t len = (size_t)snprintf(digits, sizeof(digits), "%" JSON_INTEGER_FORMAT, n);

        for (size_t i = 0; i < len; i++) {
                if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
                        mlc_str_addc(s, ',');
                mlc_str_addc(s, digits[i]);
        }
}

/* Members that are put together from several */

static void view_status(json_t *view, const json_t *j)
{
        const char *status = text_of(j, "status"), *reason = text_of(j, "status_reason");
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, 4096);
        mlc_str_addf(&s, "%s%s%s", status != NULL ? status : "", reason != NULL ? ": " : "",
                     reason != NULL ? reason : "");
        set_text(view, "status", &s);
}

/* "2026-11-24 07:50:51 UTC by dana (u7f3a)" */
static void view_pushed(json_t *view, const json_t *j)
{
        const json_t *author = json_object_get(j, "author");
        const char *name = text_of(author, "name"), *id = text_of(author, "id"),
                   *created = text_of(j, "created");
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, 4096);
        if (created != NULL && strlen(created) >= 19)
                mlc_str_addf(&s, "%.10s %.8s UTC by ", created, created + 11);
        mlc_str_addf(&s, "%s (%s)", name != NULL ? name : "an erased person", id != NULL ? id : "");
        set_text(view, "pushed", &s);
}

static void view_leaf(json_t *view, const json_t *j)
{
        const json_t *index = json_object_get(j, "leaf_index");

        if (json_is_integer(index))
                (void)json_object_set_new(
                        view, "leaf",
                        json_sprintf("leaf %" JSON_INTEGER_FORMAT, json_integer_value(index)));
        else
                (void)json_object_set_new(view, "leaf", json_string("not in the log's tree yet"));
}

static void view_parameters(json_t *view, const json_t *j)
{
        const json_t *n = json_object_get(j, "parameters");
        _cleanup_(mlc_str_done) struct mlc_str s = {0};

        mlc_str_init(&s, 64);
        if (!json_is_integer(n))
                return;
        add_grouped(&s, json_integer_value(n));
        set_text(view, "parameters", &s);
}

static void view_safety(json_t *view, const json_t *j)
{
        static const struct {
                const char *safety, *means;
        } words[] = {
                {"no_code", "no code: tensors only"},
                {"allowed", "pickle, every import is on the list"},
                {"unsafe", "UNSAFE: loading it may run code"},
                {"not_verified", "not verified: it could not be read to the end"},
        };
        const char *safety = text_of(j, "safety");

        for (size_t i = 0; safety != NULL && i < ARRAY_LEN(words); i++)
                if (strcmp(words[i].safety, safety) == 0)
                        (void)json_object_set_new(view, "safety", json_string(words[i].means));
}

/* Sums what the files say of their dtypes: {"F32": 12} */
static void view_dtypes(json_t *view, const json_t *files)
{
        json_t *sum = json_object(), *file, *count;
        const char *dtype;
        size_t i;

        json_array_foreach (files, i, file)
                json_object_foreach (json_object_get(file, "dtypes"), dtype, count)
                        (void)json_object_set_new(
                                sum, dtype,
                                json_integer(json_integer_value(json_object_get(sum, dtype)) +
                                             json_integer_value(count)));
        (void)json_object_set_new(view, "dtypes", sum);
}

static void view_imports(json_t *view, const json_t *imports)
{
        json_t *list = json_array(), *one;
        size_t i;

        json_array_foreach (imports, i, one) {
                const char *name = text_of(one, "name");
                bool allowed = json_is_true(json_object_get(one, "allowed"));

                if (i == IMPORTS_SHOWN) {
                        (void)json_array_append_new(
                                list, json_sprintf("%zu more", json_array_size(imports) - i));
                        break;
                }
                (void)json_array_append_new(list,
                                            json_sprintf("%s%s", name != NULL ? name : "?",
                                                         allowed ? "" : " (not on the list)"));
        }
        (void)json_object_set_new(view, "imports", list);
}

static json_t *make_view(const json_t *j)
{
        const json_t *metadata = json_object_get(j, "metadata");
        json_t *view = json_copy((json_t *)(uintptr_t)j);

        view_status(view, j);
        view_pushed(view, j);
        view_leaf(view, j);
        view_parameters(view, j);
        view_safety(view, j);
        view_dtypes(view, json_object_get(metadata, "files"));
        view_imports(view, json_object_get(metadata, "imports"));
        return view;
}

/* Sections */

static void print_head(struct cli *cli, const json_t *view, const json_t *j)
{
        static const struct out_column fields[] = {
                {"status", "status", OUT_TEXT}, {"aliases", "aliases", OUT_LIST},
                {"digest", "digest", OUT_TEXT}, {"size", "size", OUT_SIZE},
                {"pushed", "pushed", OUT_TEXT}, {"commit", "commit", OUT_TEXT},
                {"log", "leaf", OUT_TEXT},      {0},
        };
        const char *status = text_of(j, "status"), *ref = text_of(j, "ref");
        bool ready = status != NULL && strcmp(status, "ready") == 0;

        (void)fputs(out_bold(cli), stdout);
        out_text(ref != NULL ? ref : "");
        (void)fputs(out_reset(cli), stdout);
        if (!ready)
                (void)printf("  %s%s%s", out_red(cli),
                             status != NULL && strcmp(status, "deprecated") == 0 ? "deprecated"
                                                                                 : "withdrawn",
                             out_reset(cli));
        (void)putchar('\n');
        out_fields(cli, view, fields);
}

static void print_lineage(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"code", "code", OUT_TEXT},
                {"run", "run", OUT_TEXT},
                {"base", "base", OUT_TEXT},
                {0},
        };
        const json_t *lineage = json_object_get(j, "lineage"),
                     *datasets = json_object_get(lineage, "dataset");
        json_t *one;
        size_t i;

        heading(cli, "Made from");
        json_array_foreach (datasets, i, one) {
                (void)printf("%s%-12s%s ", out_dim(cli), i == 0 ? "dataset" : "", out_reset(cli));
                out_value(one, OUT_TEXT);
                (void)putchar('\n');
        }
        out_fields(cli, lineage, fields);
        if (json_array_size(datasets) == 0 && !json_is_string(json_object_get(lineage, "code")) &&
            !json_is_string(json_object_get(lineage, "run")) &&
            !json_is_string(json_object_get(lineage, "base")))
                (void)puts("neither data nor code was named");
}

static void print_metadata(struct cli *cli, const json_t *view)
{
        static const struct out_column fields[] = {
                {"format", "format", OUT_TEXT},
                {"architecture", "metadata.architecture", OUT_TEXT},
                {"parameters", "parameters", OUT_TEXT},
                {"precision", "metadata.precision", OUT_TEXT},
                {"tensors", "dtypes", OUT_LIST},
                {"safety", "safety", OUT_TEXT},
                {"imports", "imports", OUT_LIST},
                {0},
        };

        heading(cli, "Model");
        out_fields(cli, view, fields);
}

/* "application/vnd.cncf.model.weight.v1.raw" → "weight", with ".tar" what is an archive */
static void view_type(json_t *row)
{
        static const char prefix[] = "application/vnd.cncf.model.";
        const char *type = text_of(row, "media_type");
        const char *kind =
                type != NULL && mlc_starts_with(type, prefix) ? type + strlen(prefix) : NULL;
        const char *format = kind != NULL ? strstr(kind, ".v1.") : NULL;

        if (format == NULL)
                (void)json_object_set(row, "type", json_object_get(row, "media_type"));
        else
                (void)json_object_set_new(
                        row, "type",
                        json_sprintf("%.*s%s", (int)(format - kind), kind,
                                     strcmp(format, ".v1.raw") == 0 ? "" : format + 3));
}

static void print_files(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"FILE", "path", OUT_TEXT},
                {"SIZE", "size", OUT_SIZE},
                {"DIGEST", "digest", OUT_DIGEST},
                {"TYPE", "type", OUT_TEXT},
                {0},
        };
        const json_t *files = json_object_get(j, "files");
        _cleanup_(json_decref_p) json_t *rows = json_array();
        json_t *file;
        size_t i;

        json_array_foreach (files, i, file) {
                json_t *row = json_copy(file);

                if (!json_is_string(json_object_get(row, "path")))
                        (void)json_object_set_new(row, "path", json_string("(archive)"));
                view_type(row);
                (void)json_array_append_new(rows, row);
        }
        heading(cli, "Files");
        out_table(cli, rows, columns);
}

/* {"auc": 0.97} as aligned rows */
static void print_pairs(struct cli *cli, const char *title, const json_t *pairs)
{
        _cleanup_(json_decref_p) json_t *rows = json_array();
        static const struct out_column columns[] = {
                {"NAME", "name", OUT_TEXT}, {"VALUE", "value", OUT_TEXT}, {0}};
        const char *name;
        json_t *v;

        if (json_object_size(pairs) == 0)
                return;
        json_object_foreach ((json_t *)(uintptr_t)pairs, name, v)
                (void)json_array_append_new(rows,
                                            json_pack("{s:s, s:O}", "name", name, "value", v));
        heading(cli, title);
        out_table(cli, rows, columns);
}

/* The text of a card begins after its front matter, "---" to "---". */
static const char *after_front_matter(const char *card)
{
        const char *end;

        if (strncmp(card, "---\n", 4) != 0)
                return card;
        end = strstr(card + 3, "\n---\n");
        return end != NULL ? end + 5 : card;
}

static void print_card(struct cli *cli, const json_t *j)
{
        const char *at = text_of(j, "card_text");
        int lines = 0;

        if (at == NULL)
                return;
        heading(cli, "Card");
        at = after_front_matter(at);
        at += strspn(at, "\r\n");
        while (*at != '\0' && lines++ < CARD_LINES) {
                size_t n = strcspn(at, "\n");
                _cleanup_(free_p) char *line = strndup(at, n > 0 && at[n - 1] == '\r' ? n - 1 : n);

                out_text(line != NULL ? line : "");
                (void)putchar('\n');
                at += n + (at[n] == '\n');
        }
        if (*at != '\0')
                (void)printf("%s…%s\n", out_dim(cli), out_reset(cli));
}

static void print_version(struct cli *cli, const json_t *j)
{
        _cleanup_(json_decref_p) json_t *view = make_view(j);

        print_head(cli, view, j);
        print_lineage(cli, j);
        print_metadata(cli, view);
        print_files(cli, j);
        print_pairs(cli, "Training metrics", json_object_get(j, "metrics"));
        print_pairs(cli, "Labels", json_object_get(j, "labels"));
        print_card(cli, j);
}

/* For people the card's first lines come with it. */
static int add_card(struct cli *cli, const char *path, json_t *version)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        _cleanup_(mlc_str_done) struct mlc_str p;
        struct mlc_request request = {.method = "GET"};
        json_t *card;
        int r;

        mlc_str_init(&p, RESOURCE_PATH_MAX);
        mlc_str_addf(&p, "%s/card", path);
        request.path = mlc_str_cstr(&p);
        r = mlc_client_do(cli->client, &request, &reply, &cli->err);
        if (r < 0)
                return r;
        card = json_stringn(mlc_str_cstr(&reply.body), reply.body.len);
        if (card != NULL) /* what is not UTF-8 is not shown */
                (void)json_object_set_new(version, "card_text", card);
        return 0;
}

int model_run_show(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *version = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        const char *p;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = resource_version(cli, cli->args[0], &path);
        p = mlc_str_cstr(&path);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", p, NULL, &version, &cli->err);
        if (r == 0 && cli->output == CLI_TABLE && json_is_true(json_object_get(version, "card")))
                r = add_card(cli, p, version);
        if (r < 0)
                return r;
        out_result(cli, version, print_version);
        return 0;
}
