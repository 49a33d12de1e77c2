/* SPDX-License-Identifier: Apache-2.0 */
/* Objects of many commits in one pack: three fsyncs instead of one for each object. */
#include <git2/sys/mempack.h>
#include <git2/sys/odb_backend.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "git/git_object.h"

#define FIRST 1000 /* before libgit2's own backends, so that objects go to memory */

struct git_batch {
        git_odb_backend *memory; /* the odb's */
        struct mlc_map seen; /* hex of what is in memory or was on disk already */
        git_oid *oids; /* in memory */
        size_t n, size, bytes;
};

void git_batch_free(struct git_batch *b)
{
        if (b == NULL)
                return;
        mlc_map_done(&b->seen, NULL);
        free(b->oids);
        free(b);
}

int git_batch_begin(struct git_repo *repo, struct mlc_err *err)
{
        git_odb_backend *memory = NULL;
        int r;

        if (repo->batch != NULL)
                return 0;
        r = git_mempack_new(&memory);
        if (r == 0)
                r = git_odb_add_backend(repo->odb, memory, FIRST);
        if (r < 0)
                return git_fail(err, r, "cannot write to repository", repo->path);
        repo->batch = calloc(1, sizeof(*repo->batch));
        if (repo->batch == NULL)
                abort();
        repo->batch->memory = memory;
        mlc_map_init(&repo->batch->seen);
        return 0;
}

size_t git_batch_size(const struct git_repo *repo)
{
        return repo->batch != NULL ? repo->batch->bytes : 0;
}

static void remember(struct git_batch *b, const git_oid *oid, size_t len)
{
        if (b->n == b->size) {
                size_t size = b->size * 2 + 64;
                git_oid *more = reallocarray(b->oids, size, sizeof(*more));

                if (more == NULL)
                        abort();
                b->oids = more;
                b->size = size;
        }
        b->oids[b->n++] = *oid;
        b->bytes += len;
}

/* Each commit has all files, nearly all of which the one before had: what was seen is not looked
 * for again. */
int git_batch_write(struct git_repo *g, git_object_t type, const void *data, size_t len,
                    git_oid *ret, struct mlc_err *err)
{
        struct git_batch *b = g->batch;
        char hex[GIT_OID_STR];
        git_oid oid;
        int r = git_odb_hash(&oid, data, len, type);

        if (r < 0)
                return git_fail(err, r, "cannot write to repository", g->path);
        git_oid_tostr(hex, sizeof(hex), &oid);
        if (mlc_map_get(&b->seen, hex) == NULL) {
                if (!git_odb_exists(g->odb, &oid)) {
                        r = git_odb_write(ret, g->odb, data, len, type);
                        if (r < 0)
                                return git_fail(err, r, "cannot write to repository", g->path);
                        remember(b, &oid, len);
                }
                (void)mlc_map_set(&b->seen, hex, b);
        }
        *ret = oid;
        return 0;
}

static void packbuilder_free_p(git_packbuilder **p)
{
        git_packbuilder_free(*p);
}

int git_batch_flush(struct git_repo *repo, struct mlc_err *err)
{
        _cleanup_(packbuilder_free_p) git_packbuilder *pack = NULL;
        struct git_batch *b = repo->batch;
        int r;

        if (b == NULL || b->n == 0)
                return 0;
        r = git_packbuilder_new(&pack, repo->repo);
        if (r == 0)
                (void)git_packbuilder_set_threads(pack, 1);
        for (size_t i = 0; r == 0 && i < b->n; i++)
                r = git_packbuilder_insert(pack, &b->oids[i], NULL);
        if (r == 0) /* fsynced by libgit2, as git_setup asked for */
                r = git_packbuilder_write(pack, NULL, 0, NULL, NULL);
        if (r == 0)
                r = git_mempack_reset(b->memory);
        if (r == 0)
                r = git_odb_refresh(repo->odb);
        if (r < 0)
                return git_fail(err, r, "cannot write to repository", repo->path);
        b->n = 0;
        b->bytes = 0;
        return 0;
}
