/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "codec/json.h"
#include "mlctl/error.h"

/*
 * What moves traffic. A table (gateway-table/v1, server/gateway/README.md) is put whole; what is in
 * force is read back before it counts. Calls have a deadline of a few seconds and may come from any
 * thread. `control` is what the environment's document says: "unix:SOCKET", and for haproxy
 * "unix:SOCKET;map=FILE".
 */
struct traffic_ops {
        const char *name; /* traffic.driver of documents */
        /* The generation in force; 0 when it holds no table. MLC_E_UNREACHABLE. */
        int (*in_force)(const char *control, int64_t *ret, struct mlc_err *err);
        /* MLC_E_CONFLICT when a generation at least as new, but another table, is in force. */
        int (*put)(const char *control, const json_t *table, struct mlc_err *err);
        /* Candidates of this generation go on for `ms`; MLC_E_CONFLICT when it is another. NULL:
         * the driver has no leases. */
        int (*lease)(const char *control, int64_t generation, int64_t ms, struct mlc_err *err);
        /* Counters by route, variant and generation (server/gateway/README.md), and "tripped":
         * [{"route","variant"}…] that the gateway itself has taken to 0. `routes` names those that
         * are needed, others may be there as well; NULL: all. The caller's. */
        int (*stats)(const char *control, const json_t *routes, json_t **ret, struct mlc_err *err);
};

/* NULL: there is no such driver. */
const struct traffic_ops *traffic_find(const char *name);
extern const struct traffic_ops traffic_nginx;
extern const struct traffic_ops traffic_haproxy;
