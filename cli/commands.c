/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"
#include "help.h"

/* In the order in which the help shows them. */
const struct cli_command *const CLI_TABLES[] = {
        CMD_AUTH,  CMD_TOKEN,   CMD_KEY,        CMD_PUSH,     CMD_PULL,
        CMD_MODEL, CMD_ALIAS,   CMD_VERSION,    CMD_EVALUATE, CMD_APPLY,
        CMD_INIT,  CMD_PROMOTE, CMD_APPROVE,    CMD_ROLLOUT,  CMD_ENV,
        CMD_AUDIT, CMD_DATASET, CMD_COMPLETION, NULL,
};

const struct cli_option CLI_GLOBAL[] = {
        {"server", "URL", "the server; default MLCTL_SERVER, else the last login", false},
        {"output", "table|json|yaml", "form of the result; default table", false},
        {"quiet", NULL, "no notes and no progress on stderr", false},
        {"help", NULL, "this text", false},
        {"version", NULL, "print the version", false},
        {0},
};
