/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The inside of the embedded cluster; see cluster.h. */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "db/cluster.h"

#define CLUSTER_PATH_MAX 4096
#define CLUSTER_PORT "5432" /* only a part of the socket's name */

struct db_cluster {
        char dir[CLUSTER_PATH_MAX]; /* DIR/postgres */
        char data[CLUSTER_PATH_MAX]; /* DIR/postgres/data */
        char socket_dir[CLUSTER_PATH_MAX];
        bool attached; /* a running server's: not ours to tend or to stop */
        bool own_socket_dir; /* made for this run: removed at its end */
        char bin[256]; /* where postgres and initdb are */
        char conninfo[2 * CLUSTER_PATH_MAX + 128];
        int max_connections;
        pid_t pid; /* the postmaster, 0 when none runs */
        int64_t started_ms;
        int inherited_fd; /* a descriptor that children get too; -1 for none */

        bool change_user; /* we are root, it runs as `postgres` */
        bool need_search; /* a parent directory is closed to that account */
        uid_t uid; /* of the account that it runs as */
        gid_t gid;
        gid_t groups[64];
        int n_groups;
        char account[64], self[64]; /* names of that account and of ours */
};

/* cluster_proc.c: starts argv as the cluster's account, bound to our life; output goes to
 * DIR/postgres/log. */
int cluster_spawn(struct db_cluster *c, const char *const argv[], int stdin_fd, pid_t *ret,
                  struct mlc_err *err) MLC_CHECK;
/* The same, waited for; input may be NULL. MLC_E_UNAVAILABLE with the last line that it wrote. */
int cluster_run(struct db_cluster *c, const char *const argv[], const char *input,
                struct mlc_err *err) MLC_CHECK;
/* The last line of the log that tells of an error, or "". */
void cluster_last_words(const struct db_cluster *c, char *ret, size_t size);
/* Stops a postmaster that an earlier mlctld left behind, and removes its stale pid file. */
int cluster_stop_stray(struct db_cluster *c, struct mlc_err *err) MLC_CHECK;
/* The status word of postmaster.pid ("ready", "starting", …) when it is of this process; "" else.
 */
void cluster_status(const struct db_cluster *c, char *ret, size_t size);

/* The socket directory that a running postmaster of ours wrote down; MLC_E_UNAVAILABLE when none
 * runs. */
int cluster_running_socket(struct db_cluster *c, struct mlc_err *err) MLC_CHECK;

/* cluster_init.c: finds the programs and makes the data directory when there is none. */
int cluster_account(struct db_cluster *c, struct mlc_err *err) MLC_CHECK;
void cluster_paths(struct db_cluster *c, const char *data_dir);
int cluster_directories(struct db_cluster *c, const char *data_dir, struct mlc_err *err) MLC_CHECK;
int cluster_prepare(struct db_cluster *c, struct mlc_err *err) MLC_CHECK;
