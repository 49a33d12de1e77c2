/* SPDX-License-Identifier: Apache-2.0 */
/* All that a verdict depends on, in one object; and the verdict. */
#include <inttypes.h>

#include "auth/auth.h"
#include "base/clock.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"
#include "policy/policy.h"
#include "registry/registry.h"
#include "store/store.h"

static const char *str(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

/* --- the version --- */

static int card_text(struct mlc_ctx *ctx, const char *digest, json_t **ret)
{
        const char *text;
        size_t len;
        int r;

        if (digest[0] == '\0') {
                *ret = json_null();
                return 0;
        }
        r = store_read_bytes(ctx, digest, REGISTRY_CARD_MAX, &text, &len);
        if (r < 0)
                return r;
        *ret = json_stringn(text, len);
        if (*ret == NULL) /* no UTF-8: as good as none */
                *ret = json_null();
        return 0;
}

static int version_json(struct mlc_ctx *ctx, const struct gate_version *v, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *summary = NULL, *doc = NULL, *card = NULL;
        int r = gate_parse(ctx, v->summary, &summary);

        if (r == 0)
                r = gate_parse(ctx, v->doc, &doc);
        if (r == 0)
                r = card_text(ctx, v->card, &card);
        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:I, s:s, s:s, s:O, s:s, s:O, s:O, s:O}", "model", v->model,
                         "version", (json_int_t)v->number, "digest", v->digest, "author", v->author,
                         "pushed", json_object_get(summary, "created"), "status", v->status,
                         "lineage", json_object_get(summary, "lineage"), "card", card, "metadata",
                         json_object_get(doc, "metadata"));
        if (*ret == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "cannot describe '%s:%" PRId64 "'", v->model,
                                v->number);
        return 0;
}

/* --- the documents --- */

struct layers {
        json_t *docs[4]; /* environment, its policy, model, its policy; NULL where there is none */
        json_t *named; /* [{kind, name, digest}] */
};

static void layers_done(struct layers *l)
{
        for (size_t i = 0; i < ARRAY_LEN(l->docs); i++)
                json_decref(l->docs[i]);
        json_decref(l->named);
}

/* Layer i; `name` NULL: nothing is named. A model needs no document. */
static int layer(struct mlc_ctx *ctx, struct db_tx *tx, struct layers *l, size_t i,
                 const char *name)
{
        static const char *const kinds[] = {"Environment", "Policy", "Model", "Policy"};
        struct gate_document d;
        int r;

        if (name == NULL)
                return 0;
        r = gate_document_get(ctx, tx, kinds[i], name, &d);
        if (r == MLC_E_NOT_FOUND && i == 2) {
                mlc_err_clear(&ctx->err);
                return 0;
        }
        if (r == 0)
                r = gate_document_json(ctx, &d, &l->docs[i]);
        if (r < 0)
                return r;
        json_array_append_new(l->named, json_pack("{s:s, s:s, s:s}", "kind", d.kind, "name", d.name,
                                                  "digest", d.digest));
        return 0;
}

static int layers_load(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment,
                       const char *model, struct layers *l)
{
        int r;

        l->named = json_array();
        r = layer(ctx, tx, l, 0, environment);
        if (r == 0)
                r = layer(ctx, tx, l, 1, str(l->docs[0], "policy"));
        if (r == 0)
                r = layer(ctx, tx, l, 2, model);
        if (r == 0)
                r = layer(ctx, tx, l, 3, str(l->docs[2], "policy"));
        return r;
}

static int add_policy(struct mlc_ctx *ctx, const struct layers *l, json_t *bundle)
{
        struct mlc_policy_layers in = {l->docs[0], l->docs[1], l->docs[2], l->docs[3]};
        char policy_digest[MLC_DIGEST_STR], environment_digest[MLC_DIGEST_STR];
        _cleanup_(json_decref_p) json_t *policy = NULL;
        struct mlc_digest p, e;
        int r = mlc_policy_effective(&in, &policy, &ctx->err);

        if (r == 0)
                r = mlc_policy_digest(policy, &p, &ctx->err);
        if (r == 0)
                r = mlc_environment_digest(l->docs[0], policy, l->docs[2], &e, &ctx->err);
        if (r < 0)
                return r;
        mlc_digest_format(&p, policy_digest);
        mlc_digest_format(&e, environment_digest);
        json_object_set(bundle, "environment", l->docs[0]);
        json_object_set_new(bundle, "environment_digest", json_string(environment_digest));
        json_object_set(bundle, "policy", policy);
        json_object_set_new(bundle, "policy_digest", json_string(policy_digest));
        json_object_set(bundle, "documents", l->named);
        return 0;
}

/* --- evidence --- */

static int live(struct mlc_ctx *ctx, struct db_tx *tx, const char *environment, const char *model,
                struct gate_live *ret)
{
        const struct gate_hooks *hooks = gate_hooks_of(ctx);

