/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `mlctld check` of what protected environments guard: every leaf in order, each document, role and
 * key judged by what was in force at that moment. What needed owners must name a change that so
 * many of them had signed and that was applied for just this; and what was applied came about.
 * Signatures themselves are looked at elsewhere (approval_check.c, and by `mlctl audit verify`).
 */
#include <stdarg.h>

#include "approval/approval_internal.h"
#include "gen/approval.sql.h"
#include "tlog/leaf.h"

#define BATCH 500
#define GUARD_ARENA (64u << 20)
#define GUARD_MS 3600000

struct guard {
        void (*report)(void *userdata, const char *what);
        void *userdata;
        json_t *docs; /* by kind, by name; of a group its members */
        json_t *users; /* ids of active people */
        json_t *roles; /* by user: {"role@ns": true} */
        json_t *changes; /* by id: {"state", "document", "used"} */
        json_t *signers; /* by change: {user: true} */
};

static void guard_done(struct guard *g)
{
        json_decref(g->docs);
        json_decref(g->users);
        json_decref(g->roles);
        json_decref(g->changes);
        json_decref(g->signers);
}

__attribute__((format(printf, 2, 3))) static void say(const struct guard *g, const char *fmt, ...)
{
        char what[1200];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        g->report(g->userdata, what);
}

static const char *str(const json_t *j, const char *key)
{
        const char *text = json_string_value(json_object_get(j, key));

        return text != NULL ? text : "";
}

static bool has(const json_t *array, const char *text)
{
        size_t i;
        const json_t *v;

        json_array_foreach (array, i, v)
                if (mlc_streq(json_string_value(v), text))
                        return true;
        return false;
}

/* --- who stands behind what, as the leaves so far have it --- */

static bool holds_role(const struct guard *g, const char *user, const char *role)
{
        json_t *held = json_object_get(g->roles, user), *unused;
        size_t len = strlen(role);
        const char *name;

        json_object_foreach (held, name, unused) {
                (void)unused;
                if (strncmp(name, role, len) == 0 && name[len] == '@')
                        return true;
        }
        return false;
}

static bool stands(const struct guard *g, const char *subject, const char *user)
{
        char text[256];

        if (json_object_get(g->users, user) == NULL)
                return false;
        if (mlc_starts_with(subject, "role:"))
                return holds_role(g, user, subject + strlen("role:"));
        (void)snprintf(text, sizeof(text), "user:%s", user);
        if (!mlc_starts_with(subject, "group:"))
                return mlc_streq(subject, text);
        return has(json_object_get(json_object_get(g->docs, "Group"), subject + strlen("group:")),
                   text);
}

static bool any_stands(const struct guard *g, const json_t *subjects, const char *user)
{
        size_t i;
        const json_t *subject;

        json_array_foreach (subjects, i, subject)
                if (stands(g, json_string_value(subject), user))
                        return true;
        return false;
}

static bool rules_stand(const struct guard *g, const json_t *policy, const char *user)
{
        size_t i;
        const json_t *rule;

        json_array_foreach (json_object_get(policy, "approvals"), i, rule)
                if (any_stands(g, json_object_get(rule, "from"), user))
                        return true;
        return false;
}

static bool rules_name(const json_t *policy, const char *subject)
{
        size_t i;
        const json_t *rule;

        json_array_foreach (json_object_get(policy, "approvals"), i, rule)
                if (has(json_object_get(rule, "from"), subject))
                        return true;
        return false;
}

/* --- whether owners had signed --- */

/* What happened: "Role/u7/approver@x", with what makes it the business of an environment. */
struct event {
        const char *what; /* the document of a change */
        const char *change; /* that its leaf names, or "" */
        const char *user; /* of a role or key, or NULL */
        const char *subject; /* "role:R" or "group:G", or NULL */
};

static int64_t signed_by_owners(const struct guard *g, const json_t *environment,
                                const char *change)
{
        json_t *signers = json_object_get(g->signers, change), *unused;
        const char *user;
        int64_t n = 0;

        json_object_foreach (signers, user, unused) {
                (void)unused;
                n += any_stands(g, json_object_get(environment, "owners"), user);
        }
        return n;
}

/* A policy named by the environment, the environment itself, or what owners and rules name. */
static bool concerns(const struct guard *g, const json_t *environment, const struct event *e)
{
        const json_t *owners = json_object_get(environment, "owners");
        const json_t *policy =
                json_object_get(json_object_get(g->docs, "Policy"), str(environment, "policy"));
        const char *name = strchr(e->what, '/') + 1;

        if (e->user != NULL && (any_stands(g, owners, e->user) || rules_stand(g, policy, e->user)))
                return true;
        if (e->subject != NULL)
                return has(owners, e->subject) || rules_name(policy, e->subject);
        if (mlc_starts_with(e->what, "Environment/"))
                return mlc_streq(str(environment, "name"), name);
        return mlc_starts_with(e->what, "Policy/") && mlc_streq(str(environment, "policy"), name);
}

static void judge(struct guard *g, const struct event *e)
{
        json_t *change = json_object_get(g->changes, e->change);
        bool fits = change != NULL && mlc_streq(str(change, "state"), "applied") &&
                    mlc_streq(str(change, "document"), e->what) &&
                    json_object_get(change, "used") == NULL;
        json_t *environment;
        const char *name;

        json_object_foreach (json_object_get(g->docs, "Environment"), name, environment) {
                int64_t need = json_integer_value(json_object_get(environment, "threshold"));

                if (need < 1 || json_array_size(json_object_get(environment, "owners")) == 0 ||
                    !concerns(g, environment, e))
                        continue;
                if (!fits || signed_by_owners(g, environment, e->change) < need)
                        say(g, "'%s' took effect without the signatures of owners of '%s'", e->what,
                            name);
        }
        if (fits)
                (void)json_object_set_new(change, "used", json_true());
}

