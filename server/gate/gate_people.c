/* SPDX-License-Identifier: Apache-2.0 */
/* Who is meant by user:, group: and role:, and whose signatures a change needs. */
#include <ctype.h>

#include "auth/auth.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"

#define USER "user:"
#define GROUP "group:"
#define ROLE "role:"

bool gate_array_has(const json_t *array, const char *text)
{
        const json_t *v;
        size_t i;

        json_array_foreach (array, i, v)
                if (json_is_string(v) && strcmp(json_string_value(v), text) == 0)
                        return true;
        return false;
}

bool gate_is_protected(const json_t *environment)
{
        return json_integer_value(json_object_get(environment, "threshold")) > 0;
}

/* --- names to ids --- */

struct renamed {
        const char *name, *id;
};

static int find_person(struct mlc_ctx *ctx, struct db_tx *tx, const char *name, const char **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PERSON_FIND, &rows, DB_TEXT(name));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT, "there is no user '%s'", name);
        if (!db_bool(&rows, 0, 1))
                return ctx_fail(ctx, MLC_E_CONFLICT, "'user:%s' is a service, not a person", name);
        if (!db_bool(&rows, 0, 2))
                return ctx_fail(ctx, MLC_E_CONFLICT, "'user:%s' is not active", name);
        *ret = db_text_dup(ctx, &rows, 0, 0);
        return *ret != NULL ? 0 : ctx->err.code;
}

static void collect_rules(const json_t *rules, json_t *names)
{
        const json_t *v, *rule;
        size_t i, k;

        json_array_foreach (rules, k, rule)
                json_array_foreach (json_object_get(rule, "from"), i, v)
                        if (mlc_starts_with(json_string_value(v), USER))
                                json_object_set_new(names, json_string_value(v) + strlen(USER),
                                                    json_true());
}

/* Where documents name people: owners, members, and `from` of approval rules, of steps too. */
static int collect(struct mlc_ctx *ctx, const json_t *doc, json_t *names)
{
        const json_t *lists[2] = {json_object_get(doc, "owners"), json_object_get(doc, "members")};
        const json_t *v, *step;
        size_t i, k;

        (void)ctx;
        for (size_t n = 0; n < 2; n++)
                json_array_foreach (lists[n], i, v)
                        if (mlc_starts_with(json_string_value(v), USER))
                                json_object_set_new(names, json_string_value(v) + strlen(USER),
                                                    json_true());
        collect_rules(json_object_get(doc, "approvals"), names);
        json_array_foreach (json_object_get(json_object_get(doc, "rollout"), "steps"), k, step)
                collect_rules(json_object_get(step, "approvals"), names);
        return 0;
}

static bool name_char(char c)
{
        return isalnum((unsigned char)c) || (c != '\0' && strchr("._@+-", c) != NULL);
}

static const char *renamed_id(const struct renamed *map, size_t n, const char *name, size_t len)
{
        for (size_t i = 0; i < n; i++)
                if (strlen(map[i].name) == len && strncmp(map[i].name, name, len) == 0)
                        return map[i].id;
        return NULL;
}

static int rewrite(struct mlc_ctx *ctx, const char *yaml, const struct renamed *map, size_t n,
                   const char **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str out;
        const char *p = yaml, *at;
        int r;

        mlc_str_init(&out, 4u << 20);
        while ((at = strstr(p, USER)) != NULL) {
                const char *name = at + strlen(USER), *id;
                size_t len = 0;

                while (name_char(name[len]))
                        len++;
                mlc_str_addn(&out, p, (size_t)(name - p));
                id = at > yaml && name_char(at[-1]) ? NULL : renamed_id(map, n, name, len);
                if (id != NULL)
                        mlc_str_add(&out, id);
                else
                        mlc_str_addn(&out, name, len);
                p = name + len;
        }
        mlc_str_add(&out, p);
        r = mlc_str_check(&out, &ctx->err);
        if (r < 0)
                return r;
        *ret = ctx_strdup(ctx, mlc_str_cstr(&out));
        return *ret != NULL ? 0 : ctx->err.code;
}

