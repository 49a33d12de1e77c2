/* SPDX-License-Identifier: Apache-2.0 */
#include "backup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "audit/audit.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/run.h"
#include "base/str.h"
#include "db/cluster.h"
#include "store/store.h"

#define PATH_MAX_BYTES 4200
#define SETTLE_MS 500 /* until references of changes that have just committed are written */
#define BACKUP_ARENA (64u << 20)
#define BACKUP_MS (24 * 3600000LL)

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

/* *ret: it is a directory with something in it. */
static int occupied(const char *dir, bool *ret, struct mlc_err *err)
{
        _cleanup_(close_dir) DIR *d = opendir(dir);
        const struct dirent *e;

        *ret = false;
        if (d == NULL)
                return errno == ENOENT ? 0 : mlc_fail_errno(err, "cannot open", dir);
        while ((e = readdir(d)) != NULL)
                if (!mlc_streq(e->d_name, ".") && !mlc_streq(e->d_name, ".."))
                        *ret = true;
        return 0;
}

static bool exists(const char *dir, const char *name)
{
        char path[PATH_MAX_BYTES];

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        return access(path, F_OK) == 0;
}

/* cp -a FROM/NAME TO/NAME; nothing when there is no such thing. Never links: a flaw in one must not
 * be in the other. */
static int copy(const char *from, const char *to, const char *name, struct mlc_err *err)
{
        char a[PATH_MAX_BYTES], b[PATH_MAX_BYTES];
        const char *const argv[] = {"cp", "-a", "--reflink=auto", "--no-target-directory", a,
                                    b,    NULL};

        if (!exists(from, name))
                return 0;
        (void)snprintf(a, sizeof(a), "%s/%s", from, name);
        (void)snprintf(b, sizeof(b), "%s/%s", to, name);
        return mlc_run(argv, err);
}

/* Log, repositories and the name of a database snapshot, all of one moment. */
static int copy_files(struct mlc_ctx *ctx, const char *to, struct mlc_ctx *snap,
                      struct db_tx *snap_tx, char ret_snapshot[64])
{
        const char *from = ctx->app->config.data;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(close_fd) int lock = -1;
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = audit_quiesce(ctx, &tx, &lock);
        if (r < 0)
                return r;
        r = db_tx_begin(snap, snap_tx);
        if (r == 0)
                r = audit_export(snap, snap_tx, ret_snapshot);
        if (r < 0) {
                ctx->err = snap->err;
                return r;
        }
        mlc_sleep_ms(SETTLE_MS);
        r = copy(from, to, "log", &ctx->err);
        if (r == 0)
                r = copy(from, to, "git", &ctx->err);
        if (r == 0)
                r = copy(from, to, "keys", &ctx->err);
        return r;
}

/* The database in a cluster below TO. */
static int copy_database(struct mlc_ctx *ctx, const char *to, const char *snapshot)
{
        const struct app_config *from = &ctx->app->config;
        struct app target = {.config = {.data = to, .db_connections = 2}, .lock_fd = -1};
        const char *conninfo =
                from->postgres != NULL ? from->postgres : db_cluster_conninfo(ctx->app->cluster);
        int r;

        r = db_cluster_start(&target, &ctx->err);
        if (r == 0)
                r = db_cluster_load(&target, conninfo, snapshot, &ctx->err);
        db_cluster_stop(&target);
        return r;
}

/* Opens the copy as a guest would, and fetches the blobs that its rows name. */
static int copy_blobs(struct mlc_ctx *ctx, const char *to)
{
        struct app_config config = {.data = to, .db_connections = 2};
        _cleanup_(app_close) struct app target = {.lock_fd = -1};
        _cleanup_(mlc_ctx_done) struct mlc_ctx job = {0};
        int r;

        r = app_open(&target, &config, &ctx->err);
        if (r < 0)
                return r;
        mlc_ctx_init(&job, &target, "backup", BACKUP_ARENA, BACKUP_MS);
        r = store_copy_blobs(&job, ctx->app->config.data);
        if (r < 0)
                ctx->err = job.err;
        return r;
}

static int absolute(const char *path, char ret[PATH_MAX_BYTES], struct mlc_err *err)
{
        char cwd[2048];

        if (path[0] == '/') {
                (void)snprintf(ret, PATH_MAX_BYTES, "%s", path);
                return 0;
        }
        if (getcwd(cwd, sizeof(cwd)) == NULL)
                return mlc_fail_errno(err, "cannot read the name of", "the current directory");
        (void)snprintf(ret, PATH_MAX_BYTES, "%s/%s", cwd, path);
        return 0;
}

