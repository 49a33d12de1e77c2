/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/json.h"

/* RFC 9457: {type, title, status, detail, instance, errors: [{pointer | parameter | header,
 * detail}]}. */
json_t *problem_json(const struct mlc_err *err, const char *trace);
/* The errors document of the OCI distribution specification. */
json_t *problem_oci_json(const struct mlc_err *err, const char *path, const char *trace);
/* Its code: what err.field "oci:CODE" says, else by status and path. */
const char *problem_oci_code(const struct mlc_err *err, const char *path);
