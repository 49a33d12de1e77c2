/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "mlctl/error.h"

/*
 * What a model file says about itself, read without running anything: safetensors, GGUF, ONNX, NPY,
 * NPZ, PyTorch, TorchScript, Keras, pickle and joblib. Everything is untrusted input. Formats and
 * the checks behind them: huggingface/safetensors README, ggml docs/gguf.md, onnx.proto, numpy
 * lib/format.py, PKWARE APPNOTE, CPython Lib/pickletools.py.
 */

/* Random access to a file of known size. pread reads exactly len bytes at off, or fails with
 * MLC_E_IO; it is called with off + len <= size only. */
struct mlc_reader {
        int (*pread)(void *userdata, void *buf, size_t len, uint64_t off, struct mlc_err *err);
        uint64_t size;
        void *userdata;
};

/* *fd and the memory must outlive the reader. The size of the file is taken once, here; a file that
 * is shortened meanwhile gives MLC_E_IO. */
int mlc_reader_fd(struct mlc_reader *ret, const int *fd, struct mlc_err *err) MLC_CHECK;
void mlc_reader_mem(struct mlc_reader *ret, const void *data, size_t len);

#define MLC_FORMAT_TENSORS_KEPT 4096 /* all are counted and checked, so many are kept */
#define MLC_FORMAT_TENSORS_MAX 200000 /* more in one file: malformed */
#define MLC_FORMAT_RANK_MAX 64
#define MLC_FORMAT_IMPORTS_MAX 1024 /* distinct ones; more: unsafe */
#define MLC_FORMAT_META_MAX 256 /* key/value pairs kept */
#define MLC_FORMAT_TEXT_MAX 1024 /* bytes of a text kept; longer ones are cut, marked with "…" */
#define MLC_FORMAT_ARENA_MIN (16u << 20) /* the arena's cap should be at least this */

struct mlc_format_tensor {
        const char *name;
        const char *dtype; /* as the format spells it: F32, Q4_K, FLOAT, <f4; for inputs and outputs
                            * as the Open Inference Protocol does: FP32, INT64, BYTES */
        const int64_t *dims; /* -1: not fixed */
        size_t n_dims;
};

struct mlc_format_kv {
        const char *key, *value;
};

struct mlc_format_import {
        const char *module, *name;
        bool allowed; /* by the built-in list */
};

/* A file that an ONNX tensor lives in. `location` passed mlc_path_check; the caller compares
 * offset + length with the size of that file, which must be a regular one. */
struct mlc_format_external {
        const char *location;
        uint64_t end; /* the largest offset + length asked for; 0: to the end of the file */
};

enum mlc_format_safety {
        MLC_SAFETY_NOT_VERIFIED, /* could not be walked: `unverified` says why */
        MLC_SAFETY_NO_CODE, /* a format that holds tensors only, and it parsed */
        MLC_SAFETY_ALLOWED, /* pickles, walked to the end, every import on the list */
        MLC_SAFETY_UNSAFE, /* an import that is not on the list, or malformed */
};

/* Every pointer lives in the arena or is static; lists are NULL when empty. */
struct mlc_format_info {
        const char *format; /* safetensors, gguf, onnx, npy, npz, pytorch, torchscript, keras, hdf5,
                             * pickle, joblib, zip, gzip, zstd, xz, 7z, tar, unknown */
        const char *mismatch; /* the format that the file's extension promises, when another one was
                               * found; else NULL */
        const char *malformed; /* what is wrong and at which offset; NULL when nothing is */
        const char *unverified; /* why it could not be walked completely; NULL when it was */

        struct mlc_format_tensor *tensors; /* the first n_tensors_kept in file order */
        size_t n_tensors_kept;
        uint64_t n_tensors;
        uint64_t n_parameters; /* elements of all tensors; 0 when not known */
        uint64_t data_offset; /* where the tensor bytes begin (safetensors, GGUF, NPY); else 0 */
        const char *precision; /* ModelPack's words, comma-separated, sorted; NULL when not known */

        const char *architecture, *name, *version, *license; /* NULL when the file does not say */
        struct mlc_format_kv *meta; /* what else is worth showing; keys as the format has them */
        size_t n_meta;
        struct mlc_format_tensor *inputs, *outputs; /* ONNX */
        size_t n_inputs, n_outputs;
        struct mlc_format_external *external;
        size_t n_external;

        struct mlc_format_import *imports; /* distinct, in order of first appearance */
        size_t n_imports;
        unsigned n_pickles; /* walked */
        const char **notes; /* other things that bring code: chat templates, custom operators … */
        size_t n_notes;
        enum mlc_format_safety safety; /* with the built-in list; see mlc_format_judge */
};

/*
 * Reads what `r` holds; `path` is the file's name (for the extension and messages), may be "".
 * A malformed file is not a failure: it comes back with `malformed`. Fails with MLC_E_IO from the
 * reader and MLC_E_LIMIT when the arena's cap is passed. Work is bounded: at most 64 MiB of
 * headers, 64 Mi pickle opcodes, 64 MiB inflated.
 */
int mlc_format_inspect(const struct mlc_reader *r, const char *path, struct mlc_arena *a,
                       struct mlc_format_info *ret, struct mlc_err *err) MLC_CHECK;

/*
 * The safety with a longer list: `allow` holds "module.name" strings (sklearn.pipeline.Pipeline),
 * each allowing exactly the module before the last dot and the name after it. Names that hold a dot
 * themselves are never allowed. Pure: works on a stored info too.
 */
enum mlc_format_safety mlc_format_judge(const struct mlc_format_info *info,
                                        const char *const *allow, size_t n_allow);
bool mlc_format_import_allowed(const char *module, const char *name, const char *const *allow,
                               size_t n_allow);
/* "no_code", "allowed", "unsafe", "not_verified" */
const char *mlc_format_safety_name(enum mlc_format_safety s);
