/* SPDX-License-Identifier: Apache-2.0 */
/* HAProxy's runtime API: one command for each connection, the answer ends with it. */
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "rollout/drivers/haproxy.h"

int hap_where(const char *control, struct hap *ret, struct mlc_err *err)
{
        const char *map = strstr(control, ";map="), *path = control + strlen("unix:");
        size_t len;

        if (!mlc_starts_with(control, "unix:") || map == NULL)
                return mlc_fail(err, MLC_E_INVALID, "'%s' is no control socket with a map",
                                control);
        len = (size_t)(map - path);
        map += strlen(";map=");
        if (len == 0 || len >= sizeof(ret->socket) || strlen(map) >= sizeof(ret->map))
                return mlc_fail(err, MLC_E_INVALID, "the paths in '%s' are too long", control);
        (void)snprintf(ret->socket, sizeof(ret->socket), "%.*s", (int)len, path);
        (void)snprintf(ret->map, sizeof(ret->map), "%s", map);
        return 0;
}

static int unreachable(const struct hap *h, const char *what, struct mlc_err *err)
{
        return mlc_fail(err, MLC_E_UNREACHABLE, "%s haproxy at '%s': %s", what, h->socket,
                        strerror(errno));
}

static int wait_for(int fd, short events, int64_t until)
{
        struct pollfd p = {.fd = fd, .events = events};
        int64_t left = until - mlc_monotonic_ms();
        int n;

        do {
                n = left > 0 ? poll(&p, 1, (int)left) : 0;
        } while (n < 0 && errno == EINTR);
        return n;
}

static int send_all(const struct hap *h, int fd, const char *command, int64_t until,
                    struct mlc_err *err)
{
        char line[2048];
        int len = snprintf(line, sizeof(line), "%s\n", command);
        size_t sent = 0;

        if (len < 0 || (size_t)len >= sizeof(line))
                return mlc_fail(err, MLC_E_LIMIT, "a command for haproxy is too long");
        while (sent < (size_t)len) {
                ssize_t n = send(fd, line + sent, (size_t)len - sent, MSG_NOSIGNAL);

                if (n > 0)
                        sent += (size_t)n;
                else if (n < 0 && errno != EAGAIN && errno != EINTR)
                        return unreachable(h, "cannot write to", err);
                else if (wait_for(fd, POLLOUT, until) <= 0)
                        return mlc_fail(err, MLC_E_TIMEOUT, "haproxy at '%s' does not listen",
                                        h->socket);
        }
        return 0;
}

static int read_all(const struct hap *h, int fd, int64_t until, struct mlc_str *ret,
                    struct mlc_err *err)
{
        char part[16384];

        for (;;) {
                ssize_t n = recv(fd, part, sizeof(part), 0);

                if (n == 0)
                        break;
                if (n > 0) {
                        mlc_str_addn(ret, part, (size_t)n);
                        continue;
                }
                if (errno != EAGAIN && errno != EINTR)
                        return unreachable(h, "cannot read from", err);
                if (wait_for(fd, POLLIN, until) <= 0)
                        return mlc_fail(err, MLC_E_TIMEOUT, "haproxy at '%s' does not answer",
                                        h->socket);
        }
        return mlc_str_check(ret, err);
}

int hap_ask(const struct hap *h, const char *command, struct mlc_str *ret, struct mlc_err *err)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(close_fd) int fd = -1;
        int64_t until = mlc_monotonic_ms() + HAP_CALL_MS;
        int r;

        mlc_str_init(ret, HAP_REPLY_MAX);
        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s", h->socket);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return unreachable(h, "cannot ask", err);
        if (connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
                return unreachable(h, "cannot connect to", err);
        r = send_all(h, fd, command, until, err);
        return r < 0 ? r : read_all(h, fd, until, ret, err);
}

int hap_do(const struct hap *h, struct mlc_err *err, const char *fmt, ...)
{
        _cleanup_(mlc_str_done) struct mlc_str reply;
        char command[2048];
        va_list ap;
        int n, r;

        mlc_str_init(&reply, HAP_REPLY_MAX);
        va_start(ap, fmt);
        n = vsnprintf(command, sizeof(command), fmt, ap);
        va_end(ap);
        if (n < 0 || (size_t)n >= sizeof(command) || strpbrk(command, ";\n\r") != NULL)
                return mlc_fail(err, MLC_E_INVALID, "a command for haproxy cannot be written");
        r = hap_ask(h, command, &reply, err);
        if (r < 0)
                return r;
        if (strspn(mlc_str_cstr(&reply), " \n") != reply.len)
                return mlc_fail(err, MLC_E_CONFLICT, "haproxy at '%s' says to '%.60s': %.150s",
                                h->socket, command, mlc_str_cstr(&reply));
        return 0;
}

int hap_map(const struct hap *h, json_t **ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str reply;
        char command[HAP_PATH_MAX + 16];
        int r;

        (void)snprintf(command, sizeof(command), "show map %s", h->map);
        r = hap_ask(h, command, &reply, err);
        if (r < 0)
                return r;
        if (mlc_starts_with(mlc_str_cstr(&reply), "Unknown map"))
                return mlc_fail(err, MLC_E_NOT_FOUND,
                                "haproxy at '%s' uses no map '%s'; see deploy/haproxy/mlctl.cfg",
                                h->socket, h->map);
        *ret = hap_parse_map(mlc_str_cstr(&reply));
        return 0;
}

static void info_value(const char *text, const char *name, char *ret, size_t size)
{
        const char *at = strstr(text, name);

        if (at != NULL)
                (void)snprintf(ret, size, "%.*s", (int)strspn(at + strlen(name), "0123456789"),
                               at + strlen(name));
}

int hap_boot(const struct hap *h, char ret[HAP_BOOT_MAX], struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str reply;
        char pid[24] = "", start[24] = "";
        int r = hap_ask(h, "show info", &reply, err);

        if (r < 0)
                return r;
        info_value(mlc_str_cstr(&reply), "\nPid: ", pid, sizeof(pid));
        info_value(mlc_str_cstr(&reply), "\nStart_time_sec: ", start, sizeof(start));
        if (*pid == '\0' || *start == '\0')
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "haproxy at '%s' does not say since when it counts", h->socket);
        (void)snprintf(ret, HAP_BOOT_MAX, "%s.%s", pid, start);
        return 0;
}

int hap_counters(const struct hap *h, json_t **ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str reply;
        int r = hap_ask(h, "show stat -1 2 -1", &reply, err); /* backends only */

        return r < 0 ? r : hap_parse_stat(mlc_str_cstr(&reply), ret, err);
}

int hap_servers(const struct hap *h, const char *backend, json_t **ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str reply;
        char command[512];
        int r;

        (void)snprintf(command, sizeof(command), "show servers state %s", backend);
        r = hap_ask(h, command, &reply, err);
        if (r < 0)
                return r;
        if (mlc_starts_with(mlc_str_cstr(&reply), "Can't find backend"))
                return mlc_fail(err, MLC_E_NOT_FOUND,
                                "haproxy at '%s' has no backend '%s'; see deploy/haproxy/mlctl.cfg",
                                h->socket, backend);
        return hap_parse_servers(mlc_str_cstr(&reply), ret, err);
}
