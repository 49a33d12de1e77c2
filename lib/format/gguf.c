/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/utf8.h"

#define KEYS_MAX 65536
#define KEY_LEN_MAX 65535
#define NAME_LEN_MAX 63 /* the spec says 64, ggml takes 63 */
#define DIMS_MAX 4
#define ARRAY_STRINGS_MAX ((uint64_t)4 << 20) /* strings skipped in one file */

enum {
        T_U8,
        T_I8,
        T_U16,
        T_I16,
        T_U32,
        T_I32,
        T_F32,
        T_BOOL,
        T_STRING,
        T_ARRAY,
        T_U64,
        T_I64,
        T_F64
};

static const unsigned VALUE_SIZE[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};

static const struct {
        const char *name;
        unsigned block, bytes; /* elements and bytes per block; 0: removed or unknown */
        enum fmt_precision precision;
} TYPES[] = {
        [0] = {"F32", 1, 4, FMT_FLOAT32},
        [1] = {"F16", 1, 2, FMT_FLOAT16},
        [2] = {"Q4_0", 32, 18, FMT_PRECISION_NONE},
        [3] = {"Q4_1", 32, 20, FMT_PRECISION_NONE},
        [6] = {"Q5_0", 32, 22, FMT_PRECISION_NONE},
        [7] = {"Q5_1", 32, 24, FMT_PRECISION_NONE},
        [8] = {"Q8_0", 32, 34, FMT_PRECISION_NONE},
        [9] = {"Q8_1", 32, 36, FMT_PRECISION_NONE},
        [10] = {"Q2_K", 256, 84, FMT_PRECISION_NONE},
        [11] = {"Q3_K", 256, 110, FMT_PRECISION_NONE},
        [12] = {"Q4_K", 256, 144, FMT_PRECISION_NONE},
        [13] = {"Q5_K", 256, 176, FMT_PRECISION_NONE},
        [14] = {"Q6_K", 256, 210, FMT_PRECISION_NONE},
        [15] = {"Q8_K", 256, 292, FMT_PRECISION_NONE},
        [16] = {"IQ2_XXS", 256, 66, FMT_PRECISION_NONE},
        [17] = {"IQ2_XS", 256, 74, FMT_PRECISION_NONE},
        [18] = {"IQ3_XXS", 256, 98, FMT_PRECISION_NONE},
        [19] = {"IQ1_S", 256, 50, FMT_PRECISION_NONE},
        [20] = {"IQ4_NL", 32, 18, FMT_PRECISION_NONE},
        [21] = {"IQ3_S", 256, 110, FMT_PRECISION_NONE},
        [22] = {"IQ2_S", 256, 82, FMT_PRECISION_NONE},
        [23] = {"IQ4_XS", 256, 136, FMT_PRECISION_NONE},
        [24] = {"I8", 1, 1, FMT_INT8},
        [25] = {"I16", 1, 2, FMT_INT16},
        [26] = {"I32", 1, 4, FMT_INT32},
        [27] = {"I64", 1, 8, FMT_INT64},
        [28] = {"F64", 1, 8, FMT_FLOAT64},
        [29] = {"IQ1_M", 256, 56, FMT_PRECISION_NONE},
        [30] = {"BF16", 1, 2, FMT_BFLOAT16},
        [34] = {"TQ1_0", 256, 54, FMT_PRECISION_NONE},
        [35] = {"TQ2_0", 256, 66, FMT_PRECISION_NONE},
        [39] = {"MXFP4", 32, 17, FMT_PRECISION_NONE},
        [40] = {"NVFP4", 64, 36, FMT_PRECISION_NONE},
        [41] = {"Q1_0", 128, 18, FMT_PRECISION_NONE},
        [42] = {"Q2_0", 64, 18, FMT_PRECISION_NONE},
};

struct gguf {
        struct fmt *f;
        struct fmt_in in;
        uint64_t n_tensors, n_keys, alignment, strings;
        uint64_t data_end; /* relative to the data section, padded */
        bool sizes_known;
        struct fmt_names names;
};

