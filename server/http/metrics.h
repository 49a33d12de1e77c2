/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

/*
 * The Prometheus text of GET /metrics (format 0.0.4). A module keeps its own atomic numbers and
 * writes them when asked: app->hooks.metrics[app->hooks.n_metrics++] = function. Names begin with
 * "mlctl_"; counters end in
 * "_total", times are in seconds. `labels` is NULL or the text between the braces, made with
 * metrics_label(); lines of one name must follow each other.
 */
struct metrics_out;

void metrics_counter(struct metrics_out *out, const char *name, const char *help,
                     const char *labels, double value);
void metrics_gauge(struct metrics_out *out, const char *name, const char *help, const char *labels,
                   double value);
/* Appends `name="value"` (escaped, with a comma when buf is not empty); cut when buf is full. */
void metrics_label(char *buf, unsigned size, const char *name, const char *value);
