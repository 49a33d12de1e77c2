/* SPDX-License-Identifier: Apache-2.0 */
/* mlctl(1), written in mdoc(7) from the command tables */
#include <ctype.h>
#include <string.h>

#include "help.h"

/* One line of running text: what roff would take for a request or an escape is masked. */
static void put_text(const char *s, size_t n)
{
        if (n > 0 && (s[0] == '.' || s[0] == '\''))
                (void)fputs("\\&", stdout);
        for (size_t i = 0; i < n; i++) {
                if (i > 0 && s[i] == ' ' && strchr(".!?", s[i - 1]) != NULL)
                        (void)putchar('\n'); /* a new sentence begins on a new line */
                else if (s[i] == '\\')
                        (void)fputs("\\e", stdout);
                else if (s[i] == '-' && i + 1 < n && s[i + 1] == '-')
                        (void)fputs("\\-", stdout);
                else if ((unsigned char)s[i] == 0xe2 && n - i >= 3 &&
                         memcmp(s + i, "\u2026", 3) == 0) {
                        (void)fputs("...", stdout);
                        i += 2;
                } else {
                        (void)putchar(s[i]);
                }
        }
}

/* As sentences: the first letter is a capital, a full stop ends it. Each line of the text is a line
 * of the source, which must not end in a blank. */
static void put_sentences(const char *text)
{
        char first = (char)toupper((unsigned char)text[0]);
        size_t n = strcspn(text, "\n");

        (void)putchar(first);
        if (n > 0)
                put_text(text + 1, n - 1);
        for (text += n; *text == '\n'; text += n) {
                text++;
                n = strcspn(text, "\n");
                (void)fputs(n == 0 ? "\n.Pp" : "\n", stdout); /* an empty line parts paragraphs */
                put_text(text, n);
        }
        if (n == 0 || strchr(".!?", text[-1]) == NULL)
                (void)putchar('.');
        (void)putchar('\n');
}

/* An argument of a macro, quoted. */
static void put_argument(const char *s)
{
        (void)putchar('"');
        for (; *s != '\0'; s++) {
                if (*s == '"')
                        (void)fputs("\"\"", stdout);
                else if (*s == '\\')
                        (void)fputs("\\e", stdout);
                else
                        (void)putchar(*s);
        }
        (void)putchar('"');
}

static void put_options(const struct cli_option *o)
{
        (void)puts(".Bl -tag -width Ds");
        for (; o->name != NULL; o++) {
                (void)printf(".It Fl Fl %s", o->name);
                if (o->arg != NULL && o->arg[0] == '[')
                        (void)printf("%s", o->arg);
                else if (o->arg != NULL) {
                        (void)fputs(" Ar ", stdout);
                        put_argument(o->arg);
                }
                (void)putchar('\n');
                put_sentences(o->help);
                if (o->repeat)
                        (void)puts("It may be given several times.");
        }
        (void)puts(".El");
}

static void put_command(const struct cli_command *c)
{
        (void)printf(".It Cm %s", c->name);
        if (c->args[0] != '\0') {
                (void)fputs(" Ar ", stdout);
                put_argument(c->args);
        }
        (void)putchar('\n');
        put_sentences(c->summary);
        if (c->help != NULL) {
                (void)puts(".Pp");
                put_sentences(c->help);
        }
        if (c->options != NULL)
                put_options(c->options);
}

static void put_head(void)
{
        (void)printf(".Dd %s\n.Dt MLCTL 1\n.Os\n", MLC_DATE);
        (void)puts(".Sh NAME\n.Nm mlctl\n.Nd control plane and registry for machine learning "
                   "models\n"
                   ".Sh SYNOPSIS\n.Nm\n.Ar COMMAND\n.Op Ar arguments\n.Op Ar options\n"
                   ".Sh DESCRIPTION\n"
                   "The command line of\n.Xr mlctld 8 .\n"
                   "Results go to the standard output, notes and progress to the standard error "
                   "output.\n"
                   "A model is called\n.Ar NS/MODEL ,\n"
                   "a version of it\n.Ar NS/MODEL:N ,\n.Ar NS/MODEL:latest ,\n"
                   ".Ar NS/MODEL:ALIAS\nor\n.Ar NS/MODEL@sha256:DIGEST ;\n"
                   "without any of these the newest version is meant.");
}

static void put_tail(void)
{
        (void)puts(".Sh ENVIRONMENT\n.Bl -tag -width Ds\n"
                   ".It Ev MLCTL_SERVER\nThe server, as with\n.Fl Fl server .\n"
                   ".It Ev MLCTL_TOKEN\nThe token; it wins over a stored login.\n"
                   ".It Ev NO_COLOR\nNo colour when it is set and not empty.\n"
                   "There is none either when the output is no terminal.\n"
                   ".It Ev XDG_CONFIG_HOME , Ev XDG_STATE_HOME\nWhere the files below are kept.\n"
                   ".El\n"
                   ".Sh FILES\n.Bl -tag -width Ds\n"
                   ".It Pa ~/.config/mlctl/credentials.json\nTokens of the servers logged in at "
                   "(mode 0600).\n"
                   ".It Pa ~/.local/state/mlctl\nThe pinned keys of the servers' logs and the last "
                   "checkpoints seen.\n"
                   ".El\n"
                   ".Sh EXIT STATUS\n.Bl -tag -width Ds\n"
                   ".It 0\nDone or allowed.\n"
                   ".It 1\nDenied, ended otherwise than wished, or verification failed.\n"
                   ".It 2\nWrong usage, or not authorized.\n"
                   ".It 3\nTimed out while pending.\n"
                   ".It 4\nHeld, because the data decide nothing yet.\n"
                   ".It 5\nThe server cannot be reached or fails; try again.\n"
                   ".El\n"
                   "With\n.Fl Fl output Ar json\n"
                   "and status 2 or 5 the standard output is empty and the standard error output "
                   "holds one problem document\n(RFC 9457).\n"
                   ".Sh SEE ALSO\n.Xr git 1 ,\n.Xr ssh-keygen 1 ,\n.Xr mlctld 8");
}

void help_man(void)
{
        put_head();
        (void)puts(".Sh COMMANDS\n.Bl -tag -width Ds");
        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c))
                put_command(c);
        (void)puts(".El\n.Sh OPTIONS\nThese stand before or after the command.");
        put_options(CLI_GLOBAL);
        put_tail();
}
