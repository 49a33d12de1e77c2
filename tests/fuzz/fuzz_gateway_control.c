/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes to the gateway's control: a table that is accepted can be read back and chosen from. Where
 * the bytes are two texts with a newline (0x0a 0x00) between, the second comes while the first is
 * in force, and is what it would be without it.
 */
#include <assert.h>
#include <stdint.h>

#include "../unit/gateway/support.h"
#include "base/cleanup.h"
#include "codec/json.h"
#include "gateway/core/control.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t no_key(const struct gw_route *route, const char **ret_key, void *userdata)
{
        (void)userdata;
        *ret_key = route->name;
        return strlen(route->name);
}

static void call(const struct gw_control *control, const char *method, const char *path,
                 const char *body, size_t len)
{
        struct gw_request q = {method, path, body, len};
        struct gw_reply reply;
        struct mlc_err err = {0};
        json_t *root = NULL;
        int r;

        gw_control_handle(control, &q, &reply);
        if (mlc_streq(reply.type, "application/json")) {
                r = mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, &root, &err);
                assert(r == 0);
                json_decref(root);
        }
        mlc_str_done(&reply.body);
}

static void use(struct gw_shm *shm)
{
        const struct gw_table *t = gw_shm_table(shm);

        for (size_t i = 0; i < t->n_routes; i++) {
                struct gw_asked asked = {t->routes[i].name, strlen(t->routes[i].name), no_key,
                                         NULL};
                struct gw_check check;
                struct gw_choice c;
                bool known = gw_choose(shm, &asked, 0, &c);

                assert(known && c.bucket < 10000);
                (void)gw_choice_check(shm, &c, &check);
                if (c.variant.n_endpoints > 0)
                        assert(gw_pick(shm, &c, 0, 0) >= 0);
        }
}

/* The length of the first of two texts; all of it when there is one. */
static size_t first_text(const char *text, size_t size)
{
        for (size_t i = 0; i + 1 < size; i++)
                if (text[i] == '\n' && text[i + 1] == '\0')
                        return i;
        return size;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        static struct gw_shm *shm; /* once for all: it is large */
        struct gw_control control = {.dir_fd = -1};
        const char *text = size > 0 ? (const char *)data : "";
        size_t first = first_text(text, size);
        struct mlc_err err = {0};
        int r = 0;

        if (shm == NULL)
                shm = aligned_alloc(64, sizeof(*shm));
        assert(shm != NULL);
        memset(shm, 0, offsetof(struct gw_shm, cells));
        for (size_t i = 0; i < 64; i++)
                memset(&shm->cells[i], 0, sizeof(shm->cells[i]));
        r = gw_shm_init(shm, &err);
        assert(r == 0);
        control.shm = shm;
        call(&control, "POST", "/v1/lease", text, size);
        call(&control, "POST", "/v1/stats", text, size);
        call(&control, "PUT", "/v1/table", text, first);
        if (first < size) {
                bool agrees = update_agrees(text + first + 2, size - first - 2, gw_shm_table(shm));

                assert(agrees);
                call(&control, "PUT", "/v1/table", text + first + 2, size - first - 2);
        }
        call(&control, "GET", "/v1/table", "", 0);
        if (gw_shm_table(shm)->n_variants <= 32) {
                call(&control, "GET", "/v1/stats", "", 0);
                call(&control, "GET", "/metrics", "", 0);
        }
        use(shm);
        return 0;
}
