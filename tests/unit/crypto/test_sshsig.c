/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/base64.h"
#include "crypto/sshsig.h"

/* openssh-portable regress/unittests/sshsig/testdata, made over MESSAGE in the namespace NS */
#define NS "unittest"
#define MESSAGE "This is a test, this is only a test"
static const char ED25519_PUB[] =
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIlizSIN3DQV78VPNjVvvwjgf+P5HqbPYCYu3BOMdjAE";

static const char ED25519_SIG[] =
        "-----BEGIN SSH SIGNATURE-----\n"
        "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAgiWLNIg3cNBXvxU82NW+/COB/4/\n"
        "keps9gJi7cE4x2MAQAAAAIdW5pdHRlc3QAAAAAAAAABnNoYTUxMgAAAFMAAAALc3NoLWVk\n"
        "MjU1MTkAAABAihQsbUzuNEFflk5Tw1+H9aLS7tZQk0RG8KW1DtOmDYYnWe3D3UKiG3fcJa\n"
        "DNg4vBWp1j1gLRiBMOF+gwYNegDg==\n"
        "-----END SSH SIGNATURE-----\n";

static const char ECDSA_PUB[] =
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBN7LnfPB"
        "VdDfBT7KWUley1qo+rjzy0WYkrHpzbhGALXlj8g4K2bFmy81wblCbnHqWgjblv0FoBwUW641o9xEZtw=";

static const char ECDSA_SIG[] =
        "-----BEGIN SSH SIGNATURE-----\n"
        "U1NIU0lHAAAAAQAAAGgAAAATZWNkc2Etc2hhMi1uaXN0cDI1NgAAAAhuaXN0cDI1NgAAAE\n"
        "EE3sud88FV0N8FPspZSV7LWqj6uPPLRZiSsenNuEYAteWPyDgrZsWbLzXBuUJucepaCNuW\n"
        "/QWgHBRbrjWj3ERm3AAAAAh1bml0dGVzdAAAAAAAAAAGc2hhNTEyAAAAZQAAABNlY2RzYS\n"
        "1zaGEyLW5pc3RwMjU2AAAASgAAACEAycVNsTlE+XEZYyYiDxWZlliruf/pPMhEEMR/XLdQ\n"
        "a4MAAAAhALQt+5gES7L3uKGptHB6UZQMuZ2WyI0C6FJs4v6AtMIU\n"
        "-----END SSH SIGNATURE-----\n";

static const char ED25519_SK_PUB[] =
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIJsaDYXQY"
        "ruc6bilCYDIK4YSOeG+zmrRO2M9t03//7LHAAAABHNzaDo=";

static const char ED25519_SK_SIG[] =
        "-----BEGIN SSH SIGNATURE-----\n"
        "U1NIU0lHAAAAAQAAAEoAAAAac2stc3NoLWVkMjU1MTlAb3BlbnNzaC5jb20AAAAgmxoNhd\n"
        "Biu5zpuKUJgMgrhhI54b7OatE7Yz23Tf//sscAAAAEc3NoOgAAAAh1bml0dGVzdAAAAAAA\n"
        "AAAGc2hhNTEyAAAAZwAAABpzay1zc2gtZWQyNTUxOUBvcGVuc3NoLmNvbQAAAEAi+7eTjW\n"
        "/+LQ2M+sCD+KFtH1n7VFFJon/SZFsxODyV8cWTlFKj617Ys1Ur5TV6uaEXQhck8rBA2oQI\n"
        "HTPANLIPARI0Vng=\n"
        "-----END SSH SIGNATURE-----\n";

static const char ECDSA_SK_PUB[] =
        "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNza"
        "C5jb20AAAAIbmlzdHAyNTYAAABBBKDVa5jRcT5V7E6ysmwVi7HJWh7p5D+hebLPakQcpnD2ajJZ6G/4W"
        "zuhlYWnclWY63JspDp299Rlhq5AT86/g8AAAAAEc3NoOg==";

