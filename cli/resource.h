/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "cli.h"
#include "codec/ref.h"

#define RESOURCE_PATH_MAX 8192 /* capacity for mlc_str_init of a path with its query */

/* "/api/v1/models/NS/MODEL" appended for "NS/MODEL"; MLC_E_INVALID says what is expected. */
int resource_model(struct cli *cli, const char *model, struct mlc_str *ret) MLC_CHECK;
/* The path of the version that a REF names: "…/versions/3", "…/versions/latest", … */
int resource_version(struct cli *cli, const char *ref, struct mlc_str *ret) MLC_CHECK;
/* How bodies name the version of a REF: "3", "latest", "champion", "sha256:…". */
void resource_version_name(const struct mlc_ref *ref, char ret[MLC_ALIAS_MAX + 1]);
/* The path of an alias, from "NS/MODEL:ALIAS". */
int resource_alias(struct cli *cli, const char *ref, struct mlc_str *ret) MLC_CHECK;
/* "?name=value" or "&name=value"; nothing when value is NULL. */
void resource_query(struct mlc_str *path, const char *name, const char *value);
