/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <ctype.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "crypto/ct.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "crypto/sign.h"

static void assert_hex(const struct mlc_digest *d, const char *want)
{
        char hex[65];

        mlc_hex_encode(d->b, sizeof(d->b), hex);
        assert_string_equal(hex, want);
}

/* FIPS 180-4 examples */
static void sha256_vectors(void **state)
{
        struct mlc_sha256 h;
        struct mlc_digest d;
        char a[1000];

        (void)state;
        mlc_sha256("", 0, &d);
        assert_hex(&d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        mlc_sha256("abc", 3, &d);
        assert_hex(&d, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        memset(a, 'a', sizeof(a));
        mlc_sha256_init(&h);
        for (int i = 0; i < 1000; i++)
                mlc_sha256_update(&h, a, sizeof(a));
        assert_true(mlc_sha256_count(&h) == 1000000);
        mlc_sha256_final(&h, &d);
        assert_hex(&d, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

/* Saving and loading after every byte gives the same digest. */
static void sha256_state_travels(void **state)
{
        unsigned char data[300], saved[MLC_SHA256_STATE_LEN], again[MLC_SHA256_STATE_LEN];
        struct mlc_digest want, got;

        (void)state;
        for (size_t i = 0; i < sizeof(data); i++)
                data[i] = (unsigned char)(i * 7);
        mlc_sha256(data, sizeof(data), &want);
        for (size_t cut = 0; cut <= sizeof(data); cut++) {
                struct mlc_sha256 a, b;
                struct mlc_err err = {0};

                mlc_sha256_init(&a);
                mlc_sha256_update(&a, data, cut);
                mlc_sha256_export(&a, saved);
                assert_int_equal(mlc_sha256_import(saved, sizeof(saved), &b, &err), 0);
                assert_true(mlc_sha256_count(&b) == cut);
                mlc_sha256_export(&b, again);
                assert_memory_equal(saved, again, sizeof(saved));
                mlc_sha256_update(&b, data + cut, sizeof(data) - cut);
                mlc_sha256_final(&b, &got);
                assert_true(mlc_digest_equal(&want, &got));
                /* a copy forks: the first goes on as if nothing had happened */
                b = a;
                mlc_sha256_final(&b, &got);
                mlc_sha256_update(&a, data + cut, sizeof(data) - cut);
                mlc_sha256_final(&a, &got);
                assert_true(mlc_digest_equal(&want, &got));
        }
}

static void sha256_state_counts_beyond_4_gib(void **state)
{
        unsigned char saved[MLC_SHA256_STATE_LEN];
        struct mlc_sha256 h;
        struct mlc_err err = {0};

        (void)state;
        mlc_sha256_init(&h);
        mlc_sha256_export(&h, saved);
        saved[36 + 2] = 0x12; /* 0x12 << 40 bytes */
        assert_int_equal(mlc_sha256_import(saved, sizeof(saved), &h, &err), 0);
        assert_true(mlc_sha256_count(&h) == 0x12ULL << 40);
        mlc_sha256_update(&h, "x", 1);
        assert_true(mlc_sha256_count(&h) == (0x12ULL << 40) + 1);
        saved[36] = 0x20;
        assert_int_equal(mlc_sha256_import(saved, sizeof(saved), &h, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        saved[36] = 0;
        saved[3] = 2;
        assert_int_equal(mlc_sha256_import(saved, sizeof(saved), &h, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        saved[3] = 1;
        assert_int_equal(mlc_sha256_import(saved, sizeof(saved) - 1, &h, &err), MLC_E_INVALID);
}

static void sha256_of_json_ignores_order(void **state)
{
        struct mlc_digest a, b, c;
        struct mlc_err err = {0};
        json_t *j = json_pack("{s:i,s:s}", "b", 1, "a", "x");
        json_t *k = json_pack("{s:s,s:i}", "a", "x", "b", 1);

        (void)state;
        assert_int_equal(mlc_sha256_json(j, &a, &err), 0);
        assert_int_equal(mlc_sha256_json(k, &b, &err), 0);
        assert_true(mlc_digest_equal(&a, &b));
        mlc_sha256("{\"a\":\"x\",\"b\":1}", 15, &c);
        assert_true(mlc_digest_equal(&a, &c));
        json_decref(j);
        json_decref(k);
}

static void random_things_have_their_shape(void **state)
{
        char id[MLC_ID_MAX], id2[MLC_ID_MAX], uuid[MLC_UUID_STR];

        (void)state;
        mlc_random_id('u', id);
        mlc_random_id('u', id2);
        assert_int_equal(strlen(id), 13);
        assert_int_equal(id[0], 'u');
        assert_int_equal(strspn(id + 1, "0123456789abcdef"), 12);
        assert_string_not_equal(id, id2);
        mlc_uuid4(uuid);
        assert_int_equal(strlen(uuid), 36);
        for (size_t i = 0; i < 36; i++) {
                if (i == 8 || i == 13 || i == 18 || i == 23)
                        assert_int_equal(uuid[i], '-');
                else
                        assert_true(isxdigit((unsigned char)uuid[i]));
        }
        assert_int_equal(uuid[14], '4');
        assert_non_null(strchr("89ab", uuid[19]));
}

static void constant_time(void **state)
{
        char secret[4] = "abc";

        (void)state;
        assert_true(mlc_ct_equal("abc", secret, 3));
        assert_false(mlc_ct_equal("abd", secret, 3));
        mlc_wipe(secret, sizeof(secret));
        assert_memory_equal(secret, "\0\0\0\0", 4);
}

/* RFC 8032 section 7.1, tests 1 and 3 */
static void ed25519_vectors(void **state)
{
        static const char *const v[][4] = {
                {"9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                 "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a", "",
                 "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc"
                 "61e39"
                 "701cf9b46bd25bf5f0595bbe24655141438e7a100b"},
                {"c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7",
                 "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025", "\xaf\x82",
                 "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290a"
                 "e67f7"
                 "60984dc6594a7c15e9716ed28dc027beceea1ec40a"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                unsigned char seed[32], pub[32], want[64], sig[64];
                struct mlc_err err = {0};
                struct mlc_signer s;
                size_t n = strlen(v[i][2]);

                assert_true(mlc_hex_decode(v[i][0], seed, 32));
                assert_true(mlc_hex_decode(v[i][1], pub, 32));
                assert_true(mlc_hex_decode(v[i][3], want, 64));
                assert_int_equal(mlc_signer_from_seed(seed, &s, &err), 0);
                assert_memory_equal(s.pub, pub, 32);
                assert_int_equal(mlc_sign(&s, v[i][2], n, sig, &err), 0);
                assert_memory_equal(sig, want, 64);
                assert_int_equal(mlc_verify(pub, v[i][2], n, sig, &err), 0);
                sig[i * 40] ^= 1;
                assert_int_equal(mlc_verify(pub, v[i][2], n, sig, &err), MLC_E_VERIFY);
                mlc_err_clear(&err);
                sig[i * 40] ^= 1;
                assert_int_equal(mlc_verify(pub, "other", 5, sig, &err), MLC_E_VERIFY);
        }
}

static void keys_are_kept(void **state)
{
        char dir[] = "/tmp/mlc-sign-XXXXXX", path[64], cmd[160];
        struct mlc_signer a, b;
        struct mlc_err err = {0};
        struct stat st;

        (void)state;
        assert_non_null(mkdtemp(dir));
        (void)snprintf(path, sizeof(path), "%s/key.pem", dir);
        assert_int_equal(mlc_signer_generate(&a, &err), 0);
        assert_int_equal(mlc_signer_save(&a, path, &err), 0);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(mlc_signer_load(path, &b, &err), 0);
        assert_memory_equal(&a, &b, sizeof(a));
        (void)snprintf(cmd, sizeof(cmd), "openssl pkey -in %s -noout 2>/dev/null", path);
        assert_int_equal(system(cmd), 0);
        assert_int_equal(mlc_write_file_atomic(path, a.seed, sizeof(a.seed), 0600, &err), 0);
        memset(&b, 0, sizeof(b));
        assert_int_equal(mlc_signer_load(path, &b, &err), 0);
        assert_memory_equal(&a, &b, sizeof(a));
        assert_int_equal(mlc_write_file_atomic(path, "junk", 4, 0600, &err), 0);
        assert_int_equal(mlc_signer_load(path, &b, &err), MLC_E_INVALID);
        assert_non_null(strstr(err.msg, path));
        mlc_err_clear(&err);
        (void)snprintf(cmd, sizeof(cmd), "openssl genpkey -algorithm X25519 -out %s 2>/dev/null",
                       path);
        assert_int_equal(system(cmd), 0);
        assert_int_equal(mlc_signer_load(path, &b, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(unlink(path), 0);
        assert_int_equal(mlc_signer_load(path, &b, &err), MLC_E_NOT_FOUND);
        assert_memory_equal(&a, &b, sizeof(a));
        mlc_signer_done(&a);
        assert_true(mlc_ct_equal(&a, &(struct mlc_signer){0}, sizeof(a)));
        assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(sha256_vectors),
                cmocka_unit_test(sha256_state_travels),
                cmocka_unit_test(sha256_state_counts_beyond_4_gib),
                cmocka_unit_test(sha256_of_json_ignores_order),
                cmocka_unit_test(random_things_have_their_shape),
                cmocka_unit_test(constant_time),
                cmocka_unit_test(ed25519_vectors),
                cmocka_unit_test(keys_are_kept),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
