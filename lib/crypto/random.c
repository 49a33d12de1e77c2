/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "codec/hex.h"

void mlc_random_bytes(void *ret, size_t len)
{
        unsigned char *p = ret;

        while (len > 0) {
                ssize_t n = getrandom(p, len, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        abort();
                p += n;
                len -= (size_t)n;
        }
}

void mlc_random_id(char kind, char ret[MLC_ID_MAX])
{
        unsigned char b[6];

        mlc_random_bytes(b, sizeof(b));
        ret[0] = kind;
        mlc_hex_encode(b, sizeof(b), ret + 1);
}

void mlc_uuid4(char ret[MLC_UUID_STR])
{
        static const unsigned char group[] = {4, 2, 2, 2, 6};
        unsigned char b[16];
        const unsigned char *p = b;

        mlc_random_bytes(b, sizeof(b));
        b[6] = (unsigned char)((b[6] & 0x0f) | 0x40); /* version 4 */
        b[8] = (unsigned char)((b[8] & 0x3f) | 0x80); /* variant 10 */
        for (unsigned i = 0; i < sizeof(group); i++) {
                if (i > 0)
                        *ret++ = '-';
                mlc_hex_encode(p, group[i], ret);
                ret += 2 * group[i];
                p += group[i];
        }
}
