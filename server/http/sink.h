/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>

#include "mlctl/error.h"

/*
 * A listener beside the API that only takes: what is sent to it is handed on, and every request is
 * answered 204 with nothing as soon as it is there, whatever it was. For copies of requests, whose
 * sender waits for nobody. Asks nobody who they are: it belongs on loopback or a private network.
 * One thread; SINK_CONNECTIONS_MAX connections, of one address SINK_ADDRESS_CONNECTIONS_MAX, idle
 * ones close after SINK_IDLE_S.
 */
struct http_sink;

#define SINK_CONNECTIONS_MAX 256
#define SINK_ADDRESS_CONNECTIONS_MAX 192 /* a proxy is one address */
#define SINK_IDLE_S 30
#define SINK_ADDRESS_MAX 128

struct http_sink_in {
        const char *where; /* HOST:PORT; port 0 takes a free one */
        size_t body_max;
        /* In the listener's thread, must not wait. `body` is borrowed; NULL when it was longer than
         * body_max, or not plain JSON: compressed, or with binary data behind it. */
        void (*take)(void *userdata, const char *path, const char *body, size_t len);
        void *userdata;
        /* Requests with this header are answered, but not handed on, and the first of them is
         * logged; NULL: none. A literal. */
        const char *not_with;
};

/* *in is copied. The address is that of a URL, "http://HOST:PORT". */
int http_sink_start(const struct http_sink_in *in, struct http_sink **ret,
                    char ret_address[SINK_ADDRESS_MAX], struct mlc_err *err) MLC_CHECK;
void http_sink_stop(struct http_sink *s); /* NULL-safe; nothing is taken afterwards */
