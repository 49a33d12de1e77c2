/* SPDX-License-Identifier: Apache-2.0 */
/* A version's folder appears whole, by one rename, or not at all. */
#include "materialise.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "codec/json.h"
#include "crypto/random.h"
#include "materialise_internal.h"

#define LOCK_WAIT_MS 60000
#define STAGE ".artifact"

/* --- the place --- */

static int openat2_beneath(int root, const char *rel)
{
        struct open_how how = {
                .flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };

        return (int)syscall(SYS_openat2, root, rel, &how, sizeof(how));
}

/* The longest root that covers the path; *ret_rel is the rest, "" for the root itself. */
static const char *covering_root(const struct mat_place *p, const char **ret_rel)
{
        const char *best = NULL;
        size_t best_len = 0;

        for (size_t i = 0; i < p->n_roots; i++) {
                const char *root = p->roots[i];
                size_t n = strlen(root);

                while (n > 1 && root[n - 1] == '/')
                        n--;
                if (strncmp(p->repository, root, n) != 0 ||
                    (n > 1 && p->repository[n] != '/' && p->repository[n] != '\0') ||
                    (best != NULL && n <= best_len))
                        continue;
                best = root;
                best_len = n;
        }
        if (best != NULL)
                *ret_rel = p->repository + best_len + strspn(p->repository + best_len, "/");
        return best;
}

int mat_open_repository(const struct mat_place *p, int *ret_fd, struct mlc_err *err)
{
        const char *rel, *root = covering_root(p, &rel);
        _cleanup_(close_fd) int root_fd = -1;
        int fd;

        if (root == NULL)
                return mlc_fail(err, MLC_E_FORBIDDEN,
                                "'%s' is below no --serving-root; start mlctld with one that "
                                "covers it",
                                p->repository);
        root_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (root_fd < 0)
                return mlc_fail_errno(err, "open serving root", root);
        if (*rel == '\0') {
                *ret_fd = TAKE_FD(root_fd);
                return 0;
        }
        fd = openat2_beneath(root_fd, rel);
        if (fd < 0 && (errno == ELOOP || errno == EXDEV))
                return mlc_fail(err, MLC_E_FORBIDDEN,
                                "'%s' leads through a symbolic link or out of '%s'", p->repository,
                                root);
        if (fd < 0)
                return mlc_fail_errno(err, "open repository", p->repository);
        *ret_fd = fd;
        return 0;
}

static int lock(int fd, const struct mat_place *p, const struct mat_source *s, struct mlc_err *err)
{
        int64_t until = mlc_monotonic_ms() + LOCK_WAIT_MS;

        while (flock(fd, LOCK_EX | LOCK_NB) < 0) {
                if (errno != EWOULDBLOCK && errno != EINTR)
                        return mlc_fail_errno(err, "lock", p->repository);
                if (mlc_monotonic_ms() > until)
                        return mlc_fail(err, MLC_E_UNAVAILABLE,
                                        "another process has been working in '%s' for a minute",
                                        p->repository);
                if (s != NULL && s->cancelled != NULL && s->cancelled(s->userdata))
                        return mlc_fail(err, MLC_E_CONFLICT, "cancelled");
                mlc_sleep_ms(20);
        }
        return 0;
}

/* --- removing --- */

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

/* Depth is bounded by the paths that mat_make writes, and by this for whatever else lies there. */
static int remove_tree(int at, const char *name, int depth, struct mlc_err *err)
{
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_(close_dir) DIR *dir = NULL;
        struct dirent *e;

        if (fd < 0 && (errno == ENOTDIR || errno == ELOOP))
                return unlinkat(at, name, 0) < 0 && errno != ENOENT
                               ? mlc_fail_errno(err, "remove", name)
                               : 0;
        if (fd < 0)
                return errno == ENOENT ? 0 : mlc_fail_errno(err, "remove", name);
        dir = fdopendir(fd);
        if (dir == NULL) {
                (void)close(fd);
                return mlc_fail_errno(err, "remove", name);
        }
        if (depth > 2 * MLC_PATH_DEPTH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "folders are nested too deeply below '%s'", name);
        while ((e = readdir(dir)) != NULL) {
                int r;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                r = remove_tree(dirfd(dir), e->d_name, depth + 1, err);
                if (r < 0)
                        return r;
        }
        return unlinkat(at, name, AT_REMOVEDIR) < 0 && errno != ENOENT
                       ? mlc_fail_errno(err, "remove", name)
                       : 0;
}

