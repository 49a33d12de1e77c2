/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sshkey.h"

#include <assert.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/param_build.h>
#include <openssl/x509.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "crypto/hash.h"
#include "crypto/sshwire.h"

#define RSA_BITS_MIN 3072
#define RSA_BITS_MAX 16384
#define APPLICATION_MAX 255

static const char *const TYPES[] = {
        [MLC_SSHKEY_ED25519] = "ssh-ed25519",
        [MLC_SSHKEY_ECDSA_P256] = "ecdsa-sha2-nistp256",
        [MLC_SSHKEY_RSA] = "ssh-rsa",
        [MLC_SSHKEY_SK_ED25519] = "sk-ssh-ed25519@openssh.com",
        [MLC_SSHKEY_SK_ECDSA_P256] = "sk-ecdsa-sha2-nistp256@openssh.com",
};

const char *mlc_sshkey_type_name(enum mlc_sshkey_type type)
{
        assert((size_t)type < ARRAY_LEN(TYPES));
        return TYPES[type];
}

static bool type_from_name(const struct sshwire *name, enum mlc_sshkey_type *ret)
{
        for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
                if (sshwire_equals(name, TYPES[i])) {
                        *ret = (enum mlc_sshkey_type)i;
                        return true;
                }
        }
        return false;
}

static size_t bits(const struct sshwire *magnitude)
{
        return magnitude->n * 8 - (size_t)(__builtin_clz(magnitude->p[0]) - 24);
}

static int rsa_strength(const struct sshkey_parts *k, struct mlc_err *err)
{
        if (bits(&k->n) < RSA_BITS_MIN || bits(&k->n) > RSA_BITS_MAX)
                return mlc_fail(err, MLC_E_INVALID,
                                "RSA key has %zu bits: %d to %d are accepted; better use "
                                "ssh-keygen -t ed25519",
                                bits(&k->n), RSA_BITS_MIN, RSA_BITS_MAX);
        if ((k->n.p[k->n.n - 1] & 1) == 0 || (k->e.p[k->e.n - 1] & 1) == 0 || bits(&k->e) < 2 ||
            k->e.n > 8)
                return mlc_fail(err, MLC_E_INVALID, "RSA key has impossible numbers");
        return 0;
}

static bool read_parts(struct sshwire *in, struct sshkey_parts *k)
{
        struct sshwire curve;

        switch (k->type) {
        case MLC_SSHKEY_ED25519:
                return sshwire_string(in, &k->point) && k->point.n == 32;
        case MLC_SSHKEY_SK_ED25519:
                return sshwire_string(in, &k->point) && k->point.n == 32 &&
                       sshwire_string(in, &k->application);
        case MLC_SSHKEY_ECDSA_P256:
        case MLC_SSHKEY_SK_ECDSA_P256:
                if (!sshwire_string(in, &curve) || !sshwire_equals(&curve, "nistp256") ||
                    !sshwire_string(in, &k->point) || k->point.n != 65 || k->point.p[0] != 4)
                        return false;
                return k->type == MLC_SSHKEY_ECDSA_P256 || sshwire_string(in, &k->application);
        case MLC_SSHKEY_RSA:
                return sshwire_mpint(in, &k->e) && sshwire_mpint(in, &k->n);
        }
        return false;
}

int sshkey_parts(const void *blob, size_t len, struct sshkey_parts *ret, struct mlc_err *err)
{
        struct sshwire in = {.p = blob, .n = len}, type;
        struct sshkey_parts k = {0};
        int r;

        if (!sshwire_string(&in, &type))
                return mlc_fail(err, MLC_E_INVALID, "SSH public key is cut off");
        if (!type_from_name(&type, &k.type))
                return mlc_fail(err, MLC_E_INVALID,
                                "SSH key type '%.*s' is not accepted: ed25519, ecdsa-nistp256, rsa "
                                "and their sk- forms are",
                                (int)(type.n < 48 ? type.n : 48), (const char *)type.p);
        if (!read_parts(&in, &k) || in.n != 0 || k.application.n > APPLICATION_MAX)
                return mlc_fail(err, MLC_E_INVALID, "%s public key is malformed", TYPES[k.type]);
        if (k.type == MLC_SSHKEY_RSA) {
                r = rsa_strength(&k, err);
                if (r < 0)
                        return r;
        }
        *ret = k;
        return 0;
}

static void bn_free(BIGNUM **b)
{
        BN_free(*b);
}

static void bld_free(OSSL_PARAM_BLD **b)
{
        OSSL_PARAM_BLD_free(*b);
}

static void params_free(OSSL_PARAM **p)
{
        OSSL_PARAM_free(*p);
}

static void pctx_free(EVP_PKEY_CTX **c)
{
        EVP_PKEY_CTX_free(*c);
}

static EVP_PKEY *rsa_evp(const struct sshkey_parts *k)
{
        _cleanup_(bn_free) BIGNUM *n = BN_bin2bn(k->n.p, (int)k->n.n, NULL);
        _cleanup_(bn_free) BIGNUM *e = BN_bin2bn(k->e.p, (int)k->e.n, NULL);
        _cleanup_(bld_free) OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
        _cleanup_(params_free) OSSL_PARAM *params = NULL;
        _cleanup_(pctx_free) EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "RSA", NULL);
        EVP_PKEY *key = NULL;

        if (n == NULL || e == NULL || bld == NULL || ctx == NULL ||
            OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_N, n) != 1 ||
            OSSL_PARAM_BLD_push_BN(bld, OSSL_PKEY_PARAM_RSA_E, e) != 1)
                return NULL;
        params = OSSL_PARAM_BLD_to_param(bld);
        if (params == NULL || EVP_PKEY_fromdata_init(ctx) != 1 ||
            EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params) != 1)
                return NULL;
        return key;
}

