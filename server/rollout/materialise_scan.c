/* SPDX-License-Identifier: Apache-2.0 */
/* What lies in a repository, hashed. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/path.h"
#include "base/str.h"
#include "codec/json.h"
#include "materialise_internal.h"

#define CACHE_MAX 200000
#define MARKER_MAX 4096
/* A file that changed less than this before it was hashed may change again within one tick of the
 * file system's clock. */
#define SETTLED_MS 2000

struct walk {
        const char *skip;
        struct mat_cache *cache;
        struct mat_entries *ret;
        char path[MLC_PATH_MAX + 1];
};

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

void mat_cache_done(struct mat_cache *c)
{
        if (c->ready)
                mlc_map_done(&c->map, free);
        c->ready = false;
}

static void cache_key(const struct stat *st, char ret[160])
{
        (void)snprintf(ret, 160, "%ju:%ju:%jd:%jd.%09ld:%jd.%09ld", (uintmax_t)st->st_dev,
                       (uintmax_t)st->st_ino, (intmax_t)st->st_size, (intmax_t)st->st_mtim.tv_sec,
                       st->st_mtim.tv_nsec, (intmax_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

static void remember(struct mat_cache *c, const struct stat *st, const struct mlc_digest *d)
{
        struct mlc_digest *copy;
        char key[160];

        if (st->st_ctim.tv_sec * 1000 + st->st_ctim.tv_nsec / 1000000 > mlc_now_ms() - SETTLED_MS)
                return;
        if (c->ready && c->map.n >= CACHE_MAX)
                mat_cache_done(c);
        if (!c->ready)
                mlc_map_init(&c->map);
        c->ready = true;
        copy = malloc(sizeof(*copy));
        if (copy == NULL)
                abort();
        *copy = *d;
        cache_key(st, key);
        free(mlc_map_set(&c->map, key, copy));
}

static int hash_fd(int fd, const char *path, uint64_t *ret_size, struct mlc_digest *ret,
                   struct mlc_err *err)
{
        _cleanup_(free_p) char *buf = malloc(MAT_BUF);
        struct mlc_sha256 h;
        uint64_t size = 0;

        if (buf == NULL)
                abort();
        mlc_sha256_init(&h);
        for (;;) {
                ssize_t n = read(fd, buf, MAT_BUF);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return mlc_fail_errno(err, "read", path);
                if (n == 0)
                        break;
                mlc_sha256_update(&h, buf, (size_t)n);
                size += (uint64_t)n;
        }
        mlc_sha256_final(&h, ret);
        *ret_size = size;
        return 0;
}

static int hash_file(struct walk *w, int at, const char *name, struct mlc_err *err)
{
        /* O_NONBLOCK: what was a file may be a FIFO by now */
        _cleanup_(close_fd) int fd =
                openat(at, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        struct mat_entry entry = {.path = w->path};
        struct stat before, after;
        const struct mlc_digest *known = NULL;
        char key[160];
        int r;

        if (fd < 0 || fstat(fd, &before) < 0)
                return mlc_fail_errno(err, "open", w->path);
        if (!S_ISREG(before.st_mode))
                return mlc_fail(err, MLC_E_INVALID, "'%s' is neither file nor folder", w->path);
        entry.executable = (before.st_mode & 0111) != 0;
        cache_key(&before, key);
        if (w->cache != NULL && w->cache->ready)
                known = mlc_map_get(&w->cache->map, key);
        if (known != NULL) {
                entry.digest = *known;
                entry.size = (uint64_t)before.st_size;
                return mat_entries_add(w->ret, "", &entry, err);
        }
        r = hash_fd(fd, w->path, &entry.size, &entry.digest, err);
        if (r < 0)
                return r;
        if (w->cache != NULL && fstat(fd, &after) == 0) {
                char again[160];

                cache_key(&after, again);
                if (strcmp(key, again) == 0)
                        remember(w->cache, &after, &entry.digest);
        }
        return mat_entries_add(w->ret, "", &entry, err);
}

static int walk(struct walk *w, int fd_taken, size_t len, int depth, struct mlc_err *err);

static int walk_one(struct walk *w, int at, const struct dirent *e, size_t len, int depth,
                    struct mlc_err *err)
{
        size_t n = strlen(e->d_name);
        struct stat st;
        int fd;

        if (len + n + 1 > MLC_PATH_MAX || depth > MLC_PATH_DEPTH_MAX + 2)
                return mlc_fail(err, MLC_E_LIMIT, "a path below '%s' is too long", w->path);
        if (len > 0)
                w->path[len++] = '/';
        memcpy(w->path + len, e->d_name, n + 1);
        if (fstatat(at, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return mlc_fail_errno(err, "look at", w->path);
        if (S_ISREG(st.st_mode))
                return hash_file(w, at, e->d_name, err);
        if (!S_ISDIR(st.st_mode))
                return mlc_fail(err, MLC_E_INVALID, "'%s' is neither file nor folder", w->path);
        fd = openat(at, e->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return mlc_fail_errno(err, "open folder", w->path);
        return walk(w, fd, len + n, depth + 1, err);
}

static int walk(struct walk *w, int fd_taken, size_t len, int depth, struct mlc_err *err)
{
        _cleanup_(close_dir) DIR *dir = fdopendir(fd_taken);
        struct dirent *e;

        if (dir == NULL) {
                (void)close(fd_taken);
                return mlc_fail_errno(err, "read folder", w->path);
        }
        rewinddir(dir);
        while ((e = readdir(dir)) != NULL) {
                int r;

                if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
                    (depth == 0 && strcmp(e->d_name, w->skip) == 0))
                        continue;
                r = walk_one(w, dirfd(dir), e, len, depth, err);
                if (r < 0)
                        return r;
                w->path[len] = '\0';
        }
        return 0;
}

int mat_hash_folder(int fd, const char *skip, struct mat_cache *cache, struct mat_entries *ret,
                    struct mlc_err *err)
{
        struct walk w = {.skip = skip, .cache = cache, .ret = ret};
        int dup = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int r;

        if (dup < 0)
                return mlc_fail_errno(err, "open", "folder");
        r = walk(&w, dup, 0, 0, err);
        return r < 0 ? r : mat_entries_sort(ret, err);
}

/* What the marker says, as far as it can be read. Anybody may have written it. */
static void read_marker(int folder, char ret[MLC_DIGEST_STR])
{
        _cleanup_(close_fd) int fd =
                openat(folder, MAT_MARKER, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
        char text[MARKER_MAX];
        struct mlc_err ignored = {0};
        _cleanup_(json_decref_p) json_t *j = NULL;
        struct mlc_digest d;
        const char *said;
        size_t n;

        if (fd < 0 || mlc_read_full(fd, text, sizeof(text), &n, &ignored) < 0 ||
            mlc_json_parse(text, n, &j, &ignored) < 0)
                return;
        said = json_string_value(json_object_get(j, "digest"));
        if (said != NULL && mlc_digest_parse(said, &d, &ignored) == 0)
                mlc_digest_format(&d, ret);
}

static void look_at(int repo, const char *name, struct mat_cache *cache, struct mat_found *ret)
{
        _cleanup_(mlc_arena_done) struct mlc_arena a = {0};
        _cleanup_(mat_entries_done) struct mat_entries all = {.arena = &a};
        _cleanup_(close_fd) int fd = -1;
        struct mlc_err err = {0};

        mlc_arena_init(&a, MAT_ARENA);
        fd = openat(repo, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0) {
                (void)snprintf(ret->what, sizeof(ret->what), "is no folder");
                return;
        }
        ret->folder = true;
        read_marker(fd, ret->digest);
        if (mat_hash_folder(fd, MAT_MARKER, cache, &all, &err) < 0)
                (void)snprintf(ret->what, sizeof(ret->what), "%.127s", err.msg);
        else
                mat_entries_tree(&all, &ret->tree);
}

static bool interesting(int repo, const struct dirent *e)
{
        struct stat st;

        return e->d_name[0] != '.' && fstatat(repo, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
               !S_ISREG(st.st_mode);
}

static int by_name(const void *a, const void *b)
{
        const struct mat_found *x = a, *y = b;

        return strcmp(x->name, y->name);
}

int mat_scan(const struct mat_place *p, struct mat_cache *cache, struct mlc_arena *a,
             struct mat_found **ret, size_t *ret_n, struct mlc_err *err)
{
        _cleanup_(close_dir) DIR *dir = NULL;
        struct mat_found *found;
        struct dirent *e;
        size_t n = 0;
        int fd, r = mat_open_repository(p, &fd, err);

        if (r < 0)
                return r;
        dir = fdopendir(fd);
        if (dir == NULL) {
                (void)close(fd);
                return mlc_fail_errno(err, "read", p->repository);
        }
        found = mlc_arena_array(a, MLC_SERVING_LIST_MAX, sizeof(*found), err);
        if (found == NULL)
                return err->code;
        while ((e = readdir(dir)) != NULL) {
                if (!interesting(dirfd(dir), e))
                        continue;
                if (n == MLC_SERVING_LIST_MAX)
                        return mlc_fail(err, MLC_E_LIMIT, "more than %d folders in '%s'",
                                        MLC_SERVING_LIST_MAX, p->repository);
                found[n].name = mlc_arena_strdup(a, e->d_name, err);
                if (found[n].name == NULL)
                        return err->code;
                look_at(dirfd(dir), e->d_name, cache, &found[n]);
                n++;
        }
        qsort(found, n, sizeof(*found), by_name);
        *ret = found;
        *ret_n = n;
        return 0;
}
