/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <netinet/in.h>
#include <sys/types.h>

#include "base/str.h"
#include "gateway/gateway.h"

#define GATEWAY_PATH_MAX 4200

struct gateway {
        char dir[GATEWAY_PATH_MAX]; /* DIR/gateway */
        char address_file[GATEWAY_PATH_MAX + 32];
        char address[80]; /* HOST:PORT as it is */
        char nginx[64]; /* the program */
        char module[GATEWAY_PATH_MAX + 64]; /* as the child sees it */
        int listen_fd, control_fd;
        bool change_user;
        uid_t uid;
        gid_t gid;
        pid_t pid; /* 0: does not run */
        int64_t started_ms; /* monotonic */
};

/* Folder, module and programs; fills in all of g but sockets and child. */
int gateway_prepare(struct gateway *g, const char *data, struct mlc_err *err) MLC_CHECK;
/* Text of nginx.conf, all paths relative to DIR/gateway but the control socket's. */
void gateway_write_conf(const struct gateway *g, struct mlc_str *ret);
/* "HOST:PORT", port 0 for a free one. Takes some seconds while another still holds the port. */
int gateway_bind(struct gateway *g, const char *where, struct mlc_err *err) MLC_CHECK;
/* Writes DIR/gateway/NAME, readable by the account of the child. */
int gateway_write_file(const struct gateway *g, const char *name, const void *data, size_t len,
                       struct mlc_err *err) MLC_CHECK;
int gateway_bind_unix(const struct gateway *g, const char *name, int type, int *ret_fd,
                      struct mlc_err *err) MLC_CHECK;
