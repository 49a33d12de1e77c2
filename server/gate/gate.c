/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: what a request wants, whether it may, and the versions that it makes. */
#include <inttypes.h>

#include "app.h"
#include "auth/auth.h"
#include "base/clock.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"

const struct audit_source gate_audit_sources[GATE_N_SOURCES] = {
        {"document", &SQL_GATE_STATES_DOCUMENT},
        {"evaluation", &SQL_GATE_STATES_EVALUATION},
};

void gate_set_hooks(struct app *app, const struct gate_hooks *hooks)
{
        app->gate_hooks = hooks;
}

const struct gate_hooks *gate_hooks_of(const struct mlc_ctx *ctx)
{
        static const struct gate_hooks none = {0};

        return ctx->app->gate_hooks != NULL ? ctx->app->gate_hooks : &none;
}

const char *gate_json_text(struct mlc_ctx *ctx, const json_t *j)
{
        _cleanup_(mlc_str_done) struct mlc_str text;

        mlc_str_init(&text, GATE_TEXT_MAX);
        if (mlc_jcs(j, &text, &ctx->err) < 0)
                return NULL;
        return ctx_strdup(ctx, mlc_str_cstr(&text));
}

int gate_parse(struct mlc_ctx *ctx, const char *text, json_t **ret)
{
        return mlc_json_parse(text, strlen(text), ret, &ctx->err);
}

int gate_json_digest(struct mlc_ctx *ctx, const json_t *j, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d;
        int r = mlc_sha256_json(j, &d, &ctx->err);

        if (r < 0)
                return r;
        mlc_digest_format(&d, ret);
        return 0;
}

/* --- reading --- */

int gate_document_get(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *name,
                      struct gate_document *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct gate_document d = {0};
        int r = db_run(tx, SQL_DOCUMENT_FIND, &rows, DB_TEXT(kind), DB_TEXT(name));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND, "document '%s/%s' does not exist", kind,
                                name);
        d.number = db_int(&rows, 0, 0);
        (void)snprintf(d.digest, sizeof(d.digest), "%s", db_text(&rows, 0, 1));
        d.kind = ctx_strdup(ctx, kind);
        d.name = ctx_strdup(ctx, name);
        d.yaml = db_text_dup(ctx, &rows, 0, 2);
        d.normal = db_text_dup(ctx, &rows, 0, 3);
        if (d.kind == NULL || d.name == NULL || d.yaml == NULL || d.normal == NULL)
                return ctx->err.code;
        *ret = d;
        return 0;
}

int gate_document_json(struct mlc_ctx *ctx, const struct gate_document *d, json_t **ret)
{
        return gate_parse(ctx, d->normal, ret);
}

/* --- what a request wants --- */

void gate_set_done(struct gate_set *set)
{
        json_decref(set->docs);
        json_decref(set->protections);
        json_decref(set->warnings);
        json_decref(set->environments);
        *set = (struct gate_set){0};
}

/* What auditors judge by is in the leaf itself; of a group the state has it all. */
static bool in_leaf(const struct gate_item *item)
{
        return strcmp(item->kind, "Group") != 0;
}

static int item_fill(struct mlc_ctx *ctx, struct gate_set *set, struct gate_item *item, json_t *doc)
{
        struct mlc_digest digest;
        int r;

        item->key = ctx_printf(ctx, "%s/%s", item->kind, item->name);
        item->normal = gate_json_text(ctx, doc);
        if (item->key == NULL || item->normal == NULL)
                return ctx->err.code;
        if (in_leaf(item) && strlen(item->normal) > GATE_NORMAL_MAX)
                return ctx_fail(ctx, MLC_E_LIMIT,
                                "'%s' has %zu KiB in its normal form, and at most %u KiB fit into "
                                "its entry of the log",
                                item->key, (strlen(item->normal) + 1023) >> 10,
                                GATE_NORMAL_MAX >> 10);
        r = mlc_sha256_json(doc, &digest, &ctx->err);
        if (r < 0)
                return r;
        mlc_digest_format(&digest, item->digest);
        json_object_set(set->docs, item->key, doc);
        item->doc = doc;
        return 0;
}

