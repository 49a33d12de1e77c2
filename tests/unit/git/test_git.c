/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "crypto/sshkey.h"
#include "git/git.h"

struct fixture {
        char dir[64], repo[96];
        struct mlc_signer signer;
        struct mlc_err err;
};

static const struct git_file files[] = {
        {"manifest.json", "{}\n", 3}, {"README.md", "# card\n", 7}, {"files/a/b", "x", 1},
        {"files/a-b", "y", 1},        {"files/a.b", "z", 1},        {"empty", "", 0},
};

static int setup(void **state)
{
        static const unsigned char seed[32] = {1, 2, 3};
        struct fixture *f = calloc(1, sizeof(*f));

        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/mlctl-git-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        (void)snprintf(f->repo, sizeof(f->repo), "%s/ns/model.git", f->dir);
        assert_int_equal(mlc_signer_from_seed(seed, &f->signer, &f->err), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char cmd[128];

        (void)snprintf(cmd, sizeof(cmd), "rm -rf '%s'", f->dir);
        assert_int_equal(system(cmd), 0);
        free(f);
        return 0;
}

static struct git_commit_in commit_in(const struct fixture *f, const char *parent)
{
        return (struct git_commit_in){.files = files,
                                      .n_files = ARRAY_LEN(files),
                                      .parent = parent,
                                      .message = "fraud/scorer:1\n\nsecond line\n",
                                      .time_s = 1764000000,
                                      .signer = &f->signer};
}

/* Runs a shell command with $R the repository and $D the directory; its exit status. */
static int sh(const struct fixture *f, const char *script)
{
        char cmd[2048];

        (void)snprintf(cmd, sizeof(cmd),
                       "R='%s' D='%s' HOME=/nonexistent GIT_CONFIG_NOSYSTEM=1; export R D HOME "
                       "GIT_CONFIG_NOSYSTEM; (%s) >\"$D/log\" 2>&1",
                       f->repo, f->dir, script);
        return system(cmd);
}

static void write_allowed_signers(struct fixture *f)
{
        _cleanup_(mlc_str_done) struct mlc_str line;
        struct mlc_sshkey key;
        char path[96], who[GIT_IDENTITY_STR];

        mlc_str_init(&line, 4096);
        git_identity(&f->signer, who);
        mlc_str_addf(&line, "%s@mlctl namespaces=\"git\" ", who);
        mlc_sshkey_from_ed25519(f->signer.pub, &key);
        mlc_sshkey_format(&key, &line);
        mlc_str_addc(&line, '\n');
        (void)snprintf(path, sizeof(path), "%s/allowed", f->dir);
        assert_int_equal(mlc_write_file_atomic(path, line.data, line.len, 0600, &f->err), 0);
}

/* Two commits; the second oid. */
static void make_repo(struct fixture *f, char ret_oid[GIT_OID_STR])
{
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        struct git_commit_in in = commit_in(f, NULL);
        char first[GIT_OID_STR];

        assert_int_equal(git_anchor_commit(f->repo, "refs/heads/main", &in, first, &f->err), 0);
        in = commit_in(f, first);
        assert_int_equal(git_anchor_commit(f->repo, "refs/heads/main", &in, ret_oid, &f->err), 0);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
        assert_int_equal(git_ref_set(repo, "refs/tags/v2", ret_oid, NULL, &f->err), 0);
}

static void test_stock_git_agrees(void **state)
{
        struct fixture *f = *state;
        char oid[GIT_OID_STR];
        char script[256];

        make_repo(f, oid);
        write_allowed_signers(f);
        assert_int_equal(sh(f, "git -C \"$R\" fsck --strict --no-dangling"), 0);
        assert_int_equal(sh(f, "git -C \"$R\" -c gpg.ssh.allowedSignersFile=\"$D/allowed\" "
                               "verify-commit v2 v2^"),
                         0);
        assert_int_equal(sh(f, "test \"$(git -C \"$R\" cat-file -p v2:files/a/b)\" = x"), 0);
        assert_int_equal(sh(f, "test \"$(git -C \"$R\" rev-list --count main)\" = 2"), 0);
        /* the same tree as git's own from the same files */
        assert_int_equal(sh(f, "git clone -q \"$R\" \"$D/clone\" && cd \"$D/clone\" && git add -A "
                               "&& test \"$(git write-tree)\" = "
                               "\"$(git -C \"$R\" rev-parse v2^{tree})\""),
                         0);
        (void)snprintf(script, sizeof(script), "test \"$(git -C \"$R\" rev-parse v2)\" = %s", oid);
        assert_int_equal(sh(f, script), 0);
        /* a stranger's key is not accepted */
        assert_int_not_equal(sh(f, "sed -i 's/AAAAIB/AAAAIC/;s/\\(.\\)$/A/' \"$D/allowed\" && "
                                   "git -C \"$R\" -c gpg.ssh.allowedSignersFile=\"$D/allowed\" "
                                   "verify-commit v2"),
                             0);
}

static void test_bytes_are_a_function_of_the_input(void **state)
{
        struct fixture *f = *state;
        _cleanup_(mlc_str_done) struct mlc_str a, b;
        struct git_commit_in in = commit_in(f, NULL);
        struct git_file reversed[ARRAY_LEN(files)];
        char o1[GIT_OID_STR], o2[GIT_OID_STR];
        struct git_commit_info info;

        mlc_str_init(&a, GIT_COMMIT_MAX);
        mlc_str_init(&b, GIT_COMMIT_MAX);
        for (size_t i = 0; i < ARRAY_LEN(files); i++)
                reversed[i] = files[ARRAY_LEN(files) - 1 - i];
        assert_int_equal(git_commit_build(&in, &a, o1, &f->err), 0);
        in.files = reversed;
        assert_int_equal(git_commit_build(&in, &b, o2, &f->err), 0);
        assert_string_equal(o1, o2);
        assert_string_equal(a.data, b.data);
        assert_int_equal(git_commit_verify(a.data, a.len, f->signer.pub, &f->err), 0);
        assert_int_equal(git_commit_parse(a.data, a.len, &info, &f->err), 0);
        assert_int_equal(info.time_s, 1764000000);
        assert_string_equal(info.parent, "");
        /* one changed byte of the message, or another key */
        a.data[a.len - 2] ^= 1;
        assert_int_equal(git_commit_verify(a.data, a.len, f->signer.pub, &f->err), MLC_E_VERIFY);
        mlc_err_clear(&f->err);
        f->signer.pub[0] ^= 1;
        assert_int_equal(git_commit_verify(b.data, b.len, f->signer.pub, &f->err), MLC_E_VERIFY);
}

static void test_references(void **state)
{
        struct fixture *f = *state;
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        char oid[GIT_OID_STR], got[GIT_OID_STR], first[GIT_OID_STR];
        struct git_commit_in in = commit_in(f, NULL);
        struct git_commit_info info;
        _cleanup_(mlc_str_done) struct mlc_str bytes;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        make_repo(f, oid);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
        assert_int_equal(git_repo_check(repo, &f->err), 0);
        assert_int_equal(git_ref_get(repo, "refs/heads/main", got, &f->err), 0);
        assert_string_equal(got, oid);
        assert_int_equal(git_commit_read(repo, oid, &bytes, &f->err), 0);
        assert_int_equal(git_commit_parse(bytes.data, bytes.len, &info, &f->err), 0);
        memcpy(first, info.parent, sizeof(first));
        assert_int_equal(git_tree_check(repo, info.tree, &f->err), 0);
        /* must not exist; wrong expectation; missing one */
        assert_int_equal(git_ref_set(repo, "refs/heads/main", first, NULL, &f->err),
                         MLC_E_CONFLICT);
        mlc_err_clear(&f->err);
        assert_int_equal(git_ref_set(repo, "refs/heads/main", first, first, &f->err),
                         MLC_E_CONFLICT);
        mlc_err_clear(&f->err);
        assert_int_equal(git_ref_set(repo, "refs/heads/none", first, oid, &f->err), MLC_E_CONFLICT);
        mlc_err_clear(&f->err);
        assert_int_equal(git_ref_get(repo, "refs/tags/v9", got, &f->err), MLC_E_NOT_FOUND);
        mlc_err_clear(&f->err);
        /* an anchor on a parent that is not the newest */
        in = commit_in(f, first);
        in.message = "other\n";
        assert_int_equal(git_anchor_commit(f->repo, "refs/heads/main", &in, got, &f->err),
                         MLC_E_CONFLICT);
        mlc_err_clear(&f->err);
        /* a reference to what is not there */
        assert_int_not_equal(git_ref_set(repo, "refs/tags/v3",
                                         "0123456789012345678901234567890123456789", NULL, &f->err),
                             0);
}

static void test_damage_is_seen(void **state)
{
        struct fixture *f = *state;
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        char oid[GIT_OID_STR];
        struct git_commit_info info;
        _cleanup_(mlc_str_done) struct mlc_str bytes;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        make_repo(f, oid);
        assert_int_equal(sh(f,
                            "b=$(git -C \"$R\" rev-parse v2:files/a/b); "
                            "p=\"$R/objects/$(echo $b | cut -c1-2)/$(echo $b | cut -c3-)\"; "
                            "chmod u+w \"$p\"; o=$(git -C \"$R\" rev-parse v2:files/a-b); cp "
                            "\"$R/objects/$(echo $o | cut -c1-2)/$(echo $o | cut -c3-)\" \"$p\"; "
                            "printf 'x' >>\"$R/config\""),
                         0);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
        assert_int_equal(git_commit_read(repo, oid, &bytes, &f->err), 0);
        assert_int_equal(git_commit_parse(bytes.data, bytes.len, &info, &f->err), 0);
        assert_int_equal(git_tree_check(repo, info.tree, &f->err), MLC_E_VERIFY);
        assert_non_null(strstr(f->err.msg, "'files'"));
        mlc_err_clear(&f->err);
        assert_int_equal(git_repo_check(repo, &f->err), MLC_E_VERIFY);
}

static void test_refuses(void **state)
{
        static const struct git_file twice[] = {{"a", "", 0}, {"a", "", 0}};
        static const struct git_file both[] = {{"a", "", 0}, {"a-b", "", 0}, {"a/b", "", 0}};
        static const struct git_file dotgit[] = {{"x/.GIT/config", "", 0}};
        struct fixture *f = *state;
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        struct git_commit_in in = commit_in(f, NULL);
        char oid[GIT_OID_STR];

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        assert_int_equal(git_tree_oid(twice, 2, oid, &f->err), MLC_E_INVALID);
        mlc_err_clear(&f->err);
        assert_int_equal(git_tree_oid(both, 3, oid, &f->err), MLC_E_INVALID);
        mlc_err_clear(&f->err);
        assert_int_equal(git_tree_oid(dotgit, 1, oid, &f->err), MLC_E_INVALID);
        mlc_err_clear(&f->err);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), MLC_E_NOT_FOUND);
        mlc_err_clear(&f->err);
        assert_int_equal(git_repo_open(f->repo, true, &repo, &f->err), 0);
        assert_int_equal(git_commit_build(&in, &bytes, oid, &f->err), 0);
        assert_int_equal(git_commit_write(repo, files, 1, &bytes, &f->err), MLC_E_VERIFY);
        assert_true(git_path_allowed("files/a.git/b"));
        assert_false(git_path_allowed("files/.gitmodules"));
        assert_false(git_path_allowed("git~1"));
        assert_true(git_path_allowed(".gitattributes"));
        assert_false(git_path_allowed("files/.gitattributes"));
}

