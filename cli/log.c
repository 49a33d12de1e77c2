/* SPDX-License-Identifier: Apache-2.0 */
/* How every command meets the log of its server. */
#include "log.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/utf8.h"
#include "config.h"

static void introduce(struct cli *cli, const struct mlc_log *log)
{
        const char *name = log->pin.keys[0].name;
        _cleanup_(mlc_str_done) struct mlc_str safe;
        char fingerprint[MLC_SSHKEY_FP];

        mlc_str_init(&safe, sizeof(cli->later));
        mlc_utf8_escape_display(name, strlen(name), &safe);
        mlc_vkey_fingerprint(&log->pin.keys[0], fingerprint);
        (void)snprintf(cli->later, sizeof(cli->later),
                       "first contact with %s: pinned the key of its log\n  %s %s\n"
                       "  compare it with what whoever runs the server tells you\n",
                       mlc_client_url(cli->client), mlc_str_cstr(&safe), fingerprint);
        if (cli->output == CLI_TABLE) {
                if (!cli->quiet)
                        (void)fputs(cli->later, stderr);
                cli->later[0] = '\0';
        }
}

static int open_log(struct cli *cli, const char *state_dir, struct mlc_log *ret)
{
        int r = mlc_log_open(cli->client, state_dir, ret, &cli->err);

        if (r < 0)
                return r;
        if (ret->first)
                introduce(cli, ret);
        return 0;
}

int cli_log_open(struct cli *cli, struct mlc_log *ret)
{
        _cleanup_(free_p) char *state_dir = NULL;
        int r;

        if (cli->log != NULL) {
                *ret = *cli->log;
                free(TAKE_PTR(cli->log));
                return 0;
        }
        r = config_state_dir(&state_dir, &cli->err);
        return r < 0 ? r : open_log(cli, state_dir, ret);
}

int cli_log_greet(struct cli *cli)
{
        _cleanup_(free_p) char *state_dir = NULL;
        struct mlc_log log;
        struct mlc_err none = {0};
        int r;

        if (config_state_dir(&state_dir, &none) < 0)
                return 0;
        r = open_log(cli, state_dir, &log);
        if (r == MLC_E_NOT_FOUND || r == MLC_E_IO || r == MLC_E_NO_SPACE) {
                mlc_err_clear(&cli->err);
                return 0;
        }
        if (r < 0)
                return r;
        cli->log = malloc(sizeof(*cli->log));
        if (cli->log == NULL)
                abort();
        *cli->log = log;
        return 0;
}

void cli_log_free(struct cli *cli)
{
        if (cli->log != NULL)
                mlc_log_done(cli->log);
        free(TAKE_PTR(cli->log));
}
