/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app.h"
#include "ctx.h"

/*
 * `mlctld backup TO`: a DIR of its own that can be checked, started and restored: log,
 * repositories, keys, blobs, and the database in a private cluster (also when this server uses
 * another). Beside a running server: state changes wait while log and repositories are copied,
 * reads go on. TO must be empty or missing. Prints one line of JSON.
 */
int backup_make(struct mlc_ctx *ctx, const char *to) MLC_CHECK;
/*
 * `mlctld restore FROM`: puts a backup into DIR, which is empty or was used before; then what it
 * held is kept below DIR/replaced-TIME. A log whose signing state is newer than the backup's stays,
 * so that the server knows what was lost. Only with a private cluster. No server may run on either.
 */
int backup_restore(const struct app_config *config, const char *from,
                   struct mlc_err *err) MLC_CHECK;
