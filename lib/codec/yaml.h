/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "base/arena.h"
#include "codec/json.h"

/*
 * YAML 1.2 (core schema: null, true, false, numbers, else text) into JSON values whose places in
 * the text are known. Untrusted input: no tags, no %directives, aliases only to what is complete,
 * and every count has a limit. Keys are text; duplicate keys, NaN, infinities and integers beyond
 * 2^53 are refused.
 */
#define MLC_YAML_MAX ((size_t)1 << 20) /* bytes */
#define MLC_YAML_DEPTH_MAX 64
#define MLC_YAML_NODES_MAX                                                                         \
        100000 /* of all documents, each alias counted with all that it brings                     \
                */
#define MLC_YAML_ALIASES_MAX 100
#define MLC_YAML_DOCUMENTS_MAX 1000

struct mlc_yaml_doc {
        json_t *json; /* owned by the struct mlc_yaml; aliases share values: change nothing in it */
        const struct mlc_yaml_node *root; /* places, in the arena */
        size_t start, end; /* its bytes in the text, without the "---" line; the first from 0 on */
};

struct mlc_yaml {
        struct mlc_yaml_doc *docs; /* in the arena; empty documents (comments only) are left out */
        size_t n_docs;
};

struct mlc_yaml_pos {
        unsigned line, column; /* from 1; columns count characters */
};

/* MLC_E_INVALID with "line L, column C: …" in the message; MLC_E_LIMIT beyond the limits. */
int mlc_yaml_parse(const char *text, size_t len, struct mlc_arena *a, struct mlc_yaml *ret,
                   struct mlc_err *err) MLC_CHECK;
void mlc_yaml_done(struct mlc_yaml *y); /* for _cleanup_, idempotent; before the arena is done */

/* Where the value at a JSON pointer stands: a member at its key, an item at its own start. For a
 * pointer that leads nowhere, the place of the deepest thing on its way that exists. */
struct mlc_yaml_pos mlc_yaml_at(const struct mlc_yaml_doc *doc, const char *pointer);