/* Its YAML, with ids instead of names, is read again: what is kept is what was understood. */
static int item_read(struct mlc_ctx *ctx, struct gate_set *set, struct gate_item *item)
{
        _cleanup_(mlc_documents_done) struct mlc_documents one = {0};
        int r = mlc_documents_parse(item->yaml, strlen(item->yaml), &ctx->arena, &one, &ctx->err);

        if (r < 0)
                return r;
        if (one.n != 1 || strcmp(one.items[0].name, item->name) != 0)
                return ctx_fail(ctx, MLC_E_INVALID, "'%s' cannot be kept: write it more plainly",
                                item->name);
        return item_fill(ctx, set, item, one.items[0].json);
}

static int item_make(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set,
                     const struct mlc_document *d)
{
        struct gate_item *item = &set->items[set->n];
        char *yaml = mlc_arena_strndup(&ctx->arena, d->source, d->source_len, &ctx->err);
        int r;

        item->kind = mlc_document_kind_name(d->kind);
        item->name = ctx_strdup(ctx, d->name);
        if (yaml == NULL || item->name == NULL)
                return ctx->err.code;
        r = gate_people_to_ids(ctx, tx, d->json, yaml, &item->yaml);
        if (r == 0)
                r = item_read(ctx, set, item);
        if (r < 0)
                return mlc_wrap(&ctx->err, "%s '%s'", item->kind, item->name);
        set->n++;
        return 0;
}

static int set_begin(struct mlc_ctx *ctx, size_t n, struct gate_set *set)
{
        set->items = mlc_arena_array(&ctx->arena, n + 1, sizeof(*set->items), &ctx->err);
        if (set->items == NULL)
                return ctx->err.code;
        set->docs = json_object();
        set->protections = json_object();
        set->warnings = json_array();
        return 0;
}

/* Dependencies first, so that the log reads well: groups, policies, environments, models. */
static int set_read(struct mlc_ctx *ctx, struct db_tx *tx, const char *text, size_t len,
                    struct gate_set *set)
{
        static const enum mlc_document_kind order[] = {MLC_GROUP, MLC_POLICY, MLC_ENVIRONMENT,
                                                       MLC_MODEL};
        _cleanup_(mlc_documents_done) struct mlc_documents docs = {0};
        int r = mlc_documents_parse(text, len, &ctx->arena, &docs, &ctx->err);

        if (r < 0)
                return r;
        r = set_begin(ctx, docs.n, set);
        for (size_t k = 0; k < ARRAY_LEN(order); k++)
                for (size_t i = 0; r == 0 && i < docs.n; i++)
                        if (docs.items[i].kind == order[k])
                                r = item_make(ctx, tx, set, &docs.items[i]);
        return r;
}

/* --- rights --- */

static bool is_owner(struct mlc_ctx *ctx, const json_t *ids)
{
        const struct auth_principal *p = ctx->principal;

        return gate_array_has(ids, p->service ? p->owner : p->user);
}

/* A model's document: its owners, an admin of the namespace, or for the first one a contributor. */
static int may_apply_model(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_item *item)
{
        _cleanup_(json_decref_p) json_t *doc = NULL, *owners = NULL;
        const char *slash = strchr(item->name, '/');
        struct gate_document d;
        unsigned roles;
        char ns[128];
        int r;

        (void)snprintf(ns, sizeof(ns), "%.*s", (int)(slash - item->name), item->name);
        roles = auth_roles(ctx->principal, ns);
        if (!auth_may_read(ctx->principal, ns))
                return ctx_fail(ctx, MLC_E_NOT_FOUND,
                                "namespace '%s' does not exist, or you have no role there", ns);
        if ((roles & AUTH_ADMIN) != 0)
                return 0;
        r = gate_document_get(ctx, tx, item->kind, item->name, &d);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(&ctx->err);
                if ((roles & AUTH_CONTRIBUTOR) != 0)
                        return 0;
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "the document of '%s' is made by an admin or a contributor of '%s'",
                                item->name, ns);
        }
        if (r == 0)
                r = gate_document_json(ctx, &d, &doc);
        if (r == 0)
                r = gate_owner_ids(ctx, tx, json_object_get(doc, "owners"), NULL, &owners);
        if (r < 0)
                return r;
        if (!is_owner(ctx, owners))
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "the document of '%s' is changed by its owners or an admin",
                                item->name);
        return 0;
}

static int may_apply(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_item *item)
{
        if (strcmp(item->kind, "Model") == 0)
                return may_apply_model(ctx, tx, item);
        if ((auth_roles(ctx->principal, "*") & AUTH_ADMIN) == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "%s '%s' is applied by an admin who is that in every namespace",
                                item->kind, item->name);
        return 0;
}

