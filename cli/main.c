/* SPDX-License-Identifier: Apache-2.0 */
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "cli.h"
#include "config.h"

static const struct cli_command *const TABLES[] = {
        CMD_AUTH, CMD_TOKEN, CMD_KEY, CMD_PUSH, CMD_MODEL, CMD_ALIAS, CMD_VERSION,
};

static const struct cli_option GLOBAL[] = {
        {"server", "URL", "the server; default MLCTL_SERVER, else the last login", false},
        {"output", "FORM", "table (default), json or yaml", false},
        {"quiet", NULL, "no notes and no progress on stderr", false},
        {"help", NULL, "this text", false},
        {"version", NULL, "print the version", false},
        {0},
};

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

/* Help */

static void print_options(FILE *f, const struct cli_option *o)
{
        for (; o != NULL && o->name != NULL; o++) {
                char left[64];

                if (o->arg == NULL)
                        (void)snprintf(left, sizeof(left), "--%s", o->name);
                else if (o->arg[0] == '[')
                        (void)snprintf(left, sizeof(left), "--%s%s", o->name, o->arg);
                else
                        (void)snprintf(left, sizeof(left), "--%s %s", o->name, o->arg);
                (void)fprintf(f, "  %-24s %s%s\n", left, o->help, o->repeat ? " (repeatable)" : "");
        }
}

static void print_help(const struct cli_command *c)
{
        (void)printf("usage: mlctl %s%s%s%s\n\n%s\n", c->name, c->args[0] != '\0' ? " " : "",
                     c->args, c->options != NULL ? " [OPTIONS]" : "", c->summary);
        if (c->help != NULL)
                (void)printf("\n%s\n", c->help);
        if (c->options != NULL) {
                (void)printf("\noptions:\n");
                print_options(stdout, c->options);
        }
        (void)printf("\nglobal options:\n");
        print_options(stdout, GLOBAL);
}

static void print_overview(FILE *f)
{
        (void)fprintf(f, "usage: mlctl COMMAND [ARGUMENTS] [OPTIONS]\n\n");
        for (size_t i = 0; i < ARRAY_LEN(TABLES); i++)
                for (const struct cli_command *c = TABLES[i]; c->name != NULL; c++) {
                        char left[64];

                        (void)snprintf(left, sizeof(left), "%s %s", c->name, c->args);
                        if (strlen(left) > 28)
                                (void)fprintf(f, "  %s\n  %-28s %s\n", left, "", c->summary);
                        else
                                (void)fprintf(f, "  %-28s %s\n", left, c->summary);
                }
        (void)fprintf(f, "\nglobal options, before or after the command:\n");
        print_options(f, GLOBAL);
        (void)fprintf(f, "\n'mlctl COMMAND --help' says more of a command.\n");
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
        const struct cli_option *o = find_option(GLOBAL, name, len);

        if (o == NULL && cli->command != NULL)
                o = find_option(cli->command->options, name, len);
        return o;
}

static int usage(struct cli *cli, const char *what, const char *arg)
{
        return mlc_fail(&cli->err, MLC_E_USAGE, "%s '%s'; see 'mlctl %s--help'", what, arg,
                        cli->command != NULL ? cli->command->name : "");
}

/* Reads the option at argv[*i]; moves *i past its value. */
static int read_option(struct cli *cli, int argc, char **argv, int *i)
{
        const char *name = argv[*i] + 2, *eq = strchr(name, '='), *value = "";
        size_t len = eq != NULL ? (size_t)(eq - name) : strlen(name);
        const struct cli_option *o = known_option(cli, name, len);

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
        if (cli->n_given >= CLI_OPTIONS_MAX)
                return usage(cli, "too many options at", argv[*i]);
        cli->given[cli->n_given].name = o->name;
        cli->given[cli->n_given++].value = value;
        return 0;
}