static const char ECDSA_SK_SIG[] =
        "-----BEGIN SSH SIGNATURE-----\n"
        "U1NIU0lHAAAAAQAAAH8AAAAic2stZWNkc2Etc2hhMi1uaXN0cDI1NkBvcGVuc3NoLmNvbQ\n"
        "AAAAhuaXN0cDI1NgAAAEEEoNVrmNFxPlXsTrKybBWLsclaHunkP6F5ss9qRBymcPZqMlno\n"
        "b/hbO6GVhadyVZjrcmykOnb31GWGrkBPzr+DwAAAAARzc2g6AAAACHVuaXR0ZXN0AAAAAA\n"
        "AAAAZzaGE1MTIAAAB3AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNzaC5jb20A\n"
        "AABIAAAAIHohGwyy8iKT3zwd1TYA9V/Ioo7h/3zCJUtyq/Qigt/HAAAAIGzidTwq7D/kFa\n"
        "7Xjcp/KkdbIs4MfQpfAW/0OciajlpzARI0Vng=\n"
        "-----END SSH SIGNATURE-----\n";

static const char ECDSA_SK_WEBAUTHN_PUB[] =
        "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNza"
        "C5jb20AAAAIbmlzdHAyNTYAAABBBBRGwDjs4HhJFcn4tJ5Gr72KcmRmCS1OirETxaXvnsNApgoOLF1a/"
        "7rxldfSMHm73eT1nhHe97W8qicPPEAKDJQAAAALbWluZHJvdC5vcmc=";

static const char ECDSA_SK_WEBAUTHN_SIG[] =
        "-----BEGIN SSH SIGNATURE-----\n"
        "U1NIU0lHAAAAAQAAAIYAAAAic2stZWNkc2Etc2hhMi1uaXN0cDI1NkBvcGVuc3NoLmNvbQ\n"
        "AAAAhuaXN0cDI1NgAAAEEEFEbAOOzgeEkVyfi0nkavvYpyZGYJLU6KsRPFpe+ew0CmCg4s\n"
        "XVr/uvGV19Iwebvd5PWeEd73tbyqJw88QAoMlAAAAAttaW5kcm90Lm9yZwAAAAh1bml0dG\n"
        "VzdAAAAAAAAAAGc2hhNTEyAAABhwAAACt3ZWJhdXRobi1zay1lY2RzYS1zaGEyLW5pc3Rw\n"
        "MjU2QG9wZW5zc2guY29tAAAASQAAACBj2oMT9tb5wRXe6mdmf4/lgAO8wrgr95ouozwNg4\n"
        "itnQAAACEAtU9g5wz3HchUiLfLD6plr9T4TiJ32lVCrATSjpiy0SMBAAADHwAAABdodHRw\n"
        "czovL3d3dy5taW5kcm90Lm9yZwAAAON7InR5cGUiOiJ3ZWJhdXRobi5nZXQiLCJjaGFsbG\n"
        "VuZ2UiOiJVMU5JVTBsSEFBQUFDSFZ1YVhSMFpYTjBBQUFBQUFBQUFBWnphR0UxTVRJQUFB\n"
        "QkFMTHU4WmdjU3h0Nk1zRlV6dWlaZ0c2R3dNZEo5ZDd4ZUU3WW9SSXcwZzlpSEpfd3NGRD\n"
        "cxbzRXbHllenZGV0VqYnFRMHFDN0Z3R3Bqa2pVUVAtTmQ2dyIsIm9yaWdpbiI6Imh0dHBz\n"
        "Oi8vd3d3Lm1pbmRyb3Qub3JnIiwiY3Jvc3NPcmlnaW4iOmZhbHNlfQAAAAA=\n"
        "-----END SSH SIGNATURE-----\n";

