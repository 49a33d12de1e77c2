/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "shm.h"

/*
 * The control protocol, without HTTP around it: see ../README.md. May block (it writes the table's
 * file durably) and is called from threads of any process that shares the memory.
 */
#define GW_REPLY_MAX (128 << 20)

struct gw_control {
        struct gw_shm *shm;
        int dir_fd; /* folder of the table's file */
        const char *file; /* its name there; NULL: the table is kept in memory only */
};

struct gw_request {
        const char *method, *path;
        const char *body;
        size_t len;
};

struct gw_reply {
        int status;
        const char *type; /* Content-Type */
        struct mlc_str body; /* the caller's, to be done with */
};

void gw_control_handle(const struct gw_control *control, const struct gw_request *request,
                       struct gw_reply *ret);
/*
 * What a start does: the file's table comes into force, with a fresh lease. A missing file is fine,
 * a broken one MLC_E_INVALID: then every route is unknown until the next table comes.
 */
int gw_control_load(const struct gw_control *control, struct mlc_err *err) MLC_CHECK;
