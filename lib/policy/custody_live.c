/* SPDX-License-Identifier: Apache-2.0 */
/* Versions, promotions, what is live, and the aliases that follow. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/str.h"
#include "policy/custody_internal.h"

static struct custody_env *env_of(const struct mlc_custody *c, const char *name)
{
        for (size_t i = 0; i < c->n_envs; i++)
                if (mlc_streq(c->envs[i].name, name))
                        return &c->envs[i];
        return NULL;
}

static int64_t number_of(const json_t *j, const char *key)
{
        return json_integer_value(json_object_get(j, key));
}

/* --- versions --- */

static void version_add(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        struct custody_version *v = custody_alloc(c, sizeof(*v));
        char key[MLC_LEAF_ID_MAX + MLC_DIGEST_STR + 1];

        *v = (struct custody_version){
                .model = custody_text(c, custody_member(leaf->state, "model")),
                .digest = custody_text(c, custody_member(leaf->state, "digest")),
                .author = custody_text(c, custody_member(leaf->state, "author")),
                .number = number_of(leaf->state, "version")};
        (void)mlc_map_set(&c->versions, leaf->id, v);
        (void)snprintf(key, sizeof(key), "%s@%s", v->model, v->digest);
        (void)mlc_map_set(&c->digests, key, v);
}

/* One artifact is one version of its model: a second number would hide who made it. */
static bool is_double(const struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        char key[MLC_LEAF_ID_MAX + MLC_DIGEST_STR + 1];

        (void)snprintf(key, sizeof(key), "%s@%s", custody_member(leaf->state, "model"),
                       custody_member(leaf->state, "digest"));
        return mlc_map_get(&c->digests, key) != NULL;
}

int custody_version_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        struct custody_version *v = mlc_map_get(&c->versions, leaf->id);
        char id[MLC_LEAF_ID_MAX + 1];

        if (c->n_envs == 0)
                return 0;
        if (leaf->state == NULL)
                return mlc_fail(err, MLC_E_VERIFY, "version '%s' is removed: versions stay",
                                leaf->id);
        if (v == NULL && is_double(c, leaf))
                return mlc_fail(err, MLC_E_VERIFY,
                                "version '%s' is an artifact that is another version already",
                                leaf->id);
        if (v == NULL)
                version_add(c, leaf);
        v = mlc_map_get(&c->versions, leaf->id);
        (void)snprintf(id, sizeof(id), "%s:%" PRId64, v->model, v->number);
        if (!mlc_streq(id, leaf->id) ||
            !mlc_streq(custody_member(leaf->state, "digest"), v->digest) ||
            !mlc_streq(custody_member(leaf->state, "author"), v->author))
                return mlc_fail(err, MLC_E_VERIFY,
                                "version '%s' changes its digest or its author: versions do not",
                                leaf->id);
        v->withdrawn =
                v->withdrawn || mlc_streq(custody_member(leaf->state, "status"), "withdrawn");
        return 0;
}

/* --- promotions --- */

static bool is(const char *state, const char *const *names)
{
        for (size_t i = 0; names[i] != NULL; i++)
                if (mlc_streq(state, names[i]))
                        return true;
        return false;
}

static struct custody_promotion *promotion_get(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        struct custody_promotion *p = mlc_map_get(&c->promotions, leaf->id);
        const json_t *s = leaf->state;

        if (p != NULL)
                return p;
        p = custody_alloc(c, sizeof(*p));
        *p = (struct custody_promotion){
                .id = custody_text(c, leaf->id),
                .model = custody_text(c, custody_member(s, "model")),
                .digest = custody_text(c, custody_member(s, "digest")),
                .environment = custody_text(c, custody_member(s, "environment")),
                .requested_by = custody_text(c, custody_member(s, "requested_by")),
                .rollback_of =
                        custody_text(c, json_string_value(json_object_get(s, "rollback_of"))),
                .version = number_of(s, "version")};
        (void)mlc_map_set(&c->promotions, p->id, p);
        return p;
}

/* What it is about stays as it was first said. */
static bool same_promotion(const struct custody_promotion *p, const json_t *s)
{
        return mlc_streq(p->model, custody_member(s, "model")) &&
               mlc_streq(p->digest, custody_member(s, "digest")) &&
               mlc_streq(p->environment, custody_member(s, "environment")) &&
               mlc_streq(p->requested_by, custody_member(s, "requested_by")) &&
               mlc_streq(p->rollback_of, json_string_value(json_object_get(s, "rollback_of"))) &&
               p->version == number_of(s, "version");
}

