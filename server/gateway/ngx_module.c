/* SPDX-License-Identifier: Apache-2.0 */
/* Directives, shared memory, variables, and where the other files are hooked in. */
#include "ngx_gateway.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>

struct gw_shm *gateway_shm(const ngx_http_request_t *r)
{
        struct gateway_main *m = ngx_http_get_module_main_conf(r, ngx_mlctl_gateway_module);

        return m->zone->data;
}

uint64_t gateway_now_us(void)
{
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

uint64_t gateway_now_ms(void)
{
        return gateway_now_us() / 1000;
}

ngx_int_t gateway_append(ngx_pool_t *pool, struct mlc_buf *b, const void *data, size_t len)
{
        if (len > b->size - b->len) {
                size_t size = ngx_max(ngx_max(2 * b->size, b->len + len), 1024);
                u_char *grown = ngx_palloc(pool, size);

                if (grown == NULL)
                        return NGX_ERROR;
                if (b->len > 0)
                        ngx_memcpy(grown, b->data, b->len);
                if (b->data != NULL)
                        (void)ngx_pfree(pool, b->data);
                b->data = grown;
                b->size = size;
        }
        if (len > 0)
                ngx_memcpy(b->data + b->len, data, len);
        b->len += len;
        return NGX_OK;
}

/* --- variables -------------------------------------------------------------------------------- */

enum { VAR_ROUTE, VAR_VARIANT, VAR_VERSION, VAR_ID };

static ngx_int_t get_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v, uintptr_t which)
{
        struct gateway_ctx *ctx = gateway_ctx(r);
        ngx_str_t s = ngx_null_string;

        if (ctx != NULL && which == VAR_ID) {
                s = ctx->id;
        } else if (ctx != NULL && ctx->chosen) {
                if (which == VAR_ROUTE)
                        s = ctx->route_text;
                else if (which == VAR_VERSION)
                        s = ctx->version_text;
                else
                        s = (ngx_str_t){ngx_strlen(ctx->choice.variant.name),
                                        (u_char *)ctx->choice.variant.name};
        }
        v->valid = 1;
        v->no_cacheable = 1;
        v->not_found = s.len == 0;
        v->len = s.len & 0xfffffff;
        v->data = s.data;
        return NGX_OK;
}

static ngx_int_t add_variables(ngx_conf_t *cf)
{
        static const struct {
                ngx_str_t name;
                uintptr_t which;
        } known[] = {{ngx_string("mlctl_route"), VAR_ROUTE},
                     {ngx_string("mlctl_variant"), VAR_VARIANT},
                     {ngx_string("mlctl_version"), VAR_VERSION},
                     {ngx_string("mlctl_request_id"), VAR_ID}};

        for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
                ngx_str_t name = known[i].name;
                ngx_http_variable_t *v = ngx_http_add_variable(cf, &name, NGX_HTTP_VAR_NOCACHEABLE);

                if (v == NULL)
                        return NGX_ERROR;
                v->get_handler = get_variable;
                v->data = known[i].which;
        }
        return NGX_OK;
}

/* --- configuration ---------------------------------------------------------------------------- */

static void *create_main(ngx_conf_t *cf)
{
        struct gateway_main *m = ngx_pcalloc(cf->pool, sizeof(*m));

        if (m != NULL)
                m->dir_fd = NGX_INVALID_FILE;
        return m;
}

static void *create_loc(ngx_conf_t *cf)
{
        struct gateway_loc *l = ngx_pcalloc(cf->pool, sizeof(*l));

        if (l == NULL)
                return NULL;
        l->enabled = NGX_CONF_UNSET;
        l->buffer = NGX_CONF_UNSET_SIZE;
        return l;
}

static char *merge_loc(ngx_conf_t *cf, void *parent, void *child)
{
        struct gateway_loc *prev = parent, *conf = child;

        (void)cf;
        if (conf->enabled == NGX_CONF_UNSET) /* stands in a location, for that location */
                conf->enabled = 0;
        ngx_conf_merge_size_value(conf->buffer, prev->buffer, GW_REPLY_BUFFER);
        return NGX_CONF_OK;
}

