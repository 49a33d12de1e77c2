/* SPDX-License-Identifier: Apache-2.0 */
/* What tokens may, remembered under the hash of the token: a principal, its grants, and the text of
 * their namespaces in that order; pointers are set anew in each copy. */
#include <stdlib.h>
#include <string.h>

#include "auth/auth_internal.h"
#include "base/str.h"
#include "codec/hex.h"

#define VALUE_MAX (256u << 10)

static const struct cache_limits LIMITS = {
        .entries = 10000, .bytes = 16u << 20, .value = VALUE_MAX, .ttl_ms = 5000};

int auth_cache_open(struct auth *a, const char *dir, struct mlc_err *err)
{
        int r = epoch_open(dir, "auth-epoch", &a->epoch, err);

        if (r < 0)
                return r;
        a->cache = cache_new(a->epoch, &LIMITS);
        return 0;
}

void auth_cache_close(struct auth *a)
{
        cache_free(&a->cache);
        epoch_close(&a->epoch);
}

int auth_cache_get(struct mlc_ctx *ctx, const struct auth *a, const struct mlc_digest *hash,
                   const struct auth_principal **ret)
{
        struct auth_principal *p;
        struct auth_grant *grants;
        char key[65], *text;
        void *data;
        size_t len;
        int r;

        mlc_hex_encode(hash->b, sizeof(hash->b), key);
        r = cache_get(ctx, a->cache, key, &data, &len);
        if (r < 0)
                return r;
        p = data;
        if (p != NULL) {
                grants = (struct auth_grant *)(p + 1);
                text = (char *)(grants + p->n_grants);
                for (unsigned i = 0; i < p->n_grants; i++) {
                        grants[i].ns = text;
                        text += strlen(text) + 1;
                }
                p->grants = grants;
        }
        *ret = p;
        return 0;
}

void auth_cache_put(const struct auth *a, const struct mlc_digest *hash, uint64_t epoch,
                    const struct auth_principal *p)
{
        struct mlc_str value;
        char key[65];

        mlc_str_init(&value, VALUE_MAX);
        mlc_str_addn(&value, (const char *)p, sizeof(*p));
        mlc_str_addn(&value, (const char *)p->grants, p->n_grants * sizeof(p->grants[0]));
        for (unsigned i = 0; i < p->n_grants; i++)
                mlc_str_addn(&value, p->grants[i].ns, strlen(p->grants[i].ns) + 1);
        mlc_hex_encode(hash->b, sizeof(hash->b), key);
        if (!value.over)
                cache_put(a->cache, key, &(struct cache_value){value.data, value.len, epoch});
        mlc_str_done(&value);
}