/* Three commits at once: nothing of them is there before the flush, all of it after. */
static void test_batch(void **state)
{
        struct fixture *f = *state;
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        char oid[GIT_OID_STR], first[GIT_OID_STR];
        struct git_commit_in in = commit_in(f, NULL);

        make_repo(f, first);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
        assert_int_equal(git_batch_begin(repo, &f->err), 0);
        assert_int_equal(sh(f, "find \"$R/objects\" -type f | sort >\"$D/before\""), 0);
        memcpy(oid, first, sizeof(oid));
        for (size_t i = 1; i <= 3; i++) {
                _cleanup_(mlc_str_done) struct mlc_str bytes;
                char parent[GIT_OID_STR];

                mlc_str_init(&bytes, GIT_COMMIT_MAX);
                memcpy(parent, oid, sizeof(parent));
                in.parent = parent;
                in.n_files = ARRAY_LEN(files) - i;
                assert_int_equal(git_commit_build(&in, &bytes, oid, &f->err), 0);
                assert_int_equal(git_commit_write(repo, files, in.n_files, &bytes, &f->err), 0);
        }
        assert_true(git_batch_size(repo) > 1000);
        assert_int_equal(sh(f, "find \"$R/objects\" -type f | sort | cmp - \"$D/before\""), 0);
        assert_int_equal(git_batch_flush(repo, &f->err), 0);
        assert_int_equal(git_batch_size(repo), 0);
        assert_int_equal(git_batch_flush(repo, &f->err), 0);
        assert_int_equal(git_ref_set(repo, "refs/heads/main", oid, first, &f->err), 0);
        assert_int_equal(sh(f, "test $(ls \"$R/objects/pack/\"*.pack | wc -l) = 1 && "
                               "git -C \"$R\" fsck --strict && "
                               "test \"$(git -C \"$R\" rev-list --count main)\" = 5 && "
                               "test \"$(git -C \"$R\" cat-file -p main:manifest.json)\" = {}"),
                         0);
        /* dropped with the handle, and written anew by the next one */
        git_repo_freep(&repo);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
        {
                _cleanup_(mlc_str_done) struct mlc_str bytes;
                char last[GIT_OID_STR];

                mlc_str_init(&bytes, GIT_COMMIT_MAX);
                in.parent = oid;
                in.message = "dropped\n";
                assert_int_equal(git_commit_build(&in, &bytes, last, &f->err), 0);
                assert_int_equal(git_batch_begin(repo, &f->err), 0);
                assert_int_equal(git_commit_write(repo, files, in.n_files, &bytes, &f->err), 0);
                git_repo_freep(&repo);
                bytes.len = 0;
                assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
                assert_int_equal(git_commit_read(repo, last, &bytes, &f->err), MLC_E_NOT_FOUND);
        }
}

