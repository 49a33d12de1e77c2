/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>

#include "http/conn.h"
#include "http/watch.h"

struct MHD_Daemon;

#define HTTP_ADDRESS_MAX 128

/* The module; app->http. */
struct http {
        struct app *app;
        struct MHD_Daemon *daemon;
        int listen_fd; /* -1 once the daemon has it */
        char address[HTTP_ADDRESS_MAX];
        struct watch watch;
        struct api_patterns patterns;
        struct cursor_key cursor_key;
        struct metrics_store *metrics;
        unsigned polls_max;
        atomic_uint polls;
        atomic_bool draining;
};

/* listen.c: "HOST:PORT" or "[V6]:PORT" bound and listening; its address as URL. */
int http_listen(const char *where, int *ret_fd, char ret_address[HTTP_ADDRESS_MAX],
                struct mlc_err *err) MLC_CHECK;
/* conn.c: hands the listening socket to libmicrohttpd. */
int http_daemon_start(struct http *h, unsigned hard_cap, struct mlc_err *err) MLC_CHECK;
/* Stops accepting. */
void http_daemon_quiesce(struct http *h);
void http_daemon_stop(struct http *h);
