/* SPDX-License-Identifier: Apache-2.0 */
/* Real files, made by the libraries themselves (data/make.py), through the inspector. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "format/format.h"

#define DATA MLC_SOURCE_DIR "/tests/unit/format/data/"

static struct mlc_arena arena;

static int setup(void **state)
{
        (void)state;
        mlc_arena_init(&arena, MLC_FORMAT_ARENA_MIN);
        return 0;
}

static int teardown(void **state)
{
        (void)state;
        mlc_arena_done(&arena);
        return 0;
}

static struct mlc_format_info inspect_as(const char *file, const char *as)
{
        _cleanup_(close_fd) int fd = -1;
        struct mlc_format_info info;
        struct mlc_err err = {0};
        struct mlc_reader r;
        char path[512];

        (void)snprintf(path, sizeof(path), DATA "%s", file);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0);
        assert_int_equal(mlc_reader_fd(&r, &fd, &err), 0);
        assert_int_equal(mlc_format_inspect(&r, as, &arena, &info, &err), 0);
        return info;
}

static struct mlc_format_info inspect(const char *file)
{
        return inspect_as(file, file);
}

static void formats_and_verdicts(void **state)
{
        static const struct {
                const char *file, *format, *precision;
                enum mlc_format_safety safety;
                uint64_t n_tensors, n_parameters;
        } ROWS[] = {
                {"small.safetensors", "safetensors", "float16,float32,int64", MLC_SAFETY_NO_CODE, 3,
                 10},
                {"small.gguf", "gguf", "float16,float32", MLC_SAFETY_NO_CODE, 2, 133},
                {"small.onnx", "onnx", "float32", MLC_SAFETY_NO_CODE, 1, 6},
                {"external.onnx", "onnx", "float32", MLC_SAFETY_NO_CODE, 1, 6},
                {"floats.npy", "npy", "float32", MLC_SAFETY_NO_CODE, 1, 6},
                {"structured.npy", "npy", NULL, MLC_SAFETY_NO_CODE, 1, 2},
                {"objects.npy", "npy", NULL, MLC_SAFETY_ALLOWED, 1, 2},
                {"two.npz", "npz", "float64,int64", MLC_SAFETY_NO_CODE, 2, 7},
                {"packed.npz", "npz", "float64", MLC_SAFETY_NO_CODE, 1, 300},
                {"zip.pt", "pytorch", "float32", MLC_SAFETY_ALLOWED, 0, 4},
                {"old.pt", "pytorch", "float32", MLC_SAFETY_ALLOWED, 0, 4},
                {"plain_p4.pkl", "pickle", NULL, MLC_SAFETY_ALLOWED, 0, 0},
                {"ordered_p2.pkl", "pickle", NULL, MLC_SAFETY_ALLOWED, 0, 0},
                {"numpy_p5.pkl", "pickle", NULL, MLC_SAFETY_ALLOWED, 0, 0},
                {"array.joblib", "joblib", NULL, MLC_SAFETY_ALLOWED, 0, 0},
                {"sklearn.joblib", "joblib", NULL, MLC_SAFETY_UNSAFE, 0, 0},
                {"objects.joblib", "joblib", NULL, MLC_SAFETY_UNSAFE, 0, 0},
                {"compressed.joblib", "zlib", NULL, MLC_SAFETY_NOT_VERIFIED, 0, 0},
                {"sklearn_p0.pkl", "pickle", NULL, MLC_SAFETY_UNSAFE, 0, 0},
                {"sklearn_p4.pkl", "pickle", NULL, MLC_SAFETY_UNSAFE, 0, 0},
                {"lambda.keras", "keras", NULL, MLC_SAFETY_UNSAFE, 0, 0},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                struct mlc_format_info info = inspect(ROWS[i].file);

                if (ROWS[i].safety != info.safety || !mlc_streq(ROWS[i].format, info.format) ||
                    !mlc_streq(ROWS[i].precision, info.precision))
                        fail_msg("%s: %s, %s, %s; %s; %s", ROWS[i].file, info.format,
                                 mlc_format_safety_name(info.safety),
                                 info.precision != NULL ? info.precision : "-",
                                 info.malformed != NULL ? info.malformed : "-",
                                 info.unverified != NULL ? info.unverified : "-");
                assert_int_equal(info.n_tensors, ROWS[i].n_tensors);
                assert_int_equal(info.n_parameters, ROWS[i].n_parameters);
                assert_null(info.mismatch);
        }
}

/* Pickles that need only what their maker's library offers pass once those imports are allowed. */
static void a_longer_list_allows_sklearn(void **state)
{
        static const char *const ALLOW[] = {
                "sklearn.pipeline.Pipeline",
                "sklearn.preprocessing._data.StandardScaler",
                "sklearn.preprocessing._label.LabelEncoder",
                "sklearn.linear_model._logistic.LogisticRegression",
                "numpy._core.multiarray.scalar",
                "_codecs.encode",
                "copy_reg._reconstructor",
                "__builtin__.object",
        };
        static const char *const FILES[] = {"sklearn_p0.pkl", "sklearn_p2.pkl", "sklearn_p4.pkl",
                                            "sklearn_p5.pkl", "sklearn.joblib", "objects.joblib"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
                struct mlc_format_info info = inspect(FILES[i]);

                if (info.malformed != NULL || info.unverified != NULL)
                        fail_msg("%s: %s %s", FILES[i], info.malformed, info.unverified);
                assert_int_equal(info.safety, MLC_SAFETY_UNSAFE);
                assert_int_equal(mlc_format_judge(&info, ALLOW, ARRAY_LEN(ALLOW)),
                                 MLC_SAFETY_ALLOWED);
                assert_int_equal(mlc_format_judge(&info, ALLOW + 1, ARRAY_LEN(ALLOW) - 1),
                                 i == 5 ? MLC_SAFETY_ALLOWED : MLC_SAFETY_UNSAFE);
        }
}