static const char RSA_PUB[] =
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDfzqWaNEe0mnKPzsGtL6ywya29z/VI83SBdM+z2NnW"
        "FgCr3w9xrf9FhUzgdpK7oI7O1AnZmdkPdN79d4GchTaZ+69ASX4OLCKwZ42CVXJEKLvvzt88UV9zHNl8"
        "NrsQHapjxLehpIZkrxCrO4bCYYAiaOVBfPon4cJ394P/nwagJJKKsgQIVYIC3642s4L8SaADOxt9x9oh"
        "ttXMDjS2WBTeE7YnjaR13PwKKwNO0MpAAEVw5pBnJxJ+fscM/5aBctdcFQj3BUzVOJ/V/70xfTzEiy8K"
        "8bOjvIuBttMUtIavlKQD606ti6gDtXx+B7SJ3/emdW0bVSLcju96N4DB/Qdmq0V4ESc7CQgkWZl4y0V4"
        "5V/7iSLiHWsOoC9Kxw28y0uno5elsABMBMC4RYSQhAGXWueCcR7SIL2JT2K0oxbqongW0hvgAIfUShTX"
        "Hy+qsV5yDaG+p+TkJkEkhtXbwkW4aNpzc7EFnXsWpvyWOiZSKvUasRPbPro0yBvlOMMPsFU=";

static const char RSA_SIG[] =
        "-----BEGIN SSH SIGNATURE-----\n"
        "U1NIU0lHAAAAAQAAAZcAAAAHc3NoLXJzYQAAAAMBAAEAAAGBAN/OpZo0R7Saco/Owa0vrL\n"
        "DJrb3P9UjzdIF0z7PY2dYWAKvfD3Gt/0WFTOB2krugjs7UCdmZ2Q903v13gZyFNpn7r0BJ\n"
        "fg4sIrBnjYJVckQou+/O3zxRX3Mc2Xw2uxAdqmPEt6GkhmSvEKs7hsJhgCJo5UF8+ifhwn\n"
        "f3g/+fBqAkkoqyBAhVggLfrjazgvxJoAM7G33H2iG21cwONLZYFN4TtieNpHXc/AorA07Q\n"
        "ykAARXDmkGcnEn5+xwz/loFy11wVCPcFTNU4n9X/vTF9PMSLLwrxs6O8i4G20xS0hq+UpA\n"
        "PrTq2LqAO1fH4HtInf96Z1bRtVItyO73o3gMH9B2arRXgRJzsJCCRZmXjLRXjlX/uJIuId\n"
        "aw6gL0rHDbzLS6ejl6WwAEwEwLhFhJCEAZda54JxHtIgvYlPYrSjFuqieBbSG+AAh9RKFN\n"
        "cfL6qxXnINob6n5OQmQSSG1dvCRbho2nNzsQWdexam/JY6JlIq9RqxE9s+ujTIG+U4ww+w\n"
        "VQAAAAh1bml0dGVzdAAAAAAAAAAGc2hhNTEyAAABlAAAAAxyc2Etc2hhMi01MTIAAAGACi\n"
        "nEpBrQxZi0yOrrT6h98JFfZh0XXioih4fzmvtoV0yOReWClS+otGgXoJyZHcbaKNOjDwSM\n"
        "rIkUoX6OUJmtHYP0HRELnKw35m33LdBPXpFGS4tRS7NeSpvc04KtjT6jYXY9FjWy5hcn17\n"
        "Sxc/3DnJqLgJBur8acY7FeIzpWmKixPd/dGkEjdWoD9gO6szLczGuQgrOdYmSRL4yKadTJ\n"
        "lVjz5OSeKSYYGQy33US2XQassRRNYf4e9byTA3DKvHa/OcTt7lFerea0kZdDpAboqffz7T\n"
        "Yaw/hFskAYLIEdTW3aoXBGHSOvu8AkDOtb7qwuxGSQ27pjkDLDNsp1ceCFaCaQ6X83RZuK\n"
        "ACv9JUBI5KaSf81e0bs0KezJKkhB9czeZ6dk96qISbgayEBnvhYgXvUDKtHn7HzNlCJKfK\n"
        "5ABhNxfGG2CD+NKqcrndwFgS1sQO3hbA84zPQb26ShBovT8ytHBmW1F8ZK4O9Bz61Q6EZK\n"
        "vs/u6xP6LUean/so5daa\n"
        "-----END SSH SIGNATURE-----\n";

