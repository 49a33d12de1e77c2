/* SPDX-License-Identifier: Apache-2.0 */
/* login, whoami, user, role */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include "award.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "cli.h"
#include "config.h"
#include "log.h"

#define TOKEN_FILE_MAX 4096

static const struct out_column USER_FIELDS[] = {
        {"name", "name", OUT_TEXT},     {"id", "id", OUT_TEXT},
        {"kind", "kind", OUT_TEXT},     {"owner", "owner", OUT_TEXT},
        {"status", "status", OUT_TEXT}, {"roles", "roles", OUT_LIST},
        {"since", "created", OUT_TIME}, {0},
};

static void print_user(struct cli *cli, const json_t *j)
{
        out_fields(cli, j, USER_FIELDS);
        award_print_pending(cli, json_object_get(j, "pending"));
}

/* whoami */

static const struct out_column WHOAMI_FIELDS[] = {
        {"name", "user.name", OUT_TEXT}, {"id", "user.id", OUT_TEXT},
        {"kind", "user.kind", OUT_TEXT}, {"may", "roles", OUT_LIST},
        {"token", "token.id", OUT_TEXT}, {"expires", "token.expires", OUT_TIME},
        {"log", "origin", OUT_TEXT},     {0},
};

static void print_whoami(struct cli *cli, const json_t *j)
{
        out_fields(cli, j, WHOAMI_FIELDS);
}

static void print_warnings(struct cli *cli, const json_t *j)
{
        json_t *w;
        size_t i;

        json_array_foreach (json_object_get(j, "warnings"), i, w)
                out_note(cli, "warning: %s", json_string_value(w));
}

static int run_whoami(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *who = NULL;
        int r = cli_connect(cli);

        if (r < 0)
                return r;
        r = mlc_client_json(cli->client, "GET", "/api/v1/whoami", NULL, &who, &cli->err);
        if (r < 0)
                return r;
        print_warnings(cli, who);
        out_result(cli, who, print_whoami);
        return 0;
}

/* login */

static int token_by_invite(struct cli *cli, const char *url, const char *invite, char **ret)
{
        _cleanup_(json_decref_p) json_t *body = json_pack("{s:s}", "invite", invite), *token = NULL;
        const char *text;
        int r = cli_connect_anonymous(cli, url);

        if (r < 0)
                return r;
        r = mlc_client_json(cli->client, "POST", "/api/v1/login", body, &token, &cli->err);
        if (r < 0)
                return r;
        r = mlc_json_get_str(token, "", "token", &text, &cli->err);
        if (r < 0)
                return r;
        *ret = strdup(text);
        return 0;
}

static int token_by_file(struct cli *cli, const char *file, char **ret)
{
        size_t len;
        int r = mlc_read_file(file, TOKEN_FILE_MAX, ret, &len, &cli->err);

        if (r < 0)
                return r;
        (*ret)[strcspn(*ret, "\r\n")] = '\0';
        return 0;
}

/* Typed on a terminal, unseen. */
static int token_by_prompt(struct cli *cli, char **ret)
{
        struct termios before, unseen;
        size_t size = 0;
        ssize_t n;

        if (tcgetattr(STDIN_FILENO, &before) < 0)
                return mlc_fail_errno(&cli->err, "read", "the terminal");
        unseen = before;
        unseen.c_lflag &= ~(tcflag_t)ECHO;
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &unseen);
        (void)fputs("token: ", stderr);
        n = getline(ret, &size, stdin);
        (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
        (void)fputc('\n', stderr);
        if (n <= 1)
                return mlc_fail(&cli->err, MLC_E_USAGE, "no token was typed");
        (*ret)[strcspn(*ret, "\r\n")] = '\0';
        return 0;
}

/* Before anything secret goes there: the log's key is pinned, or is the pinned one. */
static int meet(struct cli *cli, const char *url)
{
        _cleanup_(mlc_log_done) struct mlc_log log = {0};
        int r = cli_connect_anonymous(cli, url);

        return r < 0 ? r : cli_log_open(cli, &log);
}