/* Into buf, NUL-terminated; longer than size - 1 is malformed. */
static int string(struct gguf *g, char *buf, size_t size, size_t *ret_len, const char *what)
{
        uint64_t at = g->in.pos, len;
        int r = fmt_in_uint(&g->in, 8, &len);

        if (r < 0)
                return r;
        if (len >= size)
                return fmt_malformed(g->f, at, "%s of %llu bytes is too long", what,
                                     (unsigned long long)len);
        r = fmt_in_bytes(&g->in, buf, (size_t)len);
        if (r < 0)
                return r;
        buf[len] = '\0';
        if (memchr(buf, '\0', (size_t)len) != NULL || !mlc_utf8_valid(buf, (size_t)len))
                return fmt_malformed(g->f, at, "%s is not UTF-8 without NUL", what);
        *ret_len = (size_t)len;
        return 0;
}

/* A value of which only the beginning is kept. */
static int long_string(struct gguf *g, const char *key)
{
        char head[MLC_FORMAT_TEXT_MAX + 1];
        uint64_t len;
        size_t n;
        const char *text, **slot = NULL;
        int r = fmt_in_uint(&g->in, 8, &len);

        if (r < 0)
                return r;
        n = len < sizeof(head) ? (size_t)len : sizeof(head);
        r = fmt_in_bytes(&g->in, head, n);
        if (r == 0)
                r = fmt_in_skip(&g->in, len - n);
        if (r < 0)
                return r;
        if (mlc_streq(key, "general.architecture"))
                slot = &g->f->info->architecture;
        else if (mlc_streq(key, "general.name"))
                slot = &g->f->info->name;
        else if (mlc_streq(key, "general.version"))
                slot = &g->f->info->version;
        else if (mlc_streq(key, "general.license"))
                slot = &g->f->info->license;
        if (mlc_starts_with(key, "tokenizer.chat_template"))
                return fmt_note(g->f, "%s: a Jinja template, run by the loader", key);
        if (slot == NULL)
                return fmt_meta(g->f, key, strlen(key), head, n);
        text = fmt_text(g->f, head, n);
        if (text == NULL)
                return g->f->err->code;
        *slot = text;
        return 0;
}

static int array(struct gguf *g)
{
        uint64_t at = g->in.pos, type, n, bytes;
        int r = fmt_in_uint(&g->in, 4, &type);

        if (r == 0)
                r = fmt_in_uint(&g->in, 8, &n);
        if (r < 0)
                return r;
        if (type > T_F64 || type == T_ARRAY)
                return fmt_malformed(g->f, at, "array of type %llu", (unsigned long long)type);
        if (type != T_STRING) {
                if (__builtin_mul_overflow(n, (uint64_t)VALUE_SIZE[type], &bytes))
                        return fmt_malformed(g->f, at, "array too long");
                return fmt_in_skip(&g->in, bytes);
        }
        if (n > ARRAY_STRINGS_MAX - g->strings)
                return fmt_malformed(g->f, at, "array of %llu strings is too long",
                                     (unsigned long long)n);
        g->strings += n;
        for (uint64_t i = 0; i < n && r == 0; i++) {
                r = fmt_in_uint(&g->in, 8, &bytes);
                if (r == 0)
                        r = fmt_in_skip(&g->in, bytes);
        }
        return r;
}

static int number_text(struct gguf *g, const char *key, uint64_t type, uint64_t v)
{
        char text[40];
        float f32;
        double f64;
        uint32_t low = (uint32_t)v;

        if (type == T_F32) {
                memcpy(&f32, &low, sizeof(f32));
                (void)snprintf(text, sizeof(text), "%.9g", (double)f32);
        } else if (type == T_F64) {
                memcpy(&f64, &v, sizeof(f64));
                (void)snprintf(text, sizeof(text), "%.17g", f64);
        } else if (type == T_BOOL) {
                (void)snprintf(text, sizeof(text), "%s", v != 0 ? "true" : "false");
        } else if (type == T_I8 || type == T_I16 || type == T_I32 || type == T_I64) {
                unsigned shift = 64 - 8 * VALUE_SIZE[type];

                (void)snprintf(text, sizeof(text), "%lld",
                               (long long)((int64_t)(v << shift) >> shift));
        } else {
                (void)snprintf(text, sizeof(text), "%llu", (unsigned long long)v);
        }
        return fmt_meta(g->f, key, strlen(key), text, strlen(text));
}