static const struct {
        const char *pub, *sig;
        enum mlc_sshkey_type type;
        const char *fingerprint;
} VECTORS[] = {
        {ED25519_PUB, ED25519_SIG, MLC_SSHKEY_ED25519,
         "SHA256:ZxTZQ/K7JZpz0mHqWqdmYCUcq3MAtnu9TYA66TCBkxM"},
        {ECDSA_PUB, ECDSA_SIG, MLC_SSHKEY_ECDSA_P256,
         "SHA256:YInG0FuXzFrI4twnU4WIDUE7/iFeM9DVtx6zdi61Pvg"},
        {ED25519_SK_PUB, ED25519_SK_SIG, MLC_SSHKEY_SK_ED25519,
         "SHA256:pbI9wlyrFSsUbp+GTiIAOqNMvoajbF2tHsPMECyrMYU"},
        {ECDSA_SK_PUB, ECDSA_SK_SIG, MLC_SSHKEY_SK_ECDSA_P256,
         "SHA256:/ALxJUlmDPE0gxeL1nZip4oXm1VG1qmR2xL5iUzZD1A"},
        {ECDSA_SK_WEBAUTHN_PUB, ECDSA_SK_WEBAUTHN_SIG, MLC_SSHKEY_SK_ECDSA_P256,
         "SHA256:CnLUlPNaYYz05nves7k8lkzRjnzbbkaxQnfzZrS3kSM"},
        {RSA_PUB, RSA_SIG, MLC_SSHKEY_RSA, "SHA256:PnEztoQ74skPJhb/bvdbzdOVa2whp8Ws4housCPVrkI"},
};

static int verify(const char *sig, size_t len, const char *ns, const char *text)
{
        struct mlc_sshsig_message m = {.ns = ns, .data = text, .len = strlen(text)};
        struct mlc_sshsig_result res;
        struct mlc_err err = {0};
        int r = mlc_sshsig_verify(sig, len, &m, &res, &err);

        assert_true((r < 0) == (err.code != 0));
        return r;
}

static void keys_are_read(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(VECTORS); i++) {
                _cleanup_(mlc_str_done) struct mlc_str line, back;
                struct mlc_sshkey k, again;
                struct mlc_err err = {0};
                char fp[MLC_SSHKEY_FP];

                mlc_str_init(&line, 4096);
                mlc_str_init(&back, 4096);
                mlc_str_addf(&line, "%s  some comment\r\n", VECTORS[i].pub);
                if (mlc_sshkey_parse(mlc_str_cstr(&line), &k, &err) < 0)
                        fail_msg("%s", err.msg);
                assert_int_equal(k.type, VECTORS[i].type);
                mlc_sshkey_format(&k, &back);
                assert_string_equal(mlc_str_cstr(&back), VECTORS[i].pub);
                mlc_sshkey_fingerprint(&k, fp);
                assert_string_equal(fp, VECTORS[i].fingerprint);
                assert_int_equal(mlc_sshkey_from_blob(k.blob, k.len, &again, &err), 0);
                assert_true(mlc_sshkey_equal(&k, &again));
                again.blob[again.len - 1] ^= 1;
                assert_false(mlc_sshkey_equal(&k, &again));
                for (size_t len = 0; len < k.len; len++) {
                        assert_int_equal(mlc_sshkey_from_blob(k.blob, len, &again, &err),
                                         MLC_E_INVALID);
                        mlc_err_clear(&err);
                }
        }
}

