/* SPDX-License-Identifier: Apache-2.0 */
#include "format/format.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "format/internal.h"

#define HEAD 512

/*
 * What may be imported, as exact pairs. The first block is that of picklescan's strict mode; the
 * second are helpers of numpy, torch and joblib that only make arrays of bytes which the walk has
 * accounted for (NumpyArrayWrapper: see pickle_joblib.c).
 */
static const struct {
        const char *module, *name;
} ALLOWED[] = {
        {"collections", "OrderedDict"},
        {"torch", "LongStorage"},
        {"torch", "FloatStorage"},
        {"torch", "HalfStorage"},
        {"torch", "DoubleStorage"},
        {"torch", "BFloat16Storage"},
        {"torch", "BoolStorage"},
        {"torch", "CharStorage"},
        {"torch", "ShortStorage"},
        {"torch", "IntStorage"},
        {"torch", "ByteStorage"},
        {"torch", "ComplexFloatStorage"},
        {"torch", "ComplexDoubleStorage"},
        {"torch", "QUInt2x4Storage"},
        {"torch", "QUInt4x2Storage"},
        {"torch", "QInt32Storage"},
        {"torch", "QInt8Storage"},
        {"torch", "QUInt8Storage"},
        {"torch._utils", "_rebuild_tensor_v2"},
        {"numpy", "dtype"},
        {"numpy", "ndarray"},
        {"numpy.core.multiarray", "_reconstruct"},
        {"numpy._core.multiarray", "_reconstruct"},

        {"numpy.core.numeric", "_frombuffer"},
        {"numpy._core.numeric", "_frombuffer"},
        {"torch._utils", "_rebuild_parameter"},
        {"joblib.numpy_pickle", "NumpyArrayWrapper"},
};

bool mlc_format_import_allowed(const char *module, const char *name, const char *const *allow,
                               size_t n_allow)
{
        size_t len = strlen(module);

        if (strchr(name, '.') != NULL || name[0] == '\0')
                return false; /* protocol 4 would resolve it to something else */
        for (size_t i = 0; i < ARRAY_LEN(ALLOWED); i++)
                if (strcmp(ALLOWED[i].module, module) == 0 && strcmp(ALLOWED[i].name, name) == 0)
                        return true;
        for (size_t i = 0; i < n_allow; i++)
                if (strncmp(allow[i], module, len) == 0 && allow[i][len] == '.' &&
                    strcmp(allow[i] + len + 1, name) == 0)
                        return true;
        return false;
}

enum mlc_format_safety mlc_format_judge(const struct mlc_format_info *info,
                                        const char *const *allow, size_t n_allow)
{
        if (info->malformed != NULL)
                return MLC_SAFETY_UNSAFE;
        for (size_t i = 0; i < info->n_imports; i++)
                if (!mlc_format_import_allowed(info->imports[i].module, info->imports[i].name,
                                               allow, n_allow))
                        return MLC_SAFETY_UNSAFE;
        if (info->unverified != NULL)
                return MLC_SAFETY_NOT_VERIFIED;
        return info->n_pickles > 0 ? MLC_SAFETY_ALLOWED : MLC_SAFETY_NO_CODE;
}

const char *mlc_format_safety_name(enum mlc_format_safety s)
{
        static const char *const NAMES[] = {
                [MLC_SAFETY_NOT_VERIFIED] = "not_verified",
                [MLC_SAFETY_NO_CODE] = "no_code",
                [MLC_SAFETY_ALLOWED] = "allowed",
                [MLC_SAFETY_UNSAFE] = "unsafe",
        };

        assert((size_t)s < ARRAY_LEN(NAMES));
        return NAMES[s];
}

