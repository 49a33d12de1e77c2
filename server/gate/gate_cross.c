/* SPDX-License-Identifier: Apache-2.0 */
/* A document against the others: what it names must be there, what it claims must be free. */
#include <inttypes.h>

#include "app.h"
#include "auth/auth.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"
#include "policy/evaluation.h"
#include "policy/policy.h"
#include "rollout/plan.h"

struct cross {
        const struct gate_set *set;
        const struct gate_item *item;
        const json_t *environments; /* the set's */
};

__attribute__((format(printf, 3, 4))) static int refuse(struct mlc_ctx *ctx, const char *field,
                                                        const char *fmt, ...)
{
        char what[400];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(what, sizeof(what), fmt, ap);
        va_end(ap);
        return ctx_fail_field(ctx, MLC_E_CONFLICT, field, "%s", what);
}

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* --- looking things up: the request's documents go before those that are there --- */

static int there(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c, const char *kind,
                 const char *name, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *key = ctx_printf(ctx, "%s/%s", kind, name);
        int r;

        if (key == NULL)
                return ctx->err.code;
        if (json_object_get(c->set->docs, key) != NULL) {
                *ret = true;
                return 0;
        }
        r = db_run(tx, SQL_DOCUMENT_FIND, &rows, DB_TEXT(kind), DB_TEXT(name));
        *ret = rows.n > 0;
        return r;
}

/* `name` NULL: nothing is named. */
static int need(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c, const char *kind,
                const char *name)
{
        bool found = true;
        int r = name != NULL ? there(ctx, tx, c, kind, name, &found) : 0;

        if (r == 0 && !found)
                return refuse(ctx, "", "%s '%s' names %s '%s', which does not exist", c->item->kind,
                              c->item->name, kind, name);
        return r;
}

static int need_groups(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c,
                       const json_t *subjects)
{
        const json_t *v;
        size_t i;
        int r = 0;

        json_array_foreach (subjects, i, v) {
                const char *s = json_string_value(v);

                if (mlc_starts_with(s, "group:"))
                        r = need(ctx, tx, c, "Group", s + strlen("group:"));
                else if (mlc_starts_with(s, "role:") && auth_role_parse(s + strlen("role:")) == 0)
                        r = refuse(ctx, "/approvals", "there is no role '%s'", s + strlen("role:"));
                if (r < 0)
                        return r;
        }
        return 0;
}

static int document_json(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_set *set,
                         const char *kind, const char *name, json_t **ret)
{
        const char *key = ctx_printf(ctx, "%s/%s", kind, name);
        struct gate_document d;
        json_t *mine;
        int r;

        if (key == NULL)
                return ctx->err.code;
        mine = json_object_get(set->docs, key);
        if (mine != NULL) {
                *ret = json_incref(mine);
                return 0;
        }
        r = gate_document_get(ctx, tx, kind, name, &d);
        return r < 0 ? r : gate_document_json(ctx, &d, ret);
}

/* Those of the database, replaced and extended by those of the request. */
static int all_environments(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set)
{
        _cleanup_(json_decref_p) json_t *old = NULL, *list = json_array();
        json_t *pair, *policy;
        size_t i;
        int r = set->environments == NULL ? gate_environments(ctx, tx, &old) : 0;

        if (r < 0 || set->environments != NULL)
                return r;
        for (i = 0; i < set->n; i++)
                if (strcmp(set->items[i].kind, "Environment") == 0)
                        json_array_append_new(
                                list, json_pack("[O, n]", (json_t *)(uintptr_t)set->items[i].doc));
        json_array_foreach (old, i, pair) {
                const char *name = str(json_array_get(pair, 0), "name");
                const char *key = ctx_printf(ctx, "Environment/%s", name);

                if (key == NULL)
                        return ctx->err.code;
                if (json_object_get(set->docs, key) == NULL)
                        json_array_append(list, pair);
        }
        json_array_foreach (list, i, pair) {
                const char *name = str(json_array_get(pair, 0), "policy");

                if (name == NULL)
                        continue;
                r = document_json(ctx, tx, set, "Policy", name, &policy);
                if (r == MLC_E_NOT_FOUND) /* said where it is named */
                        mlc_err_clear(&ctx->err);
                else if (r < 0)
                        return r;
                else
                        json_array_set_new(pair, 1, policy);
        }
        set->environments = TAKE_PTR(list);
        return 0;
}

