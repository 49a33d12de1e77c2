/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "mlctl/error.h"

/*
 * Signs with `ssh-keygen -Y sign`, so that agents and hardware keys work: `key` is a private key
 * file, or a .pub file whose private half lies beside it or in the agent. *ret_armour is malloc'ed.
 * MLC_E_USAGE with what ssh-keygen said when it cannot.
 */
int ssh_sign(const char *key, const char *ns, const char *message, char **ret_armour,
             struct mlc_err *err) MLC_CHECK;