static int run_login(struct cli *cli)
{
        const char *url = cli->args[0], *invite = cli_opt(cli, "invite"),
                   *file = cli_opt(cli, "token-file");
        _cleanup_(json_decref_p) json_t *who = NULL;
        _cleanup_(free_p) char *token = NULL;
        const char *id;
        int r;

        if (invite != NULL && file != NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "give either --invite or --token-file");
        if (invite == NULL && file == NULL && !isatty(STDIN_FILENO))
                return mlc_fail(&cli->err, MLC_E_USAGE, "give --invite CODE or --token-file FILE");
        r = meet(cli, url);
        if (r < 0)
                return r;
        if (invite != NULL)
                r = token_by_invite(cli, url, invite, &token);
        else
                r = file != NULL ? token_by_file(cli, file, &token) : token_by_prompt(cli, &token);
        if (r < 0)
                return r;
        mlc_client_free(cli->client);
        cli->client = NULL;
        r = mlc_client_new(url, token, &cli->client, &cli->err);
        if (r < 0)
                return r;
        r = mlc_client_json(cli->client, "GET", "/api/v1/whoami", NULL, &who, &cli->err);
        if (r < 0)
                return r;
        r = mlc_json_get_str(json_object_get(who, "user"), "/user", "id", &id, &cli->err);
        if (r < 0)
                return r;
        r = config_save_login(mlc_client_url(cli->client), token, id, &cli->err);
        if (r < 0)
                return r;
        out_note(cli, "logged in at %s", mlc_client_url(cli->client));
        print_warnings(cli, who);
        out_result(cli, who, print_whoami);
        return 0;
}

/* user */

static json_t *repeated(const struct cli *cli, const char *option)
{
        json_t *list = json_array();
        const char *v;

        for (int i = 0; (v = cli_opt_at(cli, option, i)) != NULL; i++)
                (void)json_array_append_new(list, json_string(v));
        return list;
}

static void print_new_user(struct cli *cli, const json_t *j)
{
        const char *invite = json_string_value(json_object_get(j, "invite"));
        const char *token = json_string_value(json_object_get(j, "token"));

        print_user(cli, j);
        if (invite != NULL) {
                (void)printf("\n%sinvitation%s   ", out_bold(cli), out_reset(cli));
                out_text(invite);
                (void)printf("\nThey log in once with:  mlctl login %s --invite ",
                             mlc_client_url(cli->client));
                out_text(invite);
                (void)putchar('\n');
        }
        if (token != NULL) {
                (void)printf("\n%stoken%s        ", out_bold(cli), out_reset(cli));
                out_text(token);
                (void)puts("\nIt is shown this once; give it to the job as MLCTL_TOKEN.");
        }
}

static int run_user_add(struct cli *cli)
{
        bool service = cli_opt(cli, "service") != NULL;
        _cleanup_(json_decref_p) json_t *body = NULL, *user = NULL;
        int r = cli_connect(cli);

        if (r < 0)
                return r;
        body = json_pack("{s:s, s:s, s:o}", "name", cli->args[0], "kind",
                         service ? "service" : "person", "roles", repeated(cli, "role"));
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_INVALID, "the name is not valid UTF-8");
        if (cli_opt(cli, "owner") != NULL)
                (void)json_object_set_new(body, "owner", json_string(cli_opt(cli, "owner")));
        r = mlc_client_json(cli->client, "POST", "/api/v1/users", body, &user, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, user, print_new_user);
        return 0;
}

static void print_users(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"NAME", "name", OUT_TEXT},   {"ID", "id", OUT_TEXT},
                {"KIND", "kind", OUT_TEXT},   {"STATUS", "status", OUT_TEXT},
                {"ROLES", "roles", OUT_LIST}, {0},
        };

        out_table(cli, j, columns);
}

static int run_user_list(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *users = NULL;
        int r = cli_connect(cli);

        if (r < 0)
                return r;
        r = mlc_client_list(cli->client, "/api/v1/users?limit=1000", 100000, &users, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, users, print_users);
        return 0;
}

