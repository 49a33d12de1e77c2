/* SPDX-License-Identifier: Apache-2.0 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "rollout/bucket.h"
#include "unit/gateway/support.h"

static void put(struct gw_shm *shm, unsigned generation, unsigned share, const char *more)
{
        _cleanup_(free_p) char *text = table_text(generation, share, more);
        struct mlc_err err = {0};

        if (put_text(shm, text, 1000, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
}

static bool choose(const struct gw_shm *shm, const char *key, uint64_t now_ms,
                   struct gw_choice *ret)
{
        _cleanup_(free_p) char *copy = strdup(key);
        struct gw_asked asked = {"fraud", 5, key_is_text, copy};

        return gw_choose(shm, &asked, now_ms, ret);
}

static void chooses_by_bucket(void **state)
{
        struct gw_shm *shm = new_shm();
        struct gw_choice c;
        struct gw_asked other = {"other", 5, NULL, NULL};

        (void)state;
        assert_false(choose(shm, "u", 0, &c));
        put(shm, 1, 3000, "");
        assert_false(gw_choose(shm, &other, 0, &c));
        for (unsigned i = 0; i < 500; i++) {
                char key[16];
                unsigned bucket =
                        mlc_bucket("r17", 3, key, (size_t)snprintf(key, sizeof(key), "user-%u", i));

                assert_true(choose(shm, key, 0, &c));
                assert_int_equal(c.bucket, bucket);
                assert_string_equal(c.variant.name, bucket < 3000 ? "candidate" : "stable");
                assert_int_equal(c.generation, 1);
                assert_int_equal(c.variant.n_endpoints, 2);
                assert_string_equal(c.endpoints[0].text, "127.0.0.1:81");
        }
        free(shm);
}

static void lease(void **state)
{
        struct gw_shm *shm = new_shm();
        struct gw_choice c;

        (void)state;
        put(shm, 1, 10000, ",\"lease\":true");
        assert_int_equal(gw_shm_lease_until(shm), 61000);
        assert_true(choose(shm, "u", 60999, &c));
        assert_string_equal(c.variant.name, "candidate");
        assert_true(choose(shm, "u", 61000, &c));
        assert_string_equal(c.variant.name, "stable");
        gw_shm_lease(shm, 62000);
        assert_true(choose(shm, "u", 61000, &c));
        assert_string_equal(c.variant.name, "candidate");
        put(shm, 2, 10000, ",\"lease\":true,\"on_lost_control\":\"hold\"");
        assert_true(choose(shm, "u", 99000, &c));
        assert_string_equal(c.variant.name, "candidate");
        free(shm);
}

static void finish(struct gw_shm *shm, const struct gw_choice *c, unsigned status)
{
        struct gw_outcome o = {.status = status, .sent = true, .latency_us = 1000};

        gw_count_chosen(shm, c);
        gw_count_outcome(shm, c, &o);
}

static void error_limit(void **state)
{
        struct gw_shm *shm = new_shm();
        struct gw_choice c;

        (void)state;
        put(shm, 1, 10000, ",\"error_limit\":2");
        for (int i = 0; i < 3; i++) {
                assert_true(choose(shm, "u", 0, &c));
                assert_string_equal(c.variant.name, "candidate");
                finish(shm, &c, 200);
                finish(shm, &c, 503);
        }
        assert_true(choose(shm, "u", 0, &c));
        assert_string_equal(c.variant.name, "stable");
        assert_true(gw_shm_tripped(shm, gw_shm_table(shm), &gw_shm_table(shm)->routes[0], 0));
        for (int i = 0; i < 9; i++)
                finish(shm, &c, 500); /* the last has nowhere to go */
        assert_true(choose(shm, "u", 0, &c));
        assert_string_equal(c.variant.name, "stable");
        put(shm, 2, 10000, ",\"error_limit\":2"); /* the same split: still so */
        assert_true(choose(shm, "u", 0, &c));
        assert_string_equal(c.variant.name, "stable");
        put(shm, 3, 9999, ",\"error_limit\":2");
        assert_true(choose(shm, "a", 0, &c));
        assert_string_equal(c.variant.name, "candidate");
        free(shm);
}

