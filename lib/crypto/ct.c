/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/ct.h"

#include <openssl/crypto.h>

bool mlc_ct_equal(const void *a, const void *b, size_t len)
{
        return CRYPTO_memcmp(a, b, len) == 0;
}

void mlc_wipe(void *p, size_t len)
{
        OPENSSL_cleanse(p, len);
}
