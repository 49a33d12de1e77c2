/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/hex.h"

#include <string.h>

void mlc_hex_encode(const void *data, size_t len, char *ret)
{
        static const char digits[] = "0123456789abcdef";
        const unsigned char *p = data;

        for (size_t i = 0; i < len; i++) {
                ret[2 * i] = digits[p[i] >> 4];
                ret[2 * i + 1] = digits[p[i] & 15];
        }
        ret[2 * len] = '\0';
}

static int digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        if (c >= 'a' && c <= 'f')
                return c - 'a' + 10;
        return -1;
}

bool mlc_hex_decode(const char *s, void *ret, size_t len)
{
        unsigned char *out = ret;

        if (strlen(s) != 2 * len || strspn(s, "0123456789abcdef") != 2 * len)
                return false;
        for (size_t i = 0; i < len; i++)
                out[i] = (unsigned char)(digit(s[2 * i]) << 4 | digit(s[2 * i + 1]));
        return true;
}
