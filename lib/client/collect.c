/* SPDX-License-Identifier: Apache-2.0 */
#include "client/collect.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/map.h"
#include "base/path.h"
#include "base/str.h"

/* The directories that a walk is in, so that a link back up ends it. */
struct ancestor {
        const struct ancestor *up;
        dev_t dev;
        ino_t ino;
};

struct walk {
        struct mlc_files *files;
        size_t room; /* of files->list */
        const char *root; /* real path that links must stay below */
        bool follow;
};

void mlc_files_done(struct mlc_files *files)
{
        for (size_t i = 0; i < files->n; i++) {
                free(files->list[i].path);
                free(files->list[i].source);
        }
        free(files->list);
        *files = (struct mlc_files){0};
}

static bool below(const char *root, const char *path)
{
        size_t n = strlen(root);

        if (strcmp(root, "/") == 0)
                return true;
        return strncmp(path, root, n) == 0 && (path[n] == '/' || path[n] == '\0');
}

/* The real path of `path`, which must be below the root of the walk unless links are followed. */
static int resolve(const struct walk *w, const char *path, char **ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *real = realpath(path, NULL);

        if (real == NULL && errno == ELOOP)
                return mlc_fail(err, MLC_E_INVALID, "the links of '%s' go in a circle", path);
        if (real == NULL)
                return mlc_fail_errno(err, "open", path);
        if (!w->follow && !below(w->root, real))
                return mlc_fail(
                        err, MLC_E_INVALID,
                        "'%s' is a link out of the tree, to '%s'; give --follow-symlinks to "
                        "push what it names",
                        path, real);
        *ret = TAKE_PTR(real);
        return 0;
}

static int add_file(struct walk *w, const char *path, char **real, const struct stat *st,
                    struct mlc_err *err)
{
        struct mlc_files *f = w->files;
        int r = mlc_path_check(path, err);

        if (r < 0)
                return r;
        if (f->n >= MLC_FILES_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "more than %d files", MLC_FILES_MAX);
        if (f->n == w->room) {
                w->room = w->room == 0 ? 64 : 2 * w->room;
                f->list = reallocarray(f->list, w->room, sizeof(*f->list));
                if (f->list == NULL)
                        abort();
        }
        f->list[f->n] = (struct mlc_file){
                .path = strdup(path),
                .source = TAKE_PTR(*real),
                .size = (uint64_t)st->st_size,
                .executable = (st->st_mode & S_IXUSR) != 0,
        };
        if (f->list[f->n].path == NULL)
                abort();
        f->bytes += (uint64_t)st->st_size;
        f->n++;
        return 0;
}

static int add_any(struct walk *w, const char *path, const char *from, const struct ancestor *up,
                   struct mlc_err *err);

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

static int walk_dir(struct walk *w, const char *path, const char *from, const struct ancestor *up,
                    struct mlc_err *err)
{
        _cleanup_(close_dir) DIR *d = opendir(from);
        char inner_path[MLC_PATH_MAX + 1], inner_from[PATH_MAX];
        struct dirent *e;
        int r;

        if (d == NULL)
                return mlc_fail_errno(err, "open", from);
        for (;;) {
                errno = 0;
                e = readdir(d);
                if (e == NULL)
                        return errno == 0 ? 0 : mlc_fail_errno(err, "read", from);
                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                if (snprintf(inner_path, sizeof(inner_path), "%s%s%s", path,
                             path[0] != '\0' ? "/" : "", e->d_name) >= (int)sizeof(inner_path) ||
                    snprintf(inner_from, sizeof(inner_from), "%s/%s", from, e->d_name) >=
                            (int)sizeof(inner_from))
                        return mlc_fail(err, MLC_E_LIMIT, "a path below '%s' is too long", from);
                r = add_any(w, inner_path, inner_from, up, err);
                if (r < 0)
                        return r;
        }
}

static int enter_dir(struct walk *w, const char *path, const char *real, const struct ancestor *up,
                     struct mlc_err *err)
{
        struct ancestor here = {.up = up};
        unsigned depth = 0;
        struct stat st;

        if (stat(real, &st) < 0)
                return mlc_fail_errno(err, "open", real);
        here.dev = st.st_dev;
        here.ino = st.st_ino;
        for (const struct ancestor *a = up; a != NULL; a = a->up, depth++)
                if (a->dev == here.dev && a->ino == here.ino)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "'%s' leads back to a directory that holds it", path);
        if (depth > MLC_PATH_DEPTH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "'%s' is nested too deeply", path);
        return walk_dir(w, path, real, &here, err);
}

static int add_any(struct walk *w, const char *path, const char *from, const struct ancestor *up,
                   struct mlc_err *err)
{
        _cleanup_(free_p) char *real = NULL;
        struct stat st;
        int r = resolve(w, from, &real, err);

