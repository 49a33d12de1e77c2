/* SPDX-License-Identifier: Apache-2.0 */
#include "approval/approval_internal.h"
#include "gen/approval.sql.h"
#include "work/work.h"

#define ELIGIBLE_MAX 100 /* shown of a rule */

const struct audit_source approval_audit_sources[APPROVAL_N_SOURCES] = {
        {"approval", &SQL_APPROVAL_STATES_APPROVAL},
        {"change", &SQL_APPROVAL_STATES_CHANGE},
};

void approval_start(struct app *app)
{
        work_every(app, &(struct work_task){.name = "change.expire",
                                            .interval_ms = 1000,
                                            .timeout_ms = 30000,
                                            .leader_only = true,
                                            .run = change_expire});
}

int approval_parse(struct mlc_ctx *ctx, const char *text, json_t **ret)
{
        return mlc_json_parse(text, strlen(text), ret, &ctx->err);
}

int approval_state(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *id,
                   json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_APPROVAL_STATE_GET, &rows, DB_TEXT(kind), DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "there is no %s '%s'", kind, id);
        return approval_parse(ctx, db_text(&rows, 0, 0), ret);
}

int approval_readable(struct mlc_ctx *ctx, const char **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        const struct auth_principal *p = ctx->principal;

        mlc_str_init(&s, 1u << 20);
        mlc_str_addc(&s, '{');
        for (unsigned i = 0; i < p->n_grants; i++) {
                if (p->grants[i].roles == 0)
                        continue;
                if (mlc_streq(p->grants[i].ns, "*")) {
                        *ret = NULL;
                        return 0;
                }
                mlc_str_addf(&s, "%s%s", s.len > 1 ? "," : "", p->grants[i].ns);
        }
        mlc_str_addc(&s, '}');
        if (mlc_str_check(&s, &ctx->err) < 0)
                return ctx->err.code;
        *ret = ctx_strdup(ctx, s.data);
        return *ret != NULL ? 0 : ctx->err.code;
}

/* --- who counts --- */

/* Members of what rules name, asked once each. */
struct crowd {
        struct mlc_ctx *ctx;
        struct db_tx *tx;
        const char *ns;
        json_t *members; /* by subject */
};

static int crowd_get(struct crowd *c, const char *from, const json_t **ret)
{
        json_t *m = json_object_get(c->members, from);
        int r;

        if (m == NULL) {
                r = gate_members(c->ctx, c->tx, from, c->ns, &m);
                if (r < 0)
                        return r;
                (void)json_object_set_new(c->members, from, m);
        }
        *ret = m;
        return 0;
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

static int holds(void *userdata, const char *person, const char *from, bool *ret,
                 struct mlc_err *err)
{
        struct crowd *c = userdata;
        const json_t *m;
        int r = crowd_get(c, from, &m);

        if (r < 0) {
                if (err != &c->ctx->err)
                        *err = c->ctx->err;
                return r;
        }
        *ret = has(m, person);
        return 0;
}

static int people_of(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                     const char *const **ret, size_t *ret_n)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char **people;
        int r = in->hold ? db_run(tx, SQL_APPROVAL_PEOPLE_HELD, &rows, DB_TEXT(in->subject_kind),
                                  DB_TEXT(in->subject_id), DB_INT(in->margin_s))
                         : db_run(tx, SQL_APPROVAL_PEOPLE, &rows, DB_TEXT(in->subject_kind),
                                  DB_TEXT(in->subject_id), DB_INT(in->margin_s));

        if (r < 0)
                return r;
        people = ctx_alloc(ctx, ((size_t)rows.n + 1) * sizeof(*people));
        if (people == NULL)
                return ctx->err.code;
        for (int i = 0; i < rows.n; i++) {
                people[i] = db_text_dup(ctx, &rows, i, 0);
                if (people[i] == NULL)
                        return ctx->err.code;
        }
        *ret = people;
        *ret_n = (size_t)rows.n;
        return 0;
}

static struct mlc_approval_in counting(const struct approval_rules *in, struct crowd *c)
{
        return (struct mlc_approval_in){.rules = in->rules,
                                        .excluded = in->excluded,
                                        .n_excluded = in->n_excluded,
                                        .holds = holds,
                                        .userdata = c};
}

int approval_count(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                   struct mlc_approval_count *ret)
{
        _cleanup_(json_decref_p) json_t *members = json_object();
        struct crowd c = {ctx, tx, in->ns, members};
        struct mlc_approval_in count = counting(in, &c);
        int r = people_of(ctx, tx, in, &count.people, &count.n_people);

        if (r < 0)
                return r;
        return mlc_approval_count(&count, &ctx->arena, ret, &ctx->err);
}

