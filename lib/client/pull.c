/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pull.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/map.h"
#include "base/path.h"
#include "client/download.h"
#include "client/parallel.h"
#include "client/place.h"

/* A file that is going to be there. */
struct target {
        char *path; /* below the directory */
        char *from; /* below the partial directory */
        const struct mlc_descriptor *layer; /* that it is, or that it is in */
        bool executable;
        bool kept;
};

struct pull {
        const struct mlc_pull *in;
        struct mlc_client *clients[MLC_PARALLEL_MAX]; /* [0] is borrowed */
        int dir, partial; /* descriptors */
        struct target *targets;
        size_t n, room;
        struct mlc_map paths; /* folded path -> path, for collisions */
        const struct mlc_descriptor **fetch; /* distinct layers to download */
        size_t n_fetch;
        _Atomic uint64_t received;
};

static void pull_done(struct pull *p)
{
        for (size_t i = 1; i < MLC_PARALLEL_MAX; i++)
                mlc_client_free(p->clients[i]);
        for (size_t i = 0; i < p->n; i++) {
                free(p->targets[i].path);
                free(p->targets[i].from);
        }
        free(p->targets);
        free(p->fetch);
        mlc_map_done(&p->paths, NULL);
        if (p->partial >= 0)
                (void)close(p->partial);
        if (p->dir >= 0)
                (void)close(p->dir);
}

static void begin(const struct pull *p, const char *what, uint64_t total)
{
        if (p->in->meter.phase != NULL)
                p->in->meter.phase(p->in->meter.userdata, what, total);
}

static void moved(void *userdata, int64_t bytes)
{
        const struct pull *p = userdata;

        if (p->in->meter.add != NULL)
                p->in->meter.add(p->in->meter.userdata, bytes);
}

