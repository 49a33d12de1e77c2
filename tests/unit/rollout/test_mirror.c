/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "rollout/mirror_internal.h"

/* Whom copies are asked of: every connection is counted and closed. */
struct place {
        int fd;
        char host[64];
        int asked;
};

static void open_place(struct place *p)
{
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
        socklen_t len = sizeof(a);

        p->asked = 0;
        p->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_true(p->fd >= 0);
        assert_int_equal(bind(p->fd, (const struct sockaddr *)&a, sizeof(a)), 0);
        assert_int_equal(listen(p->fd, 512), 0);
        assert_int_equal(getsockname(p->fd, (struct sockaddr *)&a, &len), 0);
        (void)snprintf(p->host, sizeof(p->host), "127.0.0.1:%d", ntohs(a.sin_port));
}

/* Until nobody has asked for a moment. */
static void count_asked(struct place places[2])
{
        struct pollfd fds[2] = {{.fd = places[0].fd, .events = POLLIN},
                                {.fd = places[1].fd, .events = POLLIN}};

        while (poll(fds, 2, 1000) > 0)
                for (size_t i = 0; i < 2; i++) {
                        int fd = (fds[i].revents & POLLIN) != 0
                                         ? accept4(fds[i].fd, NULL, NULL, SOCK_CLOEXEC)
                                         : -1;

                        if (fd < 0)
                                continue;
                        places[i].asked++;
                        (void)close(fd);
                }
}

static struct mirror *start(struct place places[2])
{
        struct mirror *t = NULL;
        struct mlc_err err = {0};

        open_place(&places[0]);
        open_place(&places[1]);
        assert_int_equal(mirror_new(&t, &err), 0);
        return t;
}

static void stop(struct mirror *t, struct place places[2])
{
        (void)close(places[0].fd);
        (void)close(places[1].fd);
        mirror_free(t);
}

static struct mirror_route route_of(const char *route, const struct place *p, int share)
{
        return (struct mirror_route){.control = p->host,
                                     .route = route,
                                     .owner = "r1",
                                     .mirror = true,
                                     .candidate_model = "m--2",
                                     .candidate = p->host,
                                     .stable_model = "m--1",
                                     .stable = p->host,
                                     .share = share,
                                     .generation = 1};
}

/* What is watched is told anew at every look, which begins no turn anew. */
static void each_target_gets_its_share_of_copies(void **state)
{
        struct place places[2];
        struct mirror *t = start(places);
        const struct mirror_route routes[] = {route_of("fraud", &places[0], 1000),
                                              route_of("other", &places[0], 10000),
                                              route_of("fraud", &places[1], 1000)};

        (void)state;
        for (int i = 0; i < 200; i++) {
                if (i % 5 == 0)
                        mirror_watch(t, routes, ARRAY_LEN(routes));
                mirror_submit(t, "/v2/models/fraud/infer", "{}", 2);
        }
        count_asked(places);
        assert_int_equal(places[0].asked, 10);
        assert_int_equal(places[1].asked, 10);
        stop(t, places);
}

static void routes_that_alternate_get_their_shares(void **state)
{
        struct place places[2];
        struct mirror *t = start(places);
        const struct mirror_route routes[] = {route_of("fraud", &places[0], 5000),
                                              route_of("spam", &places[1], 5000)};

        (void)state;
        mirror_watch(t, routes, ARRAY_LEN(routes));
        for (int i = 0; i < 20; i++) {
                mirror_submit(t, "/v2/models/fraud/infer", "{}", 2);
                mirror_submit(t, "/v2/models/spam/infer", "{}", 2);
        }
        count_asked(places);
        assert_int_equal(places[0].asked, 10);
        assert_int_equal(places[1].asked, 10);
        stop(t, places);
}

static void counts_of_whom_nobody_watches_are_dropped(void **state)
{
        struct place places[2];
        struct mirror *t = start(places);
        const struct mirror_route route = route_of("fraud", &places[0], 1000);
        const struct mirror_watched watched = {.control = "c", .owner = "r1"};
        const struct mirror_watched ended = {.control = "c", .owner = "r2"};
        json_t *taken;

        (void)state;
        mirror_watch(t, &route, 1);
        (void)pthread_mutex_lock(&t->lock);
        (void)mirror_increment(t, &watched, 1, "shadow");
        (void)mirror_increment(t, &ended, 1, "shadow"); /* an answer after its rollout's end */
        (void)pthread_mutex_unlock(&t->lock);
        mirror_watch(t, &route, 1);
        taken = mirror_take(t, "r2");
        assert_int_equal(json_array_size(taken), 0);
        json_decref(taken);
        taken = mirror_take(t, "r1");
        assert_int_equal(json_array_size(taken), 1);
        json_decref(taken);
        mirror_watch(t, NULL, 0);
        assert_int_equal(json_object_size(t->counts), 0);
        stop(t, places);
}

/* Two servers beside one gateway: who has lost the lead leaves the other's socket alone. */
static void sockets_of_others_stay(void **state)
{
        char dir[] = "/tmp/mirror-XXXXXX", control[64], path[64];
        struct mirror_route route = {.route = "fraud", .owner = "r1", .control = control};
        struct mirror *first = NULL, *second = NULL;
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(mkdtemp(dir));
        (void)snprintf(control, sizeof(control), "unix:%s/control.sock", dir);
        (void)snprintf(path, sizeof(path), "%s/tap.sock", dir);
        assert_int_equal(mirror_new(&first, &err), 0);
        assert_int_equal(mirror_new(&second, &err), 0);
        mirror_watch(first, &route, 1);
        assert_int_equal(access(path, F_OK), 0);
        mirror_watch(second, &route, 1);
        mirror_watch(first, NULL, 0);
        assert_int_equal(access(path, F_OK), 0);
        mirror_watch(second, NULL, 0);
        assert_int_equal(access(path, F_OK), -1);
        mirror_free(first);
        mirror_free(second);
        assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_target_gets_its_share_of_copies),
                cmocka_unit_test(routes_that_alternate_get_their_shares),
                cmocka_unit_test(counts_of_whom_nobody_watches_are_dropped),
                cmocka_unit_test(sockets_of_others_stay),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
