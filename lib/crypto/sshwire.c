/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sshwire.h"

#include <assert.h>
#include <string.h>

bool sshwire_u8(struct sshwire *in, unsigned char *ret)
{
        if (in->n < 1)
                return false;
        *ret = in->p[0];
        in->p++;
        in->n--;
        return true;
}

bool sshwire_u32(struct sshwire *in, uint32_t *ret)
{
        const unsigned char *p = in->p;

        if (in->n < 4)
                return false;
        *ret = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
        in->p += 4;
        in->n -= 4;
        return true;
}

bool sshwire_string(struct sshwire *in, struct sshwire *ret)
{
        struct sshwire rest = *in;
        uint32_t len;

        if (!sshwire_u32(&rest, &len) || len > rest.n)
                return false;
        *ret = (struct sshwire){.p = rest.p, .n = len};
        *in = (struct sshwire){.p = rest.p + len, .n = rest.n - len};
        return true;
}

bool sshwire_mpint(struct sshwire *in, struct sshwire *ret)
{
        struct sshwire s;

        if (!sshwire_string(in, &s) || s.n == 0 || s.p[0] >= 0x80)
                return false;
        if (s.p[0] == 0) {
                s.p++;
                s.n--;
                if (s.n == 0 || s.p[0] < 0x80)
                        return false;
        }
        *ret = s;
        return true;
}

bool sshwire_equals(const struct sshwire *s, const char *text)
{
        return s->n == strlen(text) && memcmp(s->p, text, s->n) == 0;
}

void sshwire_put_u32(struct mlc_str *out, uint32_t v)
{
        unsigned char b[4] = {(unsigned char)(v >> 24), (unsigned char)(v >> 16 & 0xff),
                              (unsigned char)(v >> 8 & 0xff), (unsigned char)(v & 0xff)};

        mlc_str_addn(out, b, sizeof(b));
}

void sshwire_put_string(struct mlc_str *out, const void *data, size_t len)
{
        assert(len <= UINT32_MAX);
        sshwire_put_u32(out, (uint32_t)len);
        mlc_str_addn(out, data, len);
}