/* --- planning --- */

static struct gate_change change_of(struct mlc_ctx *ctx, const struct gate_item *item)
{
        return (struct gate_change){.kind = item->kind,
                                    .name = item->name,
                                    .before = item->before[0] != '\0' ? item->before : NULL,
                                    .after = item->digest,
                                    .yaml = item->yaml,
                                    .normal = item->normal,
                                    .author = ctx->principal->user};
}

static int look_up(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_item *item)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_DOCUMENT_FIND, &rows, DB_TEXT(item->kind), DB_TEXT(item->name));

        (void)ctx;
        if (r < 0 || rows.n == 0)
                return r;
        item->number = db_int(&rows, 0, 0);
        (void)snprintf(item->before, sizeof(item->before), "%s", db_text(&rows, 0, 1));
        item->unchanged = strcmp(item->before, item->digest) == 0;
        return 0;
}

static int plan_item(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set, size_t i)
{
        struct gate_item *item = &set->items[i];
        struct gate_change change = change_of(ctx, item);
        json_t *protection = NULL;
        int r = may_apply(ctx, tx, item);

        if (r < 0 || item->unchanged)
                return r;
        r = gate_cross_check(ctx, tx, set, i);
        if (r == 0)
                r = gate_warn(ctx, tx, set, i);
        if (r == 0)
                r = gate_protection(ctx, tx, &change, &protection);
        if (r < 0)
                return r;
        if (json_array_size(protection) > 0)
                item->protection = protection;
        json_object_set_new(set->protections, item->key, protection);
        return 0;
}

/* What waits for signatures is not there until it has them, and may never be: what is applied now
 * must fit without it. */
static int plan_meanwhile(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_set *set)
{
        struct gate_set now = {0};
        int r = 0;

        now.items = mlc_arena_array(&ctx->arena, set->n + 1, sizeof(*now.items), &ctx->err);
        if (now.items == NULL)
                return ctx->err.code;
        now.docs = json_copy(set->docs);
        for (size_t i = 0; i < set->n; i++)
                if (set->items[i].protection == NULL)
                        now.items[now.n++] = set->items[i];
                else
                        json_object_del(now.docs, set->items[i].key);
        if (now.n < set->n) {
                for (size_t i = 0; i < now.n && r == 0; i++)
                        if (!now.items[i].unchanged)
                                r = gate_cross_check(ctx, tx, &now, i);
                if (r == 0)
                        r = gate_cross_layers(ctx, tx, &now);
                if (r < 0)
                        r = mlc_wrap(&ctx->err, "before what needs signatures has them");
        }
        gate_set_done(&now);
        return r;
}

static int plan(struct mlc_ctx *ctx, struct db_tx *tx, struct gate_set *set)
{
        int r = 0;

        for (size_t i = 0; i < set->n && r == 0; i++)
                r = look_up(ctx, tx, &set->items[i]);
        for (size_t i = 0; i < set->n && r == 0; i++)
                r = plan_item(ctx, tx, set, i);
        if (r == 0)
                r = gate_cross_layers(ctx, tx, set);
        return r < 0 ? r : plan_meanwhile(ctx, tx, set);
}

/* --- writing --- */

struct writer {
        struct gate_tree tree;
        int64_t seq; /* of the newest commit; its row is held */
        char parent[GIT_OID_STR]; /* "" before the first */
};

static void writer_done(struct writer *w)
{
        gate_tree_done(&w->tree);
}

static int writer_begin(struct mlc_ctx *ctx, struct db_tx *tx, struct writer *w)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_DOCUMENT_HEAD_LOCK, &rows);

        if (r < 0)
                return r;
        if (rows.n != 1)
                return ctx_fail(ctx, MLC_E_INTERNAL, "the head of the documents is missing");
        w->seq = db_int(&rows, 0, 0);
        return 0;
}

/* The parent is read after the lock: a statement sees what was committed when it began. */
static int writer_load(struct mlc_ctx *ctx, struct db_tx *tx, struct writer *w)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run0(tx, SQL_DOCUMENT_HEAD_LOCK, &rows);

        if (r < 0)
                return r;
        w->seq = db_int(&rows, 0, 0);
        (void)snprintf(w->parent, sizeof(w->parent), "%s", db_text(&rows, 0, 1));
        return gate_tree_load(ctx, tx, w->seq, &w->tree);
}

