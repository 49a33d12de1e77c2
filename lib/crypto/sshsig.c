/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/sshsig.h"

#include <assert.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "codec/json.h"
#include "crypto/hash.h"
#include "crypto/sshwire.h"

#define MAGIC "SSHSIG"
#define BEGIN "-----BEGIN SSH SIGNATURE-----"
#define END "-----END SSH SIGNATURE-----"
#define WIDTH 70 /* as ssh-keygen wraps */
#define NS_MAX 255
#define FLAG_BE 0x08
#define FLAG_BS 0x10
#define FLAG_AT 0x40
#define FLAG_ED 0x80
#define WEBAUTHN "webauthn-sk-ecdsa-sha2-nistp256@openssh.com"

/* A signature taken apart; everything is borrowed from the decoded blob. */
struct sig {
        struct sshwire key, ns, reserved, hash, outer; /* the blob's members */
        struct sshwire algorithm, inner; /* of the outer signature */
        struct sshwire origin, client_data, extensions; /* passkeys */
        struct mlc_sshsig_result *result;
};

static int bad(struct mlc_err *err, const char *what)
{
        return mlc_fail(err, MLC_E_INVALID, "SSH signature %s", what);
}

static int refused(struct mlc_err *err, const char *what)
{
        return mlc_fail(err, MLC_E_VERIFY, "SSH signature %s", what);
}

