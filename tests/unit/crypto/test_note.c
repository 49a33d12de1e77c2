/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "crypto/note.h"

#define DASH "\xe2\x80\x94 "

/* C2SP signed-note.md */
#define FOO_VKEY "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
#define FOO_SIG                                                                                    \
        DASH "example.com/foo "                                                                    \
             "Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu7" \
             "2IneyaQM=\n"
#define FOO_TEXT "This is an example message.\n"
#define FOO_NOTE FOO_TEXT "\n" FOO_SIG
/* golang.org/x/mod/sumdb/note, the package's example */
#define PETER_SEED "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
#define PETER_VKEY "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
#define PETER_TEXT                                                                                 \
        "If you think cryptography is the answer to your problem,\n"                               \
        "then you don't know what your problem is.\n"
#define PETER_SIG                                                                                  \
        DASH "PeterNeumann "                                                                       \
             "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6R" \
             "yyBwJnAM=\n"

static int open_with(const char *note, const char *const *vkeys, size_t n, struct mlc_note *ret)
{
        struct mlc_vkey keys[4];
        struct mlc_vkeys known = {.keys = keys, .n = n};
        struct mlc_err err = {0};

        assert_true(n <= ARRAY_LEN(keys));
        for (size_t i = 0; i < n; i++)
                assert_int_equal(mlc_vkey_parse(vkeys[i], &keys[i], &err), 0);
        return mlc_note_open(note, strlen(note), &known, ret, &err);
}

static int open_foo(const char *note)
{
        static const char *const foo[] = {FOO_VKEY};
        struct mlc_note n;

        return open_with(note, foo, 1, &n);
}

static void peter(struct mlc_signer *ret)
{
        unsigned char key[33];
        struct mlc_err err = {0};

        assert_true(
                mlc_base64_decode_exact(MLC_BASE64_STD, PETER_SEED, strlen(PETER_SEED), key, 33));
        assert_int_equal(key[0], 1);
        assert_int_equal(mlc_signer_from_seed(key + 1, ret, &err), 0);
}

static void published_notes_open(void **state)
{
        static const char *const keys[] = {PETER_VKEY, FOO_VKEY};
        struct mlc_note n = {0};

        (void)state;
        assert_int_equal(open_with(FOO_NOTE, keys, 2, &n), 0);
        assert_true(n.verified == 2);
        assert_int_equal(n.text_len, strlen(FOO_TEXT));
        assert_memory_equal(n.text, FOO_TEXT, n.text_len);
        assert_int_equal(open_with(PETER_TEXT "\n" PETER_SIG, keys, 2, &n), 0);
        assert_true(n.verified == 1);
        assert_int_equal(open_with(PETER_TEXT "\n" PETER_SIG, keys + 1, 1, &n), MLC_E_VERIFY);
        assert_int_equal(open_with(FOO_NOTE, keys, 0, &n), MLC_E_VERIFY);
}

static void ours_is_theirs(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str note, vkey;
        struct mlc_signer s;
        struct mlc_vkey k;
        struct mlc_err err = {0};

        (void)state;
        peter(&s);
        mlc_str_init(&note, 4096);
        mlc_str_init(&vkey, 512);
        assert_int_equal(mlc_note_sign(PETER_TEXT,
                                       &(struct mlc_note_signer){.name = "PeterNeumann", .key = &s},
                                       1, &note, &err),
                         0);
        assert_string_equal(mlc_str_cstr(&note), PETER_TEXT "\n" PETER_SIG);
        assert_int_equal(mlc_vkey_make("PeterNeumann", s.pub, &k, &err), 0);
        mlc_vkey_format(&k, &vkey);
        assert_string_equal(mlc_str_cstr(&vkey), PETER_VKEY);
}

static void two_signers(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str note;
        struct mlc_signer a, b;
        struct mlc_vkey k[2];
        struct mlc_note_signer signers[2] = {{.name = "old", .key = &a},
                                             {.name = "new", .key = &b}};
        struct mlc_vkeys known = {.keys = k, .n = 2};
        struct mlc_note n;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&note, 4096);
        assert_int_equal(mlc_signer_generate(&a, &err), 0);
        assert_int_equal(mlc_signer_generate(&b, &err), 0);
        assert_int_equal(mlc_vkey_make("old", a.pub, &k[0], &err), 0);
        assert_int_equal(mlc_vkey_make("new", b.pub, &k[1], &err), 0);
        assert_int_equal(mlc_note_sign("a\n\nb\n", signers, 2, &note, &err), 0);
        assert_int_equal(mlc_note_open(note.data, note.len, &known, &n, &err), 0);
        assert_true(n.verified == 3);
        assert_int_equal(n.text_len, 5); /* split at the last blank line */
        /* one failing signature by a known key spoils the note */
        k[1].pub[0] ^= 1;
        assert_int_equal(mlc_note_open(note.data, note.len, &known, &n, &err), MLC_E_VERIFY);
        known.n = 1;
        mlc_err_clear(&err);
        assert_int_equal(mlc_note_open(note.data, note.len, &known, &n, &err), 0);
}

