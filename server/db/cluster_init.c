/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <pwd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"
#include "db/cluster_priv.h"

#define MAJOR_MIN 13
#define MAJOR_MAX 99
#define MAKING_MS_MAX 30000
#define SOCKET_PATH_MAX 107 /* sun_path without its NUL, unix(7) */

static const char *const BIN_DIRS[] = {"/usr/lib/postgresql/", "/usr/pgsql-"}; /* MAJOR/bin */

/* Written once, for the operator to change; what mlctld depends on is given on the command line. */
static const char CONF[] =
        "\n# mlctl: small, for one machine\n"
        "shared_buffers = 64MB\nwork_mem = 4MB\nmaintenance_work_mem = 64MB\n"
        "max_wal_size = 1GB\nmin_wal_size = 80MB\nwal_compression = on\n"
        "jit = off\nmax_parallel_workers_per_gather = 0\nmax_logical_replication_workers = 0\n"
        "log_min_messages = log\nlog_checkpoints = off\n";

static int own_name(uid_t uid, char *ret, size_t size, struct mlc_err *err)
{
        char buf[4096];
        struct passwd pw, *found = NULL;

        if (getpwuid_r(uid, &pw, buf, sizeof(buf), &found) != 0 || found == NULL)
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "user id %u has no name in /etc/passwd, which the embedded "
                                "PostgreSQL needs",
                                (unsigned)uid);
        (void)snprintf(ret, size, "%s", pw.pw_name);
        return 0;
}

int cluster_account(struct db_cluster *c, struct mlc_err *err)
{
        char buf[4096];
        struct passwd pw, *found = NULL;
        int r;

        r = own_name(geteuid(), c->self, sizeof(c->self), err);
        if (r < 0)
                return r;
        c->uid = geteuid();
        c->gid = getegid();
        (void)snprintf(c->account, sizeof(c->account), "%s", c->self);
        if (c->uid != 0)
                return 0;
        if (getpwnam_r("postgres", &pw, buf, sizeof(buf), &found) != 0 || found == NULL)
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "the account 'postgres' is missing, as which the embedded "
                                "PostgreSQL runs when "
                                "mlctld is root: apt-get install postgresql-15");
        c->change_user = true;
        c->uid = pw.pw_uid;
        c->gid = pw.pw_gid;
        c->n_groups = (int)ARRAY_LEN(c->groups);
        if (getgrouplist(pw.pw_name, pw.pw_gid, c->groups, &c->n_groups) < 0)
                c->n_groups = 0;
        (void)snprintf(c->account, sizeof(c->account), "%s", pw.pw_name);
        return 0;
}

static bool may_search(const struct db_cluster *c, const struct stat *st)
{
        if (st->st_uid == c->uid)
                return (st->st_mode & S_IXUSR) != 0;
        for (int i = 0; i < c->n_groups; i++)
                if (st->st_gid == c->groups[i])
                        return (st->st_mode & S_IXGRP) != 0;
        return (st->st_mode & S_IXOTH) != 0;
}

/* True when some directory above `path` is closed to the cluster's account. */
static bool parents_closed(const struct db_cluster *c, const char *path)
{
        char part[CLUSTER_PATH_MAX];
        struct stat st;

        (void)snprintf(part, sizeof(part), "%s", path);
        for (char *p = part + 1; (p = strchr(p, '/')) != NULL; p++) {
                *p = '\0';
                if (stat(part, &st) == 0 && !may_search(c, &st))
                        return true;
                *p = '/';
        }
        return false;
}

static int give_one(const char *path, const struct db_cluster *c, struct mlc_err *err)
{
        if (c->change_user && lchown(path, c->uid, c->gid) < 0)
                return mlc_fail_errno(err, "change owner of", path);
        return 0;
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st;
        (void)type;
        (void)ftw;
        return remove(path);
}

/* chown -R without following links; a copied or restored DIR may belong to root. */
static int give_tree(const char *path, const struct db_cluster *c, int depth, struct mlc_err *err)
{
        DIR *d;
        struct dirent *e;
        int r = give_one(path, c, err);

        if (r < 0 || depth > 32)
                return r;
        d = opendir(path);
        if (d == NULL)
                return mlc_fail_errno(err, "open", path);
        while (r == 0 && (e = readdir(d)) != NULL) {
                char sub[CLUSTER_PATH_MAX];
                struct stat st;

                if (mlc_streq(e->d_name, ".") || mlc_streq(e->d_name, ".."))
                        continue;
                if (snprintf(sub, sizeof(sub), "%s/%s", path, e->d_name) >= (int)sizeof(sub))
                        continue;
                if (lstat(sub, &st) < 0)
                        continue;
                r = S_ISDIR(st.st_mode) ? give_tree(sub, c, depth + 1, err) : give_one(sub, c, err);
        }
        (void)closedir(d);
        return r;
}