/* Names have one or two words; the longer match wins. */
static const struct cli_command *find_command(const char *first, const char *second, int *ret_words)
{
        const struct cli_command *found = NULL;

        *ret_words = 0;
        for (size_t i = 0; i < ARRAY_LEN(TABLES); i++)
                for (const struct cli_command *c = TABLES[i]; c->name != NULL; c++) {
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
static int locate_command(struct cli *cli, int argc, char **argv)
{
        int at[2] = {0, 0}, n = 0, words;

        for (int i = 1; i < argc && n < 2; i++) {
                const struct cli_option *o;

                if (strncmp(argv[i], "--", 2) != 0) {
                        at[n++] = i;
                        continue;
                }
                o = find_option(GLOBAL, argv[i] + 2, strlen(argv[i] + 2));
                if (o != NULL && o->arg != NULL)
                        i++;
                else if (o == NULL && n > 0)
                        break;
        }
        if (n == 0)
                return 0;
        cli->command = find_command(argv[at[0]], n > 1 ? argv[at[1]] : NULL, &words);
        if (cli->command == NULL)
                return usage(cli, "unknown command", argv[at[0]]);
        argv[at[0]] = NULL;
        if (words == 2)
                argv[at[1]] = NULL;
        return 0;
}

static int read_args(struct cli *cli, int argc, char **argv)
{
        bool only_positional = false;
        int r = locate_command(cli, argc, argv);

        if (r < 0)
                return r;
        for (int i = 1; i < argc; i++) {
                if (argv[i] == NULL)
                        continue;
                if (!only_positional && strcmp(argv[i], "--") == 0) {
                        only_positional = true;
                } else if (!only_positional && strncmp(argv[i], "--", 2) == 0) {
                        r = read_option(cli, argc, argv, &i);
                        if (r < 0)
                                return r;
                } else if (!only_positional && strcmp(argv[i], "-h") == 0) {
                        cli->given[cli->n_given].name = "help";
                        cli->given[cli->n_given++].value = "";
                } else {
                        cli->args[cli->n_args++] = argv[i];
                }
        }
        return 0;
}

static int apply_global(struct cli *cli)
{
        const char *output = cli_opt(cli, "output"), *no_color = getenv("NO_COLOR");

        if (output == NULL || strcmp(output, "table") == 0)
                cli->output = CLI_TABLE;
        else if (strcmp(output, "json") == 0)
                cli->output = CLI_JSON;
        else if (strcmp(output, "yaml") == 0)
                cli->output = CLI_YAML;
        else
                return usage(cli, "--output takes table, json or yaml, not", output);
        cli->quiet = cli_opt(cli, "quiet") != NULL;
        cli->color = isatty(STDOUT_FILENO) && (no_color == NULL || no_color[0] == '\0');
        cli->progress = isatty(STDERR_FILENO) && !cli->quiet;
        cli->server = cli_opt(cli, "server");
        if (cli->server == NULL)
                cli->server = getenv("MLCTL_SERVER");
        return 0;
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
        r = config_load(&cli->credentials, &cli->err);
        if (r < 0)
                return r;
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
        if (token == NULL || token[0] == '\0')
                token = json_string_value(json_object_get(
                        json_object_get(json_object_get(cli->credentials, "servers"), normal),
                        "token"));
        free(normal);
        if (token == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "not logged in at %s; run 'mlctl login %s' or set MLCTL_TOKEN", url,
                                url);
        cli->server = url;
        return mlc_client_new(url, token, &cli->client, &cli->err);
}

static int run(struct cli *cli, int argc, char **argv)
{
        int r = read_args(cli, argc, argv);

        if (r < 0)
                return r;
        r = apply_global(cli);
        if (r < 0)
                return r;
        if (cli_opt(cli, "version") != NULL) {
                (void)printf("mlctl %s\n", MLC_VERSION);
                return 0;
        }
        if (cli_opt(cli, "help") != NULL) {
                if (cli->command != NULL)
                        print_help(cli->command);
                else
                        print_overview(stdout);
                return 0;
        }
        if (cli->command == NULL) {
                print_overview(stderr);
                cli->exit = 2;
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
        }
        if (fflush(stdout) != 0 && cli.exit == 0)
                cli.exit = 5;
        mlc_client_free(cli.client);
        json_decref(cli.credentials);
        free(cli.args);
        return cli.exit;
}
