/* SPDX-License-Identifier: Apache-2.0 */
/* Hand-made bytes for each check of each format, with the reason that must be given. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "format/format.h"

/* reason NULL: the file is fine. */
static void expect(const char *path, const void *data, size_t len, const char *reason, size_t row)
{
        struct mlc_format_info info;
        struct mlc_arena a;
        struct mlc_reader r;
        struct mlc_err err = {0};

        mlc_arena_init(&a, MLC_FORMAT_ARENA_MIN);
        mlc_reader_mem(&r, data, len);
        assert_int_equal(mlc_format_inspect(&r, path, &a, &info, &err), 0);
        if (reason == NULL && (info.malformed != NULL || info.unverified != NULL))
                fail_msg("%s row %zu: %s", path, row,
                         info.malformed != NULL ? info.malformed : info.unverified);
        if (reason != NULL && (info.malformed == NULL || strstr(info.malformed, reason) == NULL))
                fail_msg("%s row %zu: '%s', '%s' expected", path, row,
                         info.malformed != NULL ? info.malformed : "fine", reason);
        if (reason != NULL)
                assert_int_equal(info.safety, MLC_SAFETY_UNSAFE);
        mlc_arena_done(&a);
}

static void le(struct mlc_str *s, unsigned bytes, uint64_t v)
{
        for (unsigned i = 0; i < bytes; i++)
                mlc_str_addc(s, (char)(v >> 8 * i));
}

static void zeros(struct mlc_str *s, size_t n)
{
        while (n-- > 0)
                mlc_str_addc(s, '\0');
}

static const struct {
        const char *header;
        size_t data;
        const char *reason;
} SAFETENSORS[] = {
        {"{}", 0, NULL},
        {"{}   ", 0, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]}}", 4, NULL},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[0,9],\"data_offsets\":[0,0]}}", 0, NULL},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[2],\"data_offsets\":[0,1]}}", 1, NULL},
        {"{\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":[{\"y\":1.5}]}"
         "}",
         2, NULL},
        {"{\"__metadata__\":{\"a\":\"b\"}}", 0, NULL},
        {"{\"__metadata__\":{\"a\":1}}", 0, "'\"' expected"},
        {"{\"__metadata__\":{\"a\":\"b\",\"a\":\"c\"}}", 0, "duplicate"},
        {"{\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]},"
         "\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
         0, "duplicate"},
        {"{\"a\":{\"dtype\":\"U8\",\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0,
         "duplicate"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}", 2, "hole"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]},"
         "\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[1,3]}}",
         3, "overlap"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]}}", 2, "tensors end"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,2]}}", 1, "tensors end"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[1,0]}}", 1, "backwards"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,5]}}", 5, "do not match"},
        {"{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,1]}}", 1, "at a byte"},
        {"{\"a\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,1]}}", 1, "unknown dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],"
         "\"data_offsets\":[0,0]}}",
         0, "overflows"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[-1],\"data_offsets\":[0,1]}}", 1, "whole number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1.0],\"data_offsets\":[0,1]}}", 1, "whole number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[01],\"data_offsets\":[0,1]}}", 1, "whole number"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[99999999999999999999],"
         "\"data_offsets\":[0,1]}}",
         1, "too large"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0]}}", 1, "two numbers"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, "needs dtype"},
        {"{\"a\\u0000\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "NUL"},
        {"{\"\\ud800\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "surrogate"},
        {"{\"\xff\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}", 0, "UTF-8"},
        {"{\"a\":{\"x\":[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]}}", 0, "deeply"},
        {"{}x", 0, "after the JSON"},
        {"{", 0, "expected"},
        {" {}", 0, "does not begin"},
};

static void safetensors(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(SAFETENSORS); i++) {
                _cleanup_(mlc_str_done) struct mlc_str s = {0};

                mlc_str_init(&s, 65536);
                le(&s, 8, strlen(SAFETENSORS[i].header));
                mlc_str_add(&s, SAFETENSORS[i].header);
                zeros(&s, SAFETENSORS[i].data);
                expect("m.safetensors", s.data, s.len, SAFETENSORS[i].reason, i);
        }
        expect("m.safetensors", "\xff\xff\xff\xff\xff\xff\xff\xff{}", 10, "does not fit", 100);
        expect("m.safetensors", "\3\0\0\0\0\0\0\0{}", 10, "does not fit", 101);
}