static int make_socket_dir(struct db_cluster *c, struct mlc_err *err)
{
        char path[] = "/tmp/mlctl-XXXXXX";

        /* a comma would make it a list of hosts in libpq */
        if (strlen(c->dir) + strlen("/.s.PGSQL." CLUSTER_PORT) <= SOCKET_PATH_MAX &&
            strchr(c->dir, ',') == NULL) {
                (void)snprintf(c->socket_dir, sizeof(c->socket_dir), "%s", c->dir);
                return 0;
        }
        if (mkdtemp(path) == NULL)
                return mlc_fail_errno(err, "make a directory for the database's socket", path);
        c->own_socket_dir = true;
        (void)snprintf(c->socket_dir, sizeof(c->socket_dir), "%s", path);
        return give_one(path, c, err);
}

void cluster_paths(struct db_cluster *c, const char *data_dir)
{
        (void)snprintf(c->dir, sizeof(c->dir), "%s/postgres", data_dir);
        (void)snprintf(c->data, sizeof(c->data), "%s/postgres/data", data_dir);
}

int cluster_directories(struct db_cluster *c, const char *data_dir, struct mlc_err *err)
{
        struct stat st;
        int r;

        if (strlen(data_dir) + 64 > sizeof(c->dir))
                return mlc_fail(err, MLC_E_LIMIT, "the path of the data directory is too long");
        cluster_paths(c, data_dir);
        r = mlc_mkdirs(c->dir, 0700, err);
        if (r < 0)
                return r;
        if (stat(c->dir, &st) < 0)
                return mlc_fail_errno(err, "look at", c->dir);
        if (c->change_user) {
                if (chmod(data_dir, 0711) < 0)
                        return mlc_fail_errno(err, "change mode of", data_dir);
                if (st.st_uid != c->uid || (stat(c->data, &st) == 0 && st.st_uid != c->uid)) {
                        r = give_tree(c->dir, c, 0, err);
                        if (r < 0)
                                return r;
                }
                c->need_search = parents_closed(c, c->dir);
        } else if (st.st_uid != c->uid) {
                return mlc_fail(err, MLC_E_UNAVAILABLE,
                                "'%s' belongs to another account: start mlctld as root, or run "
                                "chown -R %s '%s'",
                                c->dir, c->self, data_dir);
        }
        return make_socket_dir(c, err);
}

static bool installed(int major, char *ret, size_t size)
{
        for (size_t i = 0; i < ARRAY_LEN(BIN_DIRS); i++) {
                char dir[128], program[160];

                (void)snprintf(dir, sizeof(dir), "%s%d/bin", BIN_DIRS[i], major);
                (void)snprintf(program, sizeof(program), "%s/postgres", dir);
                if (access(program, X_OK) == 0) {
                        (void)snprintf(ret, size, "%s", dir);
                        return true;
                }
        }
        return false;
}

static int newest_installed(char *ret, size_t size)
{
        for (int major = MAJOR_MAX; major >= MAJOR_MIN; major--)
                if (installed(major, ret, size))
                        return major;
        return 0;
}

/* The programs for data that exists: exactly its major version. */
static int find_for_data(struct db_cluster *c, const char *version, struct mlc_err *err)
{
        unsigned long long major = 0;
        int newest;

        if (!mlc_parse_u64(version, &major) || major > MAJOR_MAX)
                return mlc_fail(err, MLC_E_CONFLICT,
                                "'%s/PG_VERSION' does not hold a version of PostgreSQL", c->data);
        if (major >= MAJOR_MIN && installed((int)major, c->bin, sizeof(c->bin)))
                return 0;
        newest = newest_installed(c->bin, sizeof(c->bin));
        return mlc_fail(err, MLC_E_CONFLICT,
                        "the data in '%s' is of PostgreSQL %llu, which is not installed (newest "
                        "found: %d): run "
                        "apt-get install postgresql-%llu, or move the data with %s/pg_upgrade",
                        c->data, major, newest, major,
                        newest > 0 ? c->bin : "/usr/lib/postgresql/NEW/bin");
}

static int append_conf(const char *data, struct mlc_err *err)
{
        char path[CLUSTER_PATH_MAX + 32];
        _cleanup_(close_file) FILE *f = NULL;

        (void)snprintf(path, sizeof(path), "%s/postgresql.conf", data);
        f = fopen(path, "ae");
        if (f == NULL || fputs(CONF, f) == EOF || fflush(f) != 0 || fdatasync(fileno(f)) < 0)
                return mlc_fail_errno(err, "write", path);
        return 0;
}

/*
 * An initdb whose mlctld was killed may still be at work, and cleans up behind itself. It and its
 * children hold this lock, so that whoever begins anew waits for their end.
 */
