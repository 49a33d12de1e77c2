/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "app.h"
#include "http/cursor.h"
#include "http/operation.h"

/* What the rest of the folder asks of the listener. */
struct http;
struct metrics_store;
struct metrics_out;

const struct api_patterns *http_patterns(const struct http *h);
struct metrics_store *http_metrics(struct http *h);
const struct cursor_key *http_cursor_key(const struct app *app);
/* Takes one of the places for long polls; false when none is free. */
bool http_poll_begin(struct http *h);
void http_poll_end(struct http *h);
/* Connections, refusals and cuts. */
void http_write_numbers(struct http *h, struct metrics_out *out);
