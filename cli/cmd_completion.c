/* SPDX-License-Identifier: Apache-2.0 */
/* Completions for the shells, made from the command tables */
#include <stdio.h>
#include <string.h>

#include "cli.h"
#include "help.h"

/* What an argument takes can be told from how the help calls it. */

static bool takes_file(const char *arg)
{
        return strstr(arg, "FILE") != NULL || strstr(arg, "DIR") != NULL ||
               strstr(arg, "PATH") != NULL;
}

/* "ready|withdrawn": words to choose from */
static bool takes_words(const char *arg)
{
        return strchr(arg, '|') != NULL &&
               strspn(arg, "abcdefghijklmnopqrstuvwxyz|") == strlen(arg);
}

static void put_words(const char *arg)
{
        for (; *arg != '\0'; arg++)
                (void)putchar(*arg == '|' ? ' ' : *arg);
}

static void put_option_names(const struct cli_option *o)
{
        for (; o != NULL && o->name != NULL; o++)
                (void)printf(" --%s", o->name);
}

/* Those whose value is a word of its own. */
static bool has_value(const struct cli_option *o)
{
        return o->arg != NULL && o->arg[0] != '[';
}

/* The first words of commands, or the second ones after `noun`; each once. */
static void put_nouns(const char *noun)
{
        size_t n = noun != NULL ? strlen(noun) + 1 : 0, before_len = 0;
        const char *before = NULL;

        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c)) {
                size_t len;

                if (noun != NULL && (strncmp(c->name, noun, n - 1) != 0 || c->name[n - 1] != ' '))
                        continue;
                len = strcspn(c->name + n, " ");
                if (before != NULL && len == before_len && strncmp(before, c->name + n, len) == 0)
                        continue;
                before = c->name + n;
                before_len = len;
                (void)printf(" %.*s", (int)len, before);
        }
}

/* bash and zsh: they share the rules, which set `words` and `files` from the command and the word
 * before. */

static void put_value_rules(const struct cli_option *o)
{
        for (; o != NULL && o->name != NULL; o++) {
                if (!has_value(o))
                        continue;
                (void)printf("        --%s) words='", o->name);
                if (takes_words(o->arg))
                        put_words(o->arg);
                (void)printf("' files=%s; return ;;\n", takes_file(o->arg) ? "yes" : "");
        }
}

static void put_rule(const struct cli_command *c)
{
        (void)printf("    '%s')\n        words='", c->name);
        if (takes_words(c->args))
                put_words(c->args);
        put_option_names(c->options);
        put_option_names(CLI_GLOBAL);
        (void)printf("' files=%s\n        case $prev in\n", takes_file(c->args) ? "yes" : "");
        put_value_rules(c->options);
        put_value_rules(CLI_GLOBAL);
        (void)printf("        esac ;;\n");
}

/* The first command with another first word of two than `before`, in the order of the tables; NULL
 * begins and ends. */
static const char *next_noun(const char *before)
{
        bool begun = before == NULL;

        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c)) {
                size_t n = strcspn(c->name, " ");

                if (c->name == before)
                        begun = true;
                if (begun && c->name[n] == ' ' &&
                    (before == NULL || strncmp(before, c->name, n + 1) != 0))
                        return c->name;
        }
        return NULL;
}

static void put_noun_rules(void)
{
        for (const char *noun = NULL; (noun = next_noun(noun)) != NULL;) {
                char first[32];

                (void)snprintf(first, sizeof(first), "%.*s", (int)strcspn(noun, " "), noun);
                (void)printf("    '%s') words='", first);
                put_nouns(first);
                (void)printf("' ;;\n");
        }
}

static void put_rules(void)
{
        (void)printf("_mlctl_rules() {\n"
                     "    words='' files=''\n"
                     "    case $command in\n"
                     "    '') words='");
        put_nouns(NULL);
        put_option_names(CLI_GLOBAL);
        (void)printf("'\n        case $prev in\n");
        put_value_rules(CLI_GLOBAL);
        (void)printf("        esac ;;\n");
        put_noun_rules();
        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c))
                put_rule(c);
        (void)printf("    esac\n}\n");
}

/* $command becomes the command's one or two words: `add WORD` for each word before the one that is
 * completed. */
static void put_add(void)
{
        (void)printf("_mlctl_add() {\n"
                     "    if [ -n \"$skip\" ]; then skip=''; return; fi\n"
                     "    case $1 in\n");
        for (const struct cli_option *o = CLI_GLOBAL; o->name != NULL; o++)
                if (has_value(o))
                        (void)printf("    --%s) skip=yes ;;\n", o->name);
        (void)printf("    -*) ;;\n"
                     "    *) case $command in\n"
                     "        '') command=$1 ;;\n");
        for (const char *noun = NULL; (noun = next_noun(noun)) != NULL;)
                (void)printf("        '%.*s') command=\"$command $1\" ;;\n",
                             (int)strcspn(noun, " "), noun);
        (void)printf("        esac ;;\n    esac\n}\n");
}

static void put_bash(void)
{
        (void)printf("# mlctl(1) completion for bash\n");
        put_add();
        put_rules();
        (void)printf("_mlctl() {\n"
                     "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]}\n"
                     "    local command='' words='' files='' skip='' i\n"
                     "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
                     "        _mlctl_add \"${COMP_WORDS[i]}\"\n"
                     "    done\n"
                     "    _mlctl_rules\n"
                     "    mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
                     "    if [ -n \"$files\" ]; then\n"
                     "        compopt -o filenames 2>/dev/null\n"
                     "        mapfile -t -O \"${#COMPREPLY[@]}\" COMPREPLY < <(compgen -f -- "
                     "\"$cur\")\n"
                     "    fi\n"
                     "}\n"
                     "complete -F _mlctl mlctl\n");
}

