/* SPDX-License-Identifier: Apache-2.0 */
/* Hand-made pickles: how imports hide, and what must block. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "format/format.h"

struct row {
        const char *bytes;
        size_t len;
        enum mlc_format_safety safety;
        const char *import; /* "module name" of the last one, NULL: none */
        const char *reason; /* part of malformed or unverified */
};

#define P(text) text, sizeof(text) - 1

static void check(const struct row *rows, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                struct mlc_format_info info;
                struct mlc_arena a;
                struct mlc_reader r;
                struct mlc_err err = {0};
                char last[256] = "";
                const char *why;

                mlc_arena_init(&a, MLC_FORMAT_ARENA_MIN);
                mlc_reader_mem(&r, rows[i].bytes, rows[i].len);
                assert_int_equal(mlc_format_inspect(&r, "m.pkl", &a, &info, &err), 0);
                why = info.malformed != NULL ? info.malformed : info.unverified;
                if (info.safety != rows[i].safety)
                        fail_msg("row %zu: %s, %s", i, mlc_format_safety_name(info.safety),
                                 why != NULL ? why : "-");
                if (info.n_imports > 0)
                        (void)snprintf(last, sizeof(last), "%s %s",
                                       info.imports[info.n_imports - 1].module,
                                       info.imports[info.n_imports - 1].name);
                assert_string_equal(last, rows[i].import != NULL ? rows[i].import : "");
                if (rows[i].reason == NULL)
                        assert_null(why);
                else if (why == NULL || strstr(why, rows[i].reason) == NULL)
                        fail_msg("row %zu: %s", i, why != NULL ? why : "no reason");
                mlc_arena_done(&a);
        }
}

#define SAFE MLC_SAFETY_ALLOWED
#define BAD MLC_SAFETY_UNSAFE
#define OPEN MLC_SAFETY_NOT_VERIFIED

static void finds_imports_wherever_they_hide(void **state)
{
        static const struct row ROWS[] = {
                {P("\x80\x02N."), SAFE, NULL, NULL},
                {P("\x80\x02"
                   "cos\nsystem\nX\x02\0\0\0id\x85R."),
                 BAD, "os system", NULL},
                {P("cos\nsystem\n(S'id'\ntR."), BAD, "os system", NULL},
                {P("(S'id'\nios\nsystem\n."), BAD, "os system", NULL},
                {P("(cos\nsystem\nS'id'\no."), BAD, "os system", NULL},
                {P("\x80\x04\x8c\x02os\x8c\x06system\x93."), BAD, "os system", NULL},
                /* the strings come through the memo, in the wrong order first */
                {P("\x80\x04\x8c\x06system\x94\x8c\x02os\x94"
                   "00h\1h\0\x93."),
                 BAD, "os system", NULL},
                /* through DUP and POP, with a decoy next to the opcode */
                {P("\x80\x04\x8c\x02os\x8c\x06system\x8c\x07"
                   "collect0\x93."),
                 BAD, "os system", NULL},
                {P("\x80\x04\x8c\x03sys2\x93."), BAD, "sys sys", NULL},
                /* memo by BINPUT, which MEMOIZE counts */
                {P("\x80\x04\x8c\x02osq\0"
                   "0\x8c\x06system\x94"
                   "0h\0h\1\x93."),
                 BAD, "os system", NULL},
                {P("\x80\x02X\x02\0\0\0osX\x06\0\0\0system\x93."), BAD, "os system", NULL},
                {P("Vos\nVsystem\n\x93."), BAD, "os system", NULL},
                /* dotted names reach through an allowed module */
                {P("\x80\x04\x8c\x0b"
                   "collections\x8c\x0fOrderedDict.pop\x93."),
                 BAD, "collections OrderedDict.pop", NULL},
                {P("\x80\x02"
                   "ccollections\nOrderedDict\n)R."),
                 SAFE, "collections OrderedDict", NULL},
                /* a second pickle after the first */
                {P("\x80\x02N.\x80\x02"
                   "cos\nsystem\n."),
                 BAD, "os system", NULL},
        };

        (void)state;
        check(ROWS, ARRAY_LEN(ROWS));
}