static void keys_are_refused(void **state)
{
        static const char b64[] =
                "AAAAC3NzaC1lZDI1NTE5AAAAIIlizSIN3DQV78VPNjVvvwjgf+P5HqbPYCYu3BOMdjAE";
        static const struct {
                const char *before, *after;
        } v[] = {
                {"", ""},
                {"no-pty ssh-ed25519 ", ""},
                {"command=\"x\" ssh-ed25519 ", ""},
                {" ssh-ed25519 ", ""},
                {"ssh-rsa ", ""},
                {"ecdsa-sha2-nistp384 ", ""},
                {"ssh-dss ", ""},
                {"ssh-ed25519-cert-v01@openssh.com ", ""},
                {"ssh-ed25519 ", "A"},
                {"ssh-ed25519 ", "AAAA"},
                {"ssh-ed25519 ", "=="},
                {"ssh-ed25519 A", ""},
                {"-----BEGIN OPENSSH PRIVATE KEY-----\n", ""},
                {"ssh-ed25519 ", "\nssh-ed25519 x"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_sshkey k;
                struct mlc_err err = {0};
                char line[300];

                (void)snprintf(line, sizeof(line), "%s%s%s", v[i].before, b64, v[i].after);
                if (mlc_sshkey_parse(line, &k, &err) != MLC_E_INVALID)
                        fail_msg("'%s' was taken", line);
        }
}

static void published_signatures_hold(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(VECTORS); i++) {
                struct mlc_sshsig_message m = {.ns = NS, .data = MESSAGE, .len = strlen(MESSAGE)};
                struct mlc_sshsig_result res;
                struct mlc_sshkey k;
                struct mlc_err err = {0};
                bool sk = VECTORS[i].type == MLC_SSHKEY_SK_ED25519 ||
                          VECTORS[i].type == MLC_SSHKEY_SK_ECDSA_P256;

                assert_int_equal(mlc_sshkey_parse(VECTORS[i].pub, &k, &err), 0);
                if (mlc_sshsig_verify(VECTORS[i].sig, strlen(VECTORS[i].sig), &m, &res, &err) < 0)
                        fail_msg("%s", err.msg);
                assert_true(mlc_sshkey_equal(&k, &res.key));
                assert_int_equal(res.is_sk, sk);
                assert_int_equal(res.is_webauthn, VECTORS[i].sig == ECDSA_SK_WEBAUTHN_SIG);
                if (sk)
                        assert_int_equal(res.flags & MLC_SSHSIG_FLAG_UP, MLC_SSHSIG_FLAG_UP);
                if (res.is_webauthn)
                        assert_string_equal(res.origin, "https://www.mindrot.org");
                assert_int_equal(verify(VECTORS[i].sig, strlen(VECTORS[i].sig), "git", MESSAGE),
                                 MLC_E_VERIFY);
                assert_int_equal(verify(VECTORS[i].sig, strlen(VECTORS[i].sig), NS, MESSAGE "."),
                                 MLC_E_VERIFY);
        }
}

static void to_blob(const char *sig, struct mlc_str *blob)
{
        _cleanup_(mlc_str_done) struct mlc_str b64;
        const char *p = strchr(sig, '\n'), *end = strstr(sig, "-----END");
        struct mlc_err err = {0};

        mlc_str_init(&b64, 8192);
        for (; p < end; p++)
                if (*p != '\n')
                        mlc_str_addc(&b64, *p);
        assert_int_equal(mlc_base64_decode(MLC_BASE64_STD, b64.data, b64.len, blob, &err), 0);
}

static int verify_blob(const void *blob, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str s;

        mlc_str_init(&s, 16384);
        mlc_str_add(&s, "-----BEGIN SSH SIGNATURE-----");
        mlc_base64_encode(MLC_BASE64_STD, blob, len, &s); /* one long line, no newline at all */
        mlc_str_add(&s, "-----END SSH SIGNATURE-----");
        return verify(s.data, s.len, NS, MESSAGE);
}

static void every_byte_counts(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(VECTORS); i++) {
                _cleanup_(mlc_str_done) struct mlc_str blob;

                mlc_str_init(&blob, 8192);
                to_blob(VECTORS[i].sig, &blob);
                assert_int_equal(verify_blob(blob.data, blob.len), 0);
                for (size_t k = 0; k < blob.len; k++) {
                        blob.data[k] = (char)(blob.data[k] ^ 1);
                        if (verify_blob(blob.data, blob.len) == 0)
                                fail_msg("vector %zu holds with byte %zu changed", i, k);
                        blob.data[k] = (char)(blob.data[k] ^ 1);
                        assert_true(verify_blob(blob.data, k) < 0);
                }
                mlc_str_addc(&blob, '\0');
                assert_int_equal(verify_blob(blob.data, blob.len), MLC_E_INVALID);
        }
}

/* Replaces text inside the blob by other text of the same length. */
static int verify_replaced(const char *sig, const char *old, const char *new, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str blob;
        char *at;

        mlc_str_init(&blob, 8192);
        to_blob(sig, &blob);
        at = memmem(blob.data, blob.len, old, len);
        assert_non_null(at);
        memcpy(at, new, len);
        return verify_blob(blob.data, blob.len);
}

