/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The abstract machine of the pickle walk; shared by pickle.c, pickle_ops.c and pickle_arrays.c. */
#include "format/internal.h"

#define PK_STACK_MAX ((size_t)1 << 20)
#define PK_MEMO_MAX ((uint64_t)1 << 21)
#define PK_POOL_MAX ((size_t)1 << 20)
#define PK_NAME_MAX 512 /* bytes of a module or name */
#define PK_IMPORT_COST 64 /* in opcodes */

/*
 * A value is 64 bits: 4 of kind, 60 of payload. Strings stay in the file: (offset, length); what is
 * longer than PK_NAME_MAX, escaped or not UTF-8 becomes OTHER, and so blocks where it is used as a
 * name.
 */
enum pk_kind {
        PK_OTHER, /* something that the walk need not know */
        PK_MARK,
        PK_NONE,
        PK_INT, /* 0 ≤ n < 2^60 */
        PK_STR, /* offset << 10 | length */
        PK_TUPLE, /* first of the items in the pool << 20 | number of items */
        PK_DICT, /* index of struct pk_dict */
        PK_GLOBAL, /* index of the import in the info's list */
        PK_OBJECT, /* made of a class: index of the import */
        PK_DTYPE, /* numpy.dtype: index of struct pk_dtype */
        PK_BOOL,
};

#define PK_DICT_KEYS 12
struct pk_dict {
        uint64_t keys[PK_DICT_KEYS], values[PK_DICT_KEYS];
        unsigned n;
        bool partial; /* more than that, or keys that are no strings */
};

struct pk_dtype {
        uint64_t size; /* 0: not understood */
        bool object, sized_by_state;
};

struct pickle {
        struct fmt *f;
        struct fmt_in in;
        const struct mlc_reader *r;
        uint64_t *stack;
        size_t n_stack, stack_size;
        uint64_t *memo;
        size_t n_memo, memo_size; /* entries set; slots */
        uint64_t *pool;
        size_t n_pool, pool_size;
        struct pk_dict *dicts;
        size_t n_dicts, dicts_size;
        struct pk_dtype *dtypes;
        size_t n_dtypes, dtypes_size;
        uint64_t op_at; /* offset of the opcode at work */
        bool stopped; /* at STOP */
        struct fmt_names storages; /* keys of PyTorch storages seen */
        uint64_t storage_bytes, storage_elements;
        bool old_torch; /* storages follow the pickles */
        int depth; /* of pickles in joblib arrays */
};

static inline uint64_t pk_make(enum pk_kind kind, uint64_t payload)
{
        return (uint64_t)kind << 60 | payload;
}

static inline enum pk_kind pk_kind(uint64_t v)
{
        return (enum pk_kind)(v >> 60);
}

static inline uint64_t pk_load(uint64_t v)
{
        return v & ((UINT64_C(1) << 60) - 1);
}

/* One pickle, from the position of p->in to its STOP. The stack and memo begin empty. */
int pk_walk(struct pickle *p);
int pk_push(struct pickle *p, uint64_t v);
int pk_pop(struct pickle *p, uint64_t *ret);
int pk_top(struct pickle *p, uint64_t *ret); /* stays there */
int pk_memo_put(struct pickle *p, uint64_t i);
int pk_memo_get(struct pickle *p, uint64_t i);
int pk_fault(struct pickle *p, const char *what); /* malformed, with the opcode's offset */
/* The i-th item of a tuple; OTHER when there is none. */
uint64_t pk_item(const struct pickle *p, uint64_t tuple, size_t i);
size_t pk_count(uint64_t tuple);
/* Text of a PK_STR, NUL-terminated; false for anything else. */
int pk_text(struct pickle *p, uint64_t v, char buf[PK_NAME_MAX + 1], bool *ret_ok);
bool pk_is(const struct pickle *p, uint64_t global, const char *module, const char *name);
/* Last value under this key. */
int pk_get(struct pickle *p, const struct pk_dict *d, const char *key, uint64_t *ret, bool *ret_ok);
void *pk_grow(void *list, size_t n, size_t *size, size_t elem);

/* Persistent id: the tuple of PyTorch, or malformed. */
int pk_persistent(struct pickle *p, uint64_t id);
/* numpy.dtype(args), and its state. */
int pk_dtype_new(struct pickle *p, uint64_t args, uint64_t *ret);
int pk_dtype_state(struct pickle *p, uint64_t dtype, uint64_t state);
/* BUILD on an object of class `global`: joblib reads an array at this point. */
int pk_built(struct pickle *p, uint64_t object, uint64_t state);
