/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli.h"
#include "resource.h"

#define HISTORY_MAX 100000

static void print_alias(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"alias", "ref", OUT_TEXT},
                {"version", "version", OUT_TEXT},
                {"digest", "digest", OUT_TEXT},
                {0},
        };

        out_fields(cli, j, fields);
}

/* set and remove: by compare-and-set */

/* "3" and "v3" are version 3. */
static int read_version(struct cli *cli, const char *text, unsigned long long *ret)
{
        if (!mlc_parse_u64(text[0] == 'v' ? text + 1 : text, ret) || *ret == 0 ||
            *ret > MLC_VERSION_MAX)
                return mlc_fail(&cli->err, MLC_E_USAGE, "'%s' is no version number", text);
        return 0;
}

/* What the alias names now; *ret stays NULL when it does not exist (or is not to be seen: then the
 * change is refused with the reason). */
static int read_current(struct cli *cli, const char *path, json_t **ret)
{
        struct mlc_err err = {0};
        int r = mlc_client_json(cli->client, "GET", path, NULL, ret, &err);

        if (r < 0 && r != MLC_E_NOT_FOUND)
                cli->err = err;
        return r == MLC_E_NOT_FOUND ? 0 : r;
}

/* The version that the change is allowed to start from: that of --if, else the one that it names
 * now; 0 for none. */
static int read_expected(struct cli *cli, const json_t *current, unsigned long long *ret)
{
        const char *text = cli_opt(cli, "if");
        int64_t version = 0;
        int r = 0;

        if (text != NULL)
                return read_version(cli, text, ret);
        if (current != NULL)
                r = mlc_json_get_i64(current, "", "version", &version, &cli->err);
        if (r == 0)
                *ret = (unsigned long long)version;
        return r;
}

static int moved_meanwhile(struct cli *cli, const char *path, unsigned long long expected)
{
        _cleanup_(json_decref_p) json_t *now = NULL;
        json_int_t version;

        mlc_err_clear(&cli->err);
        if (read_current(cli, path, &now) < 0)
                return cli->err.code;
        version = json_integer_value(json_object_get(now, "version"));
        if (now == NULL)
                return mlc_fail(&cli->err, MLC_E_PRECONDITION,
                                "'%s' does not exist (any more), it does not name version %llu",
                                cli->args[0], expected);
        if (expected == 0)
                return mlc_fail(&cli->err, MLC_E_PRECONDITION,
                                "'%s' was made meanwhile and names version %lld; decide again, "
                                "then say --if %lld",
                                cli->args[0], (long long)version, (long long)version);
        return mlc_fail(&cli->err, MLC_E_PRECONDITION,
                        "'%s' names version %lld, not %llu: it was moved meanwhile; decide again, "
                        "then say --if %lld",
                        cli->args[0], (long long)version, expected, (long long)version);
}

/* Sends the change with If-Match, when there is something to match. */
static int send_change(struct cli *cli, struct mlc_request *request, unsigned long long expected,
                       json_t **ret)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        char if_match[64];
        const char *headers[] = {if_match, NULL};
        int r;

        (void)snprintf(if_match, sizeof(if_match), "If-Match: \"%llu\"", expected);
        if (expected != 0)
                request->headers = headers;
        r = mlc_client_do(cli->client, request, &reply, &cli->err);
        request->headers = NULL;
        if (r == MLC_E_PRECONDITION || (r == MLC_E_PRECONDITION_REQUIRED && expected == 0))
                return moved_meanwhile(cli, request->path, expected);
        if (r < 0 || reply.body.len == 0)
                return r;
        return mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, ret, &cli->err);
}

static int run_set(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *before = NULL, *after = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_request request = {.method = "PUT"};
        unsigned long long version = 0, expected = 0;
        char body[64];
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = resource_alias(cli, cli->args[0], &path);
        if (r == 0)
                r = read_version(cli, cli->args[1], &version);
        request.path = mlc_str_cstr(&path);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0 && cli_opt(cli, "if") == NULL)
                r = read_current(cli, request.path, &before);
        if (r == 0)
                r = read_expected(cli, before, &expected);
        if (r < 0)
                return r;
        request.body_len = (size_t)snprintf(body, sizeof(body), "{\"version\":%llu}", version);
        request.body = body;
        r = send_change(cli, &request, expected, &after);
        if (r < 0)
                return r;
        if (expected == version)
                out_note(cli, "it named version %llu already", version);
        else if (expected != 0)
                out_note(cli, "moved from version %llu", expected);
        out_result(cli, after, print_alias);
        return 0;
}

