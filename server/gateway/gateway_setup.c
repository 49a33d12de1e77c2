/* SPDX-License-Identifier: Apache-2.0 */
/* What the child needs before it starts: folder, account, module, sockets. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "gateway/gateway_priv.h"

#define MODULE "mlctl_gateway.so"
#define MODULE_BYTES_MAX (64 << 20)
#define BACKLOG 511
#define BIND_MS 8000 /* while the nginx of a mlctld that was killed ends */
#define FIRST_FD 20 /* above those that the child gets */

static int find_nginx(struct gateway *g, struct mlc_err *err)
{
        static const char *const places[] = {"/usr/sbin/nginx", "/usr/local/sbin/nginx",
                                             "/usr/local/nginx/sbin/nginx"};

        for (size_t i = 0; i < ARRAY_LEN(places); i++)
                if (access(places[i], X_OK) == 0) {
                        (void)snprintf(g->nginx, sizeof(g->nginx), "%s", places[i]);
                        return 0;
                }
        return mlc_fail(err, MLC_E_UNAVAILABLE,
                        "--gateway needs nginx, which is not installed (Debian: apt-get install "
                        "nginx-light)");
}

/* Beside the program as built, or where it is installed. */
static int find_module(char *ret, size_t size, struct mlc_err *err)
{
        static const char *const places[] = {"%s/" MODULE, "%s/../lib/nginx/modules/" MODULE,
                                             "/usr/lib/nginx/modules/" MODULE};
        char self[GATEWAY_PATH_MAX];
        ssize_t len = readlink("/proc/self/exe", self, sizeof(self) - 1);
        char *slash;

        self[len < 0 ? 0 : len] = '\0';
        slash = strrchr(self, '/');
        if (slash != NULL)
                *slash = '\0';
        for (size_t i = 0; i < ARRAY_LEN(places); i++) {
                if (strchr(places[i], '%') == NULL)
                        (void)snprintf(ret, size, "%s", places[i]);
                else
                        (void)snprintf(ret, size, "%s%s", self, places[i] + 2);
                if (access(ret, R_OK) == 0)
                        return 0;
        }
        return mlc_fail(err, MLC_E_UNAVAILABLE,
                        "--gateway needs the nginx module " MODULE ", which is neither beside "
                        "mlctld nor in /usr/lib/nginx/modules (it is built when nginx-dev is "
                        "installed)");
}

int gateway_write_file(const struct gateway *g, const char *name, const void *data, size_t len,
                       struct mlc_err *err)
{
        char path[GATEWAY_PATH_MAX + 64];
        int r;

        (void)snprintf(path, sizeof(path), "%s/%s", g->dir, name);
        r = mlc_write_file_atomic(path, data, len, 0600, err);
        if (r == 0 && g->change_user && lchown(path, g->uid, g->gid) < 0)
                r = mlc_fail_errno(err, "change owner of", path);
        return r;
}

/* Another account may not reach where it was built. */
static int copy_module(const struct gateway *g, const char *from, struct mlc_err *err)
{
        _cleanup_(free_p) char *data = NULL;
        size_t len;
        int r = mlc_read_file(from, MODULE_BYTES_MAX, &data, &len, err);

        return r < 0 ? r : gateway_write_file(g, MODULE, data, len, err);
}

static int find_account(struct gateway *g, struct mlc_err *err)
{
        static const char *const names[] = {"www-data", "nobody"};
        struct passwd entry, *found = NULL;
        char buf[4096];

        if (geteuid() != 0)
                return 0;
        for (size_t i = 0; i < ARRAY_LEN(names) && found == NULL; i++)
                (void)getpwnam_r(names[i], &entry, buf, sizeof(buf), &found);
        if (found == NULL)
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "--gateway as root needs the account www-data or nobody");
        g->change_user = true;
        g->uid = found->pw_uid;
        g->gid = found->pw_gid;
        return 0;
}

static int make_dir(const struct gateway *g, const char *path, struct mlc_err *err)
{
        int r = mlc_mkdirs(path, 0700, err);

        if (r == 0 && g->change_user && chown(path, g->uid, g->gid) < 0)
                r = mlc_fail_errno(err, "change owner of", path);
        return r;
}

/* The table of the last run belongs to whoever runs nginx now. */
static void adopt_table(const struct gateway *g)
{
        char path[GATEWAY_PATH_MAX + 64];

        (void)snprintf(path, sizeof(path), "%s/table.json", g->dir);
        if (g->change_user)
                (void)!lchown(path, g->uid, g->gid);
}

int gateway_prepare(struct gateway *g, const char *data, struct mlc_err *err)
{
        char module[GATEWAY_PATH_MAX + 64], tmp[GATEWAY_PATH_MAX + 8];
        int r;

        (void)snprintf(g->dir, sizeof(g->dir), "%s/gateway", data);
        (void)snprintf(g->address_file, sizeof(g->address_file), "%s/gateway-address", data);
        (void)snprintf(tmp, sizeof(tmp), "%s/tmp", g->dir);
        if (strlen(g->dir) + sizeof("/control.sock") > sizeof(((struct sockaddr_un *)0)->sun_path))
                return mlc_fail(err, MLC_E_LIMIT,
                                "--gateway: '%s' is too long a path for a unix socket", g->dir);
        r = find_nginx(g, err);
        if (r == 0)
                r = find_account(g, err);
        if (r == 0)
                r = find_module(module, sizeof(module), err);
        if (r == 0)
                r = make_dir(g, g->dir, err);
        if (r == 0)
                r = make_dir(g, tmp, err);
        if (r < 0)
                return r;
        adopt_table(g);
        (void)snprintf(g->module, sizeof(g->module), "%s", g->change_user ? "./" MODULE : module);
        return g->change_user ? copy_module(g, module, err) : 0;
}

