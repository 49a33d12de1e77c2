/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The one door to jansson. Always decode with MLC_JSON_FLAGS: duplicate keys are refused. */
#include <jansson.h>

#include "mlctl/error.h"

#define MLC_JSON_FLAGS (JSON_REJECT_DUPLICATES)

/* _cleanup_(json_decref_p) json_t *j = NULL; */
static inline void json_decref_p(json_t **j)
{
        json_decref(*j);
}
