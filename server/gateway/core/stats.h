/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/str.h"
#include "shm.h"

/* GET /v1/stats and GET /metrics, see ../README.md. With the writer's lock held. `wanted` says of
 * each route of the table in force whether it is; NULL: all are. */
void gw_stats_json(const struct gw_shm *shm, const char *now, const bool *wanted,
                   struct mlc_str *ret);
void gw_stats_prometheus(const struct gw_shm *shm, uint64_t now_ms, struct mlc_str *ret);
/* GET /v1/table: the table's own text, and "leases" and "tripped". */
void gw_stats_table(const struct gw_shm *shm, uint64_t now_ms, struct mlc_str *ret);
