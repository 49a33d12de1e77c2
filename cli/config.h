/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"

/*
 * ~/.config/mlctl/credentials.json (0600): {"default": URL, "servers": {URL: {"token": …, "user":
 * …}}} XDG_CONFIG_HOME and XDG_STATE_HOME are honoured.
 */
int config_load(json_t **ret,
                struct mlc_err *err) MLC_CHECK; /* an empty object when there is none */
int config_save_login(const char *url, const char *token, const char *user,
                      struct mlc_err *err) MLC_CHECK;
/* "…/mlctl" below the state home, created; malloc'ed. Pins and last checkpoints live there. */
int config_state_dir(char **ret, struct mlc_err *err) MLC_CHECK;
