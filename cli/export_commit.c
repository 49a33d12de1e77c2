/* SPDX-License-Identifier: Apache-2.0 */
/* version.git of an export: made again from its own commit, manifest and card, and compared. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "export_verify.h"
#include "version_git.h"

/* The content of stored blocks (RFC 1951, 3.2.4), as far as it goes: it is compared afterwards. */
static void unpack(const unsigned char *p, size_t len, struct mlc_str *ret)
{
        for (size_t at = 2; at + 5 <= len;) {
                size_t n = (size_t)p[at + 1] | (size_t)p[at + 2] << 8;
                bool last = p[at] == 1;

                at += 5;
                if (p[at - 5] > 1 || n > len - at)
                        return;
                mlc_str_addn(ret, p + at, n);
                at += n;
                if (last)
                        return;
        }
}

/* The content of an object, without "TYPE LEN NUL". */
static int read_object(struct verifying *v, const char *oid, struct mlc_str *ret)
{
        _cleanup_(mlc_str_done) struct mlc_str whole;
        _cleanup_(free_p) char *packed = NULL;
        char name[96];
        const char *nul;
        size_t len;
        int r;

        (void)snprintf(name, sizeof(name), "version.git/objects/%.2s/%.38s", oid, oid + 2);
        mlc_str_init(&whole, EXPORT_FILE_MAX);
        r = export_slurp(v, name, &packed, &len);
        if (r < 0)
                return r;
        unpack((const unsigned char *)packed, len, &whole);
        nul = whole.len > 0 ? memchr(whole.data, '\0', whole.len) : NULL;
        if (nul == NULL)
                return export_wrong(v, name, "it is no object as exports have them");
        mlc_str_init(ret, len + 1);
        mlc_str_addn(ret, nul + 1, whole.len - (size_t)(nul + 1 - whole.data));
        return mlc_str_check(ret, &v->cli->err);
}

/* The object that a tree names so; *ret empty when it does not. */
static int read_entry(struct verifying *v, const struct mlc_str *tree, const char *name,
                      struct mlc_str *ret)
{
        const char *p = tree->data, *end = p + tree->len;

        while (p < end) {
                const char *space = memchr(p, ' ', (size_t)(end - p));
                const char *nul = space != NULL ? memchr(space, '\0', (size_t)(end - space)) : NULL;
                char oid[MLC_COMMIT_OID_STR];

                if (nul == NULL || end - nul < 1 + MLC_GIT_OID_LEN)
                        break;
                if (strcmp(space + 1, name) == 0) {
                        mlc_hex_encode((const unsigned char *)nul + 1, MLC_GIT_OID_LEN, oid);
                        return read_object(v, oid, ret);
                }
                p = nul + 1 + MLC_GIT_OID_LEN;
        }
        return 0;
}

static int compare(void *userdata, const char *name, const void *data, size_t len)
{
        struct verifying *v = userdata;
        _cleanup_(free_p) char *have = NULL;
        size_t have_len;
        int r = export_slurp(v, name, &have, &have_len);

        if (r < 0)
                return r;
        return have_len == len && memcmp(have, data, len) == 0
                       ? 0
                       : export_wrong(v, name, "it is not what version and commit make of it");
}

struct parts {
        struct mlc_str commit, tree, manifest, card;
};

static void parts_done(struct parts *p)
{
        mlc_str_done(&p->commit);
        mlc_str_done(&p->tree);
        mlc_str_done(&p->manifest);
        mlc_str_done(&p->card);
}

static int read_parts(struct verifying *v, const char *oid, struct parts *ret)
{
        char tree[MLC_COMMIT_OID_STR];
        int r = read_object(v, oid, &ret->commit);

        if (r < 0)
                return r;
        if (!mlc_starts_with(mlc_str_cstr(&ret->commit), "tree ") ||
            strspn(ret->commit.data + strlen("tree "), "0123456789abcdef") != sizeof(tree) - 1)
                return export_wrong(v, "version.git", "what its branch names is no commit");
        (void)snprintf(tree, sizeof(tree), "%s", ret->commit.data + strlen("tree "));
        r = read_object(v, tree, &ret->tree);
        if (r == 0)
                r = read_entry(v, &ret->tree, "manifest.json", &ret->manifest);
        return r < 0 ? r : read_entry(v, &ret->tree, MLC_COMMIT_CARD, &ret->card);
}

static int check_manifest(struct verifying *v, const struct parts *p)
{
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;

        if (p->manifest.data == NULL)
                return export_wrong(v, "version.git", "its commit has no manifest");
        mlc_sha256(p->manifest.data, p->manifest.len, &d);
        mlc_digest_format(&d, text);
        return strcmp(text, v->artifact) == 0
                       ? 0
                       : export_wrong(v, "version.git", "the manifest is another version's");
}

int export_check_commit(struct verifying *v)
{
        const char *oid = export_text(v->version->state, "commit");
        _cleanup_(parts_done) struct parts p = {0};
        struct version_git g = {.put = compare, .userdata = v, .keys = {&v->key, 1}};
        struct mlc_commit commit;
        int r;

        if (strlen(oid) != MLC_COMMIT_OID_STR - 1)
                return export_wrong(v, "proofs/version", "the version has no commit");
        r = read_parts(v, oid, &p);
        if (r == 0)
                r = check_manifest(v, &p);
        if (r < 0)
                return r;
        g.commit = (struct mlc_bytes){mlc_str_cstr(&p.commit), p.commit.len};
        g.manifest = (struct mlc_bytes){mlc_str_cstr(&p.manifest), p.manifest.len};
        if (p.card.data != NULL)
                g.card = (struct mlc_bytes){mlc_str_cstr(&p.card), p.card.len};
        g.number = (long long)json_integer_value(json_object_get(v->version->state, "version"));
        r = version_git_write(&g, &commit, &v->cli->err);
        if (r == 0 && strcmp(commit.oid, oid) != 0)
                return export_wrong(v, "version.git", "the log has another commit of the version");
        return r < 0 ? mlc_wrap(&v->cli->err, "'version.git'") : 0;
}
