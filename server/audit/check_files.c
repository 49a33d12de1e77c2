/* SPDX-License-Identifier: Apache-2.0 */
/* Every file below log/ has to be accounted for, byte for byte. */
#include <errno.h>
#include <fts.h>
#include <sys/stat.h>

#include "audit/check.h"
#include "base/cleanup.h"
#include "base/io.h"

#define ARCHIVE "archive/"

static void close_fts(FTS **f)
{
        if (*f != NULL)
                (void)fts_close(*f);
}

static void add_file(struct check *c, const char *path)
{
        /* doubled at each power of two */
        if ((c->n_files & (c->n_files - 1)) == 0) {
                c->files =
                        realloc(c->files, (c->n_files == 0 ? 1 : 2 * c->n_files) * sizeof(char *));
                if (c->files == NULL)
                        abort();
        }
        c->files[c->n_files] = strdup(path);
        if (c->files[c->n_files++] == NULL)
                abort();
}

int check_list_files(struct check *c)
{
        char *roots[] = {c->a->dir, NULL};
        _cleanup_(close_fts) FTS *f = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
        size_t skip = strlen(c->a->dir) + 1;
        FTSENT *e;

        if (f == NULL)
                return mlc_fail_errno(&c->ctx->err, "read", c->a->dir);
        while ((e = fts_read(f)) != NULL) {
                switch (e->fts_info) {
                case FTS_D:
                case FTS_DP:
                        break;
                case FTS_F:
                        add_file(c, e->fts_path + skip);
                        break;
                case FTS_ERR:
                case FTS_NS:
                case FTS_DNR:
                        errno = e->fts_errno;
                        return mlc_fail_errno(&c->ctx->err, "read", e->fts_path);
                default:
                        return check_found(c, 0, "'log/%s' is no regular file", e->fts_path + skip);
                }
        }
        return 0;
}

/* The hashes that a tile must have, from the verified ones or from the batch that a crash left out.
 */
static bool expected(struct check *c, const struct check_log *log, const struct mlc_tile *t,
                     struct mlc_digest ret[MLC_TILE_WIDTH])
{
        struct mlc_tlog_source src = mlc_tlog_source_dir(log->dir);
        struct mlc_tile sound = {t->level, t->index,
                                 mlc_tile_width(t->level, t->index, log->cp.size)};
        const struct check_file *f;
        struct mlc_err err = {0};
        char path[MLC_TILE_PATH_MAX];

        if (t->width <= sound.width)
                return mlc_tlog_read_tile(&src, &sound, ret, &err) == 0;
        mlc_tile_path(t, path);
        f = log->log_id == c->a->log_id ? mlc_map_get(&c->tail, path) : NULL;
        if (f == NULL)
                return false;
        memcpy(ret, f->data, f->len);
        return true;
}

/* The first of the tile's slots whose hash differs; t->width when all fit. */
static unsigned differing(const struct mlc_tile *t, const char *data, size_t len,
                          const struct mlc_digest *hashes)
{
        _cleanup_(free_p) struct mlc_bundle *b = malloc(sizeof(*b));
        struct mlc_digest hash;
        struct mlc_err err = {0};

        if (b == NULL)
                abort();
        if (t->level != MLC_TILE_ENTRIES) {
                for (unsigned i = 0; i < t->width; i++)
                        if (len < (i + 1) * sizeof(hash) ||
                            memcmp(data + i * sizeof(hash), &hashes[i], sizeof(hash)) != 0)
                                return i;
                return len == t->width * sizeof(hash) ? t->width : t->width - 1;
        }
        if (mlc_bundle_parse(data, len, b, &err) < 0 || b->n != t->width)
                return 0;
        for (unsigned i = 0; i < t->width; i++) {
                mlc_merkle_leaf(b->entry[i].data, b->entry[i].len, &hash);
                if (!mlc_digest_equal(&hash, &hashes[i]))
                        return i;
        }
        return t->width;
}

static int check_tile(struct check *c, const struct check_log *log, const char *name,
                      const struct mlc_tile *t)
{
        struct mlc_tile leaves = {t->level == MLC_TILE_ENTRIES ? 0 : t->level, t->index, t->width};
        uint64_t first;
        char path[AUDIT_PATH_MAX + MLC_TILE_PATH_MAX];
        struct mlc_digest hashes[MLC_TILE_WIDTH];
        _cleanup_(free_p) char *data = NULL;
        struct mlc_err err = {0};
        size_t len;
        unsigned slot;
        int r;

        /* full tiles and the last partial ones were derived from the entries already */
        if (t->width == mlc_tile_width(t->level, t->index, log->cp.size))
                return 0;
        if (leaves.level >= (int)MLC_TILE_LEVELS)
                return check_found(c, log->cp.size, "nothing accounts for the file 'log/%s'", name);
        first = t->index * MLC_TILE_WIDTH << (8 * (unsigned)leaves.level);
        (void)snprintf(path, sizeof(path), "%s/%s", c->a->dir, name);
        r = mlc_read_file(path, MLC_BUNDLE_MAX, &data, &len, &err);
        if (r == MLC_E_NOT_FOUND)
                return 0; /* a full tile has replaced it since */
        if (r < 0)
                return mlc_fail(&c->ctx->err, r, "%s", err.msg);
        if (!expected(c, log, &leaves, hashes))
                return check_found(c, first, "nothing accounts for the file 'log/%s'", name);
        slot = differing(t, data, len, hashes);
        if (slot == t->width)
                return 0;
        return check_found(c, first + ((uint64_t)slot << (8 * (unsigned)leaves.level)),
                           "the file 'log/%s' is not what it must be", name);
}

static const struct check_log *log_of(const struct check *c, const char *path,
                                      const char **ret_rest)
{
        char prefix[64];

        for (size_t i = 0; i + 1 < c->n_logs; i++) {
                (void)snprintf(prefix, sizeof(prefix), ARCHIVE "%lld/",
                               (long long)c->logs[i].log_id);
                if (mlc_starts_with(path, prefix)) {
                        *ret_rest = path + strlen(prefix);
                        return &c->logs[i];
                }
        }
        *ret_rest = path;
        return &c->logs[c->n_logs - 1];
}

static int check_lock(struct check *c, const char *path)
{
        char full[AUDIT_PATH_MAX + 64];
        struct stat st;

        (void)snprintf(full, sizeof(full), "%s/%s", c->a->dir, path);
        if (stat(full, &st) < 0)
                return mlc_fail_errno(&c->ctx->err, "read", full);
        return st.st_size == 0 ? 0 : check_found(c, 0, "the file 'log/%s' is not empty", path);
}

static int check_file(struct check *c, const char *path)
{
        const char *rest;
        const struct check_log *log = log_of(c, path, &rest);
        struct mlc_tile t;
        struct mlc_err err = {0};

        if (mlc_streq(rest, "lock"))
                return check_lock(c, path);
        /* "next" is what a crash left of a file that was being written; nobody reads it */
        if (mlc_streq(rest, "state") || mlc_streq(rest, "next") ||
            (mlc_streq(rest, "checkpoint") && log->note != NULL))
                return 0;
        if (mlc_tile_parse(rest, &t, &err) == 0)
                return check_tile(c, log, path, &t);
        return check_found(c, log->rows, "nothing accounts for the file 'log/%s'", path);
}

int check_files(struct check *c)
{
        int r = 0;

        for (size_t i = 0; i < c->n_files && r == 0; i++)
                r = check_file(c, c->files[i]);
        return r;
}
