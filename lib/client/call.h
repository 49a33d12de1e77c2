/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "mlctl/error.h"

/*
 * One HTTP/1.1 call to a server that is not ours and is not trusted: inference servers, webhooks,
 * metrics, and the gateway's control socket. Other than client/http.h it follows no redirect, asks
 * no proxy, retries nothing, decodes no compression, sends no credential that the caller did not
 * give, and ends at a deadline whatever the other side does.
 */
struct mlc_caller; /* keeps connections alive between calls; one thread at a time */

#define MLC_CALL_REPLY_MAX ((size_t)1 << 20) /* default cap of a reply's body */
#define MLC_CALL_HEADERS_MAX ((size_t)32 << 10)

void mlc_caller_new(struct mlc_caller **ret);
void mlc_caller_free(struct mlc_caller *c); /* NULL-safe */
void mlc_caller_free_p(struct mlc_caller **c);

struct mlc_call {
        const char *method; /* "GET", "POST", "PUT", "DELETE" */
        const char *url; /* http:// or https://, without user name; path and query encoded */
        const char *unix_socket; /* connect here instead of to the url's host; NULL: TCP */
        const char *address; /* "ADDRESS:PORT" to connect to instead; NULL or "": what it means */
        const char *const *headers; /* NULL, or "Name: value" strings ending with NULL */
        const void *body; /* NULL: none (POST and PUT then send an empty one) */
        size_t body_len;
        const char *content_type; /* of the body; default application/json */
        int64_t timeout_ms; /* for all of it, > 0 */
        size_t reply_max; /* bytes of the body; 0: MLC_CALL_REPLY_MAX */
        bool loopback_only; /* refuse to connect to any other address, whatever the name means */
        /* Asked now and then (at least once a second); true gives the call up. NULL: never. */
        bool (*cancelled)(void *userdata);
        void *userdata;
};

#define MLC_PEER_MAX 64

struct mlc_reply {
        int status; /* 100 … 599, as sent; 3xx too */
        char peer[MLC_PEER_MAX]; /* who answered: "127.0.0.1:8081", "[::1]:8081"; "" by a socket */
        struct mlc_str body; /* any bytes */
        struct mlc_str headers; /* lines "name: value\n", names in lower case */
};

/*
 * 0 when a whole reply came, whatever its status; the caller frees *ret with mlc_reply_done, which
 * is left untouched otherwise. MLC_E_UNREACHABLE: not connected, broken off, not HTTP (nothing is
 * known about what the other side did); MLC_E_TIMEOUT: time was up; MLC_E_LIMIT: body or headers
 * too large; MLC_E_FORBIDDEN: the address is not on this machine; MLC_E_CONFLICT: cancelled.
 */
int mlc_call(struct mlc_caller *c, const struct mlc_call *call, struct mlc_reply *ret,
             struct mlc_err *err) MLC_CHECK;
void mlc_reply_done(struct mlc_reply *r);
/* Value of a reply header (lower-case name) copied into the buffer; false when absent or longer. */
bool mlc_reply_header(const struct mlc_reply *r, const char *name, char *ret, size_t size);

#define MLC_HOST_PORT_MAX 320

/*
 * "host:port" of a URL: lower case, the scheme's port when none is given, IPv6 in brackets. Refuses
 * (MLC_E_INVALID) what is not http or https, has a user name, a fragment or control characters.
 */
int mlc_url_host_port(const char *url, char ret[MLC_HOST_PORT_MAX], struct mlc_err *err) MLC_CHECK;

/* Whether the url's host still leads to "ADDRESS:PORT" (struct mlc_reply.peer), among others. Asks
 * the resolver, so it may take seconds. */
bool mlc_url_leads_to(const char *url, const char *address);

/*
 * Whom the server may call. `allow`: the "HOST:PORT" entries of --egress-allow, compared without
 * regard to case; with none, loopback only: localhost, 127.0.0.0/8, [::1], any port, and then
 * *ret_loopback_only is true and belongs into struct mlc_call, so that a name that is resolved
 * elsewhere does not help. MLC_E_FORBIDDEN otherwise, saying which option to add.
 */
int mlc_egress_check(const char *const *allow, size_t n_allow, const char *url,
                     bool *ret_loopback_only, struct mlc_err *err) MLC_CHECK;
/* An entry of --egress-allow: HOST:PORT, one of each, no wildcard. */
int mlc_egress_entry_check(const char *entry, struct mlc_err *err) MLC_CHECK;
