/* SPDX-License-Identifier: Apache-2.0 */
#include "client/commit.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/hex.h"
#include "codec/utf8.h"
#include "crypto/hash.h"
#include "crypto/sshsig.h"

#define SIG_HEADER "gpgsig "
#define ATTRIBUTES                                                                                 \
        "files/** filter=lfs diff=lfs merge=lfs -text\n"                                           \
        "layers/** filter=lfs diff=lfs merge=lfs -text\n"
#define TREE_MAX ((size_t)32 << 20)
#define DEPTH_MAX 80

/* The commit */

/* Splits off the signature: what is signed goes to `rest`, the armour to `sig`. */
static void split_signature(const char *bytes, size_t len, struct mlc_str *rest,
                            struct mlc_str *sig)
{
        bool head = true, inside = false;

        for (size_t at = 0; at < len;) {
                const char *line = bytes + at, *lf = memchr(line, '\n', len - at);
                size_t n = lf != NULL ? (size_t)(lf - line) + 1 : len - at;

                at += n;
                if (head && n == 1)
                        head = false;
                if (head && !inside && n > strlen(SIG_HEADER) &&
                    memcmp(line, SIG_HEADER, strlen(SIG_HEADER)) == 0) {
                        inside = true;
                        mlc_str_addn(sig, line + strlen(SIG_HEADER), n - strlen(SIG_HEADER));
                } else if (head && inside && line[0] == ' ') {
                        mlc_str_addn(sig, line + 1, n - 1);
                } else {
                        inside = false;
                        mlc_str_addn(rest, line, n);
                }
        }
}

static int read_head(const char *bytes, size_t len, struct mlc_commit *ret, struct mlc_err *err)
{
        static const char tree[] = "tree ";
        unsigned char oid[MLC_GIT_OID_LEN];
        const char *body;

        if (len > MLC_COMMIT_MAX || memchr(bytes, '\0', len) != NULL)
                return mlc_fail(err, MLC_E_VERIFY, "the commit is no git commit");
        body = memmem(bytes, len, "\n\n", 2);
        if (body == NULL || len < sizeof(tree) + 40 || memcmp(bytes, tree, strlen(tree)) != 0 ||
            bytes[strlen(tree) + 40] != '\n')
                return mlc_fail(err, MLC_E_VERIFY, "the commit is no git commit");
        memcpy(ret->tree, bytes + strlen(tree), 40);
        ret->tree[40] = '\0';
        if (!mlc_hex_decode(ret->tree, oid, sizeof(oid)))
                return mlc_fail(err, MLC_E_VERIFY, "the commit names no tree");
        ret->message = body + 2;
        ret->message_len = len - (size_t)(body + 2 - bytes);
        mlc_git_hash("commit", bytes, len, oid);
        mlc_hex_encode(oid, sizeof(oid), ret->oid);
        return 0;
}

int mlc_commit_check(const char *bytes, size_t len, const struct mlc_vkeys *keys,
                     struct mlc_commit *ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str rest, sig;
        struct mlc_sshsig_message message = {.ns = MLC_SSHSIG_NS_GIT};
        struct mlc_sshsig_result result;
        struct mlc_commit c = {0};
        struct mlc_sshkey key;
        int r;

        mlc_str_init(&rest, MLC_COMMIT_MAX);
        mlc_str_init(&sig, MLC_SSHSIG_MAX);
        r = read_head(bytes, len, &c, err);
        if (r < 0)
                return r;
        split_signature(bytes, len, &rest, &sig);
        r = mlc_str_check(&sig, err);
        if (r < 0)
                return r;
        if (sig.len == 0)
                return mlc_fail(err, MLC_E_VERIFY, "commit '%s' is not signed", c.oid);
        message.data = mlc_str_cstr(&rest);
        message.len = rest.len;
        r = mlc_sshsig_verify(mlc_str_cstr(&sig), sig.len, &message, &result, err);
        if (r < 0) {
                (void)mlc_wrap(err, "the signature of commit '%s'", c.oid);
                err->code = MLC_E_VERIFY;
                return MLC_E_VERIFY;
        }
        for (c.key = 0; c.key < keys->n; c.key++) {
                mlc_sshkey_from_ed25519(keys->keys[c.key].pub, &key);
                if (mlc_sshkey_equal(&key, &result.key)) {
                        *ret = c;
                        return 0;
                }
        }
        return mlc_fail(err, MLC_E_VERIFY, "commit '%s' is signed by a key that is not the log's",
                        c.oid);
}