static void rules_beyond_the_mathematics(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str blob, longer;
        const char *at;

        (void)state;
        mlc_str_init(&blob, 8192);
        mlc_str_init(&longer, 8192);
        assert_int_equal(verify_replaced(ED25519_SIG, "SSHSIG\0\0\0\1", "SSHSIG\0\0\0\2", 10),
                         MLC_E_INVALID);
        assert_int_equal(verify_replaced(ED25519_SIG, "sha512", "sha384", 6), MLC_E_INVALID);
        /* RSA over SHA-1, and another hash than the one that was signed */
        assert_int_equal(verify_replaced(RSA_SIG, "rsa-sha2-512", "rsa-sha2-256", 12),
                         MLC_E_VERIFY);
        assert_int_equal(verify_replaced(RSA_SIG, "rsa-sha2-512", "rsa-sha2-384", 12),
                         MLC_E_VERIFY);
        /* a reserved field, which OpenSSH would skip */
        to_blob(ED25519_SIG, &blob);
        at = memmem(blob.data, blob.len, "unittest\0\0\0\0", 12);
        assert_non_null(at);
        mlc_str_addn(&longer, blob.data, (size_t)(at + 8 - blob.data));
        mlc_str_addn(&longer, "\0\0\0\1x", 5);
        mlc_str_addn(&longer, at + 12, blob.len - (size_t)(at + 12 - blob.data));
        assert_int_equal(verify_blob(longer.data, longer.len), MLC_E_VERIFY);
        /* the user's touch: the flags of the vector are the fifth byte from the end */
        mlc_str_reset(&blob);
        to_blob(ED25519_SK_SIG, &blob);
        assert_int_equal(blob.data[blob.len - 5], 1);
        blob.data[blob.len - 5] = 0;
        assert_int_equal(verify_blob(blob.data, blob.len), MLC_E_VERIFY);
}

static void refused_because(const struct mlc_str *blob, const char *why)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        struct mlc_sshsig_message m = {.ns = NS, .data = MESSAGE, .len = strlen(MESSAGE)};
        struct mlc_sshsig_result res;
        struct mlc_err err = {0};

        mlc_str_init(&s, 16384);
        mlc_str_add(&s, "-----BEGIN SSH SIGNATURE-----\n");
        mlc_base64_encode(MLC_BASE64_STD, blob->data, blob->len, &s);
        mlc_str_add(&s, "\n-----END SSH SIGNATURE-----\n");
        assert_int_equal(mlc_sshsig_verify(s.data, s.len, &m, &res, &err), MLC_E_VERIFY);
        if (strstr(err.msg, why) == NULL)
                fail_msg("'%s' does not say '%s'", err.msg, why);
}