static int lock_making(struct db_cluster *c, int *ret, struct mlc_err *err)
{
        char path[CLUSTER_PATH_MAX + 16];
        int64_t until = mlc_monotonic_ms() + MAKING_MS_MAX;
        _cleanup_(close_fd) int fd = -1;

        (void)snprintf(path, sizeof(path), "%s/making", c->dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "open", path);
        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (mlc_monotonic_ms() >= until)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "initdb of an earlier start still works on '%s'", c->dir);
                mlc_sleep_ms(20);
        }
        *ret = TAKE_FD(fd);
        return 0;
}

/* The data directory under the name `fresh`, with the role and its database. */
static int make_data(struct db_cluster *c, const char *fresh, struct mlc_err *err)
{
        char initdb[300], postgres[300];
        const char *const init_argv[] = {initdb,
                                         "--pgdata",
                                         fresh,
                                         "--username=postgres",
                                         "--encoding=UTF8",
                                         "--locale=C",
                                         "--lc-ctype=C.UTF-8",
                                         "--auth=reject",
                                         "--data-checksums",
                                         NULL};
        const char *const single_argv[] = {
                postgres, "--single",         "-D",       fresh, "-c", "log_min_messages=error",
                "-c",     "exit_on_error=on", "postgres", NULL};
        int r;

        (void)snprintf(initdb, sizeof(initdb), "%s/initdb", c->bin);
        (void)snprintf(postgres, sizeof(postgres), "%s/postgres", c->bin);
        r = cluster_run(c, init_argv, NULL, err);
        if (r < 0)
                return r;
        r = append_conf(fresh, err);
        if (r < 0)
                return r;
        return cluster_run(c, single_argv,
                           "CREATE ROLE mlctl LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE\n"
                           "CREATE DATABASE mlctl OWNER mlctl\n"
                           "REVOKE CONNECT ON DATABASE mlctl FROM PUBLIC\n",
                           err);
}

/* Beside the final name, then renamed. */
static int create(struct db_cluster *c, struct mlc_err *err)
{
        char fresh[CLUSTER_PATH_MAX + 8];
        _cleanup_(close_fd) int lock = -1;
        int r;

        (void)snprintf(fresh, sizeof(fresh), "%s.new", c->data);
        r = lock_making(c, &lock, err);
        if (r < 0)
                return r;
        if (nftw(fresh, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT)
                return mlc_fail_errno(err, "remove", fresh);
        c->inherited_fd = lock;
        r = make_data(c, fresh, err);
        c->inherited_fd = -1;
        if (r < 0)
                return r;
        if (rename(fresh, c->data) < 0)
                return mlc_fail_errno(err, "rename", fresh);
        return mlc_fsync_parent(c->data, err);
}

/* Who may connect: our account and the cluster's, as told by the kernel; anew at each start, since
 * accounts change. */
static int write_access(struct db_cluster *c, struct mlc_err *err)
{
        char path[CLUSTER_PATH_MAX + 16], text[512];
        int r;

        (void)snprintf(path, sizeof(path), "%s/hba", c->dir);
        (void)snprintf(text, sizeof(text),
                       "local all mlctl peer map=mlctl\nlocal all postgres peer map=mlctl\n");
        r = mlc_write_file_atomic(path, text, strlen(text), 0600, err);
        if (r < 0)
                return r;
        r = give_one(path, c, err);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/ident", c->dir);
        (void)snprintf(text, sizeof(text),
                       "mlctl \"%s\" mlctl\nmlctl \"%s\" mlctl\nmlctl \"%s\" postgres\n", c->self,
                       c->account, c->account);
        r = mlc_write_file_atomic(path, text, strlen(text), 0600, err);
        if (r < 0)
                return r;
        return give_one(path, c, err);
}

int cluster_prepare(struct db_cluster *c, struct mlc_err *err)
{
        char path[CLUSTER_PATH_MAX + 32];
        _cleanup_(free_p) char *version = NULL;
        size_t len;
        int r;

        (void)snprintf(path, sizeof(path), "%s/PG_VERSION", c->data);
        r = mlc_read_file(path, 64, &version, &len, err);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(err);
                if (newest_installed(c->bin, sizeof(c->bin)) == 0)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "PostgreSQL %d or newer is not installed: run apt-get "
                                        "install postgresql-15, or "
                                        "give --postgres",
                                        MAJOR_MIN);
                log_info(NULL, "db.cluster_create", KV_STR("dir", c->data), KV_STR("bin", c->bin));
                r = create(c, err);
        } else if (r == 0) {
                version[strcspn(version, "\n")] = '\0';
                r = find_for_data(c, version, err);
        }
        if (r < 0)
                return r;
        return write_access(c, err);
}
