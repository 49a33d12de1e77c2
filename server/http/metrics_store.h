/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "app.h"
#include "base/str.h"
#include "http/metrics.h"
#include "http/operation.h"

/* The listener's own numbers: requests by operation and status, and how long they took. Any thread.
 */
struct metrics_store;

struct metrics_store *metrics_new(void);
void metrics_free(struct metrics_store *m); /* NULL-safe */
void metrics_count(struct metrics_store *m, const struct api_operation *op, int status, int64_t ms);

/* A text being written. */
struct metrics_out {
        struct mlc_str text;
        const char *last_name; /* its HELP and TYPE are written already */
};

void metrics_write(const struct metrics_store *m, struct metrics_out *out);
