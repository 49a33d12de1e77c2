/* SPDX-License-Identifier: Apache-2.0 */
/* Users, roles and keys as leaves have them, and which of those owners stand behind. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "crypto/hash.h"
#include "policy/custody_internal.h"

#define USER_KEYS_MAX 1000

struct custody_user *custody_user(struct mlc_custody *c, const char *id)
{
        struct custody_user *u = mlc_map_get(&c->users, id);

        if (u != NULL)
                return u;
        u = custody_alloc(c, sizeof(*u));
        u->id = custody_text(c, id);
        (void)mlc_map_set(&c->users, id, u);
        return u;
}

void custody_user_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        struct custody_user *u = custody_user(c, leaf->id);
        bool active = mlc_streq(custody_member(leaf->state, "status"), "active");

        /* what somebody is does not change: who says so later cannot turn a service into a person
         * or take it from its owner */
        if (!u->known && leaf->state != NULL) {
                u->known = true;
                u->service = !mlc_streq(custody_member(leaf->state, "kind"), "person");
                u->owner =
                        custody_text(c, json_string_value(json_object_get(leaf->state, "owner")));
        }
        if (active)
                u->off = (struct custody_end){0};
        else
                custody_take(c, &u->off);
        u->active = active;
}

bool custody_person(struct mlc_custody *c, const char *user)
{
        const struct custody_user *u = mlc_map_get(&c->users, user);

        return u != NULL && u->known && !u->service && (u->active || !custody_over(c, &u->off));
}

/* --- digests that owners sign --- */

static int digest_text(const json_t *j, char ret[MLC_DIGEST_STR], struct mlc_err *err)
{
        struct mlc_digest d;
        int r;

        if (j == NULL)
                return mlc_fail(err, MLC_E_INVALID, "a member is missing");
        r = mlc_sha256_json(j, &d, err);
        if (r == 0)
                mlc_digest_format(&d, ret);
        return r;
}

