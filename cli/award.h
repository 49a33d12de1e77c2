/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "cli.h"

/* Roles and keys that owners of protected environments sign for: changes of kind Role and Key. */

/* What waits, with the command that owners type; nothing when `pending` is NULL or empty. */
void award_print_pending(struct cli *cli, const json_t *pending);
/*
 * The name that a document of a change has in a statement, out of its own members: "Policy/risk",
 * "Role/u7f3a/approver@fraud", "Key/u7f3a/SHA256:…". MLC_E_VERIFY when it has none.
 */
int award_document_name(struct cli *cli, const json_t *document, struct mlc_str *ret) MLC_CHECK;
bool award_is(const json_t *document); /* a role or key, no document */
/* Who gets what, with the fingerprints of the keys; `change` is the resource. */
void award_print(struct cli *cli, const json_t *change, const json_t *document);
