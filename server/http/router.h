/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "http/operation.h"

#define ROUTER_SEGMENTS_MAX 48
#define ROUTER_PARAMS_MAX 32
#define ROUTER_QUERY_MAX 64

/* A request target, taken apart and percent-decoded into the arena. */
struct router_query {
        const char *name, *value;
};

struct router_target {
        const char *segments[ROUTER_SEGMENTS_MAX]; /* "/v2/" has two: "v2" and "" */
        unsigned n_segments;
        struct router_query query[ROUTER_QUERY_MAX];
        unsigned n_query;
};

struct router_match {
        const struct api_operation *op;
        const char
                *params[ROUTER_PARAMS_MAX]; /* by the index in op->params; NULL: not of the path */
        char allow[64]; /* after MLC_E_METHOD: the value of Allow */
};

struct router_table {
        const struct api_operation *ops;
        unsigned n;
};

/* MLC_E_INVALID for bad escapes, NUL, control characters and text that is not UTF-8;
 * MLC_E_NOT_FOUND when it has more segments than any route. */
int router_parse(struct mlc_ctx *ctx, const char *raw, struct router_target *ret) MLC_CHECK;
/* HEAD is answered by GET. MLC_E_NOT_FOUND, or MLC_E_METHOD with ret->allow. */
int router_match(struct mlc_ctx *ctx, const struct router_table *table, const char *method,
                 const struct router_target *target, struct router_match *ret) MLC_CHECK;
/* True when an OCI path (/v2/...) has a repository name that is not exactly NAMESPACE/MODEL. */
bool router_oci_name_invalid(const struct router_target *target);