        *ret = (struct gate_live){0};
        return hooks->live != NULL ? hooks->live(ctx, tx, environment, model, ret) : 0;
}

static int champion(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                    const char *model, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *records = NULL;
        struct gate_subject of = *s;
        struct gate_version v;
        struct gate_live now;
        char number[24];
        int r = live(ctx, tx, s->environment, model, &now);

        if (r < 0)
                return r;
        if (now.number == 0) {
                *ret = json_null();
                return 0;
        }
        (void)snprintf(number, sizeof(number), "%" PRId64, now.number);
        of.version = number;
        r = gate_version_find(ctx, tx, &of, &v);
        if (r == 0)
                r = gate_records(ctx, tx, v.id, &records);
        if (r < 0)
                return r;
        *ret = json_pack("{s:I, s:s, s:O}", "version", (json_int_t)v.number, "digest", v.digest,
                         "evaluations", records);
        return 0;
}

static int judged_on(struct mlc_ctx *ctx, struct db_tx *tx, int64_t version_id, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        json_t *map;
        int r = db_run(tx, SQL_EVALUATION_JUDGED, &rows, DB_INT(version_id));

        (void)ctx;
        if (r < 0)
                return r;
        map = json_object();
        for (int i = 0; i < rows.n; i++)
                json_object_set_new(map, db_text(&rows, i, 0), json_integer(db_int(&rows, i, 1)));
        *ret = map;
        return 0;
}

/* How long this very version has been live where the environment wants it first. */
static int after(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                 const struct gate_version *v, json_t *bundle)
{
        const json_t *wanted = json_object_get(json_object_get(bundle, "environment"), "after");
        _cleanup_(json_decref_p) json_t *list = json_array();
        const json_t *one;
        size_t i;

        json_array_foreach (wanted, i, one) {
                struct gate_live now;
                int r = live(ctx, tx, str(one, "environment"), v->model, &now);
                int64_t ms = now.since_ms < s->now_ms ? s->now_ms - now.since_ms : 0;

                if (r < 0)
                        return r;
                json_array_append_new(
                        list, json_pack("{s:s, s:o}", "environment", str(one, "environment"),
                                        "live_for_ms",
                                        now.number == v->number ? json_integer(ms) : json_null()));
        }
        json_object_set(bundle, "after", list);
        return 0;
}

static int add_evidence(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                        const struct gate_version *v, json_t *bundle)
{
        json_t *part = NULL;
        int r = version_json(ctx, v, &part);

        if (r < 0)
                return r;
        json_object_set_new(bundle, "version", TAKE_PTR(part));
        r = gate_records(ctx, tx, v->id, &part);
        if (r < 0)
                return r;
        json_object_set_new(bundle, "evaluations", TAKE_PTR(part));
        r = champion(ctx, tx, s, v->model, &part);
        if (r < 0)
                return r;
        json_object_set_new(bundle, "champion", TAKE_PTR(part));
        r = judged_on(ctx, tx, v->id, &part);
        if (r < 0)
                return r;
        json_object_set_new(bundle, "judged_on", TAKE_PTR(part));
        return after(ctx, tx, s, v, bundle);
}

/* Evidence may come to more than the judge, a statement or a client should be given. */
static int check_size(struct mlc_ctx *ctx, const json_t *bundle)
{
        size_t len = json_dumpb(bundle, NULL, 0, JSON_COMPACT);

        if (len > GATE_BUNDLE_MAX)
                return ctx_fail(ctx, MLC_E_LIMIT, "the evidence is %zu bytes long, at most %u", len,
                                GATE_BUNDLE_MAX);
        return 0;
}

int gate_bundle(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s, json_t **ret)
{
        _cleanup_(layers_done) struct layers l = {0};
        _cleanup_(json_decref_p) json_t *bundle = NULL;
        struct gate_version v;
        char now[MLC_TIME_MAX];
        int r = gate_version_find(ctx, tx, s, &v);

        if (r == 0)
                r = layers_load(ctx, tx, s->environment, v.model, &l);
        if (r < 0)
                return r;
        mlc_time_format(s->now_ms, now);
        bundle = json_pack("{s:s, s:s}", "schema", "bundle/v1", "now", now);
        r = add_policy(ctx, &l, bundle);
        if (r == 0)
                r = add_evidence(ctx, tx, s, &v, bundle);
        if (r == 0)
                r = check_size(ctx, bundle);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bundle);
        return 0;
}

/* --- the verdict --- */

static int open_examples(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct mlc_ctx *ctx = userdata;
        uint64_t size;
        int r = store_open_blob(ctx, digest, ret_fd, &size);

        if (r < 0 && err != &ctx->err) {
                *err = ctx->err;
                mlc_err_clear(&ctx->err);
        }
        return r;
}

