/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/str.h"
#include "crypto/sign.h"
#include "mlctl/error.h"

/*
 * Bare git repositories, SHA-1 object format; the only user of libgit2. Objects are made from their
 * inputs alone (same files, parent, time, message and key: same bytes, whatever libgit2's version),
 * written loose, or many at once as a pack, and fsynced. A repository handle belongs to one thread;
 * several processes may write one repository (see git_repo_lock).
 */
#define GIT_OID_STR 41 /* 40 hex digits and a NUL */
#define GIT_REF_MAX 255
#define GIT_COMMIT_MAX 65536 /* bytes of a commit object */
#define GIT_IDENTITY_STR 24 /* "signer-" and 8 hex digits, NUL included */

/* Once, before any thread: starts libgit2 and makes it fsync what it writes below a repository. */
int git_setup(struct mlc_err *err) MLC_CHECK;

/* A file of a tree, mode 100644. Paths are relative with single '/', each component non-empty,
 * none "." or "..", none that git reserves (see git_path_allowed). */
struct git_file {
        const char *path;
        const void *data;
        size_t len;
};

/* False when a component begins with ".git" or "git~" in any case: git refuses to check some of
 * those out, or gives them a meaning. Only ".gitattributes" at the top may be there. */
bool git_path_allowed(const char *path);

struct git_commit_in {
        const struct git_file *files; /* any order */
        size_t n_files;
        const char *parent; /* oid, or NULL for the first one */
        const char *message; /* without NUL; ends in LF */
        int64_t time_s; /* seconds since 1970, UTC: author's and committer's */
        const struct mlc_signer *signer; /* author, committer, and the signature (sshsig, "git") */
};

/*
 * The commit's bytes (appended to ret_bytes) and ids, from the input alone: nothing is read or
 * written. MLC_E_INVALID for two files of one path or a file that is another's directory.
 */
int git_commit_build(const struct git_commit_in *in, struct mlc_str *ret_bytes,
                     char ret_oid[GIT_OID_STR], struct mlc_err *err) MLC_CHECK;
/* The tree's id alone, for comparing with what a commit says. */
int git_tree_oid(const struct git_file *files, size_t n_files, char ret_oid[GIT_OID_STR],
                 struct mlc_err *err) MLC_CHECK;
void git_commit_oid(const void *bytes, size_t len, char ret_oid[GIT_OID_STR]);

struct git_commit_info {
        char tree[GIT_OID_STR];
        char parent[GIT_OID_STR]; /* "" for the first one */
        int64_t time_s; /* the committer's */
};
/* What a commit's bytes say; MLC_E_VERIFY when they are none, or have several parents. */
int git_commit_parse(const void *bytes, size_t len, struct git_commit_info *ret,
                     struct mlc_err *err) MLC_CHECK;
/* The signature over them, by this Ed25519 key, namespace "git". MLC_E_VERIFY when it does not
 * hold. */
int git_commit_verify(const void *bytes, size_t len, const unsigned char pub[MLC_ED25519_KEY_LEN],
                      struct mlc_err *err) MLC_CHECK;
/* "signer-<8 hex of SHA-256 of the public key>": name; "<NAME@mlctl>" is the address. */
void git_identity(const struct mlc_signer *signer, char ret[GIT_IDENTITY_STR]);

struct git_repo;
/* Makes it (and its parent directories) when `create`; MLC_E_NOT_FOUND when missing and not. */
int git_repo_open(const char *path, bool create, struct git_repo **ret,
                  struct mlc_err *err) MLC_CHECK;
void git_repo_freep(struct git_repo **repo); /* for _cleanup_; unlocks too */
/* Its HEAD and config are what git_repo_open wrote; MLC_E_VERIFY names the file otherwise. */
int git_repo_check(struct git_repo *repo, struct mlc_err *err) MLC_CHECK;
/* Exclusive among threads and processes until freed; waits. */
int git_repo_lock(struct git_repo *repo, struct mlc_err *err) MLC_CHECK;

/*
 * Writes the files, the trees and the commit, durable before any reference may name them.
 * MLC_E_VERIFY when the files are not those of the commit's tree.
 */
int git_commit_write(struct git_repo *repo, const struct git_file *files, size_t n_files,
                     const struct mlc_str *bytes, struct mlc_err *err) MLC_CHECK;
/*
 * Many commits for the price of one: from git_batch_begin on, what git_commit_write makes is kept
 * in memory, and git_batch_flush writes it as one pack, durable before a reference names any of it.
 * What is not flushed is dropped with the handle. git_batch_size: bytes that wait.
 */
int git_batch_begin(struct git_repo *repo, struct mlc_err *err) MLC_CHECK;
size_t git_batch_size(const struct git_repo *repo);
int git_batch_flush(struct git_repo *repo, struct mlc_err *err) MLC_CHECK;
/* The object's bytes appended to ret; MLC_E_NOT_FOUND, or MLC_E_VERIFY when it is damaged or of
 * another type. */
int git_commit_read(struct git_repo *repo, const char *oid, struct mlc_str *ret,
                    struct mlc_err *err) MLC_CHECK;
/* Every tree and blob below the tree is there, and hashes to its name. MLC_E_VERIFY names the path.
 */
int git_tree_check(struct git_repo *repo, const char *tree_oid, struct mlc_err *err) MLC_CHECK;

/* MLC_E_NOT_FOUND when there is none; MLC_E_VERIFY when it cannot be read or is symbolic. */
int git_ref_get(struct git_repo *repo, const char *name, char ret_oid[GIT_OID_STR],
                struct mlc_err *err) MLC_CHECK;
/* Compare and set: `expected` NULL means that it must not exist yet. MLC_E_CONFLICT otherwise. */
int git_ref_set(struct git_repo *repo, const char *name, const char *oid, const char *expected,
                struct mlc_err *err) MLC_CHECK;
/* Calls fn for each reference (HEAD is none), in no order; a negative return ends it and is
 * returned. */
typedef int (*git_ref_fn)(void *userdata, const char *name, const char *oid, struct mlc_err *err);
int git_ref_each(struct git_repo *repo, git_ref_fn fn, void *userdata,
                 struct mlc_err *err) MLC_CHECK;

/*
 * The anchor commit of the log: builds and writes it on top of `in->parent` in the repository at
 * `path` (made when missing) and moves `ref` from the parent to it. MLC_E_CONFLICT when ref is
 * somewhere else. Give a NULL ref to leave references alone (before the database committed) and
 * move it later by git_ref_set.
 */
int git_anchor_commit(const char *path, const char *ref, const struct git_commit_in *in,
                      char ret_oid[GIT_OID_STR], struct mlc_err *err) MLC_CHECK;
