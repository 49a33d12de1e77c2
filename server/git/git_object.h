/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <git2.h>

#include "base/map.h"
#include "git/git.h"

/* Inside server/git: how trees are made, so that hashing and writing are one walk. */
#define GIT_TREE_DEPTH_MAX 80
#define GIT_TREE_MAX (32u << 20) /* bytes of one tree object */

/* Stores or only hashes one object. */
typedef int (*git_object_fn)(void *userdata, git_object_t type, const void *data, size_t len,
                             git_oid *ret, struct mlc_err *err);

/* Gives fn every blob and then every tree, children before parents. */
int git_tree_make(const struct git_file *files, size_t n_files, git_object_fn fn, void *userdata,
                  char ret_oid[GIT_OID_STR], struct mlc_err *err) MLC_CHECK;

struct git_batch;

struct git_repo {
        git_repository *repo;
        git_odb *odb;
        int lock_fd; /* of the directory; -1 when not locked */
        char *path;
        struct git_batch *batch; /* NULL: objects are written one by one */
};

int git_fail(struct mlc_err *err, int rc, const char *what, const char *subject);
int git_batch_write(struct git_repo *g, git_object_t type, const void *data, size_t len,
                    git_oid *ret, struct mlc_err *err) MLC_CHECK;
void git_batch_free(struct git_batch *b); /* NULL-safe; the memory of libgit2's is the odb's */
