/* SPDX-License-Identifier: Apache-2.0 */
#include "base/utf8.h"

size_t mlc_utf8_next(const void *s, size_t len, uint32_t *ret)
{
        static const uint32_t min[] = {0, 0, 0x80, 0x800, 0x10000};
        const unsigned char *p = s;
        uint32_t c;
        size_t n;

        if (len == 0)
                return 0;
        if (p[0] < 0x80) {
                *ret = p[0];
                return 1;
        }
        n = p[0] < 0xc0 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf8 ? 4 : 0;
        if (n == 0 || n > len)
                return 0;
        c = p[0] & (0xffu >> (n + 1));
        for (size_t i = 1; i < n; i++) {
                if ((p[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | (p[i] & 0x3f);
        }
        if (c < min[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return n;
}

bool mlc_utf8_valid(const void *s, size_t len)
{
        const unsigned char *p = s;
        uint32_t c;

        for (size_t i = 0, n; i < len; i += n) {
                n = mlc_utf8_next(p + i, len - i, &c);
                if (n == 0)
                        return false;
        }
        return true;
}

bool mlc_utf8_unsafe(uint32_t c)
{
        static const struct {
                uint32_t first, last;
        } ranges[] = {
                {0x0000, 0x001f}, /* C0 */
                {0x007f, 0x009f}, /* DEL, C1 */
                {0x00ad, 0x00ad}, /* soft hyphen */
                {0x034f, 0x034f}, /* combining grapheme joiner */
                {0x061c, 0x061c}, /* arabic letter mark */
                {0x115f, 0x1160}, /* hangul fillers */
                {0x17b4, 0x17b5}, /* khmer inherent vowels */
                {0x180b, 0x180f}, /* mongolian selectors */
                {0x200b, 0x200f}, /* zero width, LRM, RLM */
                {0x2028, 0x202e}, /* separators, embeddings, overrides */
                {0x2060, 0x206f}, /* joiners, isolates, deprecated format characters */
                {0x3164, 0x3164}, /* hangul filler */
                {0xfe00, 0xfe0f}, /* variation selectors */
                {0xfeff, 0xfeff}, /* byte order mark */
                {0xffa0, 0xffa0}, /* half-width hangul filler */
                {0xfff0, 0xfffb}, /* specials */
                {0x1d173, 0x1d17a}, /* musical format characters */
                {0xe0000, 0xe0fff}, /* tags, variation selectors supplement */
        };

        for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++)
                if (c >= ranges[i].first && c <= ranges[i].last)
                        return true;
        return false;
}
