/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/custody.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "policy/custody_internal.h"

/* What is kept of a log; it was read and hashed whole before, so this is no outsider's to choose */
#define ARENA_MAX ((size_t)8 << 30)
/* Transactions that overlap may stand in the log in either order: what was taken away so shortly
 * before a leaf may have been there when its transaction looked. */
#define OVERLAP_MS 10000
#define OVERLAP_LEAVES 64

void *custody_alloc(struct mlc_custody *c, size_t size)
{
        struct mlc_err err = {0};
        void *p = mlc_arena_alloc(&c->arena, size, &err);

        if (p == NULL)
                abort();
        return p;
}

const char *custody_text(struct mlc_custody *c, const char *s)
{
        char *copy;
        size_t len;

        if (s == NULL)
                return NULL;
        len = strlen(s) + 1;
        copy = custody_alloc(c, len);
        memcpy(copy, s, len);
        return copy;
}

const char *custody_member(const json_t *j, const char *key)
{
        const char *text = json_string_value(json_object_get(j, key));

        return text != NULL ? text : "";
}

void custody_take(struct mlc_custody *c, struct custody_end *end)
{
        if (!end->set)
                *end = (struct custody_end){true, c->index, c->now_ms};
}

bool custody_over(const struct mlc_custody *c, const struct custody_end *end)
{
        return end->set && !(c->index - end->index <= OVERLAP_LEAVES &&
                             c->now_ms - end->ms <= OVERLAP_MS && c->now_ms >= end->ms);
}

static void map_init(struct mlc_custody *c)
{
        struct mlc_map *maps[] = {&c->users,      &c->roles,    &c->keys,       &c->key_ids,
                                  &c->versions,   &c->digests,  &c->documents,  &c->promotions,
                                  &c->signatures, &c->subjects, &c->statements, &c->changed,
                                  &c->changes,    &c->aliases,  &c->requests};

        for (size_t i = 0; i < ARRAY_LEN(maps); i++)
                mlc_map_init(maps[i]);
}

static void env_init(struct mlc_custody *c, size_t i, const struct mlc_custody_environment *in)
{
        struct custody_env *e = &c->envs[i];
        struct mlc_sshkey *keys = custody_alloc(c, (in->n_keys + 1) * sizeof(*keys));

        for (size_t k = 0; k < in->n_keys; k++)
                keys[k] = in->keys[k];
        e->name = custody_text(c, in->name);
        e->bit = i;
        e->threshold = in->threshold;
        e->keys = keys;
        e->n_keys = in->n_keys;
        mlc_map_init(&e->documents);
        mlc_map_init(&e->live);
        mlc_map_init(&e->nothing);
}

struct mlc_custody *mlc_custody_new(const char *origin,
                                    const struct mlc_custody_environment *environments, size_t n)
{
        struct mlc_custody *c = calloc(1, sizeof(*c));

        if (c == NULL)
                abort();
        assert(n <= MLC_CUSTODY_ENVIRONMENTS_MAX);
        mlc_arena_init(&c->arena, ARENA_MAX);
        map_init(c);
        c->origin = custody_text(c, origin);
        c->envs = custody_alloc(c, (n + 1) * sizeof(*c->envs));
        c->n_envs = n;
        for (size_t i = 0; i < n; i++)
                env_init(c, i, &environments[i]);
        return c;
}

static void documents_done(struct mlc_map *m)
{
        const char *key;
        size_t pos = 0;
        void *v;

        while (mlc_map_next(m, &pos, &key, &v))
                json_decref(((struct custody_document *)v)->json);
        mlc_map_done(m, NULL);
}

void mlc_custody_free(struct mlc_custody **c)
{
        struct mlc_custody *d = TAKE_PTR(*c);

        if (d == NULL)
                return;
        for (size_t i = 0; i < d->n_envs; i++) {
                documents_done(&d->envs[i].documents);
                mlc_map_done(&d->envs[i].live, NULL);
                mlc_map_done(&d->envs[i].nothing, NULL);
        }
        documents_done(&d->documents);
        custody_promotions_done(d);
        mlc_map_done(&d->requests, NULL);
        mlc_map_done(&d->users, NULL);
        mlc_map_done(&d->roles, NULL);
        mlc_map_done(&d->keys, NULL);
        mlc_map_done(&d->key_ids, NULL);
        mlc_map_done(&d->versions, NULL);
        mlc_map_done(&d->digests, NULL);
        mlc_map_done(&d->promotions, NULL);
        mlc_map_done(&d->signatures, NULL);
        mlc_map_done(&d->statements, NULL);
        mlc_map_done(&d->subjects, NULL);
        mlc_map_done(&d->changed, NULL);
        mlc_map_done(&d->changes, NULL);
        mlc_map_done(&d->aliases, NULL);
        mlc_arena_done(&d->arena);
        free(d);
}

int mlc_custody_leaf(struct mlc_custody *c, uint64_t index, const struct mlc_leaf *leaf,
                     struct mlc_err *err)
{
        c->index = index;
        c->now_ms = leaf->time_ms;
        if (mlc_streq(leaf->kind, "document"))
                return custody_document_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "role"))
                return custody_role_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "key"))
                return custody_key_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "version"))
                return custody_version_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "approval"))
                return custody_approval_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "promotion"))
                return custody_promotion_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "rollout"))
                return custody_rollout_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "live"))
                return custody_live_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "alias"))
                return custody_alias_leaf(c, leaf, err);
        if (mlc_streq(leaf->kind, "user"))
                custody_user_leaf(c, leaf);
        else if (mlc_streq(leaf->kind, "change"))
                custody_change_leaf(c, leaf);
        else if (mlc_streq(leaf->kind, "request"))
                custody_request_leaf(c, leaf);
        return 0;
}

int mlc_custody_finish(const struct mlc_custody *c, uint64_t *ret_index, struct mlc_err *err)
{
        for (size_t i = 0; i < c->n_envs; i++) {
                const struct custody_env *e = &c->envs[i];

                if (e->founded) {
                        int r = custody_alias_end(c, e, ret_index, err);

                        if (r < 0)
                                return r;
                        continue;
                }
                *ret_index = e->other ? e->other_index : c->index + 1;
                return e->other ? mlc_fail(err, MLC_E_VERIFY,
                                           "environment '%s' has other founding owners than the "
                                           "trust file",
                                           e->name)
                                : mlc_fail(err, MLC_E_VERIFY,
                                           "environment '%s' of the trust file was never protected "
                                           "in this log",
                                           e->name);
        }
        return 0;
}

static int by_name(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_protected(const struct mlc_custody *c, const char *name)
{
        for (size_t i = 0; i < c->n_envs; i++)
                if (mlc_streq(c->envs[i].name, name))
                        return custody_protected(&c->envs[i]);
        return false;
}

json_t *mlc_custody_environments(const struct mlc_custody *c)
{
        _cleanup_(free_p) const char **names = calloc(c->documents.n + 1, sizeof(*names));
        json_t *list = json_array();
        size_t pos = 0, n = 0;
        const char *key;
        void *v;

        if (names == NULL)
                abort();
        while (mlc_map_next(&c->documents, &pos, &key, &v)) {
                const struct custody_document *d = v;

                if (mlc_streq(d->kind, "Environment") && d->digest[0] != '\0')
                        names[n++] = d->name;
        }
        qsort(names, n, sizeof(*names), by_name);
        for (size_t i = 0; i < n; i++)
                json_array_append_new(list, json_pack("{s:s, s:b}", "name", names[i], "protected",
                                                      is_protected(c, names[i])));
        return list;
}
