/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "cli.h"

static const struct out_column TOKEN_FIELDS[] = {
        {"id", "id", OUT_TEXT},           {"user", "user", OUT_TEXT},
        {"may", "scope", OUT_LIST},       {"expires", "expires", OUT_TIME},
        {"revoked", "revoked", OUT_TEXT}, {0},
};

static void print_token(struct cli *cli, const json_t *j)
{
        const char *secret = json_string_value(json_object_get(j, "token"));

        out_fields(cli, j, TOKEN_FIELDS);
        if (secret != NULL) {
                (void)printf("\n%stoken%s        ", out_bold(cli), out_reset(cli));
                out_text(secret);
                (void)puts("\nIt is shown this once.");
        }
}

static int run_create(struct cli *cli)
{
        const char *expires = cli_opt(cli, "expires"), *user = cli_opt(cli, "user"), *role;
        _cleanup_(json_decref_p) json_t *body = json_object(), *token = NULL;
        json_t *scope = json_array();
        int64_t ms;
        int r;

        (void)json_object_set_new(body, "scope", scope);
        for (int i = 0; (role = cli_opt_at(cli, "role", i)) != NULL; i++)
                (void)json_array_append_new(scope, json_string(role));
        if (expires != NULL) {
                if (!mlc_duration_parse(expires, &ms) || ms < 1000)
                        return mlc_fail(&cli->err, MLC_E_USAGE,
                                        "--expires '%s' is no duration such as 12h or 30d",
                                        expires);
                (void)json_object_set_new(body, "expires_in", json_integer(ms / 1000));
        }
        if (user != NULL)
                (void)json_object_set_new(body, "user", json_string(user));
        r = cli_connect(cli);
        if (r < 0)
                return r;
        r = mlc_client_json(cli->client, "POST", "/api/v1/tokens", body, &token, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, token, print_token);
        return 0;
}

static void print_tokens(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ID", "id", OUT_TEXT},
                {"USER", "user", OUT_TEXT},
                {"MAY", "scope", OUT_LIST},
                {"EXPIRES", "expires", OUT_TIME},
                {"REVOKED", "revoked", OUT_TEXT},
                {"CREATED", "created", OUT_TIME},
                {0},
        };

        out_table(cli, j, columns);
}

static int run_list(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *tokens = NULL;
        int r = cli_connect(cli);

        if (r < 0)
                return r;
        r = mlc_client_json(cli->client, "GET", "/api/v1/tokens", NULL, &tokens, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, tokens, print_tokens);
        return 0;
}

static int run_revoke(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *token = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r = cli_connect(cli);

        mlc_str_init(&path, 4096);
        if (r < 0)
                return r;
        mlc_str_add(&path, "/api/v1/tokens/");
        mlc_url_encode(&path, cli->args[0]);
        r = mlc_client_json(cli->client, "DELETE", mlc_str_cstr(&path), NULL, &token, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, token, print_token);
        return 0;
}

static const struct cli_option CREATE_OPTIONS[] = {
        {"expires", "DURATION", "when it ends: 12h, 30d; default 90d", false},
        {"role", "ROLE[@NS]", "narrow it to this role; default all that you may", true},
        {"user", "SERVICE", "for a service that you own", false},
        {0},
};

const struct cli_command CMD_TOKEN[] = {
        {"token create", "", 0, 0, "a further token", NULL, CREATE_OPTIONS, run_create},
        {"token list", "", 0, 0, "your tokens and those of your services", NULL, NULL, run_list},
        {"token revoke", "ID", 1, 1, "revoke a token at once", NULL, NULL, run_revoke},
        {0},
};