static EVP_PKEY *p256_evp(const struct sshkey_parts *k)
{
        /* SubjectPublicKeyInfo up to the point: ecPublicKey, prime256v1, BIT STRING */
        static const unsigned char prefix[26] = {
                0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01,
                0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};
        unsigned char der[sizeof(prefix) + 65];
        const unsigned char *p = der;

        memcpy(der, prefix, sizeof(prefix));
        memcpy(der + sizeof(prefix), k->point.p, 65);
        return d2i_PUBKEY(NULL, &p, sizeof(der));
}

EVP_PKEY *sshkey_evp(const struct sshkey_parts *k)
{
        switch (k->type) {
        case MLC_SSHKEY_ED25519:
        case MLC_SSHKEY_SK_ED25519:
                return EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, k->point.p, 32);
        case MLC_SSHKEY_ECDSA_P256:
        case MLC_SSHKEY_SK_ECDSA_P256:
                return p256_evp(k);
        case MLC_SSHKEY_RSA:
                return rsa_evp(k);
        }
        return NULL;
}

int mlc_sshkey_from_blob(const void *blob, size_t len, struct mlc_sshkey *ret, struct mlc_err *err)
{
        struct sshkey_parts k;
        EVP_PKEY *key;
        int r;

        if (len > MLC_SSHKEY_BLOB_MAX)
                return mlc_fail(err, MLC_E_INVALID, "SSH public key is longer than %d bytes",
                                MLC_SSHKEY_BLOB_MAX);
        r = sshkey_parts(blob, len, &k, err);
        if (r < 0)
                return r;
        key = sshkey_evp(&k);
        if (key == NULL)
                return mlc_fail(err, MLC_E_INVALID, "%s public key is no valid key", TYPES[k.type]);
        EVP_PKEY_free(key);
        memset(ret, 0, sizeof(*ret));
        ret->type = k.type;
        ret->len = len;
        memcpy(ret->blob, blob, len);
        return 0;
}

static int refuse_line(const char *line, struct mlc_err *err)
{
        if (strstr(line, "PRIVATE KEY-----") != NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "this is a private key: give the file that ends in .pub");
        return mlc_fail(err, MLC_E_INVALID,
                        "'%.40s' is not 'TYPE BASE64 [COMMENT]' with an accepted key type (options "
                        "before the type are not taken)",
                        line);
}

int mlc_sshkey_parse(const char *line, struct mlc_sshkey *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str blob;
        enum mlc_sshkey_type type;
        struct mlc_sshkey k;
        size_t len = strlen(line), n_type, n_b64;
        const char *b64;
        int r;

        mlc_str_init(&blob, MLC_SSHKEY_BLOB_MAX);
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
                len--;
        if (len > MLC_SSHKEY_LINE_MAX)
                return mlc_fail(err, MLC_E_INVALID, "SSH public key line is longer than %d bytes",
                                MLC_SSHKEY_LINE_MAX);
        n_type = strcspn(line, " \t");
        if (memchr(line, '\n', len) != NULL ||
            !type_from_name(&(struct sshwire){(const unsigned char *)line, n_type}, &type))
                return refuse_line(line, err);
        b64 = line + n_type + strspn(line + n_type, " \t");
        n_b64 = strcspn(b64, " \t\r\n");
        r = mlc_base64_decode(MLC_BASE64_STD, b64, n_b64, &blob, err);
        if (r < 0)
                return mlc_wrap(err, "%s public key", TYPES[type]);
        r = mlc_sshkey_from_blob(blob.data != NULL ? blob.data : "", blob.len, &k, err);
        if (r < 0)
                return r;
        if (k.type != type)
                return mlc_fail(err, MLC_E_INVALID, "SSH public key says %s, but holds %s",
                                TYPES[type], TYPES[k.type]);
        *ret = k;
        return 0;
}

void mlc_sshkey_from_ed25519(const unsigned char pub[MLC_ED25519_KEY_LEN], struct mlc_sshkey *ret)
{
        static const unsigned char head[] = "\0\0\0\x0bssh-ed25519\0\0\0\x20";

        memset(ret, 0, sizeof(*ret));
        ret->type = MLC_SSHKEY_ED25519;
        ret->len = sizeof(head) - 1 + MLC_ED25519_KEY_LEN;
        memcpy(ret->blob, head, sizeof(head) - 1);
        memcpy(ret->blob + sizeof(head) - 1, pub, MLC_ED25519_KEY_LEN);
}

void mlc_sshkey_format(const struct mlc_sshkey *k, struct mlc_str *ret)
{
        mlc_str_addf(ret, "%s ", mlc_sshkey_type_name(k->type));
        mlc_base64_encode(MLC_BASE64_STD, k->blob, k->len, ret);
}

void mlc_sshkey_fingerprint(const struct mlc_sshkey *k, char ret[MLC_SSHKEY_FP])
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        struct mlc_digest d;

        mlc_str_init(&s, MLC_SSHKEY_FP);
        mlc_sha256(k->blob, k->len, &d);
        mlc_str_add(&s, "SHA256:");
        mlc_base64_encode(MLC_BASE64_STD, d.b, sizeof(d.b), &s);
        assert(s.len == MLC_SSHKEY_FP); /* one padding character, which OpenSSH leaves out */
        memcpy(ret, s.data, MLC_SSHKEY_FP - 1);
        ret[MLC_SSHKEY_FP - 1] = '\0';
}

bool mlc_sshkey_equal(const struct mlc_sshkey *a, const struct mlc_sshkey *b)
{
        return a->len == b->len && memcmp(a->blob, b->blob, a->len) == 0;
}
