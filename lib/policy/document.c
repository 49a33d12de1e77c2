/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/document.h"

#include <assert.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "base/str.h"
#include "codec/ref.h"
#include "codec/yaml.h"
#include "crypto/hash.h"
#include "policy/read.h"

static const struct {
        const char *name;
        pol_item *read;
} KINDS[] = {
        [MLC_ENVIRONMENT] = {"Environment", pol_read_environment},
        [MLC_POLICY] = {"Policy", pol_read_policy},
        [MLC_MODEL] = {"Model", pol_read_model},
        [MLC_GROUP] = {"Group", pol_read_group},
};

const char *mlc_document_kind_name(enum mlc_document_kind kind)
{
        assert((size_t)kind < ARRAY_LEN(KINDS));
        return KINDS[kind].name;
}

int mlc_document_kind_parse(const char *s, enum mlc_document_kind *ret, struct mlc_err *err)
{
        for (size_t i = 0; i < ARRAY_LEN(KINDS); i++)
                if (strcmp(KINDS[i].name, s) == 0) {
                        *ret = (enum mlc_document_kind)i;
                        return 0;
                }
        return mlc_fail(err, MLC_E_NOT_FOUND,
                        "there is no kind '%.60s' of document: Environment, Policy, Model, Group",
                        s);
}

int pol_read_group(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"apiVersion", "kind", "name", "members", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_text(in, "name", pol_name, err);
        if (r == 0)
                r = pol_need(in, "members", err);
        if (r == 0)
                r = pol_texts(in, "members", pol_member, 500, err);
        return r;
}

static int kind_of(const struct pol_in *in, enum mlc_document_kind *ret, struct mlc_err *err)
{
        const char *version = json_string_value(json_object_get(in->obj, "apiVersion"));
        const char *kind = json_string_value(json_object_get(in->obj, "kind"));
        struct mlc_err why = {0};

        if (!json_is_object(in->obj))
                return pol_fail(in, NULL, err,
                                "a document begins with apiVersion, kind and name (key: value)");
        if (version == NULL || strcmp(version, "mlctl/v1") != 0)
                return pol_has(in, "apiVersion")
                               ? pol_fail(in, "apiVersion", err, "must be mlctl/v1")
                               : pol_fail(in, NULL, err,
                                          "key 'apiVersion' is missing: apiVersion: mlctl/v1");
        if (kind != NULL && strcmp(kind, "Namespace") == 0)
                return mlc_fail_field(err, MLC_E_NOT_SUPPORTED, "/kind",
                                      "kind Namespace is not supported yet");
        if (kind == NULL)
                return pol_has(in, "kind") ? pol_fail(in, "kind", err, "text is expected")
                                           : pol_need(in, "kind", err);
        if (mlc_document_kind_parse(kind, ret, &why) < 0)
                return pol_fail(in, "kind", err, "%s", why.msg);
        return pol_need(in, "name", err);
}

static int normalise(const json_t *doc, enum mlc_document_kind *ret_kind, json_t **ret,
                     struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *out = json_object();
        struct pol_in in = {doc, "", out};
        enum mlc_document_kind kind;
        int r = kind_of(&in, &kind, err);

        if (r < 0)
                return r;
        json_object_set_new(out, "apiVersion", json_string("mlctl/v1"));
        json_object_set_new(out, "kind", json_string(KINDS[kind].name));
        r = KINDS[kind].read(&in, err);
        if (r < 0)
                return r;
        *ret_kind = kind;
        *ret = TAKE_PTR(out);
        return 0;
}

int mlc_document_normalise(const json_t *doc, json_t **ret, struct mlc_err *err)
{
        enum mlc_document_kind kind;

        return normalise(doc, &kind, ret, err);
}

/* The same error, with its place in the text. */
static int placed(const struct mlc_yaml_doc *doc, struct mlc_err *err)
{
        struct mlc_yaml_pos at = mlc_yaml_at(doc, err->field);

        return mlc_wrap(err, "line %u, column %u", at.line, at.column);
}

static int read_one(const struct mlc_yaml_doc *doc, struct mlc_map *names, struct mlc_document *ret,
                    struct mlc_err *err)
{
        char id[MLC_DOCUMENT_NAME_MAX + 32];
        struct mlc_err own = {0};
        int r = normalise(doc->json, &ret->kind, &ret->json, &own);

        if (r == 0) {
                ret->name = json_string_value(json_object_get(ret->json, "name"));
                (void)snprintf(id, sizeof(id), "%s/%s", KINDS[ret->kind].name, ret->name);
                if (mlc_map_set(names, id, ret) != NULL)
                        r = mlc_fail_field(&own, MLC_E_INVALID, "/name",
                                           "%s stands in this text twice", id);
        }
        if (r == 0)
                r = mlc_sha256_json(ret->json, &ret->digest, &own);
        if (r == 0)
                return 0;
        r = placed(doc, &own);
        if (err != NULL && err->code == 0)
                *err = own;
        return r;
}

int mlc_documents_parse(const char *text, size_t len, struct mlc_arena *a,
                        struct mlc_documents *ret, struct mlc_err *err)
{
        _cleanup_(mlc_documents_done) struct mlc_documents got = {0};
        _cleanup_(mlc_yaml_done) struct mlc_yaml yaml = {0};
        _cleanup_(pol_map_done) struct mlc_map names = {0};
        int r = mlc_yaml_parse(text, len, a, &yaml, err);

        if (r < 0)
                return r;
        got.items = mlc_arena_array(a, yaml.n_docs, sizeof(*got.items), err);
        if (got.items == NULL)
                return MLC_E_LIMIT;
        for (; got.n < yaml.n_docs; got.n++) {
                struct mlc_document d = {.source = text + yaml.docs[got.n].start,
                                         .source_len =
                                                 yaml.docs[got.n].end - yaml.docs[got.n].start};

                r = read_one(&yaml.docs[got.n], &names, &d, err);
                if (r < 0) {
                        json_decref(d.json);
                        return r;
                }
                got.items[got.n] = d;
        }
        *ret = got;
        got = (struct mlc_documents){0};
        return 0;
}

void mlc_documents_done(struct mlc_documents *d)
{
        for (size_t i = 0; i < d->n; i++)
                json_decref(d->items[i].json);
        *d = (struct mlc_documents){0};
}
