/* SPDX-License-Identifier: Apache-2.0 */
/* Chunk ranges, digests, tags and media types as the OCI distribution API reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/arena.h"
#include "doors/oci/oci_internal.h"

static void chunk_ranges(void **unused)
{
        static const char *const bad[] = {"",           "-",
                                          "1",          "1-",
                                          "-1",         "2-1",
                                          "1-2-3",      " 1-2",
                                          "bytes 0-99", "bytes=0-99",
                                          "0-1/2",      "a-b",
                                          "+1-2",       "0-18446744073709551615"};
        uint64_t first = 7, last = 7;

        (void)unused;
        assert_true(oci_chunk_range("0-0", &first, &last));
        assert_int_equal(first, 0);
        assert_int_equal(last, 0);
        assert_true(oci_chunk_range("1024-2047", &first, &last));
        assert_int_equal(first, 1024);
        assert_int_equal(last, 2047);
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_false(oci_chunk_range(bad[i], &first, &last));
        assert_int_equal(first, 1024);
}

#define HEX64 "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

static void digests(void **unused)
{
        static const struct {
                const char *text;
                enum oci_digest kind;
        } t[] = {
                {"sha256:" HEX64, OCI_DIGEST_SHA256},
                {"sha512:" HEX64 HEX64, OCI_DIGEST_OTHER},
                {"blake3:" HEX64, OCI_DIGEST_OTHER},
                {"sha256+b64u:LCa0a2j_xo_5m0U8HTBBNBNCLXBkg7-g-YpeiGJm564", OCI_DIGEST_OTHER},
                {"sha256:baddigeststring", OCI_DIGEST_MALFORMED},
                {"sha256:" HEX64 "0", OCI_DIGEST_MALFORMED},
                {"sha512:" HEX64, OCI_DIGEST_MALFORMED},
                {"sha256:44136FA355B3678A1146AD16F7E8649E94FB4FC21FE77E8310C060F61CAAFF8A",
                 OCI_DIGEST_MALFORMED},
                {"sha256:", OCI_DIGEST_MALFORMED},
                {":" HEX64, OCI_DIGEST_MALFORMED},
                {"blake3:", OCI_DIGEST_MALFORMED},
                {"blake3:a/b", OCI_DIGEST_MALFORMED},
                {"SHA1:abc", OCI_DIGEST_MALFORMED},
                {HEX64, OCI_DIGEST_MALFORMED},
                {"", OCI_DIGEST_MALFORMED},
        };

        (void)unused;
        for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
                assert_int_equal(oci_digest_kind(t[i].text), t[i].kind);
}

static void digest_errors_name_their_code(void **unused)
{
        static const char *const bad[] = {NULL, "sha256:x", "sha512:" HEX64 HEX64};

        (void)unused;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct mlc_ctx ctx = {0};

                assert_int_equal(oci_digest_need(&ctx, bad[i]), MLC_E_INVALID);
                assert_string_equal(ctx.err.field, "oci:DIGEST_INVALID");
        }
}

static void tags(void **unused)
{
        char text[130];

        (void)unused;
        memset(text, 'a', sizeof(text));
        text[129] = '\0';
        assert_false(oci_tag_valid(text));
        text[128] = '\0';
        assert_true(oci_tag_valid(text));
        assert_true(oci_tag_valid("_v1.0-rc_2"));
        assert_true(oci_tag_valid("V2"));
        assert_false(oci_tag_valid(""));
        assert_false(oci_tag_valid(".a"));
        assert_false(oci_tag_valid("-a"));
        assert_false(oci_tag_valid("a:b"));
        assert_false(oci_tag_valid("a/b"));
        assert_false(oci_tag_valid("\xc3\xa4"));
}

static void media_types(void **unused)
{
        struct mlc_ctx ctx = {0};

        (void)unused;
        mlc_arena_init(&ctx.arena, 4096);
        assert_null(oci_media_type(&ctx, NULL));
        assert_string_equal(oci_media_type(&ctx, "application/vnd.OCI.x+json; charset=utf-8"),
                            "application/vnd.oci.x+json");
        assert_string_equal(oci_media_type(&ctx, "text/plain"), "text/plain");
        assert_string_equal(oci_media_type(&ctx, ""), "");
        mlc_arena_done(&ctx.arena);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(chunk_ranges),
                cmocka_unit_test(digests),
                cmocka_unit_test(digest_errors_name_their_code),
                cmocka_unit_test(tags),
                cmocka_unit_test(media_types),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