static int value(struct gguf *g, const char *key)
{
        uint64_t at = g->in.pos, type, v;
        int r = fmt_in_uint(&g->in, 4, &type);

        if (r < 0)
                return r;
        if (type > T_F64)
                return fmt_malformed(g->f, at, "value of unknown type %llu",
                                     (unsigned long long)type);
        if (mlc_streq(key, "general.alignment") && type != T_U32)
                return fmt_malformed(g->f, at, "general.alignment is not a u32");
        if (type == T_STRING)
                return long_string(g, key);
        if (type == T_ARRAY)
                return array(g);
        r = fmt_in_uint(&g->in, VALUE_SIZE[type], &v);
        if (r < 0)
                return r;
        if (type == T_BOOL && v > 1)
                return fmt_malformed(g->f, at, "bool is neither 0 nor 1");
        if (mlc_streq(key, "general.alignment")) {
                if (v == 0 || (v & (v - 1)) != 0)
                        return fmt_malformed(g->f, at, "alignment is not a power of two");
                g->alignment = v;
        }
        return number_text(g, key, type, v);
}

static bool key_ok(const char *key, size_t len)
{
        if (len == 0)
                return false;
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)key[i] <= 0x20 || (unsigned char)key[i] >= 0x7f)
                        return false;
        return true;
}

static int keys(struct gguf *g)
{
        _cleanup_(free_p) char *key = malloc(KEY_LEN_MAX + 1);
        int r = 0;

        if (key == NULL)
                abort();
        for (uint64_t i = 0; i < g->n_keys && r == 0; i++) {
                uint64_t at = g->in.pos;
                size_t len;

                r = string(g, key, KEY_LEN_MAX + 1, &len, "key");
                if (r == 0 && !key_ok(key, len))
                        r = fmt_malformed(g->f, at, "key is empty or not plain ASCII");
                if (r == 0)
                        r = fmt_names_add(g->f, &g->names, key, len);
                if (r == 0)
                        r = value(g, key);
        }
        if (r == 0 && fmt_names_twin(&g->names) != NULL)
                r = fmt_malformed(g->f, g->in.pos, "the same key twice, before");
        return r;
}

/* Where the tensor must start, and the running sum after it. */
static int place(struct gguf *g, uint64_t type, const int64_t *dims, size_t n, uint64_t offset)
{
        uint64_t at = g->in.pos, elements, bytes, padded;
        bool known = type < ARRAY_LEN(TYPES) && TYPES[type].block != 0;

        if (!fmt_product(dims, n, &elements) || elements > INT64_MAX)
                return fmt_malformed(g->f, at, "too many elements");
        if (offset % g->alignment != 0)
                return fmt_malformed(g->f, at, "offset is not aligned");
        if (g->sizes_known && offset != g->data_end)
                return fmt_malformed(g->f, at, "tensor starts at %llu, %llu expected",
                                     (unsigned long long)offset, (unsigned long long)g->data_end);
        if (!known) {
                g->sizes_known = false; /* newer than we are: not corruption */
                return 0;
        }
        if ((n > 0 ? (uint64_t)dims[0] : 1) % TYPES[type].block != 0)
                return fmt_malformed(g->f, at, "rows are not whole blocks of %s", TYPES[type].name);
        if (__builtin_mul_overflow(elements / TYPES[type].block, (uint64_t)TYPES[type].bytes,
                                   &bytes) ||
            __builtin_add_overflow(bytes, g->alignment - 1, &padded) ||
            __builtin_add_overflow(offset, padded & ~(g->alignment - 1), &padded))
                return fmt_malformed(g->f, at, "tensor too large");
        if (offset > g->in.end || bytes > g->in.end - offset)
                return fmt_malformed(g->f, at, "tensor ends after the file");
        g->data_end = padded;
        return 0;
}

