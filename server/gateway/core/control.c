/* SPDX-License-Identifier: Apache-2.0 */
#include "control.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "codec/json.h"
#include "stats.h"

static void answer(struct gw_reply *ret, int status, json_t *body)
{
        char *text = json_dumps(body, JSON_COMPACT);

        json_decref(body);
        ret->status = status;
        mlc_str_add(&ret->body, text == NULL ? "{}" : text);
        mlc_str_addc(&ret->body, '\n');
        free(text);
}

static void refuse(struct gw_reply *ret, int status, const struct mlc_err *err)
{
        answer(ret, status, json_pack("{ss,ss}", "error", err->msg, "pointer", err->field));
}

static uint64_t now_ms(void)
{
        return (uint64_t)mlc_monotonic_ms();
}

/* --- the file --------------------------------------------------------------------------------- */

static int write_temporary(int dir_fd, const char *name, const struct gw_table *t,
                           struct mlc_err *err)
{
        _cleanup_(close_fd) int fd =
                openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0640);
        int r;

        if (fd < 0)
                return mlc_fail_errno(err, "create", name);
        r = mlc_write_full(fd, t->text, t->text_len, err);
        if (r == 0 && fdatasync(fd) < 0)
                r = mlc_fail_errno(err, "sync", name);
        return r;
}

/* Replaces the file by the table in force; lock held. */
static int write_file(const struct gw_control *c, struct mlc_err *err)
{
        const struct gw_table *t = gw_shm_table(c->shm);
        char name[300];
        int r;

        if (c->file == NULL)
                return 0;
        (void)snprintf(name, sizeof(name), ".%s.new", c->file);
        r = write_temporary(c->dir_fd, name, t, err);
        if (r == 0 && renameat(c->dir_fd, name, c->dir_fd, c->file) < 0)
                r = mlc_fail_errno(err, "rename", name);
        if (r == 0 && fsync(c->dir_fd) < 0)
                r = mlc_fail_errno(err, "sync the folder of", c->file);
        if (r == 0)
                c->shm->file_generation = t->generation;
        return r;
}

static int read_all(int fd, char *buf, size_t size, size_t *ret_len, const char *name,
                    struct mlc_err *err)
{
        int r = mlc_read_full(fd, buf, size, ret_len, err);

        if (r == 0 && *ret_len == size)
                r = mlc_fail(err, MLC_E_LIMIT, "\"%s\" is longer than %zu bytes", name, size - 1);
        return r;
}

int gw_control_load(const struct gw_control *control, struct mlc_err *err)
{
        _cleanup_(free_p) struct gw_table *table = calloc(1, sizeof(*table));
        _cleanup_(free_p) char *text = malloc(GW_TEXT_MAX + 1);
        _cleanup_(close_fd) int fd = -1;
        size_t len = 0;
        int r;

        if (table == NULL || text == NULL)
                abort();
        if (control->file == NULL)
                return 0;
        fd = openat(control->dir_fd, control->file, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOENT)
                return 0;
        if (fd < 0)
                return mlc_fail_errno(err, "open", control->file);
        r = read_all(fd, text, GW_TEXT_MAX + 1, &len, control->file, err);
        if (r == 0)
                r = gw_table_parse(text, len, table, err);
        if (r < 0)
                return mlc_wrap(err, "the table in \"%s\"", control->file);
        gw_shm_lock(control->shm);
        r = gw_shm_put(control->shm, table, now_ms(), err);
        if (r == 0)
                control->shm->file_generation = table->generation;
        gw_shm_unlock(control->shm);
        return r;
}

/* --- requests --------------------------------------------------------------------------------- */

