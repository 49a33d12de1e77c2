/* SPDX-License-Identifier: Apache-2.0 */
#include "git/git.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <git2.h>
#include <git2/sys/repository.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "git/git_object.h"

/* Fixed text, so that a changed byte is seen: nothing here depends on the machine. */
#define HEAD_TEXT "ref: refs/heads/main\n"
#define CONFIG_TEXT "[core]\n\tbare = true\n\trepositoryformatversion = 0\n\tfilemode = true\n"

int git_fail(struct mlc_err *err, int rc, const char *what, const char *subject)
{
        const git_error *e = git_error_last();
        int code = MLC_E_VERIFY;

        if (rc == GIT_ENOTFOUND)
                code = MLC_E_NOT_FOUND;
        else if (rc == GIT_EMODIFIED || rc == GIT_EEXISTS || rc == GIT_ELOCKED)
                code = MLC_E_CONFLICT;
        else if (e != NULL && (e->klass == GIT_ERROR_OS || e->klass == GIT_ERROR_FILESYSTEM))
                code = MLC_E_IO;
        return mlc_fail(err, code, "%s '%s': %s", what, subject, e != NULL ? e->message : "failed");
}

int git_setup(struct mlc_err *err)
{
        static const int levels[] = {GIT_CONFIG_LEVEL_PROGRAMDATA, GIT_CONFIG_LEVEL_SYSTEM,
                                     GIT_CONFIG_LEVEL_XDG, GIT_CONFIG_LEVEL_GLOBAL};

        if (git_libgit2_init() < 0)
                return git_fail(err, GIT_ERROR, "cannot start", "libgit2");
        if (git_libgit2_opts(GIT_OPT_ENABLE_FSYNC_GITDIR, 1) < 0)
                return git_fail(err, GIT_ERROR, "cannot set up", "libgit2");
        /* the repositories are ours and run nothing; what a user's or the system's configuration
         * says must not change them, and a copied DIR may belong to somebody else */
        if (git_libgit2_opts(GIT_OPT_SET_OWNER_VALIDATION, 0) < 0)
                return git_fail(err, GIT_ERROR, "cannot set up", "libgit2");
        for (size_t i = 0; i < ARRAY_LEN(levels); i++)
                if (git_libgit2_opts(GIT_OPT_SET_SEARCH_PATH, levels[i], "") < 0)
                        return git_fail(err, GIT_ERROR, "cannot set up", "libgit2");
        return 0;
}

static int make_file(const char *dir, const char *name, const char *text, struct mlc_err *err)
{
        _cleanup_(free_p) char *path = NULL;

        if (asprintf(&path, "%s/%s", dir, name) < 0)
                abort();
        return mlc_write_file_atomic(path, text, strlen(text), 0600, err);
}

/* HEAD last: with it the directory is a repository. */
static int make_skeleton(const char *dir, struct mlc_err *err)
{
        static const char *const subdirs[] = {"objects/info", "objects/pack", "refs/heads",
                                              "refs/tags"};
        int r;

        for (size_t i = 0; i < ARRAY_LEN(subdirs); i++) {
                _cleanup_(free_p) char *path = NULL;

                if (asprintf(&path, "%s/%s", dir, subdirs[i]) < 0)
                        abort();
                r = mlc_mkdirs(path, 0700, err);
                if (r < 0)
                        return r;
        }
        r = make_file(dir, "config", CONFIG_TEXT, err);
        if (r < 0)
                return r;
        return make_file(dir, "HEAD", HEAD_TEXT, err);
}

int git_repo_open(const char *path, bool create, struct git_repo **ret, struct mlc_err *err)
{
        _cleanup_(git_repo_freep) struct git_repo *g = calloc(1, sizeof(*g));
        _cleanup_(free_p) char *head = NULL;
        struct stat st;
        int r;

        if (g == NULL || asprintf(&head, "%s/HEAD", path) < 0)
                abort();
        g->lock_fd = -1;
        g->path = strdup(path);
        if (g->path == NULL)
                abort();
        if (stat(head, &st) < 0) {
                if (!create)
                        return mlc_fail(err, MLC_E_NOT_FOUND, "repository '%s' is missing", path);
                r = make_skeleton(path, err);
                if (r < 0)
                        return r;
        }
        r = git_repository_open_bare(&g->repo, path);
        if (r < 0)
                return git_fail(err, r, "cannot open repository", path);
        r = git_repository_odb(&g->odb, g->repo);
        if (r < 0)
                return git_fail(err, r, "cannot open repository", path);
        *ret = TAKE_PTR(g);
        return 0;
}

void git_repo_freep(struct git_repo **repo)
{
        struct git_repo *g = *repo;

        if (g == NULL)
                return;
        git_batch_free(g->batch);
        git_odb_free(g->odb);
        git_repository_free(g->repo);
        close_fd(&g->lock_fd);
        free(g->path);
        free(g);
        *repo = NULL;
}