struct made {
        int64_t at_ms;
        char at[MLC_TIME_MAX];
        char commit[GIT_OID_STR];
        char leaf[65];
        const char *author;
        const json_t *detail; /* of the caller */
};

static int build_commit(struct mlc_ctx *ctx, struct writer *w, const struct gate_item *item,
                        struct made *m, struct mlc_str *bytes)
{
        struct git_commit_in in = {.time_s = m->at_ms / 1000,
                                   .parent = w->parent[0] != '\0' ? w->parent : NULL,
                                   .signer = audit_signer(ctx->app)};
        int r = gate_tree_set(ctx, &w->tree, item);

        if (r < 0)
                return r;
        if (w->tree.n > 2 * GATE_DOCUMENTS_MAX)
                return ctx_fail(ctx, MLC_E_LIMIT, "there are %d documents already",
                                GATE_DOCUMENTS_MAX);
        in.files = w->tree.files;
        in.n_files = w->tree.n;
        in.message = ctx_printf(ctx, "%s %" PRId64 "\n\nDigest: %s\n", item->key, item->number + 1,
                                item->digest);
        if (in.message == NULL)
                return ctx->err.code;
        return git_commit_build(&in, bytes, m->commit, &ctx->err);
}

static json_t *or_null(const json_t *doc, const char *key)
{
        json_t *v = json_object_get(doc, key);

        return v != NULL ? v : json_null();
}

static json_t *state_json(const struct gate_item *item, const struct made *m)
{
        return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:O, s:O, s:O}", "kind", item->kind,
                         "name", item->name, "version", (json_int_t)item->number + 1, "digest",
                         item->digest, "commit", m->commit, "author", m->author, "owners",
                         or_null(item->doc, "owners"), "threshold", or_null(item->doc, "threshold"),
                         "members", or_null(item->doc, "members"));
}

static int state_before(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_item *item,
                        json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        if (item->number == 0)
                return 0;
        r = db_run(tx, SQL_DOCUMENT_STATE, &rows, DB_TEXT(item->key));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_INTERNAL, "'%s' has no state", item->key);
        return gate_parse(ctx, db_text(&rows, 0, 0), ret);
}

/* The founding owners of an environment with their keys, a leaf of its own: what `audit trust`
 * prints and a stranger compares. */
static int record_founding(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_item *item,
                           const json_t *before, const json_t *state)
{
        _cleanup_(json_decref_p) json_t *ids = NULL, *owners = json_array(), *detail = NULL;
        const json_t *id;
        size_t i;
        int r;

        if (strcmp(item->kind, "Environment") != 0 || gate_is_protected(before) ||
            !gate_is_protected(item->doc))
                return 0;
        r = gate_owner_ids(ctx, tx, json_object_get(item->doc, "owners"), NULL, &ids);
        if (r < 0)
                return r;
        json_array_foreach (ids, i, id) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};
                json_t *keys = json_array();

                r = db_run(tx, SQL_PERSON_KEYS, &rows, DB_TEXT(json_string_value(id)));
                for (int k = 0; r == 0 && k < rows.n; k++)
                        json_array_append_new(keys, json_string(db_text(&rows, k, 0)));
                json_array_append_new(owners, json_pack("{s:O, s:o}", "user", id, "keys", keys));
                if (r < 0)
                        return r;
        }
        detail = json_pack("{s:s, s:O, s:O}", "environment", item->name, "owners", owners,
                           "threshold", json_object_get(item->doc, "threshold"));
        return audit_append(ctx, tx,
                            &(struct audit_entry){.action = "environment.protect",
                                                  .kind = "document",
                                                  .id = item->key,
                                                  .before = state,
                                                  .after = state,
                                                  .detail = detail},
                            NULL);
}

