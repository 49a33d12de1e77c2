/* SPDX-License-Identifier: Apache-2.0 */
/*
 * LD_PRELOAD for the fault tests: counts what the server does to files below MLC_FAULT_DIR (but
 * for postgres/) and to its database's COMMITs, and lets one call fail, or kills the process there.
 * Orders come, and what happened goes, through the shared file MLC_FAULT_FILE; see faults.py.
 *
 * A call is named "CALL PATH", PATH relative to the directory and without what differs between
 * runs: "fdatasync uploads/X/data", "rename log/tile/0/X.p/X".
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAME_MAX_LEN 128
#define SEEN_MAX 4096

enum {
        ACTION_NONE,
        ACTION_KILL,
        ACTION_ERRNO,
        ACTION_SHORT,
        ACTION_KILL_AFTER,
        ACTION_FROM,
        ACTION_KILL_OTHER /* the process `error`, and go on */
};

struct board {
        atomic_int armed; /* nothing is counted before */
        int action, error;
        int when; /* the how manieth call of that name, from 1 */
        atomic_int count, hit;
        char name[NAME_MAX_LEN]; /* with ACTION_FROM a prefix: each such call fails */
        atomic_int n_seen;
        char seen[SEEN_MAX][NAME_MAX_LEN];
};

static struct board *board;
static char base[PATH_MAX];
static size_t base_len;

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void)
{
        const char *file = getenv("MLC_FAULT_FILE"), *dir = getenv("MLC_FAULT_DIR");
        void *p;
        int fd;

        if (file == NULL || dir == NULL)
                return;
        fd = REAL(open)(file, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return;
        p = mmap(NULL, sizeof(*board), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        (void)close(fd);
        (void)snprintf(base, sizeof(base), "%s/", dir);
        base_len = strlen(base);
        if (p != MAP_FAILED)
                board = p;
}

static bool all(const char *s, size_t n, const char *of)
{
        return n > 0 && strspn(s, of) >= n;
}

/* One component of a path without what differs from run to run. */
static const char *plain(const char *s, size_t n)
{
        static const char digits[] = "0123456789", hex[] = "0123456789abcdef-";

        if (n > 2 && memcmp(s + n - 2, ".p", 2) == 0 && all(s, n - 2, digits))
                return "X.p";
        if (all(s, n, digits) || (n >= 2 && all(s, n, hex)))
                return "X";
        if (n > 1 && s[0] == 'v' && strspn(s + 1, digits) > 0)
                return memchr(s, '.', n) != NULL ? "vX.lock" : "vX";
        if (n > 4 && memcmp(s + n - 4, ".git", 4) == 0 && strncmp(s, "audit.git", n) != 0)
                return "X.git";
        if (memmem(s, n, "tmp_", 4) != NULL || memmem(s, n, ".tmp", 4) != NULL)
                return "tmp";
        return NULL;
}

/* False when the path is none of ours. */
static bool name_of(const char *call, const char *path, char ret[NAME_MAX_LEN])
{
        size_t at = (size_t)snprintf(ret, NAME_MAX_LEN, "%s ", call);
        const char *s = path + base_len;

        if (strncmp(path, base, base_len) != 0 || strncmp(s, "postgres", 8) == 0)
                return false;
        while (*s != '\0' && at < NAME_MAX_LEN - 1) {
                size_t n = strcspn(s, "/");
                const char *p = plain(s, n);
                /* tiles keep their level */
                bool level = at > 5 && strcmp(ret + at - 5, "tile/") == 0;

                at += (size_t)snprintf(ret + at, NAME_MAX_LEN - at, "%.*s%s",
                                       p != NULL && !level ? 100 : (int)n,
                                       p != NULL && !level ? p : s, s[n] == '/' ? "/" : "");
                s += n + (s[n] == '/');
        }
        return true;
}

/* What is to happen to this call. */
static int judge(const char *name)
{
        int i;

        if (board == NULL || !atomic_load(&board->armed))
                return ACTION_NONE;
        i = atomic_fetch_add(&board->n_seen, 1);
        if (i < SEEN_MAX)
                memcpy(board->seen[i], name, strlen(name) + 1);
        if (board->action == ACTION_FROM) {
                if (strncmp(name, board->name, strlen(board->name)) != 0)
                        return ACTION_NONE;
                atomic_store(&board->hit, 1);
                errno = board->error;
                return ACTION_ERRNO;
        }
        if (board->action == ACTION_NONE || strcmp(name, board->name) != 0 ||
            atomic_fetch_add(&board->count, 1) + 1 != board->when)
                return ACTION_NONE;
        atomic_store(&board->hit, 1);
        if (board->action == ACTION_KILL)
                (void)kill(getpid(), SIGKILL);
        if (board->action == ACTION_KILL_OTHER) {
                (void)kill((pid_t)board->error, SIGKILL);
                return ACTION_NONE;
        }
        errno = board->error;
        return board->action;
}

static int on_path(const char *call, int dir_fd, const char *path)
{
        char full[2 * PATH_MAX], link[64], name[NAME_MAX_LEN];
        ssize_t n = 0;
        int saved = errno, action;

        if (board == NULL || path == NULL)
                return ACTION_NONE;
        if (path[0] != '/') {
                (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", dir_fd);
                n = readlink(dir_fd == AT_FDCWD ? "/proc/self/cwd" : link, full, PATH_MAX);
                if (n < 0)
                        n = 0;
                full[n++] = '/';
        }
        (void)snprintf(full + n, sizeof(full) - (size_t)n, "%s", path);
        errno = saved;
        if (!name_of(call, full, name))
                return ACTION_NONE;
        action = judge(name);
        return action;
}

static int on_fd(const char *call, int fd)
{
        char path[PATH_MAX], link[64];
        int saved = errno;
        ssize_t n;

        if (board == NULL)
                return ACTION_NONE;
        (void)snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
        n = readlink(link, path, sizeof(path) - 1);
        errno = saved;
        if (n < 0)
                return ACTION_NONE;
        path[n] = '\0';
        return on_path(call, AT_FDCWD, path);
}

/* The process ends, after the call has had its effect. */
static void after(int action)
{
        if (action == ACTION_KILL_AFTER)
                (void)kill(getpid(), SIGKILL);
}

#define FAILS(action) ((action) == ACTION_ERRNO || (action) == ACTION_SHORT)

#define WRAP_FD(name)                                                                              \
        int name(int fd)                                                                           \
        {                                                                                          \
                int action = on_fd(#name, fd), r;                                                  \
                                                                                                   \
                if (FAILS(action))                                                                 \
                        return -1;                                                                 \
                r = REAL(name)(fd);                                                                \
                after(action);                                                                     \
                return r;                                                                          \
        }
WRAP_FD(fsync);
WRAP_FD(fdatasync);

#define WRAP(call, dir_fd, path, ret, signature, arguments)                                        \
        ret call signature                                                                         \
        {                                                                                          \
                int action = on_path(#call, dir_fd, path);                                         \
                ret r;                                                                             \
                                                                                                   \
                if (FAILS(action))                                                                 \
                        return -1;                                                                 \
                r = REAL(call) arguments;                                                          \
                after(action);                                                                     \
                return r;                                                                          \
        }
WRAP(rename, AT_FDCWD, to, int, (const char *from, const char *to), (from, to));
WRAP(renameat, to_fd, to, int, (int from_fd, const char *from, int to_fd, const char *to),
     (from_fd, from, to_fd, to));
WRAP(link, AT_FDCWD, to, int, (const char *from, const char *to), (from, to));
WRAP(linkat, to_fd, to, int, (int from_fd, const char *from, int to_fd, const char *to, int flags),
     (from_fd, from, to_fd, to, flags));
WRAP(mkdir, AT_FDCWD, path, int, (const char *path, mode_t mode), (path, mode));
WRAP(mkdirat, fd, path, int, (int fd, const char *path, mode_t mode), (fd, path, mode));
WRAP(unlink, AT_FDCWD, path, int, (const char *path), (path));
WRAP(unlinkat, fd, path, int, (int fd, const char *path, int flags), (fd, path, flags));
WRAP(fchmodat, fd, path, int, (int fd, const char *path, mode_t mode, int flags),
     (fd, path, mode, flags));

#define WRAP_SIZE(call, signature, arguments)                                                      \
        int call signature                                                                         \
        {                                                                                          \
                int action = on_fd(#call, fd), r;                                                  \
                                                                                                   \
                if (FAILS(action))                                                                 \
                        return -1;                                                                 \
                r = REAL(call) arguments;                                                          \
                after(action);                                                                     \
                return r;                                                                          \
        }
WRAP_SIZE(ftruncate, (int fd, off_t size), (fd, size));
WRAP_SIZE(ftruncate64, (int fd, off64_t size), (fd, size));
WRAP_SIZE(fallocate, (int fd, int mode, off_t at, off_t len), (fd, mode, at, len));
WRAP_SIZE(fallocate64, (int fd, int mode, off64_t at, off64_t len), (fd, mode, at, len));

#define WRAP_WRITE(call, as, signature, arguments)                                                 \
        ssize_t call signature                                                                     \
        {                                                                                          \
                int action = on_fd(as, fd);                                                        \
                ssize_t r;                                                                         \
                                                                                                   \
                if (action == ACTION_ERRNO)                                                        \
                        return -1;                                                                 \
                if (action == ACTION_SHORT)                                                        \
                        n = n > 1 ? n / 2 : n;                                                     \
                r = REAL(call) arguments;                                                          \
                after(action);                                                                     \
                return r;                                                                          \
        }
WRAP_WRITE(write, "write", (int fd, const void *p, size_t n), (fd, p, n));
WRAP_WRITE(pwrite, "pwrite", (int fd, const void *p, size_t n, off_t at), (fd, p, n, at));
WRAP_WRITE(pwrite64, "pwrite", (int fd, const void *p, size_t n, off64_t at), (fd, p, n, at));

/* Only those that may change something. */
#define WRITES(flags) (((flags) & (O_CREAT | O_WRONLY | O_RDWR)) != 0)

#define WRAP_OPEN(call, as, dir_fd, head, arguments)                                               \
        int call(head, int flags, ...)                                                             \
        {                                                                                          \
                int action = WRITES(flags) ? on_path(as, dir_fd, path) : ACTION_NONE, r;           \
                mode_t mode = 0;                                                                   \
                va_list ap;                                                                        \
                                                                                                   \
                if ((flags & (O_CREAT | O_TMPFILE)) != 0) {                                        \
                        va_start(ap, flags);                                                       \
                        mode = va_arg(ap, mode_t);                                                 \
                        va_end(ap);                                                                \
                }                                                                                  \
                if (FAILS(action))                                                                 \
                        return -1;                                                                 \
                r = REAL(call) arguments;                                                          \
                after(action);                                                                     \
                return r;                                                                          \
        }
#define AND ,
WRAP_OPEN(open, "open", AT_FDCWD, const char *path, (path, flags, mode));
WRAP_OPEN(open64, "open", AT_FDCWD, const char *path, (path, flags, mode));
WRAP_OPEN(openat, "open", fd, int fd AND const char *path, (fd, path, flags, mode));
WRAP_OPEN(openat64, "open", fd, int fd AND const char *path, (fd, path, flags, mode));

/*
 * libpq, known by its public signatures. "commit" is before COMMIT is sent (its failure: sent, and
 * the connection lost before the answer), "committed" when the answer has come. Where promotions,
 * approvals, changes or rollouts move, "commit TO+TO…" and "committed TO+TO…" are judged as well.
 */
typedef struct pg_conn PGconn;
typedef struct pg_result PGresult;
char *PQcmdStatus(PGresult *res);
int PQflush(PGconn *c);
int PQsocket(const PGconn *c);
int PQpipelineSync(PGconn *c);
PGresult *PQgetResult(PGconn *c);

static _Thread_local int commit_action;
static _Thread_local char moves[64]; /* of this thread's transaction */

static void add_move(const char *to)
{
        size_t at = strlen(moves);

        (void)snprintf(moves + at, sizeof(moves) - at, "%s%s", at > 0 ? "+" : "", to);
}

/* What a statement of the server moves; by the names in its .sql files. */
static void look_at(const char *name, const char *const *values)
{
        static const char *const fixed[][2] = {{"promotion_insert", "evaluating"},
                                               {"promotion_insert_rollback", "rollback"},
                                               {"approval_insert", "approval"},
                                               {"promotion_fresh", "fresh"}};

        if (strcmp(name, "promotion_move") == 0 || strcmp(name, "promotion_judged") == 0 ||
            strcmp(name, "change_move") == 0)
                add_move(values[1]);
        if (strcmp(name, "rollout_set") == 0) { /* "running1": with its step */
                char to[32];

                (void)snprintf(to, sizeof(to), "%.20s%.8s", values[1], values[2]);
                add_move(to);
        }
        for (size_t i = 0; i < sizeof(fixed) / sizeof(*fixed); i++)
                if (strcmp(name, fixed[i][0]) == 0)
                        add_move(fixed[i][1]);
}

/* By both names. */
static int judge_commit(const char *call)
{
        char name[NAME_MAX_LEN];
        int action = judge(call);

        (void)snprintf(name, sizeof(name), "%s %s", call, moves);
        return action == ACTION_NONE && moves[0] != '\0' ? judge(name) : action;
}

static void look_at_text(const char *text)
{
        if (strncmp(text, "BEGIN", 5) == 0)
                moves[0] = '\0';
        if (strcmp(text, "COMMIT") == 0)
                commit_action = judge_commit("commit");
}

#define WRAP_SEND(call, look, signature, arguments)                                                \
        int call signature;                                                                        \
        int call signature                                                                         \
        {                                                                                          \
                if (board != NULL)                                                                 \
                        look;                                                                      \
                return REAL(call) arguments;                                                       \
        }
WRAP_SEND(PQsendQueryParams, look_at_text(text),
          (PGconn * c, const char *text, int n, const unsigned *types, const char *const *values,
           const int *lengths, const int *formats, int binary),
          (c, text, n, types, values, lengths, formats, binary));

WRAP_SEND(PQsendQueryPrepared, look_at(name, values),
          (PGconn * c, const char *name, int n, const char *const *values, const int *lengths,
           const int *formats, int binary),
          (c, name, n, values, lengths, formats, binary));

int PQpipelineSync(PGconn *c)
{
        int r = REAL(PQpipelineSync)(c);

        if (commit_action == ACTION_NONE)
                return r;
        (void)REAL(PQflush)(c);
        after(commit_action);
        (void)shutdown(REAL(PQsocket)(c), SHUT_RDWR);
        commit_action = ACTION_NONE;
        return r;
}

PGresult *PQgetResult(PGconn *c)
{
        PGresult *res = REAL(PQgetResult)(c);

        if (board != NULL && res != NULL && strcmp(REAL(PQcmdStatus)(res), "COMMIT") == 0)
                after(judge_commit("committed"));
        return res;
}

/* A gateway's table: "put" is before it is sent, with KILL_AFTER when it is. */
ssize_t send(int fd, const void *p, size_t n, int flags)
{
        static const char put[] = "PUT /v1/table ";
        int action = ACTION_NONE;
        ssize_t r;

        if (board != NULL && n > sizeof(put) && memcmp(p, put, sizeof(put) - 1) == 0)
                action = judge("put");
        if (FAILS(action))
                return -1;
        r = REAL(send)(fd, p, n, flags);
        after(action);
        return r;
}