static void each_outcome_counts_once(void **state)
{
        static const struct gw_outcome outcomes[] = {
                {.status = 200, .sent = true, .latency_us = 100},
                {.status = 302, .sent = true, .latency_us = 100},
                {.status = 400, .invalid = true},
                {.status = 200, .invalid = true, .sent = true, .latency_us = 100},
                {.status = 400}, /* the client broke off */
                {.status = 0},
                {.status = 502, .upstream_error = true}, /* nobody could be asked */
                {.status = 502, .upstream_error = true, .sent = true, .latency_us = 100},
                {.status = 504, .timeout = true, .sent = true, .latency_us = 100},
                {.status = 502, .wrong_version = true, .sent = true, .latency_us = 100},
                {.status = 200, .upstream_error = true, .sent = true, .latency_us = 100},
                {.status = 0, .sent = true, .latency_us = 100},
        };
        struct gw_shm *shm = new_shm();
        const struct gw_cell *cell;
        struct gw_choice c;

        (void)state;
        put(shm, 1, 0, "");
        assert_true(choose(shm, "u", 0, &c));
        for (size_t i = 0; i < ARRAY_LEN(outcomes); i++) {
                gw_count_chosen(shm, &c);
                gw_count_outcome(shm, &c, &outcomes[i]);
        }
        cell = &shm->cells[c.cell];
        assert_int_equal(cell->requests, 12);
        assert_int_equal(cell->status[0], 3);
        assert_int_equal(cell->status[1], 1);
        assert_int_equal(cell->status[2], 2);
        assert_int_equal(cell->status[3], 4);
        assert_int_equal(cell->upstream_errors, 3);
        assert_int_equal(cell->timeouts, 1);
        assert_int_equal(cell->wrong_version, 1);
        assert_int_equal(cell->invalid, 2);
        assert_int_equal(cell->rejected, 2);
        assert_int_equal(cell->errors, 5);
        assert_int_equal(mlc_latency_count(&cell->latency), 8);
        assert_int_equal(cell->latency_sum_us, 800);
        free(shm);
}

static void banks(void **state)
{
        struct gw_shm *shm = new_shm();
        struct gw_choice first, second;
        const struct gw_route *route;

        (void)state;
        put(shm, 1, 10, "");
        assert_true(choose(shm, "u", 0, &first));
        put(shm, 2, 10, "");
        assert_true(choose(shm, "u", 0, &second));
        assert_int_equal(first.cell_id, second.cell_id); /* goes on */
        put(shm, 3, 20, "");
        assert_true(choose(shm, "u", 0, &second));
        assert_int_not_equal(first.cell_id, second.cell_id);
        finish(shm, &first, 200); /* is the bank before now */
        finish(shm, &second, 200);
        route = &gw_shm_table(shm)->routes[0];
        assert_int_equal(route->banks[0].generation, 3);
        assert_int_equal(route->banks[1].generation, 1);
        assert_int_equal(shm->cells[route->banks[0].cells[1]].requests, 1);
        assert_int_equal(shm->cells[route->banks[1].cells[1]].requests, 1);
        /* cells are used again as late as possible; then nothing is counted for the old use */
        for (unsigned g = 4; shm->cells[first.cell].id == first.cell_id; g++) {
                put(shm, g, 20 + g % 2, "");
                assert_true(g < 2 * GW_CELLS_MAX);
        }
        assert_int_equal(shm->late, 0);
        finish(shm, &first, 200);
        assert_int_equal(shm->late, 2);
        free(shm);
}

static void endpoints(void **state)
{
        struct gw_shm *shm = new_shm();
        unsigned turns[2] = {0};
        struct gw_choice c;

        (void)state;
        put(shm, 1, 0, "");
        assert_true(choose(shm, "u", 0, &c));
        for (int i = 0; i < 10; i++)
                turns[gw_pick(shm, &c, 0, 0)]++;
        assert_int_equal(turns[0], 5);
        assert_int_equal(gw_pick(shm, &c, 1, 0), 1);
        assert_int_equal(gw_pick(shm, &c, 3, 0), -1);
        gw_endpoint_result(shm, &c.endpoints[0], true, 1000);
        for (int i = 0; i < 10; i++)
                assert_int_equal(gw_pick(shm, &c, 0, 1999), 1);
        assert_int_equal(gw_pick(shm, &c, 2, 1999), 0); /* better than none */
        turns[0] = turns[1] = 0;
        for (int i = 0; i < 10; i++)
                turns[gw_pick(shm, &c, 0, 2000)]++;
        assert_int_equal(turns[0], 1); /* one looks whether it is back */
        gw_endpoint_result(shm, &c.endpoints[0], true, 2000); /* twice as long */
        assert_int_equal(gw_pick(shm, &c, 0, 3999), 1);
        assert_int_equal(shm->health[c.endpoints[0].health].down_until_ms, 4000);
        for (int i = 0; i < 9; i++)
                gw_endpoint_result(shm, &c.endpoints[0], true, 5000);
        assert_int_equal(shm->health[c.endpoints[0].health].down_until_ms,
                         5000 + GW_BACKOFF_MS_MAX);
        put(shm, 2, 5, ""); /* a new table knows what the endpoint did */
        assert_true(choose(shm, "u", 0, &c));
        assert_int_equal(gw_pick(shm, &c, 0, 6000), 1);
        gw_endpoint_result(shm, &c.endpoints[0], false, 0);
        turns[0] = 0;
        for (int i = 0; i < 4; i++)
                turns[0] += gw_pick(shm, &c, 0, 6000) == 0;
        assert_int_equal(turns[0], 2);
        free(shm);
}

/* --- at the same time ------------------------------------------------------------------------ */