int backup_make(struct mlc_ctx *ctx, const char *to_arg)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx snap = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        char to[PATH_MAX_BYTES], snapshot[64];
        uint64_t size = 0;
        bool taken;
        int r;

        mlc_ctx_init(&snap, ctx->app, "backup", BACKUP_ARENA, BACKUP_MS);
        r = absolute(to_arg, to, &ctx->err);
        if (r == 0)
                r = occupied(to, &taken, &ctx->err);
        if (r == 0 && taken)
                r = ctx_fail(ctx, MLC_E_USAGE, "'%s' is not empty", to);
        if (r == 0)
                r = mlc_mkdirs(to, 0711, &ctx->err);
        if (r == 0)
                r = copy_files(ctx, to, &snap, &tx, snapshot);
        if (r == 0)
                r = copy_database(ctx, to, snapshot);
        db_tx_done(&tx);
        if (r == 0)
                r = copy_blobs(ctx, to);
        if (r == 0)
                r = audit_signed_size(to, &size, &ctx->err);
        if (r < 0)
                return r;
        (void)printf("{\"backup\":\"%s\",\"size\":%llu}\n", to, (unsigned long long)size);
        return 0;
}

/* DIR is ours alone: no server runs on it. */
static int lock_alone(const char *dir, int *ret, struct mlc_err *err)
{
        char path[PATH_MAX_BYTES];
        _cleanup_(close_fd) int fd = -1;

        (void)snprintf(path, sizeof(path), "%s/lock", dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "cannot open", path);
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return mlc_fail(err, MLC_E_CONFLICT, "a server runs on '%s', stop it first", dir);
        *ret = TAKE_FD(fd);
        return 0;
}

/* What DIR held goes aside under one name, so that nothing is lost by a mistaken restore. */
static int set_aside(const char *dir, const char *name, const char *aside, struct mlc_err *err)
{
        char from[PATH_MAX_BYTES], to[PATH_MAX_BYTES];

        if (!exists(dir, name))
                return 0;
        (void)snprintf(from, sizeof(from), "%s/%s", dir, name);
        (void)snprintf(to, sizeof(to), "%s/%s", aside, name);
        if (mkdir(aside, 0700) < 0 && errno != EEXIST)
                return mlc_fail_errno(err, "cannot make", aside);
        if (rename(from, to) < 0)
                return mlc_fail_errno(err, "cannot rename to", to);
        return 0;
}

static int replace(const char *dir, const char *from, const char *name, const char *aside,
                   struct mlc_err *err)
{
        int r = set_aside(dir, name, aside, err);

        return r < 0 ? r : copy(from, dir, name, err);
}

/* Blobs and keys are only added to: a newer log may be signed by a newer key. */
static int add(const char *dir, const char *from, const char *name, struct mlc_err *err)
{
        char a[PATH_MAX_BYTES], b[PATH_MAX_BYTES];
        const char *const argv[] = {"cp", "-a", "--no-clobber", "--no-target-directory", a,
                                    b,    NULL};

        if (!exists(from, name))
                return 0;
        (void)snprintf(a, sizeof(a), "%s/%s", from, name);
        (void)snprintf(b, sizeof(b), "%s/%s", dir, name);
        return mlc_run(argv, err);
}

static int restore_into(const char *dir, const char *from, struct mlc_err *err)
{
        char aside[PATH_MAX_BYTES];
        uint64_t ours = 0, theirs = 0;
        int r;

        (void)snprintf(aside, sizeof(aside), "%s/replaced-%lld", dir,
                       (long long)mlc_now_ms() / 1000);
        r = audit_signed_size(from, &theirs, err);
        if (r == 0)
                r = audit_signed_size(dir, &ours, err);
        if (r == 0)
                r = add(dir, from, "keys", err);
        if (r == 0)
                r = add(dir, from, "blobs", err);
        if (r == 0)
                r = replace(dir, from, "git", aside, err);
        if (r == 0)
                r = replace(dir, from, "postgres", aside, err);
        if (r == 0 && theirs >= ours)
                r = replace(dir, from, "log", aside, err);
        if (r < 0)
                return r;
        (void)printf("{\"restored\":\"%s\",\"size\":%llu,\"signed\":%llu}\n", from,
                     (unsigned long long)theirs,
                     (unsigned long long)(theirs > ours ? theirs : ours));
        if (theirs < ours)
                (void)fprintf(stderr,
                              "mlctld: the log in '%s' goes on for %llu entries after the backup "
                              "and was kept: the "
                              "server will refuse writes until `mlctld log succeed`\n",
                              dir, (unsigned long long)(ours - theirs));
        return 0;
}

int backup_restore(const struct app_config *config, const char *from_arg, struct mlc_err *err)
{
        _cleanup_(close_fd) int ours = -1, theirs = -1;
        char from[PATH_MAX_BYTES];
        int r;

        if (config->postgres != NULL)
                return mlc_fail(err, MLC_E_NOT_SUPPORTED,
                                "restore works with the private cluster; load the backup's "
                                "database yourself");
        r = absolute(from_arg, from, err);
        if (r < 0)
                return r;
        if (!exists(from, "postgres/data/PG_VERSION") || !exists(from, "log/state"))
                return mlc_fail(err, MLC_E_USAGE, "'%s' is no backup: it has no database or no log",
                                from);
        r = lock_alone(from, &theirs, err);
        if (r == 0)
                r = lock_alone(config->data, &ours, err);
        return r < 0 ? r : restore_into(config->data, from, err);
}
