/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "api/schema.h"
#include "auth/auth.h"
#include "ctx.h"

/* One operation of the contract, made by apigen.py; the table is in gen/api.c. */
struct http_reply;

enum api_permission {
        API_OPEN, /* no token */
        API_TOKEN, /* any valid token */
        API_ROLES_AT, /* one of `roles` in the namespace that the path names */
        API_ROLES_SOME, /* one of `roles` in some namespace; the rule checks which */
        API_ROLES_ALL, /* one of `roles` held everywhere */
        API_READ_AT, /* any role in the namespace that the path names */
};

enum api_body_kind { API_BODY_NONE, API_BODY_JSON, API_BODY_RAW, API_BODY_STREAM };

/* The body of an operation with x-body: raw; borrowed until the request ends. */
struct api_bytes {
        const void *data;
        size_t len;
};

struct api_segment {
        const char *literal; /* NULL: a parameter */
        int param; /* its index in params */
        bool rest; /* takes all further segments too */
};

struct api_operation {
        const char *id, *method, *path;
        const struct api_segment *segments;
        unsigned n_segments;
        const struct api_param *params;
        unsigned n_params;
        size_t req_size; /* sizeof struct api_ID_req */

        enum api_permission permission;
        unsigned roles;
        bool public_opens; /* open when the server runs with --public */
        size_t off_namespace; /* API_ROLES_AT, API_READ_AT */

        enum api_body_kind body;
        bool body_required;
        uint64_t body_max; /* bytes */
        const struct api_schema *body_schema; /* API_BODY_JSON */
        size_t off_body, off_has_body; /* has_body only where the body may be absent */

        bool audited; /* x-audit: leaf */
        bool idempotent, oci, waits;

        int (*call)(struct mlc_ctx *ctx, const void *req, struct http_reply *reply);
        /* API_BODY_STREAM instead of call, see http.h */
        int (*open)(struct mlc_ctx *ctx, const void *req, void **ret_sink);
        int (*write)(struct mlc_ctx *ctx, void *sink, const void *data, size_t len);
        void (*abort)(struct mlc_ctx *ctx, void *sink);
        int (*finish)(struct mlc_ctx *ctx, const void *req, void *sink, struct http_reply *reply);
};

/* Operations whose path has a literal stand before those that have a parameter in its place. */
extern const struct api_operation gen_operations[];
extern const unsigned gen_n_operations;
extern const char *const gen_patterns[];
extern const unsigned gen_n_patterns;
/* The united contract as JSON. */
extern const char gen_openapi[];
extern const size_t gen_openapi_len;