/* data/expected.txt is what Python's own pickletools finds in the same files. */
static void imports_agree_with_pickletools(void **state)
{
        static const char *const FILES[] = {"numpy_p5.pkl",   "ordered_p2.pkl", "plain_p4.pkl",
                                            "sklearn_p0.pkl", "sklearn_p2.pkl", "sklearn_p4.pkl",
                                            "sklearn_p5.pkl"};
        _cleanup_(free_p) char *expected = NULL;
        _cleanup_(mlc_str_done) struct mlc_str found = {0};
        struct mlc_err err = {0};
        size_t len;

        (void)state;
        assert_int_equal(mlc_read_file(DATA "expected.txt", 65536, &expected, &len, &err), 0);
        mlc_str_init(&found, 65536);
        for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
                struct mlc_format_info info = inspect(FILES[i]);

                for (size_t k = 0; k < info.n_imports; k++)
                        mlc_str_addf(&found, "%s %s %s\n", FILES[i], info.imports[k].module,
                                     info.imports[k].name);
        }
        assert_string_equal(mlc_str_cstr(&found), expected);
}

static void says_what_is_inside(void **state)
{
        struct mlc_format_info info = inspect("small.onnx");

        (void)state;
        assert_string_equal(info.name, "tiny");
        assert_int_equal(info.n_inputs, 1);
        assert_string_equal(info.inputs[0].name, "x");
        assert_string_equal(info.inputs[0].dtype, "FP32");
        assert_int_equal(info.inputs[0].n_dims, 2);
        assert_int_equal(info.inputs[0].dims[0], -1);
        assert_int_equal(info.inputs[0].dims[1], 3);
        assert_int_equal(info.n_outputs, 1);
        assert_string_equal(info.tensors[0].dtype, "FLOAT");
        assert_string_equal(info.meta[1].key, "producer_name");
        assert_string_equal(info.meta[1].value, "mlctl-test");
        assert_int_equal(info.n_notes, 0);

        info = inspect("external.onnx");
        assert_int_equal(info.n_external, 1);
        assert_string_equal(info.external[0].location, "weights/w.bin");
        assert_int_equal(info.external[0].end, 40);
        assert_int_equal(info.n_notes, 1);
        assert_non_null(strstr(info.notes[0], "com.example"));

        info = inspect("small.gguf");
        assert_string_equal(info.architecture, "llama");
        assert_string_equal(info.name, "tiny");
        assert_string_equal(info.license, "apache-2.0");
        assert_int_equal(info.n_notes, 1);
        assert_int_equal(info.data_offset % 32, 0);

        info = inspect("small.safetensors");
        assert_string_equal(info.meta[0].key, "format");
        assert_string_equal(info.meta[0].value, "np");

        info = inspect("structured.npy");
        assert_string_equal(info.tensors[0].dtype, "[('a', '<i4'), ('b', '<f8', (2,))]");
}

