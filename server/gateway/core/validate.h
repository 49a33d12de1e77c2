/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "table.h"

#define GW_WHY_MAX 200

/*
 * Whether a request (JSON of the Open Inference Protocol) fits the declared inputs: each is there
 * once, with its datatype and shape, as many numbers as the shape says, all within the range; no
 * other input. `json_len` is what is JSON in body: all of it, or the part that
 * Inference-Header-Content-Length names; inputs whose data follows as binary are checked for name,
 * datatype and shape. On false `ret_why` says what is wrong, in one line of printable ASCII.
 */
bool gw_validate(const struct gw_input *inputs, size_t n_inputs, const char *body, size_t json_len,
                 char ret_why[GW_WHY_MAX]);