/* Under the lock nobody writes, so whatever is hidden was left behind. */
static int sweep(int repo, struct mlc_err *err)
{
        int fd = openat(repo, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(close_dir) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *e;

        if (dir == NULL)
                return mlc_fail_errno(err, "read", "repository");
        while ((e = readdir(dir)) != NULL) {
                int r;

                if (!mlc_starts_with(e->d_name, MAT_HIDDEN))
                        continue;
                r = remove_tree(repo, e->d_name, 0, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void hidden_name(const char *name, char ret[NAME_MAX + 1])
{
        char id[MLC_ID_MAX];

        mlc_random_id('t', id);
        (void)snprintf(ret, NAME_MAX + 1, MAT_HIDDEN "%.200s-%s", name, id);
}

int mat_remove(const struct mat_place *p, const char *name, struct mlc_err *err)
{
        _cleanup_(close_fd) int repo = -1;
        char hidden[NAME_MAX + 1];
        int r = mat_open_repository(p, &repo, err);

        assert(*name != '\0' && *name != '.' && strchr(name, '/') == NULL);
        if (r == 0)
                r = lock(repo, p, NULL, err);
        if (r == 0)
                r = sweep(repo, err);
        if (r < 0)
                return r;
        hidden_name(name, hidden);
        if (renameat(repo, name, repo, hidden) < 0)
                return errno == ENOENT ? 0 : mlc_fail_errno(err, "remove", name);
        if (fsync(repo) < 0)
                return mlc_fail_errno(err, "sync", p->repository);
        return remove_tree(repo, hidden, 0, err);
}

/* --- writing --- */

struct writer {
        int stage; /* folder for the artifact's files */
        int fd; /* of the file being written */
        const char *path;
};

static int new_folder(int at, const char *name, int *ret, struct mlc_err *err)
{
        int fd;

        if (mkdirat(at, name, 0755) < 0 && errno != EEXIST)
                return mlc_fail_errno(err, "make folder", name);
        fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return mlc_fail_errno(err, "open folder", name);
        if (fchmod(fd, 0755) < 0) { /* whatever the umask: the inference server is another user */
                (void)close(fd);
                return mlc_fail_errno(err, "make folder", name);
        }
        *ret = fd;
        return 0;
}

static int new_file(int at, const char *name, bool executable, int *ret, struct mlc_err *err)
{
        int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

        if (fd < 0 && errno == EEXIST)
                return mlc_fail(err, MLC_E_INVALID, "the artifact has '%s' twice", name);
        if (fd < 0)
                return mlc_fail_errno(err, "create", name);
        if (fchmod(fd, executable ? 0755 : 0644) < 0) {
                (void)close(fd);
                return mlc_fail_errno(err, "create", name);
        }
        *ret = fd;
        return 0;
}

static int writer_begin(void *userdata, const char *path, bool executable, struct mlc_err *err)
{
        struct writer *w = userdata;
        _cleanup_(close_fd) int at = fcntl(w->stage, F_DUPFD_CLOEXEC, 0);
        const char *p = path, *slash;
        char name[MLC_PATH_COMPONENT_MAX + 1];

        if (at < 0)
                return mlc_fail_errno(err, "open", path);
        for (; (slash = strchr(p, '/')) != NULL; p = slash + 1) {
                size_t n = (size_t)(slash - p);
                int fd, r;

                assert(n > 0 && n < sizeof(name)); /* mlc_path_check */
                memcpy(name, p, n);
                name[n] = '\0';
                r = new_folder(at, name, &fd, err);
                if (r < 0)
                        return mlc_wrap(err, "'%s'", path);
                (void)close(at);
                at = fd;
        }
        w->path = path;
        return new_file(at, p, executable, &w->fd, err);
}

static int writer_write(void *userdata, const void *data, size_t len, struct mlc_err *err)
{
        struct writer *w = userdata;
        int r = mlc_write_full(w->fd, data, len, err);

        return r < 0 ? mlc_wrap(err, "write '%s'", w->path) : 0;
}

static int writer_end(void *userdata, struct mlc_err *err)
{
        struct writer *w = userdata;
        int fd = TAKE_FD(w->fd), r = fsync(fd) < 0 ? mlc_fail_errno(err, "sync", w->path) : 0;

        (void)close(fd);
        return r;
}

static int write_small(int at, const char *name, const void *data, size_t len, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        int r = new_file(at, name, false, &fd, err);

        if (r == 0)
                r = mlc_write_full(fd, data, len, err);
        if (r == 0 && fsync(fd) < 0)
                r = mlc_fail_errno(err, "sync", name);
        return r;
}

static int write_marker(int at, const struct mlc_serving_model *m, const struct mlc_digest *tree,
                        struct mlc_err *err)
{
        char text[MLC_DIGEST_STR];
        _cleanup_(json_decref_p) json_t *j = NULL;
        _cleanup_(free_p) char *dumped = NULL;

        mlc_digest_format(tree, text);
        j = json_pack("{s:s, s:s, s:s, s:I, s:s, s:s}", "schema", "materialised/v1", "name",
                      m->name, "model", m->model, "version", (json_int_t)m->version, "digest",
                      m->digest, "tree", text);
        dumped = j != NULL ? json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS) : NULL;
        if (dumped == NULL)
                abort();
        return write_small(at, MAT_MARKER, dumped, strlen(dumped), err);
}

static int sync_folders(int at, const char *name, struct mlc_err *err)
{
        int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        _cleanup_(close_dir) DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        struct dirent *e;

        if (dir == NULL) {
                if (fd >= 0)
                        (void)close(fd);
                return mlc_fail_errno(err, "open folder", name);
        }
        while ((e = readdir(dir)) != NULL) {
                struct stat st;
                int r;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                        continue;
                if (fstatat(dirfd(dir), e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                        return mlc_fail_errno(err, "look at", e->d_name);
                if (!S_ISDIR(st.st_mode))
                        continue;
                r = sync_folders(dirfd(dir), e->d_name, err);
                if (r < 0)
                        return r;
        }
        return fsync(dirfd(dir)) < 0 ? mlc_fail_errno(err, "sync", name) : 0;
}

static int enough_space(int repo, uint64_t need, struct mlc_err *err)
{
        struct statvfs v;
        uint64_t avail, keep;

        if (fstatvfs(repo, &v) < 0)
                return mlc_fail_errno(err, "ask for free space of", "repository");
        avail = (uint64_t)v.f_bavail * v.f_frsize;
        keep = (uint64_t)v.f_blocks * v.f_frsize / 20;
        keep = keep > (1u << 30) ? keep : 1u << 30;
        if (avail < keep || avail - keep < need)
                return mlc_fail(err, MLC_E_NO_SPACE,
                                "not enough free disk space in the repository: %llu bytes are to "
                                "come, %llu are free, %llu must stay free",
                                (unsigned long long)need, (unsigned long long)avail,
                                (unsigned long long)keep);
        return 0;
}

/* All of it, into the hidden folder `tmp`. */
static int fill(const struct mat_in *in, const struct mlc_manifest *m, int tmp, struct mlc_arena *a,
                struct mlc_digest *ret_tree, struct mlc_err *err)
{
        _cleanup_(mat_entries_done) struct mat_entries files = {.arena = a};
        _cleanup_(mat_entries_done) struct mat_entries all = {.arena = a};
        struct writer w = {.stage = tmp, .fd = -1};
        const struct mat_sink sink = {writer_begin, writer_write, writer_end, &w};
        struct mlc_serving_layout layout;
        bool staged = in->ops->layout != NULL;
        int r = staged ? new_folder(tmp, STAGE, &w.stage, err) : 0;

        if (r == 0)
                r = mat_artifact(in, m, &sink, &files, err);
        close_fd(&w.fd);
        if (staged)
                close_fd(&w.stage);
        if (r == 0)
                r = mat_layout(in, m, &files, &layout, err);
        if (r < 0)
                return r;
        if (staged && renameat(tmp, STAGE, tmp, layout.files_under) < 0)
                return mlc_fail_errno(err, "rename", STAGE);
        for (size_t i = 0; i < layout.n_extra && r == 0; i++)
                r = write_small(tmp, layout.extra[i].path, layout.extra[i].data,
                                layout.extra[i].len, err);
        /* what was written is read again: this is what drift will see */
        if (r == 0)
                r = mat_hash_folder(tmp, MAT_MARKER, NULL, &all, err);
        if (r == 0) {
                mat_entries_tree(&all, ret_tree);
                r = write_marker(tmp, in->model, ret_tree, err);
        }
        return r < 0 ? r : sync_folders(tmp, ".", err);
}

/* Hidden, filled, compared, renamed. */
static int make_new(const struct mat_in *in, const struct mlc_manifest *m, int repo,
                    struct mlc_arena *a, struct mlc_digest *ret_tree, struct mlc_err *err)
{
        char hidden[NAME_MAX + 1];
        struct mlc_err ignored = {0};
        struct mlc_digest tree, expected;
        int tmp = -1, r = enough_space(repo, m->size, err);

        if (r < 0)
                return r;
        hidden_name(in->model->name, hidden);
        r = new_folder(repo, hidden, &tmp, err);
        if (r == 0)
                r = fill(in, m, tmp, a, &tree, err);
        close_fd(&tmp);
        if (r == 0)
                r = mat_expected(in, &expected, err);
        if (r == 0 && !mlc_digest_equal(&tree, &expected))
                r = mlc_fail(err, MLC_E_VERIFY,
                             "what was written for '%s' is not what its manifest says",
                             in->model->name);
        if (r == 0 && renameat2(repo, hidden, repo, in->model->name, RENAME_NOREPLACE) < 0)
                r = mlc_fail_errno(err, "rename to", in->model->name);
        if (r < 0) {
                (void)remove_tree(repo, hidden, 0, &ignored);
                return r;
        }
        if (fsync(repo) < 0)
                return mlc_fail_errno(err, "sync", in->place.repository);
        *ret_tree = tree;
        return 0;
}

/* NAME is there: it must be what it would become. */
static int check_old(const struct mat_in *in, int fd, struct mlc_arena *a,
                     struct mlc_digest *ret_tree, struct mlc_err *err)
{
        _cleanup_(mat_entries_done) struct mat_entries all = {.arena = a};
        struct mlc_digest expected, tree;
        int r = mat_expected(in, &expected, err);

        if (r == 0)
                r = mat_hash_folder(fd, MAT_MARKER, NULL, &all, err);
        if (r < 0)
                return r;
        mat_entries_tree(&all, &tree);
        if (!mlc_digest_equal(&tree, &expected))
                return mlc_fail(err, MLC_E_CONFLICT,
                                "'%s' in '%s' holds something else than %s:%llu", in->model->name,
                                in->place.repository, in->model->model, in->model->version);
        *ret_tree = tree;
        return 0;
}

int mat_make(const struct mat_in *in, struct mlc_digest *ret_tree, struct mlc_err *err)
{
        _cleanup_(mlc_arena_done) struct mlc_arena a = {0};
        _cleanup_(close_fd) int repo = -1, old = -1;
        struct mlc_manifest m;
        int r;

        mlc_arena_init(&a, 2 * MAT_ARENA);
        r = mat_begin(in, &a, &m, err);
        if (r == 0)
                r = mat_open_repository(&in->place, &repo, err);
        if (r == 0)
                r = lock(repo, &in->place, in->source, err);
        if (r == 0)
                r = sweep(repo, err);
        if (r < 0)
                return r;
        old = openat(repo, in->model->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (old >= 0)
                return check_old(in, old, &a, ret_tree, err);
        if (errno != ENOENT)
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' in '%s' is no folder", in->model->name,
                                in->place.repository);
        return make_new(in, &m, repo, &a, ret_tree, err);
}
