/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "mlctl/error.h"

struct app;
struct db_cluster;

/*
 * The private PostgreSQL below DIR/postgres: made on first start, run as a child on a unix socket
 * only. It stops when this process ends, however that happens, because it is bound to the thread
 * that started it: call it from the main thread. One that still runs from a process that was killed
 * is stopped first. As root it runs as the account `postgres`. The caller holds DIR/lock.
 * MLC_E_UNAVAILABLE or MLC_E_CONFLICT (data of another major version) with what to do.
 */
int db_cluster_start(struct app *app, struct mlc_err *err) MLC_CHECK;
/*
 * Uses the cluster that a running server has started; db_cluster_stop leaves it running.
 * MLC_E_UNAVAILABLE.
 */
int db_cluster_attach(struct app *app, struct mlc_err *err) MLC_CHECK;
/* Fast shutdown, waited for; idempotent. */
void db_cluster_stop(struct app *app);
/*
 * Called by the main thread now and then: when PostgreSQL ended by itself it is started again.
 */
int db_cluster_tend(struct app *app, struct mlc_err *err) MLC_CHECK;
/*
 * Loads an exported snapshot of another database into the empty one of to->cluster, with pg_dump
 * and pg_restore of its version; the snapshot's transaction stays open meanwhile. Needs room for
 * the dump in to->config.data.
 */
int db_cluster_load(struct app *to, const char *from_conninfo, const char *snapshot,
                    struct mlc_err *err) MLC_CHECK;
const char *db_cluster_conninfo(const struct db_cluster *c); /* borrowed */
