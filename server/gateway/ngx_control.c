/* SPDX-License-Identifier: Apache-2.0 */
/* The control protocol over nginx's HTTP. It parses tables and syncs files, so it runs in a thread
 * of nginx's pool and the worker goes on serving. */
#include "ngx_gateway.h"

#include <ngx_thread_pool.h>

struct job {
        ngx_http_request_t *request;
        struct gw_control control;
        struct gw_request q;
        struct gw_reply reply;
};

static void run(void *data, ngx_log_t *log)
{
        struct job *j = data;

        (void)log;
        gw_control_handle(&j->control, &j->q, &j->reply);
}

static void drop_reply(void *data)
{
        mlc_str_done(data);
}

static ngx_int_t send_reply(ngx_http_request_t *r, struct gw_reply *reply)
{
        ngx_pool_cleanup_t *cleanup = ngx_pool_cleanup_add(r->pool, 0);
        ngx_buf_t *b = ngx_calloc_buf(r->pool);
        ngx_chain_t out = {.buf = b};
        ngx_int_t rc;

        if (cleanup == NULL || b == NULL) {
                mlc_str_done(&reply->body);
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        cleanup->handler = drop_reply;
        cleanup->data = &reply->body;
        if (reply->body.over)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        r->headers_out.status = (ngx_uint_t)reply->status;
        r->headers_out.content_length_n = (off_t)reply->body.len;
        r->headers_out.content_type.data = __extension__(u_char *)(uintptr_t) reply->type;
        r->headers_out.content_type.len = ngx_strlen(reply->type);
        r->headers_out.content_type_len = r->headers_out.content_type.len;
        rc = ngx_http_send_header(r);
        if (rc == NGX_ERROR || rc > NGX_OK || r->header_only)
                return rc;
        b->pos = (u_char *)reply->body.data;
        b->last = b->pos + reply->body.len;
        b->memory = 1;
        b->last_buf = b->last_in_chain = 1;
        return ngx_http_output_filter(r, &out);
}

static void done(ngx_event_t *ev)
{
        struct job *j = ev->data;
        ngx_http_request_t *r = j->request;
        ngx_connection_t *c = r->connection;

        r->main->blocked--;
        r->aio = 0;
        ngx_http_finalize_request(r, send_reply(r, &j->reply));
        ngx_http_run_posted_requests(c);
}

static char *text_of(ngx_http_request_t *r, const ngx_str_t *s)
{
        char *text = ngx_pnalloc(r->pool, s->len + 1);

        if (text != NULL) {
                ngx_memcpy(text, s->data, s->len);
                text[s->len] = '\0';
        }
        return text;
}

static ngx_int_t collect(ngx_http_request_t *r, struct gw_request *q)
{
        struct mlc_buf body = {0};

        q->method = text_of(r, &r->method_name);
        q->path = text_of(r, &r->uri);
        if (q->method == NULL || q->path == NULL)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        for (ngx_chain_t *cl = r->request_body == NULL ? NULL : r->request_body->bufs; cl != NULL;
             cl = cl->next) {
                if (!ngx_buf_in_memory(cl->buf)) {
                        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                                      "client_body_buffer_size is too small for a table");
                        return NGX_HTTP_REQUEST_ENTITY_TOO_LARGE;
                }
                if (gateway_append(r->pool, &body, cl->buf->pos,
                                   (size_t)(cl->buf->last - cl->buf->pos)) != NGX_OK)
                        return NGX_HTTP_INTERNAL_SERVER_ERROR;
        }
        q->body = body.len > 0 ? (const char *)body.data : "";
        q->len = body.len;
        return NGX_OK;
}

static ngx_int_t start(ngx_http_request_t *r)
{
        struct gateway_main *m = ngx_http_get_module_main_conf(r, ngx_mlctl_gateway_module);
        ngx_str_t name = ngx_string("default");
        ngx_thread_task_t *task = ngx_thread_task_alloc(r->pool, sizeof(struct job));
        ngx_thread_pool_t *pool =
                ngx_thread_pool_get(__extension__(ngx_cycle_t *)(uintptr_t) ngx_cycle, &name);
        struct job *j;
        ngx_int_t rc;

        if (task == NULL || pool == NULL)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        j = task->ctx;
        rc = collect(r, &j->q);
        if (rc != NGX_OK)
                return rc;
        j->request = r;
        j->control.shm = gateway_shm(r);
        j->control.dir_fd = m->dir_fd;
        j->control.file = m->file.len > 0 ? (const char *)m->file.data : NULL;
        task->handler = run;
        task->event.data = j;
        task->event.handler = done;
        if (ngx_thread_task_post(pool, task) != NGX_OK)
                return NGX_HTTP_INTERNAL_SERVER_ERROR;
        r->main->blocked++;
        r->aio = 1;
        return NGX_DONE;
}

static void body_came(ngx_http_request_t *r)
{
        ngx_int_t rc = start(r);

        if (rc != NGX_DONE)
                ngx_http_finalize_request(r, rc);
}

static ngx_int_t control_handler(ngx_http_request_t *r)
{
        ngx_int_t rc;

        r->request_body_in_single_buf = 1;
        rc = ngx_http_read_client_request_body(r, body_came);
        if (rc >= NGX_HTTP_SPECIAL_RESPONSE)
                return rc;
        return NGX_DONE;
}

/* Where others than mlctld may look. */
static ngx_int_t read_only_handler(ngx_http_request_t *r)
{
        if ((r->method & (NGX_HTTP_GET | NGX_HTTP_HEAD)) == 0)
                return NGX_HTTP_NOT_ALLOWED;
        return control_handler(r);
}

char *gateway_control_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
        ngx_http_core_loc_conf_t *core =
                ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
        struct gateway_main *m = ngx_http_conf_get_module_main_conf(cf, ngx_mlctl_gateway_module);
        ngx_str_t *value = cf->args->elts;
        ngx_str_t name = ngx_string("default");

        (void)cmd;
        (void)conf;
        core->handler = control_handler;
        if (cf->args->nelts == 2) {
                if (ngx_strcmp(value[1].data, "read") != 0)
                        return "takes \"read\" or nothing";
                core->handler = read_only_handler;
        }
        m->used = 1;
        return ngx_thread_pool_add(cf, &name) == NULL ? NGX_CONF_ERROR : NGX_CONF_OK;
}
