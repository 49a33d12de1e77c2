/* SPDX-License-Identifier: Apache-2.0 */
#include "http/etag.h"

#include "http/request.h"

#define ETAG_MAX 512

void http_reply_etag(struct http_reply *r, const char *value)
{
        char *quoted = mlc_arena_printf(&r->ctx->arena, NULL, "\"%s\"", value);

        if (quoted == NULL)
                r->failed = true;
        else
                http_reply_header(r, "ETag", quoted);
}

/* Takes one entity tag off the list; weak ones never match strongly (RFC 9110, 13.1.1). */
static bool next_tag(const char **list, const char **ret, size_t *ret_len, bool *ret_weak)
{
        const char *p = *list + strspn(*list, " \t,"), *end;

        *ret_weak = strncmp(p, "W/", 2) == 0;
        if (*ret_weak)
                p += 2;
        if (*p != '"')
                return false;
        end = strchr(p + 1, '"');
        if (end == NULL)
                return false;
        *ret = p + 1;
        *ret_len = (size_t)(end - p - 1);
        *list = end + 1;
        return true;
}

bool etag_list_has(const char *list, const char *value, bool weak_too)
{
        const char *tag;
        size_t len;
        bool weak;

        if (strcmp(list + strspn(list, " \t"), "*") == 0)
                return value != NULL;
        while (next_tag(&list, &tag, &len, &weak))
                if (value != NULL && (weak_too || !weak) && len == strlen(value) &&
                    memcmp(tag, value, len) == 0)
                        return true;
        return false;
}

bool etag_list_valid(const char *list)
{
        const char *tag;
        size_t len;
        bool weak;
        int n = 0;

        if (strcmp(list + strspn(list, " \t"), "*") == 0)
                return true;
        while (next_tag(&list, &tag, &len, &weak))
                n++;
        return n > 0 && list[strspn(list, " \t,")] == '\0';
}

int http_if_match(struct mlc_ctx *ctx, const char *value, bool required)
{
        const char *match = http_header(ctx, "If-Match"), *none = http_header(ctx, "If-None-Match");

        if (match != NULL && !etag_list_valid(match))
                return ctx_fail_field(ctx, MLC_E_INVALID, "header:If-Match",
                                      "must be a quoted entity tag, several, or *");
        if (none != NULL && !etag_list_valid(none))
                return ctx_fail_field(ctx, MLC_E_INVALID, "header:If-None-Match",
                                      "must be a quoted entity tag, several, or *");
        if (match == NULL && none == NULL)
                return required
                               ? ctx_fail_field(ctx, MLC_E_PRECONDITION_REQUIRED, "header:If-Match",
                                                "is needed; send the ETag that was read")
                               : 0;
        if (match != NULL && !etag_list_has(match, value, false))
                return ctx_fail_field(ctx, MLC_E_PRECONDITION, "header:If-Match",
                                      "it is now %s%s%s", value != NULL ? "\"" : "",
                                      value != NULL ? value : "absent", value != NULL ? "\"" : "");
        if (none != NULL && etag_list_has(none, value, true))
                return ctx_fail_field(ctx, MLC_E_PRECONDITION, "header:If-None-Match",
                                      "it exists already");
        return 0;
}

bool http_not_modified(const struct mlc_ctx *ctx, const char *value)
{
        const char *none = http_header(ctx, "If-None-Match");

        return none != NULL && etag_list_has(none, value, true);
}

/* Of this reply, with its quotes; NULL when there is none. */
static const char *tag_of(const struct http_reply *r)
{
        for (unsigned i = 0; i < r->n_headers; i++)
                if (strcmp(r->headers[i].name, "ETag") == 0)
                        return r->headers[i].value;
        return NULL;
}

bool etag_not_modified(const struct mlc_ctx *ctx, const struct http_reply *r)
{
        const char *tag = tag_of(r);
        char value[ETAG_MAX];

        if (tag == NULL || strlen(tag) < 2 || strlen(tag) >= sizeof(value))
                return false;
        (void)snprintf(value, sizeof(value), "%.*s", (int)strlen(tag) - 2, tag + 1);
        return http_not_modified(ctx, value);
}

/* A weak tag or a date never proves that the bytes are the same. */
bool etag_range_holds(const struct http_reply *r, const char *if_range)
{
        const char *tag = tag_of(r);

        return if_range == NULL || (tag != NULL && strcmp(if_range, tag) == 0);
}