static int insert_rows(struct mlc_ctx *ctx, struct db_tx *tx, struct writer *w,
                       const struct gate_item *item, const struct made *m,
                       const struct mlc_str *bytes)
{
        int r;

        (void)ctx;
        r = item->number == 0 ? db_run(tx, SQL_DOCUMENT_INSERT, NULL, DB_TEXT(item->kind),
                                       DB_TEXT(item->name), DB_TEXT(item->digest))
                              : db_run(tx, SQL_DOCUMENT_RAISE, NULL, DB_TEXT(item->kind),
                                       DB_TEXT(item->name), DB_TEXT(item->digest));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_DOCUMENT_VERSION_INSERT, NULL, DB_TEXT(item->kind), DB_TEXT(item->name),
                   DB_INT(item->number + 1), DB_INT(w->seq + 1), DB_TEXT(item->digest),
                   DB_TEXT(item->yaml), DB_TEXT(item->normal), DB_TEXT(m->commit),
                   DB_TEXT(m->author), DB_TEXT(m->at), DB_TEXT(m->leaf));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_DOCUMENT_COMMIT_INSERT, NULL, DB_INT(w->seq + 1),
                   DB_BYTES(mlc_str_cstr(bytes), bytes->len));
        if (r < 0)
                return r;
        r = db_run(tx, SQL_DOCUMENT_HEAD_SET, NULL, DB_INT(w->seq + 1));
        if (r < 0)
                return r;
        w->seq++;
        memcpy(w->parent, m->commit, sizeof(w->parent));
        return 0;
}

static int tell(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_item *item)
{
        const struct gate_hooks *hooks = gate_hooks_of(ctx);

        if (hooks->changed == NULL)
                return 0;
        return hooks->changed(
                ctx, tx,
                &(struct gate_news){.what = "document", .kind = item->kind, .name = item->name});
}

/* One version: commit, leaf and rows. */
static int write_item(struct mlc_ctx *ctx, struct db_tx *tx, struct writer *w,
                      const struct gate_item *item, struct made *m)
{
        _cleanup_(json_decref_p) json_t *before = NULL, *after = NULL, *detail = NULL;
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        const struct gate_hooks *hooks = gate_hooks_of(ctx);
        int r;

        mlc_str_init(&bytes, GIT_COMMIT_MAX);
        m->at_ms = mlc_now_ms();
        mlc_time_format(m->at_ms, m->at);
        /* waits for what goes live by the documents of before: leaves are then in the order in
         * which they took effect */
        r = hooks->changing != NULL ? hooks->changing(ctx, tx) : 0;
        if (r == 0)
                r = build_commit(ctx, w, item, m, &bytes);
        if (r < 0)
                return r;
        r = state_before(ctx, tx, item, &before);
        if (r < 0)
                return r;
        after = state_json(item, m);
        detail = m->detail != NULL ? json_copy((json_t *)(uintptr_t)m->detail) : json_object();
        json_object_set_new(detail, "at", json_string(m->at));
        if (in_leaf(item))
                json_object_set(detail, "document", (json_t *)(uintptr_t)item->doc);
        r = audit_append(ctx, tx,
                         &(struct audit_entry){
                                 .action = "document.apply",
                                 .kind = "document",
                                 .id = item->key,
                                 .before = before,
                                 .after = after,
                                 .detail = detail,
                                 .model = strcmp(item->kind, "Model") == 0 ? item->name : NULL},
                         m->leaf);
        if (r < 0)
                return r;
        r = insert_rows(ctx, tx, w, item, m, &bytes);
        if (r < 0)
                return r;
        r = record_founding(ctx, tx, item, before, after);
        return r < 0 ? r : tell(ctx, tx, item);
}

/* --- replies --- */

static json_t *shown(const struct gate_item *item, int64_t number)
{
        return json_pack("{s:s, s:s, s:I, s:s, s:s?}", "kind", item->kind, "name", item->name,
                         "version", (json_int_t)number, "digest", item->digest, "before",
                         item->before[0] != '\0' ? item->before : NULL);
}

static int64_t signatures_needed(const json_t *protection)
{
        const json_t *one;
        int64_t sum = 0;
        size_t i;

        json_array_foreach (protection, i, one)
                sum += json_integer_value(json_object_get(one, "threshold"));
        return sum;
}

/* What is pending has the shape that approval gives it, and says which document it is. */
static int open_change(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_item *item,
                       bool dry_run, json_t *list)
{
        const struct gate_hooks *hooks = gate_hooks_of(ctx);
        struct gate_change change = change_of(ctx, item);
        json_t *one = NULL;
        int r = 0;

        if (hooks->change_open == NULL)
                return ctx_fail(ctx, MLC_E_NOT_SUPPORTED,
                                "'%s' belongs to a protected environment: signed changes are not "
                                "supported yet",
                                item->key);
        if (dry_run)
                one = json_pack("{s:I}", "need", (json_int_t)signatures_needed(item->protection));
        else
                r = hooks->change_open(ctx, tx, &change, item->protection, &one);
        if (r < 0)
                return r;
        json_object_set_new(one, "kind", json_string(item->kind));
        json_object_set_new(one, "name", json_string(item->name));
        json_object_set_new(one, "digest", json_string(item->digest));
        json_object_set_new(one, "before",
                            change.before != NULL ? json_string(change.before) : json_null());
        json_array_append_new(list, one);
        return 0;
}

