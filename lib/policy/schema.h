/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

/* The JSON Schemas below include/schema/, for editors and for others' code: what /schema/NAME
 * serves. They say the shape; the library itself checks more. */
struct mlc_schema {
        const char *name; /* policy.json */
        const char *text;
        size_t len;
};
/* All of them, *ret_n in number; static. */
const struct mlc_schema *mlc_schemas(size_t *ret_n);
