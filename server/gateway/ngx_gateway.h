/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The nginx side of the gateway: what its files share. Everything that needs no nginx is in core/.
 */
#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>

#include "core/control.h"
#include "core/rewrite.h"
#include "core/shm.h"
#include "rollout/tap.h"

#define GW_REPLY_BUFFER (1 << 20) /* default of mlctl_gateway_buffer */
#define GW_ID_MAX 128 /* of X-Request-Id from a client */
#define GW_TRIES_MAX 3 /* endpoints tried for one request */

struct gateway_main {
        ngx_shm_zone_t *zone; /* data: struct gw_shm */
        ngx_fd_t dir_fd; /* folder of the table's file */
        ngx_str_t file; /* its name there */
        ngx_str_t tap; /* path of the collector's socket; empty: no tap */
        ngx_uint_t used; /* any of our directives stands in the configuration */
};

struct gateway_loc {
        ngx_flag_t enabled;
        size_t buffer; /* an answer up to this size is checked before its first byte is sent */
};

enum gateway_kind { GATEWAY_INFER, GATEWAY_METADATA, GATEWAY_READY };

/* Of one request. */
struct gateway_ctx {
        struct gw_choice choice;
        enum gateway_kind kind;
        ngx_str_t id; /* X-Request-Id */
        ngx_str_t route_text, version_text; /* of the choice, as text */
        const char *error; /* what to tell the client instead of nginx's page */
        char why[GW_ID_MAX + 128]; /* where error is made, not a literal */
        uint64_t start_us, end_us; /* monotonic: complete request, complete answer */
        uint64_t arrived_us; /* wall clock */
        unsigned chosen : 1, counted : 1; /* the choice is valid; is a request of the statistics */
        unsigned validated : 1, invalid : 1;
        unsigned reject : 1, gone : 1; /* when the body was there: invalid ones; the route is */
        unsigned sent : 1; /* upstream */
        unsigned stop : 1; /* no other endpoint may be tried */
        unsigned upstream_error : 1, timeout : 1, wrong_version : 1;
        unsigned tapped : 1;
        unsigned filtered : 1; /* the header has been seen */
        unsigned checking : 1, streaming : 1; /* the answer is looked at; its header has gone */
        unsigned replaced : 1, replaced_sent : 1; /* the answer is `out` whatever comes */
        unsigned binary : 1; /* JSON of json_left bytes, then tensors */
        uint32_t tried; /* bit per endpoint */
        int endpoint; /* being tried */
        size_t json_left;
        struct gw_rewrite rewrite;
        struct mlc_buf {
                u_char *data;
                size_t len, size;
        } out, reply; /* what goes to the client before its header; the tap's copy */
        uint32_t reply_total;
};

extern ngx_module_t ngx_mlctl_gateway_module;

struct gw_shm *gateway_shm(const ngx_http_request_t *r);
/* NULL when the request is none of ours; found again after an internal redirect. */
struct gateway_ctx *gateway_ctx(ngx_http_request_t *r);
uint64_t gateway_now_us(void); /* monotonic */
uint64_t gateway_now_ms(void);
/* Appends, doubling up to what is needed. */
ngx_int_t gateway_append(ngx_pool_t *pool, struct mlc_buf *b, const void *data, size_t len);

/* route.c: choose (precontent phase) and count (log phase) */
ngx_int_t gateway_route_handler(ngx_http_request_t *r);
ngx_int_t gateway_log_handler(ngx_http_request_t *r);
void gateway_seed(ngx_cycle_t *cycle);
/* tap.c */
void gateway_tap_open(ngx_cycle_t *cycle);
void gateway_tap_send(ngx_http_request_t *r, struct gateway_ctx *ctx);
/* upstream.c */
char *gateway_balancer(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
/* filter.c */
ngx_int_t gateway_filter_init(ngx_conf_t *cf);
/* control.c */
char *gateway_control_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
