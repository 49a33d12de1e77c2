/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "cli.h"

#define DOCUMENTS_MAX ((size_t)1 << 20) /* bytes of YAML in one apply */

/*
 * The YAML that FILE, DIR (its *.yaml and *.yml, by name, not those of folders in it) or "-"
 * (stdin) holds, as one text of many documents. Each file was parsed by itself: errors name it,
 * line and column.
 */
int documents_read(struct cli *cli, const char *from, struct mlc_str *ret) MLC_CHECK;
