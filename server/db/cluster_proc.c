/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/str.h"
#include "db/cluster_priv.h"

#define LOG_BYTES_MAX (8 << 20)
#define STRAY_GRACE_MS 3000
#define STRAY_FAST_MS 25000
#define STRAY_KILL_MS 5000

static int open_log(struct db_cluster *c, struct mlc_err *err)
{
        char path[CLUSTER_PATH_MAX + 16];
        _cleanup_(close_fd) int fd = -1;
        struct stat st;

        (void)snprintf(path, sizeof(path), "%s/log", c->dir);
        fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(err, "open", path);
        if (c->change_user && fchown(fd, c->uid, c->gid) < 0)
                return mlc_fail_errno(err, "change owner of", path);
        if (st.st_size > LOG_BYTES_MAX && ftruncate(fd, 0) < 0)
                return mlc_fail_errno(err, "truncate", path);
        return TAKE_FD(fd);
}

/* Below here, until exec: only system calls, since other threads may have held any lock at fork. */

static bool child_keep_search(void)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct caps[2] = {{0}};

        caps[0].permitted = caps[0].effective = caps[0].inheritable = 1U << CAP_DAC_READ_SEARCH;
        return syscall(SYS_capset, &head, caps) == 0 &&
               prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_READ_SEARCH, 0, 0) == 0;
}

static bool child_change_user(const struct db_cluster *c)
{
        if (c->need_search && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0)
                return false;
        if (syscall(SYS_setgroups, (size_t)c->n_groups, c->groups) < 0 ||
            syscall(SYS_setresgid, c->gid, c->gid, c->gid) < 0 ||
            syscall(SYS_setresuid, c->uid, c->uid, c->uid) < 0)
                return false;
        return !c->need_search || child_keep_search();
}

static void child_say(const char *text)
{
        (void)!write(STDERR_FILENO, text, strlen(text));
}

static void child(const struct db_cluster *c, const char *const argv[], const int fds[2],
                  pid_t parent)
{
        char path[] = "PATH=/usr/bin:/bin", locale[] = "LC_ALL=C.UTF-8", zone[] = "TZ=UTC";
        char *const env[] = {path, locale, zone, NULL};
        sigset_t none;

        (void)sigemptyset(&none);
        (void)sigprocmask(SIG_SETMASK, &none, NULL);
        for (int sig = 1; sig < NSIG; sig++)
                (void)signal(sig, SIG_DFL);
        (void)setpgid(0, 0); /* Ctrl-C is for mlctld: the cluster goes last */
        (void)umask(077);
        if (dup2(fds[0], 0) < 0 || dup2(fds[1], 1) < 0 || dup2(fds[1], 2) < 0)
                _exit(126);
        if (c->inherited_fd >= 0)
                (void)fcntl(c->inherited_fd, F_SETFD, 0);
        if (c->change_user && !child_change_user(c)) {
                child_say(c->need_search
                                  ? "FATAL:  cannot change to the account postgres with "
                                    "CAP_DAC_READ_SEARCH, "
                                    "which a closed parent directory of the data makes necessary\n"
                                  : "FATAL:  cannot change to the account postgres\n");
                _exit(126);
        }
        /* after the change of user, which clears it */
        if (prctl(PR_SET_PDEATHSIG, SIGINT, 0, 0, 0) < 0 || getppid() != parent)
                _exit(126);
        (void)!chdir("/");
        (void)execve(argv[0], __extension__(char *const *)(uintptr_t) argv, env);
        child_say("FATAL:  cannot execute the program\n");
        _exit(127);
}

int cluster_spawn(struct db_cluster *c, const char *const argv[], int stdin_fd, pid_t *ret,
                  struct mlc_err *err)
{
        _cleanup_(close_fd) int log = open_log(c, err);
        _cleanup_(close_fd) int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        pid_t parent = getpid(), pid;

        if (log < 0)
                return log;
        if (null < 0)
                return mlc_fail_errno(err, "open", "/dev/null");
        pid = fork();
        if (pid < 0)
                return mlc_fail_errno(err, "fork for", argv[0]);
        if (pid == 0)
                child(c, argv, (const int[]){stdin_fd >= 0 ? stdin_fd : null, log}, parent);
        *ret = pid;
        return 0;
}

