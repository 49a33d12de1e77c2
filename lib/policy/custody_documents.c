/* SPDX-License-Identifier: Apache-2.0 */
/* Documents as leaves have them, those that owners stand behind, and the founding. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/base64.h"
#include "crypto/hash.h"
#include "policy/custody_internal.h"
#include "policy/document.h"

bool custody_has(const json_t *list, const char *text)
{
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (mlc_streq(json_string_value(v), text))
                        return true;
        return false;
}

static const struct custody_document *accepted(const struct custody_env *e, const char *kind,
                                               const char *name)
{
        char key[MLC_DOCUMENT_NAME_MAX + 32];

        (void)snprintf(key, sizeof(key), "%s/%s", kind, name);
        return mlc_map_get(&e->documents, key);
}

const json_t *custody_document(const struct custody_env *e, const char *kind, const char *name)
{
        const struct custody_document *d = name != NULL ? accepted(e, kind, name) : NULL;

        return d != NULL ? d->json : NULL;
}

const json_t *custody_environment(const struct custody_env *e)
{
        return custody_document(e, "Environment", e->name);
}

const json_t *custody_policy(const struct custody_env *e)
{
        return custody_document(
                e, "Policy", json_string_value(json_object_get(custody_environment(e), "policy")));
}

bool custody_protected(const struct custody_env *e)
{
        return e->founded &&
               json_integer_value(json_object_get(custody_environment(e), "threshold")) > 0;
}

bool custody_rules_name(const struct custody_env *e, const char *subject)
{
        const json_t *rule;
        size_t i;

        json_array_foreach (json_object_get(custody_policy(e), "approvals"), i, rule)
                if (custody_has(json_object_get(rule, "from"), subject))
                        return true;
        return false;
}

static bool any_holds(struct mlc_custody *c, const struct custody_env *e, const json_t *list,
                      const char *user)
{
        const json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (json_is_string(v) && custody_holds(c, e, user, json_string_value(v), NULL))
                        return true;
        return false;
}

bool custody_owner(struct mlc_custody *c, const struct custody_env *e, const char *user)
{
        return any_holds(c, e, json_object_get(custody_environment(e), "owners"), user);
}

bool custody_stands(struct mlc_custody *c, const struct custody_env *e, const char *user)
{
        const json_t *rule;
        size_t i;

        if (custody_owner(c, e, user))
                return true;
        json_array_foreach (json_object_get(custody_policy(e), "approvals"), i, rule)
                if (any_holds(c, e, json_object_get(rule, "from"), user))
                        return true;
        return false;
}

/* --- a new version of a document --- */

/* A group's members stand in the leaf's state; its digest must be theirs. */
static json_t *group_of(const struct mlc_leaf *leaf)
{
        return json_pack("{s:s, s:s, s:s, s:O}", "apiVersion", "mlctl/v1", "kind", "Group", "name",
                         custody_member(leaf->state, "name"), "members",
                         json_object_get(leaf->state, "members"));
}

/* What the leaf holds of the document, when that has the digest that the leaf says; or NULL. */
static json_t *held(const struct mlc_leaf *leaf, const char *digest)
{
        json_t *given = json_object_get(leaf->detail, "document");
        _cleanup_(json_decref_p) json_t *doc = NULL;
        char text[MLC_DIGEST_STR];
        struct mlc_err none = {0};
        struct mlc_digest d;

        if (given == NULL && mlc_streq(custody_member(leaf->state, "kind"), "Group"))
                doc = group_of(leaf);
        else if (given != NULL)
                doc = json_incref(given);
        if (doc == NULL || mlc_sha256_json(doc, &d, &none) < 0)
                return NULL;
        mlc_digest_format(&d, text);
        if (!mlc_streq(text, digest) ||
            !mlc_streq(custody_member(doc, "kind"), custody_member(leaf->state, "kind")) ||
            !mlc_streq(custody_member(doc, "name"), custody_member(leaf->state, "name")))
                return NULL;
        return TAKE_PTR(doc);
}

static void keep(struct mlc_map *map, const char *key, struct custody_document *d)
{
        struct custody_document *old = mlc_map_set(map, key, d);

        if (old != NULL) {
                json_decref(old->json);
                old->json = NULL;
        }
}

static void accept(struct mlc_custody *c, struct custody_env *e, const char *key,
                   const struct custody_document *d)
{
        struct custody_document *mine = custody_alloc(c, sizeof(*mine));

        *mine = *d;
        json_incref(mine->json);
        keep(&e->documents, key, mine);
}

static bool concerns(const struct custody_env *e, const struct custody_document *d)
{
        const json_t *environment = custody_environment(e);
        char subject[MLC_DOCUMENT_NAME_MAX + 16];

        if (!custody_protected(e))
                return false;
        if (mlc_streq(d->kind, "Environment"))
                return mlc_streq(d->name, e->name);
        if (mlc_streq(d->kind, "Policy"))
                return mlc_streq(json_string_value(json_object_get(environment, "policy")),
                                 d->name);
        (void)snprintf(subject, sizeof(subject), "group:%s", d->name);
        return mlc_streq(d->kind, "Group") &&
               (custody_has(json_object_get(environment, "owners"), subject) ||
                custody_rules_name(e, subject));
}

static void note_refused(struct mlc_custody *c, struct custody_env *e, const char *key)
{
        char text[MLC_DOCUMENT_NAME_MAX + 64];

        (void)snprintf(text, sizeof(text), "%s of leaf %llu", key, (unsigned long long)c->index);
        e->last = custody_text(c, text);
}