struct reader {
        const struct gw_shm *shm;
        const bool *stop;
        uint64_t torn, read;
};

/* In each table share and version agree, so a mixture of two shows. */
static void *read_all_the_time(void *data)
{
        struct reader *r = data;
        char key[] = "u";
        struct gw_asked asked = {"fraud", 5, key_is_text, key};
        struct gw_choice c;

        while (!__atomic_load_n(r->stop, __ATOMIC_RELAXED)) {
                uint64_t weight;

                if (!gw_choose(r->shm, &asked, 0, &c))
                        continue;
                weight = 10000 - c.generation % 7;
                r->read++;
                r->torn += c.variant.weight != weight || c.generation == 0;
        }
        return NULL;
}

static void readers_see_whole_tables(void **state)
{
        struct gw_shm *shm = new_shm();
        bool stop = false;
        struct reader readers[2] = {{shm, &stop, 0, 0}, {shm, &stop, 0, 0}};
        pthread_t threads[2];

        (void)state;
        put(shm, 1, 1, "");
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(pthread_create(&threads[i], NULL, read_all_the_time, &readers[i]),
                                 0);
        for (unsigned g = 2; g < 1500; g++)
                put(shm, g, g % 7, "");
        __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
        for (size_t i = 0; i < 2; i++) {
                assert_int_equal(pthread_join(threads[i], NULL), 0);
                assert_true(readers[i].read > 0);
                assert_int_equal(readers[i].torn, 0);
        }
        free(shm);
}

static void a_writer_that_dies(void **state)
{
        struct gw_shm *shm =
                mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct mlc_err err = {0};
        struct gw_choice c;
        int status;
        pid_t pid;

        (void)state;
        assert_true(shm != MAP_FAILED);
        assert_int_equal(gw_shm_init(shm, &err), 0);
        put(shm, 1, 10000, "");
        pid = fork();
        if (pid == 0) {
                gw_shm_lock(shm);
                shm->slots[1 - shm->active].sequence |= 1; /* in the middle of writing */
                memset(&shm->slots[1 - shm->active].table, 0x5a, 5000);
                (void)raise(SIGKILL);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(choose(shm, "u", 0, &c));
        assert_int_equal(c.generation, 1);
        put(shm, 2, 0, ""); /* the lock is not lost, nor the slot */
        assert_true(choose(shm, "u", 0, &c));
        assert_int_equal(c.generation, 2);
        assert_string_equal(c.variant.name, "stable");
        (void)munmap(shm, sizeof(*shm));
}

static void put_checked(struct gw_shm *shm, unsigned generation, const char *mode, const char *name)
{
        char *text = table_text(generation, 0, ""), *with = NULL;
        const char *at = strstr(text, "\"variants\"");
        struct mlc_err err = {0};

        if (mode != NULL)
                assert_true(asprintf(&with,
                                     "%.*s\"validate\":{\"mode\":\"%s\",\"inputs\":[{\"name\":"
                                     "\"%s\",\"datatype\":\"FP64\",\"shape\":[-1]}]},%s",
                                     (int)(at - text), text, mode, name, at) > 0);
        assert_int_equal(put_text(shm, with != NULL ? with : text, 0, &err), 0);
        free(with);
        free(text);
}

static void checks_are_those_of_now(void **state)
{
        static const char empty[] =
                "{\"schema\":\"gateway-table/v1\",\"generation\":9,\"routes\":[]}";
        struct gw_shm *shm = new_shm();
        struct mlc_err err = {0};
        struct gw_check check;
        struct gw_choice c;

        (void)state;
        put_checked(shm, 1, "reject", "x");
        assert_true(choose(shm, "u", 0, &c));
        assert_true(gw_choice_check(shm, &c, &check));
        assert_int_equal(check.mode, GW_VALIDATE_REJECT);
        assert_int_equal(check.n_inputs, 1);
        assert_string_equal(check.inputs[0].name, "x");
        put_checked(shm, 2, "flag", "other");
        assert_true(gw_choice_check(shm, &c, &check));
        assert_int_equal(check.mode, GW_VALIDATE_FLAG);
        assert_string_equal(check.inputs[0].name, "other");
        put_checked(shm, 3, NULL, NULL);
        assert_true(gw_choice_check(shm, &c, &check));
        assert_int_equal(check.mode, GW_VALIDATE_OFF);
        assert_int_equal(put_text(shm, empty, 0, &err), 0);
        assert_false(gw_choice_check(shm, &c, &check));
        free(shm);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(chooses_by_bucket),
                cmocka_unit_test(lease),
                cmocka_unit_test(error_limit),
                cmocka_unit_test(each_outcome_counts_once),
                cmocka_unit_test(banks),
                cmocka_unit_test(checks_are_those_of_now),
                cmocka_unit_test(endpoints),
                cmocka_unit_test(readers_see_whole_tables),
                cmocka_unit_test(a_writer_that_dies),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