static int goes_live(struct mlc_custody *c, const struct custody_env *e,
                     struct custody_promotion *p, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        int r = 0;

        if (e != NULL && e->founded && p->ended != CUSTODY_OPEN)
                return mlc_fail(err, MLC_E_VERIFY,
                                "%s:%" PRId64 " goes live in '%s' by promotion '%s', which had "
                                "ended before",
                                p->model, p->version, p->environment, p->id);
        if (e != NULL && e->founded && !p->passed)
                r = p->rollback_of != NULL ? custody_may_roll_back(c, e, p, leaf, err)
                                           : custody_may_go_live(c, e, p, leaf, err);
        if (r == 0 && e != NULL && e->founded && p->rollback_of == NULL)
                r = custody_steps_begin(c, e, p, leaf, err);
        if (r < 0)
                return r;
        p->passed = true;
        p->live = mlc_streq(custody_member(leaf->state, "state"), "live");
        return 0;
}

int custody_promotion_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        static const char *const up[] = {"rolling_out", "live", NULL};
        static const char *const down[] = {"rejected",  "rolled_back", "failed",     "replaced",
                                           "cancelled", "expired",     "superseded", NULL};
        const char *state = custody_member(leaf->state, "state");
        struct custody_promotion *p;

        if (leaf->state == NULL)
                return 0;
        p = promotion_get(c, leaf);
        if (!same_promotion(p, leaf->state) &&
            (env_of(c, p->environment) != NULL ||
             env_of(c, custody_member(leaf->state, "environment")) != NULL))
                return mlc_fail(err, MLC_E_VERIFY,
                                "promotion '%s' is suddenly about something else", leaf->id);
        if (is(state, up))
                return goes_live(c, env_of(c, p->environment), p, leaf, err);
        p->live = false;
        if (is(state, down) && p->ended == CUSTODY_OPEN)
                p->ended = mlc_streq(state, "rolled_back") ? CUSTODY_ROLLED_BACK : CUSTODY_ENDED;
        return 0;
}

/* What was about to go live when owners came has to be approved by their rules. */
void custody_live_founded(struct mlc_custody *c, const struct custody_env *e)
{
        const char *id;
        size_t pos = 0;
        void *v;

        while (mlc_map_next(&c->promotions, &pos, &id, &v)) {
                struct custody_promotion *p = v;

                if (p->passed && mlc_streq(p->environment, e->name))
                        p->served = true;
        }
}

/* --- what is live --- */

struct custody_live *custody_live(const struct custody_env *e, const char *model)
{
        return mlc_map_get(&e->nothing, model) != NULL ? NULL : mlc_map_get(&e->live, model);
}

static void live_set(struct mlc_custody *c, struct custody_env *e, const struct mlc_leaf *leaf,
                     const struct custody_promotion *p)
{
        const char *model = custody_member(leaf->state, "model");
        struct custody_live *l = custody_alloc(c, sizeof(*l));

        *l = (struct custody_live){.version = number_of(leaf->state, "version"),
                                   .digest = custody_text(c, custody_member(leaf->state, "digest")),
                                   .promotion = p,
                                   .before = mlc_map_get(&e->live, model)};
        if (!mlc_time_parse(custody_member(leaf->state, "since"), &l->since_ms))
                l->since_ms = c->now_ms;
        (void)mlc_map_set(&e->live, model, l);
        (void)mlc_map_remove(&e->nothing, model);
}

static int live_fits(const struct custody_env *e, const struct custody_promotion *p,
                     const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const char *model = custody_member(leaf->state, "model");
        const char *why = NULL;

        if (p == NULL || !mlc_streq(p->environment, e->name) || !mlc_streq(p->model, model) ||
            p->version != number_of(leaf->state, "version") ||
            !mlc_streq(p->digest, custody_member(leaf->state, "digest")))
                why = "no promotion of that version is named";
        else if (!p->passed || !p->live)
                why = "its promotion is not live";
        else if (p->served)
                why = "its promotion made it live before";
        if (why == NULL)
                return 0;
        return mlc_fail(err, MLC_E_VERIFY,
                        "%s:%" PRId64 " is made live in '%s' without approval: %s", model,
                        number_of(leaf->state, "version"), e->name, why);
}

