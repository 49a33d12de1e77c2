/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/digest.h"

#include <stdio.h>
#include <string.h>

#include "base/str.h"
#include "codec/hex.h"

int mlc_digest_parse(const char *s, struct mlc_digest *ret, struct mlc_err *err)
{
        struct mlc_digest d;

        if (!mlc_starts_with(s, "sha256:") || !mlc_hex_decode(s + 7, d.b, sizeof(d.b)))
                return mlc_fail(err, MLC_E_INVALID,
                                "digest '%.80s' is not 'sha256:' and 64 lower-case hex digits", s);
        *ret = d;
        return 0;
}

void mlc_digest_format(const struct mlc_digest *d, char ret[MLC_DIGEST_STR])
{
        memcpy(ret, "sha256:", 7);
        mlc_hex_encode(d->b, sizeof(d->b), ret + 7);
}

bool mlc_digest_equal(const struct mlc_digest *a, const struct mlc_digest *b)
{
        return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}
