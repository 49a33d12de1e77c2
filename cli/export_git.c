/* SPDX-License-Identifier: Apache-2.0 */
/* version.git of an export: a bare repository, written here, read by stock git. */
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "export.h"
#include "version_git.h"

#define ARENA_MAX ((size_t)64 << 20)
#define STORED_MAX 65535u /* bytes of one stored block (RFC 1951, 3.2.4) */

/* RFC 1950: what follows the compressed data. */
static uint32_t adler32(const unsigned char *p, size_t len)
{
        uint32_t a = 1, b = 0;

        for (size_t i = 0; i < len; i++) {
                a = (a + p[i]) % 65521;
                b = (b + a) % 65521;
        }
        return (b << 16) | a;
}

/* A zlib stream of stored blocks: nothing is compressed, and every zlib reads it. */
static void add_stored(struct mlc_str *out, const struct mlc_str *in)
{
        uint32_t sum = adler32((const unsigned char *)in->data, in->len);

        mlc_str_addn(out, "\x78\x01", 2);
        for (size_t at = 0; at < in->len;) {
                size_t n = in->len - at < STORED_MAX ? in->len - at : STORED_MAX;
                const unsigned char head[] = {at + n == in->len, (unsigned char)(n & 0xff),
                                              (unsigned char)(n >> 8), (unsigned char)(~n & 0xff),
                                              (unsigned char)((~n >> 8) & 0xff)};

                mlc_str_addn(out, head, sizeof(head));
                mlc_str_addn(out, in->data + at, n);
                at += n;
        }
        for (int shift = 24; shift >= 0; shift -= 8)
                mlc_str_addc(out, (char)(unsigned char)(sum >> shift));
}

/* A loose object (gitrepository-layout(5)). */
static int put_object(void *userdata, const char *type, const void *data, size_t len,
                      struct mlc_err *err)
{
        const struct version_git *g = userdata;
        _cleanup_(mlc_str_done) struct mlc_str plain;
        _cleanup_(mlc_str_done) struct mlc_str packed;
        unsigned char oid[MLC_GIT_OID_LEN];
        char hex[MLC_COMMIT_OID_STR], name[96];
        int r;

        mlc_str_init(&plain, len + 64);
        mlc_str_init(&packed, len + len / 1000 + 1024);
        mlc_git_hash(type, data, len, oid);
        mlc_hex_encode(oid, sizeof(oid), hex);
        mlc_str_addf(&plain, "%s %zu", type, len);
        mlc_str_addc(&plain, '\0');
        mlc_str_addn(&plain, data, len);
        add_stored(&packed, &plain);
        r = mlc_str_check(&packed, err);
        if (r < 0)
                return r;
        (void)snprintf(name, sizeof(name), "version.git/objects/%.2s/%s", hex, hex + 2);
        return g->put(g->userdata, name, packed.data, packed.len);
}

/* Everything but the objects. The parent of the commit is another version's: it is left out. */
static int put_frame(const struct version_git *g, const char *oid, bool has_parent)
{
        static const char config[] = "[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
        static const char head[] = "ref: refs/heads/main\n";
        char line[MLC_COMMIT_OID_STR + 1], tag[64];
        size_t n = (size_t)snprintf(line, sizeof(line), "%s\n", oid);
        int r;

        (void)snprintf(tag, sizeof(tag), "version.git/refs/tags/v%lld", g->number);
        r = g->put(g->userdata, "version.git/HEAD", head, strlen(head));
        if (r == 0)
                r = g->put(g->userdata, "version.git/config", config, strlen(config));
        if (r == 0)
                r = g->put(g->userdata, "version.git/refs/heads/main", line, n);
        if (r == 0)
                r = g->put(g->userdata, tag, line, n);
        if (r == 0 && has_parent)
                r = g->put(g->userdata, "version.git/shallow", line, n);
        return r;
}

