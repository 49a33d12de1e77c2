/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "stats/drift.h"

/*
 * Sketch of any numbers in logarithmic buckets (DDSketch), mergeable by addition, bit-identical in
 * any order: relative error 1 %. Bucket i of magnitudes holds gamma^(i-1) < |x| <= gamma^i, gamma =
 * 1.01 / 0.99; what is below MLC_SKETCH_MIN counts as zero. Ordered as numbers are: negative
 * buckets from the largest magnitude, zero, positive.
 */
#define MLC_SKETCH_FIRST (-690) /* about 1e-6 */
#define MLC_SKETCH_LAST 1036 /* about 1e9; further ones are in it */
#define MLC_SKETCH_SIDE (MLC_SKETCH_LAST - MLC_SKETCH_FIRST + 1)
#define MLC_SKETCH_CELLS (2 * MLC_SKETCH_SIDE + 1)

/* Cell 0 … MLC_SKETCH_CELLS - 1 of a number, in order; NaN is an assert. */
unsigned mlc_sketch_cell(double x);
/* The number that a cell stands for. */
double mlc_sketch_value(unsigned cell);

/*
 * Bins for comparing two distributions: `cells` of the reference are cut into at most `bins` of
 * about equal counts. current and reference are counts by cell; ret_current and ret_reference have
 * room for `bins`. Returns the number of bins made (1 when all of the reference is in one cell).
 */
struct mlc_rebin {
        const int64_t *current, *reference;
        unsigned cells, bins;
};
unsigned mlc_rebin(struct mlc_rebin in, int64_t *ret_current, int64_t *ret_reference);
