/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/json.h"
#include "mlctl/error.h"

/*
 * HTTP to one server, over libcurl (this folder is its only user). A client is one connection: one
 * thread at a time; parallel transfers take one client each (mlc_client_clone). Redirects are
 * followed on the same host only, so that the token never goes elsewhere. Connecting takes at most
 * 10 s; a transfer that moves less than 1 KiB/s for 60 s is given up.
 */
struct mlc_client;

/* url: "http://HOST:PORT" or https, optionally with a path prefix. token NULL: anonymous. */
int mlc_client_new(const char *url, const char *token, struct mlc_client **ret,
                   struct mlc_err *err) MLC_CHECK;
int mlc_client_clone(const struct mlc_client *c, struct mlc_client **ret,
                     struct mlc_err *err) MLC_CHECK;
void mlc_client_free(struct mlc_client *c); /* NULL-safe */
void mlc_client_free_p(struct mlc_client **c);
const char *mlc_client_url(const struct mlc_client *c); /* normalised: no trailing slash */

/* Called with what was moved so far in this request; a non-zero return gives the transfer up. */
typedef int (*mlc_progress)(void *userdata, uint64_t bytes);

struct mlc_request {
        const char *method; /* "GET", … */
        const char *path; /* begins with '/'; encoded by the caller (mlc_url_encode) */
        const char *const *headers; /* NULL, or "Name: value" strings ending with NULL */
        /* At most one of body and upload_fd. */
        const void *body;
        size_t body_len;
        const char *content_type; /* of the body; default application/json */
        bool upload; /* send upload_len bytes of upload_fd from upload_off */
        int upload_fd;
        uint64_t upload_off, upload_len;
        /* Where the reply's body goes: to memory (at most reply_max bytes, default 16 MiB), or, for
         * 2xx, into a callback. */
        size_t reply_max;
        int (*sink)(void *userdata, const void *data, size_t len); /* negative stops */
        int sink_status; /* only a reply with this status goes to the sink; 0: every 2xx */
        void *userdata; /* for sink and progress */
        mlc_progress progress;
        bool allow_error; /* statuses >= 400 are returned like others instead of failing */
};

struct mlc_response {
        int status;
        struct mlc_str body; /* what was not given to the sink */
        struct mlc_str headers; /* lines "name: value\n", names in lower case */
};

/*
 * Statuses >= 400 fail with the problem document's code and detail (err.field the first error's
 * pointer); no connection, a timeout or a broken transfer is MLC_E_UNREACHABLE. *ret is filled when
 * a reply came, also on failure by status; free it with mlc_response_done. A request without a sink
 * or upload is retried (3 times, backing off) on MLC_E_UNREACHABLE and 503 when it is a GET or
 * carries an Idempotency-Key; never when the problem is "read-only".
 */
int mlc_client_do(struct mlc_client *c, const struct mlc_request *req, struct mlc_response *ret,
                  struct mlc_err *err) MLC_CHECK;
void mlc_response_done(struct mlc_response *r);
/* Value of a reply header (lower-case name) copied into the buffer; false when absent or longer. */
bool mlc_response_header(const struct mlc_response *r, const char *name, char *ret, size_t size);
/* The problem document of the last failed reply, or NULL; owned by the client until the next
 * request. */
const json_t *mlc_client_problem(const struct mlc_client *c);

/* JSON in (NULL: no body), JSON out (ret may be NULL). */
int mlc_client_json(struct mlc_client *c, const char *method, const char *path, const json_t *body,
                    json_t **ret, struct mlc_err *err) MLC_CHECK;
/* All pages of a list operation ({"items":[…],"next":CURSOR|null}); path may hold a query. max
 * items at most. */
int mlc_client_list(struct mlc_client *c, const char *path, size_t max, json_t **ret,
                    struct mlc_err *err) MLC_CHECK;

/* Appends text with everything but unreserved characters percent-encoded. */
void mlc_url_encode(struct mlc_str *ret, const char *text);
