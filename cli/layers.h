/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"

/* The documents behind a bundle: its environment, the policies and the model's. */

/* Fetches what bundle.documents names, in that order, each with the digest that it has there;
 * MLC_E_VERIFY when the server has none with it. *ret is an array, the caller's. */
int layers_fetch(struct cli *cli, const json_t *bundle, json_t **ret) MLC_CHECK;
/*
 * `documents` are those that bundle.documents names, in that order; out of them follow the bundle's
 * environment, policy, policy_digest and environment_digest. MLC_E_VERIFY names what does not.
 */
int layers_check(struct cli *cli, const json_t *bundle, const json_t *documents) MLC_CHECK;
