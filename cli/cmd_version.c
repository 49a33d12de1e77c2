/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/cleanup.h"
#include "cli.h"
#include "resource.h"

static void print_status(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"version", "ref", OUT_TEXT},
                {"status", "status", OUT_TEXT},
                {"reason", "status_reason", OUT_TEXT},
                {0},
        };

        out_fields(cli, j, fields);
}

static int set_status(struct cli *cli, const char *status)
{
        const char *reason = cli_opt(cli, "reason");
        _cleanup_(json_decref_p) json_t *body = NULL, *version = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        if (reason == NULL || reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "say why with --reason TEXT; it stays with the version");
        body = json_pack("{s:s, s:s}", "status", status, "reason", reason);
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "--reason is not valid UTF-8");
        r = resource_version(cli, cli->args[0], &path);
        mlc_str_add(&path, "/status");
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_json(cli->client, "POST", mlc_str_cstr(&path), body, &version,
                                    &cli->err);
        if (r < 0)
                return r;
        out_result(cli, version, print_status);
        return 0;
}

static int run_deprecate(struct cli *cli)
{
        return set_status(cli, "deprecated");
}

static int run_withdraw(struct cli *cli)
{
        return set_status(cli, "withdrawn");
}

static int run_restore(struct cli *cli)
{
        return set_status(cli, "ready");
}

static const struct cli_option OPTIONS[] = {
        {"reason", "TEXT", "why; required", false},
        {0},
};

const struct cli_command CMD_VERSION[] = {
        {"version deprecate", "REF", 1, 1, "warn everybody who uses a version", NULL, OPTIONS,
         run_deprecate},
        {"version withdraw", "REF", 1, 1, "refuse a version where something new would build on it",
         NULL, OPTIONS, run_withdraw},
        {"version restore", "REF", 1, 1, "make a deprecated or withdrawn version ready again", NULL,
         OPTIONS, run_restore},
        {0},
};
