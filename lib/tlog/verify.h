/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "crypto/note.h"
#include "tlog/source.h"

/* The first thing that is wrong. index is the leaf's; the size of the log for what no leaf accounts
 * for. */
struct mlc_tlog_finding {
        uint64_t index;
        char what[400];
};

/* A tree that the log must contain: an earlier checkpoint, an anchor, the signing state. */
struct mlc_tlog_mark {
        uint64_t size;
        struct mlc_digest root;
        const char *what; /* "the checkpoint seen last", for the message */
};

/* An entry: a leaf and its hash. */
struct mlc_tlog_row {
        const void *leaf;
        size_t len;
        struct mlc_digest hash;
};

struct mlc_tlog_verify {
        struct mlc_tlog_source src;
        struct mlc_vkeys keys; /* trusted; not asked of the log */
        const struct mlc_tlog_mark *marks; /* ascending by size */
        size_t n_marks;
        /*
         * Optional. The entry at `index` as another store has it (a database row): ret->leaf is
         * valid until the next call. Asked for 0, 1, 2, …; MLC_E_NOT_FOUND when it is missing.
         */
        uint64_t rows_to; /* rows are asked for below this index */
        int (*row)(void *userdata, uint64_t index, struct mlc_tlog_row *ret, struct mlc_err *err);
        /* Optional: gets each entry once its hash has been checked. MLC_E_VERIFY is a finding. */
        int (*leaf)(void *userdata, uint64_t index, const struct mlc_tlog_row *row,
                    struct mlc_err *err);
        void *userdata;
};

/*
 * Re-derives every leaf hash, every tile and the root from the entry bundles, and compares: tiles,
 * rows, marks, and the checkpoint, which a trusted key must have signed. Streams; about 1 MiB, plus
 * one bundle. MLC_E_VERIFY with *finding when something is wrong (the message is the same), other
 * codes when a source failed. A log without a checkpoint file is MLC_E_NOT_FOUND.
 */
int mlc_tlog_verify(const struct mlc_tlog_verify *v, struct mlc_checkpoint *ret,
                    struct mlc_tlog_finding *finding, struct mlc_err *err) MLC_CHECK;

/* Sets finding and err to the same words; MLC_E_VERIFY. */
int mlc_tlog_found(struct mlc_tlog_finding *finding, uint64_t index, struct mlc_err *err,
                   const char *fmt, ...) __attribute__((format(printf, 4, 5)));
