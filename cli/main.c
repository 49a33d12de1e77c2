/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli.h"
#include "config.h"
#include "help.h"
#include "log.h"

const char *cli_opt(const struct cli *cli, const char *name)
{
        const char *value = NULL;

        for (int i = 0; i < cli->n_given; i++)
                if (strcmp(cli->given[i].name, name) == 0)
                        value = cli->given[i].value;
        return value;
}

const char *cli_opt_at(const struct cli *cli, const char *name, int n)
{
        for (int i = 0; i < cli->n_given; i++)
                if (strcmp(cli->given[i].name, name) == 0 && n-- == 0)
                        return cli->given[i].value;
        return NULL;
}

/* Arguments */

static const struct cli_option *find_option(const struct cli_option *o, const char *name,
                                            size_t len)
{
        for (; o != NULL && o->name != NULL; o++)
                if (strlen(o->name) == len && memcmp(o->name, name, len) == 0)
                        return o;
        return NULL;
}

/* Looks in the command's options and the global ones; before the command is known, in those of all
 * commands. */
static const struct cli_option *known_option(const struct cli *cli, const char *name, size_t len)
{
        const struct cli_option *o = find_option(CLI_GLOBAL, name, len);

        if (o == NULL && cli->command != NULL)
                o = find_option(cli->command->options, name, len);
        return o;
}

static int usage(struct cli *cli, const char *what, const char *arg)
{
        return mlc_fail(&cli->err, MLC_E_USAGE, "%s '%s'; see 'mlctl %s%s--help'", what, arg,
                        cli->command != NULL ? cli->command->name : "",
                        cli->command != NULL ? " " : "");
}

static int give(struct cli *cli, const char *name, const char *value)
{
        if (cli->n_given >= CLI_OPTIONS_MAX)
                return usage(cli, "too many options at", name);
        cli->given[cli->n_given].name = name;
        cli->given[cli->n_given++].value = value;
        return 0;
}

/* Reads the option at argv[*i]; moves *i past its value. */
static int read_option(struct cli *cli, int argc, char **argv, int *i)
{
        const char *name = argv[*i] + 2, *eq = strchr(name, '='), *value = "";
        size_t len = eq != NULL ? (size_t)(eq - name) : strlen(name);
        const struct cli_option *o = known_option(cli, name, len);

        if (o == NULL && cli->noun != NULL)
                return usage(cli, "unknown command", cli->noun);
        if (o == NULL)
                return usage(cli, "unknown option", argv[*i]);
        if (o->arg == NULL && eq != NULL)
                return usage(cli, "no value is taken by", argv[*i]);
        if (eq != NULL)
                value = eq + 1;
        else if (o->arg != NULL && o->arg[0] != '[') {
                if (*i + 1 >= argc)
                        return usage(cli, "a value is missing after", argv[*i]);
                value = argv[++*i];
        }
        if (!o->repeat && cli_opt(cli, o->name) != NULL)
                return usage(cli, "given twice:", argv[*i]);
        return give(cli, o->name, value);
}

/* Names have one or two words; the longer match wins. */
static const struct cli_command *find_command(const char *first, const char *second, int *ret_words)
{
        const struct cli_command *found = NULL;

        *ret_words = 0;
        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c)) {
                const char *space = strchr(c->name, ' ');
                int words = space != NULL ? 2 : 1;

                if (words <= *ret_words)
                        continue;
                if (words == 1 ? strcmp(c->name, first) != 0
                               : second == NULL || strcmp(space + 1, second) != 0 ||
                                         strlen(first) != (size_t)(space - c->name) ||
                                         memcmp(first, c->name, strlen(first)) != 0)
                        continue;
                found = c;
                *ret_words = words;
        }
        return found;
}

/* Global options may stand before the command: skips them to find it. */
static void locate_command(struct cli *cli, int argc, char **argv)
{
        int at[2] = {0, 0}, n = 0, words;

        for (int i = 1; i < argc && n < 2; i++) {
                const struct cli_option *o;
                size_t len;

                if (strncmp(argv[i], "--", 2) != 0) {
                        at[n++] = i;
                        continue;
                }
                len = strcspn(argv[i] + 2, "=");
                o = find_option(CLI_GLOBAL, argv[i] + 2, len);
                if (o != NULL && o->arg != NULL && argv[i][2 + len] == '\0')
                        i++;
                else if (o == NULL && n > 0)
                        break;
        }
        if (n == 0)
                return;
        cli->command = find_command(argv[at[0]], n > 1 ? argv[at[1]] : NULL, &words);
        if (cli->command == NULL) {
                cli->noun = argv[at[0]];
                return;
        }
        argv[at[0]] = NULL;
        if (words == 2)
                argv[at[1]] = NULL;
}

static int read_args(struct cli *cli, int argc, char **argv)
{
        char file_option[] = "--file"; /* what -f is short for */
        bool only_positional = false;
        int r;

        locate_command(cli, argc, argv);
        for (int i = 1; i < argc; i++) {
                if (argv[i] == NULL)
                        continue;
                if (!only_positional && strcmp(argv[i], "--") == 0) {
                        only_positional = true;
                } else if (!only_positional && strncmp(argv[i], "--", 2) == 0) {
                        r = read_option(cli, argc, argv, &i);
                        if (r < 0)
                                return r;
                } else if (!only_positional && strcmp(argv[i], "-f") == 0 &&
                           known_option(cli, "file", 4) != NULL) {
                        argv[i] = file_option;
                        r = read_option(cli, argc, argv, &i);
                        if (r < 0)
                                return r;
                } else if (!only_positional && strcmp(argv[i], "-h") == 0) {
                        r = give(cli, "help", "");
                        if (r < 0)
                                return r;
                } else {
                        cli->args[cli->n_args++] = argv[i];
                }
        }
        return 0;
}

