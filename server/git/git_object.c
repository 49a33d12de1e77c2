/* SPDX-License-Identifier: Apache-2.0 */
#include "git/git_object.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "crypto/sshsig.h"

#define SIG_HEADER "gpgsig "

bool git_path_allowed(const char *path)
{
        const char *p = path;

        if (strcmp(path, ".gitattributes") == 0)
                return true;
        for (;;) {
                if (strncasecmp(p, ".git", 4) == 0 || strncasecmp(p, "git~", 4) == 0)
                        return false;
                p = strchr(p, '/');
                if (p == NULL)
                        return true;
                p++;
        }
}

void git_identity(const struct mlc_signer *signer, char ret[GIT_IDENTITY_STR])
{
        struct mlc_digest d;
        char hex[9];

        mlc_sha256(signer->pub, sizeof(signer->pub), &d);
        mlc_hex_encode(d.b, 4, hex);
        (void)snprintf(ret, GIT_IDENTITY_STR, "signer-%s", hex);
}

static int hash_object(void *userdata, git_object_t type, const void *data, size_t len,
                       git_oid *ret, struct mlc_err *err)
{
        (void)userdata;
        if (git_odb_hash(ret, data, len, type) < 0)
                return mlc_fail(err, MLC_E_INTERNAL, "cannot hash an object");
        return 0;
}

static int by_path(const void *a, const void *b)
{
        const struct git_file *const *fa = a, *const *fb = b;

        return strcmp((*fa)->path, (*fb)->path);
}

struct tree_job {
        const struct git_file *
                *files; /* sorted by path: then each tree's entries are in git's order */
        git_object_fn fn;
        void *userdata;
};

static void add_entry(struct mlc_str *tree, const char *mode, const char *name, size_t len,
                      const git_oid *oid)
{
        mlc_str_add(tree, mode);
        mlc_str_addc(tree, ' ');
        mlc_str_addn(tree, name, len);
        mlc_str_addc(tree, '\0');
        mlc_str_addn(tree, oid->id, sizeof(oid->id));
}

/* One tree of the files [from, to), whose paths share their first `skip` bytes. */
static int make_tree(const struct tree_job *job, size_t from, size_t to, size_t skip, git_oid *ret,
                     struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str tree;
        git_oid oid;
        int r;

        mlc_str_init(&tree, GIT_TREE_MAX);
        for (size_t i = from; i < to;) {
                const struct git_file *f = job->files[i];
                const char *name = f->path + skip;
                const char *slash = strchr(name, '/');
                size_t len, end = i + 1;

                if (slash == NULL) {
                        r = job->fn(job->userdata, GIT_OBJECT_BLOB, f->data, f->len, &oid, err);
                        if (r < 0)
                                return r;
                        add_entry(&tree, "100644", name, strlen(name), &oid);
                        i = end;
                        continue;
                }
                len = (size_t)(slash - name);
                while (end < to && strncmp(job->files[end]->path, f->path, skip + len + 1) == 0)
                        end++;
                r = make_tree(job, i, end, skip + len + 1, &oid, err);
                if (r < 0)
                        return r;
                add_entry(&tree, "40000", name, len, &oid);
                i = end;
        }
        r = mlc_str_check(&tree, err);
        if (r < 0)
                return r;
        return job->fn(job->userdata, GIT_OBJECT_TREE, mlc_str_cstr(&tree), tree.len, ret, err);
}

/* A file that is a directory of another one, or there twice. */
static int check_paths(const struct git_file **files, size_t n, struct mlc_err *err)
{
        for (size_t i = 0; i < n; i++) {
                const char *path = files[i]->path;
                unsigned depth = 0;

                if (!git_path_allowed(path))
                        return mlc_fail(err, MLC_E_INVALID, "git does not allow the path '%s'",
                                        path);
                if (i > 0 && strcmp(files[i - 1]->path, path) == 0)
                        return mlc_fail(err, MLC_E_INVALID, "path '%s' is there twice", path);
                for (const char *s = strchr(path, '/'); s != NULL; s = strchr(s + 1, '/')) {
                        _cleanup_(free_p) char *dir = strndup(path, (size_t)(s - path));
                        const struct git_file key = {.path = dir}, *kp = &key;

                        if (dir == NULL)
                                abort();
                        if (++depth >= GIT_TREE_DEPTH_MAX)
                                return mlc_fail(err, MLC_E_INVALID, "path '%s' is too deep", path);
                        if (bsearch(&kp, files, n, sizeof(*files), by_path) != NULL)
                                return mlc_fail(err, MLC_E_INVALID,
                                                "path '%s' is a file and a directory", dir);
                }
        }
        return 0;
}

