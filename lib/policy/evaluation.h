/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "codec/ref.h"

/* An evaluation: metrics of one version on one dataset (schema evaluation/v1). */
#define MLC_EVALUATION_MAX ((size_t)4 << 20) /* bytes submitted */
#define MLC_METRICS_MAX 1000
#define MLC_METRIC_NAME_MAX 128 /* bytes of names, units, and of slices' names and values */
#define MLC_SLICE_KEYS_MAX 8

struct mlc_metric {
        const char *name;
        double value;
        int64_t n; /* at least 1 */
        json_t *slice; /* {"age":"65+"}; NULL for the whole dataset. Values are always text */
        const char *unit; /* NULL: none */
        bool lower_is_better;
        bool has_interval;
        double lo, hi, confidence; /* lo <= value <= hi; confidence 0.95 unless said */
};

struct mlc_evaluation {
        struct mlc_dataset dataset;
        const char *dataset_ref; /* as submitted */
        const char *repository, *commit; /* of the code; NULL when not given */
        int64_t evaluated_at_ms;
        struct mlc_metric *metrics; /* in the arena */
        size_t n_metrics;
};

/*
 * Validates a parsed evaluation; strings are borrowed from doc, which must outlive ret.
 * MLC_E_INVALID with the JSON pointer of the field in err.field: unknown fields, n <= 0, intervals
 * that do not hold the value, two metrics with the same name and slice, dates without a time.
 */
int mlc_evaluation_read(const json_t *doc, struct mlc_arena *a, struct mlc_evaluation *ret,
                        struct mlc_err *err) MLC_CHECK;
/* The same from the bytes submitted. *ret_doc is the caller's. What JSON cannot hold (NaN,
 * Infinity, 1e999) is named by its pointer too. */
int mlc_evaluation_parse(const char *text, size_t len, struct mlc_arena *a, json_t **ret_doc,
                         struct mlc_evaluation *ret, struct mlc_err *err) MLC_CHECK;

/* SHA-256 of the RFC 8785 form of {"examples":…|null,"manifest":…,"submitted":…}; examples may be
 * NULL. */
void mlc_evaluation_id(const struct mlc_digest *manifest, const struct mlc_digest *submitted,
                       const struct mlc_digest *examples, struct mlc_digest *ret);

/* Equal names of slices with equal values; NULL is {}. */
bool mlc_slice_equal(const json_t *a, const json_t *b);