static int by_bytes(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int mlc_custody_role_digest(const json_t *state, const char *const *keys, size_t n,
                            char ret[MLC_DIGEST_STR], struct mlc_err *err)
{
        _cleanup_(free_p) const char **sorted = calloc(n + 1, sizeof(*sorted));
        _cleanup_(json_decref_p) json_t *list = json_array(), *signed_form = NULL;

        if (sorted == NULL)
                abort();
        for (size_t i = 0; i < n; i++)
                sorted[i] = keys[i];
        qsort(sorted, n, sizeof(*sorted), by_bytes);
        for (size_t i = 0; i < n; i++)
                json_array_append_new(list, json_string(sorted[i]));
        signed_form =
                json_pack("{s:s, s:s, s:s, s:s, s:O}", "kind", "Role", "user",
                          custody_member(state, "user"), "role", custody_member(state, "role"),
                          "namespace", custody_member(state, "namespace"), "keys", list);
        return digest_text(signed_form, ret, err);
}

int mlc_custody_key_digest(const json_t *state, char ret[MLC_DIGEST_STR], struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *signed_form = json_pack(
                "{s:s, s:s, s:s, s:s}", "kind", "Key", "user", custody_member(state, "user"),
                "type", custody_member(state, "type"), "public", custody_member(state, "public"));

        return digest_text(signed_form, ret, err);
}

/* --- roles --- */

static uint64_t all_bits(const struct mlc_custody *c)
{
        return c->n_envs == 64 ? UINT64_MAX : (UINT64_C(1) << c->n_envs) - 1;
}

/* The environments in which the person or the role (may be NULL) decides something. */
static uint64_t concerned(struct mlc_custody *c, const char *user, const char *role)
{
        char subject[128];
        uint64_t mask = 0;

        (void)snprintf(subject, sizeof(subject), "role:%s", role != NULL ? role : "");
        for (size_t i = 0; i < c->n_envs; i++) {
                const struct custody_env *e = &c->envs[i];

                if (custody_protected(e) && ((role != NULL && custody_rules_name(e, subject)) ||
                                             custody_stands(c, e, user)))
                        mask |= UINT64_C(1) << i;
        }
        return mask;
}

static size_t unrevoked(const struct custody_user *u, struct custody_key **ret)
{
        size_t n = 0;

        for (struct custody_key *k = u->keys; k != NULL && n < USER_KEYS_MAX; k = k->next)
                if (!k->off.set)
                        ret[n++] = k;
        return n;
}

/* A role that owners signed for comes with the keys that the person then had. */
static int grant_signed(struct mlc_custody *c, struct custody_role *role,
                        const struct mlc_leaf *leaf, uint64_t concerns, struct mlc_err *err)
{
        const char *user = custody_member(leaf->state, "user");
        _cleanup_(free_p) struct custody_key **keys = calloc(USER_KEYS_MAX, sizeof(*keys));
        _cleanup_(free_p) const char **texts = calloc(USER_KEYS_MAX, sizeof(*texts));
        char document[MLC_LEAF_ID_MAX + 8], after[MLC_DIGEST_STR];
        struct custody_want want = {.document = document, .after = after};
        uint64_t refused, accepted, since;
        size_t n;
        int r;

        if (keys == NULL || texts == NULL)
                abort();
        n = unrevoked(custody_user(c, user), keys);
        for (size_t i = 0; i < n; i++)
                texts[i] = keys[i]->public;
        (void)snprintf(document, sizeof(document), "Role/%s", leaf->id);
        r = mlc_custody_role_digest(leaf->state, texts, n, after, err);
        if (r < 0)
                return r;
        refused = custody_refused(c, concerns, &want, &since);
        accepted = concerns & ~refused;
        role->accepted = all_bits(c) & ~refused;
        for (size_t i = 0; i < n; i++)
                keys[i]->accepted |= accepted;
        return 0;
}

static struct custody_role *role_get(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        struct custody_role *role = mlc_map_get(&c->roles, leaf->id);
        struct custody_user *u;

        if (role != NULL || leaf->state == NULL)
                return role;
        u = custody_user(c, custody_member(leaf->state, "user"));
        role = custody_alloc(c, sizeof(*role));
        *role = (struct custody_role){
                .id = custody_text(c, leaf->id),
                .role = custody_text(c, custody_member(leaf->state, "role")),
                .ns = custody_text(c, custody_member(leaf->state, "namespace")),
                .next = u->roles};
        u->roles = role;
        (void)mlc_map_set(&c->roles, leaf->id, role);
        return role;
}

int custody_role_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const char *user = custody_member(leaf->state, "user");
        char id[MLC_LEAF_ID_MAX + 1];
        struct custody_role *role;
        uint64_t concerns;

        if (leaf->state != NULL) {
                int n = snprintf(id, sizeof(id), "%s/%s@%s", user,
                                 custody_member(leaf->state, "role"),
                                 custody_member(leaf->state, "namespace"));

                if (n < 0 || n >= (int)sizeof(id) || !mlc_streq(id, leaf->id))
                        return mlc_fail(err, MLC_E_VERIFY, "the leaf of role '%s' is of another",
                                        leaf->id);
        }
        role = role_get(c, leaf);
        if (role == NULL)
                return 0;
        if (leaf->state == NULL) {
                role->held = false;
                custody_take(c, &role->off);
                return 0;
        }
        if (role->held)
                return 0;
        concerns = concerned(c, user, role->role);
        role->held = true;
        role->index = c->index;
        role->off = (struct custody_end){0};
        return grant_signed(c, role, leaf, concerns, err);
}

/* --- keys --- */

