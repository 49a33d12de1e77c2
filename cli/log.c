/* SPDX-License-Identifier: Apache-2.0 */
/* What the commands that verify share. */
#include "log.h"

#include "base/cleanup.h"
#include "config.h"

int cli_log_open(struct cli *cli, struct mlc_log *ret)
{
        _cleanup_(free_p) char *state_dir = NULL;
        char fingerprint[MLC_SSHKEY_FP];
        int r = config_state_dir(&state_dir, &cli->err);

        if (r < 0)
                return r;
        r = mlc_log_open(cli->client, state_dir, ret, &cli->err);
        if (r < 0)
                return r;
        if (!ret->first)
                return 0;
        mlc_vkey_fingerprint(&ret->pin.keys[0], fingerprint);
        if (!cli->quiet)
                (void)fprintf(stderr,
                              "first contact with %s: pinned the key of its log\n  %s %s\n"
                              "  compare it with what whoever runs the server tells you\n",
                              mlc_client_url(cli->client), ret->pin.keys[0].name, fingerprint);
        return 0;
}