/* Lock held. */
static void put_locked(const struct gw_control *c, struct gw_table *table, struct gw_reply *ret)
{
        const struct gw_table *now = gw_shm_table(c->shm);
        bool same = now->generation == table->generation && now->text_len == table->text_len &&
                    memcmp(now->text, table->text, table->text_len) == 0;
        struct mlc_err err = {0};

        if (!same && table->generation <= now->generation) {
                answer(ret, 409,
                       json_pack("{ss,sI}", "error",
                                 "a table with this or a later generation is "
                                 "in force",
                                 "generation", (json_int_t)now->generation));
                return;
        }
        if (!same && gw_shm_put(c->shm, table, now_ms(), &err) < 0) {
                refuse(ret, 422, &err);
                return;
        }
        if (same)
                gw_shm_lease(c->shm, now_ms() + GW_LEASE_MS);
        if (c->shm->file_generation != table->generation && write_file(c, &err) < 0) {
                answer(ret, 500,
                       json_pack("{ss,sI}", "error", err.msg, "generation",
                                 (json_int_t)table->generation));
                return;
        }
        answer(ret, 200, json_pack("{sI}", "generation", (json_int_t)table->generation));
}

static void put_table(const struct gw_control *c, const struct gw_request *q, struct gw_reply *ret)
{
        _cleanup_(free_p) struct gw_table *table = malloc(sizeof(*table));
        struct mlc_err err = {0};

        if (table == NULL)
                abort();
        gw_shm_lock(c->shm); /* the table in force is read */
        if (gw_table_update(q->body, q->len, gw_shm_table(c->shm), table, &err) < 0)
                refuse(ret, err.code == MLC_E_LIMIT ? 413 : 422, &err);
        else
                put_locked(c, table, ret);
        gw_shm_unlock(c->shm);
}

static void get_table(const struct gw_control *c, const struct gw_request *q, struct gw_reply *ret)
{
        (void)q;
        gw_shm_lock(c->shm);
        if (gw_shm_table(c->shm)->generation == 0) {
                answer(ret, 404, json_pack("{ss}", "error", "no table is in force"));
        } else {
                ret->status = 200;
                gw_stats_table(c->shm, now_ms(), &ret->body);
        }
        gw_shm_unlock(c->shm);
}

static int read_lease(const struct gw_request *q, int64_t *ret_generation, int64_t *ret_ms,
                      struct mlc_err *err)
{
        static const char *const known[] = {"generation", "ms", NULL};
        _cleanup_(json_decref_p) json_t *root = NULL;
        int r = mlc_json_parse(q->body, q->len, &root, err);

        if (r == 0 && !json_is_object(root))
                r = mlc_fail(err, MLC_E_INVALID, "an object is needed");
        if (r == 0)
                r = mlc_json_only(root, "", known, err);
        if (r == 0)
                r = mlc_json_get_i64(root, "", "generation", ret_generation, err);
        if (r == 0)
                r = mlc_json_get_i64(root, "", "ms", ret_ms, err);
        if (r == 0 && (*ret_ms < 0 || *ret_ms > GW_LEASE_MS_MAX))
                r = mlc_fail_field(err, MLC_E_INVALID, "/ms", "0 to %d are allowed",
                                   GW_LEASE_MS_MAX);
        return r;
}

static void post_lease(const struct gw_control *c, const struct gw_request *q, struct gw_reply *ret)
{
        int64_t generation = 0, ms = 0, now;
        struct mlc_err err = {0};

        if (read_lease(q, &generation, &ms, &err) < 0) {
                refuse(ret, 422, &err);
                return;
        }
        gw_shm_lock(c->shm);
        now = (int64_t)gw_shm_table(c->shm)->generation;
        if (now == generation && now != 0) {
                gw_shm_lease(c->shm, now_ms() + (uint64_t)ms);
                answer(ret, 200,
                       json_pack("{sI,sI}", "generation", (json_int_t)now, "ms", (json_int_t)ms));
        } else {
                answer(ret, 409,
                       json_pack("{ss,sI}", "error", "another generation is in force", "generation",
                                 (json_int_t)now));
        }
        gw_shm_unlock(c->shm);
}

