/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/utf8.h"

static void escape(uint32_t c, struct mlc_str *ret)
{
        if (c == '\t')
                mlc_str_add(ret, "\\t");
        else if (c == '\n')
                mlc_str_add(ret, "\\n");
        else
                mlc_str_addf(ret, "\\u{%X}", (unsigned)c);
}

void mlc_utf8_escape_display(const char *s, size_t len, struct mlc_str *ret)
{
        uint32_t c;

        for (size_t i = 0, n; i < len; i += n) {
                n = mlc_utf8_next(s + i, len - i, &c);
                if (n == 0) {
                        mlc_str_addf(ret, "\\x%02X", (unsigned)(unsigned char)s[i]);
                        n = 1;
                } else if (mlc_utf8_unsafe(c)) {
                        escape(c, ret);
                } else if (c == '\\') {
                        mlc_str_add(ret, "\\\\");
                } else {
                        mlc_str_addn(ret, s + i, n);
                }
        }
}
