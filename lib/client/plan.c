/* SPDX-License-Identifier: Apache-2.0 */
/* Which files share an archive. A function of paths and sizes alone: same files, same layers. */
#include <stdlib.h>
#include <string.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "client/push.h"

/* The server reads these by themselves: the card, and what the model says of its inputs. */
static bool stands_alone(const struct mlc_file *f)
{
        return strcmp(f->path, "README.md") == 0 || strcmp(f->path, "model.yaml") == 0;
}

void mlc_plan_done(struct mlc_plan *plan)
{
        for (size_t i = 0; i < plan->n; i++)
                free(plan->layers[i].files);
        free(plan->layers);
        *plan = (struct mlc_plan){0};
}

static void add_to(struct mlc_layer_plan *l, const struct mlc_file *f)
{
        if ((l->n & (l->n - 1)) == 0) { /* 0, and each power of two, fills what there is */
                l->files = reallocarray(l->files, l->n == 0 ? 1 : 2 * l->n, sizeof(const void *));
                if (l->files == NULL)
                        abort();
        }
        l->files[l->n++] = f;
}

/* What one more file adds to an archive; `ret_empty` is an archive of none. */
static int tar_share(const struct mlc_file *f, uint64_t *ret, uint64_t *ret_empty,
                     struct mlc_err *err)
{
        const struct mlc_archive_file one = {
                .path = f->path, .size = f->size, .executable = f->executable, .fd = -1};
        uint64_t with;
        int r = mlc_archive_size(&one, 0, ret_empty, err);

        if (r < 0)
                return r;
        r = mlc_archive_size(&one, 1, &with, err);
        if (r < 0)
                return r;
        *ret = with - *ret_empty;
        return 0;
}

int mlc_plan_layers(const struct mlc_files *files, struct mlc_plan *ret, struct mlc_err *err)
{
        _cleanup_(mlc_plan_done) struct mlc_plan plan = {0};
        struct mlc_layer_plan *tar = NULL;
        uint64_t share, empty;
        int r;

        plan.layers = calloc(files->n + 1, sizeof(*plan.layers));
        if (plan.layers == NULL)
                abort();
        for (size_t i = 0; i < files->n; i++) {
                const struct mlc_file *f = &files->list[i];

                if (files->n <= MLC_PUSH_TAR_FILES || f->size >= MLC_PUSH_TAR_FILE_MAX ||
                    stands_alone(f)) {
                        plan.layers[plan.n].size = f->size;
                        add_to(&plan.layers[plan.n++], f);
                        continue;
                }
                r = tar_share(f, &share, &empty, err);
                if (r < 0)
                        return r;
                if (tar == NULL || tar->size + share > MLC_PUSH_TAR_MAX) {
                        tar = &plan.layers[plan.n++];
                        tar->tar = true;
                        tar->size = empty;
                }
                tar->size += share;
                add_to(tar, f);
        }
        *ret = plan;
        plan = (struct mlc_plan){0};
        return 0;
}