static int open_dirs(struct pull *p, struct mlc_err *err)
{
        int r = mlc_mkdirs(p->in->dir, 0777, err);

        if (r < 0)
                return r;
        p->dir = open(p->in->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (p->dir < 0)
                return mlc_fail_errno(err, "open", p->in->dir);
        if (mkdirat(p->dir, MLC_PULL_PARTIAL, 0700) < 0 && errno != EEXIST)
                return mlc_fail_errno(err, "make", MLC_PULL_PARTIAL);
        p->partial =
                openat(p->dir, MLC_PULL_PARTIAL, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (p->partial < 0)
                return mlc_fail_errno(err, "open", MLC_PULL_PARTIAL);
        if (flock(p->partial, LOCK_EX | LOCK_NB) < 0)
                return mlc_fail(err, MLC_E_CONFLICT, "another pull into '%s' is going on",
                                p->in->dir);
        return 0;
}

/* What will be where */

static int add_target(struct pull *p, const char *path, const char *from, const struct target *t,
                      struct mlc_err *err)
{
        _cleanup_(free_p) char *key = malloc(strlen(path) + 1);
        struct target *new;
        const char *other;
        int r = mlc_path_check(path, err);

        if (r < 0)
                return r;
        if (key == NULL)
                abort();
        mlc_path_fold(path, key);
        if (mlc_starts_with(key, MLC_PULL_PARTIAL))
                return mlc_fail(err, MLC_E_INVALID, "'%s' is a name that pulling uses itself",
                                path);
        if (p->n == p->room) {
                p->room = p->room == 0 ? 64 : 2 * p->room;
                p->targets = reallocarray(p->targets, p->room, sizeof(*p->targets));
                if (p->targets == NULL)
                        abort();
        }
        new = &p->targets[p->n++];
        *new = *t;
        new->path = strdup(path);
        new->from = strdup(from);
        if (new->path == NULL || new->from == NULL)
                abort();
        other = mlc_map_set(&p->paths, key, new->path);
        if (other != NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "the version holds '%s' and '%s', which are one path", other, path);
        return 0;
}

static const char *hex_of(const struct mlc_descriptor *l)
{
        return l->digest + strlen("sha256:");
}

static int plan_files(struct pull *p, struct mlc_err *err)
{
        for (size_t i = 0; i < p->in->manifest->n_layers; i++) {
                const struct mlc_descriptor *l = &p->in->manifest->layers[i];
                const struct target t = {.layer = l, .executable = l->executable};
                char name[80];
                int r;

                if (l->tar)
                        continue;
                (void)snprintf(name, sizeof(name), "sha256-%s", hex_of(l));
                if (l->path == NULL && mlc_map_get(&p->paths, name) != NULL)
                        continue; /* the same bytes again, without a name */
                r = add_target(p, l->path != NULL ? l->path : name, hex_of(l), &t, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Existing files */

static int refuse(const struct pull *p, const struct target *t, struct mlc_err *err)
{
        return mlc_fail(err, MLC_E_CONFLICT,
                        "'%s/%s' exists and differs; give --force to replace it, or another "
                        "directory",
                        p->in->dir, t->path);
}

static int look_at_file(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        struct pull *p = userdata;
        struct target *t = &p->targets[i];
        struct mlc_digest want, have;
        enum mlc_place_state state;
        int r;

        (void)worker;
        r = mlc_digest_parse(t->layer->digest, &want, err);
        if (r < 0)
                return r;
        r = mlc_place_look(p->dir, t->path, t->layer->size, &have, &state, err);
        if (r < 0)
                return mlc_wrap(err, "'%s/%s'", p->in->dir, t->path);
        t->kept = state == MLC_PLACE_SAME_SIZE && mlc_digest_equal(&want, &have);
        if (state == MLC_PLACE_FREE || t->kept || p->in->force)
                return 0;
        return refuse(p, t, err);
}

static int run_parallel(struct pull *p, size_t n,
                        int (*run)(void *, size_t, unsigned, struct mlc_err *), struct mlc_err *err)
{
        const struct mlc_parallel work = {
                .run = run, .userdata = p, .n = n, .threads = p->in->jobs};

        return mlc_parallel_run(&work, err);
}

/* Fetching */

static void want(struct pull *p, struct mlc_map *seen, const struct mlc_descriptor *l,
                 uint64_t *bytes)
{
        if (mlc_map_get(seen, l->digest) != NULL)
                return;
        (void)mlc_map_set(seen, l->digest, p);
        p->fetch[p->n_fetch++] = l;
        *bytes += l->size;
}

static uint64_t choose(struct pull *p)
{
        uint64_t bytes = 0;
        struct mlc_map seen;

        p->fetch = calloc(p->in->manifest->n_layers + 1, sizeof(const void *));
        if (p->fetch == NULL)
                abort();
        mlc_map_init(&seen);
        for (size_t i = 0; i < p->n; i++)
                if (!p->targets[i].kept)
                        want(p, &seen, p->targets[i].layer, &bytes);
        for (size_t i = 0; i < p->in->manifest->n_layers; i++)
                if (p->in->manifest->layers[i].tar)
                        want(p, &seen, &p->in->manifest->layers[i], &bytes);
        mlc_map_done(&seen, NULL);
        return bytes;
}

static int fetch_layer(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        struct pull *p = userdata;
        const struct mlc_descriptor *l = p->fetch[i];
        struct mlc_download d = {
                .repository = p->in->repository,
                .size = l->size,
                .dir_fd = p->partial,
                .name = hex_of(l),
                .progress = moved,
                .userdata = p,
        };
        uint64_t received;
        int r = mlc_digest_parse(l->digest, &d.digest, err);

        if (r < 0)
                return r;
        r = mlc_download_blob(p->clients[worker], &d, &received, err);
        if (r < 0)
                return l->path != NULL ? mlc_wrap(err, "'%s'", l->path) : r;
        atomic_fetch_add(&p->received, received);
        return 0;
}

/* Archives */

static int open_archive(struct pull *p, const struct mlc_descriptor *l, int *ret_fd,
                        struct mlc_archive **ret, struct mlc_err *err)
{
        *ret_fd = openat(p->partial, hex_of(l), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (*ret_fd < 0)
                return mlc_fail_errno(err, "open", hex_of(l));
        return mlc_archive_open_fd(*ret_fd, NULL, ret, err);
}

/* The archive's files become targets. */
static int list_archive(struct pull *p, const struct mlc_descriptor *l, const char *stage,
                        struct mlc_err *err)
{
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = NULL;
        _cleanup_(close_fd) int fd = -1;
        struct mlc_archive_item item;
        bool more;
        int r = open_archive(p, l, &fd, &ar, err);

        if (r < 0)
                return r;
        for (;;) {
                struct target t = {.layer = l};
                char from[PATH_MAX];

                r = mlc_archive_next(ar, &item, &more, err);
                if (r < 0 || !more)
                        return r;
                if (item.directory)
                        continue;
                if (snprintf(from, sizeof(from), "%s/%s", stage, item.path) >= (int)sizeof(from))
                        return mlc_fail(err, MLC_E_LIMIT, "'%s' is too long", item.path);
                t.executable = item.executable;
                r = add_target(p, item.path, from, &t, err);
                if (r < 0)
                        return r;
        }
}

static int unpack(struct pull *p, const struct mlc_descriptor *l, struct mlc_err *err)
{
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = NULL;
        _cleanup_(close_fd) int fd = -1, stage = -1;
        char name[80];
        int r;

        (void)snprintf(name, sizeof(name), "tree-%.32s", hex_of(l));
        r = mlc_place_remove(p->partial, name, err);
        if (r < 0)
                return r;
        if (mkdirat(p->partial, name, 0700) < 0)
                return mlc_fail_errno(err, "make", name);
        stage = openat(p->partial, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (stage < 0)
                return mlc_fail_errno(err, "open", name);
        r = open_archive(p, l, &fd, &ar, err);
        if (r < 0)
                return r;
        r = mlc_archive_extract(ar, stage, err);
        if (r < 0)
                return mlc_wrap(err, "archive '%s'", l->digest);
        return list_archive(p, l, name, err);
}

static int look_at_unpacked(struct pull *p, size_t from, struct mlc_err *err)
{
        for (size_t i = from; i < p->n; i++) {
                struct target *t = &p->targets[i];
                struct mlc_digest new, have;
                enum mlc_place_state state;
                uint64_t size;
                int r = mlc_place_digest(p->partial, t->from, &new, &size, err);

                if (r < 0)
                        return r;
                r = mlc_place_look(p->dir, t->path, size, &have, &state, err);
                if (r < 0)
                        return mlc_wrap(err, "'%s/%s'", p->in->dir, t->path);
                t->kept = state == MLC_PLACE_SAME_SIZE && mlc_digest_equal(&new, &have);
                if (state != MLC_PLACE_FREE && !t->kept && !p->in->force)
                        return refuse(p, t, err);
        }
        return 0;
}

static int unpack_all(struct pull *p, struct mlc_err *err)
{
        size_t before = p->n;
        struct mlc_map seen;
        int r = 0;

        mlc_map_init(&seen);
        for (size_t i = 0; i < p->in->manifest->n_layers && r == 0; i++) {
                const struct mlc_descriptor *l = &p->in->manifest->layers[i];

                if (!l->tar || mlc_map_set(&seen, l->digest, p) != NULL)
                        continue;
                r = unpack(p, l, err);
        }
        mlc_map_done(&seen, NULL);
        return r < 0 ? r : look_at_unpacked(p, before, err);
}

/* Placing */

/* A layer that several files are goes to each but the last as a copy. */
static int place_all(struct pull *p, struct mlc_err *err)
{
        struct mlc_map uses;
        int r = 0;

        mlc_map_init(&uses);
        for (size_t i = 0; i < p->n; i++)
                if (!p->targets[i].kept)
                        (void)mlc_map_set(&uses, p->targets[i].from, &p->targets[i]);
        for (size_t i = 0; i < p->n && r == 0; i++) {
                const struct target *t = &p->targets[i];
                struct mlc_place place = {
                        .from_fd = p->partial,
                        .from = t->from,
                        .dir_fd = p->dir,
                        .path = t->path,
                        .executable = t->executable,
                        .replace = p->in->force,
                        .copy = mlc_map_get(&uses, t->from) != t,
                };

                if (!t->kept)
                        r = mlc_place_file(&place, err);
                if (r < 0)
                        (void)mlc_wrap(err, "'%s'", p->in->dir);
        }
        mlc_map_done(&uses, NULL);
        return r;
}

static int fetch_and_place(struct pull *p, struct mlc_err *err)
{
        int r = plan_files(p, err);

        if (r < 0)
                return r;
        r = run_parallel(p, p->n, look_at_file, err);
        if (r < 0)
                return r;
        begin(p, "pulling", choose(p));
        r = run_parallel(p, p->n_fetch, fetch_layer, err);
        if (r < 0)
                return r;
        r = unpack_all(p, err);
        if (r < 0)
                return r;
        r = place_all(p, err);
        if (r < 0)
                return r;
        return mlc_place_remove(p->dir, MLC_PULL_PARTIAL, err);
}

int mlc_pull_run(struct mlc_client *c, const struct mlc_pull *in, struct mlc_pull_result *ret,
                 struct mlc_err *err)
{
        _cleanup_(pull_done) struct pull p = {.in = in, .dir = -1, .partial = -1};
        struct mlc_pull_result out = {0};
        int r;

        mlc_map_init(&p.paths);
        p.clients[0] = c;
        for (unsigned i = 1; i < in->jobs; i++) {
                r = mlc_client_clone(c, &p.clients[i], err);
                if (r < 0)
                        return r;
        }
        r = open_dirs(&p, err);
        if (r < 0)
                return r;
        r = fetch_and_place(&p, err);
        if (r < 0)
                return r;
        out.bytes = in->manifest->size;
        out.bytes_received = atomic_load(&p.received);
        out.files = p.n;
        for (size_t i = 0; i < p.n; i++)
                out.kept += p.targets[i].kept;
        *ret = out;
        return 0;
}