/* METHOD /api/v1/users/USER<suffix>; prints the user that comes back. */
static int change_user(struct cli *cli, const char *method, const char *suffix, const char *tail,
                       const json_t *body)
{
        _cleanup_(json_decref_p) json_t *user = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r = cli_connect(cli);

        mlc_str_init(&path, 4096);
        if (r < 0)
                return r;
        mlc_str_add(&path, "/api/v1/users/");
        mlc_url_encode(&path, cli->args[0]);
        mlc_str_add(&path, suffix);
        if (tail != NULL)
                mlc_url_encode(&path, tail);
        r = mlc_client_json(cli->client, method, mlc_str_cstr(&path), body, &user, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, user, strcmp(suffix, "/invite") == 0 ? print_new_user : print_user);
        return 0;
}

static int run_user_show(struct cli *cli)
{
        return change_user(cli, "GET", "", NULL, NULL);
}

static int run_user_invite(struct cli *cli)
{
        return change_user(cli, "POST", "/invite", NULL, NULL);
}

static int run_user_erase(struct cli *cli)
{
        return change_user(cli, "POST", "/erase", NULL, NULL);
}

static int set_status(struct cli *cli, const char *status)
{
        _cleanup_(json_decref_p) json_t *body = json_pack("{s:s}", "status", status);

        return change_user(cli, "POST", "/status", NULL, body);
}

static int run_user_disable(struct cli *cli)
{
        return set_status(cli, "disabled");
}

static int run_user_enable(struct cli *cli)
{
        return set_status(cli, "active");
}

static int run_role_grant(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *body = json_pack("{s:s}", "role", cli->args[1]);

        return change_user(cli, "POST", "/roles", NULL, body);
}

static int run_role_revoke(struct cli *cli)
{
        return change_user(cli, "DELETE", "/roles/", cli->args[1], NULL);
}

static const struct cli_option LOGIN_OPTIONS[] = {
        {"invite", "CODE", "the invitation that an admin handed over; used up by this", false},
        {"token-file", "FILE", "a file that holds a token", false},
        {0},
};

static const struct cli_option USER_ADD_OPTIONS[] = {
        {"role", "ROLE[@NS]", "a role, everywhere or in one namespace", true},
        {"service", NULL, "a service for CI instead of a person", false},
        {"owner", "USER", "the person who answers for the service", false},
        {0},
};

const struct cli_command CMD_AUTH[] = {
        {"login", "URL", 1, 1, "log in at a server and remember the token",
         "The first contact pins the key of the server's log for that address.", LOGIN_OPTIONS,
         run_login},
        {"whoami", "", 0, 0, "who the token belongs to, what it may, when it ends", NULL, NULL,
         run_whoami},
        {"user add", "NAME", 1, 1, "invite a person, or make a service for CI",
         "roles: contributor, evaluator, approver, operator, auditor, admin", USER_ADD_OPTIONS,
         run_user_add},
        {"user list", "", 0, 0, "people and services", NULL, NULL, run_user_list},
        {"user show", "USER", 1, 1, "one person or service, by name or id", NULL, NULL,
         run_user_show},
        {"user invite", "USER", 1, 1, "a new invitation for a person", NULL, NULL, run_user_invite},
        {"user disable", "USER", 1, 1, "stop all tokens of a person or service", NULL, NULL,
         run_user_disable},
        {"user enable", "USER", 1, 1, "let a disabled person or service in again", NULL, NULL,
         run_user_enable},
        {"user erase", "USER", 1, 1, "erase a person's name and personal text for ever", NULL, NULL,
         run_user_erase},
        {"role grant", "USER ROLE[@NS]", 2, 2, "grant a role",
         "Where a protected environment names the role, or the person is owner or approver there,\n"
         "it waits for the owners' signatures.",
         NULL, run_role_grant},
        {"role revoke", "USER ROLE[@NS]", 2, 2, "take a role away", NULL, NULL, run_role_revoke},
        {0},
};