void cluster_last_words(const struct db_cluster *c, char *ret, size_t size)
{
        char path[CLUSTER_PATH_MAX + 16], tail[4097];
        _cleanup_(close_fd) int fd = -1;
        struct mlc_err ignored = {0};
        struct stat st;
        size_t len = 0;
        char *save = NULL;

        ret[0] = '\0';
        (void)snprintf(path, sizeof(path), "%s/log", c->dir);
        fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return;
        if (st.st_size > 4096)
                (void)lseek(fd, -4096, SEEK_END);
        if (mlc_read_full(fd, tail, sizeof(tail) - 1, &len, &ignored) < 0)
                return;
        tail[len] = '\0';
        for (char *line = strtok_r(tail, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
                const char *at = strstr(line, "FATAL:");

                at = at == NULL ? strstr(line, "error:") : at;
                at = at == NULL ? strstr(line, "PANIC:") : at;
                if (at != NULL)
                        (void)snprintf(ret, size, "%s", at);
        }
}

static int write_input(const char *input, int *ret, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = memfd_create("mlctl-input", MFD_CLOEXEC);
        int r;

        if (fd < 0)
                return mlc_fail_errno(err, "make", "a file in memory");
        r = mlc_write_full(fd, input, strlen(input), err);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return mlc_fail_errno(err, "rewind", "a file in memory");
        *ret = TAKE_FD(fd);
        return 0;
}

static bool asked_to_end(void)
{
        sigset_t pending;

        return sigpending(&pending) == 0 &&
               (sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1);
}

/* Waits for it; but not when mlctld, which holds the signal back, is told to end. */
static int wait_or_end(pid_t pid, int *ret_status, bool *ret_ended)
{
        pid_t got;

        *ret_ended = false;
        while ((got = waitpid(pid, ret_status, WNOHANG)) <= 0) {
                if (got < 0 && errno != EINTR)
                        return -errno;
                if (!*ret_ended && asked_to_end()) {
                        *ret_ended = true;
                        (void)kill(-pid, SIGKILL); /* what it has made so far is made anew */
                        (void)kill(pid, SIGKILL);
                }
                mlc_sleep_ms(5);
        }
        return 0;
}

int cluster_run(struct db_cluster *c, const char *const argv[], const char *input,
                struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        char words[256];
        int status = 0;
        bool ended;
        pid_t pid;
        int r;

        if (input != NULL) {
                r = write_input(input, &fd, err);
                if (r < 0)
                        return r;
        }
        r = cluster_spawn(c, argv, fd, &pid, err);
        if (r < 0)
                return r;
        if (wait_or_end(pid, &status, &ended) < 0)
                return mlc_fail_errno(err, "wait for", argv[0]);
        if (ended)
                return mlc_fail(err, MLC_E_UNAVAILABLE, "told to end before the database was made");
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        cluster_last_words(c, words, sizeof(words));
        return mlc_fail(err, MLC_E_UNAVAILABLE, "\"%s\" failed: %s (see '%s/log')", argv[0], words,
                        c->dir);
}

/* Line `n` (from 0) of postmaster.pid, cut to size. */
static void pid_file_line(const struct db_cluster *c, int n, char *ret, size_t size)
{
        char path[CLUSTER_PATH_MAX + 32];
        _cleanup_(free_p) char *text = NULL;
        size_t len;
        struct mlc_err ignored = {0};
        const char *p;

        ret[0] = '\0';
        (void)snprintf(path, sizeof(path), "%s/postmaster.pid", c->data);
        if (mlc_read_file(path, 65536, &text, &len, &ignored) < 0)
                return;
        for (p = text; n > 0 && p != NULL; n--) {
                p = strchr(p, '\n');
                p = p == NULL ? NULL : p + 1;
        }
        if (p != NULL)
                (void)snprintf(ret, size, "%.*s", (int)strcspn(p, "\n"), p);
        for (size_t len_ret = strlen(ret); len_ret > 0 && ret[len_ret - 1] == ' ';
             len_ret--) /* the status is padded */
                ret[len_ret - 1] = '\0';
}

static pid_t pid_file_pid(const struct db_cluster *c)
{
        char line[32];
        unsigned long long pid;

        pid_file_line(c, 0, line, sizeof(line));
        return mlc_parse_u64(line, &pid) && pid > 1 && pid < INT32_MAX ? (pid_t)pid : 0;
}

void cluster_status(const struct db_cluster *c, char *ret, size_t size)
{
        ret[0] = '\0';
        if (c->pid > 0 && pid_file_pid(c) == c->pid)
                pid_file_line(c, 7, ret, size);
}

/* True when this process is a postmaster of our data directory: its account, its program, its -D.
 */
static bool is_our_postmaster(const struct db_cluster *c, pid_t pid)
{
        char path[64], args[8192];
        _cleanup_(close_fd) int fd = -1;
        struct mlc_err ignored = {0};
        struct stat st;
        size_t len = 0;
        bool dir = false;

        (void)snprintf(path, sizeof(path), "/proc/%d/cmdline", (int)pid);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0 || st.st_uid != c->uid)
                return false;
        if (mlc_read_full(fd, args, sizeof(args) - 1, &len, &ignored) < 0)
                return false;
        args[len] = '\0';
        for (size_t i = 0; i < len; i += strlen(args + i) + 1)
                dir = dir || mlc_streq(args + i, c->data);
        return dir && mlc_ends_with(args, "/postgres");
}

