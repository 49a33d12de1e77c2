/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "mlctl/error.h"

#define MLC_PARALLEL_MAX 16 /* threads */

struct mlc_parallel {
        /* Called once for each i in 0..n-1, by one of the threads; `worker` (0..threads-1) names
         * it, for what belongs to one thread (a connection). A failure lets the others finish what
         * they are at and starts no more. */
        int (*run)(void *userdata, size_t i, unsigned worker, struct mlc_err *err);
        void *userdata;
        size_t n;
        unsigned threads; /* 1..MLC_PARALLEL_MAX; fewer are started when n is smaller */
};

/* Returns when all have ended: 0, or the first failure. */
int mlc_parallel_run(const struct mlc_parallel *p, struct mlc_err *err) MLC_CHECK;