static int tensor(struct gguf *g, uint64_t *ret_last)
{
        char name[NAME_LEN_MAX + 1];
        int64_t dims[DIMS_MAX];
        uint64_t at = g->in.pos, n_dims, v, type, offset;
        struct mlc_format_tensor t = {.name = name, .dims = dims};
        char unknown[24];
        size_t len;
        int r = string(g, name, sizeof(name), &len, "tensor name");

        if (r == 0)
                r = fmt_names_add(g->f, &g->names, name, len);
        if (r == 0)
                r = fmt_in_uint(&g->in, 4, &n_dims);
        if (r < 0)
                return r;
        if (n_dims > DIMS_MAX)
                return fmt_malformed(g->f, at, "tensor of %llu dimensions",
                                     (unsigned long long)n_dims);
        for (size_t i = 0; i < n_dims; i++) {
                r = fmt_in_uint(&g->in, 8, &v);
                if (r < 0)
                        return r;
                dims[i] = (int64_t)v;
                if (dims[i] < 0)
                        return fmt_malformed(g->f, at, "negative dimension");
        }
        r = fmt_in_uint(&g->in, 4, &type);
        if (r == 0)
                r = fmt_in_uint(&g->in, 8, &offset);
        if (r == 0)
                r = place(g, type, dims, n_dims, offset);
        if (r < 0)
                return r;
        (void)snprintf(unknown, sizeof(unknown), "type %llu", (unsigned long long)type);
        t.dtype = type < ARRAY_LEN(TYPES) && TYPES[type].name != NULL ? TYPES[type].name : unknown;
        t.n_dims = n_dims;
        if (t.dtype != unknown) {
                fmt_add_precision(g->f, TYPES[type].precision);
                (void)fmt_product(dims, n_dims, &v);
                if (v / TYPES[type].block * TYPES[type].bytes + offset > *ret_last)
                        *ret_last = v / TYPES[type].block * TYPES[type].bytes + offset;
        }
        return fmt_tensor(g->f, &t, at);
}

static int tensors(struct gguf *g)
{
        uint64_t last = 0, start;
        int r = 0;

        fmt_names_done(&g->names);
        fmt_names_init(&g->names);
        for (uint64_t i = 0; i < g->n_tensors && r == 0; i++)
                r = tensor(g, &last);
        if (r < 0)
                return r;
        if (fmt_names_twin(&g->names) != NULL)
                return fmt_malformed(g->f, g->in.pos, "two tensors of one name, before");
        if (g->n_tensors == 0)
                return 0;
        start = (g->in.pos + g->alignment - 1) & ~(g->alignment - 1);
        g->f->info->data_offset = start;
        if (start > g->in.end || last > g->in.end - start)
                return fmt_malformed(g->f, start, "tensors need %llu bytes, the file ends before",
                                     (unsigned long long)last);
        if (!g->sizes_known)
                return fmt_note(g->f, "a tensor type is not known: sizes were not checked");
        return 0;
}

static int header(struct gguf *g)
{
        uint64_t version;
        int r = fmt_in_skip(&g->in, 4);

        if (r == 0)
                r = fmt_in_uint(&g->in, 4, &version);
        if (r < 0)
                return r;
        if ((version & 0xffff) == 0 && version != 0)
                return fmt_stop(g->f, "big-endian GGUF is not looked into");
        if (version < 2 || version > 3)
                return fmt_malformed(g->f, 4, "version %llu", (unsigned long long)version);
        r = fmt_in_uint(&g->in, 8, &g->n_tensors);
        if (r == 0)
                r = fmt_in_uint(&g->in, 8, &g->n_keys);
        if (r < 0)
                return r;
        if (g->n_keys > KEYS_MAX || g->n_tensors > MLC_FORMAT_TENSORS_MAX)
                return fmt_malformed(g->f, 8, "%llu tensors and %llu keys are too many",
                                     (unsigned long long)g->n_tensors,
                                     (unsigned long long)g->n_keys);
        return fmt_meta_u64(g->f, "gguf.version", version);
}

int fmt_gguf(struct fmt *f, const struct mlc_reader *r)
{
        _cleanup_(free_p) struct gguf *g = calloc(1, sizeof(*g));
        int rc;

        if (g == NULL)
                abort();
        g->f = f;
        g->alignment = 32;
        g->sizes_known = true;
        fmt_in_init(&g->in, f, r, 0, r->size);
        fmt_names_init(&g->names);
        rc = header(g);
        if (rc == 0)
                rc = keys(g);
        if (rc == 0)
                rc = tensors(g);
        fmt_names_done(&g->names);
        return rc;
}