/* The tree */

struct entry {
        char *path;
        unsigned char oid[MLC_GIT_OID_LEN];
};

struct entries {
        struct entry *list;
        size_t n;
        const struct mlc_commit_sink *sink; /* may be NULL */
};

static void entries_done(struct entries *e)
{
        for (size_t i = 0; i < e->n; i++)
                free(e->list[i].path);
        free(e->list);
}

static int hand_over(const struct entries *e, const char *type, const void *data, size_t len,
                     struct mlc_err *err)
{
        return e->sink != NULL ? e->sink->object(e->sink->userdata, type, data, len, err) : 0;
}

static int add(struct entries *e, const char *path, const struct mlc_bytes *blob,
               struct mlc_err *err)
{
        e->list[e->n].path = strdup(path);
        if (e->list[e->n].path == NULL)
                abort();
        mlc_git_hash("blob", blob->data, blob->len, e->list[e->n].oid);
        e->n++;
        return hand_over(e, "blob", blob->data, blob->len, err);
}

/* git refuses to check out such paths, so the server names their pointers by digest. */
static bool git_allows(const char *path)
{
        for (const char *p = path; p != NULL; p = strchr(p, '/')) {
                p += *p == '/';
                if (strncasecmp(p, ".git", 4) == 0 || strncasecmp(p, "git~", 4) == 0)
                        return false;
        }
        return true;
}

static int add_pointer(struct entries *e, const struct mlc_descriptor *l, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str path, text;
        int r;

        mlc_str_init(&path, 8192);
        mlc_str_init(&text, 512);
        if (l->path != NULL && git_allows(l->path))
                mlc_str_addf(&path, "files/%s", l->path);
        else
                mlc_str_addf(&path, "layers/%s", l->digest + strlen("sha256:"));
        if (l->size > 0) /* an empty file is its own pointer */
                mlc_str_addf(&text,
                             "version https://git-lfs.github.com/spec/v1\noid %s\nsize %llu\n",
                             l->digest, (unsigned long long)l->size);
        r = mlc_str_check(&path, err);
        if (r < 0)
                return r;
        return add(e, mlc_str_cstr(&path), &(struct mlc_bytes){mlc_str_cstr(&text), text.len}, err);
}

static int by_path(const void *a, const void *b)
{
        return strcmp(((const struct entry *)a)->path, ((const struct entry *)b)->path);
}

/* Sorted; layers without a path may repeat a digest, and then count once. */
static void sort(struct entries *e)
{
        size_t n = 0;

        qsort(e->list, e->n, sizeof(*e->list), by_path);
        for (size_t i = 0; i < e->n; i++) {
                if (n > 0 && strcmp(e->list[n - 1].path, e->list[i].path) == 0)
                        free(e->list[i].path);
                else
                        e->list[n++] = e->list[i];
        }
        e->n = n;
}

struct subtree {
        const struct entries *e;
        size_t from, to; /* entries whose paths share their first `skip` bytes */
        size_t skip;
        unsigned depth;
};