struct apply {
        struct gate_set set;
        struct writer writer;
        json_t *applied, *unchanged, *pending; /* of the reply */
        bool dry_run;
};

static int apply_item(struct mlc_ctx *ctx, struct db_tx *tx, struct apply *a,
                      const struct gate_item *item)
{
        struct made made = {.author = ctx->principal->user};
        int r = 0;

        if (item->unchanged) {
                json_array_append_new(a->unchanged, shown(item, item->number));
                return 0;
        }
        if (item->protection != NULL)
                return open_change(ctx, tx, item, a->dry_run, a->pending);
        if (!a->dry_run) {
                if (a->writer.tree.files == NULL)
                        r = writer_load(ctx, tx, &a->writer);
                if (r == 0)
                        r = write_item(ctx, tx, &a->writer, item, &made);
        }
        if (r < 0)
                return mlc_wrap(&ctx->err, "%s", item->key);
        json_array_append_new(a->applied, shown(item, item->number + 1));
        return 0;
}

static int apply_all(struct mlc_ctx *ctx, struct db_tx *tx, struct apply *a, const char *text,
                     size_t len)
{
        int r = a->dry_run ? 0 : writer_begin(ctx, tx, &a->writer);

        if (r == 0)
                r = set_read(ctx, tx, text, len, &a->set);
        if (r == 0)
                r = plan(ctx, tx, &a->set);
        for (size_t i = 0; r == 0 && i < a->set.n; i++)
                r = apply_item(ctx, tx, a, &a->set.items[i]);
        return r;
}

int gate_apply(struct mlc_ctx *ctx, const char *text, size_t len, bool dry_run, json_t **ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(json_decref_p) json_t *reply = NULL;
        struct apply a = {.applied = json_array(),
                          .unchanged = json_array(),
                          .pending = json_array(),
                          .dry_run = dry_run};
        int r = dry_run ? db_tx_begin_read(ctx, &tx) : db_tx_begin(ctx, &tx);

        if (r == 0)
                r = apply_all(ctx, &tx, &a, text, len);
        reply = json_pack("{s:b, s:o, s:o, s:o, s:O}", "dry_run", dry_run, "applied", a.applied,
                          "unchanged", a.unchanged, "pending", a.pending, "warnings",
                          a.set.warnings != NULL ? a.set.warnings : json_null());
        gate_set_done(&a.set);
        writer_done(&a.writer);
        if (r < 0)
                return r;
        if (!dry_run) {
                r = db_tx_commit(&tx);
                if (r < 0)
                        return r;
                if (json_array_size(a.applied) > 0)
                        gate_documents_published(ctx);
        }
        *ret = TAKE_PTR(reply);
        return 0;
}

/* --- a change that was signed --- */

static int put_item(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c,
                    struct gate_set *set, struct writer *w)
{
        struct gate_item *item = &set->items[0];
        struct made made = {.author = c->author, .detail = c->detail};
        int r;

        set->n = 1;
        item->kind = c->kind;
        item->name = c->name;
        item->yaml = c->yaml;
        r = item_read(ctx, set, item);
        if (r == 0)
                r = look_up(ctx, tx, item);
        if (r < 0)
                return r;
        if (strcmp(item->digest, c->after) != 0 || strcmp(item->normal, c->normal) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY, "'%s' is not what was signed", item->key);
        if (strcmp(item->before, c->before != NULL ? c->before : "") != 0)
                return ctx_fail(ctx, MLC_E_CONFLICT, "'%s' has changed meanwhile", item->key);
        r = gate_cross_check(ctx, tx, set, 0);
        if (r == 0)
                r = gate_cross_layers(ctx, tx, set);
        if (r == 0)
                r = writer_load(ctx, tx, w);
        return r < 0 ? r : write_item(ctx, tx, w, item, &made);
}

int gate_document_put(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_change *c)
{
        _cleanup_(gate_set_done) struct gate_set set = {0};
        _cleanup_(writer_done) struct writer w = {0};
        int r = writer_begin(ctx, tx, &w);

        if (r == 0)
                r = set_begin(ctx, 1, &set);
        return r < 0 ? r : put_item(ctx, tx, c, &set, &w);
}