/* A damaged pack is a finding, as a damaged loose object is. */
static void test_damaged_pack(void **state)
{
        struct fixture *f = *state;
        _cleanup_(git_repo_freep) struct git_repo *repo = NULL;
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        struct git_commit_in in = commit_in(f, NULL);
        struct git_commit_info info;
        char oid[GIT_OID_STR], script[512];

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        assert_int_equal(git_repo_open(f->repo, true, &repo, &f->err), 0);
        assert_int_equal(git_batch_begin(repo, &f->err), 0);
        assert_int_equal(git_commit_build(&in, &bytes, oid, &f->err), 0);
        assert_int_equal(git_commit_parse(bytes.data, bytes.len, &info, &f->err), 0);
        assert_int_equal(git_commit_write(repo, files, ARRAY_LEN(files), &bytes, &f->err), 0);
        assert_int_equal(git_batch_flush(repo, &f->err), 0);
        assert_int_equal(git_tree_check(repo, info.tree, &f->err), 0);
        git_repo_freep(&repo);
        /* the bytes of one object, found by the index */
        (void)snprintf(script, sizeof(script),
                       "p=$(ls \"$R/objects/pack/\"*.pack); b=$(git -C \"$R\" rev-parse "
                       "%s:manifest.json) && at=$(git -C \"$R\" show-index <\"${p%%.pack}.idx\" | "
                       "grep $b | cut -d' ' -f1) && chmod u+w \"$p\" && printf 'XXXX' | "
                       "dd of=\"$p\" bs=1 seek=$((at + 3)) conv=notrunc",
                       oid);
        assert_int_equal(sh(f, script), 0);
        assert_int_equal(git_repo_open(f->repo, false, &repo, &f->err), 0);
        assert_int_equal(git_tree_check(repo, info.tree, &f->err), MLC_E_VERIFY);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_stock_git_agrees, setup, teardown),
                cmocka_unit_test_setup_teardown(test_bytes_are_a_function_of_the_input, setup,
                                                teardown),
                cmocka_unit_test_setup_teardown(test_references, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damage_is_seen, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refuses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_batch, setup, teardown),
                cmocka_unit_test_setup_teardown(test_damaged_pack, setup, teardown),
        };
        struct mlc_err err = {0};

        assert_int_equal(git_setup(&err), 0);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
