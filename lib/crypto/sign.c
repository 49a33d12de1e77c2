/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sign.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "crypto/ct.h"
#include "crypto/random.h"

#define KEY_FILE_MAX 16384

static void pkey_free(EVP_PKEY **p)
{
        EVP_PKEY_free(*p);
}

static void ctx_free(EVP_MD_CTX **c)
{
        EVP_MD_CTX_free(*c);
}

static void bio_free(BIO **b)
{
        (void)BIO_free(*b);
}

static int signer_from_pkey(const EVP_PKEY *key, struct mlc_signer *ret, struct mlc_err *err)
{
        _cleanup_(mlc_signer_done) struct mlc_signer s = {0};
        size_t n_seed = sizeof(s.seed), n_pub = sizeof(s.pub);

        if (EVP_PKEY_get_base_id(key) != EVP_PKEY_ED25519 ||
            EVP_PKEY_get_raw_private_key(key, s.seed, &n_seed) != 1 ||
            EVP_PKEY_get_raw_public_key(key, s.pub, &n_pub) != 1)
                return mlc_fail(err, MLC_E_INVALID, "key is not an Ed25519 private key");
        *ret = s;
        return 0;
}

int mlc_signer_from_seed(const unsigned char seed[MLC_ED25519_KEY_LEN], struct mlc_signer *ret,
                         struct mlc_err *err)
{
        _cleanup_(pkey_free) EVP_PKEY *key =
                EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, MLC_ED25519_KEY_LEN);

        if (key == NULL)
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot use an Ed25519 seed");
        return signer_from_pkey(key, ret, err);
}

int mlc_signer_generate(struct mlc_signer *ret, struct mlc_err *err)
{
        unsigned char seed[MLC_ED25519_KEY_LEN];
        int r;

        mlc_random_bytes(seed, sizeof(seed));
        r = mlc_signer_from_seed(seed, ret, err);
        mlc_wipe(seed, sizeof(seed));
        return r;
}

void mlc_signer_done(struct mlc_signer *s)
{
        if (s != NULL)
                mlc_wipe(s, sizeof(*s));
}

/* An encrypted file is refused instead of asking on the terminal. */
static int no_passphrase(char *buf, int size, int rwflag, void *userdata)
{
        (void)buf, (void)size, (void)rwflag, (void)userdata;
        return -1;
}

static int parse_key_file(const char *data, size_t len, struct mlc_signer *ret, struct mlc_err *err)
{
        _cleanup_(pkey_free) EVP_PKEY *key = NULL;
        _cleanup_(bio_free) BIO *bio = NULL;

        if (len == MLC_ED25519_KEY_LEN)
                return mlc_signer_from_seed((const unsigned char *)data, ret, err);
        bio = BIO_new_mem_buf(data, (int)len);
        if (bio == NULL)
                abort();
        key = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL);
        if (key == NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "neither an unencrypted PKCS#8 PEM key nor a seed of 32 bytes");
        return signer_from_pkey(key, ret, err);
}

int mlc_signer_load(const char *path, struct mlc_signer *ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *data = NULL;
        size_t len;
        int r = mlc_read_file(path, KEY_FILE_MAX, &data, &len, err);

        if (r < 0)
                return r;
        r = parse_key_file(data, len, ret, err);
        mlc_wipe(data, len);
        return r < 0 ? mlc_wrap(err, "key file '%s'", path) : 0;
}

int mlc_signer_save(const struct mlc_signer *s, const char *path, struct mlc_err *err)
{
        _cleanup_(pkey_free) EVP_PKEY *key =
                EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, s->seed, sizeof(s->seed));
        _cleanup_(bio_free) BIO *bio = BIO_new(BIO_s_secmem());
        char *data = NULL;
        long len;

        if (key == NULL || bio == NULL ||
            PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot write an Ed25519 key");
        len = BIO_get_mem_data(bio, &data);
        if (len <= 0)
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot write an Ed25519 key");
        return mlc_write_file_atomic(path, data, (size_t)len, 0600, err);
}

int mlc_sign(const struct mlc_signer *s, const void *msg, size_t len,
             unsigned char ret[MLC_ED25519_SIG_LEN], struct mlc_err *err)
{
        _cleanup_(pkey_free) EVP_PKEY *key =
                EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, s->seed, sizeof(s->seed));
        _cleanup_(ctx_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        unsigned char sig[MLC_ED25519_SIG_LEN];
        size_t n = sizeof(sig);

        if (key == NULL || ctx == NULL || EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
            EVP_DigestSign(ctx, sig, &n, msg, len) != 1 || n != sizeof(sig))
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot sign with Ed25519");
        memcpy(ret, sig, sizeof(sig));
        return 0;
}

int mlc_verify(const unsigned char pub[MLC_ED25519_KEY_LEN], const void *msg, size_t len,
               const unsigned char sig[MLC_ED25519_SIG_LEN], struct mlc_err *err)
{
        _cleanup_(pkey_free) EVP_PKEY *key =
                EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, pub, MLC_ED25519_KEY_LEN);
        _cleanup_(ctx_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();

        if (key == NULL || ctx == NULL || EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) != 1)
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot verify with Ed25519");
        if (EVP_DigestVerify(ctx, sig, MLC_ED25519_SIG_LEN, msg, len) != 1)
                return mlc_fail(err, MLC_E_VERIFY, "the Ed25519 signature does not hold");
        return 0;
}