/* Sorted by whole path, the entries of each tree stand in git's order. */
static int hash_tree(const struct subtree *t, unsigned char ret[MLC_GIT_OID_LEN],
                     struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str tree;
        int r;

        mlc_str_init(&tree, TREE_MAX);
        if (t->depth > DEPTH_MAX)
                return mlc_fail(err, MLC_E_LIMIT,
                                "the paths of the artifact are nested too deeply");
        for (size_t i = t->from, end; i < t->to; i = end) {
                const char *name = t->e->list[i].path + t->skip, *slash = strchr(name, '/');
                size_t len = slash != NULL ? (size_t)(slash - name) : strlen(name);
                struct subtree inner = {t->e, i, 0, t->skip + len + 1, t->depth + 1};
                unsigned char oid[MLC_GIT_OID_LEN];

                end = i + 1;
                memcpy(oid, t->e->list[i].oid, sizeof(oid));
                while (slash != NULL && end < t->to &&
                       strncmp(t->e->list[end].path, t->e->list[i].path, inner.skip) == 0)
                        end++;
                inner.to = end;
                r = slash != NULL ? hash_tree(&inner, oid, err) : 0;
                if (r < 0)
                        return r;
                mlc_str_addf(&tree, "%s %.*s", slash != NULL ? "40000" : "100644", (int)len, name);
                mlc_str_addc(&tree, '\0');
                mlc_str_addn(&tree, oid, sizeof(oid));
        }
        r = mlc_str_check(&tree, err);
        if (r < 0)
                return r;
        mlc_git_hash("tree", mlc_str_cstr(&tree), tree.len, ret);
        return hand_over(t->e, "tree", mlc_str_cstr(&tree), tree.len, err);
}

bool mlc_commit_card_counts(const struct mlc_bytes *card)
{
        return card->data != NULL && card->len <= MLC_COMMIT_CARD_MAX &&
               mlc_utf8_valid(card->data, card->len) && memchr(card->data, '\0', card->len) == NULL;
}

/* What stands beside the layers. */
static int add_own(struct entries *e, const struct mlc_bytes *manifest,
                   const struct mlc_manifest *parsed, const struct mlc_bytes *card,
                   struct mlc_err *err)
{
        const struct mlc_bytes attributes = {ATTRIBUTES, strlen(ATTRIBUTES)};
        _cleanup_(mlc_str_done) struct mlc_str lineage;
        int r;

        mlc_str_init(&lineage, (size_t)1 << 20);
        r = mlc_lineage_format(&parsed->lineage, &lineage, err);
        if (r == 0)
                r = add(e, ".gitattributes", &attributes, err);
        if (r == 0)
                r = add(e, "lineage.json", &(struct mlc_bytes){mlc_str_cstr(&lineage), lineage.len},
                        err);
        if (r == 0)
                r = add(e, "manifest.json", manifest, err);
        if (r == 0 && mlc_commit_card_counts(card))
                r = add(e, MLC_COMMIT_CARD, card, err);
        return r;
}

int mlc_commit_tree_write(const struct mlc_bytes *manifest, const struct mlc_manifest *parsed,
                          const struct mlc_bytes *card, const struct mlc_commit_sink *sink,
                          char ret[MLC_COMMIT_OID_STR], struct mlc_err *err)
{
        _cleanup_(entries_done) struct entries e = {.sink = sink};
        unsigned char oid[MLC_GIT_OID_LEN];
        struct subtree all = {.e = &e};
        int r;

        e.list = calloc(parsed->n_layers + 4, sizeof(*e.list));
        if (e.list == NULL)
                abort();
        r = add_own(&e, manifest, parsed, card, err);
        for (size_t i = 0; r == 0 && i < parsed->n_layers; i++)
                r = add_pointer(&e, &parsed->layers[i], err);
        if (r < 0)
                return r;
        sort(&e);
        all.to = e.n;
        r = hash_tree(&all, oid, err);
        if (r < 0)
                return r;
        mlc_hex_encode(oid, sizeof(oid), ret);
        return 0;
}

int mlc_commit_tree(const struct mlc_bytes *manifest, const struct mlc_manifest *parsed,
                    const struct mlc_bytes *card, char ret[MLC_COMMIT_OID_STR], struct mlc_err *err)
{
        return mlc_commit_tree_write(manifest, parsed, card, NULL, ret, err);
}