static char *enable_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
        struct gateway_main *m = ngx_http_conf_get_module_main_conf(cf, ngx_mlctl_gateway_module);
        struct gateway_loc *l = conf;

        (void)cmd;
        l->enabled = 1;
        m->used = 1;
        return NGX_CONF_OK;
}

static void close_dir(void *data)
{
        struct gateway_main *m = data;

        (void)close(m->dir_fd);
}

/* The folder is opened by the master, whose rights may be gone later. */
static char *table_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
        ngx_str_t *value = cf->args->elts;
        ngx_str_t path = value[1];
        struct gateway_main *m = conf;
        ngx_pool_cleanup_t *cleanup;
        u_char *slash;

        (void)cmd;
        if (m->file.len > 0)
                return "is duplicate";
        if (ngx_conf_full_name(cf->cycle, &path, 0) != NGX_OK)
                return NGX_CONF_ERROR;
        slash = (u_char *)strrchr((char *)path.data, '/');
        if (slash == NULL || slash[1] == '\0' || ngx_strlen(slash + 1) > NGX_MAX_UINT32_VALUE / 2)
                return "needs the path of a file";
        m->file.data = slash + 1;
        m->file.len = ngx_strlen(slash + 1);
        if (m->file.len > 200)
                return "has too long a name";
        *slash = '\0';
        m->dir_fd = open((char *)path.data, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (m->dir_fd == NGX_INVALID_FILE) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, ngx_errno, "cannot open folder \"%s\"",
                                   path.data);
                return NGX_CONF_ERROR;
        }
        cleanup = ngx_pool_cleanup_add(cf->cycle->pool, 0);
        if (cleanup == NULL) {
                (void)close(m->dir_fd);
                return NGX_CONF_ERROR;
        }
        cleanup->handler = close_dir;
        cleanup->data = m;
        return NGX_CONF_OK;
}

static char *tap_directive(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
        ngx_str_t *value = cf->args->elts;
        struct gateway_main *m = conf;

        (void)cmd;
        if (m->tap.len > 0)
                return "is duplicate";
        m->tap = value[1];
        if (ngx_strncmp(m->tap.data, "unix:", 5) == 0) {
                m->tap.data += 5;
                m->tap.len -= 5;
        }
        if (m->tap.len == 0 || m->tap.len >= sizeof(((struct sockaddr_un *)0)->sun_path))
                return "needs the path of a unix socket, at most 107 bytes";
        return NGX_CONF_OK;
}

static ngx_int_t init_zone(ngx_shm_zone_t *zone, void *old)
{
        struct gateway_main *m = zone->data;
        ngx_slab_pool_t *pool = (ngx_slab_pool_t *)zone->shm.addr;
        struct gw_control control = {.dir_fd = m->dir_fd};
        struct mlc_err err = {0};
        struct gw_shm *shm = old;

        if (shm == NULL && zone->shm.exists)
                shm = pool->data;
        if (shm != NULL) {
                zone->data = shm;
                return gw_shm_valid(shm) ? NGX_OK : NGX_ERROR;
        }
        shm = ngx_slab_alloc(pool, sizeof(*shm)); /* of fresh memory, so it is zero */
        if (shm == NULL || gw_shm_init(shm, &err) < 0)
                return NGX_ERROR;
        pool->data = shm;
        zone->data = shm;
        control.shm = shm;
        control.file = m->file.len > 0 ? (const char *)m->file.data : NULL;
        if (gw_control_load(&control, &err) < 0)
                ngx_log_error(NGX_LOG_ERR, zone->shm.log, 0,
                              "mlctl gateway: no table: %s at \"%s\"", err.msg, err.field);
        return NGX_OK;
}

