/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The low-level calls are deprecated, and used here on purpose: they are the only ones whose state
 * can be written down (resumable uploads), and the fastest ones for short inputs (tree nodes).
 */
#define OPENSSL_SUPPRESS_DEPRECATED
#include "crypto/hash.h"

#include <assert.h>
#include <openssl/sha.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/jcs.h"

#define JCS_MAX (16u << 20)

static const unsigned char STATE_TAG[4] = {'S', '2', '5', 1};

static_assert(sizeof(SHA256_CTX) <= sizeof(struct mlc_sha256), "the state must fit");
static_assert(MLC_SHA256_STATE_LEN == 4 + 8 * 4 + 8 + SHA256_CBLOCK, "layout of the export");

static SHA256_CTX *ctx(struct mlc_sha256 *h)
{
        return (SHA256_CTX *)h->opaque;
}

void mlc_sha256_init(struct mlc_sha256 *h)
{
        int ok = SHA256_Init(ctx(h));

        assert(ok == 1);
}

void mlc_sha256_update(struct mlc_sha256 *h, const void *data, size_t len)
{
        int ok = SHA256_Update(ctx(h), data, len);

        assert(ok == 1);
}

void mlc_sha256_final(struct mlc_sha256 *h, struct mlc_digest *ret)
{
        int ok = SHA256_Final(ret->b, ctx(h));

        assert(ok == 1);
}

void mlc_sha256(const void *data, size_t len, struct mlc_digest *ret)
{
        struct mlc_sha256 h;

        mlc_sha256_init(&h);
        mlc_sha256_update(&h, data, len);
        mlc_sha256_final(&h, ret);
}

void mlc_git_hash(const char *type, const void *data, size_t len,
                  unsigned char ret[MLC_GIT_OID_LEN])
{
        char head[64];
        int n = snprintf(head, sizeof(head), "%s %zu", type, len);
        SHA_CTX h;
        int ok;

        assert(n > 0 && (size_t)n < sizeof(head));
        ok = SHA1_Init(&h) == 1 && SHA1_Update(&h, head, (size_t)n + 1) == 1 &&
             SHA1_Update(&h, data, len) == 1 && SHA1_Final(ret, &h) == 1;
        assert(ok);
}

static void put_be(unsigned char *p, uint64_t v, unsigned n)
{
        for (unsigned i = 0; i < n; i++)
                p[i] = (unsigned char)(v >> (8 * (n - 1 - i)) & 0xff);
}

static uint64_t get_be(const unsigned char *p, unsigned n)
{
        uint64_t v = 0;

        for (unsigned i = 0; i < n; i++)
                v = v << 8 | p[i];
        return v;
}

/* A copy, since the two types must not alias. */
static SHA256_CTX load(const struct mlc_sha256 *h)
{
        SHA256_CTX c;

        memcpy(&c, h->opaque, sizeof(c));
        return c;
}

unsigned long long mlc_sha256_count(const struct mlc_sha256 *h)
{
        SHA256_CTX c = load(h);

        /* OpenSSL counts bits in two words */
        return (((unsigned long long)c.Nh << 32) | c.Nl) >> 3;
}

void mlc_sha256_export(const struct mlc_sha256 *h, unsigned char ret[MLC_SHA256_STATE_LEN])
{
        SHA256_CTX c = load(h);

        memset(ret, 0, MLC_SHA256_STATE_LEN);
        memcpy(ret, STATE_TAG, sizeof(STATE_TAG));
        for (unsigned i = 0; i < 8; i++)
                put_be(ret + 4 + 4 * (size_t)i, c.h[i], 4);
        put_be(ret + 36, mlc_sha256_count(h), 8);
        memcpy(ret + 44, c.data, c.num);
}

int mlc_sha256_import(const void *state, size_t len, struct mlc_sha256 *ret, struct mlc_err *err)
{
        const unsigned char *p = state;
        SHA256_CTX c;
        uint64_t count;
        int ok;

        if (len != MLC_SHA256_STATE_LEN || memcmp(p, STATE_TAG, sizeof(STATE_TAG)) != 0)
                return mlc_fail(err, MLC_E_INVALID, "saved hash state has another layout");
        count = get_be(p + 36, 8);
        if (count >> 61 != 0)
                return mlc_fail(err, MLC_E_INVALID, "saved hash state counts too many bytes");
        memset(&c, 0, sizeof(c));
        ok = SHA256_Init(&c);
        assert(ok == 1);
        for (unsigned i = 0; i < 8; i++)
                c.h[i] = (SHA_LONG)get_be(p + 4 + 4 * (size_t)i, 4);
        c.Nh = (SHA_LONG)(count >> 29);
        c.Nl = (SHA_LONG)(count << 3 & 0xffffffffu);
        c.num = (unsigned)(count % SHA256_CBLOCK);
        memcpy(c.data, p + 44, c.num);
        memset(ret, 0, sizeof(*ret));
        memcpy(ret, &c, sizeof(c));
        return 0;
}

int mlc_sha256_json(const json_t *j, struct mlc_digest *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        int r;

        mlc_str_init(&s, JCS_MAX);
        r = mlc_jcs(j, &s, err);
        if (r < 0)
                return r;
        mlc_sha256(s.data, s.len, ret);
        return 0;
}