static int key_add(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const char *user = custody_member(leaf->state, "user");
        struct custody_user *u = custody_user(c, user);
        struct custody_key *k = custody_alloc(c, sizeof(*k));
        char document[512], after[MLC_DIGEST_STR];
        struct custody_want want = {.document = document, .after = after};
        uint64_t since;
        int r = mlc_custody_key_digest(leaf->state, after, err);

        if (r < 0)
                return r;
        (void)snprintf(document, sizeof(document), "Key/%s/%s", user,
                       custody_member(leaf->state, "fingerprint"));
        *k = (struct custody_key){.id = custody_text(c, leaf->id),
                                  .user = u->id,
                                  .public = custody_text(c, custody_member(leaf->state, "public")),
                                  .index = c->index,
                                  .next = u->keys};
        k->accepted = all_bits(c) & ~custody_refused(c, concerned(c, user, NULL), &want, &since);
        u->keys = k;
        (void)mlc_map_set(&c->keys, k->public, k);
        (void)mlc_map_set(&c->key_ids, leaf->id, k);
        return 0;
}

int custody_key_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const char *public = custody_member(leaf->state, "public");
        struct custody_key *known = mlc_map_get(&c->keys, public);
        struct custody_key *mine = mlc_map_get(&c->key_ids, leaf->id);
        bool revoked = leaf->state == NULL || json_is_true(json_object_get(leaf->state, "revoked"));

        /* an id that comes to mean another key takes the one that it meant away */
        if (mine != NULL && (revoked || mine != known ||
                             !mlc_streq(mine->user, custody_member(leaf->state, "user"))))
                custody_take(c, &mine->off);
        if (revoked || known != NULL)
                return 0;
        return key_add(c, leaf, err);
}

const char *custody_key_wrong(struct mlc_custody *c, const struct custody_env *e, const char *user,
                              const char *public)
{
        const struct custody_key *k = mlc_map_get(&c->keys, public);

        if (k == NULL || !mlc_streq(k->user, user))
                return "its key is none of that person";
        if (custody_over(c, &k->off))
                return "its key was revoked";
        if ((k->accepted & UINT64_C(1) << e->bit) == 0)
                return "no owners signed for its key";
        return NULL;
}

static bool holds_role(struct mlc_custody *c, const struct custody_env *e, const char *user,
                       const char *name, const char *ns)
{
        const struct custody_user *u = mlc_map_get(&c->users, user);

        for (const struct custody_role *r = u != NULL ? u->roles : NULL; r != NULL; r = r->next)
                if (mlc_streq(r->role, name) && (r->accepted & UINT64_C(1) << e->bit) != 0 &&
                    (r->held || !custody_over(c, &r->off)) &&
                    (ns == NULL || mlc_streq(r->ns, "*") || mlc_streq(r->ns, ns)))
                        return true;
        return false;
}

bool custody_holds(struct mlc_custody *c, const struct custody_env *e, const char *user,
                   const char *from, const char *ns)
{
        const json_t *group;
        char subject[160];

        if (mlc_starts_with(from, "user:"))
                return mlc_streq(from + 5, user);
        if (mlc_starts_with(from, "role:"))
                return holds_role(c, e, user, from + 5, ns);
        if (!mlc_starts_with(from, "group:"))
                return false;
        group = custody_document(e, "Group", from + 6);
        (void)snprintf(subject, sizeof(subject), "user:%s", user);
        return custody_has(json_object_get(group, "members"), subject);
}

/* --- who comes in by a change of documents --- */

void custody_before_change(struct mlc_custody *c, const struct custody_env *e)
{
        const char *id;
        size_t pos = 0;
        void *v;

        while (mlc_map_next(&c->users, &pos, &id, &v))
                ((struct custody_user *)v)->stood = custody_stands(c, e, id);
}

void custody_after_change(struct mlc_custody *c, const struct custody_env *e, uint64_t since)
{
        uint64_t bit = UINT64_C(1) << e->bit;
        const char *id;
        size_t pos = 0;
        void *v;

        while (mlc_map_next(&c->users, &pos, &id, &v)) {
                struct custody_user *u = v;

                if (u->stood || !custody_stands(c, e, id))
                        continue;
                for (struct custody_key *k = u->keys; k != NULL; k = k->next)
                        if (k->index > since)
                                k->accepted &= ~bit;
                for (struct custody_role *r = u->roles; r != NULL; r = r->next)
                        if (r->index > since)
                                r->accepted &= ~bit;
        }
}
