/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "mlctl/error.h"

/*
 * The listener, a module of the composition root (app->http). One thread per connection; a second
 * one watches for clients that are too slow (see server/http/README.md for the limits).
 */
struct app;
struct http;

/*
 * Binds app->config.listen (HOST:PORT, [V6]:PORT; port 0 takes a free one), makes
 * DIR/keys/cursor.key when it does not exist, and starts serving: all other modules must have
 * started. Sets app->http. The handlers' hooks for /readyz and /metrics are read from app->hooks
 * from now on.
 */
int http_start(struct app *app, struct mlc_err *err) MLC_CHECK;

/* "http://HOST:PORT" as bound, for DIR/address; lives as long as app->http. */
const char *http_address(const struct app *app);

/*
 * Stops accepting, ends idle connections and long polls, and waits at most timeout_ms for requests
 * in progress. Afterwards http_stop() cuts what is left. Both accept an app whose http is NULL.
 */
void http_drain(struct app *app, int64_t timeout_ms);
void http_stop(struct app *app);