static void npy(void **state)
{
        static const struct {
                const char *header;
                size_t data;
                const char *reason;
        } ROWS[] = {
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }   \n", 24, NULL},
                {"{'descr': '<f4', 'fortran_order': True, 'shape': (), }\n", 4, NULL},
                {"{'descr': [('a', '<i4'), (('t', 'b'), '|u1', (3,))], 'fortran_order': False, "
                 "'shape': (2,)}\n",
                 14, NULL},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 23,
                 "array needs"},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }\n", 25,
                 "array needs"},
                {"{'descr': '<f4', 'fortran_order': False}\n", 0, "are needed"},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,), 'x': 1}\n", 4, "unknown"},
                {"{'descr': '<f4', 'descr': '<f4', 'shape': (1,)}\n", 4, "duplicate"},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", 4, "line feed"},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (-1,)}\n", 4, "whole number"},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}\n", 4,
                 "more elements"},
                {"{'descr': '<f4', 'fortran_order': __import__('os'), 'shape': (1,)}\n", 4,
                 "True or"},
                {"{'descr': '<q4', 'fortran_order': False, 'shape': (1,)}\n", 4, "unknown type"},
                {"{'descr': 'a\\x41', 'fortran_order': False, 'shape': (1,)}\n", 4, "escapes"},
                {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,)} + 1\n", 4,
                 "after the dict"},
                {"{'descr': [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', "
                 "[('a', [('a', [('a', [('a', [('a', [('a', [('a', [('a', '<f4')]\n",
                 4, "deeply"},
                /* objects: the payload is a pickle, and zeros are none */
                {"{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n", 8, "unknown opcode"},
                {"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (1,)}\n", 8,
                 "unknown opcode"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                _cleanup_(mlc_str_done) struct mlc_str s = {0};

                mlc_str_init(&s, 65536);
                mlc_str_addn(&s, "\x93NUMPY\1\0", 8);
                le(&s, 2, strlen(ROWS[i].header));
                mlc_str_add(&s, ROWS[i].header);
                zeros(&s, ROWS[i].data);
                expect("m.npy", s.data, s.len, ROWS[i].reason, i);
        }
        expect("m.npy", "\x93NUMPY\4\0\0\0\0\0", 12, "version 4.0", 100);
        expect("m.npy", "\x93NUMPY\1\0\xff\xff{}", 12, "does not fit", 101);
}

/* What may be wrong with a GGUF file of one key and one tensor. */
struct gguf {
        uint32_t version;
        const char *key;
        uint32_t type; /* of the value */
        uint64_t value;
        const char *name;
        uint32_t n_dims;
        uint64_t dim;
        uint32_t tensor_type;
        uint64_t offset;
        size_t data;
        const char *reason;
};

static void gguf_text(struct mlc_str *s, const char *text)
{
        le(s, 8, strlen(text));
        mlc_str_add(s, text);
}

static void gguf(void **state)
{
        static const struct gguf ROWS[] = {
                {3, "general.x", 10, 5, "t", 1, 8, 0, 0, 32, NULL},
                {2, "general.alignment", 4, 64, "t", 1, 8, 0, 0, 32, NULL},
                {3, "general.x", 10, 5, "t", 1, 64, 2, 0, 36, NULL},
                {3, "general.x", 10, 5, "t", 1, 8, 77, 0, 0, NULL}, /* a type of the future */
                {1, "general.x", 10, 5, "t", 1, 8, 0, 0, 32, "version 1"},
                {4, "general.x", 10, 5, "t", 1, 8, 0, 0, 32, "version 4"},
                {3, "", 10, 5, "t", 1, 8, 0, 0, 32, "key is empty"},
                {3, "gen eral", 10, 5, "t", 1, 8, 0, 0, 32, "plain ASCII"},
                {3, "general.x", 13, 5, "t", 1, 8, 0, 0, 32, "unknown type 13"},
                {3, "general.alignment", 10, 32, "t", 1, 8, 0, 0, 32, "not a u32"},
                {3, "general.alignment", 4, 48, "t", 1, 8, 0, 0, 32, "power of two"},
                {3, "general.alignment", 4, 0, "t", 1, 8, 0, 0, 32, "power of two"},
                {3, "general.x", 7, 2, "t", 1, 8, 0, 0, 32, "neither 0 nor 1"},
                {3, "general.x", 8, UINT64_MAX, "t", 1, 8, 0, 0, 32, "bytes needed"},
                {3, "general.x", 10, 5, "t", 5, 8, 0, 0, 32, "5 dimensions"},
                {3, "general.x", 10, 5, "t", 1, UINT64_MAX, 0, 0, 32, "negative dimension"},
                {3, "general.x", 10, 5, "t", 2, UINT64_C(1) << 40, 0, 0, 32, "too many elements"},
                {3, "general.x", 10, 5, "t", 1, UINT64_C(1) << 62, 0, 0, 32, "too large"},
                {3, "general.x", 10, 5, "t", 1, 8, 0, 32, 64, "0 expected"},
                {3, "general.x", 10, 5, "t", 1, 8, 0, 5, 64, "not aligned"},
                {3, "general.x", 10, 5, "t", 1, 8, 0, 0, 31, "file ends before"},
                {3, "general.x", 10, 5, "t", 1, 33, 2, 0, 64, "whole blocks"},
                {3, "general.x", 10, 5,
                 "0123456789012345678901234567890123456789012345678901234567890123", 1, 8, 0, 0, 32,
                 "too long"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                static const unsigned SIZES[] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 8, 8, 8, 8, 8};
                _cleanup_(mlc_str_done) struct mlc_str s = {0};
                const struct gguf *g = &ROWS[i];
                size_t align = g->type == 4 && g->value == 64 ? 64 : 32;

                mlc_str_init(&s, 65536);
                mlc_str_add(&s, "GGUF");
                le(&s, 4, g->version);
                le(&s, 8, 1);
                le(&s, 8, 1);
                gguf_text(&s, g->key);
                le(&s, 4, g->type);
                le(&s, SIZES[g->type], g->value);
                gguf_text(&s, g->name);
                le(&s, 4, g->n_dims);
                for (uint32_t k = 0; k < g->n_dims; k++)
                        le(&s, 8, g->dim);
                le(&s, 4, g->tensor_type);
                le(&s, 8, g->offset);
                zeros(&s, (align - s.len % align) % align + g->data);
                expect("m.gguf", s.data, s.len, g->reason, i);
        }
        expect("m.gguf", "GGUF\3\0\0\0\xff\xff\xff\xff\xff\xff\xff\xff\1\0\0\0\0\0\0\0", 24,
               "too many", 100);
        expect("m.gguf",
               "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\2\0\0\0\0\0\0\0"
               "\1\0\0\0\0\0\0\0a\0\0\0\0\1\1\0\0\0\0\0\0\0a\0\0\0\0\1",
               52, "the same key", 101);
        expect("m.gguf",
               "GGUF\3\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0"
               "\1\0\0\0\0\0\0\0a\x09\0\0\0\x09\0\0\0\1\0\0\0\0\0\0\0",
               49, "array of type 9", 102);
}