int version_git_write(const struct version_git *g, struct mlc_commit *ret, struct mlc_err *err)
{
        const struct mlc_commit_sink sink = {put_object, (void *)(uintptr_t)g};
        _cleanup_(mlc_arena_done) struct mlc_arena arena;
        char tree[MLC_COMMIT_OID_STR];
        struct mlc_manifest parsed;
        int r;

        mlc_arena_init(&arena, ARENA_MAX);
        r = mlc_manifest_parse(g->manifest.data, g->manifest.len, NULL, &arena, &parsed, err);
        if (r == 0)
                r = mlc_commit_check(g->commit.data, g->commit.len, &g->keys, ret, err);
        if (r == 0)
                r = mlc_commit_tree_write(&g->manifest, &parsed, &g->card, &sink, tree, err);
        if (r < 0)
                return r;
        if (strcmp(tree, ret->tree) != 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "commit '%s' holds another manifest, card or lineage than the "
                                "version",
                                ret->oid);
        r = put_object((void *)(uintptr_t)g, "commit", g->commit.data, g->commit.len, err);
        return r < 0 ? r
                     : put_frame(g, ret->oid,
                                 memmem(g->commit.data, g->commit.len, "\nparent ", 8) != NULL);
}

/* Writing it */

static int get(struct export *e, const char *what, struct mlc_response *ret)
{
        char path[512];
        const struct mlc_request request = {.method = "GET", .path = path};

        (void)snprintf(path, sizeof(path), "/api/v1/models/%s/versions/%lld/%s",
                       json_string_value(json_object_get(e->version, "model")),
                       (long long)json_integer_value(json_object_get(e->version, "version")), what);
        return mlc_client_do(e->cli->client, &request, ret, &e->cli->err);
}

/* README.md is in the commit itself; a version may have none. */
static int get_card(struct export *e, const struct mlc_response *manifest, struct mlc_response *ret)
{
        _cleanup_(mlc_arena_done) struct mlc_arena arena;
        char path[512];
        const struct mlc_request request = {.method = "GET", .path = path};
        struct mlc_manifest m;
        int r;

        mlc_arena_init(&arena, ARENA_MAX);
        r = mlc_manifest_parse(mlc_str_cstr(&manifest->body), manifest->body.len, NULL, &arena, &m,
                               &e->cli->err);
        for (size_t i = 0; r == 0 && i < m.n_layers; i++) {
                const struct mlc_descriptor *l = &m.layers[i];

                if (l->path == NULL || strcmp(l->path, MLC_COMMIT_CARD) != 0 ||
                    l->size > MLC_COMMIT_CARD_MAX)
                        continue;
                (void)snprintf(path, sizeof(path), "/v2/%s/blobs/%s",
                               json_string_value(json_object_get(e->version, "model")), l->digest);
                return mlc_client_do(e->cli->client, &request, ret, &e->cli->err);
        }
        return r;
}

static int put(void *userdata, const char *name, const void *data, size_t len)
{
        return export_put(userdata, name, data, len);
}

static struct mlc_bytes body_of(const struct mlc_response *r)
{
        return (struct mlc_bytes){mlc_str_cstr(&r->body), r->body.len};
}

int export_repository(struct export *e)
{
        _cleanup_(mlc_response_done) struct mlc_response commit = {0};
        _cleanup_(mlc_response_done) struct mlc_response manifest = {0};
        _cleanup_(mlc_response_done) struct mlc_response card = {0};
        struct version_git g = {.keys = mlc_log_keys(&e->log), .put = put, .userdata = e};
        struct mlc_commit made;
        int r = get(e, "commit", &commit);

        if (r == 0)
                r = get(e, "manifest", &manifest);
        if (r == 0)
                r = get_card(e, &manifest, &card);
        if (r < 0)
                return r;
        g.commit = body_of(&commit);
        g.manifest = body_of(&manifest);
        if (card.status != 0)
                g.card = body_of(&card);
        g.number = (long long)json_integer_value(json_object_get(e->version, "version"));
        return version_git_write(&g, &made, &e->cli->err);
}