/* What a caller needs to know who looks every second: GET /v1/table is long. */
static void get_lease(const struct gw_control *c, const struct gw_request *q, struct gw_reply *ret)
{
        uint64_t generation, until, now = now_ms();

        (void)q;
        gw_shm_lock(c->shm);
        generation = gw_shm_table(c->shm)->generation;
        until = gw_shm_lease_until(c->shm);
        gw_shm_unlock(c->shm);
        if (generation == 0)
                answer(ret, 404, json_pack("{ss}", "error", "no table is in force"));
        else
                answer(ret, 200,
                       json_pack("{sI,sI}", "generation", (json_int_t)generation, "ms",
                                 (json_int_t)(until > now ? until - now : 0)));
}

/* Lock held. */
static void say_stats(const struct gw_control *c, const bool *wanted, struct gw_reply *ret)
{
        char now[MLC_TIME_MAX];

        mlc_time_format(mlc_now_ms(), now);
        ret->status = 200;
        gw_stats_json(c->shm, now, wanted, &ret->body);
}

static void get_stats(const struct gw_control *c, const struct gw_request *q, struct gw_reply *ret)
{
        (void)q;
        gw_shm_lock(c->shm);
        say_stats(c, NULL, ret);
        gw_shm_unlock(c->shm);
}

static int read_names(const struct gw_request *q, json_t **ret_root, json_t **ret_names,
                      struct mlc_err *err)
{
        static const char *const known[] = {"routes", NULL};
        int r = mlc_json_parse(q->body, q->len, ret_root, err);

        if (r == 0 && !json_is_object(*ret_root))
                r = mlc_fail(err, MLC_E_INVALID, "an object is needed");
        if (r == 0)
                r = mlc_json_only(*ret_root, "", known, err);
        if (r == 0)
                r = mlc_json_get_arr(*ret_root, "", "routes", ret_names, err);
        return r;
}

/* Those of some routes; names that no route has say nothing. */
static void post_stats(const struct gw_control *c, const struct gw_request *q, struct gw_reply *ret)
{
        _cleanup_(json_decref_p) json_t *root = NULL;
        bool wanted[GW_ROUTES_MAX] = {false};
        struct mlc_err err = {0};
        const struct gw_table *t;
        json_t *names, *one;
        size_t i;

        if (read_names(q, &root, &names, &err) < 0) {
                refuse(ret, 422, &err);
                return;
        }
        gw_shm_lock(c->shm);
        t = gw_shm_table(c->shm);
        json_array_foreach (names, i, one) {
                const struct gw_route *route =
                        gw_table_route(t, json_string_value(one), json_string_length(one));

                if (route != NULL)
                        wanted[route - t->routes] = true;
        }
        say_stats(c, wanted, ret);
        gw_shm_unlock(c->shm);
}

static void get_metrics(const struct gw_control *c, const struct gw_request *q,
                        struct gw_reply *ret)
{
        (void)q;
        ret->status = 200;
        ret->type = "text/plain; version=0.0.4";
        gw_shm_lock(c->shm);
        gw_stats_prometheus(c->shm, now_ms(), &ret->body);
        gw_shm_unlock(c->shm);
}

void gw_control_handle(const struct gw_control *control, const struct gw_request *request,
                       struct gw_reply *ret)
{
        static const struct {
                const char *method, *path;
                void (*run)(const struct gw_control *c, const struct gw_request *q,
                            struct gw_reply *ret);
        } calls[] = {{"PUT", "/v1/table", put_table},   {"GET", "/v1/table", get_table},
                     {"POST", "/v1/lease", post_lease}, {"GET", "/v1/lease", get_lease},
                     {"GET", "/v1/stats", get_stats},   {"POST", "/v1/stats", post_stats},
                     {"GET", "/metrics", get_metrics}};
        bool known = false;

        *ret = (struct gw_reply){.type = "application/json"};
        mlc_str_init(&ret->body, GW_REPLY_MAX);
        for (size_t i = 0; i < ARRAY_LEN(calls); i++) {
                if (!mlc_streq(calls[i].path, request->path))
                        continue;
                known = true;
                if (mlc_streq(calls[i].method, request->method)) {
                        calls[i].run(control, request, ret);
                        return;
                }
        }
        answer(ret, known ? 405 : 404,
               json_pack("{ss}", "error",
                         known ? "the resource has no such method"
                               : "no such "
                                 "resource"));
}
