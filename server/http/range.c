/* SPDX-License-Identifier: Apache-2.0 */
#include "http/range.h"

#include <ctype.h>
#include <strings.h>

#include "base/cleanup.h"
#include "http/etag.h"
#include "http/request.h"

/* Digits at *p, which moves on; UINT64_MAX when there are more than fit. false: no digit. */
static bool take_number(const char **p, uint64_t *ret)
{
        uint64_t n = 0;
        const char *start = *p;

        for (; isdigit((unsigned char)**p); (*p)++) {
                uint64_t d = (uint64_t)(**p - '0');

                n = n > (UINT64_MAX - d) / 10 ? UINT64_MAX : n * 10 + d;
        }
        *ret = n;
        return *p != start;
}

int range_parse(const char *range, uint64_t size, uint64_t *ret_off, uint64_t *ret_len)
{
        uint64_t first, last = UINT64_MAX;
        bool has_first, has_last;

        if (range == NULL || strncasecmp(range, "bytes=", 6) != 0 || strchr(range, ',') != NULL)
                return 0;
        range += 6;
        has_first = take_number(&range, &first);
        if (*range++ != '-')
                return 0;
        has_last = take_number(&range, &last);
        if (*range != '\0' || (!has_first && !has_last))
                return 0;
        if (!has_first) { /* the last N bytes */
                if (last == 0 || size == 0)
                        return MLC_E_RANGE;
                first = last < size ? size - last : 0;
                last = size - 1;
        } else if (!has_last || last >= size) {
                if (has_last && last < first)
                        return MLC_E_RANGE;
                last = size == 0 ? 0 : size - 1;
        }
        if (first >= size || last < first)
                return MLC_E_RANGE;
        *ret_off = first;
        *ret_len = last - first + 1;
        return 1;
}

int http_reply_file_ranged(struct mlc_ctx *ctx, struct http_reply *r, const char *content_type,
                           int fd, uint64_t size)
{
        uint64_t off = 0, len = size;
        char value[96];
        bool asked = etag_range_holds(r, http_header(ctx, "If-Range"));
        int part = asked ? range_parse(http_header(ctx, "Range"), size, &off, &len) : 0;

        http_reply_header(r, "Accept-Ranges", "bytes");
        if (part < 0) {
                (void)close(fd);
                (void)snprintf(value, sizeof(value), "bytes */%llu", (unsigned long long)size);
                http_reply_header(r, "Content-Range", value);
                return ctx_fail_field(ctx, MLC_E_RANGE, "header:Range", "does not fit %llu bytes",
                                      (unsigned long long)size);
        }
        if (part > 0) {
                (void)snprintf(value, sizeof(value), "bytes %llu-%llu/%llu",
                               (unsigned long long)off, (unsigned long long)(off + len - 1),
                               (unsigned long long)size);
                http_reply_header(r, "Content-Range", value);
        }
        http_reply_file(r, part > 0 ? 206 : 200, content_type, &(struct http_file){fd, off, len});
        return 0;
}