/* --- environments --- */

static int check_owner_keys(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *environment,
                            const json_t *ids)
{
        const json_t *id;
        size_t i;

        json_array_foreach (ids, i, id) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};
                int r = db_run(tx, SQL_PERSON_FIND, &rows, DB_TEXT(json_string_value(id)));

                if (r < 0)
                        return r;
                if (rows.n == 0 || db_int(&rows, 0, 3) == 0)
                        return refuse(ctx, "/owners",
                                      "owner '%s' of environment '%s' has no key: "
                                      "`mlctl key add` registers one",
                                      json_string_value(id), str(environment, "name"));
        }
        return 0;
}

/* When it is changed, or a group that it names is. */
static int check_owners(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c,
                        const json_t *environment)
{
        _cleanup_(json_decref_p) json_t *ids = NULL;
        const json_t *owners = json_object_get(environment, "owners");
        json_int_t threshold = json_integer_value(json_object_get(environment, "threshold"));
        int r;

        if (json_array_size(owners) == 0)
                return 0;
        r = gate_owner_ids(ctx, tx, owners, c->set, &ids);
        if (r < 0)
                return r;
        if (threshold > (json_int_t)json_array_size(ids))
                return refuse(ctx, "/threshold",
                              "environment '%s' has a threshold of %" JSON_INTEGER_FORMAT
                              " but %zu owners",
                              str(environment, "name"), threshold, json_array_size(ids));
        return check_owner_keys(ctx, tx, environment, ids);
}

static bool claims(const json_t *environment, const char *url, const char *control)
{
        const json_t *target, *instance;
        size_t i, k;

        json_array_foreach (json_object_get(environment, "targets"), i, target) {
                const char *own = str(json_object_get(target, "traffic"), "control");

                if (control != NULL && own != NULL && strcmp(own, control) == 0)
                        return true;
                json_array_foreach (
                        json_object_get(json_object_get(target, "serving"), "instances"), k,
                        instance)
                        if (url != NULL && mlc_streq(str(instance, "url"), url))
                                return true;
        }
        return false;
}

/* Nothing of a target is another environment's. */
static int check_target(struct mlc_ctx *ctx, const json_t *target, const json_t *other)
{
        const char *control = str(json_object_get(target, "traffic"), "control");
        const json_t *instance;
        size_t k;

        if (control != NULL && claims(other, NULL, control))
                return refuse(ctx, "/targets", "traffic control '%s' belongs to environment '%s'",
                              control, str(other, "name"));
        json_array_foreach (json_object_get(json_object_get(target, "serving"), "instances"), k,
                            instance)
                if (claims(other, str(instance, "url"), NULL))
                        return refuse(ctx, "/targets", "instance '%s' belongs to environment '%s'",
                                      str(instance, "url"), str(other, "name"));
        return 0;
}