static int apply_output(struct cli *cli)
{
        const char *output = cli_opt(cli, "output");

        if (output == NULL || strcmp(output, "table") == 0)
                cli->output = CLI_TABLE;
        else if (strcmp(output, "json") == 0)
                cli->output = CLI_JSON;
        else if (strcmp(output, "yaml") == 0)
                cli->output = CLI_YAML;
        else
                return usage(cli, "--output takes table, json or yaml, not", output);
        return 0;
}

static void apply_rest(struct cli *cli)
{
        const char *no_color = getenv("NO_COLOR");

        cli->quiet = cli_opt(cli, "quiet") != NULL;
        cli->color = isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0');
        cli->progress = isatty(STDERR_FILENO) && !cli->quiet;
        cli->server = cli_opt(cli, "server");
        if (cli->server == NULL)
                cli->server = getenv("MLCTL_SERVER");
        if (cli->server != NULL && cli->server[0] == '\0')
                cli->server = NULL;
}

/* Looks ahead for the form of the output, so that an error in the arguments has it too. */
static void guess_output(struct cli *cli, int argc, char **argv)
{
        for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
                const char *form = NULL;

                if (strncmp(argv[i], "--output=", 9) == 0)
                        form = argv[i] + 9;
                else if (strcmp(argv[i], "--output") == 0 && i + 1 < argc)
                        form = argv[i + 1];
                if (form != NULL && strcmp(form, "json") == 0)
                        cli->output = CLI_JSON;
                else if (form != NULL && strcmp(form, "yaml") == 0)
                        cli->output = CLI_YAML;
        }
}

/* Nothing that can be run was named: help when it was asked for, else a refusal. */
static int without_command(struct cli *cli)
{
        bool asked = cli_opt(cli, "help") != NULL;

        if (asked && help_overview(stdout, cli->noun))
                return 0;
        if (cli->noun == NULL && cli->output != CLI_TABLE)
                return mlc_fail(&cli->err, MLC_E_USAGE, "no command was given");
        if (cli->output == CLI_TABLE && help_overview(stderr, cli->noun)) {
                cli->exit = 2;
                return 0;
        }
        return usage(cli, "unknown command", cli->noun);
}

static int check_count(struct cli *cli)
{
        const struct cli_command *c = cli->command;

        if (cli->n_args >= c->min_args && (c->max_args < 0 || cli->n_args <= c->max_args))
                return 0;
        return mlc_fail(&cli->err, MLC_E_USAGE, "usage: mlctl %s %s", c->name, c->args);
}

/* Connecting */

int cli_connect_anonymous(struct cli *cli, const char *url)
{
        mlc_client_free(cli->client);
        cli->client = NULL;
        return mlc_client_new(url, NULL, &cli->client, &cli->err);
}

int cli_connect(struct cli *cli)
{
        const char *token = getenv("MLCTL_TOKEN"), *url = cli->server;
        char *normal = NULL;
        size_t n;
        int r;

        if (cli->client != NULL)
                return 0;
        if (token != NULL && token[0] == '\0')
                token = NULL;
        if (url == NULL || token == NULL) { /* else no home directory is needed */
                r = config_load(&cli->credentials, &cli->err);
                if (r < 0)
                        return r;
        }
        if (url == NULL)
                url = json_string_value(json_object_get(cli->credentials, "default"));
        if (url == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "no server is selected; run 'mlctl login URL' or set MLCTL_SERVER");
        n = strlen(url);
        while (n > 0 && url[n - 1] == '/')
                n--;
        normal = strndup(url, n);
        if (normal == NULL)
                abort();
        if (token == NULL)
                token = json_string_value(json_object_get(
                        json_object_get(json_object_get(cli->credentials, "servers"), normal),
                        "token"));
        free(normal);
        if (token == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "not logged in at %s; run 'mlctl login %s' or set MLCTL_TOKEN", url,
                                url);
        cli->server = url;
        r = mlc_client_new(url, token, &cli->client, &cli->err);
        return r < 0 || cli->skip_log ? r : cli_log_greet(cli);
}

static int run(struct cli *cli, int argc, char **argv)
{
        int r;

        if (argc == 2 && strcmp(argv[1], "--man") == 0) { /* for the build */
                help_man();
                return 0;
        }
        guess_output(cli, argc, argv);
        r = read_args(cli, argc, argv);
        if (r < 0)
                return r;
        r = apply_output(cli);
        if (r < 0)
                return r;
        apply_rest(cli);
        if (cli_opt(cli, "version") != NULL) {
                (void)printf("mlctl %s\n", MLC_VERSION);
                return 0;
        }
        if (cli->command == NULL)
                return without_command(cli);
        if (cli_opt(cli, "help") != NULL) {
                help_command(stdout, cli->command);
                return 0;
        }
        r = check_count(cli);
        if (r < 0)
                return r;
        return cli->command->run(cli);
}

int main(int argc, char **argv)
{
        struct cli cli = {0};
        int r;

        (void)setlocale(LC_CTYPE, "C.UTF-8");
        cli.args = calloc((size_t)argc + 1, sizeof(char *));
        if (cli.args == NULL)
                abort();
        r = run(&cli, argc, argv);
        if (r < 0) {
                out_error(&cli, &cli.err);
                cli.exit = mlc_error_exit(r);
        } else if (!cli.quiet) {
                (void)fputs(cli.later, stderr);
        }
        if (fflush(stdout) != 0 && cli.exit == 0)
                cli.exit = 5;
        cli_log_free(&cli);
        mlc_client_free(cli.client);
        json_decref(cli.credentials);
        free(cli.args);
        return cli.exit;
}
