/* SPDX-License-Identifier: Apache-2.0 */
#include "gateway/gateway.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "app.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "gateway/gateway_priv.h"

#define LOG_BYTES_MAX (8 << 20)
#define START_MS 15000
#define QUIT_MS 8000
#define KILL_MS 2000
#define AGAIN_MS 1000 /* a child that ends at once is not started more often */
#define LISTEN_FDS "3;4;" /* nginx's way to be given listening sockets */

/* --- child ------------------------------------------------------------------------------------ */

static int open_log(const struct gateway *g, struct mlc_err *err)
{
        char path[GATEWAY_PATH_MAX + 16];
        _cleanup_(close_fd) int fd = -1;
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/log", g->dir);
        fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(err, "open", path);
        if (st.st_size > LOG_BYTES_MAX && ftruncate(fd, 0) < 0)
                return mlc_fail_errno(err, "truncate", path);
        return TAKE_FD(fd);
}

/* Only system calls until exec: other threads may have held any lock at fork. */
static void child(const struct gateway *g, int log, pid_t parent)
{
        char program[] = "nginx", p[] = "-p", here[] = "./", c[] = "-c", conf[] = "nginx.conf";
        char listen[] = "NGINX=" LISTEN_FDS, path[] = "PATH=/usr/bin:/bin", zone[] = "TZ=UTC";
        char *const argv[] = {program, p, here, c, conf, NULL};
        char *const env[] = {listen, path, zone, NULL};
        sigset_t none;

        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        for (int sig = 1; sig < NSIG; sig++)
                (void)signal(sig, SIG_DFL);
        (void)setpgid(0, 0); /* Ctrl-C is for mlctld */
        (void)umask(077);
        /* later paths are relative: the folders above may be closed to the account */
        if (chdir(g->dir) < 0 || dup2(log, 1) < 0 || dup2(log, 2) < 0 ||
            dup2(g->listen_fd, 3) < 0 || dup2(g->control_fd, 4) < 0)
                _exit(126);
        if (g->change_user && (syscall(SYS_setgroups, 0UL, NULL) < 0 ||
                               syscall(SYS_setresgid, g->gid, g->gid, g->gid) < 0 ||
                               syscall(SYS_setresuid, g->uid, g->uid, g->uid) < 0))
                _exit(126);
        /* after the change of user, which clears it */
        if (prctl(PR_SET_PDEATHSIG, SIGQUIT, 0, 0, 0) < 0 || getppid() != parent)
                _exit(126);
        (void)execve(g->nginx, argv, env);
        _exit(127);
}

static int spawn(struct gateway *g, struct mlc_err *err)
{
        _cleanup_(close_fd) int log = open_log(g, err);
        pid_t parent = getpid(), pid;

        if (log < 0)
                return log;
        g->started_ms = mlc_monotonic_ms();
        pid = fork();
        if (pid < 0)
                return mlc_fail_errno(err, "fork for", g->nginx);
        if (pid == 0)
                child(g, log, parent);
        g->pid = pid;
        return 0;
}

/* true when it has ended; it is no child of ours any more then. */
static bool ended(struct gateway *g)
{
        if (g->pid == 0 || waitpid(g->pid, NULL, WNOHANG) == 0)
                return g->pid == 0;
        g->pid = 0;
        return true;
}

static bool wait_ended(struct gateway *g, int64_t ms)
{
        int64_t end = mlc_monotonic_ms() + ms;

        while (!ended(g)) {
                if (mlc_monotonic_ms() > end)
                        return false;
                mlc_sleep_ms(10);
        }
        return true;
}

/* --- start ------------------------------------------------------------------------------------ */

/* nginx has the socket only once it runs; until then the connection waits. */
static bool answers(const struct gateway *g)
{
        static const char ask[] = "GET /v1/table HTTP/1.0\r\nHost: localhost\r\n\r\n";
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        _cleanup_(close_fd) int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        char reply[16];
        struct pollfd p = {.fd = fd, .events = POLLIN};

        (void)snprintf(address.sun_path, sizeof(address.sun_path), "%s/control.sock", g->dir);
        return fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
               send(fd, ask, sizeof(ask) - 1, MSG_NOSIGNAL) == (ssize_t)sizeof(ask) - 1 &&
               poll(&p, 1, 200) == 1 && recv(fd, reply, sizeof(reply), 0) > 9 &&
               memcmp(reply, "HTTP/1.1 ", 9) == 0;
}