static void put_zsh(void)
{
        (void)printf("#compdef mlctl\n# mlctl(1) completion for zsh\n");
        put_add();
        put_rules();
        (void)printf("_mlctl() {\n"
                     "    local -a line=(\"${words[@]}\")\n"
                     "    local prev=${line[CURRENT-1]} command='' files='' skip='' i\n"
                     "    local words=''\n"
                     "    for ((i = 2; i < CURRENT; i++)); do\n"
                     "        _mlctl_add \"${line[i]}\"\n"
                     "    done\n"
                     "    _mlctl_rules\n"
                     "    [ -z \"$words\" ] || compadd -- ${=words}\n"
                     "    [ -z \"$files\" ] || _files\n"
                     "}\n"
                     "if [ \"$funcstack[1]\" = _mlctl ]; then\n"
                     "    _mlctl \"$@\"\n"
                     "elif whence compdef >/dev/null; then\n"
                     "    compdef _mlctl mlctl\n"
                     "fi\n");
}

/* fish */

static void put_quoted(const char *s)
{
        (void)putchar('\'');
        for (; *s != '\0'; s++) {
                if (*s == '\'' || *s == '\\')
                        (void)putchar('\\');
                (void)putchar(*s);
        }
        (void)putchar('\'');
}

static void put_fish_option(const char *condition, const char *name, const struct cli_option *o)
{
        (void)printf("complete -c mlctl");
        if (condition != NULL)
                (void)printf(" -n '%s %s'", condition, name);
        (void)printf(" -l %s", o->name);
        if (has_value(o))
                (void)printf(takes_file(o->arg) ? " -r -F" : " -x");
        if (has_value(o) && takes_words(o->arg)) {
                (void)printf(" -a '");
                put_words(o->arg);
                (void)putchar('\'');
        }
        (void)printf(" -d ");
        put_quoted(o->help);
        (void)putchar('\n');
}

static void put_fish_command(const struct cli_command *c)
{
        size_t n = strcspn(c->name, " ");

        if (c->name[n] == '\0')
                (void)printf("complete -c mlctl -n '__mlctl_is' -a %s -d ", c->name);
        else
                (void)printf("complete -c mlctl -n '__mlctl_is' -a %.*s\n"
                             "complete -c mlctl -n '__mlctl_is %.*s' -a %s -d ",
                             (int)n, c->name, (int)n, c->name, c->name + n + 1);
        put_quoted(c->summary);
        (void)putchar('\n');
        if (takes_words(c->args)) {
                (void)printf("complete -c mlctl -n '__mlctl_is %s' -a '", c->name);
                put_words(c->args);
                (void)printf("'\n");
        }
        if (takes_file(c->args))
                (void)printf("complete -c mlctl -n '__mlctl_in %s' -F\n", c->name);
        for (const struct cli_option *o = c->options; o != NULL && o->name != NULL; o++)
                put_fish_option("__mlctl_in", c->name, o);
}

static void put_fish(void)
{
        (void)printf("# mlctl(1) completion for fish\n"
                     "# the words before the cursor that are no options\n"
                     "function __mlctl_plain\n"
                     "    set -l skip 0\n"
                     "    for word in (commandline -opc)[2..-1]\n"
                     "        if test $skip = 1\n"
                     "            set skip 0\n"
                     "            continue\n"
                     "        end\n"
                     "        switch $word\n"
                     "            case");
        for (const struct cli_option *o = CLI_GLOBAL; o->name != NULL; o++)
                if (has_value(o))
                        (void)printf(" --%s", o->name);
        (void)printf("\n                set skip 1\n"
                     "            case '-*'\n"
                     "            case '*'\n"
                     "                echo $word\n"
                     "        end\n"
                     "    end\n"
                     "end\n"
                     "function __mlctl_is\n"
                     "    set -l plain (__mlctl_plain)\n"
                     "    test \"$plain\" = \"$argv\"\n"
                     "end\n"
                     "function __mlctl_in\n"
                     "    set -l plain (__mlctl_plain)\n"
                     "    set -l n (count $argv)\n"
                     "    test (count $plain) -ge $n\n"
                     "    and test \"$plain[1..$n]\" = \"$argv\"\n"
                     "end\n"
                     "complete -c mlctl -f\n");
        for (const struct cli_option *o = CLI_GLOBAL; o->name != NULL; o++)
                put_fish_option(NULL, "", o);
        for (const struct cli_command *c = help_first(); c != NULL; c = help_next(c))
                put_fish_command(c);
}

static int run_completion(struct cli *cli)
{
        const char *shell = cli->args[0];

        if (strcmp(shell, "bash") == 0)
                put_bash();
        else if (strcmp(shell, "zsh") == 0)
                put_zsh();
        else if (strcmp(shell, "fish") == 0)
                put_fish();
        else
                return mlc_fail(&cli->err, MLC_E_USAGE, "no completion for '%s': bash, zsh or fish",
                                shell);
        return 0;
}

const struct cli_command CMD_COMPLETION[] = {
        {"completion", "bash|zsh|fish", 1, 1, "print the shell's completion script",
         "bash: source <(mlctl completion bash)\n\n"
         "zsh: mlctl completion zsh > DIR/_mlctl, DIR being in $fpath\n\n"
         "fish: mlctl completion fish > ~/.config/fish/completions/mlctl.fish",
         NULL, run_completion},
        {0},
};