static void mangled_notes(void **state)
{
        static const struct {
                const char *note;
                int code;
        } v[] = {
                {"", MLC_E_INVALID},
                {FOO_TEXT, MLC_E_INVALID},
                {FOO_TEXT "\n", MLC_E_INVALID},
                {FOO_TEXT FOO_SIG, MLC_E_INVALID},
                {FOO_TEXT "\n" FOO_SIG "\n", MLC_E_INVALID},
                {"x" FOO_NOTE, MLC_E_VERIFY},
                {FOO_TEXT "\n\n" FOO_SIG, MLC_E_VERIFY},
                {FOO_TEXT "more\n\n" FOO_SIG, MLC_E_VERIFY},
                {FOO_NOTE "x", MLC_E_INVALID},
                {FOO_NOTE "x\n", MLC_E_INVALID},
                {FOO_NOTE DASH "\n", MLC_E_INVALID},
                {FOO_NOTE DASH "name\n", MLC_E_INVALID},
                {FOO_NOTE DASH "name \n", MLC_E_INVALID},
                {FOO_NOTE DASH " AAAAAAA=\n", MLC_E_INVALID},
                {FOO_NOTE DASH "na+me AAAAAAA=\n", MLC_E_INVALID},
                {FOO_NOTE DASH "na\xc2\xa0me AAAAAAA=\n", MLC_E_INVALID},
                {FOO_NOTE DASH "na\xe3\x80\x80me AAAAAAA=\n", MLC_E_INVALID},
                {FOO_NOTE DASH "name AAAAAA==\n", MLC_E_INVALID},
                {FOO_NOTE DASH "name AAAAAAA\n", MLC_E_INVALID},
                {FOO_NOTE DASH "name  AAAAAAA=\n", MLC_E_INVALID},
                {FOO_NOTE DASH "name AAAAAAA=\n", 0},
                {FOO_NOTE DASH "example.com/foo AAAAAAA=\n", 0}, /* another key id: unknown */
                {FOO_NOTE DASH "example.com/foo Uw2QOgA=\n", 0}, /* a duplicate is dropped */
                {FOO_NOTE FOO_SIG, 0},
                {FOO_TEXT "\n" DASH "example.com/foo Uw2QOgA=\n", MLC_E_VERIFY},
                {FOO_TEXT "\n" DASH "name AAAAAAA=\n", MLC_E_VERIFY},
                {FOO_TEXT "\n- example.com/foo AAAAAAA=\n", MLC_E_INVALID},
                {"This is an example\tmessage.\n\n" FOO_SIG, MLC_E_INVALID},
                {"This is an example\r\n\n" FOO_SIG, MLC_E_INVALID},
                {"This is an \xff example\n\n" FOO_SIG, MLC_E_INVALID},
        };

        (void)state;
        assert_int_equal(open_foo(FOO_NOTE), 0);
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                int r = open_foo(v[i].note);

                if (r != v[i].code)
                        fail_msg("case %zu gives %d instead of %d", i, r, v[i].code);
        }
}

static void every_byte_counts(void **state)
{
        char note[] = FOO_NOTE;

        (void)state;
        for (size_t i = 0; i < sizeof(note) - 1; i++) {
                note[i] = (char)(note[i] ^ 1);
                assert_true(open_foo(note) < 0);
                note[i] = (char)(note[i] ^ 1);
        }
        for (size_t i = 0; i < sizeof(note) - 1; i++) {
                char cut[sizeof(note)];

                memcpy(cut, note, i);
                cut[i] = '\0';
                assert_true(open_foo(cut) < 0);
        }
}

static void number_of_signatures_is_capped(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str note;

        (void)state;
        mlc_str_init(&note, 1u << 16);
        mlc_str_add(&note, FOO_NOTE);
        for (int i = 1; i < MLC_NOTE_SIGS_MAX; i++)
                mlc_str_add(&note, DASH "name AAAAAAA=\n");
        assert_int_equal(open_foo(mlc_str_cstr(&note)), 0);
        mlc_str_add(&note, DASH "name AAAAAAA=\n");
        assert_int_equal(open_foo(mlc_str_cstr(&note)), MLC_E_INVALID);
}

static void bad_vkeys(void **state)
{
        static const char *const v[] = {
                "",
                "+",
                "example.com/foo",
                "example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "example.com/fo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "example.com/foo+530D903A+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2",
                "example.com/foo+530d903a+BOkyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "example.com/foo+530d903a+",
                "+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
                "a b+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_vkey k;
                struct mlc_err err = {0};

                if (mlc_vkey_parse(v[i], &k, &err) != MLC_E_INVALID)
                        fail_msg("'%s' was taken", v[i]);
        }
}