/* --- leaves --- */

static json_t *part(json_t *object, const char *key)
{
        if (json_object_get(object, key) == NULL)
                (void)json_object_set_new(object, key, json_object());
        return json_object_get(object, key);
}

static void take_user(struct guard *g, const struct mlc_leaf *l)
{
        if (mlc_streq(str(l->state, "status"), "active") &&
            mlc_streq(str(l->state, "kind"), "person"))
                (void)json_object_set_new(g->users, l->id, json_true());
        else
                (void)json_object_del(g->users, l->id);
}

static void take_role(struct guard *g, const struct mlc_leaf *l)
{
        const char *slash = strchr(l->id, '/');
        char what[600], user[64], subject[80];

        if (slash == NULL)
                return;
        (void)snprintf(user, sizeof(user), "%.*s", (int)(slash - l->id), l->id);
        (void)snprintf(subject, sizeof(subject), "role:%.*s", (int)strcspn(slash + 1, "@"),
                       slash + 1);
        (void)snprintf(what, sizeof(what), "Role/%s", l->id);
        if (l->state == NULL) {
                (void)json_object_del(json_object_get(g->roles, user), slash + 1);
                return;
        }
        judge(g, &(struct event){what, str(l->detail, "change"), user, subject});
        (void)json_object_set_new(part(g->roles, user), slash + 1, json_true());
}

static void take_key(struct guard *g, const struct mlc_leaf *l)
{
        const char *user = str(l->state, "user");
        char what[600];

        if (l->has_before || l->state == NULL)
                return;
        (void)snprintf(what, sizeof(what), "Key/%s/%s", user, str(l->state, "fingerprint"));
        judge(g, &(struct event){what, str(l->detail, "change"), user, NULL});
}

static void take_document(struct guard *g, const struct mlc_leaf *l)
{
        const char *kind = str(l->state, "kind"), *name = str(l->state, "name");
        bool group = mlc_streq(kind, "Group");
        char subject[256];
        json_t *content = group ? json_object_get(l->state, "members")
                                : json_object_get(l->detail, "document");

        if (!mlc_streq(l->action, "document.apply") || mlc_streq(kind, "Model"))
                return;
        (void)snprintf(subject, sizeof(subject), "group:%.200s", name);
        judge(g, &(struct event){l->id, str(l->detail, "change"), NULL, group ? subject : NULL});
        (void)json_object_set(part(g->docs, kind), name, content != NULL ? content : json_null());
}

static void take_change(struct guard *g, const struct mlc_leaf *l)
{
        json_t *change = part(g->changes, l->id);

        (void)json_object_set(change, "state", json_object_get(l->state, "state"));
        (void)json_object_set(change, "document", json_object_get(l->state, "document"));
}

static void take_approval(struct guard *g, const struct mlc_leaf *l)
{
        const char *subject = str(l->state, "subject");

        if (mlc_starts_with(subject, "change:") && mlc_streq(l->action, "approval.create") &&
            mlc_streq(str(l->state, "decision"), "approve"))
                (void)json_object_set_new(part(g->signers, subject + strlen("change:")),
                                          str(l->state, "signer"), json_true());
}

static void take(struct guard *g, const char *text)
{
        static const struct {
                const char *kind;
                void (*take)(struct guard *g, const struct mlc_leaf *l);
        } kinds[] = {{"user", take_user},     {"role", take_role},
                     {"key", take_key},       {"document", take_document},
                     {"change", take_change}, {"approval", take_approval}};
        _cleanup_(mlc_leaf_done) struct mlc_leaf leaf = {0};
        struct mlc_err why = {0};

        if (mlc_leaf_parse(text, strlen(text), &leaf, &why) < 0)
                return; /* audit says so */
        for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
                if (mlc_streq(leaf.kind, kinds[i].kind))
                        kinds[i].take(g, &leaf);
}

/* In batches, the log before what waits to be sequenced. In a ctx of its own. */
static int each_leaf(struct mlc_ctx *ctx, struct guard *g)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int64_t log = 0, at = -1;
        int n = BATCH, r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = db_run0(&tx, SQL_GUARD_SNAPSHOT, NULL);
        while (r == 0 && n > 0) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = db_run(&tx, SQL_GUARD_LEAVES, &rows, DB_INT(log), DB_INT(at), DB_INT(BATCH));
                n = r == 0 ? rows.n : 0;
                for (int i = 0; i < n; i++) {
                        take(g, db_text(&rows, i, 2));
                        log = db_int(&rows, i, 0);
                        at = db_int(&rows, i, 1);
                }
        }
        return r;
}

int approval_guard_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                         void *userdata)
{
        _cleanup_(guard_done) struct guard g = {.report = report,
                                                .userdata = userdata,
                                                .docs = json_object(),
                                                .users = json_object(),
                                                .roles = json_object(),
                                                .changes = json_object(),
                                                .signers = json_object()};
        _cleanup_(mlc_ctx_done) struct mlc_ctx one = {0};
        json_t *change;
        const char *id;
        int r;

        mlc_ctx_init(&one, ctx->app, ctx->operation, GUARD_ARENA, GUARD_MS);
        r = each_leaf(&one, &g);
        if (r < 0)
                ctx->err = one.err;
        json_object_foreach (g.changes, id, change)
                if (r == 0 && mlc_streq(str(change, "state"), "applied") &&
                    json_object_get(change, "used") == NULL &&
                    !mlc_starts_with(str(change, "document"), "Model/"))
                        say(&g,
                            "change '%s' was applied, but no entry of the log says that '%s' "
                            "took effect by it",
                            id, str(change, "document"));
        return r;
}
