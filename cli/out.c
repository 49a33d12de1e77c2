/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <libsmartcols.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "codec/utf8.h"

#define TEXT_MAX ((size_t)4 << 20)
#define DEPTH_MAX 64

const char *out_bold(const struct cli *cli)
{
        return cli->color ? "\033[1m" : "";
}

const char *out_dim(const struct cli *cli)
{
        return cli->color ? "\033[2m" : "";
}

const char *out_green(const struct cli *cli)
{
        return cli->color ? "\033[32m" : "";
}

const char *out_red(const struct cli *cli)
{
        return cli->color ? "\033[31m" : "";
}

const char *out_reset(const struct cli *cli)
{
        return cli->color ? "\033[0m" : "";
}

void out_text(const char *text)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, TEXT_MAX);
        mlc_utf8_escape_display(text, strlen(text), &s);
        (void)fputs(mlc_str_cstr(&s), stdout);
}

void out_block(const char *text)
{
        while (*text != '\0') {
                _cleanup_(mlc_str_done) struct mlc_str s;
                size_t n = strcspn(text, "\n");

                mlc_str_init(&s, TEXT_MAX);
                mlc_utf8_escape_display(text, n, &s);
                (void)puts(mlc_str_cstr(&s));
                text += n + (text[n] == '\n');
        }
}

void out_note(struct cli *cli, const char *fmt, ...)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        _cleanup_(free_p) char *text = NULL;
        va_list ap;

        mlc_str_init(&s, TEXT_MAX);
        if (cli->quiet || cli->output != CLI_TABLE)
                return;
        va_start(ap, fmt);
        if (vasprintf(&text, fmt, ap) < 0)
                abort();
        va_end(ap);
        mlc_utf8_escape_display(text, strlen(text), &s);
        (void)fprintf(stderr, "%s\n", mlc_str_cstr(&s));
}

/* YAML: block style; every string is written as a JSON string, which YAML 1.2 reads as it is. */

static void yaml_scalar(const json_t *j)
{
        _cleanup_(free_p) char *text =
                json_dumps(j, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));

        (void)fputs(text != NULL ? text : "null", stdout);
}

static void yaml_value(const json_t *j, int depth);

static void yaml_object(const json_t *j, int depth)
{
        bool first = true;
        const char *key;
        json_t *v;

        json_object_foreach ((json_t *)(uintptr_t)j, key, v) {
                _cleanup_(json_decref_p) json_t *k = json_string(key);

                if (!first)
                        (void)printf("%*s", depth * 2, "");
                first = false;
                yaml_scalar(k);
                (void)putchar(':');
                if ((json_is_object(v) && json_object_size(v) > 0) ||
                    (json_is_array(v) && json_array_size(v) > 0)) {
                        (void)printf("\n%*s", (depth + 1) * 2, "");
                        yaml_value(v, depth + 1);
                } else {
                        (void)putchar(' ');
                        yaml_scalar(v);
                        (void)putchar('\n');
                }
        }
}

static void yaml_value(const json_t *j, int depth)
{
        json_t *v;
        size_t i;

        if (depth > DEPTH_MAX || (!json_is_object(j) && !json_is_array(j)) ||
            (json_is_object(j) && json_object_size(j) == 0) ||
            (json_is_array(j) && json_array_size(j) == 0)) {
                yaml_scalar(j);
                (void)putchar('\n');
                return;
        }
        if (json_is_object(j)) {
                yaml_object(j, depth);
                return;
        }
        json_array_foreach (j, i, v) {
                if (i > 0)
                        (void)printf("%*s", depth * 2, "");
                (void)fputs("- ", stdout);
                yaml_value(v, depth + 1);
        }
}

static void print_json(const json_t *j, size_t flags)
{
        _cleanup_(free_p) char *text =
                json_dumps(j, flags | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));

        (void)puts(text != NULL ? text : "null");
}

void out_result(struct cli *cli, const json_t *j, void (*human)(struct cli *cli, const json_t *j))
{
        if (cli->output == CLI_JSON)
                print_json(j, JSON_INDENT(2));
        else if (cli->output == CLI_YAML)
                yaml_value(j, 0);
        else if (human != NULL)
                human(cli, j);
}

void out_line(struct cli *cli, const json_t *j, void (*human)(struct cli *cli, const json_t *j))
{
        if (cli->output == CLI_TABLE)
                human(cli, j);
        else
                print_json(j, JSON_COMPACT);
        (void)fflush(stdout);
}

/* Members as text */

static const json_t *member(const json_t *j, const char *path)
{
        char part[64];

        while (j != NULL && *path != '\0') {
                size_t n = strcspn(path, ".");

                if (n >= sizeof(part))
                        return NULL;
                memcpy(part, path, n);
                part[n] = '\0';
                j = json_object_get(j, part);
                path += n + (path[n] == '.');
        }
        return j;
}

static void add_size(struct mlc_str *s, json_int_t bytes)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
        double v = (double)bytes;
        size_t u = 0;

        while (v >= 1024 && u + 1 < ARRAY_LEN(units)) {
                v /= 1024;
                u++;
        }
        mlc_str_addf(s, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]);
}