static const struct {
        size_t at, len;
        const char *bytes, *format;
} MAGIC[] = {
        {0, 4, "GGUF", "gguf"},
        {0, 6, "\x93NUMPY", "npy"},
        {0, 4, "PK\x03\x04", "zip"},
        {0, 4, "PK\x05\x06", "zip"},
        {0, 8, "\x89HDF\r\n\x1a\n", "hdf5"},
        {0, 2, "\x80\x02", "pickle"},
        {0, 2, "\x80\x03", "pickle"},
        {0, 2, "\x80\x04", "pickle"},
        {0, 2, "\x80\x05", "pickle"},
        {0, 2, "\x1f\x8b", "gzip"},
        {0, 4, "\x28\xb5\x2f\xfd", "zstd"},
        {0, 6,
         "\xfd"
         "7zXZ\0",
         "xz"},
        {0, 6, "7z\xbc\xaf\x27\x1c", "7z"},
        {0, 3, "BZh", "bzip2"},
        {257, 5, "ustar", "tar"},
};

/* What a file extension promises; several formats when the extension is used for several. */
static const struct {
        const char *extension, *formats;
} PROMISES[] = {
        {"safetensors", "safetensors"},
        {"gguf", "gguf"},
        {"onnx", "onnx"},
        {"npy", "npy"},
        {"npz", "npz zip"},
        {"keras", "keras"},
        {"h5", "hdf5"},
        {"hdf5", "hdf5"},
        {"pkl", "pickle joblib pytorch"},
        {"pickle", "pickle joblib pytorch"},
        {"dill", "pickle"},
        {"joblib", "joblib pickle gzip xz bzip2 zlib"},
        {"pt", "pytorch torchscript pickle"},
        {"pth", "pytorch torchscript pickle"},
        {"ckpt", "pytorch torchscript pickle"},
        {"zip", "zip npz pytorch torchscript keras"},
        {"gz", "gzip"},
        {"tgz", "gzip"},
        {"zst", "zstd"},
        {"tar", "tar"},
};

static const char *extension_of(const char *path)
{
        const char *slash = strrchr(path, '/');
        const char *dot = strrchr(slash != NULL ? slash + 1 : path, '.');

        return dot != NULL ? dot + 1 : "";
}

static const char *promise_of(const char *path)
{
        const char *ext = extension_of(path);

        for (size_t i = 0; i < ARRAY_LEN(PROMISES); i++)
                if (strcasecmp(PROMISES[i].extension, ext) == 0)
                        return PROMISES[i].formats;
        return NULL;
}

/* Is `word` one of the space-separated `list`? */
static bool among(const char *list, const char *word)
{
        size_t n = strlen(word);

        for (const char *p = list; (p = strstr(p, word)) != NULL; p += n)
                if ((p == list || p[-1] == ' ') && (p[n] == '\0' || p[n] == ' '))
                        return true;
        return false;
}

static int detect(struct fmt *f, const struct mlc_reader *r, const char **ret)
{
        const char *promise = promise_of(f->path);
        unsigned char head[HEAD] = {0};
        size_t n = r->size < HEAD ? (size_t)r->size : HEAD;
        int rc = fmt_pread(f, r, head, n, 0);

        if (rc < 0)
                return rc;
        *ret = "unknown";
        for (size_t i = 0; i < ARRAY_LEN(MAGIC); i++) {
                if (MAGIC[i].at + MAGIC[i].len > n ||
                    memcmp(head + MAGIC[i].at, MAGIC[i].bytes, MAGIC[i].len) != 0)
                        continue;
                *ret = MAGIC[i].format;
                return 0;
        }
        /* a real one is a valid header, so that text such as "\n{" is not taken for it */
        if (n >= 9 && head[8] == '{' && fmt_le(head, 8) <= FMT_HEADER_MAX * 2)
                *ret = "safetensors";
        else if (n >= 8 && promise != NULL && among(promise, "safetensors"))
                *ret = "safetensors"; /* says what is wrong with it */
        else if (n >= 2 && head[0] == 0x78 && (head[0] * 256 + head[1]) % 31 == 0)
                *ret = "zlib";
        else if ((n > 0 && head[0] == 0x08 && fmt_onnx_likely(r)) ||
                 (promise != NULL && among(promise, "onnx")))
                *ret = "onnx";
        else if (promise != NULL && among(promise, "pickle"))
                *ret = "pickle"; /* protocols 0 and 1 have no magic */
        return 0;
}

/*
 * No magic, and an extension that promises nothing: a pickle of protocol 0 or 1 would run all the
 * same when somebody loads it. Tried on the side, kept only when it walks to its STOP.
 */
