/* SPDX-License-Identifier: Apache-2.0 */
#include "format/pickle.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define ALIGNMENT 16 /* joblib's, since 1.2 */
#define NESTED_MAX 8

static const struct {
        const char *name;
        unsigned size;
        enum fmt_precision precision;
} STORAGES[] = {
        {"LongStorage", 8, FMT_INT64},
        {"FloatStorage", 4, FMT_FLOAT32},
        {"HalfStorage", 2, FMT_FLOAT16},
        {"DoubleStorage", 8, FMT_FLOAT64},
        {"BFloat16Storage", 2, FMT_BFLOAT16},
        {"BoolStorage", 1, FMT_BOOL},
        {"CharStorage", 1, FMT_INT8},
        {"ShortStorage", 2, FMT_INT16},
        {"IntStorage", 4, FMT_INT32},
        {"ByteStorage", 1, FMT_UINT8},
        {"ComplexFloatStorage", 8, FMT_COMPLEX64},
        {"ComplexDoubleStorage", 16, FMT_COMPLEX128},
        {"QUInt2x4Storage", 1, FMT_PRECISION_NONE},
        {"QUInt4x2Storage", 1, FMT_PRECISION_NONE},
        {"QInt32Storage", 4, FMT_PRECISION_NONE},
        {"QInt8Storage", 1, FMT_PRECISION_NONE},
        {"QUInt8Storage", 1, FMT_PRECISION_NONE},
};

static bool seen_storage(const struct pickle *p, const char *key)
{
        for (size_t i = 0; i < p->storages.n; i++)
                if (strcmp(p->storages.text.data + p->storages.at[i], key) == 0)
                        return true;
        return false;
}

/* ('storage', CLASS, key, location, numel), in old files with a view's metadata (None) after it. */
int pk_persistent(struct pickle *p, uint64_t id)
{
        static const char RULE[] = "persistent id is not ('storage', class, key, location, numel)";
        uint64_t class = pk_item(p, id, 1), numel = pk_item(p, id, 4), bytes;
        char text[PK_NAME_MAX + 1];
        size_t n = pk_count(id), i = 0;
        bool ok;
        int r = pk_text(p, pk_item(p, id, 0), text, &ok);

        if (r < 0)
                return r;
        if (!ok || strcmp(text, "storage") != 0 || pk_kind(numel) != PK_INT ||
            (n != 5 && !(n == 6 && p->old_torch && pk_kind(pk_item(p, id, 5)) == PK_NONE)))
                return pk_fault(p, RULE);
        while (i < ARRAY_LEN(STORAGES) && !pk_is(p, class, "torch", STORAGES[i].name))
                i++;
        if (i == ARRAY_LEN(STORAGES))
                return pk_fault(p, RULE);
        r = pk_text(p, pk_item(p, id, 2), text, &ok);
        if (r < 0)
                return r;
        if (!ok || pk_kind(pk_item(p, id, 3)) != PK_STR)
                return pk_fault(p, RULE);
        p->f->opcodes += p->storages.n / 8; /* the search is linear: count it as work */
        if (seen_storage(p, text))
                return 0;
        if (__builtin_mul_overflow(pk_load(numel), (uint64_t)STORAGES[i].size, &bytes) ||
            __builtin_add_overflow(p->storage_bytes, bytes, &p->storage_bytes))
                return pk_fault(p, "storages too large");
        p->storage_elements += pk_load(numel);
        fmt_add_precision(p->f, STORAGES[i].precision);
        return fmt_names_add(p->f, &p->storages, text, strlen(text));
}

int pk_dtype_new(struct pickle *p, uint64_t args, uint64_t *ret)
{
        struct pk_dtype d = {0};
        char text[PK_NAME_MAX + 1];
        enum fmt_precision precision;
        bool ok;
        int r = pk_text(p, pk_item(p, args, 0), text, &ok);

        if (r < 0)
                return r;
        if (p->n_dtypes == PK_POOL_MAX) {
                *ret = pk_make(PK_OTHER, 0);
                return 0;
        }
        if (ok && text[0] != 'V') /* fields are in the state of a V: not followed */
                d.size = fmt_npy_item(text, &d.object, &precision);
        d.sized_by_state = ok && (text[0] == 'U' || text[0] == 'S');
        p->dtypes = pk_grow(p->dtypes, p->n_dtypes, &p->dtypes_size, sizeof(d));
        p->dtypes[p->n_dtypes] = d;
        *ret = pk_make(PK_DTYPE, p->n_dtypes++);
        return 0;
}

/*
 * (version, byte order, subarray, names, fields, size, alignment, flags). Size and flags can turn a
 * type into another one: flag 1 says "holds objects", whatever the letter said.
 */
