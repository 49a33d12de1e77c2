/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/path.h"

static void accepts_plain_paths(void **state)
{
        static const char *const GOOD[] = {
                "a",
                "model.safetensors",
                "dir/sub/file.bin",
                "...",
                "..a/b..",
                ".hidden",
                "sp ace/per%cent",
                "caf\xc3\xa9/\xe6\xa8\xa1\xe5\x9e\x8b.bin",
                "\xf0\x9f\x98\x80",
                "C:",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(GOOD); i++) {
                struct mlc_err err = {0};

                assert_int_equal(mlc_path_check(GOOD[i], &err), 0);
                assert_int_equal(err.code, 0);
        }
}

static void refuses_bad_paths_with_the_reason(void **state)
{
        static const struct {
                const char *path, *reason;
        } BAD[] = {
                {"", "empty"},
                {"/", "absolute"},
                {"/etc/passwd", "absolute"},
                {"..", "'.' or '..'"},
                {".", "'.' or '..'"},
                {"./a", "'.' or '..'"},
                {"a/./b", "'.' or '..'"},
                {"a/../b", "'.' or '..'"},
                {"a/..", "'.' or '..'"},
                {"a//b", "empty component"},
                {"a/", "empty component"},
                {"a\\b", "backslash"},
                {"..\\a", "backslash"},
                {"a\nb", "control"},
                {"a\x1b[31m", "control"},
                {"a\x7f", "control"},
                {"a\xc2\x85z", "control"},
                {"\xff", "UTF-8"},
                {"\xc0\xae\xc0\xae/a", "UTF-8"}, /* overlong ".." */
                {"\xe0\x80\xaf", "UTF-8"},
                {"\xed\xa0\x80", "UTF-8"}, /* surrogate */
                {"\xf4\x90\x80\x80", "UTF-8"},
                {"\xf0\x80\x80\xaf", "UTF-8"},
                {"a\xe2\x82", "UTF-8"},
                {"\x80", "UTF-8"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
                struct mlc_err err = {0};

                assert_int_equal(mlc_path_check(BAD[i].path, &err), MLC_E_INVALID);
                assert_non_null(strstr(err.msg, BAD[i].reason));
                for (const char *p = err.msg; *p != '\0'; p++) /* never raw bytes from outside */
                        assert_true(*p >= 0x20 && *p < 0x7f);
        }
}

static void limits_length_and_depth(void **state)
{
        char path[MLC_PATH_MAX + 2];
        struct mlc_err err = {0};

        (void)state;
        memset(path, 'a', sizeof(path));
        for (size_t i = 100; i < MLC_PATH_MAX; i += 100)
                path[i] = '/';
        path[MLC_PATH_MAX] = '\0';
        assert_int_equal(mlc_path_check(path, &err), 0);
        path[MLC_PATH_MAX] = 'a';
        path[MLC_PATH_MAX + 1] = '\0';
        assert_int_equal(mlc_path_check(path, &err), MLC_E_INVALID);
        assert_non_null(strstr(err.msg, "4096"));

        mlc_err_clear(&err);
        for (size_t i = 0; i < (size_t)2 * MLC_PATH_DEPTH_MAX; i++)
                path[i] = i % 2 == 0 ? 'a' : '/';
        path[2 * MLC_PATH_DEPTH_MAX - 1] = '\0';
        assert_int_equal(mlc_path_check(path, &err), 0);
        memcpy(path + 2 * MLC_PATH_DEPTH_MAX - 1, "/a", 3);
        assert_int_equal(mlc_path_check(path, &err), MLC_E_INVALID);
        assert_non_null(strstr(err.msg, "deep"));

        mlc_err_clear(&err);
        memset(path, 'a', 256);
        path[256] = '\0';
        assert_int_equal(mlc_path_check(path, &err), MLC_E_INVALID);
        path[255] = '\0';
        mlc_err_clear(&err);
        assert_int_equal(mlc_path_check(path, &err), 0);
}

static void folds_case(void **state)
{
        static const struct {
                const char *path, *key;
        } ROWS[] = {
                {"Model/README.md", "model/readme.md"},
                {"\xc3\x89t\xc3\xa9", "\xc3\xa9t\xc3\xa9"}, /* É */
                {"\xc3\x97", "\xc3\x97"}, /* multiplication sign has no case */
                {"\xc5\xb9\xc4\x80\xc5\x81", "\xc5\xba\xc4\x81\xc5\x82"}, /* Ź Ā Ł */
                {"\xc5\xb8", "\xc3\xbf"}, /* Ÿ */
                {"\xc5\xbf", "s"}, /* long s */
                {"\xce\xa3\xcf\x82", "\xcf\x83\xcf\x83"}, /* Σς */
                {"\xce\x86\xce\x8f", "\xce\xac\xcf\x8e"}, /* Ά Ώ */
                {"\xd0\x9f\xd0\x81", "\xd0\xbf\xd1\x91"}, /* П Ё */
                {"\xe6\xa8\xa1", "\xe6\xa8\xa1"},
        };
        char key[64];

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                mlc_path_fold(ROWS[i].path, key);
                assert_string_equal(key, ROWS[i].key);
        }
}

static void escapes_for_messages(void **state)
{
        char out[12];

        (void)state;
        mlc_text_escape("a\x1b\\b", 4, out, sizeof(out));
        assert_string_equal(out, "a\\x1b\\x5cb");
        mlc_text_escape("\x01\x02\x03\x04", 4, out, sizeof(out));
        assert_string_equal(out, "\\x01\\x02"); /* cut between characters */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(accepts_plain_paths),
                cmocka_unit_test(refuses_bad_paths_with_the_reason),
                cmocka_unit_test(limits_length_and_depth),
                cmocka_unit_test(folds_case),
                cmocka_unit_test(escapes_for_messages),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