/* --- sockets ---------------------------------------------------------------------------------- */

static int move_up(int *fd, struct mlc_err *err)
{
        int high = fcntl(*fd, F_DUPFD_CLOEXEC, FIRST_FD);

        if (high < 0)
                return mlc_fail_errno(err, "duplicate", "a socket");
        (void)close(*fd);
        *fd = high;
        return 0;
}

struct where {
        union {
                struct sockaddr any;
                struct sockaddr_in v4;
                struct sockaddr_in6 v6;
        } address;
        socklen_t len;
};

static int parse_where(const char *text, struct where *ret, struct mlc_err *err)
{
        const char *colon = strrchr(text, ':');
        char host[INET6_ADDRSTRLEN + 2] = "";
        unsigned long long port = 0;
        size_t len = colon == NULL ? 0 : (size_t)(colon - text);

        memset(ret, 0, sizeof(*ret));
        if (colon != NULL && len < sizeof(host) && mlc_parse_u64(colon + 1, &port) &&
            port <= 65535) {
                memcpy(host, text, len);
                if (mlc_streq(host, "localhost"))
                        (void)snprintf(host, sizeof(host), "127.0.0.1");
                ret->address.v4.sin_family = AF_INET;
                ret->address.v4.sin_port = htons((uint16_t)port);
                ret->len = sizeof(ret->address.v4);
                if (inet_pton(AF_INET, host, &ret->address.v4.sin_addr) == 1)
                        return 0;
                memset(ret, 0, sizeof(*ret));
                ret->address.v6.sin6_family = AF_INET6;
                ret->address.v6.sin6_port = htons((uint16_t)port);
                ret->len = sizeof(ret->address.v6);
                len = strlen(host);
                if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
                        host[len - 1] = '\0';
                        if (inet_pton(AF_INET6, host + 1, &ret->address.v6.sin6_addr) == 1)
                                return 0;
                }
        }
        return mlc_fail(err, MLC_E_USAGE,
                        "--gateway is ADDRESS:PORT, such as 127.0.0.1:8090 or [::1]:8090, not '%s'",
                        text);
}

static int bind_patiently(int fd, const struct where *w, const char *text, struct mlc_err *err)
{
        int64_t end = mlc_monotonic_ms() + BIND_MS;

        while (bind(fd, &w->address.any, w->len) < 0) {
                if (errno != EADDRINUSE || mlc_monotonic_ms() > end)
                        return mlc_fail_errno(err, "listen on", text);
                mlc_sleep_ms(100);
        }
        if (listen(fd, BACKLOG) < 0)
                return mlc_fail_errno(err, "listen on", text);
        return 0;
}

static int name_address(struct gateway *g, int fd, struct mlc_err *err)
{
        char host[INET6_ADDRSTRLEN];
        struct where w = {.len = sizeof(w.address)};

        if (getsockname(fd, &w.address.any, &w.len) < 0)
                return mlc_fail_errno(err, "name", "the gateway's socket");
        if (w.address.any.sa_family == AF_INET) {
                (void)inet_ntop(AF_INET, &w.address.v4.sin_addr, host, sizeof(host));
                (void)snprintf(g->address, sizeof(g->address), "%s:%u", host,
                               ntohs(w.address.v4.sin_port));
        } else {
                (void)inet_ntop(AF_INET6, &w.address.v6.sin6_addr, host, sizeof(host));
                (void)snprintf(g->address, sizeof(g->address), "[%s]:%u", host,
                               ntohs(w.address.v6.sin6_port));
        }
        return 0;
}

int gateway_bind(struct gateway *g, const char *where, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        struct where w;
        int on = 1;
        int r = parse_where(where, &w, err);

        if (r < 0)
                return r;
        fd = socket(w.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0)
                return mlc_fail_errno(err, "make a socket for", where);
        if (w.address.any.sa_family == AF_INET6)
                (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
        r = bind_patiently(fd, &w, where, err);
        if (r == 0)
                r = name_address(g, fd, err);
        if (r == 0)
                r = move_up(&fd, err);
        if (r == 0)
                g->listen_fd = TAKE_FD(fd);
        return r;
}

int gateway_bind_unix(const struct gateway *g, const char *name, int type, int *ret_fd,
                      struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int r;

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/%s", g->dir, name);
        (void)unlink(address.sun_path); /* of a run that was killed */
        if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
            chmod(address.sun_path, 0600) < 0 || (type == SOCK_STREAM && listen(fd, BACKLOG) < 0))
                return mlc_fail_errno(err, "listen on", address.sun_path);
        if (g->change_user && lchown(address.sun_path, g->uid, g->gid) < 0)
                return mlc_fail_errno(err, "change owner of", address.sun_path);
        r = move_up(&fd, err);
        if (r == 0)
                *ret_fd = TAKE_FD(fd);
        return r;
}