static void blocks_what_is_malformed(void **state)
{
        static const struct row ROWS[] = {
                {P("\x80\x02"), BAD, NULL, "0 left"},
                {P("\x80\x02N"), BAD, NULL, "0 left"},
                {P("\x80\x02."), BAD, NULL, "stack underflow"},
                {P("\x80\x02(."), BAD, NULL, "a mark where"},
                {P("\x80\x02R."), BAD, NULL, "stack underflow"},
                {P("\x80\x02)t."), BAD, NULL, "no mark"},
                {P("\x80\x02N\xff."), BAD, NULL, "unknown opcode 0xff"},
                {P("\x80\x06N."), BAD, NULL, "protocol above 5"},
                {P("\x80\x02h\5."), BAD, NULL, "memo entry"},
                {P("\x80\x02\x82\1."), BAD, NULL, "extension registry"},
                {P("\x80\x02\x83\1\0."), BAD, NULL, "extension registry"},
                {P("\x80\x02\x84\1\0\0\0."), BAD, NULL, "extension registry"},
                {P("\x80\x02X\xff\xff\xff\xff"
                   "a."),
                 BAD, NULL, "bytes needed"},
                {P("\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\xff."), BAD, NULL, "bytes needed"},
                {P("\x80\x04\x95\xff\0\0\0\0\0\0\0N."), BAD, NULL, "frame"},
                {P("\x80\x04K\1K\2\x93."), BAD, NULL, "not a constant string"},
                {P("\x80\x04\x8c\2os}\x93."), BAD, NULL, "not a constant string"},
                {P("Vo\\u0073\nVsystem\n\x93."), BAD, NULL, "not a constant string"},
                {P("S'os\nN."), BAD, NULL, "without quotes"},
                {P("\x80\x02}(Nu."), BAD, NULL, "key without value"},
                {P("\x80\x02NN)R."), BAD, NULL, "call of something"},
                {P("\x80\x02N)\x81."), BAD, NULL, "object of something"},
                {P("\x80\x02"
                   "ccollections\nOrderedDict\n}b."),
                 BAD, "collections OrderedDict", "state set on an import"},
                {P("c\n\n."), BAD, NULL, "empty or overlong"},
                {P("Pabc\n."), BAD, NULL, "persistent id"},
                {P("\x80\x02K\1Q."), BAD, NULL, "persistent id"},
                {P("\x80\x02(X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0"
                   "0X\3\0\0\0cpuK\4tQ."),
                 SAFE, "torch FloatStorage", NULL},
                {P("\x80\x02(X\7\0\0\0moduleXctorch\nFloatStorage\nX\1\0\0\0"
                   "0X\3\0\0\0cpuK\4tQ."),
                 BAD, "torch FloatStorage", "persistent id"},
        };

        (void)state;
        check(ROWS, ARRAY_LEN(ROWS));
}

static void never_calls_the_unread_safe(void **state)
{
        static const struct row ROWS[] = {
                {P("\x80\x02N.raw bytes"), OPEN, NULL, "after the last pickle"},
                {P("\x80\x03"
                   "C\5\x80\2NN.."),
                 OPEN, NULL, "look like a pickle"},
                {P("\x80\x03"
                   "C\5abcde."),
                 SAFE, NULL, NULL},
        };

        (void)state;
        check(ROWS, ARRAY_LEN(ROWS));
}

#define WRAPPER "\x80\x04\x8c\x13joblib.numpy_pickle\x8c\x11NumpyArrayWrapper\x93"
#define DTYPE(letters, flags)                                                                      \
        "\x8c\x05"                                                                                 \
        "dtype\x8c\x05numpy\x8c\x05"                                                               \
        "dtype\x93\x8c\x02" letters "\x89\x88\x87R(K\3\x8c"                                        \
        "\1<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK" flags "tb"
#define STATE(letters, flags, alignment)                                                           \
        "}(\x8c\x05shapeK\2\x85" DTYPE(                                                            \
                letters, flags) "\x8c\x1bnumpy_array_alignment_bytesK" alignment "ub"

static void joblib_arrays_leave_no_gap(void **state)
{
        static const char DATA[] = WRAPPER ")\x81" STATE("i2", "\0", "\x10") "\1\xff"
                                                                             "cos\n.";
        static const struct row ROWS[] = {
                {DATA, sizeof(DATA) - 1, SAFE, "numpy dtype", NULL},
                /* a padding byte that pickle.load would take for GLOBAL */
                {P(WRAPPER ")\x81" STATE("i2", "\0", "\x10") "cos\nsystem\n."), BAD, "numpy dtype",
                 "padding"},
                /* flags that make numbers into objects */
                {P(WRAPPER ")\x81" STATE("i2", "\1", "\x10") "\1\xff"
                                                             "abcd."),
                 OPEN, "numpy dtype", "not of a plain kind"},
                /* no padding: two readings of the same bytes */
                {P(WRAPPER ")\x81}(\x8c\x05shapeK\2\x85" DTYPE("i2", "\0") "ub"
                                                                           "abcd."),
                 OPEN, "numpy dtype", "not of a plain kind"},
                {P(WRAPPER ")\x81" STATE("V2", "\0", "\x10") "\1\xff"
                                                             "abcd."),
                 OPEN, "numpy dtype", "not of a plain kind"},
                /* the class gets out of sight */
                {P(WRAPPER "\x85."), OPEN, "joblib.numpy_pickle NumpyArrayWrapper", "passed on"},
                {P(WRAPPER ")R."), OPEN, "joblib.numpy_pickle NumpyArrayWrapper", "passed on"},
                {P(WRAPPER ")\x81" STATE("i2", "\0", "\x10") "\1\xff"
                                                             "abc"),
                 BAD, "numpy dtype", "bytes needed"},
                /* an array of objects is a pickle of its own, and is walked */
                {P(WRAPPER ")\x81" STATE("O8", "?", "\x10") "\x80\4cos\nsystem\n.."), BAD,
                 "os system", NULL},
        };

        (void)state;
        check(ROWS, ARRAY_LEN(ROWS));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(finds_imports_wherever_they_hide),
                cmocka_unit_test(blocks_what_is_malformed),
                cmocka_unit_test(never_calls_the_unread_safe),
                cmocka_unit_test(joblib_arrays_leave_no_gap),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
