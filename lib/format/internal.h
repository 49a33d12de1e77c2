/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Shared by the parsers of this folder; nobody else includes it. */
#include "base/str.h"
#include "format/format.h"

#define FMT_WINDOW 16384
#define FMT_INFLATE_MAX ((uint64_t)64 << 20)
#define FMT_OPCODES_MAX ((uint64_t)64 << 20)
#define FMT_HEADER_MAX ((uint64_t)64 << 20)

/* ModelPack's words for precision, in sorted order. */
enum fmt_precision {
        FMT_BFLOAT16,
        FMT_BOOL,
        FMT_COMPLEX128,
        FMT_COMPLEX64,
        FMT_FLOAT16,
        FMT_FLOAT32,
        FMT_FLOAT64,
        FMT_FLOAT8_E4M3,
        FMT_FLOAT8_E5M2,
        FMT_INT16,
        FMT_INT32,
        FMT_INT64,
        FMT_INT8,
        FMT_UINT16,
        FMT_UINT32,
        FMT_UINT64,
        FMT_UINT8,
        FMT_PRECISION_NONE
};

/*
 * One inspection. A parser returns 0, or a negative code: with err set (I/O, limit), or, from
 * fmt_malformed and fmt_stop, with err clear; mlc_format_inspect turns the latter into success.
 */
struct fmt {
        struct mlc_arena *a;
        struct mlc_format_info *info;
        struct mlc_err *err;
        const char *path;
        const char *member; /* of a zip, for messages; "" outside */
        uint64_t opcodes, inflated; /* used so far */
        size_t meta_size, tensors_size, imports_size, notes_size, external_size; /* allocated */
        unsigned precision; /* bits of enum fmt_precision */
        uint64_t storages; /* bytes of old PyTorch storages that follow the pickles */
        bool joblib; /* a wrapper of joblib was imported */
};

/* Record the first reason (with the offset) and return a negative code. */
int fmt_malformed(struct fmt *f, uint64_t off, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
/* Cannot be walked: not a fault. fmt_unverified goes on (0), fmt_stop does not. */
int fmt_unverified(struct fmt *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
int fmt_stop(struct fmt *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Text from the file: at most MLC_FORMAT_TEXT_MAX bytes, made valid UTF-8. NULL: err is set. */
const char *fmt_text(struct fmt *f, const char *s, size_t len);
int fmt_meta(struct fmt *f, const char *key, size_t key_len, const char *value, size_t value_len);
int fmt_meta_u64(struct fmt *f, const char *key, uint64_t value);
int fmt_note(struct fmt *f, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void fmt_add_precision(struct fmt *f, enum fmt_precision p);
/* Counts it, keeps it when there is room, adds the product of dims to the parameters. */
int fmt_tensor(struct fmt *f, const struct mlc_format_tensor *t, uint64_t off);
/* Product without overflow; every dim ≥ 0. */
bool fmt_product(const int64_t *dims, size_t n, uint64_t *ret);
int fmt_import(struct fmt *f, const char *module, const char *name);
void *fmt_grow(struct fmt *f, void *list, size_t n, size_t *size, size_t elem);

/* Names that must be distinct: add all, then ask once. */
struct fmt_names {
        struct mlc_str text;
        size_t *at;
        size_t n, size;
};
void fmt_names_init(struct fmt_names *n);
void fmt_names_done(struct fmt_names *n);
int fmt_names_add(struct fmt *f, struct fmt_names *n, const char *name, size_t len);
/* NULL, or one that is there twice. Sorts. */
const char *fmt_names_twin(struct fmt_names *n);

/* Sequential reading of a part of a file through a window. */
struct fmt_in {
        struct fmt *f;
        const struct mlc_reader *r;
        uint64_t pos, end;
        uint64_t win_off;
        size_t win_len;
        unsigned char win[FMT_WINDOW];
};
void fmt_in_init(struct fmt_in *in, struct fmt *f, const struct mlc_reader *r, uint64_t off,
                 uint64_t end);
int fmt_in_bytes(struct fmt_in *in, void *buf, size_t len);
int fmt_in_skip(struct fmt_in *in, uint64_t len);
int fmt_in_uint(struct fmt_in *in, unsigned bytes, uint64_t *ret); /* little-endian, 1 to 8 */

/* Bytes somewhere else than at the position: from the window when they are in it. */
int fmt_in_at(const struct fmt_in *in, void *buf, size_t len, uint64_t at);

int fmt_pread(struct fmt *f, const struct mlc_reader *r, void *buf, size_t len, uint64_t off);
uint64_t fmt_le(const unsigned char *p, unsigned bytes);

int fmt_safetensors(struct fmt *f, const struct mlc_reader *r);
int fmt_gguf(struct fmt *f, const struct mlc_reader *r);
int fmt_onnx(struct fmt *f, const struct mlc_reader *r);
/* Is it a model at the top level? Reads only the outermost fields; never records anything. */
bool fmt_onnx_likely(const struct mlc_reader *r);
struct fmt_onnx_type {
        const char *name, *oip; /* NULL: unknown; not known to the Open Inference Protocol */
        enum fmt_precision precision;
        unsigned bits; /* per element; 0 for strings and unknown types */
};
const struct fmt_onnx_type *fmt_onnx_type(uint64_t id); /* never NULL */
int fmt_npy(struct fmt *f, const struct mlc_reader *r, const char *name);
int fmt_zip(struct fmt *f, const struct mlc_reader *r);

enum fmt_pickle_mode { FMT_PICKLE_FILE, FMT_PICKLE_MEMBER };
/* Walks the pickles from `off` to the end of r; in FILE mode the format may become joblib or
 * pytorch. */
int fmt_pickle(struct fmt *f, const struct mlc_reader *r, uint64_t off, enum fmt_pickle_mode mode);
/* Item size of a numpy type string ("<f4", "|S10"); 0 when it is not a plain one. Sets whether it
 * holds objects, and the precision. */
uint64_t fmt_npy_item(const char *descr, bool *ret_object, enum fmt_precision *ret_precision);