        if (r < 0)
                return r;
        if (lstat(real, &st) < 0)
                return mlc_fail_errno(err, "open", real);
        if (S_ISREG(st.st_mode))
                return add_file(w, path, &real, &st, err);
        if (S_ISDIR(st.st_mode))
                return enter_dir(w, path, real, up, err);
        return mlc_fail(err, MLC_E_INVALID,
                        "'%s' is neither a file nor a directory; sockets, devices and pipes cannot "
                        "be pushed",
                        from);
}

/* "./a//b/" -> "a/b"; ".." stays, and mlc_path_check refuses it. */
static void tidy_relative(const char *arg, char ret[PATH_MAX])
{
        size_t n = 0;

        for (const char *p = arg; *p != '\0';) {
                size_t len = strcspn(p, "/");

                if (len > 0 && !(len == 1 && p[0] == '.') && n + len + 2 < PATH_MAX) {
                        if (n > 0)
                                ret[n++] = '/';
                        memcpy(ret + n, p, len);
                        n += len;
                }
                p += len + (p[len] == '/');
        }
        ret[n] = '\0';
}

static int collect_file(struct walk *w, const char *arg, struct mlc_err *err)
{
        const char *base = strrchr(arg, '/');
        _cleanup_(free_p) char *root = NULL, *dir = NULL;
        char path[PATH_MAX];

        if (arg[0] == '/') {
                (void)snprintf(path, sizeof(path), "%s", base + 1);
                dir = strndup(arg, base == arg ? 1 : (size_t)(base - arg));
        } else {
                tidy_relative(arg, path);
                dir = strdup(".");
        }
        if (dir == NULL)
                abort();
        if (mlc_starts_with(path, "../") || strstr(path, "/../") != NULL)
                return mlc_fail(
                        err, MLC_E_INVALID,
                        "'%s' goes up by '..'; give the file by its absolute path, and it is "
                        "stored under its own name",
                        arg);
        root = realpath(dir, NULL);
        if (root == NULL)
                return mlc_fail_errno(err, "open", dir);
        w->root = root;
        return add_any(w, path, arg, NULL, err);
}

static int collect_arg(struct walk *w, const char *arg, struct mlc_err *err)
{
        _cleanup_(free_p) char *root = NULL;
        struct stat st;

        if (strlen(arg) >= PATH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", arg);
        if (stat(arg, &st) < 0)
                return mlc_fail_errno(err, "open", arg);
        if (!S_ISDIR(st.st_mode))
                return collect_file(w, arg, err);
        root = realpath(arg, NULL);
        if (root == NULL)
                return mlc_fail_errno(err, "open", arg);
        w->root = root;
        return enter_dir(w, "", root, NULL, err);
}

static int by_path(const void *a, const void *b)
{
        return strcmp(((const struct mlc_file *)a)->path, ((const struct mlc_file *)b)->path);
}

/* One file must not be another's directory, and no two may be one where case does not count. */
static int check_collisions(const struct mlc_files *files, struct mlc_err *err)
{
        _cleanup_(free_p) char *key = malloc(MLC_PATH_MAX + 1);
        const char *other = NULL, *path = NULL;
        struct mlc_map seen;
        size_t i;

        if (key == NULL)
                abort();
        mlc_map_init(&seen);
        for (i = 0; i < files->n && other == NULL; i++) {
                path = files->list[i].path;
                mlc_path_fold(path, key);
                other = mlc_map_set(&seen, key, files->list[i].path);
        }
        for (i = 0; i < files->n && other == NULL; i++) {
                path = files->list[i].path;
                mlc_path_fold(path, key);
                for (char *slash = strchr(key, '/'); slash != NULL && other == NULL;
                     slash = strchr(slash + 1, '/')) {
                        *slash = '\0';
                        other = mlc_map_get(&seen, key);
                        *slash = '/';
                }
        }
        mlc_map_done(&seen, NULL);
        if (other == NULL)
                return 0;
        if (strcmp(path, other) == 0)
                return mlc_fail(err, MLC_E_INVALID,
                                "two of the files given would be '%s' in the artifact", path);
        return mlc_fail(err, MLC_E_INVALID,
                        "'%s' and '%s' cannot both be in an artifact: somewhere they are one path",
                        other, path);
}

int mlc_files_collect(const char *const *args, size_t n, bool follow, struct mlc_files *ret,
                      struct mlc_err *err)
{
        _cleanup_(mlc_files_done) struct mlc_files files = {0};
        struct walk w = {.files = &files, .follow = follow};
        int r;

        for (size_t i = 0; i < n; i++) {
                r = collect_arg(&w, args[i], err);
                if (r < 0)
                        return r;
        }
        if (files.n == 0)
                return mlc_fail(err, MLC_E_INVALID, "there is no file in what was given");
        qsort(files.list, files.n, sizeof(*files.list), by_path);
        r = check_collisions(&files, err);
        if (r < 0)
                return r;
        *ret = files;
        files = (struct mlc_files){0};
        return 0;
}