int gate_people_to_ids(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *doc, const char *yaml,
                       const char **ret)
{
        _cleanup_(json_decref_p) json_t *names = json_object();
        struct renamed *map;
        const char *name;
        json_t *unused;
        size_t n = 0;
        int r;

        r = collect(ctx, doc, names);
        if (r < 0)
                return r;
        map = mlc_arena_array(&ctx->arena, json_object_size(names) + 1, sizeof(*map), &ctx->err);
        if (map == NULL)
                return ctx->err.code;
        json_object_foreach (names, name, unused) {
                (void)unused;
                r = find_person(ctx, tx, name, &map[n].id);
                if (r < 0)
                        return r;
                map[n].name = ctx_strdup(ctx, name);
                if (map[n++].name == NULL)
                        return ctx->err.code;
        }
        return rewrite(ctx, yaml, map, n, ret);
}

/* --- members --- */

static int ids_of(struct mlc_ctx *ctx, const struct db_rows *rows, json_t **ret)
{
        json_t *list = json_array();

        (void)ctx;
        for (int i = 0; i < rows->n; i++)
                json_array_append_new(list, json_string(db_text(rows, i, 0)));
        *ret = list;
        return 0;
}

int gate_members(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject, const char *ns,
                 json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        if (mlc_starts_with(subject, USER))
                r = db_run(tx, SQL_MEMBERS_USER, &rows, DB_TEXT(subject + strlen(USER)));
        else if (mlc_starts_with(subject, GROUP))
                r = db_run(tx, SQL_MEMBERS_GROUP, &rows, DB_TEXT(subject + strlen(GROUP)));
        else if (mlc_starts_with(subject, ROLE))
                r = db_run(tx, SQL_MEMBERS_ROLE, &rows, DB_TEXT(subject + strlen(ROLE)),
                           DB_TEXT(ns));
        else
                r = ctx_fail(ctx, MLC_E_INVALID, "'%s' is no user:, group: or role:", subject);
        if (r < 0)
                return r;
        return ids_of(ctx, &rows, ret);
}

int gate_group_members(struct mlc_ctx *ctx, struct db_tx *tx, const char *group, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_MEMBERS_GROUP, &rows, DB_TEXT(group));

        if (r < 0)
                return r;
        return ids_of(ctx, &rows, ret);
}

static int add_members(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject, json_t *people)
{
        _cleanup_(json_decref_p) json_t *ids = NULL;
        const json_t *id;
        size_t i;
        int r = gate_members(ctx, tx, subject, NULL, &ids);

        if (r < 0)
                return r;
        json_array_foreach (ids, i, id)
                json_object_set_new(people, json_string_value(id), json_true());
        return 0;
}