static bool blank(char c)
{
        return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Armour → blob. */
static int dearmour(const char *s, size_t len, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str b64;
        const char *end;

        mlc_str_init(&b64, MLC_SSHSIG_MAX);
        if (len > MLC_SSHSIG_MAX)
                return bad(err, "is too long");
        while (len > 0 && blank(s[len - 1]))
                len--;
        if (len < strlen(BEGIN END) || memcmp(s, BEGIN, strlen(BEGIN)) != 0 ||
            memcmp(s + len - strlen(END), END, strlen(END)) != 0)
                return bad(err, "is not between '" BEGIN "' and '" END "'");
        end = s + len - strlen(END);
        for (const char *p = s + strlen(BEGIN); p < end; p++)
                if (!blank(*p))
                        mlc_str_addc(&b64, *p);
        if (mlc_base64_decode(MLC_BASE64_STD, mlc_str_cstr(&b64), b64.len, ret, err) < 0)
                return mlc_wrap(err, "SSH signature");
        return 0;
}

static int parse_blob(const struct mlc_str *blob, struct sig *g, struct mlc_err *err)
{
        struct sshwire in = {.p = (const unsigned char *)mlc_str_cstr(blob), .n = blob->len};
        uint32_t version;

        if (in.n < strlen(MAGIC) || memcmp(in.p, MAGIC, strlen(MAGIC)) != 0)
                return bad(err, "does not start with " MAGIC);
        in.p += strlen(MAGIC);
        in.n -= strlen(MAGIC);
        if (!sshwire_u32(&in, &version) || version != 1)
                return bad(err, "has an unknown version");
        if (!sshwire_string(&in, &g->key) || !sshwire_string(&in, &g->ns) ||
            !sshwire_string(&in, &g->reserved) || !sshwire_string(&in, &g->hash) ||
            !sshwire_string(&in, &g->outer) || in.n != 0)
                return bad(err, "is cut off or has bytes after its end");
        if (g->reserved.n != 0)
                return refused(err, "has a non-empty reserved field");
        return 0;
}

static int parse_outer(struct sig *g, struct mlc_err *err)
{
        struct mlc_sshsig_result *res = g->result;
        struct sshwire in = g->outer;

        res->is_sk =
                res->key.type == MLC_SSHKEY_SK_ED25519 || res->key.type == MLC_SSHKEY_SK_ECDSA_P256;
        if (!sshwire_string(&in, &g->algorithm) || !sshwire_string(&in, &g->inner))
                return bad(err, "is cut off");
        res->is_webauthn = sshwire_equals(&g->algorithm, WEBAUTHN);
        if (res->is_sk && (!sshwire_u8(&in, &res->flags) || !sshwire_u32(&in, &res->counter)))
                return bad(err, "is cut off");
        if (res->is_webauthn &&
            (res->key.type != MLC_SSHKEY_SK_ECDSA_P256 || !sshwire_string(&in, &g->origin) ||
             !sshwire_string(&in, &g->client_data) || !sshwire_string(&in, &g->extensions)))
                return bad(err, "by a passkey is cut off or names another key type");
        if (in.n != 0)
                return bad(err, "has bytes after its end");
        return 0;
}

/* What the hash algorithm named in the signature makes of data. */
static int digest(const struct sshwire *hash, const struct mlc_sshsig_message *m,
                  unsigned char ret[EVP_MAX_MD_SIZE], unsigned *ret_len, struct mlc_err *err)
{
        const EVP_MD *md = NULL;

        if (sshwire_equals(hash, "sha512"))
                md = EVP_sha512();
        else if (sshwire_equals(hash, "sha256"))
                md = EVP_sha256();
        if (md == NULL)
                return bad(err, "uses a hash other than sha512 and sha256");
        if (EVP_Digest(m->data, m->len, ret, ret_len, md, NULL) != 1)
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot hash");
        return 0;
}

/* The bytes that the key signs, whatever hash the key type then applies. */
static int to_sign(const struct sshwire *hash, const struct mlc_sshsig_message *m,
                   struct mlc_str *ret, struct mlc_err *err)
{
        unsigned char md[EVP_MAX_MD_SIZE];
        unsigned n = 0;
        int r = digest(hash, m, md, &n, err);

        if (r < 0)
                return r;
        mlc_str_add(ret, MAGIC);
        sshwire_put_string(ret, m->ns, strlen(m->ns));
        sshwire_put_string(ret, "", 0);
        sshwire_put_string(ret, hash->p, hash->n);
        sshwire_put_string(ret, md, n);
        return mlc_str_check(ret, err);
}

static void add_sha256(struct mlc_str *out, const void *data, size_t len)
{
        struct mlc_digest d;

        mlc_sha256(data, len, &d);
        mlc_str_addn(out, d.b, sizeof(d.b));
}

/* A browser signs for other pages only when this says so; such signatures are not for us. */
static int client_data_same_origin(const struct sig *g, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        int r;

        r = mlc_json_parse((const char *)g->client_data.p, g->client_data.n, &j, err);
        if (r < 0)
                return mlc_wrap(err, "client data of a passkey");
        if (json_is_true(json_object_get(j, "crossOrigin")) ||
            json_object_get(j, "topOrigin") != NULL)
                return refused(err, "was made in a page embedded by another origin");
        return 0;
}

static int check_client_data(const struct sig *g, const struct mlc_str *signed_bytes,
                             struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str want;
        unsigned char flags = g->result->flags;

        mlc_str_init(&want, MLC_SSHSIG_MAX);
        if (g->origin.n == 0 || g->origin.n > MLC_SSHSIG_ORIGIN_MAX ||
            memchr(g->origin.p, '"', g->origin.n) != NULL ||
            memchr(g->origin.p, '\0', g->origin.n) != NULL)
                return bad(err, "names no valid origin");
        mlc_str_add(&want, "{\"type\":\"webauthn.get\",\"challenge\":\"");
        mlc_base64_encode(MLC_BASE64_URL, signed_bytes->data, signed_bytes->len, &want);
        mlc_str_add(&want, "\",\"origin\":\"");
        mlc_str_addn(&want, g->origin.p, g->origin.n);
        mlc_str_add(&want, "\"");
        if (g->client_data.n < want.len || memcmp(g->client_data.p, want.data, want.len) != 0)
                return refused(err, "by a passkey answers another challenge or origin");
        if ((flags & FLAG_AT) != 0 || ((flags & FLAG_ED) != 0) != (g->extensions.n != 0) ||
            ((flags & FLAG_BS) != 0 && (flags & FLAG_BE) == 0))
                return refused(err, "by a passkey has impossible flags");
        memcpy(g->result->origin, g->origin.p, g->origin.n);
        g->result->origin[g->origin.n] = '\0';
        return client_data_same_origin(g, err);
}

/* What a FIDO token really signs. */
static int sk_message(const struct sig *g, const struct sshkey_parts *k,
                      const struct mlc_str *signed_bytes, struct mlc_str *ret, struct mlc_err *err)
{
        const struct mlc_sshsig_result *res = g->result;
        int r;

        if ((res->flags & MLC_SSHSIG_FLAG_UP) == 0)
                return refused(err, "was made without the user's touch");
        add_sha256(ret, k->application.p, k->application.n);
        mlc_str_addc(ret, (char)res->flags);
        sshwire_put_u32(ret, res->counter);
        if (!res->is_webauthn) {
                add_sha256(ret, signed_bytes->data, signed_bytes->len);
                return mlc_str_check(ret, err);
        }
        r = check_client_data(g, signed_bytes, err);
        if (r < 0)
                return r;
        mlc_str_addn(ret, g->extensions.p, g->extensions.n);
        add_sha256(ret, g->client_data.p, g->client_data.n);
        return mlc_str_check(ret, err);
}

static void sig_free(ECDSA_SIG **s)
{
        ECDSA_SIG_free(*s);
}

/* string(mpint r, mpint s) → DER, as OpenSSL wants it. */
static int ecdsa_der(const struct sshwire *inner, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(sig_free) ECDSA_SIG *sig = ECDSA_SIG_new();
        struct sshwire in = *inner, r, s;
        unsigned char der[80], *p = der;
        BIGNUM *bn_r, *bn_s;
        int n;

        if (!sshwire_mpint(&in, &r) || !sshwire_mpint(&in, &s) || in.n != 0 || r.n > 32 || s.n > 32)
                return bad(err, "has malformed ECDSA numbers");
        bn_r = BN_bin2bn(r.p, (int)r.n, NULL);
        bn_s = BN_bin2bn(s.p, (int)s.n, NULL);
        if (sig == NULL || bn_r == NULL || bn_s == NULL || ECDSA_SIG_set0(sig, bn_r, bn_s) != 1)
                abort(); /* out of memory */
        n = i2d_ECDSA_SIG(sig, &p);
        assert(n > 0 && n <= (int)sizeof(der));
        mlc_str_addn(ret, der, (size_t)n);
        return mlc_str_check(ret, err);
}

/* The digest that goes with the key and algorithm; NULL for Ed25519. */
static int pick_digest(const struct sig *g, const EVP_MD **ret, struct mlc_err *err)
{
        enum mlc_sshkey_type type = g->result->key.type;

        *ret = EVP_sha256();
        if (type == MLC_SSHKEY_RSA) {
                if (sshwire_equals(&g->algorithm, "rsa-sha2-512"))
                        *ret = EVP_sha512();
                else if (!sshwire_equals(&g->algorithm, "rsa-sha2-256"))
                        return refused(err, "by an RSA key must use rsa-sha2-512 or rsa-sha2-256");
                return 0;
        }
        if (!g->result->is_webauthn && !sshwire_equals(&g->algorithm, mlc_sshkey_type_name(type)))
                return refused(err, "was made by another algorithm than its key's");
        if (type == MLC_SSHKEY_ED25519 || type == MLC_SSHKEY_SK_ED25519)
                *ret = NULL;
        return 0;
}

/* The signature's bytes as OpenSSL wants them. */
static int raw_signature(const struct sig *g, const struct sshkey_parts *k, struct mlc_str *ret,
                         struct mlc_err *err)
{
        switch (k->type) {
        case MLC_SSHKEY_ECDSA_P256:
        case MLC_SSHKEY_SK_ECDSA_P256:
                return ecdsa_der(&g->inner, ret, err);
        case MLC_SSHKEY_RSA:
                if (g->inner.n > k->n.n)
                        return bad(err, "has a wrong length");
                for (size_t i = g->inner.n; i < k->n.n; i++)
                        mlc_str_addc(ret, '\0'); /* OpenSSH leaves leading zeros out */
                break;
        case MLC_SSHKEY_ED25519:
        case MLC_SSHKEY_SK_ED25519:
                if (g->inner.n != MLC_ED25519_SIG_LEN)
                        return bad(err, "has a wrong length");
                break;
        }
        mlc_str_addn(ret, g->inner.p, g->inner.n);
        return mlc_str_check(ret, err);
}

static void pkey_free(EVP_PKEY **p)
{
        EVP_PKEY_free(*p);
}

static void md_ctx_free(EVP_MD_CTX **c)
{
        EVP_MD_CTX_free(*c);
}

static int check_signature(const struct sig *g, const struct sshkey_parts *k,
                           const struct mlc_str *message, struct mlc_err *err)
{
        _cleanup_(pkey_free) EVP_PKEY *key = sshkey_evp(k);
        _cleanup_(md_ctx_free) EVP_MD_CTX *ctx = EVP_MD_CTX_new();
        _cleanup_(mlc_str_done) struct mlc_str raw;
        const EVP_MD *md;
        int r;

        mlc_str_init(&raw, MLC_SSHSIG_MAX);
        r = pick_digest(g, &md, err);
        if (r < 0)
                return r;
        r = raw_signature(g, k, &raw, err);
        if (r < 0)
                return r;
        if (key == NULL || ctx == NULL || EVP_DigestVerifyInit(ctx, NULL, md, NULL, key) != 1)
                return mlc_fail(err, MLC_E_INTERNAL, "OpenSSL cannot verify with a %s key",
                                mlc_sshkey_type_name(k->type));
        if (EVP_DigestVerify(ctx, (const unsigned char *)raw.data, raw.len,
                             (const unsigned char *)message->data, message->len) != 1)
                return refused(err, "does not hold for this message and namespace");
        return 0;
}

static int verify_parsed(struct sig *g, const struct mlc_sshsig_message *m, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str signed_bytes, sk;
        struct sshkey_parts k;
        int r;

        mlc_str_init(&signed_bytes, MLC_SSHSIG_MAX);
        mlc_str_init(&sk, MLC_SSHSIG_MAX);
        r = sshkey_parts(g->result->key.blob, g->result->key.len, &k, err);
        if (r < 0)
                return r;
        r = to_sign(&g->hash, m, &signed_bytes, err);
        if (r < 0)
                return r;
        if (!g->result->is_sk)
                return check_signature(g, &k, &signed_bytes, err);
        r = sk_message(g, &k, &signed_bytes, &sk, err);
        if (r < 0)
                return r;
        return check_signature(g, &k, &sk, err);
}

int mlc_sshsig_verify(const char *armour, size_t len, const struct mlc_sshsig_message *m,
                      struct mlc_sshsig_result *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str blob;
        struct mlc_sshsig_result res = {0};
        struct sig g = {.result = &res};
        int r;

        assert(m->ns[0] != '\0' && strlen(m->ns) <= NS_MAX);
        mlc_str_init(&blob, MLC_SSHSIG_MAX);
        r = dearmour(armour, len, &blob, err);
        if (r < 0)
                return r;
        r = parse_blob(&blob, &g, err);
        if (r < 0)
                return r;
        if (!sshwire_equals(&g.ns, m->ns))
                return mlc_fail(err, MLC_E_VERIFY,
                                "SSH signature is for the namespace '%.*s', not '%s'",
                                (int)(g.ns.n < 64 ? g.ns.n : 64), (const char *)g.ns.p, m->ns);
        r = mlc_sshkey_from_blob(g.key.p, g.key.n, &res.key, err);
        if (r < 0)
                return mlc_wrap(err, "SSH signature");
        r = parse_outer(&g, err);
        if (r < 0)
                return r;
        r = verify_parsed(&g, m, err);
        if (r < 0)
                return r;
        *ret = res;
        return 0;
}

static void armour(const struct mlc_str *blob, struct mlc_str *ret)
{
        _cleanup_(mlc_str_done) struct mlc_str b64;

        mlc_str_init(&b64, MLC_SSHSIG_MAX);
        mlc_base64_encode(MLC_BASE64_STD, blob->data, blob->len, &b64);
        mlc_str_add(ret, BEGIN "\n");
        for (size_t i = 0; i < b64.len; i += WIDTH) {
                mlc_str_addn(ret, b64.data + i, b64.len - i < WIDTH ? b64.len - i : WIDTH);
                mlc_str_addc(ret, '\n');
        }
        mlc_str_add(ret, END "\n");
}

int mlc_sshsig_sign(const struct mlc_signer *s, const struct mlc_sshsig_message *m,
                    struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str signed_bytes, outer, blob;
        const struct sshwire hash = {.p = (const unsigned char *)"sha512", .n = 6};
        unsigned char sig[MLC_ED25519_SIG_LEN];
        struct mlc_sshkey key;
        int r;

        assert(m->ns[0] != '\0' && strlen(m->ns) <= NS_MAX);
        mlc_str_init(&signed_bytes, MLC_SSHSIG_MAX);
        mlc_str_init(&outer, MLC_SSHSIG_MAX);
        mlc_str_init(&blob, MLC_SSHSIG_MAX);
        r = to_sign(&hash, m, &signed_bytes, err);
        if (r < 0)
                return r;
        r = mlc_sign(s, signed_bytes.data, signed_bytes.len, sig, err);
        if (r < 0)
                return r;
        mlc_sshkey_from_ed25519(s->pub, &key);
        sshwire_put_string(&outer, "ssh-ed25519", strlen("ssh-ed25519"));
        sshwire_put_string(&outer, sig, sizeof(sig));
        mlc_str_add(&blob, MAGIC);
        sshwire_put_u32(&blob, 1);
        sshwire_put_string(&blob, key.blob, key.len);
        sshwire_put_string(&blob, m->ns, strlen(m->ns));
        sshwire_put_string(&blob, "", 0);
        sshwire_put_string(&blob, hash.p, hash.n);
        sshwire_put_string(&blob, outer.data, outer.len);
        armour(&blob, ret);
        return mlc_str_check(ret, err);
}