/* The last complaint in nginx's log. */
static void last_words(const struct gateway *g, char *ret, size_t size)
{
        char path[GATEWAY_PATH_MAX + 16];
        _cleanup_(free_p) char *text = NULL;
        struct mlc_err ignored = {0};
        const char *at, *last = NULL;
        size_t len;

        (void)snprintf(path, sizeof(path), "%s/log", g->dir);
        (void)snprintf(ret, size, "no reason in its log");
        if (mlc_read_file(path, 2 * LOG_BYTES_MAX, &text, &len, &ignored) < 0)
                return;
        for (at = text; (at = strstr(at, "[emerg]")) != NULL; at++)
                last = at;
        if (last != NULL)
                (void)snprintf(ret, size, "%.*s", (int)strcspn(last, "\n"), last);
}

static int wait_up(struct gateway *g, struct mlc_err *err)
{
        int64_t end = mlc_monotonic_ms() + START_MS;
        char words[300];

        while (!answers(g)) {
                if (ended(g)) {
                        last_words(g, words, sizeof(words));
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "nginx for the gateway ended: %s (see '%s/log')", words,
                                        g->dir);
                }
                if (mlc_monotonic_ms() > end)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "nginx for the gateway does not answer (see '%s/log')",
                                        g->dir);
        }
        return 0;
}

static int write_files(const struct gateway *g, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        int r;

        mlc_str_init(&s, 65536);
        gateway_write_conf(g, &s);
        r = mlc_str_check(&s, err);
        return r < 0 ? r : gateway_write_file(g, "nginx.conf", s.data, s.len, err);
}

static int write_address(const struct gateway *g, struct mlc_err *err)
{
        char text[128];

        (void)snprintf(text, sizeof(text), "http://%s\n", g->address);
        return mlc_write_file_atomic(g->address_file, text, strlen(text), 0644, err);
}

int gateway_start(struct app *app, struct mlc_err *err)
{
        struct gateway *g;
        int r;

        if (app->config.gateway == NULL)
                return 0;
        g = app->gateway = calloc(1, sizeof(*g));
        if (g == NULL)
                abort();
        g->listen_fd = g->control_fd = -1;
        r = gateway_prepare(g, app->config.data, err);
        if (r == 0)
                r = gateway_bind(g, app->config.gateway, err);
        if (r == 0)
                r = gateway_bind_unix(g, "control.sock", SOCK_STREAM, &g->control_fd, err);
        if (r == 0)
                r = write_files(g, err);
        if (r == 0)
                r = spawn(g, err);
        if (r == 0)
                r = wait_up(g, err);
        if (r == 0)
                r = write_address(g, err);
        if (r < 0)
                return r;
        log_info(NULL, "gateway.started", KV_STR("address", g->address), KV_INT("pid", g->pid));
        return 0;
}

int gateway_tend(struct app *app, struct mlc_err *err)
{
        struct gateway *g = app->gateway;

        if (g == NULL || !ended(g) || mlc_monotonic_ms() - g->started_ms < AGAIN_MS)
                return 0;
        log_warn(NULL, "gateway.restarted", KV_STR("address", g->address));
        return spawn(g, err);
}

static void stop_child(struct gateway *g)
{
        if (g->pid == 0)
                return;
        (void)kill(g->pid, SIGQUIT);
        if (wait_ended(g, QUIT_MS))
                return;
        (void)kill(g->pid, SIGTERM);
        if (wait_ended(g, KILL_MS))
                return;
        (void)kill(-g->pid, SIGKILL); /* workers too */
        (void)wait_ended(g, KILL_MS);
}

void gateway_stop(struct app *app)
{
        struct gateway *g = app->gateway;
        char path[GATEWAY_PATH_MAX + 32];

        if (g == NULL)
                return;
        (void)unlink(g->address_file);
        close_fd(&g->listen_fd);
        close_fd(&g->control_fd);
        stop_child(g);
        (void)snprintf(path, sizeof(path), "%s/control.sock", g->dir);
        (void)unlink(path);
        free(g);
        app->gateway = NULL;
}