static int run_remove(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *before = NULL, *nothing = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_request request = {.method = "DELETE"};
        unsigned long long expected = 0;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = resource_alias(cli, cli->args[0], &path);
        request.path = mlc_str_cstr(&path);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", request.path, NULL, &before, &cli->err);
        if (r == 0)
                r = read_expected(cli, before, &expected);
        if (r == 0)
                r = send_change(cli, &request, expected, &nothing);
        if (r < 0)
                return r;
        out_note(cli, "removed; it named:");
        out_result(cli, before, print_alias);
        return 0;
}

/* list and history */

static void print_aliases(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ALIAS", "alias", OUT_TEXT},
                {"VERSION", "version", OUT_TEXT},
                {"DIGEST", "digest", OUT_DIGEST},
                {0},
        };

        out_table(cli, j, columns);
}

static void print_history(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"SINCE (UTC)", "at", OUT_TIME},
                {"VERSION", "version", OUT_TEXT},
                {"DIGEST", "digest", OUT_DIGEST},
                {"BY", "by", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        json_t *entry;
        size_t i;

        json_array_foreach (j, i, entry) {
                json_t *row = json_copy(entry), *actor = json_object_get(entry, "actor");
                json_t *by = json_object_get(actor, "name");

                if (json_is_null(json_object_get(row, "version")))
                        (void)json_object_set_new(row, "version", json_string("removed"));
                (void)json_object_set(row, "by",
                                      json_is_string(by) ? by : json_object_get(actor, "id"));
                (void)json_array_append_new(rows, row);
        }
        out_table(cli, rows, columns);
}

static int print_all(struct cli *cli, const char *path,
                     void (*human)(struct cli *cli, const json_t *j))
{
        _cleanup_(json_decref_p) json_t *items = NULL;
        int r = cli_connect(cli);

        if (r == 0)
                r = mlc_client_list(cli->client, path, HISTORY_MAX, &items, &cli->err);
        if (r < 0)
                return r;
        if (json_array_size(items) == 0)
                out_note(cli, cli_opt(cli, "at") != NULL ? "it did not exist then" : "none");
        if (json_array_size(items) > 0 || cli->output != CLI_TABLE)
                out_result(cli, items, human);
        return 0;
}

static int run_list(struct cli *cli)
{
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = resource_model(cli, cli->args[0], &path);
        mlc_str_add(&path, "/aliases");
        return r < 0 ? r : print_all(cli, mlc_str_cstr(&path), print_aliases);
}

static int run_history(struct cli *cli)
{
        const char *at = cli_opt(cli, "at");
        _cleanup_(mlc_str_done) struct mlc_str path;
        int64_t ms;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        if (at != NULL && !mlc_time_parse(at, &ms))
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "--at '%s' is no time such as 2026-05-03 or 2026-05-03T12:00:00Z",
                                at);
        r = resource_alias(cli, cli->args[0], &path);
        mlc_str_add(&path, "/history");
        resource_query(&path, "at", at);
        return r < 0 ? r : print_all(cli, mlc_str_cstr(&path), print_history);
}

static const struct cli_option CHANGE_OPTIONS[] = {
        {"if", "N", "only while it names version N", false},
        {0},
};

static const struct cli_option HISTORY_OPTIONS[] = {
        {"at", "TIME", "only what it named then: 2026-05-03 or 2026-05-03T12:00:00Z", false},
        {0},
};

const struct cli_command CMD_ALIAS[] = {
        {"alias set", "NS/MODEL:ALIAS N", 2, 2, "make an alias, or move it to version N",
         "Moving is refused when somebody else moved it since it was read.", CHANGE_OPTIONS,
         run_set},
        {"alias list", "NS/MODEL", 1, 1, "the aliases of a model", NULL, NULL, run_list},
        {"alias history", "NS/MODEL:ALIAS", 1, 1, "which versions an alias named, newest first",
         NULL, HISTORY_OPTIONS, run_history},
        {"alias remove", "NS/MODEL:ALIAS", 1, 1, "remove an alias; its history stays", NULL,
         CHANGE_OPTIONS, run_remove},
        {0},
};