static int check_exclusive(struct mlc_ctx *ctx, const struct cross *c)
{
        const char *alias = str(c->item->doc, "alias");
        const json_t *pair, *target;
        size_t i, k;
        int r;

        json_array_foreach (c->environments, i, pair) {
                const json_t *other = json_array_get(pair, 0);

                if (strcmp(str(other, "name"), c->item->name) == 0)
                        continue;
                if (alias != NULL && mlc_streq(str(other, "alias"), alias))
                        return refuse(ctx, "/alias",
                                      "alias '%s' is that of environment '%s': two never share one",
                                      alias, str(other, "name"));
                json_array_foreach (json_object_get(c->item->doc, "targets"), k, target) {
                        r = check_target(ctx, target, other);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

static bool is_routed(const json_t *model, const json_t *environment)
{
        const json_t *route;
        size_t i;

        json_array_foreach (json_object_get(model, "routes"), i, route)
                if (gate_array_has(json_object_get(route, "environments"),
                                   str(environment, "name")))
                        return true;
        return false;
}

/* What a traffic driver there would leave out of what the model asks for. */
static int check_suits(struct mlc_ctx *ctx, const struct cross *c, const json_t *model,
                       const json_t *environment)
{
        const struct mlc_rollout_docs docs = {.model = model,
                                              .environment = environment,
                                              .mirrored = ctx->app->config.mirror_listen != NULL};
        struct mlc_err why = {0};

        if (!is_routed(model, environment) || mlc_rollout_suits(&docs, &why) == 0)
                return 0;
        if (c->item->doc == model)
                return refuse(ctx, why.field, "%s", why.msg);
        return refuse(ctx, "/targets", "model '%s' has a route here: %s", str(model, "name"),
                      why.msg);
}

static int check_suits_models(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_MODELS_ROUTED_TO, &rows, DB_TEXT(c->item->name));

        for (int i = 0; r == 0 && i < rows.n; i++) {
                _cleanup_(json_decref_p) json_t *model = NULL;
                const char *key = ctx_printf(ctx, "Model/%s", db_text(&rows, i, 0));
                const char *text = db_text(&rows, i, 1);

                if (key == NULL)
                        return ctx->err.code;
                if (json_object_get(c->set->docs, key) != NULL)
                        continue; /* checked with its own */
                r = mlc_json_parse(text, strlen(text), &model, &ctx->err);
                if (r == 0)
                        r = check_suits(ctx, c, model, c->item->doc);
        }
        return r;
}

/* Asked again under the lock when it takes effect; here also for who only wants to know. */
static int check_alias(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c)
{
        const char *alias = str(c->item->doc, "alias"), *environment = NULL;
        int r = alias != NULL ? gate_alias_environment(ctx, tx, alias, &environment) : 0;

        if (r < 0 || alias == NULL || mlc_streq(environment, c->item->name))
                return r;
        return gate_alias_claim(ctx, tx, c->item->name, alias);
}

static int check_environment(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c)
{
        const json_t *doc = c->item->doc, *after;
        size_t i;
        int r = need(ctx, tx, c, "Policy", str(doc, "policy"));

        json_array_foreach (json_object_get(doc, "after"), i, after)
                if (r == 0)
                        r = need(ctx, tx, c, "Environment", str(after, "environment"));
        if (r == 0)
                r = need_groups(ctx, tx, c, json_object_get(doc, "owners"));
        if (r == 0)
                r = check_owners(ctx, tx, c, doc);
        if (r == 0)
                r = check_exclusive(ctx, c);
        if (r == 0)
                r = check_suits_models(ctx, tx, c);
        return r < 0 ? r : check_alias(ctx, tx, c);
}

/* --- groups, policies, models --- */

static int check_group(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c)
{
        const char *subject = ctx_printf(ctx, "group:%s", c->item->name);
        const json_t *pair;
        size_t i;
        int r = subject != NULL ? 0 : ctx->err.code;

        json_array_foreach (c->environments, i, pair) {
                const json_t *environment = json_array_get(pair, 0);

                if (r == 0 && gate_array_has(json_object_get(environment, "owners"), subject))
                        r = check_owners(ctx, tx, c, environment);
        }
        return r;
}

static int check_policy(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c)
{
        const json_t *rule;
        size_t i;
        int r = 0;

        json_array_foreach (json_object_get(c->item->doc, "approvals"), i, rule)
                if (r == 0)
                        r = need_groups(ctx, tx, c, json_object_get(rule, "from"));
        return r;
}

static int check_route(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c,
                       const json_t *route)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const json_t *environment, *other;
        const char *name = str(route, "route");
        size_t i, k;
        int r = 0;

        json_array_foreach (json_object_get(route, "environments"), i, environment)
                if (r == 0)
                        r = need(ctx, tx, c, "Environment", json_string_value(environment));
        if (r == 0)
                r = db_run(tx, SQL_MODELS_WITH_ROUTE, &rows, DB_TEXT(name), DB_TEXT(c->item->name));
        if (r < 0)
                return r;
        if (rows.n > 0)
                return refuse(ctx, "/routes", "route '%s' belongs to model '%s'", name,
                              db_text(&rows, 0, 0));
        for (i = 0; i < c->set->n; i++)
                json_array_foreach (json_object_get(c->set->items[i].doc, "routes"), k, other)
                        if (&c->set->items[i] != c->item && mlc_streq(str(other, "route"), name))
                                return refuse(ctx, "/routes", "route '%s' belongs to model '%s'",
                                              name, c->set->items[i].name);
        return 0;
}

static int check_suits_environments(struct mlc_ctx *ctx, const struct cross *c)
{
        const json_t *pair;
        size_t i;
        int r = 0;

        json_array_foreach (c->environments, i, pair)
                if (r == 0)
                        r = check_suits(ctx, c, c->item->doc, json_array_get(pair, 0));
        return r;
}

static int check_model(struct mlc_ctx *ctx, struct db_tx *tx, const struct cross *c)
{
        const json_t *doc = c->item->doc, *route, *step, *rule;
        size_t i, k;
        int r = need(ctx, tx, c, "Policy", str(doc, "policy"));

        if (r == 0)
                r = need_groups(ctx, tx, c, json_object_get(doc, "owners"));
        json_array_foreach (json_object_get(doc, "routes"), i, route)
                if (r == 0)
                        r = check_route(ctx, tx, c, route);
        json_array_foreach (json_object_get(json_object_get(doc, "rollout"), "steps"), i, step)
                json_array_foreach (json_object_get(step, "approvals"), k, rule)
                        if (r == 0)
                                r = need_groups(ctx, tx, c, json_object_get(rule, "from"));
        return r < 0 ? r : check_suits_environments(ctx, c);
}

/* --- layers: a model's policy never redefines what an environment's says --- */

static int check_layer(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_set *set,
                       const char *policy, const char *model)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        const json_t *pair;
        size_t i;
        int r = document_json(ctx, tx, set, "Policy", policy, &doc);

        if (r == MLC_E_NOT_FOUND) { /* said where it is named */
                mlc_err_clear(&ctx->err);
                return 0;
        }
        if (r < 0)
                return r;
        json_array_foreach (set->environments, i, pair) {
                _cleanup_(json_decref_p) json_t *effective = NULL;
                const json_t *first = json_array_get(pair, 1);
                struct mlc_policy_layers layers = {
                        .environment = json_array_get(pair, 0),
                        .environment_policy = json_is_object(first) ? first : NULL,
                        .model_policy = doc,
                };

                r = mlc_policy_effective(&layers, &effective, &ctx->err);
                if (r < 0)
                        return mlc_wrap(&ctx->err, "model '%s' in environment '%s'", model,
                                        str(layers.environment, "name"));
        }
        return 0;
}

