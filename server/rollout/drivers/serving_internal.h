/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stdbool.h>

#include "client/call.h"
#include "codec/json.h"
#include "mlctl/serving.h"

/* What the drivers share. Only for the files of this folder. */

#define SRV_READY_MS 300000 /* ready_timeout when the document says none */
#define SRV_CALL_MS 10000 /* any call but loading; c->deadline_ms may be sooner */
#define SRV_INFER_REPLY_MAX ((size_t)16 << 20)
#define SRV_LIST_REPLY_MAX ((size_t)4 << 20)
#define SRV_PATH_MAX 640 /* of a request; names are at most MLC_SERVING_NAME_MAX long */

extern const struct mlc_serving_ops serving_oip, serving_triton, serving_webhook;

struct srv_request {
        const char *method;
        const char *path; /* appended to the instance's URL; "" for the URL itself */
        const char *body; /* NULL: none */
        size_t body_len;
        const char *const *headers; /* NULL: none */
        int64_t timeout_ms; /* at most; c->deadline_ms holds in any case */
        size_t reply_max; /* 0: 1 MiB */
};

/* True when a whole reply came (*ret_reply is then the caller's to free); else *ret says why. */
bool srv_call(const struct mlc_serving_call *c, const struct srv_request *req,
              struct mlc_reply *ret_reply, struct mlc_serving_result *ret);

/* Sets *ret; the text is made printable and put on one line. */
void srv_set(struct mlc_serving_result *ret, enum mlc_serving_outcome outcome, int status,
             const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/* The same with the server's own words: "error" or "detail" of a JSON reply, else its first line.
 */
void srv_set_reply(struct mlc_serving_result *ret, enum mlc_serving_outcome outcome,
                   const struct mlc_reply *reply);
/* The part of the status map that all servers share; drivers ask it last. */
enum mlc_serving_outcome srv_outcome(int status);

/* The reply's body as JSON of this type, or NULL with *ret set (transient: it may be starting). */
json_t *srv_json(const struct mlc_reply *reply, json_type type, struct mlc_serving_result *ret);

/* The document's ready_timeout. */
int64_t srv_ready_ms(const struct mlc_serving_call *c);
/* Refuses every key of the `serving` object that is neither common to all drivers nor `own` (NULL:
 * none), and values out of range. */
int srv_check(const json_t *settings, const char *own, bool repository,
              struct mlc_err *err) MLC_CHECK;

/* --- the Open Inference Protocol, as MLServer and Triton speak it --- */

/* Takes status and reply of one of its calls to an outcome. */
typedef enum mlc_serving_outcome (*srv_map)(const struct mlc_reply *reply);

void oip_load(const struct mlc_serving_call *c, const struct mlc_serving_model *m, srv_map map,
              struct mlc_serving_result *ret);
void oip_ready(const struct mlc_serving_call *c, const struct mlc_serving_model *m, srv_map map,
               struct mlc_serving_result *ret);
void oip_unload(const struct mlc_serving_call *c, const struct mlc_serving_model *m, srv_map map,
                struct mlc_serving_result *ret);
void oip_list(const struct mlc_serving_call *c, struct mlc_arena *a,
              struct mlc_serving_list *ret_list, struct mlc_serving_result *ret);
void oip_infer(const struct mlc_serving_call *c, const struct mlc_serving_model *m,
               const json_t *request, struct mlc_str *ret_reply, struct mlc_serving_result *ret);
/* Items {"name","version","state"} into the list; false with *ret set when they are none. */
bool srv_read_list(const json_t *items, struct mlc_arena *a, struct mlc_serving_list *ret_list,
                   struct mlc_serving_result *ret);
