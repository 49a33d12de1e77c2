/* SPDX-License-Identifier: Apache-2.0 */
#include "help.h"

#include <string.h>

#define OPTION_WIDTH 24
#define COMMAND_WIDTH 30

const struct cli_command *help_first(void)
{
        return CLI_TABLES[0];
}

const struct cli_command *help_next(const struct cli_command *c)
{
        if (c[1].name != NULL)
                return c + 1;
        for (size_t i = 0; CLI_TABLES[i] != NULL; i++)
                for (const struct cli_command *k = CLI_TABLES[i]; k->name != NULL; k++)
                        if (k == c)
                                return CLI_TABLES[i + 1];
        return NULL;
}

void help_option(char *ret, size_t size, const struct cli_option *o)
{
        const char *arg = o->arg != NULL ? o->arg : "";

        (void)snprintf(ret, size, "--%s%s%s", o->name, *arg == '\0' || *arg == '[' ? "" : " ", arg);
}

/* "  LEFT   text", the text on a line of its own when LEFT is long. */
static void print_row(FILE *f, const char *left, int width, const char *text, const char *more)
{
        if ((int)strlen(left) > width)
                (void)fprintf(f, "  %s\n  %-*s %s%s\n", left, width, "", text, more);
        else
                (void)fprintf(f, "  %-*s %s%s\n", width, left, text, more);
}

static void print_options(FILE *f, const struct cli_option *o)
{
        for (; o != NULL && o->name != NULL; o++) {
                char left[128];

                help_option(left, sizeof(left), o);
                print_row(f, left, OPTION_WIDTH, o->help, o->repeat ? " (repeatable)" : "");
        }
}

void help_command(FILE *f, const struct cli_command *c)
{
        (void)fprintf(f, "usage: mlctl %s%s%s%s\n\n%s\n", c->name, c->args[0] != '\0' ? " " : "",
                      c->args, c->options != NULL ? " [OPTIONS]" : "", c->summary);
        if (c->help != NULL)
                (void)fprintf(f, "\n%s\n", c->help);
        if (c->options != NULL) {
                (void)fprintf(f, "\noptions:\n");
                print_options(f, c->options);
        }
        (void)fprintf(f, "\nglobal options:\n");
        print_options(f, CLI_GLOBAL);
}

/* Whether the first word of a two-word command is `noun`. */
static bool of_noun(const struct cli_command *c, const char *noun)
{
        size_t n = strlen(noun);

        return strncmp(c->name, noun, n) == 0 && c->name[n] == ' ';
}

bool help_overview(FILE *f, const char *noun)
{
        bool any = false;

        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c)) {
                char left[128];

                if (noun != NULL && !of_noun(c, noun))
                        continue;
                if (!any)
                        (void)fprintf(f, "usage: mlctl %s [ARGUMENTS] [OPTIONS]\n\n",
                                      noun != NULL ? noun : "COMMAND");
                any = true;
                (void)snprintf(left, sizeof(left), "%s %s", c->name, c->args);
                print_row(f, left, COMMAND_WIDTH, c->summary, "");
        }
        if (!any)
                return false;
        (void)fprintf(f, "\nglobal options, before or after the command:\n");
        print_options(f, CLI_GLOBAL);
        (void)fprintf(f, "\n'mlctl COMMAND --help' says more of a command.\n");
        return true;
}
