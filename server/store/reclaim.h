/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <dirent.h>

#include "mlctl/error.h"

/* Walking directories, for the sweep and the check. */

int store_open_dir(int at, const char *name, DIR **ret, struct mlc_err *err) MLC_CHECK;
/* The next name that is not "." or ".."; NULL at the end. */
const char *store_next_name(DIR *d);

static inline void store_close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}