static ngx_int_t add_zone(ngx_conf_t *cf, struct gateway_main *m)
{
        /* pages and, for each, a descriptor of the slab allocator */
        size_t size = sizeof(struct gw_shm) + sizeof(struct gw_shm) / 64 + 65536;
        ngx_str_t name = ngx_string("mlctl_gateway");

        size = ngx_align(size, ngx_pagesize);
        m->zone = ngx_shared_memory_add(cf, &name, size, &ngx_mlctl_gateway_module);
        if (m->zone == NULL)
                return NGX_ERROR;
        m->zone->init = init_zone;
        m->zone->data = m;
        return NGX_OK;
}

static ngx_int_t add_handler(ngx_conf_t *cf, ngx_uint_t phase, ngx_http_handler_pt handler)
{
        ngx_http_core_main_conf_t *core =
                ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
        ngx_http_handler_pt *h = ngx_array_push(&core->phases[phase].handlers);

        if (h == NULL)
                return NGX_ERROR;
        *h = handler;
        return NGX_OK;
}

static ngx_int_t postconfiguration(ngx_conf_t *cf)
{
        struct gateway_main *m = ngx_http_conf_get_module_main_conf(cf, ngx_mlctl_gateway_module);

        if (!m->used)
                return NGX_OK;
        if (add_zone(cf, m) != NGX_OK ||
            add_handler(cf, NGX_HTTP_PRECONTENT_PHASE, gateway_route_handler) != NGX_OK ||
            add_handler(cf, NGX_HTTP_LOG_PHASE, gateway_log_handler) != NGX_OK)
                return NGX_ERROR;
        return gateway_filter_init(cf);
}

/* A worker whose master was killed has a table that nobody can change any more: it must end. */
static ngx_int_t init_process(ngx_cycle_t *cycle)
{
        gateway_seed(cycle);
        gateway_tap_open(cycle);
        if (ngx_process != NGX_PROCESS_WORKER)
                return NGX_OK;
        if (prctl(PR_SET_PDEATHSIG, SIGQUIT, 0, 0, 0) < 0)
                ngx_log_error(NGX_LOG_ALERT, cycle->log, ngx_errno,
                              "prctl(PR_SET_PDEATHSIG) failed");
        if (getppid() != ngx_parent)
                (void)raise(SIGQUIT);
        return NGX_OK;
}

static ngx_command_t COMMANDS[] = {
        {ngx_string("mlctl_gateway"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS, enable_directive,
         NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
        {ngx_string("mlctl_gateway_control"), NGX_HTTP_LOC_CONF | NGX_CONF_NOARGS | NGX_CONF_TAKE1,
         gateway_control_directive, NGX_HTTP_LOC_CONF_OFFSET, 0, NULL},
        {ngx_string("mlctl_gateway_buffer"),
         NGX_HTTP_MAIN_CONF | NGX_HTTP_SRV_CONF | NGX_HTTP_LOC_CONF | NGX_CONF_TAKE1,
         ngx_conf_set_size_slot, NGX_HTTP_LOC_CONF_OFFSET, offsetof(struct gateway_loc, buffer),
         NULL},
        {ngx_string("mlctl_gateway_balancer"), NGX_HTTP_UPS_CONF | NGX_CONF_NOARGS,
         gateway_balancer, 0, 0, NULL},
        {ngx_string("mlctl_gateway_table"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, table_directive,
         NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL},
        {ngx_string("mlctl_gateway_tap"), NGX_HTTP_MAIN_CONF | NGX_CONF_TAKE1, tap_directive,
         NGX_HTTP_MAIN_CONF_OFFSET, 0, NULL},
        ngx_null_command};

static ngx_http_module_t CONTEXT = {
        .preconfiguration = add_variables,
        .postconfiguration = postconfiguration,
        .create_main_conf = create_main,
        .create_loc_conf = create_loc,
        .merge_loc_conf = merge_loc,
};

ngx_module_t ngx_mlctl_gateway_module = {NGX_MODULE_V1,
                                         .ctx = &CONTEXT,
                                         .commands = COMMANDS,
                                         .type = NGX_HTTP_MODULE,
                                         .init_process = init_process,
                                         NGX_MODULE_V1_PADDING};