int custody_live_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const char *slash = strchr(leaf->id, '/');
        char name[MLC_LEAF_ID_MAX + 1], id[MLC_LEAF_ID_MAX + 1];
        struct custody_promotion *p;
        struct custody_env *e;
        int r;

        (void)snprintf(name, sizeof(name), "%.*s",
                       slash != NULL ? (int)(slash - leaf->id) : MLC_LEAF_ID_MAX, leaf->id);
        e = env_of(c, name);
        if (leaf->state == NULL) {
                if (e != NULL && slash != NULL)
                        (void)mlc_map_set(&e->nothing, slash + 1, e);
                return 0;
        }
        (void)snprintf(id, sizeof(id), "%s/%s", custody_member(leaf->state, "environment"),
                       custody_member(leaf->state, "model"));
        if (!mlc_streq(id, leaf->id) &&
            (e != NULL || env_of(c, custody_member(leaf->state, "environment")) != NULL))
                return mlc_fail(err, MLC_E_VERIFY, "the leaf of what is live, '%s', is of another",
                                leaf->id);
        if (e == NULL)
                return 0;
        p = mlc_map_get(&c->promotions, custody_member(leaf->state, "promotion"));
        r = e->founded ? live_fits(e, p, leaf, err) : 0;
        if (r < 0)
                return r;
        if (p != NULL)
                p->served = p->passed = true;
        live_set(c, e, leaf, p);
        return 0;
}

/* --- aliases --- */

static void alias_keep(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        struct custody_alias *a;

        if (leaf->state == NULL) {
                (void)mlc_map_remove(&c->aliases, leaf->id);
                return;
        }
        a = custody_alloc(c, sizeof(*a));
        a->version = number_of(leaf->state, "version");
        a->digest = custody_text(c, custody_member(leaf->state, "digest"));
        a->index = c->index;
        (void)mlc_map_set(&c->aliases, leaf->id, a);
}

static bool was_live(const struct custody_env *e, const char *model, const struct custody_alias *a)
{
        for (const struct custody_live *l = mlc_map_get(&e->live, model); l != NULL; l = l->before)
                if (l->version == a->version && mlc_streq(l->digest, a->digest))
                        return true;
        return false;
}

int custody_alias_end(const struct mlc_custody *c, const struct custody_env *e, uint64_t *ret_index,
                      struct mlc_err *err)
{
        const char *name = json_string_value(json_object_get(custody_environment(e), "alias"));
        const char *id;
        size_t pos = 0;
        void *value;

        while (name != NULL && mlc_map_next(&c->aliases, &pos, &id, &value)) {
                const struct custody_alias *a = value;
                const char *colon = strrchr(id, ':');
                char model[MLC_LEAF_ID_MAX + 1];

                if (colon == NULL || !mlc_streq(colon + 1, name))
                        continue;
                (void)snprintf(model, sizeof(model), "%.*s", (int)(colon - id), id);
                if (was_live(e, model, a))
                        continue;
                *ret_index = a->index;
                return mlc_fail(err, MLC_E_VERIFY,
                                "alias '%s' is that of '%s', and stands on what was never live "
                                "there",
                                id, e->name);
        }
        return 0;
}

static bool agrees(const struct custody_live *live, const json_t *state)
{
        if (live == NULL || state == NULL)
                return live == NULL && state == NULL;
        return live->version == number_of(state, "version") &&
               mlc_streq(live->digest, custody_member(state, "digest"));
}

int custody_alias_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        const char *colon = strrchr(leaf->id, ':');
        char model[MLC_LEAF_ID_MAX + 1], id[MLC_LEAF_ID_MAX + 1];

        if (colon == NULL)
                return mlc_fail(err, MLC_E_VERIFY, "'%s' is no alias", leaf->id);
        alias_keep(c, leaf);
        (void)snprintf(model, sizeof(model), "%.*s", (int)(colon - leaf->id), leaf->id);
        (void)snprintf(id, sizeof(id), "%s:%s", custody_member(leaf->state, "model"),
                       custody_member(leaf->state, "alias"));
        for (size_t i = 0; i < c->n_envs; i++) {
                const struct custody_env *e = &c->envs[i];
                const char *alias =
                        json_string_value(json_object_get(custody_environment(e), "alias"));

                if (!e->founded || !mlc_streq(alias, colon + 1))
                        continue;
                if (leaf->state != NULL && !mlc_streq(id, leaf->id))
                        return mlc_fail(err, MLC_E_VERIFY, "the leaf of alias '%s' is of another",
                                        leaf->id);
                if (!agrees(custody_live(e, model), leaf->state))
                        return mlc_fail(err, MLC_E_VERIFY,
                                        "alias '%s' moves to what is not live in '%s', whose alias "
                                        "it is",
                                        leaf->id, e->name);
        }
        return 0;
}