int approval_may(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                 const char *person, int *ret_rule)
{
        _cleanup_(json_decref_p) json_t *members = json_object();
        struct crowd c = {ctx, tx, in->ns, members};
        struct mlc_approval_in count = counting(in, &c);

        for (size_t i = 0; i < json_array_size(in->rules); i++) {
                bool may = false;
                int r = mlc_approval_may(&count, i, person, &may, &ctx->err);

                if (r < 0)
                        return r;
                if (may) {
                        *ret_rule = (int)i;
                        return 0;
                }
        }
        *ret_rule = -1;
        return 0;
}

static bool among(const char *const *people, size_t n, const char *person)
{
        for (size_t i = 0; i < n; i++)
                if (mlc_streq(people[i], person))
                        return true;
        return false;
}

int approval_names(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *ids, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *people = json_array();
        _cleanup_(free_p) char *text = json_dumps(ids, JSON_COMPACT);
        int r = db_run(tx, SQL_APPROVAL_NAMES, &rows, DB_TEXT(text));

        if (r < 0)
                return r;
        for (int i = 0; i < rows.n; i++) {
                json_t *one;

                r = approval_parse(ctx, db_text(&rows, i, 0), &one);
                if (r < 0)
                        return r;
                (void)json_array_append_new(people, one);
        }
        *ret = TAKE_PTR(people);
        return 0;
}

/* Who could still sign for a rule. */
static int eligible(struct crowd *c, const struct approval_rules *in, const json_t *rule,
                    const struct mlc_approval_in *count, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *ids = json_array();
        const json_t *from = json_object_get(rule, "from"), *members;
        size_t i, k;
        const json_t *subject, *person;

        json_array_foreach (from, i, subject) {
                int r = crowd_get(c, json_string_value(subject), &members);

                if (r < 0)
                        return r;
                json_array_foreach (members, k, person) {
                        const char *id = json_string_value(person);

                        if (json_array_size(ids) < ELIGIBLE_MAX && !has(ids, id) &&
                            !among(in->excluded, in->n_excluded, id) &&
                            !among(count->people, count->n_people, id))
                                (void)json_array_append_new(ids, json_string(id));
                }
        }
        return approval_names(c->ctx, c->tx, ids, ret);
}

int approval_waiting(struct mlc_ctx *ctx, struct db_tx *tx, const struct approval_rules *in,
                     json_t **ret)
{
        _cleanup_(json_decref_p) json_t *members = json_object();
        _cleanup_(json_decref_p) json_t *list = json_array();
        struct crowd c = {ctx, tx, in->ns, members};
        struct mlc_approval_in count = counting(in, &c);
        struct mlc_approval_count have = {0};
        int r = people_of(ctx, tx, in, &count.people, &count.n_people);

        if (r == 0)
                r = mlc_approval_count(&count, &ctx->arena, &have, &ctx->err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < have.n_rules; i++) {
                json_t *people;

                if (have.rules[i].have >= have.rules[i].need)
                        continue;
                r = eligible(&c, in, json_array_get(in->rules, i), &count, &people);
                if (r < 0)
                        return r;
                (void)json_array_append_new(
                        list, json_pack("{s:s, s:s, s:i, s:i, s:o}", "kind", "approval", "rule",
                                        have.rules[i].name, "need", (int)have.rules[i].need, "have",
                                        (int)have.rules[i].have, "eligible", people));
        }
        *ret = TAKE_PTR(list);
        return 0;
}

/* --- lists, and what becomes void --- */

int approval_list(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject_kind,
                  const char *subject_id, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_APPROVAL_SHOWN_LIST, &rows, DB_TEXT(subject_kind),
                       DB_TEXT(subject_id));

        if (r < 0)
                return r;
        return approval_parse(ctx, db_text(&rows, 0, 0), ret);
}

static int void_one(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, const char *model)
{
        _cleanup_(json_decref_p) json_t *before = NULL;
        _cleanup_(json_decref_p) json_t *after = NULL;
        struct audit_entry e = {
                .action = "approval.void", .kind = "approval", .id = id, .model = model};
        int r = approval_state(ctx, tx, "approval", id, &before);

        if (r < 0)
                return r;
        r = db_run(tx, SQL_APPROVAL_SET_VOID, NULL, DB_TEXT(id));
        if (r < 0)
                return r;
        r = approval_state(ctx, tx, "approval", id, &after);
        if (r < 0)
                return r;
        e.before = before;
        e.after = after;
        return audit_append(ctx, tx, &e, NULL);
}

int approval_void(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject_kind,
                  const char *subject_id, const char *model)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_APPROVAL_STANDING, &rows, DB_TEXT(subject_kind),
                       DB_TEXT(subject_id));

        for (int i = 0; r == 0 && i < rows.n; i++)
                r = void_one(ctx, tx, db_text(&rows, i, 0), model);
        return r;
}