int git_tree_make(const struct git_file *files, size_t n_files, git_object_fn fn, void *userdata,
                  char ret_oid[GIT_OID_STR], struct mlc_err *err)
{
        _cleanup_(free_p) const struct git_file **sorted = calloc(n_files + 1, sizeof(*sorted));
        struct tree_job job = {.fn = fn, .userdata = userdata};
        git_oid oid;
        int r;

        if (sorted == NULL)
                abort();
        for (size_t i = 0; i < n_files; i++)
                sorted[i] = &files[i];
        qsort(sorted, n_files, sizeof(*sorted), by_path);
        r = check_paths(sorted, n_files, err);
        if (r < 0)
                return r;
        job.files = sorted;
        r = make_tree(&job, 0, n_files, 0, &oid, err);
        if (r < 0)
                return r;
        git_oid_tostr(ret_oid, GIT_OID_STR, &oid);
        return 0;
}

int git_tree_oid(const struct git_file *files, size_t n_files, char ret_oid[GIT_OID_STR],
                 struct mlc_err *err)
{
        return git_tree_make(files, n_files, hash_object, NULL, ret_oid, err);
}

void git_commit_oid(const void *bytes, size_t len, char ret_oid[GIT_OID_STR])
{
        git_oid oid;
        int r;

        r = git_odb_hash(&oid, bytes, len, GIT_OBJECT_COMMIT);
        assert(r == 0);
        git_oid_tostr(ret_oid, GIT_OID_STR, &oid);
}

/* The signature as a header: its later lines begin with a space, the armour's final LF is left out.
 */
static void add_signature(struct mlc_str *ret, const char *armour)
{
        size_t len = strlen(armour);

        while (len > 0 && armour[len - 1] == '\n')
                len--;
        mlc_str_add(ret, SIG_HEADER);
        for (size_t i = 0; i < len; i++) {
                mlc_str_addc(ret, armour[i]);
                if (armour[i] == '\n')
                        mlc_str_addc(ret, ' ');
        }
        mlc_str_addc(ret, '\n');
}

int git_commit_build(const struct git_commit_in *in, struct mlc_str *ret_bytes,
                     char ret_oid[GIT_OID_STR], struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str head, payload, armour;
        char tree[GIT_OID_STR], who[GIT_IDENTITY_STR];
        size_t start = ret_bytes->len;
        int r;

        mlc_str_init(&head, GIT_COMMIT_MAX);
        mlc_str_init(&payload, GIT_COMMIT_MAX);
        mlc_str_init(&armour, MLC_SSHSIG_MAX);
        r = git_tree_oid(in->files, in->n_files, tree, err);
        if (r < 0)
                return r;
        git_identity(in->signer, who);
        mlc_str_addf(&head, "tree %s\n", tree);
        if (in->parent != NULL)
                mlc_str_addf(&head, "parent %s\n", in->parent);
        mlc_str_addf(&head, "author %s <%s@mlctl> %lld +0000\n", who, who, (long long)in->time_s);
        mlc_str_addf(&head, "committer %s <%s@mlctl> %lld +0000\n", who, who,
                     (long long)in->time_s);
        mlc_str_add(&payload, mlc_str_cstr(&head));
        mlc_str_addf(&payload, "\n%s", in->message);
        r = mlc_str_check(&payload, err);
        if (r < 0)
                return r;
        r = mlc_sshsig_sign(
                in->signer,
                &(struct mlc_sshsig_message){MLC_SSHSIG_NS_GIT, payload.data, payload.len}, &armour,
                err);
        if (r < 0)
                return r;
        mlc_str_add(ret_bytes, mlc_str_cstr(&head));
        add_signature(ret_bytes, mlc_str_cstr(&armour));
        mlc_str_addf(ret_bytes, "\n%s", in->message);
        r = mlc_str_check(ret_bytes, err);
        if (r < 0)
                return r;
        git_commit_oid(ret_bytes->data + start, ret_bytes->len - start, ret_oid);
        return 0;
}

