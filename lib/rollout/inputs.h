/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "codec/json.h"
#include "mlctl/error.h"

/*
 * The inputs that a version declares in its model.yaml, as a gateway's table takes them
 * (server/gateway/README.md): [{"name","datatype" (of the Open Inference Protocol),"shape":[whole
 * numbers; -1: any],"range":[lo,hi]|null}…]. In model.yaml a dimension may also be null for any;
 * other members of an input are left alone. At most MLC_INPUTS_MAX inputs.
 */
#define MLC_INPUTS_MAX 64

/* *ret is the caller's; NULL when model_yaml (may be NULL) has no inputs. MLC_E_INVALID or
 * MLC_E_LIMIT with err->field, a pointer into model.yaml, when nobody could check requests by
 * them. */
int mlc_inputs_read(const json_t *model_yaml, json_t **ret, struct mlc_err *err) MLC_CHECK;
