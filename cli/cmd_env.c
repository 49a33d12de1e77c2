/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "resource.h"

/* env list */

static void print_list(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ENVIRONMENT", "environment", OUT_TEXT},
                {"PROTECTED", "protected", OUT_TEXT},
                {"MODEL", "model", OUT_TEXT},
                {"LIVE", "version", OUT_TEXT},
                {"SINCE (UTC)", "since", OUT_TIME},
                {"PROMOTION", "promotion", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *environment, *live;
        size_t i, k;

        json_array_foreach (j, i, environment) {
                if (json_array_size(json_object_get(environment, "live")) == 0)
                        (void)json_array_append(rows, json_array_get(j, i));
                json_array_foreach (json_object_get(environment, "live"), k, live) {
                        json_t *row = json_copy((json_t *)(uintptr_t)live);

                        (void)json_object_set(row, "environment",
                                              json_object_get(environment, "environment"));
                        (void)json_object_set(row, "protected",
                                              json_object_get(environment, "protected"));
                        (void)json_array_append_new(rows, row);
                }
        }
        out_table(cli, rows, columns);
}

static int run_list(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *list = NULL;
        int r = cli_connect(cli);

        if (r == 0)
                r = mlc_client_list(cli->client, "/api/v1/environments?limit=1000", 100000, &list,
                                    &cli->err);
        if (r == 0)
                out_result(cli, list, print_list);
        return r;
}

/* env drift */

static void print_drift(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"INSTANCE", "instance", OUT_TEXT},
                {"MODEL", "model", OUT_TEXT},
                {"STATE", "state", OUT_TEXT},
                {"DIGEST", "digest", OUT_DIGEST},
                {"APPROVED", "expected", OUT_DIGEST},
                {"WHY", "why", OUT_TEXT},
                {0},
        };
        bool ok = json_is_true(json_object_get(j, "ok"));

        (void)printf("%s%s%s\n", ok ? out_green(cli) : out_red(cli),
                     ok ? "every instance has what was approved" : "drift", out_reset(cli));
        if (json_array_size(json_object_get(j, "instances")) > 0)
                out_table(cli, json_object_get(j, "instances"), columns);
}

static int run_drift(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_add(&path, "/api/v1/environments/");
        mlc_url_encode(&path, cli->args[0]);
        mlc_str_add(&path, "/drift");
        r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &j, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, j, print_drift);
        cli->exit = json_is_true(json_object_get(j, "ok")) ? 0 : 1;
        return 0;
}

const struct cli_command CMD_ENV[] = {
        {"env list", "", 0, 0, "environments, and what is live in them", NULL, NULL, run_list},
        {"env drift", "ENVIRONMENT", 1, 1,
         "what each serving instance has loaded, against what was approved",
         "Exit 1 when something unapproved, missing or changed is there.", NULL, run_drift},
        {0},
};