static void onnx(void **state)
{
#define M(text) text, sizeof(text) - 1
        static const struct {
                const char *bytes;
                size_t len;
                const char *reason;
        } ROWS[] = {
                {M("\x08\x08\x3a\x00"), NULL},
                {M("\x08\x08"), "without graph"},
                {M("\x08\x08\x3a\x00\x3a\x00"), "field 7 is there twice"},
                {M("\x08\x08\x08\x08\x3a\x00"), "field 1 is there twice"},
                {M("\x08\x08\x3a\x05\x0a"), "bytes needed"},
                {M("\x08\x08\x3a\x02\x0b\x0c"), "wire type 3"},
                {M("\x08\x08\x3a\x02\x00\x00"), "field number 0"},
                {M("\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x3a\x00"), "varint longer"},
                {M("\x08\x08\x38\x01"), "wire type 0"},
                /* initializer: one float, raw data of 4 and of 3 bytes; dims packed and not */
                {M("\x08\x08\x3a\x0c\x2a\x0a\x08\x01\x10\x01\x4a\x04"
                   "abcd"),
                 NULL},
                {M("\x08\x08\x3a\x0d\x2a\x0b\x0a\x01\x01\x10\x01\x4a\x04"
                   "abcd"),
                 NULL},
                {M("\x08\x08\x3a\x0b\x2a\x09\x08\x01\x10\x01\x4a\x03"
                   "abc"),
                 "holds 3"},
                {M("\x08\x08\x3a\x0f\x2a\x0d\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x01"),
                 "negative"},
                /* external data: location and data_location go together; no way out of the folder
                 */
                {M("\x08\x08\x3a\x14\x2a\x12\x10\x01\x6a\x0c\x0a\x08location\x12\x00\x70\x01"),
                 "path is empty"},
                {M("\x08\x08\x3a\x18\x2a\x16\x10\x01\x6a\x10\x0a\x08location\x12\x04../a\x70\x01"),
                 "'..'"},
                {M("\x08\x08\x3a\x18\x2a\x16\x10\x01\x6a\x10\x0a\x08location\x12\x04/etc\x70\x01"),
                 "absolute"},
                {M("\x08\x08\x3a\x18\x2a\x16\x10\x01\x6a\x10\x0a\x08location\x12\x04"
                   "a\0bc\x70\x01"),
                 "NUL"},
                {M("\x08\x08\x3a\x18\x2a\x16\x10\x01\x6a\x10\x0a\x08location\x12\x04"
                   "abcd\x70\x00"),
                 "unclear"},
                {M("\x08\x08\x3a\x06\x2a\x04\x10\x01\x70\x01"), "unclear"},
                /* the same inside a node's attribute: node 1, attribute 5, t 5 */
                {M("\x08\x08\x3a\x0a\x0a\x08\x2a\x06\x2a\x04\x10\x01\x70\x01"), "unclear"},
                /* and in a graph in it: g 6, initializer 5 */
                {M("\x08\x08\x3a\x0c\x0a\x0a\x2a\x08\x32\x06\x2a\x04\x10\x01\x70\x01"), "unclear"},
                /* in a function (25, node 7) and in training_info (20, algorithm 2) */
                {M("\x08\x08\x3a\x00\xca\x01\x0a\x3a\x08\x2a\x06\x2a\x04\x10\x01\x70\x01"),
                 "unclear"},
                {M("\x08\x08\x3a\x00\xa2\x01\x08\x12\x06\x2a\x04\x10\x01\x70\x01"), "unclear"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++)
                expect("m.onnx", ROWS[i].bytes, ROWS[i].len, ROWS[i].reason, i);
}

/* A zip of two stored members, each the pickle of None. */
static void zip_of(struct mlc_str *s, const char *first, const char *second)
{
        const char *names[] = {first, second};
        size_t at[2], dir;

        for (int i = 0; i < 2; i++) {
                at[i] = s->len;
                mlc_str_addn(s, "PK\3\4\x14\0\0\0\0\0\0\0\0\0", 14);
                le(s, 4, 0x7db5d20d); /* CRC-32 of the data below */
                le(s, 4, 4);
                le(s, 4, 4);
                le(s, 2, strlen(names[i]));
                le(s, 2, 0);
                mlc_str_add(s, names[i]);
                mlc_str_addn(s, "\x80\2N.", 4);
        }
        dir = s->len;
        for (int i = 0; i < 2; i++) {
                mlc_str_addn(s, "PK\1\2\x14\0\x14\0\0\0\0\0\0\0\0\0", 16);
                le(s, 4, 0x7db5d20d);
                le(s, 4, 4);
                le(s, 4, 4);
                le(s, 2, strlen(names[i]));
                zeros(s, 12);
                le(s, 4, at[i]);
                mlc_str_add(s, names[i]);
        }
        le(s, 4, 0x06054b50);
        zeros(s, 4);
        le(s, 2, 2);
        le(s, 2, 2);
        le(s, 4, s->len - 12 - dir);
        le(s, 4, dir);
        zeros(s, 2);
}

static void zip(void **state)
{
        /* offsets: local 0 at 0 (30 + 5 + 4 = 39), local 1 at 39, directory at 78 (51 each) */
        static const struct {
                const char *first, *second;
                int at; /* the byte that is changed; -1: none */
                char to;
                const char *reason;
        } ROWS[] = {
                {"a.pkl", "b.pkl", -1, 0, NULL},
                {"a.pkl", "a.pkl", -1, 0, "of one name"},
                {"../kl", "b.pkl", -1, 0, "'..'"},
                {"/.pkl", "b.pkl", -1, 0, "absolute"},
                {"a.pkl", "b.pkl", 8, 8, "disagree"}, /* method */
                {"a.pkl", "b.pkl", 30, 'x', "disagree"}, /* name */
                {"a.pkl", "b.pkl", 22, 3, "disagree"}, /* size */
                {"a.pkl", "b.pkl", 14, 3, "disagree"}, /* checksum */
                {"a.pkl", "b.pkl", 6, 1, "disagree"}, /* flags */
                {"a.pkl", "b.pkl", 39, 'Q', "local header is damaged"},
                {"a.pkl", "b.pkl", 78, 'Q', "directory entry is damaged"},
                {"a.pkl", "b.pkl", 37, 'K', "checksum"}, /* the data */
                {"a.pkl", "b.pkl", 78 + 51 + 42, 0, "overlap"},
                {"a.pkl", "b.pkl", 78 + 42, 1, "between zip members"},
                {"a.pkl", "b.pkl", 180 + 16, 77, "directory does not end"},
                {"a.pkl", "b.pkl", 180 + 20, 1, "followed by data"},
                {"a.pkl", "b.pkl", 180 + 10, 3, "several disks"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ROWS); i++) {
                _cleanup_(mlc_str_done) struct mlc_str s = {0};

                mlc_str_init(&s, 4096);
                zip_of(&s, ROWS[i].first, ROWS[i].second);
                if (ROWS[i].at > 0)
                        s.data[ROWS[i].at] = ROWS[i].to;
                expect("m.zip", s.data, s.len, ROWS[i].reason, i);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(safetensors), cmocka_unit_test(npy), cmocka_unit_test(gguf),
                cmocka_unit_test(onnx),        cmocka_unit_test(zip),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
