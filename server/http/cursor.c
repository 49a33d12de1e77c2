/* SPDX-License-Identifier: Apache-2.0 */
#include "http/cursor.h"

#include "base/cleanup.h"
#include "codec/base64.h"
#include "crypto/ct.h"
#include "crypto/hash.h"
#include "http/conn.h"
#include "http/request.h"

#define MAC_LEN 16

/* HMAC (RFC 2104) over "scope NUL text". */
static void make_mac(const struct cursor_key *key, const char *scope, const char *text, size_t len,
                     unsigned char ret[MAC_LEN])
{
        unsigned char inner[64] = {0}, outer[64] = {0};
        struct mlc_sha256 h;
        struct mlc_digest d;

        for (size_t i = 0; i < sizeof(inner); i++) {
                unsigned char k = i < sizeof(key->b) ? key->b[i] : 0;

                inner[i] = k ^ 0x36;
                outer[i] = k ^ 0x5c;
        }
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, inner, sizeof(inner));
        mlc_sha256_update(&h, scope, strlen(scope) + 1);
        mlc_sha256_update(&h, text, len);
        mlc_sha256_final(&h, &d);
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, outer, sizeof(outer));
        mlc_sha256_update(&h, d.b, sizeof(d.b));
        mlc_sha256_final(&h, &d);
        memcpy(ret, d.b, MAC_LEN);
}

int cursor_encode(const struct cursor_key *key, const char *scope, const json_t *keys,
                  struct mlc_str *ret)
{
        _cleanup_(json_decref_p) json_t *doc = json_pack("{s:O}", "k", (json_t *)(uintptr_t)keys);
        _cleanup_(free_p) char *text = NULL;
        unsigned char mac[MAC_LEN];

        if (doc != NULL)
                text = json_dumps(doc, JSON_COMPACT);
        if (text == NULL)
                return MLC_E_INTERNAL;
        make_mac(key, scope, text, strlen(text), mac);
        mlc_base64_encode(MLC_BASE64_URL, text, strlen(text), ret);
        mlc_str_addc(ret, '.');
        mlc_base64_encode(MLC_BASE64_URL, mac, sizeof(mac), ret);
        return mlc_str_check(ret, NULL);
}

int cursor_decode(const struct cursor_key *key, const char *scope, const char *text,
                  json_t **ret_keys)
{
        _cleanup_(mlc_str_done) struct mlc_str plain;
        _cleanup_(json_decref_p) json_t *doc = NULL;
        const char *dot = strrchr(text, '.');
        unsigned char mac[MAC_LEN], want[MAC_LEN];
        json_t *keys;

        mlc_str_init(&plain, CURSOR_MAX);
        if (dot == NULL || strlen(text) > CURSOR_MAX ||
            !mlc_base64_decode_exact(MLC_BASE64_URL, dot + 1, strlen(dot + 1), mac, sizeof(mac)) ||
            mlc_base64_decode(MLC_BASE64_URL, text, (size_t)(dot - text), &plain, NULL) < 0)
                return MLC_E_INVALID;
        make_mac(key, scope, mlc_str_cstr(&plain), plain.len, want);
        if (!mlc_ct_equal(mac, want, sizeof(mac)))
                return MLC_E_INVALID;
        if (mlc_json_parse(mlc_str_cstr(&plain), plain.len, &doc, NULL) < 0)
                return MLC_E_INVALID;
        keys = json_object_get(doc, "k");
        if (!json_is_array(keys))
                return MLC_E_INVALID;
        *ret_keys = json_incref(keys);
        return 0;
}

char *http_cursor_make(struct mlc_ctx *ctx, const json_t *keys)
{
        _cleanup_(mlc_str_done) struct mlc_str text;

        mlc_str_init(&text, CURSOR_MAX);
        if (cursor_encode(http_cursor_key(ctx->app), ctx->operation, keys, &text) < 0) {
                (void)ctx_fail(ctx, MLC_E_LIMIT, "the cursor would be too long");
                return NULL;
        }
        return ctx_strdup(ctx, mlc_str_cstr(&text));
}

int http_cursor_read(struct mlc_ctx *ctx, const char *cursor, json_t **ret_keys)
{
        if (cursor_decode(http_cursor_key(ctx->app), ctx->operation, cursor, ret_keys) < 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, "query:cursor",
                                      "is not a cursor of this list; start again without one");
        return 0;
}

static int of_another_list(struct mlc_ctx *ctx)
{
        return ctx_fail_field(ctx, MLC_E_INVALID, "query:cursor", "the cursor is of another list");
}

int http_cursor_number(struct mlc_ctx *ctx, const char *cursor, int64_t *ret)
{
        _cleanup_(json_decref_p) json_t *keys = NULL;
        int r = cursor != NULL ? http_cursor_read(ctx, cursor, &keys) : 0;

        if (r < 0 || cursor == NULL)
                return r;
        if (json_array_size(keys) != 1 || !json_is_integer(json_array_get(keys, 0)))
                return of_another_list(ctx);
        *ret = json_integer_value(json_array_get(keys, 0));
        return 0;
}

int http_cursor_texts(struct mlc_ctx *ctx, const char *cursor, const char **ret, size_t n)
{
        _cleanup_(json_decref_p) json_t *keys = NULL;
        int r = cursor != NULL ? http_cursor_read(ctx, cursor, &keys) : 0;

        if (r < 0 || cursor == NULL)
                return r;
        if (json_array_size(keys) != n)
                return of_another_list(ctx);
        for (size_t i = 0; i < n; i++) {
                const char *s = json_string_value(json_array_get(keys, i));

                if (s == NULL)
                        return of_another_list(ctx);
                ret[i] = ctx_strdup(ctx, s);
                if (ret[i] == NULL)
                        return ctx->err.code;
        }
        return 0;
}
