/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/schema.h"

/* What the constraints of a schema say of one value; `field` becomes err.field. */
struct api_at {
        const struct api_decoder *d;
        const char *field;
};

int api_check_string(const struct api_at *at, const struct api_schema *s,
                     const char *text) MLC_CHECK;
int api_check_int(const struct api_at *at, const struct api_schema *s, int64_t n) MLC_CHECK;
int api_check_number(const struct api_at *at, const struct api_schema *s, double n) MLC_CHECK;
/* `what`: "characters", "items" or "members". */
int api_check_len(const struct api_at *at, const struct api_schema *s, size_t n,
                  const char *what) MLC_CHECK;