static void add_scalar(struct mlc_str *s, const json_t *v)
{
        _cleanup_(free_p) char *text = NULL;

        if (json_is_string(v)) {
                mlc_utf8_escape_display(json_string_value(v), json_string_length(v), s);
                return;
        }
        if (v == NULL || json_is_null(v))
                return;
        text = json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(9));
        if (text != NULL)
                mlc_utf8_escape_display(text, strlen(text), s);
}

static void add_list(struct mlc_str *s, const json_t *v)
{
        const char *key;
        bool first = true;
        json_t *one;
        size_t i;

        if (json_is_object(v)) {
                json_object_foreach ((json_t *)(uintptr_t)v, key, one) {
                        mlc_str_add(s, first ? "" : ", ");
                        mlc_utf8_escape_display(key, strlen(key), s);
                        mlc_str_addc(s, '=');
                        add_scalar(s, one);
                        first = false;
                }
                return;
        }
        json_array_foreach (v, i, one) {
                mlc_str_add(s, i > 0 ? ", " : "");
                add_scalar(s, one);
        }
}

static void add_formatted(struct mlc_str *s, const json_t *v, enum out_format format)
{
        const char *text = json_string_value(v);

        if (format == OUT_SIZE && json_is_integer(v))
                add_size(s, json_integer_value(v));
        else if (format == OUT_TIME && text != NULL && strlen(text) >= 19) {
                mlc_utf8_escape_display(text, 10, s);
                mlc_str_addc(s, ' ');
                mlc_utf8_escape_display(text + 11, 8, s);
        } else if (format == OUT_DIGEST && text != NULL && strlen(text) > 19)
                mlc_utf8_escape_display(text, 19, s);
        else if (format == OUT_LIST && (json_is_array(v) || json_is_object(v)))
                add_list(s, v);
        else
                add_scalar(s, v);
}

void out_value(const json_t *v, enum out_format format)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, TEXT_MAX);
        add_formatted(&s, v, format);
        (void)fputs(mlc_str_cstr(&s), stdout);
}

void out_table(struct cli *cli, const json_t *rows, const struct out_column *columns)
{
        struct libscols_table *t = scols_new_table();
        const json_t *row;
        size_t i;

        if (t == NULL)
                abort();
        (void)scols_table_enable_colors(t, cli->color);
        for (const struct out_column *c = columns; c->title != NULL; c++)
                (void)scols_table_new_column(t, c->title, 0,
                                             c->format == OUT_SIZE ? SCOLS_FL_RIGHT : 0);
        json_array_foreach (rows, i, row) {
                struct libscols_line *line = scols_table_new_line(t, NULL);
                size_t n = 0;

                for (const struct out_column *c = columns; c->title != NULL; c++) {
                        _cleanup_(mlc_str_done) struct mlc_str s;

                        mlc_str_init(&s, TEXT_MAX);
                        add_formatted(&s, member(row, c->member), c->format);
                        (void)scols_line_set_data(line, n++, s.len > 0 ? mlc_str_cstr(&s) : "-");
                }
        }
        (void)scols_print_table(t);
        scols_unref_table(t);
}

void out_fields(struct cli *cli, const json_t *j, const struct out_column *fields)
{
        for (; fields->title != NULL; fields++) {
                const json_t *v = member(j, fields->member);
                _cleanup_(mlc_str_done) struct mlc_str s;

                mlc_str_init(&s, TEXT_MAX);
                add_formatted(&s, v, fields->format);
                if (s.len > 0)
                        (void)printf("%s%-12s%s %s\n", out_dim(cli), fields->title, out_reset(cli),
                                     mlc_str_cstr(&s));
        }
}

void out_error(struct cli *cli, const struct mlc_err *err)
{
        const json_t *served = cli->client != NULL ? mlc_client_problem(cli->client) : NULL;
        _cleanup_(json_decref_p) json_t *problem = NULL;
        _cleanup_(mlc_str_done) struct mlc_str s;
        char type[128];

        mlc_str_init(&s, TEXT_MAX);
        if (cli->output == CLI_TABLE) {
                mlc_utf8_escape_display(err->msg, strlen(err->msg), &s);
                (void)fprintf(stderr, "mlctl: %s%s%s%s\n", mlc_str_cstr(&s),
                              err->field[0] != '\0' ? " (" : "", err->field,
                              err->field[0] != '\0' ? ")" : "");
                return;
        }
        (void)snprintf(type, sizeof(type), "urn:mlctl:error:%s", mlc_error_slug(err->code));
        if (served != NULL && json_string_value(json_object_get(served, "type")) != NULL)
                problem = json_deep_copy(served);
        else
                problem = json_pack("{s:s, s:s, s:i, s:s}", "type", type, "title",
                                    mlc_error_title(err->code), "status",
                                    mlc_error_status(err->code), "detail", err->msg);
        if (problem != NULL) {
                if (cli->later[0] != '\0')
                        (void)json_object_set_new(problem, "note", json_string(cli->later));
                _cleanup_(free_p) char *text = json_dumps(problem, JSON_COMPACT);

                (void)fprintf(stderr, "%s\n", text != NULL ? text : "{}");
        }
}