static void put(struct mlc_custody *c, const char *key, const struct custody_document *d,
                const char *before)
{
        const struct custody_want want = {.document = key,
                                          .before = before,
                                          .after = d->digest[0] != '\0' ? d->digest : NULL};
        uint64_t mask = 0, refused, since;

        for (size_t i = 0; i < c->n_envs; i++)
                if (concerns(&c->envs[i], d))
                        mask |= UINT64_C(1) << i;
        refused = custody_refused(c, mask, &want, &since);
        for (size_t i = 0; i < c->n_envs; i++) {
                struct custody_env *e = &c->envs[i];

                if ((refused & UINT64_C(1) << i) != 0) {
                        note_refused(c, e, key);
                } else if ((mask & UINT64_C(1) << i) != 0) {
                        custody_before_change(c, e);
                        accept(c, e, key, d);
                        custody_after_change(c, e, since);
                } else {
                        accept(c, e, key, d);
                }
        }
}

static int read_document(struct mlc_custody *c, const struct mlc_leaf *leaf,
                         struct custody_document *ret, struct mlc_err *err)
{
        const char *slash = strchr(leaf->id, '/');
        const char *digest = custody_member(leaf->state, "digest");
        char kind[32];

        if (slash == NULL || (size_t)(slash - leaf->id) >= sizeof(kind) ||
            strlen(slash + 1) > MLC_DOCUMENT_NAME_MAX)
                return mlc_fail(err, MLC_E_VERIFY, "'%s' is no document", leaf->id);
        (void)snprintf(kind, sizeof(kind), "%.*s", (int)(slash - leaf->id), leaf->id);
        if (leaf->state != NULL && (!mlc_streq(custody_member(leaf->state, "kind"), kind) ||
                                    !mlc_streq(custody_member(leaf->state, "name"), slash + 1) ||
                                    strlen(digest) != MLC_DIGEST_STR - 1))
                return mlc_fail(err, MLC_E_VERIFY, "the leaf of document '%s' is of another",
                                leaf->id);
        *ret = (struct custody_document){.kind = custody_text(c, kind),
                                         .name = custody_text(c, slash + 1),
                                         .index = c->index};
        if (leaf->state != NULL) {
                (void)snprintf(ret->digest, sizeof(ret->digest), "%s", digest);
                ret->json = held(leaf, digest);
        }
        return 0;
}

/* --- the founding --- */

static bool key_given(const struct custody_env *e, const char *public)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        bool same = false;

        mlc_str_init(&text, (size_t)2 * MLC_SSHKEY_BLOB_MAX);
        for (size_t i = 0; !same && i < e->n_keys; i++) {
                mlc_str_reset(&text);
                mlc_base64_encode(MLC_BASE64_STD, e->keys[i].blob, e->keys[i].len, &text);
                same = mlc_streq(mlc_str_cstr(&text), public);
        }
        return same;
}

/* Adds the person's keys to *ret; false when one of them is not in the trust file. */
static bool keys_given(const struct custody_env *e, const struct custody_user *u, size_t *ret)
{
        for (const struct custody_key *k = u->keys; k != NULL; k = k->next) {
                if (k->off.set)
                        continue;
                if (!key_given(e, k->public))
                        return false;
                ++*ret;
        }
        return true;
}

/* The keys of its owners, by the leaves so far, are those of the trust file: each once (a key is
 * one person's), so counting them is enough. */
static bool owners_given(struct mlc_custody *c, const struct custody_env *e)
{
        const char *id;
        size_t pos = 0, n = 0;
        void *v;

        while (mlc_map_next(&c->users, &pos, &id, &v)) {
                const struct custody_user *u = v;

                if (u->known && !u->service && u->active && custody_owner(c, e, id) &&
                    !keys_given(e, u, &n))
                        return false;
        }
        return n == e->n_keys && n > 0;
}

/* The same set, as the leaf itself names it. */
static bool leaf_names(const struct custody_env *e, const struct mlc_leaf *leaf)
{
        const json_t *owner, *key;
        size_t i, k, n = 0;

        json_array_foreach (json_object_get(leaf->detail, "owners"), i, owner)
                json_array_foreach (json_object_get(owner, "keys"), k, key) {
                        if (!json_is_string(key) || !key_given(e, json_string_value(key)))
                                return false;
                        n++;
                }
        return n == e->n_keys && json_integer_value(json_object_get(leaf->detail, "threshold")) ==
                                         (json_int_t)e->threshold;
}

static void found(struct mlc_custody *c, struct custody_env *e, const struct mlc_leaf *leaf)
{
        const json_t *environment = custody_environment(e);

        if (e->founded)
                return;
        if (leaf_names(e, leaf) && owners_given(c, e) &&
            json_integer_value(json_object_get(environment, "threshold")) ==
                    (json_int_t)e->threshold) {
                e->founded = true;
                custody_live_founded(c, e);
                return;
        }
        if (!e->other) {
                e->other = true;
                e->other_index = c->index;
        }
}

int custody_document_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const struct custody_document *old = mlc_map_get(&c->documents, leaf->id);
        char before[MLC_DIGEST_STR] = "";
        struct custody_document d;
        int r = read_document(c, leaf, &d, err);

        if (r < 0)
                return r;
        if (old != NULL)
                (void)snprintf(before, sizeof(before), "%s", old->digest);
        if (old == NULL || !mlc_streq(before, d.digest)) {
                struct custody_document *now = custody_alloc(c, sizeof(*now));

                put(c, leaf->id, &d, before[0] != '\0' ? before : NULL);
                *now = d;
                keep(&c->documents, leaf->id, now);
        } else {
                json_decref(d.json);
        }
        if (mlc_streq(leaf->action, "environment.protect") && mlc_streq(d.kind, "Environment"))
                for (size_t i = 0; i < c->n_envs; i++)
                        if (mlc_streq(c->envs[i].name, d.name))
                                found(c, &c->envs[i], leaf);
        return 0;
}