static void content_wins_over_the_name(void **state)
{
        struct mlc_format_info info = inspect_as("sklearn_p4.pkl", "model.safetensors");

        (void)state;
        assert_string_equal(info.format, "pickle");
        assert_string_equal(info.mismatch, "safetensors");
        assert_int_equal(info.safety, MLC_SAFETY_UNSAFE);
        info = inspect_as("sklearn_p0.pkl", "weights.dat"); /* no magic, no promise */
        assert_string_equal(info.format, "pickle");
        assert_int_equal(info.safety, MLC_SAFETY_UNSAFE);
        info = inspect_as("sklearn_p2.pkl", "LICENSE");
        assert_int_equal(info.safety, MLC_SAFETY_UNSAFE);
        info = inspect_as("zip.pt", "x/y.GGUF");
        assert_string_equal(info.mismatch, "gguf");
        info = inspect_as("make.py", "make.py");
        assert_string_equal(info.format, "unknown");
        assert_int_equal(info.safety, MLC_SAFETY_NOT_VERIFIED);
}

/* Cut at any byte: an answer, and never a good one. */
static void a_cut_file_never_passes(void **state)
{
        static const char *const FILES[] = {"sklearn_p4.pkl",    "sklearn.joblib", "zip.pt",
                                            "small.safetensors", "small.gguf",     "two.npz"};
        struct mlc_err err = {0};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
                _cleanup_(free_p) char *data = NULL;
                char path[512];
                size_t len;

                (void)snprintf(path, sizeof(path), DATA "%s", FILES[i]);
                assert_int_equal(mlc_read_file(path, 65536, &data, &len, &err), 0);
                if (mlc_streq(FILES[i], "small.gguf"))
                        len -= 22; /* padding behind the last tensor may be missing */
                for (size_t cut = 0; cut < len; cut++) {
                        struct mlc_format_info info;
                        struct mlc_reader r;
                        struct mlc_arena a;

                        mlc_arena_init(&a, MLC_FORMAT_ARENA_MIN);
                        mlc_reader_mem(&r, data, cut);
                        assert_int_equal(mlc_format_inspect(&r, FILES[i], &a, &info, &err), 0);
                        if (info.safety != MLC_SAFETY_UNSAFE &&
                            info.safety != MLC_SAFETY_NOT_VERIFIED)
                                fail_msg("%s cut at %zu: %s", FILES[i], cut,
                                         mlc_format_safety_name(info.safety));
                        mlc_arena_done(&a);
                }
        }
}

static int broken_pread(void *userdata, void *buf, size_t len, uint64_t off, struct mlc_err *err)
{
        (void)userdata;
        (void)buf;
        (void)len;
        (void)off;
        return mlc_fail(err, MLC_E_IO, "disk gone");
}

static void only_io_fails(void **state)
{
        struct mlc_reader r = {.pread = broken_pread, .size = 100};
        struct mlc_format_info info = {.format = "untouched"};
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_format_inspect(&r, "", &arena, &info, &err), MLC_E_IO);
        assert_string_equal(info.format, "untouched");
        assert_string_equal(err.msg, "disk gone");
}

static void allows_exact_pairs_only(void **state)
{
        static const char *const ALLOW[] = {"a.b.C"};

        (void)state;
        assert_true(mlc_format_import_allowed("a.b", "C", ALLOW, 1));
        assert_false(mlc_format_import_allowed("a", "b.C", ALLOW, 1));
        assert_false(mlc_format_import_allowed("a.b", "CC", ALLOW, 1));
        assert_false(mlc_format_import_allowed("a.b.C", "", ALLOW, 1));
        assert_false(mlc_format_import_allowed("collections", "OrderedDict.fromkeys", NULL, 0));
        assert_true(mlc_format_import_allowed("collections", "OrderedDict", NULL, 0));
        assert_false(mlc_format_import_allowed("os", "system", NULL, 0));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(formats_and_verdicts, setup, teardown),
                cmocka_unit_test_setup_teardown(a_longer_list_allows_sklearn, setup, teardown),
                cmocka_unit_test_setup_teardown(imports_agree_with_pickletools, setup, teardown),
                cmocka_unit_test_setup_teardown(says_what_is_inside, setup, teardown),
                cmocka_unit_test_setup_teardown(content_wins_over_the_name, setup, teardown),
                cmocka_unit_test_setup_teardown(a_cut_file_never_passes, setup, teardown),
                cmocka_unit_test_setup_teardown(only_io_fails, setup, teardown),
                cmocka_unit_test(allows_exact_pairs_only),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
