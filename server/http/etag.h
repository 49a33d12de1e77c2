/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

struct http_reply;
struct mlc_ctx;

/* Lists of entity tags as in If-Match and If-None-Match (RFC 9110, 8.8.3 and 13.1). */
bool etag_list_valid(const char *list);
/* True when one of the list is `value`; "*" is any value but NULL. Weak tags count only if
 * weak_too. */
bool etag_list_has(const char *list, const char *value, bool weak_too);
/* True when the reply's ETag is one that If-None-Match names. */
bool etag_not_modified(const struct mlc_ctx *ctx, const struct http_reply *r);
/* Whether a Range may be honoured: If-Range (NULL: absent) is the reply's ETag. */
bool etag_range_holds(const struct http_reply *r, const char *if_range);