int gate_judge(struct mlc_ctx *ctx, const json_t *bundle, json_t **ret_verdict)
{
        struct mlc_policy_examples examples = {open_examples, ctx};
        struct mlc_err err = {0};
        int r = mlc_policy_judge(bundle, &examples, ret_verdict, &err);

        if (r < 0)
                ctx->err = err;
        return r;
}

/* --- `policy test` --- */

/* Who promotes never counts, nor who pushed; for a service its owner. */
static int excluded_people(struct mlc_ctx *ctx, struct db_tx *tx, const char *author, json_t **ret)
{
        const struct auth_principal *p = ctx->principal;
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PERSON_OWNER, &rows, DB_TEXT(author));

        if (r < 0)
                return r;
        *ret = json_pack("[s, s, s, s]", author, rows.n > 0 ? db_text(&rows, 0, 0) : "", p->user,
                         p->owner);
        return 0;
}

/* Ids to [{id, name}]. */
static int named_people(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *ids, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *list = json_array();
        const char *text = gate_json_text(ctx, ids);
        int r = text != NULL ? db_run(tx, SQL_PEOPLE_NAMES, &rows, DB_TEXT(text)) : ctx->err.code;

        for (int i = 0; r == 0 && i < rows.n; i++) {
                json_t *one = NULL;

                r = gate_parse(ctx, db_text(&rows, i, 0), &one);
                if (r == 0)
                        json_array_append_new(list, one);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}

struct asked {
        const struct gate_subject *subject;
        json_t *excluded;
};

static int eligible(struct mlc_ctx *ctx, struct db_tx *tx, const struct asked *a,
                    const json_t *rule, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *people = json_object(), *ids = json_array();
        const json_t *from, *id;
        const char *person;
        json_t *unused;
        size_t i, k;

        json_array_foreach (json_object_get(rule, "from"), i, from) {
                _cleanup_(json_decref_p) json_t *members = NULL;
                int r = gate_members(ctx, tx, json_string_value(from), a->subject->ns, &members);

                if (r < 0)
                        return r;
                json_array_foreach (members, k, id)
                        if (!gate_array_has(a->excluded, json_string_value(id)))
                                json_object_set_new(people, json_string_value(id), json_true());
        }
        json_object_foreach (people, person, unused) {
                (void)unused;
                json_array_append_new(ids, json_string(person));
        }
        return named_people(ctx, tx, ids, ret);
}

static int approvers(struct mlc_ctx *ctx, struct db_tx *tx, const struct asked *a,
                     const json_t *policy, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *list = json_array();
        const json_t *rule;
        size_t i;

        json_array_foreach (json_object_get(policy, "approvals"), i, rule) {
                json_t *people = NULL;
                int r = eligible(ctx, tx, a, rule, &people);

                if (r < 0)
                        return r;
                json_array_append_new(list,
                                      json_pack("{s:O, s:O, s:O, s:o}", "rule",
                                                json_object_get(rule, "name"), "need",
                                                json_object_get(rule, "count"), "from",
                                                json_object_get(rule, "from"), "eligible", people));
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static int gather(struct mlc_ctx *ctx, const struct gate_subject *s, json_t **ret_bundle,
                  json_t **ret_approvals)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct asked a = {.subject = s};
        const json_t *version;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = gate_bundle(ctx, &tx, s, ret_bundle);
        if (r < 0)
                return r;
        version = json_object_get(*ret_bundle, "version");
        if (mlc_streq(str(version, "status"), "withdrawn"))
                return ctx_fail(ctx, MLC_E_CONFLICT, "version '%s' of '%s/%s' is withdrawn",
                                s->version, s->ns, s->model);
        r = excluded_people(ctx, &tx, str(version, "author"), &a.excluded);
        if (r == 0)
                r = approvers(ctx, &tx, &a, json_object_get(*ret_bundle, "policy"), ret_approvals);
        json_decref(a.excluded);
        return r;
}

static const char *would_be(const char *verdict, const json_t *approvals)
{
        if (mlc_streq(verdict, "pass"))
                return json_array_size(approvals) > 0 ? "awaiting_approval" : "approved";
        return mlc_streq(verdict, "fail") ? "rejected" : "held";
}

int gate_policy_test(struct mlc_ctx *ctx, const struct gate_subject *s, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *bundle = NULL, *verdict = NULL, *approvals = NULL;
        int r = gather(ctx, s, &bundle, &approvals);

        if (r == 0)
                r = gate_judge(ctx, bundle, &verdict);
        if (r < 0)
                return r;
        *ret = json_pack("{s:O, s:O, s:O, s:s, s:b}", "verdict", verdict, "bundle", bundle,
                         "approvals", approvals, "would_be",
                         would_be(str(verdict, "verdict"), approvals), "protected",
                         gate_is_protected(json_object_get(bundle, "environment")));
        return 0;
}