static bool gone_within(const struct db_cluster *c, pid_t pid, int64_t ms)
{
        int64_t until = mlc_monotonic_ms() + ms;

        while (is_our_postmaster(c, pid)) {
                if (mlc_monotonic_ms() >= until)
                        return false;
                mlc_sleep_ms(10);
        }
        return true;
}

/* A lock file of PostgreSQL whose process is none of ours, though there is one of its number:
 * another has got it since, or nobody has taken notice of its end yet. PostgreSQL itself replaces
 * those without any process. Two servers on one directory stay impossible: we hold DIR/lock, and
 * PostgreSQL looks for users of the directory's shared memory. */
static int remove_stale(const struct db_cluster *c, const char *path, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_err ignored = {0};
        size_t len;
        long pid;

        if (mlc_read_file(path, 65536, &text, &len, &ignored) < 0)
                return 0;
        pid = strtol(text, NULL, 10);
        if (pid <= 1 || pid >= INT32_MAX || is_our_postmaster(c, (pid_t)pid) ||
            (kill((pid_t)pid, 0) < 0 && errno == ESRCH))
                return 0;
        if (unlink(path) < 0 && errno != ENOENT)
                return mlc_fail_errno(err, "remove", path);
        return 0;
}

static bool stops(const struct db_cluster *c, pid_t pid)
{
        if (gone_within(c, pid, STRAY_GRACE_MS)) /* by itself when its mlctld is killed */
                return true;
        return (kill(pid, SIGINT) == 0 && gone_within(c, pid, STRAY_FAST_MS)) ||
               (kill(pid, SIGQUIT) == 0 && gone_within(c, pid, STRAY_KILL_MS));
}

int cluster_stop_stray(struct db_cluster *c, struct mlc_err *err)
{
        char path[CLUSTER_PATH_MAX + 32];
        pid_t pid = pid_file_pid(c);
        int r;

        if (pid != 0 && is_our_postmaster(c, pid) && !stops(c, pid))
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "PostgreSQL of an earlier run (process %d) on '%s' does not stop",
                                (int)pid, c->data);
        (void)snprintf(path, sizeof(path), "%s/postmaster.pid", c->data);
        r = remove_stale(c, path, err);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/.s.PGSQL." CLUSTER_PORT ".lock", c->dir);
        return remove_stale(c, path, err);
}

int cluster_running_socket(struct db_cluster *c, struct mlc_err *err)
{
        char status[16];
        pid_t pid = pid_file_pid(c);

        pid_file_line(c, 7, status, sizeof(status));
        if (pid == 0 || !is_our_postmaster(c, pid) || !mlc_streq(status, "ready"))
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "the server on this directory is starting or stopping, try again");
        pid_file_line(c, 4, c->socket_dir, sizeof(c->socket_dir));
        return 0;
}
