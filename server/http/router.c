/* SPDX-License-Identifier: Apache-2.0 */
#include "http/router.h"

#include <assert.h>

#include "base/str.h"
#include "codec/utf8.h"

static int hex_value(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        if (c >= 'A' && c <= 'F')
                return c - 'A' + 10;
        return -1;
}

/* A "+" is a blank in the query only. */
static int unescape(struct mlc_ctx *ctx, const char *raw, size_t len, bool plus, const char **ret)
{
        char *out = mlc_arena_strndup(&ctx->arena, raw, len, &ctx->err);
        size_t n = 0;

        if (out == NULL)
                return MLC_E_LIMIT;
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)raw[i];

                if (c == '%') {
                        int hi = i + 2 < len ? hex_value(raw[i + 1]) : -1;
                        int lo = i + 2 < len ? hex_value(raw[i + 2]) : -1;

                        if (hi < 0 || lo < 0)
                                return ctx_fail(ctx, MLC_E_INVALID,
                                                "the request target has a bad %% escape");
                        c = (unsigned char)(hi * 16 + lo);
                        i += 2;
                } else if (plus && c == '+') {
                        c = ' ';
                }
                if (c < 0x20 || c == 0x7f)
                        return ctx_fail(ctx, MLC_E_INVALID,
                                        "the request target has a control character");
                out[n++] = (char)c;
        }
        out[n] = '\0';
        if (!mlc_utf8_valid(out, n))
                return ctx_fail(ctx, MLC_E_INVALID, "the request target is not UTF-8");
        *ret = out;
        return 0;
}

static int parse_query(struct mlc_ctx *ctx, const char *raw, struct router_target *ret)
{
        while (*raw != '\0') {
                size_t len = strcspn(raw, "&"), name_len = strcspn(raw, "=&");
                struct router_query *q = &ret->query[ret->n_query];
                int r;

                if (len > 0) {
                        if (ret->n_query == ROUTER_QUERY_MAX)
                                return ctx_fail(ctx, MLC_E_INVALID,
                                                "the query has more than %d parameters",
                                                ROUTER_QUERY_MAX);
                        r = unescape(ctx, raw, name_len, true, &q->name);
                        if (r < 0)
                                return r;
                        r = unescape(ctx, raw + name_len + (name_len < len),
                                     len - name_len - (name_len < len), true, &q->value);
                        if (r < 0)
                                return r;
                        ret->n_query++;
                }
                raw += len + (raw[len] == '&');
        }
        return 0;
}

int router_parse(struct mlc_ctx *ctx, const char *raw, struct router_target *ret)
{
        const char *query = strchr(raw, '?'), *end = query != NULL ? query : raw + strlen(raw);
        int r;

        *ret = (struct router_target){0};
        if (raw[0] != '/')
                return ctx_fail(ctx, MLC_E_INVALID, "the request target is not a path");
        while (raw < end) {
                const char *start = ++raw;

                while (raw < end && *raw != '/')
                        raw++;
                if (ret->n_segments == ROUTER_SEGMENTS_MAX)
                        return ctx_fail(ctx, MLC_E_NOT_FOUND, "no such path");
                r = unescape(ctx, start, (size_t)(raw - start), false,
                             &ret->segments[ret->n_segments]);
                if (r < 0)
                        return r;
                ret->n_segments++;
        }
        return query != NULL ? parse_query(ctx, query + 1, ret) : 0;
}

static bool segment_fits(const struct api_segment *s, const char *value)
{
        if (s->literal != NULL)
                return strcmp(s->literal, value) == 0;
        return value[0] != '\0' && strcmp(value, ".") != 0 && strcmp(value, "..") != 0;
}

static bool path_fits(const struct api_operation *op, const struct router_target *t)
{
        bool rest = op->segments[op->n_segments - 1].rest;

        if (rest ? t->n_segments < op->n_segments : t->n_segments != op->n_segments)
                return false;
        for (unsigned i = 0; i < t->n_segments; i++) {
                unsigned s = i < op->n_segments ? i : op->n_segments - 1;

                if (!segment_fits(&op->segments[s], t->segments[i]))
                        return false;
        }
        return true;
}

/* The table has literals first, so the first path that fits is the resource; others of its shape
 * are its methods. */
static bool same_shape(const struct api_operation *a, const struct api_operation *b)
{
        if (a->n_segments != b->n_segments)
                return false;
        for (unsigned i = 0; i < a->n_segments; i++)
                if (!mlc_streq(a->segments[i].literal, b->segments[i].literal))
                        return false;
        return true;
}

static int fill_params(struct mlc_ctx *ctx, const struct router_target *t, struct router_match *m)
{
        for (unsigned i = 0; i < m->op->n_segments; i++) {
                const struct api_segment *s = &m->op->segments[i];
                const char *value = t->segments[i];

                if (s->literal != NULL)
                        continue;
                for (unsigned j = i + 1; s->rest && j < t->n_segments; j++) {
                        value = ctx_printf(ctx, "%s/%s", value, t->segments[j]);
                        if (value == NULL)
                                return MLC_E_LIMIT;
                }
                assert(s->param >= 0 && s->param < ROUTER_PARAMS_MAX);
                m->params[s->param] = value;
        }
        return 0;
}

static void add_allow(struct router_match *m, const char *method)
{
        size_t n = strlen(m->allow);

        (void)snprintf(m->allow + n, sizeof(m->allow) - n, "%s%s%s", n > 0 ? ", " : "", method,
                       strcmp(method, "GET") == 0 ? ", HEAD" : "");
}

int router_match(struct mlc_ctx *ctx, const struct router_table *table, const char *method,
                 const struct router_target *target, struct router_match *ret)
{
        const char *want = strcmp(method, "HEAD") == 0 ? "GET" : method;
        const struct api_operation *first = NULL;

        *ret = (struct router_match){0};
        for (unsigned i = 0; i < table->n; i++) {
                const struct api_operation *op = &table->ops[i];

                if (!path_fits(op, target))
                        continue;
                if (first == NULL)
                        first = op;
                if (!same_shape(first, op))
                        break;
                if (strcmp(op->method, want) == 0) {
                        ret->op = op;
                        return fill_params(ctx, target, ret);
                }
                add_allow(ret, op->method);
        }
        if (first == NULL)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "no such path");
        return ctx_fail(ctx, MLC_E_METHOD, "this path has no such method; it has %s", ret->allow);
}

bool router_oci_name_invalid(const struct router_target *t)
{
        if (t->n_segments < 2 || strcmp(t->segments[0], "v2") != 0)
                return false;
        for (unsigned i = t->n_segments - 1; i >= 1; i--) {
                const char *s = t->segments[i];

                /* a repository may itself be called "blobs", so the last such segment that is
                 * followed by something decides */
                if (i + 1 < t->n_segments &&
                    (strcmp(s, "blobs") == 0 || strcmp(s, "manifests") == 0 ||
                     strcmp(s, "referrers") == 0 ||
                     (strcmp(s, "tags") == 0 && strcmp(t->segments[i + 1], "list") == 0)))
                        return i != 3;
        }
        return false;
}