static int try_pickle(struct fmt *f, const struct mlc_reader *r)
{
        struct mlc_format_info trial = {.format = "pickle"};
        struct fmt g = *f;
        int rc;

        g.info = &trial;
        rc = fmt_pickle(&g, r, 0, FMT_PICKLE_FILE);
        if (rc < 0 && f->err->code != 0)
                return rc;
        if (trial.n_pickles > 0 && (rc == 0 || trial.n_imports > 0)) {
                *f->info = trial;
                f->imports_size = g.imports_size;
                return rc;
        }
        return fmt_unverified(f, "the format is not known");
}

static int parse(struct fmt *f, const struct mlc_reader *r)
{
        const char *kind = f->info->format;

        if (mlc_streq(kind, "safetensors"))
                return fmt_safetensors(f, r);
        if (mlc_streq(kind, "gguf"))
                return fmt_gguf(f, r);
        if (mlc_streq(kind, "npy"))
                return fmt_npy(f, r, "array");
        if (mlc_streq(kind, "onnx"))
                return fmt_onnx(f, r);
        if (mlc_streq(kind, "zip"))
                return fmt_zip(f, r);
        if (mlc_streq(kind, "pickle"))
                return fmt_pickle(f, r, 0, FMT_PICKLE_FILE);
        if (mlc_streq(kind, "unknown"))
                return try_pickle(f, r);
        return fmt_unverified(f, "%s is not looked into", kind);
}

static const char *const WORDS[] = {
        [FMT_BFLOAT16] = "bfloat16",
        [FMT_BOOL] = "bool",
        [FMT_COMPLEX128] = "complex128",
        [FMT_COMPLEX64] = "complex64",
        [FMT_FLOAT16] = "float16",
        [FMT_FLOAT32] = "float32",
        [FMT_FLOAT64] = "float64",
        [FMT_FLOAT8_E4M3] = "float8_e4m3",
        [FMT_FLOAT8_E5M2] = "float8_e5m2",
        [FMT_INT16] = "int16",
        [FMT_INT32] = "int32",
        [FMT_INT64] = "int64",
        [FMT_INT8] = "int8",
        [FMT_UINT16] = "uint16",
        [FMT_UINT32] = "uint32",
        [FMT_UINT64] = "uint64",
        [FMT_UINT8] = "uint8",
};

static int finish(struct fmt *f)
{
        _cleanup_(mlc_str_done) struct mlc_str s = {0};
        struct mlc_format_info *i = f->info;
        const char *promise = promise_of(f->path);

        mlc_str_init(&s, 512);
        for (unsigned p = 0; p < FMT_PRECISION_NONE; p++) {
                if ((f->precision & 1u << p) == 0)
                        continue;
                mlc_str_add(&s, s.len > 0 ? "," : "");
                mlc_str_add(&s, WORDS[p]);
        }
        if (s.len > 0) {
                i->precision = mlc_arena_strdup(f->a, mlc_str_cstr(&s), f->err);
                if (i->precision == NULL)
                        return f->err->code;
        }
        if (promise != NULL && !among(promise, i->format)) {
                const char *space = strchr(promise, ' ');

                i->mismatch = mlc_arena_strndup(
                        f->a, promise, space != NULL ? (size_t)(space - promise) : strlen(promise),
                        f->err);
                if (i->mismatch == NULL)
                        return f->err->code;
        }
        i->safety = mlc_format_judge(i, NULL, 0);
        return 0;
}

int mlc_format_inspect(const struct mlc_reader *r, const char *path, struct mlc_arena *a,
                       struct mlc_format_info *ret, struct mlc_err *err)
{
        struct mlc_format_info info = {.format = "unknown"};
        struct mlc_err own = {0}; /* err may be NULL; the parsers look at its code */
        struct fmt f = {.a = a, .info = &info, .err = &own, .path = path, .member = ""};
        int rc = detect(&f, r, &info.format);

        if (rc == 0)
                rc = parse(&f, r);
        if (own.code == 0)
                rc = finish(&f);
        if (own.code != 0) {
                if (err != NULL && err->code == 0)
                        *err = own;
                return own.code;
        }
        assert(rc == 0);
        *ret = info;
        return 0;
}