/* The next header line [*p, *ret_len), or false at the blank line or the end. */
static bool next_line(const char **p, const char *end, size_t *ret_len)
{
        const char *nl = memchr(*p, '\n', (size_t)(end - *p));

        if (nl == NULL || nl == *p)
                return false;
        *ret_len = (size_t)(nl - *p);
        return true;
}

static bool take_oid(const char *line, size_t len, const char *key, char ret[GIT_OID_STR])
{
        size_t klen = strlen(key);
        unsigned char raw[20];

        if (len != klen + 40 || strncmp(line, key, klen) != 0)
                return false;
        memcpy(ret, line + klen, 40);
        ret[40] = '\0';
        return mlc_hex_decode(ret, raw, sizeof(raw));
}

int git_commit_parse(const void *bytes, size_t len, struct git_commit_info *ret,
                     struct mlc_err *err)
{
        const char *p = bytes, *end = p + len, *gt;
        struct git_commit_info info = {.tree = ""};
        bool committer = false;
        size_t n;

        while (next_line(&p, end, &n)) {
                if (info.tree[0] == '\0') {
                        if (!take_oid(p, n, "tree ", info.tree))
                                return mlc_fail(err, MLC_E_VERIFY,
                                                "the commit does not begin with its tree");
                } else if (strncmp(p, "parent ", 7) == 0) {
                        if (info.parent[0] != '\0' || !take_oid(p, n, "parent ", info.parent))
                                return mlc_fail(err, MLC_E_VERIFY,
                                                "the commit's parent is not valid");
                } else if (strncmp(p, "committer ", 10) == 0 && !committer) {
                        char *stop = NULL;

                        gt = memrchr(p, '>', n);
                        if (gt == NULL || gt[1] != ' ')
                                return mlc_fail(err, MLC_E_VERIFY,
                                                "the commit's committer is not valid");
                        info.time_s = strtoll(gt + 2, &stop, 10);
                        committer = stop != gt + 2;
                }
                p += n + 1;
        }
        if (!committer)
                return mlc_fail(err, MLC_E_VERIFY, "the commit has no committer");
        *ret = info;
        return 0;
}

int git_commit_verify(const void *bytes, size_t len, const unsigned char pub[MLC_ED25519_KEY_LEN],
                      struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str payload, armour;
        const char *p = bytes, *end = p + len;
        struct mlc_sshsig_result res;
        struct mlc_sshkey key;
        bool in_sig = false;
        size_t n;
        int r;

        mlc_str_init(&payload, GIT_COMMIT_MAX);
        mlc_str_init(&armour, MLC_SSHSIG_MAX);
        while (next_line(&p, end, &n)) {
                bool more = in_sig && p[0] == ' ';

                in_sig = more || strncmp(p, SIG_HEADER, strlen(SIG_HEADER)) == 0;
                if (in_sig) {
                        size_t skip = more ? 1 : strlen(SIG_HEADER);

                        mlc_str_addn(&armour, p + skip, n + 1 - skip);
                } else {
                        mlc_str_addn(&payload, p, n + 1);
                }
                p += n + 1;
        }
        mlc_str_addn(&payload, p, (size_t)(end - p));
        r = mlc_str_check(&payload, err);
        if (r < 0)
                return r;
        r = mlc_str_check(&armour, err);
        if (r < 0)
                return r;
        if (armour.len == 0)
                return mlc_fail(err, MLC_E_VERIFY, "the commit is not signed");
        r = mlc_sshsig_verify(armour.data, armour.len,
                              &(struct mlc_sshsig_message){MLC_SSHSIG_NS_GIT,
                                                           mlc_str_cstr(&payload), payload.len},
                              &res, err);
        if (r < 0)
                return r;
        mlc_sshkey_from_ed25519(pub, &key);
        if (!mlc_sshkey_equal(&res.key, &key))
                return mlc_fail(err, MLC_E_VERIFY, "the commit was signed by another key");
        return 0;
}
