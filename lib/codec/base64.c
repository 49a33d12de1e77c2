/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/base64.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

static const char ALPHABET[2][65] = {
        [MLC_BASE64_STD] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/",
        [MLC_BASE64_URL] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
};

void mlc_base64_encode(enum mlc_base64 kind, const void *data, size_t len, struct mlc_str *ret)
{
        const unsigned char *p = data;
        const char *a = ALPHABET[kind];

        for (size_t i = 0; i < len; i += 3) {
                size_t n = len - i < 3 ? len - i : 3;
                uint32_t v = (uint32_t)p[i] << 16;
                char out[4];

                if (n > 1)
                        v |= (uint32_t)p[i + 1] << 8;
                if (n > 2)
                        v |= p[i + 2];
                for (unsigned k = 0; k < 4; k++)
                        out[k] = k <= n ? a[v >> (18 - 6 * k) & 63] : '=';
                mlc_str_addn(ret, out, kind == MLC_BASE64_URL ? n + 1 : 4);
        }
}

static int value(enum mlc_base64 kind, char c)
{
        if (c >= 'A' && c <= 'Z')
                return c - 'A';
        if (c >= 'a' && c <= 'z')
                return c - 'a' + 26;
        if (c >= '0' && c <= '9')
                return c - '0' + 52;
        if (c == ALPHABET[kind][62])
                return 62;
        if (c == ALPHABET[kind][63])
                return 63;
        return -1;
}

/* Number of bytes that the text stands for, or SIZE_MAX when its length or characters are wrong. */
static size_t decoded_len(enum mlc_base64 kind, const char *s, size_t len)
{
        size_t n = len, rest;

        if (kind == MLC_BASE64_STD) {
                if (len % 4 != 0)
                        return SIZE_MAX;
                for (int pad = 0; pad < 2 && n > 0 && s[n - 1] == '='; pad++)
                        n--;
        }
        rest = n % 4;
        if (rest == 1)
                return SIZE_MAX;
        for (size_t i = 0; i < n; i++)
                if (value(kind, s[i]) < 0)
                        return SIZE_MAX;
        /* bits that encode nothing must be zero, or two texts would stand for the same bytes */
        if (rest != 0 && (value(kind, s[n - 1]) & (rest == 2 ? 15 : 3)) != 0)
                return SIZE_MAX;
        return n / 4 * 3 + (rest == 0 ? 0 : rest - 1);
}

static void decode(enum mlc_base64 kind, const char *s, size_t n_out, unsigned char *out)
{
        uint32_t v = 0;
        unsigned bits = 0;

        for (size_t i = 0; i < n_out; s++) {
                v = v << 6 | (uint32_t)value(kind, *s);
                bits += 6;
                if (bits >= 8) {
                        bits -= 8;
                        out[i++] = (unsigned char)(v >> bits & 0xff);
                }
        }
}

int mlc_base64_decode(enum mlc_base64 kind, const char *s, size_t len, struct mlc_str *ret,
                      struct mlc_err *err)
{
        size_t n = decoded_len(kind, s, len);
        unsigned char chunk[48];

        if (n == SIZE_MAX)
                return mlc_fail(err, MLC_E_INVALID, "text is not valid base64");
        if (ret->over || n > ret->cap - ret->len)
                return mlc_fail(err, MLC_E_LIMIT, "base64 text holds more than %zu bytes",
                                ret->cap);
        for (size_t i = 0; i < n; i += sizeof(chunk)) {
                size_t k = n - i < sizeof(chunk) ? n - i : sizeof(chunk);

                decode(kind, s + i / 3 * 4, k, chunk);
                mlc_str_addn(ret, chunk, k);
        }
        assert(!ret->over);
        return 0;
}

bool mlc_base64_decode_exact(enum mlc_base64 kind, const char *s, size_t len, void *ret,
                             size_t ret_len)
{
        if (decoded_len(kind, s, len) != ret_len)
                return false;
        decode(kind, s, ret_len, ret);
        return true;
}
