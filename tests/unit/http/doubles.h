/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app.h"
#include "codec/json.h"

/*
 * A listener with the test contract, whose handlers are here too. Identity is what the token says:
 * "Bearer ROLE@NS,ROLE@NS"; the log refuses writes while `log_read_only`; the table of stored
 * replies is in memory.
 */
struct doubles {
        struct app app;
        char dir[64];
        bool log_read_only;
        atomic_ulong created, uploads_opened, uploads_done, uploads_aborted;
        atomic_ullong upload_bytes;
        bool upload_fails; /* the write that passes 64 KiB says so */
        int64_t create_ms; /* what t_create takes before its transaction */
};

extern struct doubles doubles;

void doubles_start(int64_t max_connections);
void doubles_stop(void);

/* A raw connection to the listener, from 127.0.0.N. */
int client_connect(unsigned n);
void client_send(int fd, const char *text, size_t len);
/* One reply: status, headers and body; 0 when the server closed without one. */
struct client_reply {
        int status;
        char head[8192];
        char *body; /* malloc'ed, NUL-terminated */
        size_t len;
};
int client_read(int fd, bool head_only, struct client_reply *ret);
void client_reply_done(struct client_reply *r);
/* Connects, sends "METHOD TARGET HTTP/1.1" with Host, the headers (each ended by CRLF) and the
 * body. */
struct client_request {
        const char *method, *target, *token, *headers, *body;
};
struct client_reply client_ask(const struct client_request *q);
/* The value of a reply header in a static buffer, or NULL. */
const char *client_header(const struct client_reply *r, const char *name);