int git_repo_lock(struct git_repo *repo, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;

        assert(repo->lock_fd < 0);
        fd = open(repo->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return mlc_fail_errno(err, "cannot open", repo->path);
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return mlc_fail_errno(err, "cannot lock", repo->path);
        repo->lock_fd = TAKE_FD(fd);
        return 0;
}

static int check_file(const char *dir, const char *name, const char *text, struct mlc_err *err)
{
        _cleanup_(free_p) char *path = NULL, *data = NULL;
        size_t len;
        int r;

        if (asprintf(&path, "%s/%s", dir, name) < 0)
                abort();
        r = mlc_read_file(path, 65536, &data, &len, err);
        if (r < 0)
                return r;
        if (len != strlen(text) || memcmp(data, text, len) != 0)
                return mlc_fail(err, MLC_E_VERIFY, "file '%s' was changed", path);
        return 0;
}

int git_repo_check(struct git_repo *repo, struct mlc_err *err)
{
        int r;

        r = check_file(repo->path, "HEAD", HEAD_TEXT, err);
        if (r < 0)
                return r;
        return check_file(repo->path, "config", CONFIG_TEXT, err);
}

static int write_object(void *userdata, git_object_t type, const void *data, size_t len,
                        git_oid *ret, struct mlc_err *err)
{
        struct git_repo *g = userdata;
        int r;

        if (g->batch != NULL)
                return git_batch_write(g, type, data, len, ret, err);
        r = git_odb_write(ret, g->odb, data, len, type);
        if (r < 0)
                return git_fail(err, r, "cannot write to repository", g->path);
        return 0;
}

int git_commit_write(struct git_repo *repo, const struct git_file *files, size_t n_files,
                     const struct mlc_str *bytes, struct mlc_err *err)
{
        struct git_commit_info info;
        char tree[GIT_OID_STR];
        git_oid oid;
        int r;

        r = git_commit_parse(bytes->data, bytes->len, &info, err);
        if (r < 0)
                return r;
        r = git_tree_make(files, n_files, write_object, repo, tree, err);
        if (r < 0)
                return r;
        if (strcmp(tree, info.tree) != 0)
                return mlc_fail(err, MLC_E_VERIFY, "the files make tree %s, but the commit says %s",
                                tree, info.tree);
        return write_object(repo, GIT_OBJECT_COMMIT, bytes->data, bytes->len, &oid, err);
}

static int read_object(struct git_repo *repo, const git_oid *oid, git_object_t type,
                       git_odb_object **ret, struct mlc_err *err)
{
        git_odb_object *o = NULL;
        char hex[GIT_OID_STR];
        int r;

        git_oid_tostr(hex, sizeof(hex), oid);
        r = git_odb_read(&o, repo->odb, oid);
        if (r < 0)
                return git_fail(err, r, "cannot read object", hex);
        if (git_odb_object_type(o) != type) {
                git_odb_object_free(o);
                return mlc_fail(err, MLC_E_VERIFY, "object '%s' is no %s", hex,
                                git_object_type2string(type));
        }
        *ret = o;
        return 0;
}

static void odb_object_free_p(git_odb_object **o)
{
        if (*o != NULL)
                git_odb_object_free(*o);
}

static void tree_free_p(git_tree **t)
{
        git_tree_free(*t);
}

int git_commit_read(struct git_repo *repo, const char *oid, struct mlc_str *ret,
                    struct mlc_err *err)
{
        _cleanup_(odb_object_free_p) git_odb_object *o = NULL;
        git_oid id;
        int r;

        if (git_oid_fromstr(&id, oid) < 0)
                return mlc_fail(err, MLC_E_VERIFY, "'%s' is no object id", oid);
        r = read_object(repo, &id, GIT_OBJECT_COMMIT, &o, err);
        if (r < 0)
                return r;
        mlc_str_addn(ret, git_odb_object_data(o), git_odb_object_size(o));
        return mlc_str_check(ret, err);
}

static int check_tree(struct git_repo *repo, const git_oid *id, unsigned depth, struct mlc_err *err)
{
        _cleanup_(tree_free_p) git_tree *tree = NULL;
        char hex[GIT_OID_STR];
        int r;

        git_oid_tostr(hex, sizeof(hex), id);
        if (depth > GIT_TREE_DEPTH_MAX)
                return mlc_fail(err, MLC_E_VERIFY, "tree '%s' is nested too deeply", hex);
        r = git_tree_lookup(&tree, repo->repo, id);
        if (r < 0)
                return git_fail(err, r, "cannot read tree", hex);
        for (size_t i = 0; i < git_tree_entrycount(tree); i++) {
                const git_tree_entry *e = git_tree_entry_byindex(tree, i);
                _cleanup_(odb_object_free_p) git_odb_object *o = NULL;

                if (git_tree_entry_type(e) == GIT_OBJECT_TREE)
                        r = check_tree(repo, git_tree_entry_id(e), depth + 1, err);
                else
                        r = read_object(repo, git_tree_entry_id(e), GIT_OBJECT_BLOB, &o, err);
                if (r < 0)
                        return mlc_wrap(err, "'%s'", git_tree_entry_name(e));
        }
        return 0;
}

int git_tree_check(struct git_repo *repo, const char *tree_oid, struct mlc_err *err)
{
        git_oid id;

        if (git_oid_fromstr(&id, tree_oid) < 0)
                return mlc_fail(err, MLC_E_VERIFY, "'%s' is no object id", tree_oid);
        return check_tree(repo, &id, 0, err);
}

static void reference_free_p(git_reference **ref)
{
        git_reference_free(*ref);
}

static int ref_target(git_reference *ref, char ret_oid[GIT_OID_STR], struct mlc_err *err)
{
        const git_oid *id = git_reference_target(ref);

        if (id == NULL)
                return mlc_fail(err, MLC_E_VERIFY, "reference '%s' is symbolic",
                                git_reference_name(ref));
        git_oid_tostr(ret_oid, GIT_OID_STR, id);
        return 0;
}

int git_ref_get(struct git_repo *repo, const char *name, char ret_oid[GIT_OID_STR],
                struct mlc_err *err)
{
        _cleanup_(reference_free_p) git_reference *ref = NULL;
        int r;

        r = git_reference_lookup(&ref, repo->repo, name);
        if (r < 0)
                return git_fail(err, r, "cannot read reference", name);
        return ref_target(ref, ret_oid, err);
}

static int set_ref(struct git_repo *repo, const char *name, const git_oid *id, const git_oid *old)
{
        _cleanup_(reference_free_p) git_reference *ref = NULL;

        if (old == NULL)
                return git_reference_create(&ref, repo->repo, name, id, 0, NULL);
        return git_reference_create_matching(&ref, repo->repo, name, id, 1, old, NULL);
}

/* Whoever holds the repository's lock knows that a lock file comes from a process that died. */
static bool remove_stale_lock(const struct git_repo *repo, const char *name)
{
        _cleanup_(free_p) char *path = NULL;

        if (repo->lock_fd < 0)
                return false;
        if (asprintf(&path, "%s/%s.lock", repo->path, name) < 0)
                abort();
        return unlink(path) == 0;
}

int git_ref_set(struct git_repo *repo, const char *name, const char *oid, const char *expected,
                struct mlc_err *err)
{
        const git_oid *match = NULL;
        git_oid id, old;
        int r;

        if (git_oid_fromstr(&id, oid) < 0 ||
            (expected != NULL && git_oid_fromstr(&old, expected) < 0))
                return mlc_fail(err, MLC_E_VERIFY, "'%s' is no object id", oid);
        if (expected != NULL)
                match = &old;
        r = set_ref(repo, name, &id, match);
        if (r == GIT_ELOCKED && remove_stale_lock(repo, name))
                r = set_ref(repo, name, &id, match);
        if (r == GIT_ENOTFOUND && expected != NULL)
                r = GIT_EMODIFIED; /* it is gone */
        if (r < 0)
                return git_fail(err, r, "cannot set reference", name);
        return 0;
}

static void ref_iterator_free_p(git_reference_iterator **it)
{
        git_reference_iterator_free(*it);
}

int git_ref_each(struct git_repo *repo, git_ref_fn fn, void *userdata, struct mlc_err *err)
{
        _cleanup_(ref_iterator_free_p) git_reference_iterator *it = NULL;
        int r;

        r = git_reference_iterator_new(&it, repo->repo);
        if (r < 0)
                return git_fail(err, r, "cannot list references of", repo->path);
        for (;;) {
                _cleanup_(reference_free_p) git_reference *ref = NULL;
                char oid[GIT_OID_STR];

                r = git_reference_next(&ref, it);
                if (r == GIT_ITEROVER)
                        return 0;
                if (r < 0)
                        return git_fail(err, r, "cannot list references of", repo->path);
                r = ref_target(ref, oid, err);
                if (r < 0)
                        return r;
                r = fn(userdata, git_reference_name(ref), oid, err);
                if (r < 0)
                        return r;
        }
}

int git_anchor_commit(const char *path, const char *ref, const struct git_commit_in *in,
                      char ret_oid[GIT_OID_STR], struct mlc_err *err)
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        char oid[GIT_OID_STR];
        int r;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        r = git_commit_build(in, &bytes, oid, err);
        if (r < 0)
                return r;
        r = git_repo_open(path, true, &repo, err);
        if (r < 0)
                return r;
        r = git_repo_lock(repo, err);
        if (r < 0)
                return r;
        r = git_commit_write(repo, in->files, in->n_files, &bytes, err);
        if (r < 0)
                return r;
        if (ref != NULL) {
                r = git_ref_set(repo, ref, oid, in->parent, err);
                if (r < 0)
                        return r;
        }
        memcpy(ret_oid, oid, GIT_OID_STR);
        return 0;
}
