/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codec/digest.h"
#include "codec/json.h"
#include "policy/evaluation.h"
#include "stats/stats.h"

/*
 * Results example by example: CSV (RFC 4180, UTF-8, one header line)
 * id,label,prediction[,score][,slice:NAME…]. Labels and predictions that both read as numbers are
 * compared as numbers (1 is 1.0), else as text. Ids are unique. The score is a finite number, the
 * higher the more likely the positive class.
 *
 * What can be computed: accuracy · precision:LABEL and recall:LABEL of each label (up to 100
 * labels) · with exactly two labels, precision and recall of the positive one (1, true, yes or
 * positive, else the later in byte order) and, with scores, auc · rmse and mae when all are
 * numbers · each of them in every slice. n counts what a metric is over: rows for accuracy, auc,
 * rmse and mae, rows with that label for recall, with that prediction for precision.
 */
#define MLC_EXAMPLES_MAX ((uint64_t)1 << 30) /* bytes */
#define MLC_EXAMPLES_CELL_MAX ((size_t)64 << 10)
#define MLC_EXAMPLES_ROWS_MAX 5000000
#define MLC_EXAMPLES_SLICES_MAX 200 /* different values of all slice columns together */
#define MLC_EXAMPLES_TEXTS_MAX 10000 /* different labels and predictions that are no numbers */
#define MLC_EXAMPLES_LABELS_MAX 100 /* with more, no precision and recall */

/* Where the bytes come from. read() gives up to len bytes, *ret_n 0 only at the end. */
struct mlc_examples_in {
        int (*read)(void *userdata, void *buf, size_t len, size_t *ret_n, struct mlc_err *err);
        void *userdata;
};
/* *fd is read from where it stands, and must outlive the reading; it stays the caller's. */
void mlc_examples_in_fd(struct mlc_examples_in *ret, int *fd);

struct mlc_examples; /* about 50 bytes a row; free with mlc_examples_free */

/*
 * Reads it in one pass. ret_digest (may be NULL) is the SHA-256 of all bytes. MLC_E_INVALID with
 * "line N, …: …" (err.field "/examples"), MLC_E_LIMIT, MLC_E_IO.
 */
int mlc_examples_load(const struct mlc_examples_in *in, struct mlc_examples **ret,
                      struct mlc_digest *ret_digest, struct mlc_err *err) MLC_CHECK;
void mlc_examples_free(struct mlc_examples *x); /* NULL-safe */
static inline void mlc_examples_free_p(struct mlc_examples **x)
{
        mlc_examples_free(*x);
}
int64_t mlc_examples_rows(const struct mlc_examples *x);

/* One metric; false when the examples do not say (another name, no such slice, nothing in it). */
bool mlc_examples_metric(const struct mlc_examples *x, const char *name, const json_t *slice,
                         double *ret_value, int64_t *ret_n);
/*
 * The "recomputed" list of an evaluation's record: [{"name","slice":{…}|null,"value":"0.9…","n"}],
 * all that can be computed overall and in each slice of one name, and what `e` (may be NULL) claims
 * in slices of several names. In slices, precision and recall only up to 10 labels. The caller's.
 */
int mlc_examples_recompute(const struct mlc_examples *x, const struct mlc_evaluation *e,
                           json_t **ret, struct mlc_err *err) MLC_CHECK;
/*
 * MLC_E_INVALID with the pointer of the first metric of e that differs from what the examples say
 * ("/metrics/0/value", "/metrics/0/n"). Values may be rounded, to at least three decimals.
 */
int mlc_examples_compare(const struct mlc_examples *x, const struct mlc_evaluation *e,
                         struct mlc_err *err) MLC_CHECK;

enum mlc_pairing {
        MLC_PAIRED, /* *ret is set */
        MLC_PAIR_NO_METRIC, /* not a share of right answers that pairs: only accuracy, recall do */
        MLC_PAIR_OTHER_IDS, /* the sets of ids differ */
        MLC_PAIR_OTHER_LABELS, /* an example has another label, or another slice, in the other */
        MLC_PAIR_EMPTY, /* no example in that slice or of that label */
};
/* b: only `one` is right; c: only `two`. Over the rows of the slice. */
enum mlc_pairing mlc_examples_pair(const struct mlc_examples *one, const struct mlc_examples *two,
                                   const char *metric, const json_t *slice, struct mlc_paired *ret);