/* Each rule refuses by itself, before the signature over the changed bytes would. */
static void passkey_rules(void **state)
{
        static const struct {
                const char *old, *new, *why;
        } text[] = {
                {"\"crossOrigin\":false", "\"crossOrigin\":true ", "embedded"},
                {"\"crossOrigin\":false", "\"topOrigin\":\"abcde\"", "embedded"},
                {"challenge\":\"U", "challenge\":\"V", "challenge or origin"},
                {"webauthn.get", "webauthn.got", "challenge or origin"},
                {"\"origin\":\"https", "\"origin\":\"httpz", "challenge or origin"},
        };
        static const struct {
                char flags;
                const char *why;
        } flag[] = {
                {0x00, "touch"},
                {0x04, "touch"},
                {0x41, "impossible flags"}, /* attested data in an assertion */
                {(char)0x81, "impossible flags"}, /* extensions announced, none there */
                {0x11, "impossible flags"}, /* backed up, but not eligible for it */
                {0x05, "does not hold"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(text); i++) {
                _cleanup_(mlc_str_done) struct mlc_str blob;
                size_t n = strlen(text[i].old);
                char *at;

                mlc_str_init(&blob, 8192);
                to_blob(ECDSA_SK_WEBAUTHN_SIG, &blob);
                at = memmem(blob.data, blob.len, text[i].old, n);
                assert_non_null(at);
                assert_int_equal(strlen(text[i].new), n);
                memcpy(at, text[i].new, n);
                refused_because(&blob, text[i].why);
        }
        for (size_t i = 0; i < ARRAY_LEN(flag); i++) {
                _cleanup_(mlc_str_done) struct mlc_str blob;
                char *at;

                mlc_str_init(&blob, 8192);
                to_blob(ECDSA_SK_WEBAUTHN_SIG, &blob);
                at = memmem(blob.data, blob.len, "\0\0\0\x17https", 9);
                assert_non_null(at);
                assert_int_equal(at[-5], 1);
                at[-5] = flag[i].flags;
                refused_because(&blob, flag[i].why);
        }
}

static void armour_rules(void **state)
{
        static const char *const v[] = {
                "",
                "-----BEGIN SSH SIGNATURE-----",
                "-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
                "-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n",
                "-----BEGIN SSH SIGNATURE-----\nU1NIU0lHAAAAAQ==\n-----END SSH SIGNATURE-----\n",
                "-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----\n",
                "-----BEGIN PGP SIGNATURE-----\nU1NI\n-----END PGP SIGNATURE-----\n",
                "x-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\n",
                "-----BEGIN SSH SIGNATURE-----\nU1NI\n-----END SSH SIGNATURE-----\nx",
        };
        _cleanup_(mlc_str_done) struct mlc_str s;

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
                assert_int_equal(verify(v[i], strlen(v[i]), NS, MESSAGE), MLC_E_INVALID);
        mlc_str_init(&s, 8192);
        for (const char *p = ED25519_SIG; *p != '\0'; p++) {
                if (*p == '\n')
                        mlc_str_addc(&s, '\r');
                mlc_str_addc(&s, *p);
        }
        mlc_str_add(&s, "\n \n");
        assert_int_equal(verify(s.data, s.len, NS, MESSAGE), 0);
}

static void ours_is_published(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str sig;
        struct mlc_sshsig_message m = {.ns = "git", .data = "a\0b", .len = 3};
        struct mlc_sshsig_result res;
        struct mlc_sshkey k;
        struct mlc_signer s;
        struct mlc_err err = {0};
        const char *line;

        (void)state;
        mlc_str_init(&sig, 4096);
        assert_int_equal(mlc_signer_generate(&s, &err), 0);
        assert_int_equal(mlc_sshsig_sign(&s, &m, &sig, &err), 0);
        assert_int_equal(mlc_sshsig_verify(sig.data, sig.len, &m, &res, &err), 0);
        mlc_sshkey_from_ed25519(s.pub, &k);
        assert_true(mlc_sshkey_equal(&k, &res.key));
        assert_false(res.is_sk);
        line = strchr(sig.data, '\n') + 1;
        assert_int_equal(strcspn(line, "\n"), 70);
        assert_int_equal(sig.data[sig.len - 1], '\n');
}

/* ---- the stock tool */

static char dir[] = "/tmp/mlc-sshsig-XXXXXX";

static int run(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int run(const char *fmt, ...)
{
        char inner[400], cmd[600];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(inner, sizeof(inner), fmt, ap);
        va_end(ap);
        (void)snprintf(cmd, sizeof(cmd), "cd %s && { %s; } >out 2>&1", dir, inner);
        return system(cmd);
}

static char *slurp(const char *name, size_t *ret_len)
{
        char path[100], *data = NULL;
        struct mlc_err err = {0};

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        if (mlc_read_file(path, 65536, &data, ret_len, &err) < 0)
                fail_msg("%s", err.msg);
        return data;
}

static void put(const char *name, const char *data, size_t len)
{
        char path[100];
        struct mlc_err err = {0};

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        assert_int_equal(mlc_write_file_atomic(path, data, len, 0600, &err), 0);
}

static void ssh_keygen_takes_ours(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str sig, allowed;
        struct mlc_sshsig_message m = {.ns = "git", .data = MESSAGE, .len = strlen(MESSAGE)};
        struct mlc_signer s;
        struct mlc_sshkey k;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&sig, 4096);
        mlc_str_init(&allowed, 4096);
        assert_int_equal(mlc_signer_generate(&s, &err), 0);
        assert_int_equal(mlc_sshsig_sign(&s, &m, &sig, &err), 0);
        mlc_sshkey_from_ed25519(s.pub, &k);
        mlc_str_add(&allowed, "u1 namespaces=\"git\" ");
        mlc_sshkey_format(&k, &allowed);
        mlc_str_addc(&allowed, '\n');
        put("allowed", allowed.data, allowed.len);
        put("sig", sig.data, sig.len);
        put("msg", MESSAGE, strlen(MESSAGE));
        assert_int_equal(run("ssh-keygen -Y verify -f allowed -I u1 -n %s -s sig <msg", "git"), 0);
        assert_int_not_equal(
                run("ssh-keygen -Y verify -f allowed -I u1 -n %s -s sig <msg", "approval@mlctl"),
                0);
}

static void we_take_ssh_keygens(void **state)
{
        static const char *const types[] = {"ed25519", "ecdsa -b 256", "rsa -b 3072"};
        static const char *const hashes[] = {"sha512", "sha256", "sha512"};

        (void)state;
        put("msg", MESSAGE, strlen(MESSAGE));
        for (size_t i = 0; i < ARRAY_LEN(types); i++) {
                _cleanup_(free_p) char *sig = NULL, *pub = NULL, *fp = NULL;
                struct mlc_sshsig_message m = {
                        .ns = MLC_SSHSIG_NS_APPROVAL, .data = MESSAGE, .len = strlen(MESSAGE)};
                struct mlc_sshsig_result res;
                struct mlc_sshkey k;
                struct mlc_err err = {0};
                char ours[MLC_SSHKEY_FP];
                size_t n;

                assert_int_equal(run("rm -f key key.pub msg.sig; ssh-keygen -q -N '' -f key -t %s",
                                     types[i]),
                                 0);
                assert_int_equal(
                        run("ssh-keygen -Y sign -f key -n %s -O hashalg=%s msg", m.ns, hashes[i]),
                        0);
                assert_int_equal(run("ssh-keygen -lf %s", "key.pub"), 0);
                fp = slurp("out", &n);
                pub = slurp("key.pub", &n);
                sig = slurp("msg.sig", &n);
                assert_int_equal(mlc_sshkey_parse(pub, &k, &err), 0);
                mlc_sshkey_fingerprint(&k, ours);
                assert_non_null(strstr(fp, ours));
                if (mlc_sshsig_verify(sig, n, &m, &res, &err) < 0)
                        fail_msg("%s: %s", types[i], err.msg);
                assert_true(mlc_sshkey_equal(&k, &res.key));
        }
}

static void weak_rsa_is_refused(void **state)
{
        _cleanup_(free_p) char *pub = NULL;
        struct mlc_sshkey k;
        struct mlc_err err = {0};
        size_t n;

        (void)state;
        assert_int_equal(run("rm -f key key.pub; ssh-keygen -q -N '' -f key -t %s", "rsa -b 2048"),
                         0);
        pub = slurp("key.pub", &n);
        assert_int_equal(mlc_sshkey_parse(pub, &k, &err), MLC_E_INVALID);
        assert_non_null(strstr(err.msg, "2048 bits"));
}

static int setup(void **state)
{
        (void)state;
        return mkdtemp(dir) == NULL ? -1 : 0;
}

static int teardown(void **state)
{
        char cmd[100];

        (void)state;
        (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
        return system(cmd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(keys_are_read),
                cmocka_unit_test(keys_are_refused),
                cmocka_unit_test(published_signatures_hold),
                cmocka_unit_test(every_byte_counts),
                cmocka_unit_test(rules_beyond_the_mathematics),
                cmocka_unit_test(passkey_rules),
                cmocka_unit_test(armour_rules),
                cmocka_unit_test(ours_is_published),
                cmocka_unit_test(ssh_keygen_takes_ours),
                cmocka_unit_test(we_take_ssh_keygens),
                cmocka_unit_test(weak_rsa_is_refused),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
