/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/digest.h"
#include "ctx.h"

/* What the files of this folder share. */

/* An error whose OCI code is `oci`, e.g. "BLOB_UNKNOWN". */
#define oci_fail(ctx, code, oci, ...) ctx_fail_field((ctx), (code), "oci:" oci, __VA_ARGS__)
/* Gives an error that is set its OCI code; returns the error's code. */
int oci_name_error(struct mlc_ctx *ctx, const char *oci);

enum oci_digest { OCI_DIGEST_SHA256, OCI_DIGEST_OTHER, OCI_DIGEST_MALFORMED };
/* OTHER: well-formed, of an algorithm that is not served. */
enum oci_digest oci_digest_kind(const char *s);
/* MLC_E_INVALID DIGEST_INVALID unless it is a sha256; for what is to be stored. */
int oci_digest_need(struct mlc_ctx *ctx, const char *s) MLC_CHECK;
/* [a-zA-Z0-9_][a-zA-Z0-9._-]{0,127} */
bool oci_tag_valid(const char *s);

/* Content-Range of a chunk, "FIRST-LAST" without unit (distribution-spec, "Pushing a blob in
 * chunks"). */
bool oci_chunk_range(const char *s, uint64_t *ret_first, uint64_t *ret_last);

/* "text/plain" of "Text/Plain; charset=utf-8", lower case, in ctx's arena; NULL for NULL or when
 * the arena is full. */
const char *oci_media_type(struct mlc_ctx *ctx, const char *content_type);

/* "namespace/model" in ctx's arena. */
const char *oci_repo(struct mlc_ctx *ctx, const char *ns, const char *model);