int pk_dtype_state(struct pickle *p, uint64_t dtype, uint64_t state)
{
        struct pk_dtype *d = &p->dtypes[pk_load(dtype)];
        uint64_t size = pk_item(p, state, 5), flags = pk_item(p, state, 7);
        bool plain = (pk_count(state) == 8 || pk_count(state) == 9) && pk_kind(flags) == PK_INT &&
                     ((pk_load(flags) & 1) != 0) == d->object;

        for (size_t i = 2; i < 5 && plain; i++)
                plain = pk_kind(pk_item(p, state, i)) == PK_NONE;
        if (plain && d->sized_by_state) {
                plain = pk_kind(size) == PK_INT;
                d->size = pk_load(size);
        }
        if (!plain)
                d->size = 0;
        return 0;
}

static int shape_of(struct pickle *p, uint64_t shape, uint64_t *ret, bool *ret_ok)
{
        int64_t dims[MLC_FORMAT_RANK_MAX];
        size_t n = pk_count(shape);

        *ret_ok = pk_kind(shape) == PK_TUPLE && n <= MLC_FORMAT_RANK_MAX;
        for (size_t i = 0; i < n && *ret_ok; i++) {
                uint64_t v = pk_item(p, shape, i);

                *ret_ok = pk_kind(v) == PK_INT;
                dims[i] = (int64_t)pk_load(v);
        }
        *ret_ok = *ret_ok && fmt_product(dims, n, ret);
        return 0;
}

/* An array of objects is a pickle of its own, with its own stack and memo, in the midst of ours. */
static int nested(struct pickle *p)
{
        struct pickle outer = *p;
        int r;

        if (p->depth == NESTED_MAX)
                return fmt_stop(p->f, "pickle: arrays of objects nested too deeply");
        p->stack = NULL;
        p->memo = NULL;
        p->n_stack = p->stack_size = p->n_memo = p->memo_size = 0;
        p->depth++;
        r = pk_walk(p);
        free(p->stack);
        free(p->memo);
        p->stack = outer.stack;
        p->n_stack = outer.n_stack;
        p->stack_size = outer.stack_size;
        p->memo = outer.memo;
        p->n_memo = outer.n_memo;
        p->memo_size = outer.memo_size;
        p->depth--;
        p->stopped = false;
        if (r == 0)
                p->f->info->n_pickles++;
        return r;
}

/*
 * joblib puts the array's bytes right behind the BUILD: one byte with the length of the padding,
 * the padding, the items. pickle.load would take the same bytes for opcodes; since none is below
 * 0x28, the padding byte stops it, provided that it is one of those that joblib writes. That is why
 * older files, without padding, are not walked.
 */
static int skip_array(struct pickle *p, const struct pk_dtype *d, uint64_t elements)
{
        uint64_t pad, bytes;
        int r;

        if (d->object)
                return nested(p);
        r = fmt_in_uint(&p->in, 1, &pad);
        if (r < 0)
                return r;
        if (pad > ALIGNMENT)
                return pk_fault(p, "padding of a joblib array is longer than 16 bytes");
        if (__builtin_mul_overflow(elements, d->size, &bytes))
                return pk_fault(p, "joblib array too large");
        r = fmt_in_skip(&p->in, pad);
        return r < 0 ? r : fmt_in_skip(&p->in, bytes);
}

static int joblib_array(struct pickle *p, uint64_t state)
{
        static const char WHY[] = "pickle: a joblib array at byte %llu is not of a plain kind";
        const struct pk_dict *d;
        uint64_t shape, dtype, alignment, elements;
        bool a, b, c, ok;
        int r;

        if (pk_kind(state) != PK_DICT || p->dicts[pk_load(state)].partial)
                return fmt_stop(p->f, WHY, (unsigned long long)p->op_at);
        d = &p->dicts[pk_load(state)];
        r = pk_get(p, d, "shape", &shape, &a);
        if (r == 0)
                r = pk_get(p, d, "dtype", &dtype, &b);
        if (r == 0)
                r = pk_get(p, d, "numpy_array_alignment_bytes", &alignment, &c);
        if (r < 0)
                return r;
        if (!a || !b || pk_kind(dtype) != PK_DTYPE || p->dtypes[pk_load(dtype)].size == 0 || !c ||
            pk_kind(alignment) != PK_INT || pk_load(alignment) != ALIGNMENT)
                return fmt_stop(p->f, WHY, (unsigned long long)p->op_at);
        r = shape_of(p, shape, &elements, &ok);
        if (r < 0)
                return r;
        if (!ok)
                return fmt_stop(p->f, WHY, (unsigned long long)p->op_at);
        return skip_array(p, &p->dtypes[pk_load(dtype)], elements);
}

int pk_built(struct pickle *p, uint64_t object, uint64_t state)
{
        if (!p->f->joblib)
                return 0;
        if (pk_is(p, object, "joblib.numpy_pickle", "NumpyArrayWrapper"))
                return joblib_array(p, state);
        /* any other class that joblib reads for, or a class that the walk lost sight of */
        if (pk_kind(object) == PK_OTHER ||
            (pk_kind(object) == PK_OBJECT &&
             mlc_starts_with(p->f->info->imports[pk_load(object)].module, "joblib")))
                return fmt_stop(p->f,
                                "pickle: state set at byte %llu on an object whose class is "
                                "not known, in a file of joblib",
                                (unsigned long long)p->op_at);
        return 0;
}
