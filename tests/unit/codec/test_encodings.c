/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "codec/digest.h"
#include "codec/hex.h"
#include "codec/utf8.h"

static void hex_is_strict(void **state)
{
        unsigned char b[3] = {1, 2, 3};
        char text[7];

        (void)state;
        mlc_hex_encode("\x00\xab\xff", 3, text);
        assert_string_equal(text, "00abff");
        assert_true(mlc_hex_decode("00abff", b, 3));
        assert_memory_equal(b, "\x00\xab\xff", 3);
        assert_false(mlc_hex_decode("00ABFF", b, 3));
        assert_false(mlc_hex_decode("00abf", b, 3));
        assert_false(mlc_hex_decode("00abff00", b, 3));
        assert_false(mlc_hex_decode("00abfg", b, 3));
        assert_false(mlc_hex_decode("", b, 3));
        assert_true(mlc_hex_decode("", b, 0));
        assert_memory_equal(b, "\x00\xab\xff", 3);
}

/* RFC 4648 section 10 */
static void base64_vectors(void **state)
{
        static const char *const v[][2] = {
                {"", ""},
                {"f", "Zg=="},
                {"fo", "Zm8="},
                {"foo", "Zm9v"},
                {"foob", "Zm9vYg=="},
                {"fooba", "Zm9vYmE="},
                {"foobar", "Zm9vYmFy"},
                {"\xfb\xff\xbf", "+/+/"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(mlc_str_done) struct mlc_str text, back;
                struct mlc_err err = {0};

                mlc_str_init(&text, 64);
                mlc_str_init(&back, strlen(v[i][0]));
                mlc_base64_encode(MLC_BASE64_STD, v[i][0], strlen(v[i][0]), &text);
                assert_string_equal(mlc_str_cstr(&text), v[i][1]);
                assert_int_equal(
                        mlc_base64_decode(MLC_BASE64_STD, v[i][1], strlen(v[i][1]), &back, &err),
                        0);
                assert_string_equal(mlc_str_cstr(&back), v[i][0]);
        }
}

static void base64_every_length_comes_back(void **state)
{
        unsigned char in[200], out[200];

        (void)state;
        for (size_t i = 0; i < sizeof(in); i++)
                in[i] = (unsigned char)(i * 37 + 11);
        for (size_t len = 0; len <= sizeof(in); len++) {
                for (int kind = MLC_BASE64_STD; kind <= MLC_BASE64_URL; kind++) {
                        _cleanup_(mlc_str_done) struct mlc_str text, back;
                        struct mlc_err err = {0};

                        mlc_str_init(&text, 400);
                        mlc_str_init(&back, 200);
                        mlc_base64_encode((enum mlc_base64)kind, in, len, &text);
                        assert_int_equal(mlc_base64_decode((enum mlc_base64)kind,
                                                           mlc_str_cstr(&text), text.len, &back,
                                                           &err),
                                         0);
                        assert_int_equal(back.len, len);
                        assert_memory_equal(mlc_str_cstr(&back), in, len);
                        assert_true(mlc_base64_decode_exact(
                                (enum mlc_base64)kind, mlc_str_cstr(&text), text.len, out, len));
                        assert_memory_equal(out, in, len);
                        assert_false(mlc_base64_decode_exact((enum mlc_base64)kind,
                                                             mlc_str_cstr(&text), text.len, out,
                                                             len + 1));
                }
        }
}

static void base64_refuses(void **state)
{
        static const struct {
                enum mlc_base64 kind;
                const char *text;
        } v[] = {
                {MLC_BASE64_STD, "Zg"},     {MLC_BASE64_STD, "Zg="},   {MLC_BASE64_STD, "Zh=="},
                {MLC_BASE64_STD, "Zm9="},   {MLC_BASE64_STD, "Z==="},  {MLC_BASE64_STD, "===="},
                {MLC_BASE64_STD, "Zm9v\n"}, {MLC_BASE64_STD, "Zm 9v"}, {MLC_BASE64_STD, "Zg==Zg=="},
                {MLC_BASE64_STD, "-_-_"},   {MLC_BASE64_URL, "Zg=="},  {MLC_BASE64_URL, "+/+/"},
                {MLC_BASE64_URL, "Z"},      {MLC_BASE64_URL, "Zh"},    {MLC_BASE64_STD, "Zm9\xc3"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(mlc_str_done) struct mlc_str out;
                struct mlc_err err = {0};

                mlc_str_init(&out, 64);
                assert_int_equal(
                        mlc_base64_decode(v[i].kind, v[i].text, strlen(v[i].text), &out, &err),
                        MLC_E_INVALID);
                assert_int_equal(out.len, 0);
        }
}

static void base64_keeps_its_limit(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str out;
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&out, 2);
        assert_int_equal(mlc_base64_decode(MLC_BASE64_STD, "Zm9v", 4, &out, &err), MLC_E_LIMIT);
        assert_int_equal(out.len, 0);
}

static void utf8_validity(void **state)
{
        static const char *const good[] = {"",
                                           "a",
                                           "\xc2\x80",
                                           "\xe0\xa0\x80",
                                           "\xed\x9f\xbf",
                                           "\xee\x80\x80",
                                           "\xf0\x90\x80\x80",
                                           "\xf4\x8f\xbf\xbf"};
        static const char *const bad[] = {"\x80",
                                          "\xc0\x80",
                                          "\xc1\xbf",
                                          "\xe0\x9f\xbf",
                                          "\xed\xa0\x80",
                                          "\xed\xbf\xbf",
                                          "\xe2\x82",
                                          "\xf0\x8f\xbf\xbf",
                                          "\xf4\x90\x80\x80",
                                          "\xf5\x80\x80\x80",
                                          "\xff",
                                          "a\xc3",
                                          "\xc3(",
                                          "\xf8\x88\x80\x80\x80"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(good); i++)
                assert_true(mlc_utf8_valid(good[i], strlen(good[i])));
        for (size_t i = 0; i < ARRAY_LEN(bad); i++)
                assert_false(mlc_utf8_valid(bad[i], strlen(bad[i])));
}

static void utf8_display_is_safe(void **state)
{
        static const char *const v[][2] = {
                {"plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x82",
                 "plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x82"},
                {"\x1b[31mred", "\\u{1B}[31mred"},
                {"a\tb\nc\rd", "a\\tb\\nc\\u{D}d"},
                {"\xc2\x9b"
                 "31m",
                 "\\u{9B}31m"},
                {"user\xe2\x80\xaexe.txt", "user\\u{202E}xe.txt"},
                {"\xe2\x81\xa6x\xe2\x81\xa9", "\\u{2066}x\\u{2069}"},
                {"zero\xe2\x80\x8bwidth", "zero\\u{200B}width"},
                {"C:\\u{1B}", "C:\\\\u{1B}"},
                {"\xff\xc3", "\\xFF\\xC3"},
                {"\x7f", "\\u{7F}"},
                {"\xf3\xa0\x81\x81", "\\u{E0041}"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(mlc_str_done) struct mlc_str s;

                mlc_str_init(&s, 256);
                mlc_utf8_escape_display(v[i][0], strlen(v[i][0]), &s);
                assert_string_equal(mlc_str_cstr(&s), v[i][1]);
        }
}

static void digests(void **state)
{
        static const char text[] =
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        static const char *const bad[] = {
                "",
                "sha256:",
                "sha256:E3B0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha512:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
                "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b8555",
                " sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        };
        struct mlc_digest d, e;
        struct mlc_err err = {0};
        char back[MLC_DIGEST_STR];

        (void)state;
        assert_int_equal(mlc_digest_parse(text, &d, &err), 0);
        mlc_digest_format(&d, back);
        assert_string_equal(back, text);
        e = d;
        assert_true(mlc_digest_equal(&d, &e));
        e.b[31] ^= 1;
        assert_false(mlc_digest_equal(&d, &e));
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                mlc_err_clear(&err);
                assert_int_equal(mlc_digest_parse(bad[i], &d, &err), MLC_E_INVALID);
        }
        mlc_digest_format(&d, back);
        assert_string_equal(back, text);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(hex_is_strict),
                cmocka_unit_test(base64_vectors),
                cmocka_unit_test(base64_every_length_comes_back),
                cmocka_unit_test(base64_refuses),
                cmocka_unit_test(base64_keeps_its_limit),
                cmocka_unit_test(utf8_validity),
                cmocka_unit_test(utf8_display_is_safe),
                cmocka_unit_test(digests),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
