/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "doors/oci/oci_internal.h"

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

int oci_name_error(struct mlc_ctx *ctx, const char *oci)
{
        (void)snprintf(ctx->err.field, sizeof(ctx->err.field), "oci:%s", oci);
        return ctx->err.code;
}

/* algorithm [+._-]component… ":" [a-zA-Z0-9=_-]+ (image-spec, "Digests"); the registered ones have
 * fixed lengths. */
enum oci_digest oci_digest_kind(const char *s)
{
        const char *colon = strchr(s, ':');
        struct mlc_err ignored = {0};
        struct mlc_digest d;
        size_t n, m;

        if (mlc_digest_parse(s, &d, &ignored) == 0)
                return OCI_DIGEST_SHA256;
        if (colon == NULL || mlc_starts_with(s, "sha256:"))
                return OCI_DIGEST_MALFORMED;
        n = strspn(s, LOWER DIGITS "+._-");
        m = strspn(colon + 1, LOWER UPPER DIGITS "=_-");
        if (n == 0 || s + n != colon || m == 0 || colon[1 + m] != '\0')
                return OCI_DIGEST_MALFORMED;
        if (mlc_starts_with(s, "sha512:") && (m != 128 || strspn(colon + 1, DIGITS "abcdef") != m))
                return OCI_DIGEST_MALFORMED;
        return OCI_DIGEST_OTHER;
}

int oci_digest_need(struct mlc_ctx *ctx, const char *s)
{
        switch (s == NULL ? OCI_DIGEST_MALFORMED : oci_digest_kind(s)) {
        case OCI_DIGEST_SHA256:
                return 0;
        case OCI_DIGEST_OTHER:
                return oci_fail(ctx, MLC_E_INVALID, "DIGEST_INVALID",
                                "this server stores content under sha256 digests only");
        default:
                return oci_fail(ctx, MLC_E_INVALID, "DIGEST_INVALID",
                                "the digest must be 'sha256:' and 64 lower-case hex digits");
        }
}

bool oci_tag_valid(const char *s)
{
        size_t n = strlen(s);

        return n >= 1 && n <= 128 && s[0] != '.' && s[0] != '-' &&
               strspn(s, LOWER UPPER DIGITS "_.-") == n;
}

/* Copies the digits before `stop`; false when there are none or too many. */
static bool number(const char *s, const char *stop, unsigned long long *ret)
{
        char buf[24];
        size_t n = (size_t)(stop - s);

        if (n == 0 || n >= sizeof(buf) || strspn(s, DIGITS) < n)
                return false;
        /* leading zeros are allowed here */
        while (n > 1 && *s == '0') {
                s++;
                n--;
        }
        memcpy(buf, s, n);
        buf[n] = '\0';
        return mlc_parse_u64(buf, ret);
}

bool oci_chunk_range(const char *s, uint64_t *ret_first, uint64_t *ret_last)
{
        const char *dash = strchr(s, '-');
        unsigned long long first, last;

        if (dash == NULL || !number(s, dash, &first) || !number(dash + 1, s + strlen(s), &last) ||
            last < first || last > INT64_MAX)
                return false;
        *ret_first = first;
        *ret_last = last;
        return true;
}

const char *oci_media_type(struct mlc_ctx *ctx, const char *content_type)
{
        size_t n;
        char *s;

        if (content_type == NULL)
                return NULL;
        n = strcspn(content_type, "; \t");
        s = mlc_arena_strndup(&ctx->arena, content_type, n, &ctx->err);
        for (size_t i = 0; s != NULL && i < n; i++)
                if (s[i] >= 'A' && s[i] <= 'Z')
                        s[i] = (char)(s[i] - 'A' + 'a');
        return s;
}

const char *oci_repo(struct mlc_ctx *ctx, const char *ns, const char *model)
{
        return ctx_printf(ctx, "%s/%s", ns, model);
}