/* Models that the request leaves alone, when it changes policies or environments. */
static int check_other_models(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_set *set,
                              json_t *seen)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_MODEL_POLICIES, &rows);

        for (int i = 0; r == 0 && i < rows.n; i++) {
                const char *policy = db_text(&rows, i, 0), *model = db_text(&rows, i, 1);
                const char *key = ctx_printf(ctx, "Model/%s", model);

                if (key == NULL)
                        return ctx->err.code;
                if (json_object_get(set->docs, key) != NULL ||
                    json_object_get(seen, policy) != NULL)
                        continue;
                json_object_set_new(seen, policy, json_true());
                r = check_layer(ctx, tx, set, policy, model);
        }
        return r;
}

int gate_cross_layers(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set)
{
        _cleanup_(json_decref_p) json_t *seen = json_object();
        bool others = false;
        int r = all_environments(ctx, tx, set);

        for (size_t i = 0; r == 0 && i < set->n; i++) {
                const struct gate_item *item = &set->items[i];
                const char *policy = str(item->doc, "policy");
                bool model = strcmp(item->kind, "Model") == 0;

                others = others || (!model && !item->unchanged && strcmp(item->kind, "Group") != 0);
                if (!model || policy == NULL || json_object_get(seen, policy) != NULL)
                        continue;
                json_object_set_new(seen, policy, json_true());
                r = check_layer(ctx, tx, set, policy, item->name);
        }
        return r == 0 && others ? check_other_models(ctx, tx, set, seen) : r;
}

int gate_cross_check(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set, size_t i)
{
        struct cross c = {.set = set, .item = &set->items[i]};
        int r = git_path_allowed(c.item->key)
                        ? all_environments(ctx, tx, set)
                        : refuse(ctx, "/name", "'%s' is no possible name", c.item->name);

        c.environments = set->environments;
        if (r < 0)
                return r;
        if (strcmp(c.item->kind, "Environment") == 0)
                return check_environment(ctx, tx, &c);
        if (strcmp(c.item->kind, "Group") == 0)
                return check_group(ctx, tx, &c);
        if (strcmp(c.item->kind, "Policy") == 0)
                return check_policy(ctx, tx, &c);
        return check_model(ctx, tx, &c);
}

