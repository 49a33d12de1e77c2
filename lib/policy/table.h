/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "base/map.h"
#include "policy/examples.h"

/* The columns of an examples file in memory; shared by examples.c, table.c and recompute.c. */
#define TABLE_NO_CLASS 255

struct table_cell {
        double number; /* when text is 0 */
        uint32_t text; /* index + 1 into texts */
};

struct table_slice {
        unsigned column; /* into slice_names */
        char *value;
};

struct mlc_examples {
        size_t n, size; /* rows, allocated */
        uint64_t (*ids)[2]; /* of each id, two hashes with fixed keys: what stands for it */
        struct table_cell *labels, *predictions;
        double *scores; /* NULL without that column */
        uint16_t *slices; /* n_slice_names of each row: index into slice_values */
        uint8_t *label_class, *prediction_class; /* into classes; TABLE_NO_CLASS */

        char **texts;
        size_t n_texts;
        struct mlc_map text_index; /* text → index + 1 */

        char *slice_names[64];
        unsigned n_slice_names;
        struct table_slice slice_values[MLC_EXAMPLES_SLICES_MAX];
        unsigned n_slice_values;

        struct table_cell classes[MLC_EXAMPLES_LABELS_MAX]; /* different labels, sorted */
        unsigned n_classes;
        bool too_many_classes; /* then n_classes is 0 */
        int positive; /* class, -1 when there are not exactly two */
        bool numeric; /* every label and prediction is a number */

        uint64_t seed[2]; /* of the index: others choose the ids */
        uint32_t *index; /* row + 1, open addressing */
        size_t n_index;
};

bool table_equal(struct table_cell a, struct table_cell b);
/* Text of a class as in names of metrics; MLC_EXAMPLES_CELL_MAX at most. */
const char *table_class_name(const struct mlc_examples *x, unsigned i, char buf[32]);
/* The row with this id, or -1. */
int64_t table_find(const struct mlc_examples *x, const uint64_t id[2]);
/* Appends the row of `id` with room for everything; false when the id is there already. */
bool table_add(struct mlc_examples *x, const char *id, size_t len);
/* After the last row: classes, the positive one, whether all are numbers. */
void table_finish(struct mlc_examples *x);
/* Resolves a slice to indices into slice_values, -1 for names it lacks; false: no such value. */
struct table_filter {
        unsigned n;
        unsigned column[MLC_SLICE_KEYS_MAX];
        uint16_t value[MLC_SLICE_KEYS_MAX];
};
bool table_filter_of(const struct mlc_examples *x, const json_t *slice, struct table_filter *ret);
static inline bool table_in(const struct mlc_examples *x, const struct table_filter *f, size_t row)
{
        for (unsigned i = 0; i < f->n; i++)
                if (x->slices[row * x->n_slice_names + f->column[i]] != f->value[i])
                        return false;
        return true;
}
