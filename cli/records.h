/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "cli.h"
#include "examples.h"

/*
 * The evaluations of a bundle, each as its own parts say: `id` names manifest, submitted bytes and
 * examples; `document` is those bytes; `recomputed` is what the examples give.
 */
struct records {
        struct cli *cli;
        struct examples *examples;
        /* The bytes submitted for the evaluation with this id; at most MLC_EVALUATION_MAX. */
        int (*document)(struct records *r, const char *version, const char *id, struct mlc_str *ret,
                        struct mlc_err *err);
        void *userdata;
        bool may_lack; /* examples that are not there are counted, not refused */
        size_t checked, recomputed; /* evaluations; those of them whose examples were read */
        size_t left_out; /* those whose examples were not read: too large, or not there */
};

/*
 * Everything that `bundle` has of the version and of the champion. MLC_E_VERIFY names the first
 * evaluation that is not what it says; withdrawn ones are compared with their bytes only.
 */
int records_check(struct records *r, const json_t *bundle) MLC_CHECK;
/* A `document` that asks the server for versions of the bundle's model (userdata: its ns/model). */
int records_fetch(struct records *r, const char *version, const char *id, struct mlc_str *ret,
                  struct mlc_err *err) MLC_CHECK;
