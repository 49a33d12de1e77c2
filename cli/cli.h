/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "client/http.h"
#include "codec/json.h"
#include "mlctl/error.h"

/*
 * A command is one function and one row of a table in its cmd_<noun>.c; commands.c lists the
 * tables, main.c finds it, reads its
 * options and turns its error into text and an exit code. Human text and progress go to stderr,
 * results to stdout.
 */
struct cli;
struct mlc_log;
struct mlc_ref;

struct cli_option {
        const char *name; /* without dashes: "dataset" */
        const char *arg; /* name of its value in the help, NULL for a flag; "[=X]" for an optional
                            one */
        const char *help;
        bool repeat; /* may be given several times */
};

struct cli_command {
        const char *name; /* "push", "alias set" */
        const char *args; /* positional arguments as the help shows them: "REF DIR" */
        int min_args, max_args; /* max -1: any number */
        const char *summary; /* one line */
        const char *help; /* further paragraphs for --help and the man page, or NULL */
        const struct cli_option *options; /* ends with name NULL; or NULL */
        int (*run)(
                struct cli *cli); /* 0, or negative with cli->err set; cli->exit for other exits */
};

enum cli_output { CLI_TABLE, CLI_JSON, CLI_YAML };

#define CLI_OPTIONS_MAX 64

struct cli {
        const struct cli_command *command;
        const char *noun; /* when there is no command: what was written in its place, or NULL */
        char **args; /* positional arguments */
        int n_args;
        struct {
                const char *name, *value;
        } given[CLI_OPTIONS_MAX];
        int n_given;

        enum cli_output output;
        bool color; /* stdout is a terminal and NO_COLOR is unset */
        bool progress; /* stderr is a terminal */
        bool quiet;
        const char *server; /* --server, MLCTL_SERVER, or the last login; NULL when none */
        /* What stderr shall say at the end of a run with machine-readable output; when that ends
         * with a problem document, it is its member "note". */
        char later[1024];
        struct mlc_err err;
        int exit; /* exit code when run returns 0 */
        struct mlc_client *client; /* made by cli_connect */
        struct mlc_log *log; /* looked at by cli_connect, see log.h; may be NULL */
        bool skip_log; /* set before cli_connect: do not look at the log */
        json_t *credentials; /* loaded by cli_connect, see config.h */
};

/* Value of an option (the last one given), "" for a flag without one, NULL when absent. */
const char *cli_opt(const struct cli *cli, const char *name);
/* The i-th value of a repeated option, NULL past the last. */
const char *cli_opt_at(const struct cli *cli, const char *name, int i);

/* Connects to the selected server with the selected token; fails with what to do when nothing is
 * selected. Looks at the server's log first (cli_log_greet): a lying one gets no command. */
int cli_connect(struct cli *cli) MLC_CHECK;
/* The same without needing a token (login, open resources). */
int cli_connect_anonymous(struct cli *cli, const char *url) MLC_CHECK;

/* The version that a reference names (GET …/versions/REF). */
int cli_version_get(struct cli *cli, const struct mlc_ref *ref, json_t **ret) MLC_CHECK;

/* out.c */

/*
 * Prints the result: as one JSON document or as YAML, or by `human` for the table form. `j` is
 * borrowed. human NULL: the table form prints nothing.
 */
void out_result(struct cli *cli, const json_t *j, void (*human)(struct cli *cli, const json_t *j));
/* One object a line in JSON form (for streams). */
void out_line(struct cli *cli, const json_t *j, void (*human)(struct cli *cli, const json_t *j));
/* A note of one line to people on stderr, text from others in it escaped; nothing with --quiet or a
 * machine-readable output. */
void out_note(struct cli *cli, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text from others on stdout, control and bidi characters escaped. */
void out_text(const char *text);
/* The same for several lines, and a line end. */
void out_block(const char *text);
/* Columns; values are texts from JSON members (dotted paths), formatted by `format`. */
enum out_format { OUT_TEXT, OUT_SIZE, OUT_TIME, OUT_DIGEST, OUT_LIST };
struct out_column {
        const char *title, *member;
        enum out_format format;
};
/* One value on stdout as a table shows it, without a line end. */
void out_value(const json_t *v, enum out_format format);
void out_table(struct cli *cli, const json_t *rows, const struct out_column *columns);
/* "Title:  value" lines of one object; absent and null members are left out. */
void out_fields(struct cli *cli, const json_t *j, const struct out_column *fields);
/* Prints the error (a problem document in JSON form, else "mlctl: …" with what to do next). */
void out_error(struct cli *cli, const struct mlc_err *err);

const char *out_bold(const struct cli *cli);
const char *out_dim(const struct cli *cli);
const char *out_green(const struct cli *cli);
const char *out_red(const struct cli *cli);
const char *out_reset(const struct cli *cli);

/* The command tables, each ends with name NULL; listed in commands.c. */
extern const struct cli_command CMD_AUTH[];
extern const struct cli_command CMD_TOKEN[];
extern const struct cli_command CMD_KEY[];
extern const struct cli_command CMD_PUSH[];
extern const struct cli_command CMD_PULL[];
extern const struct cli_command CMD_AUDIT[];
extern const struct cli_command CMD_MODEL[];
extern const struct cli_command CMD_ALIAS[];
extern const struct cli_command CMD_VERSION[];
extern const struct cli_command CMD_DATASET[];
extern const struct cli_command CMD_EVALUATE[];
extern const struct cli_command CMD_APPLY[];
extern const struct cli_command CMD_INIT[];
extern const struct cli_command CMD_PROMOTE[];
extern const struct cli_command CMD_APPROVE[];
extern const struct cli_command CMD_ROLLOUT[];
extern const struct cli_command CMD_ENV[];
extern const struct cli_command CMD_COMPLETION[];
