/* SPDX-License-Identifier: Apache-2.0 */
/* proofs/ of an export. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/merkle.h"
#include "export_verify.h"
#include "tlog/proof.h"

static const char *base_of(const char *name)
{
        const char *slash = strrchr(name, '/');

        return slash != NULL ? slash + 1 : name;
}

/* A file is named for what its entry is about. */
static int check_name(struct verifying *v, const char *name, const struct mlc_leaf *leaf)
{
        const char *base = base_of(name);
        size_t n = strlen(leaf->kind);
        bool fits = strcmp(leaf->kind, "version") == 0 ? strcmp(base, "version") == 0
                    : strcmp(leaf->kind, "approval") == 0
                            ? strcmp(base, leaf->id) == 0
                            : strncmp(base, leaf->kind, n) == 0 && base[n] == '-';

        return fits ? 0 : export_wrong(v, name, "it is the entry of something else");
}

static int take(struct verifying *v, const char *name, uint64_t index, const char *bytes,
                size_t len)
{
        struct proven *p;
        struct mlc_leaf leaf = {0};
        int r = mlc_leaf_parse(bytes, len, &leaf, &v->cli->err);

        if (r < 0)
                return mlc_wrap(&v->cli->err, "'%s'", name);
        if (v->n_proven == EXPORT_LEAVES_MAX || strcmp(leaf.origin, v->key.name) != 0) {
                mlc_leaf_done(&leaf);
                return export_wrong(v, name, "it is the entry of another log");
        }
        p = &v->proven[v->n_proven++];
        (void)snprintf(p->name, sizeof(p->name), "%s", name);
        p->index = index;
        p->leaf = leaf;
        return check_name(v, name, &leaf);
}

static int load(struct verifying *v, const char *name)
{
        const struct mlc_vkeys keys = {&v->key, 1};
        _cleanup_(free_p) char *text = NULL, *bytes = NULL;
        struct mlc_tlog_proof proof;
        struct mlc_digest hash;
        char file[160];
        size_t text_len, len;
        int r;

        (void)snprintf(file, sizeof(file), "%s.tlog-proof", name);
        r = export_slurp(v, file, &text, &text_len);
        (void)snprintf(file, sizeof(file), "%s.leaf", name);
        if (r == 0)
                r = export_slurp(v, file, &bytes, &len);
        if (r == 0)
                r = mlc_tlog_proof_parse(text, text_len, &proof, &v->cli->err);
        if (r == 0) {
                mlc_merkle_leaf(bytes, len, &hash);
                r = mlc_tlog_proof_verify(&proof, &hash, &keys, NULL, &v->cli->err);
        }
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'%s'", name);
        return take(v, name, proof.index, bytes, len);
}

/* A leaf without its proof proves nothing. */
static int has_proof(struct verifying *v, const char *name)
{
        for (size_t i = 0; i < v->n_proven; i++)
                if (strcmp(v->proven[i].name, name) == 0)
                        return 0;
        return export_wrong(v, name, "the entry has no proof");
}

static int by_index(const void *a, const void *b)
{
        const struct proven *one = a, *two = b;

        return (one->index > two->index) - (one->index < two->index);
}

const struct mlc_leaf *export_entry(const struct verifying *v, const char *kind, const char *id,
                                    uint64_t below)
{
        const struct mlc_leaf *newest = NULL;

        for (size_t i = 0; i < v->n_proven && v->proven[i].index < below; i++)
                if (strcmp(v->proven[i].leaf.kind, kind) == 0 &&
                    (id == NULL || strcmp(v->proven[i].leaf.id, id) == 0))
                        newest = &v->proven[i].leaf;
        return newest;
}

int export_load_proofs(struct verifying *v)
{
        const char *promotion = NULL;
        int r;

        v->proven = calloc(EXPORT_LEAVES_MAX, sizeof(*v->proven));
        if (v->proven == NULL)
                abort();
        r = export_each(v, "proofs", ".tlog-proof", load);
        if (r == 0)
                r = export_each(v, "proofs", ".leaf", has_proof);
        if (r < 0)
                return r;
        qsort(v->proven, v->n_proven, sizeof(*v->proven), by_index);
        v->version = export_entry(v, "version", NULL, UINT64_MAX);
        v->promotion = export_entry(v, "promotion", NULL, UINT64_MAX);
        if (v->version == NULL || v->version->state == NULL)
                return export_wrong(v, "proofs/version", "the version has no entry");
        if (v->promotion == NULL || v->promotion->state == NULL)
                return export_wrong(v, "proofs", "the promotion has no entry");
        promotion = v->promotion->id;
        for (size_t i = 0; i < v->n_proven; i++)
                if (strcmp(v->proven[i].leaf.kind, "promotion") == 0 &&
                    strcmp(v->proven[i].leaf.id, promotion) != 0)
                        return export_wrong(v, v->proven[i].name,
                                            "it is the entry of another promotion");
        v->artifact = export_text(v->version->state, "digest");
        return 0;
}