#define ROOT "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="

static void checkpoints(void **state)
{
        static const struct {
                const char *text;
                int code;
        } v[] = {
                {"o\n0\n" ROOT "\n", 0},
                {"o\n9223372036854775807\n" ROOT "\n", 0},
                {"o\n7\n" ROOT "\next\nmore\n", 0},
                {"o\n7\n" ROOT, MLC_E_INVALID},
                {"o\n7\n" ROOT "\n\n", MLC_E_INVALID},
                {"o\n7\n" ROOT "\nx", MLC_E_INVALID},
                {"\n7\n" ROOT "\n", MLC_E_INVALID},
                {"o\n07\n" ROOT "\n", MLC_E_INVALID},
                {"o\n+7\n" ROOT "\n", MLC_E_INVALID},
                {"o\n-7\n" ROOT "\n", MLC_E_INVALID},
                {"o\n 7\n" ROOT "\n", MLC_E_INVALID},
                {"o\n\n" ROOT "\n", MLC_E_INVALID},
                {"o\n9223372036854775808\n" ROOT "\n", MLC_E_INVALID},
                {"o\n99999999999999999999999\n" ROOT "\n", MLC_E_INVALID},
                {"o\n7\n" ROOT "=\n", MLC_E_INVALID},
                {"o\n7\n47DEQpj8HBSa\n", MLC_E_INVALID},
                {"o\r\n7\n" ROOT "\n", MLC_E_INVALID},
                {"", MLC_E_INVALID},
                {"o\n", MLC_E_INVALID},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_checkpoint c;
                struct mlc_err err = {0};
                int r = mlc_checkpoint_parse(v[i].text, strlen(v[i].text), &c, &err);

                if (r != v[i].code)
                        fail_msg("case %zu gives %d instead of %d", i, r, v[i].code);
                if (r == 0)
                        assert_string_equal(c.origin, "o");
        }
}

static void checkpoint_goes_round(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str text, note, other;
        struct mlc_checkpoint c = {.origin = "host/log-1", .size = 70000}, d;
        struct mlc_signer s;
        struct mlc_note_signer signer = {.name = "host/log-1", .key = &s};
        struct mlc_vkey k;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&text, 1024);
        mlc_str_init(&note, 1024);
        mlc_str_init(&other, 1024);
        memset(c.root.b, 0xab, sizeof(c.root.b));
        peter(&s);
        assert_int_equal(mlc_vkey_make("host/log-1", s.pub, &k, &err), 0);
        mlc_checkpoint_format(&c, &text);
        assert_int_equal(mlc_note_sign(text.data, &signer, 1, &note, &err), 0);
        assert_int_equal(mlc_checkpoint_open(note.data, note.len, &k, &d, &err), 0);
        assert_string_equal(d.origin, c.origin);
        assert_true(d.size == c.size && mlc_digest_equal(&d.root, &c.root));
        /* signed by the right key, but for another log */
        mlc_str_reset(&text);
        (void)snprintf(c.origin, sizeof(c.origin), "host/log-2");
        mlc_checkpoint_format(&c, &text);
        assert_int_equal(mlc_note_sign(text.data, &signer, 1, &other, &err), 0);
        assert_int_equal(mlc_checkpoint_open(other.data, other.len, &k, &d, &err), MLC_E_VERIFY);
        assert_string_equal(d.origin, "host/log-1");
}

static void what_cannot_be_signed(void **state)
{
        static const char *const v[] = {"", "no end", "tab\there\n", "\xff\n"};
        _cleanup_(mlc_str_done) struct mlc_str note;
        struct mlc_signer s;
        struct mlc_note_signer signer = {.name = "n", .key = &s};

        (void)state;
        peter(&s);
        mlc_str_init(&note, 1024);
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_err err = {0};

                assert_int_equal(mlc_note_sign(v[i], &signer, 1, &note, &err), MLC_E_INVALID);
        }
        signer.name = "a+b";
        {
                struct mlc_err err = {0};

                assert_int_equal(mlc_note_sign("x\n", &signer, 1, &note, &err), MLC_E_INVALID);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(published_notes_open),
                cmocka_unit_test(ours_is_theirs),
                cmocka_unit_test(two_signers),
                cmocka_unit_test(mangled_notes),
                cmocka_unit_test(every_byte_counts),
                cmocka_unit_test(number_of_signatures_is_capped),
                cmocka_unit_test(bad_vkeys),
                cmocka_unit_test(checkpoints),
                cmocka_unit_test(checkpoint_goes_round),
                cmocka_unit_test(what_cannot_be_signed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