/* --- warnings --- */

static bool same_metric(const struct mlc_metric *m, const json_t *check)
{
        const json_t *slice = json_object_get(check, "slice");

        return mlc_streq(m->name, str(check, "metric")) && mlc_slice_equal(m->slice, slice);
}

/* What the newest evaluation of the check's dataset says about it. */
static int known_of(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *check,
                    struct mlc_feasible_in *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *doc = NULL;
        const char *dataset = str(check, "dataset"), *text;
        struct mlc_evaluation e;
        int r;

        if (dataset == NULL)
                return 0;
        r = db_run(tx, SQL_EVALUATION_LATEST, &rows, DB_TEXT(dataset));
        if (r < 0 || rows.n == 0)
                return r;
        text = db_text(&rows, 0, 0);
        r = mlc_evaluation_parse(text, strlen(text), &ctx->arena, &doc, &e, &ctx->err);
        if (r < 0)
                return r;
        ret->paired = db_bool(&rows, 0, 1);
        for (size_t i = 0; i < e.n_metrics; i++)
                if (same_metric(&e.metrics[i], check)) {
                        ret->n = e.metrics[i].n;
                        if (e.metrics[i].value >= 0 && e.metrics[i].value <= 1)
                                ret->share = e.metrics[i].value;
                }
        return 0;
}

/* Owners guard an environment, but nobody is asked before something goes live in it. */
static void warn_unasked(const struct gate_set *set, const struct gate_item *item)
{
        const json_t *pair;
        size_t k;

        json_array_foreach (set->environments, k, pair) {
                const json_t *environment = json_array_get(pair, 0);
                const char *name = str(environment, "name");
                bool mine = json_equal((json_t *)(uintptr_t)environment,
                                       (json_t *)(uintptr_t)item->doc) ||
                            (strcmp(item->kind, "Policy") == 0 &&
                             mlc_streq(str(environment, "policy"), item->name));

                if (mine && gate_is_protected(environment) &&
                    json_array_size(json_object_get(json_array_get(pair, 1), "approvals")) == 0)
                        json_array_append_new(
                                set->warnings,
                                json_sprintf("%s: environment '%s' has owners, but its policy asks "
                                             "nobody to approve: a version that passes goes live "
                                             "without a signature",
                                             item->key, name));
        }
}

/* HAProxy knows no leases: what the document says of them has no effect there. */
static void warn_lease(const struct gate_set *set, const struct gate_item *item)
{
        const char *lost = str(json_object_get(item->doc, "rollout"), "on_lost_control");
        const json_t *pair, *target;
        size_t i, k;

        json_array_foreach (set->environments, i, pair) {
                const json_t *environment = json_array_get(pair, 0);

                if (!mlc_streq(lost, "stable") || !is_routed(item->doc, environment))
                        continue;
                json_array_foreach (json_object_get(environment, "targets"), k, target)
                        if (mlc_streq(str(json_object_get(target, "traffic"), "driver"), "haproxy"))
                                json_array_append_new(
                                        set->warnings,
                                        json_sprintf("%s: haproxy of environment '%s' holds what "
                                                     "it was told: 'on_lost_control: stable' has "
                                                     "no effect there",
                                                     item->key, str(environment, "name")));
        }
}

int gate_warn(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_set *set, size_t i)
{
        const struct gate_item *item = &set->items[i];
        const json_t *check;
        size_t k;

        warn_unasked(set, item);
        warn_lease(set, item);

        json_array_foreach (json_object_get(item->doc, "checks"), k, check) {
                struct mlc_feasible_in in = {.n = -1, .share = -1, .discordant = -1};
                struct mlc_feasible f = {0};
                int r = known_of(ctx, tx, check, &in);

                if (r < 0)
                        return r;
                if (in.n < 0)
                        continue; /* nobody evaluated on it yet */
                mlc_policy_feasible(check, &in, &f);
                if (f.reason[0] != '\0')
                        json_array_append_new(set->warnings,
                                              json_sprintf("%s: check '%s': %s", item->key,
                                                           str(check, "id"), f.reason));
        }
        return 0;
}