static int by_id(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The keys of an object, sorted. */
static int sorted_keys(struct mlc_ctx *ctx, json_t *people, json_t **ret)
{
        const char **ids =
                mlc_arena_array(&ctx->arena, json_object_size(people) + 1, sizeof(*ids), &ctx->err);
        const char *id;
        json_t *unused, *list;
        size_t n = 0;

        if (ids == NULL)
                return ctx->err.code;
        json_object_foreach (people, id, unused) {
                (void)unused;
                ids[n++] = id;
        }
        qsort(ids, n, sizeof(*ids), by_id);
        list = json_array();
        for (size_t i = 0; i < n; i++)
                json_array_append_new(list, json_string(ids[i]));
        *ret = list;
        return 0;
}

/* A group that comes with the request. */
static const json_t *group_of_set(struct mlc_ctx *ctx, const struct gate_set *set,
                                  const char *subject)
{
        const char *key;

        if (set == NULL || !mlc_starts_with(subject, GROUP))
                return NULL;
        key = ctx_printf(ctx, "Group/%s", subject + strlen(GROUP));
        return key != NULL ? json_object_get(set->docs, key) : NULL;
}

int gate_owner_ids(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *owners,
                   const struct gate_set *set, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *people = json_object();
        const json_t *owner, *member;
        size_t i, k;
        int r;

        json_array_foreach (owners, i, owner) {
                const char *subject = json_string_value(owner);
                const json_t *group = group_of_set(ctx, set, subject);

                r = group == NULL ? add_members(ctx, tx, subject, people) : 0;
                if (r < 0)
                        return r;
                json_array_foreach (json_object_get(group, "members"), k, member) {
                        r = add_members(ctx, tx, json_string_value(member), people);
                        if (r < 0)
                                return r;
                }
        }
        return sorted_keys(ctx, people, ret);
}

/* --- protection --- */

int gate_environments(struct mlc_ctx *ctx, struct db_tx *tx, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *list = json_array();
        int r = db_run0(tx, SQL_ENVIRONMENTS_ALL, &rows);

        for (int i = 0; r == 0 && i < rows.n; i++) {
                json_t *environment = NULL, *policy = NULL;

                r = gate_parse(ctx, db_text(&rows, i, 0), &environment);
                if (r == 0)
                        r = gate_parse(ctx, db_text(&rows, i, 1), &policy);
                if (r < 0)
                        json_decref(environment);
                else
                        json_array_append_new(list, json_pack("[o, o]", environment, policy));
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}

static bool rules_name(const json_t *policy, const char *subject)
{
        const json_t *rule;
        size_t i;

        json_array_foreach (json_object_get(policy, "approvals"), i, rule)
                if (gate_array_has(json_object_get(rule, "from"), subject))
                        return true;
        return false;
}

/* The model's routes that lead to this environment, as one text. */
static const char *routes_to(struct mlc_ctx *ctx, const json_t *model, const char *environment)
{
        _cleanup_(json_decref_p) json_t *list = json_array();
        json_t *route;
        size_t i;

        json_array_foreach (json_object_get(model, "routes"), i, route)
                if (gate_array_has(json_object_get(route, "environments"), environment))
                        json_array_append(list, route);
        return gate_json_text(ctx, list);
}

struct affected {
        const struct gate_change *change;
        const json_t *before, *after; /* the document; before NULL when it is new */
        const char *subject; /* "group:NAME" of a group */
};

static int routes_change(struct mlc_ctx *ctx, const struct affected *a, const char *environment,
                         bool *ret)
{
        const char *before = routes_to(ctx, a->before, environment);
        const char *after = routes_to(ctx, a->after, environment);

        if (before == NULL || after == NULL)
                return ctx->err.code;
        *ret = strcmp(before, after) != 0;
        return 0;
}

static int belongs(struct mlc_ctx *ctx, const struct affected *a, const json_t *environment,
                   const json_t *policy, bool *ret)
{
        const char *kind = a->change->kind, *name = a->change->name;
        const char *env = json_string_value(json_object_get(environment, "name"));

        if (strcmp(kind, "Environment") == 0)
                *ret = strcmp(env, name) == 0;
        else if (strcmp(kind, "Policy") == 0)
                *ret = mlc_streq(json_string_value(json_object_get(environment, "policy")), name);
        else if (strcmp(kind, "Group") == 0)
                *ret = gate_array_has(json_object_get(environment, "owners"), a->subject) ||
                       rules_name(policy, a->subject);
        else
                return routes_change(ctx, a, env, ret);
        return 0;
}

static int describe(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *environment, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *owners = NULL;
        int r = gate_owner_ids(ctx, tx, json_object_get(environment, "owners"), NULL, &owners);

        if (r < 0)
                return r;
        *ret = json_pack("{s:O, s:O, s:O}", "environment", json_object_get(environment, "name"),
                         "owners", owners, "threshold", json_object_get(environment, "threshold"));
        return 0;
}

static int add_protection(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *environment,
                          json_t *list)
{
        json_t *one = NULL;
        int r = describe(ctx, tx, environment, &one);

        if (r == 0)
                json_array_append_new(list, one);
        return r;
}

static int parse_change(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                        json_t **ret_before, json_t **ret_after)
{
        struct gate_document d;
        int r = gate_document_get(ctx, tx, c->kind, c->name, &d);

        if (r == 0)
                r = gate_document_json(ctx, &d, ret_before);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                r = 0;
        }
        if (r < 0)
                return r;
        return gate_parse(ctx, c->normal, ret_after);
}

int gate_protection(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                    json_t **ret)
{
        _cleanup_(json_decref_p) json_t *before = NULL, *after = NULL, *all = NULL;
        _cleanup_(json_decref_p) json_t *list = json_array();
        struct affected a = {.change = c, .subject = ctx_printf(ctx, GROUP "%s", c->name)};
        const json_t *pair;
        size_t i;
        int r;

        if (a.subject == NULL)
                return ctx->err.code;
        r = parse_change(ctx, tx, c, &before, &after);
        if (r < 0)
                return r;
        a.before = before;
        a.after = after;
        r = gate_environments(ctx, tx, &all);
        if (r < 0)
                return r;
        json_array_foreach (all, i, pair) {
                const json_t *environment = json_array_get(pair, 0);
                bool mine = false;

                r = gate_is_protected(environment)
                            ? belongs(ctx, &a, environment, json_array_get(pair, 1), &mine)
                            : 0;
                if (r == 0 && mine)
                        r = add_protection(ctx, tx, environment, list);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int gate_environment_owners(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                            json_t **ret)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        struct gate_document d;
        int r = gate_document_get(ctx, tx, "Environment", environment, &d);

        if (r == 0)
                r = gate_document_json(ctx, &d, &doc);
        if (r < 0)
                return r;
        if (gate_is_protected(doc))
                return describe(ctx, tx, doc, ret);
        *ret = json_null();
        return 0;
}

static int stands_in(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *pair, const char *user,
                     bool *ret)
{
        _cleanup_(json_decref_p) json_t *owners = NULL;
        const json_t *rule;
        size_t i;
        int r = gate_owner_ids(ctx, tx, json_object_get(json_array_get(pair, 0), "owners"), NULL,
                               &owners);

        if (r < 0)
                return r;
        *ret = gate_array_has(owners, user);
        json_array_foreach (json_object_get(json_array_get(pair, 1), "approvals"), i, rule) {
                _cleanup_(json_decref_p) json_t *people = NULL;

                r = gate_owner_ids(ctx, tx, json_object_get(rule, "from"), NULL, &people);
                if (r < 0)
                        return r;
                *ret = *ret || gate_array_has(people, user);
        }
        return 0;
}

int gate_documents_hold(struct mlc_ctx *ctx, struct db_tx *tx, bool write)
{
        (void)ctx;
        return write ? db_run0(tx, SQL_DOCUMENT_HEAD_LOCK, NULL)
                     : db_run0(tx, SQL_DOCUMENT_HEAD_SHARE, NULL);
}

int gate_protection_of_person(struct mlc_ctx *ctx, struct db_tx *tx, const char *user, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *all = NULL, *list = json_array();
        const json_t *pair;
        size_t i;
        int r = gate_environments(ctx, tx, &all);

        if (r < 0)
                return r;
        json_array_foreach (all, i, pair) {
                bool mine = false;

                r = gate_is_protected(json_array_get(pair, 0))
                            ? stands_in(ctx, tx, pair, user, &mine)
                            : 0;
                if (r == 0 && mine)
                        r = add_protection(ctx, tx, json_array_get(pair, 0), list);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int gate_protection_of_subject(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject,
                               json_t **ret)
{
        _cleanup_(json_decref_p) json_t *all = NULL, *list = json_array();
        const json_t *pair;
        size_t i;
        int r = gate_environments(ctx, tx, &all);

        if (r < 0)
                return r;
        json_array_foreach (all, i, pair) {
                const json_t *environment = json_array_get(pair, 0);

                if (gate_is_protected(environment) &&
                    (gate_array_has(json_object_get(environment, "owners"), subject) ||
                     rules_name(json_array_get(pair, 1), subject)))
                        r = add_protection(ctx, tx, environment, list);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

int gate_alias_environment(struct mlc_ctx *ctx, struct db_tx *tx, const char *alias,
                           const char **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_ENVIRONMENT_OF_ALIAS, &rows, DB_TEXT(alias));

        if (r < 0)
                return r;
        *ret = rows.n > 0 ? db_text_dup(ctx, &rows, 0, 0) : NULL;
        return rows.n > 0 && *ret == NULL ? ctx->err.code : 0;
}

int gate_alias_claim(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                     const char *alias)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *shown = NULL;
        char more[32] = "";
        int r = db_run(tx, SQL_ALIASES_ASTRAY, &rows, DB_TEXT(alias), DB_TEXT(environment));

        if (r < 0 || rows.n == 0)
                return r;
        for (int i = 0; i < rows.n && shown == NULL; i++)
                if (ctx->principal == NULL || auth_may_read(ctx->principal, db_text(&rows, i, 0)))
                        shown = db_text(&rows, i, 1);
        if (rows.n > 1)
                (void)snprintf(more, sizeof(more), " (and %d more)", rows.n - 1);
        return ctx_fail_field(ctx, MLC_E_CONFLICT, "/alias",
                              "alias '%s'%s stands on what was not promoted to '%s': only its "
                              "promotions may move it; remove it (mlctl alias remove), or name "
                              "another alias here",
                              shown != NULL ? shown : alias, more, environment);
}
