/* SPDX-License-Identifier: Apache-2.0 */
#include <netdb.h>
#include <netinet/in.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "http/listener.h"

#define BACKLOG 1024

static void free_addresses(struct addrinfo **a)
{
        if (*a != NULL)
                freeaddrinfo(*a);
}

/* Splits at the last colon; brackets around an IPv6 address go. */
static int split(const char *where, char host[256], char port[8], struct mlc_err *err)
{
        const char *colon = strrchr(where, ':');
        size_t len = colon != NULL ? (size_t)(colon - where) : 0;

        if (colon == NULL || len >= 256 || strlen(colon + 1) >= 8 || colon[1] == '\0' ||
            strspn(colon + 1, "0123456789") != strlen(colon + 1))
                return mlc_fail(err, MLC_E_USAGE, "listen address '%s' is not HOST:PORT", where);
        if (len >= 2 && where[0] == '[' && where[len - 1] == ']') {
                where++;
                len -= 2;
        }
        memcpy(host, where, len);
        host[len] = '\0';
        memcpy(port, colon + 1, strlen(colon + 1) + 1);
        return 0;
}

static int address_of(int fd, char ret[HTTP_ADDRESS_MAX], struct mlc_err *err)
{
        struct sockaddr_storage a;
        socklen_t len = sizeof(a);
        char host[64], port[8];

        if (getsockname(fd, (struct sockaddr *)&a, &len) < 0 ||
            getnameinfo((struct sockaddr *)&a, len, host, sizeof(host), port, sizeof(port),
                        NI_NUMERICHOST | NI_NUMERICSERV) != 0)
                return mlc_fail(err, MLC_E_IO, "the listening socket has no address");
        (void)snprintf(ret, HTTP_ADDRESS_MAX,
                       a.ss_family == AF_INET6 ? "http://[%s]:%s" : "http://%s:%s", host, port);
        return 0;
}

static int open_socket(const struct addrinfo *a, const char *where, struct mlc_err *err)
{
        int fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), on = 1;

        if (fd < 0)
                return mlc_fail_errno(err, "making a socket for", where);
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
        if (bind(fd, a->ai_addr, a->ai_addrlen) < 0 || listen(fd, BACKLOG) < 0) {
                int r = mlc_fail_errno(err, "listening on", where);

                (void)close(fd);
                return r;
        }
        return fd;
}

int http_listen(const char *where, int *ret_fd, char ret_address[HTTP_ADDRESS_MAX],
                struct mlc_err *err)
{
        _cleanup_(free_addresses) struct addrinfo *found = NULL;
        _cleanup_(close_fd) int fd = -1;
        const struct addrinfo hints = {
                .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
        char host[256], port[8];
        int r = split(where, host, port, err);

        if (r < 0)
                return r;
        r = getaddrinfo(host[0] != '\0' ? host : NULL, port, &hints, &found);
        if (r != 0)
                return mlc_fail(err, MLC_E_USAGE, "listen address '%s': %s", where,
                                gai_strerror(r));
        fd = open_socket(found, where, err);
        if (fd < 0)
                return fd;
        r = address_of(fd, ret_address, err);
        if (r < 0)
                return r;
        *ret_fd = TAKE_FD(fd);
        return 0;
}
