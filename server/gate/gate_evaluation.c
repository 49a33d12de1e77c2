/* SPDX-License-Identifier: Apache-2.0 */
/* Evaluations: checked against their examples, kept byte for byte, withdrawn at most. */
#include <inttypes.h>

#include "auth/auth.h"
#include "base/clock.h"
#include "crypto/hash.h"
#include "gate/gate_internal.h"
#include "gen/gate.sql.h"
#include "policy/evaluation.h"
#include "policy/examples.h"
#include "store/store.h"

const char *gate_evaluation_object(struct mlc_ctx *ctx, const char *model, int64_t number,
                                   const char *id)
{
        return ctx_printf(ctx, "%s:%" PRId64 "/%s", model, number, id);
}

/* --- versions --- */

/* `N`, `vN`, `latest` as 0; false for anything else. */
static bool parse_number(const char *s, int64_t *ret)
{
        unsigned long long n;

        if (strcmp(s, "latest") == 0) {
                *ret = 0;
                return true;
        }
        if (!mlc_parse_u64(s[0] == 'v' ? s + 1 : s, &n) || n == 0 || n > MLC_VERSION_MAX)
                return false;
        *ret = (int64_t)n;
        return true;
}

static int unknown_version(struct mlc_ctx *ctx, const struct gate_subject *s)
{
        return ctx_fail(ctx, MLC_E_NOT_FOUND, "version '%s/%s:%s' does not exist", s->ns, s->model,
                        s->version);
}

static int find_number(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                       int64_t *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        if (parse_number(s->version, ret))
                return 0;
        r = mlc_starts_with(s->version, "sha256:")
                    ? db_run(tx, SQL_VERSION_SUBJECT_DIGEST, &rows, DB_TEXT(s->ns),
                             DB_TEXT(s->model), DB_TEXT(s->version))
                    : db_run(tx, SQL_VERSION_SUBJECT_ALIAS, &rows, DB_TEXT(s->ns),
                             DB_TEXT(s->model), DB_TEXT(s->version));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return unknown_version(ctx, s);
        *ret = db_int(&rows, 0, 0);
        return 0;
}

int gate_version_find(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_subject *s,
                      struct gate_version *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        struct gate_version v = {.model = ctx_printf(ctx, "%s/%s", s->ns, s->model)};
        const char **texts[] = {&v.digest, &v.author, &v.status, &v.card, &v.summary, &v.doc};
        int64_t number = 0;
        int r = v.model != NULL ? find_number(ctx, tx, s, &number) : ctx->err.code;

        if (r == 0)
                r = db_run(tx, SQL_VERSION_SUBJECT, &rows, DB_TEXT(s->ns), DB_TEXT(s->model),
                           DB_INT(number));
        if (r < 0)
                return r;
        if (rows.n == 0)
                return unknown_version(ctx, s);
        v.id = db_int(&rows, 0, 0);
        v.number = db_int(&rows, 0, 1);
        for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
                *texts[i] = db_text_dup(ctx, &rows, 0, (int)i + 2);
                if (*texts[i] == NULL)
                        return ctx->err.code;
        }
        *ret = v;
        return 0;
}

/* --- making one --- */

struct draft {
        struct gate_version version;
        const struct gate_evaluation_in *in;
        struct mlc_evaluation read;
        json_t *doc; /* owned */
        char id[MLC_DIGEST_STR], submitted[MLC_DIGEST_STR];
        const char *recomputed; /* text */
        int64_t n_recomputed;
};

static void draft_done(struct draft *d)
{
        json_decref(d->doc);
        d->doc = NULL;
}

static int draft_read(struct mlc_ctx *ctx, struct draft *d)
{
        struct mlc_digest manifest, submitted, examples, id;
        int r = mlc_evaluation_parse(d->in->bytes, d->in->len, &ctx->arena, &d->doc, &d->read,
                                     &ctx->err);

        if (r == 0)
                r = mlc_digest_parse(d->version.digest, &manifest, &ctx->err);
        if (r == 0 && d->in->examples != NULL)
                r = mlc_digest_parse(d->in->examples, &examples, &ctx->err);
        if (r < 0)
                return r;
        mlc_sha256(d->in->bytes, d->in->len, &submitted);
        mlc_evaluation_id(&manifest, &submitted, d->in->examples != NULL ? &examples : NULL, &id);
        mlc_digest_format(&submitted, d->submitted);
        mlc_digest_format(&id, d->id);
        return 0;
}

static int load_examples(struct mlc_ctx *ctx, const char *digest, struct mlc_examples **ret)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
        _cleanup_(close_fd) int fd = -1;
        struct mlc_examples_in in;
        struct mlc_digest d;
        char actual[MLC_DIGEST_STR];
        uint64_t size;
        int r = store_open_blob(ctx, digest, &fd, &size);

        if (r < 0)
                return r;
        mlc_examples_in_fd(&in, &fd);
        r = mlc_examples_load(&in, &x, &d, &ctx->err);
        if (r < 0)
                return r;
        mlc_digest_format(&d, actual);
        if (strcmp(actual, digest) != 0)
                return ctx_fail(ctx, MLC_E_VERIFY, "the bytes of '%s' are damaged", digest);
        *ret = TAKE_PTR(x);
        return 0;
}

/* What the examples give, as text; `e` NULL: without comparing. */
static int recompute(struct mlc_ctx *ctx, const char *examples, const struct mlc_evaluation *e,
                     bool compare, const char **ret, int64_t *ret_n)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
        _cleanup_(json_decref_p) json_t *list = NULL;
        int r;

        if (examples == NULL) {
                *ret = "[]";
                *ret_n = 0;
                return 0;
        }
        r = load_examples(ctx, examples, &x);
        if (r == 0 && compare)
                r = mlc_examples_compare(x, e, &ctx->err);
        if (r == 0)
                r = mlc_examples_recompute(x, e, &list, &ctx->err);
        if (r < 0)
                return r;
        *ret_n = (int64_t)json_array_size(list);
        *ret = gate_json_text(ctx, list);
        return *ret != NULL ? 0 : ctx->err.code;
}

static json_t *state_json(const struct draft *d, const char *author, const char *at)
{
        struct mlc_digest recomputed;
        char digest[MLC_DIGEST_STR];

        mlc_sha256(d->recomputed, strlen(d->recomputed), &recomputed);
        mlc_digest_format(&recomputed, digest);
        return json_pack("{s:s, s:s, s:I, s:s, s:s, s:s?, s:s, s:s, s:s, s:s, s:b}", "id", d->id,
                         "model", d->version.model, "version", (json_int_t)d->version.number,
                         "manifest", d->version.digest, "submitted", d->submitted, "examples",
                         d->in->examples, "dataset", d->read.dataset_ref, "recomputed", digest,
                         "author", author, "at", at, "withdrawn", 0);
}

static int find_existing(struct db_tx *tx, const struct draft *d, struct gate_evaluation_out *out)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_EVALUATION_FIND, &rows, DB_INT(d->version.id), DB_TEXT(d->id));

        if (r < 0)
                return r;
        out->created = rows.n == 0;
        if (rows.n > 0) {
                (void)snprintf(out->leaf, sizeof(out->leaf), "%s", db_text(&rows, 0, 2));
                out->recomputed = db_int(&rows, 0, 4);
        }
        return 0;
}

static int tell(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_version *v)
{
        const struct gate_hooks *hooks = gate_hooks_of(ctx);

        if (hooks->changed == NULL)
                return 0;
        return hooks->changed(
                ctx, tx,
                &(struct gate_news){.what = "evaluation", .model = v->model, .number = v->number});
}

static int insert(struct mlc_ctx *ctx, struct db_tx *tx, const struct draft *d,
                  struct gate_evaluation_out *out)
{
        _cleanup_(json_decref_p) json_t *after = NULL;
        const char *author = ctx->principal->user;
        char at[MLC_TIME_MAX];
        struct audit_entry e = {
                .action = "evaluation.create", .kind = "evaluation", .model = d->version.model};
        int r;

        mlc_time_format(mlc_now_ms(), at);
        after = state_json(d, author, at);
        e.after = after;
        e.id = gate_evaluation_object(ctx, d->version.model, d->version.number, d->id);
        if (e.id == NULL)
                return ctx->err.code;
        r = audit_append(ctx, tx, &e, out->leaf);
        if (r < 0)
                return r;
        r = db_run(tx, SQL_EVALUATION_INSERT, NULL, DB_INT(d->version.id), DB_TEXT(d->id),
                   DB_TEXT(d->submitted), DB_TEXT(d->in->examples), DB_TEXT(d->read.dataset_ref),
                   DB_TEXT(d->read.dataset.name),
                   DB_TEXT(mlc_arena_strndup(&ctx->arena, d->in->bytes, d->in->len, &ctx->err)),
                   DB_TEXT(d->recomputed), DB_TEXT(author), DB_TEXT(at), DB_TEXT(out->leaf));
        if (r < 0)
                return r;
        out->recomputed = d->n_recomputed;
        return tell(ctx, tx, &d->version);
}

/* The version, whether the examples are in the repository, and whether it is known already. */
static int look(struct mlc_ctx *ctx, const struct gate_subject *s, struct draft *d,
                struct gate_evaluation_out *out)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int64_t size = 0;
        int r = db_tx_begin_read(ctx, &tx);

        if (r == 0)
                r = gate_version_find(ctx, &tx, s, &d->version);
        if (r == 0)
                r = draft_read(ctx, d);
        if (r == 0 && d->in->examples != NULL)
                r = store_has(ctx, &tx, d->version.model, d->in->examples, &size);
        if (r < 0)
                return r;
        if (size < 0)
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "query:examples",
                                      "blob '%s' is not in '%s': upload it first", d->in->examples,
                                      d->version.model);
        if ((uint64_t)size > MLC_EXAMPLES_MAX)
                return ctx_fail_field(ctx, MLC_E_LIMIT, "query:examples",
                                      "examples are at most %llu bytes",
                                      (unsigned long long)MLC_EXAMPLES_MAX);
        return find_existing(&tx, d, out);
}

static int check_status(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_version *v)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_VERSION_HOLD, &rows, DB_INT(v->id));

        if (r < 0)
                return r;
        if (rows.n == 0 || strcmp(db_text(&rows, 0, 0), "withdrawn") == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT, "version '%s:%" PRId64 "' is withdrawn",
                                v->model, v->number);
        return 0;
}

static int create(struct mlc_ctx *ctx, struct draft *d, struct gate_evaluation_out *out)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        /* before the transaction: it may read a gigabyte */
        int r = recompute(ctx, d->in->examples, &d->read, true, &d->recomputed, &d->n_recomputed);

        if (r == 0)
                r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = check_status(ctx, &tx, &d->version);
        if (r == 0)
                r = find_existing(&tx, d, out);
        if (r == 0 && out->created)
                r = insert(ctx, &tx, d, out);
        return r < 0 ? r : db_tx_commit(&tx);
}

int gate_evaluation_create(struct mlc_ctx *ctx, const struct gate_subject *s,
                           const struct gate_evaluation_in *in, struct gate_evaluation_out *ret)
{
        _cleanup_(draft_done) struct draft d = {.in = in};
        struct gate_evaluation_out out = {0};
        int r = look(ctx, s, &d, &out);

        if (r == 0 && out.created)
                r = create(ctx, &d, &out);
        if (r < 0)
                return r;
        out.version = d.version;
        memcpy(out.id, d.id, sizeof(out.id));
        out.dataset = ctx_strdup(ctx, d.read.dataset_ref);
        if (out.dataset == NULL)
                return ctx->err.code;
        *ret = out;
        return 0;
}

/* --- withdrawing --- */

static int record_withdrawal(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_version *v,
                             const char *id, const char *commitment)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *before = NULL, *after = NULL, *detail = NULL;
        struct audit_entry e = {
                .action = "evaluation.withdraw", .kind = "evaluation", .model = v->model};
        int r;

        e.id = gate_evaluation_object(ctx, v->model, v->number, id);
        if (e.id == NULL)
                return ctx->err.code;
        r = db_run(tx, SQL_EVALUATION_STATE, &rows, DB_TEXT(e.id));
        if (r == 0 && rows.n == 0)
                r = ctx_fail(ctx, MLC_E_INTERNAL, "'%s' has no state", e.id);
        if (r == 0)
                r = gate_parse(ctx, db_text(&rows, 0, 0), &before);
        if (r < 0)
                return r;
        after = json_copy(before);
        json_object_set_new(after, "withdrawn", json_true());
        detail = json_pack("{s:s}", "reason", commitment);
        e.before = before;
        e.after = after;
        e.detail = detail;
        return audit_append(ctx, tx, &e, NULL);
}

static int withdraw(struct mlc_ctx *ctx, struct db_tx *tx, const struct gate_version *v,
                    const char *id, const char *reason)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        char commitment[72];
        int r = db_run(tx, SQL_EVALUATION_LOCK, &rows, DB_INT(v->id), DB_TEXT(id));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_NOT_FOUND,
                                "evaluation '%s' of '%s:%" PRId64 "' does not exist", id, v->model,
                                v->number);
        if (db_bool(&rows, 0, 1))
                return 0;
        r = audit_commit_pii(ctx, tx, ctx->principal->user, reason, commitment);
        if (r == 0)
                r = record_withdrawal(ctx, tx, v, id, commitment);
        if (r == 0)
                r = db_run(tx, SQL_EVALUATION_WITHDRAW, NULL, DB_INT(db_int(&rows, 0, 0)),
                           DB_TEXT(commitment));
        return r < 0 ? r : tell(ctx, tx, v);
}

int gate_evaluation_withdraw(struct mlc_ctx *ctx, const struct gate_subject *s, const char *id,
                             const char *reason)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct gate_version v;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = gate_version_find(ctx, &tx, s, &v);
        if (r == 0)
                r = withdraw(ctx, &tx, &v, id, reason);
        return r < 0 ? r : db_tx_commit(&tx);
}

/* --- records of a bundle --- */

static int record(struct mlc_ctx *ctx, const struct db_rows *rows, int i, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *doc = NULL, *recomputed = NULL;
        int r = gate_parse(ctx, db_text(rows, i, 6), &doc);

        if (r == 0)
                r = gate_parse(ctx, db_text(rows, i, 7), &recomputed);
        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:s, s:s, s:s?, s:b, s:s, s:O, s:O}", "id", db_text(rows, i, 0),
                         "manifest", db_text(rows, i, 1), "submitted", db_text(rows, i, 2),
                         "examples", db_is_null(rows, i, 3) ? NULL : db_text(rows, i, 3),
                         "withdrawn", db_bool(rows, i, 4), "at", db_text(rows, i, 5), "document",
                         doc, "recomputed", recomputed);
        return 0;
}

int gate_records(struct mlc_ctx *ctx, struct db_tx *tx, int64_t version_id, json_t **ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        _cleanup_(json_decref_p) json_t *list = json_array();
        int r = db_run(tx, SQL_EVALUATION_RECORDS, &rows, DB_INT(version_id));

        for (int i = 0; r == 0 && i < rows.n; i++) {
                json_t *one = NULL;

                r = record(ctx, &rows, i, &one);
                if (r == 0)
                        json_array_append_new(list, one);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(list);
        return 0;
}

/* --- `mlctld check` --- */

struct checked {
        const char *object, *id, *manifest, *submitted, *examples, *dataset, *dataset_name,
                *document, *recomputed;
};

/* NULL when all is well. */
static int check_one(struct mlc_ctx *ctx, const struct checked *c, const char **ret_what)
{
        _cleanup_(draft_done) struct draft d = {.version = {.digest = c->manifest}};
        struct gate_evaluation_in in = {c->document, strlen(c->document),
                                        c->examples[0] != '\0' ? c->examples : NULL};
        int r;

        d.in = &in;
        r = draft_read(ctx, &d);
        if (r < 0)
                return r;
        if (strcmp(d.submitted, c->submitted) != 0 || strcmp(d.id, c->id) != 0)
                *ret_what = "differs from its digest";
        else if (strcmp(d.read.dataset_ref, c->dataset) != 0 ||
                 strcmp(d.read.dataset.name, c->dataset_name) != 0)
                *ret_what = "is filed under another dataset";
        if (*ret_what != NULL)
                return 0;
        r = recompute(ctx, in.examples, &d.read, true, &d.recomputed, &d.n_recomputed);
        if (r == 0 && strcmp(d.recomputed, c->recomputed) != 0)
                *ret_what = "has metrics that its examples do not give";
        return r;
}

static int check_row(struct mlc_ctx *ctx, const struct db_rows *rows, int i, const char **ret_text)
{
        struct checked c = {db_text(rows, i, 1), db_text(rows, i, 2), db_text(rows, i, 3),
                            db_text(rows, i, 4), db_text(rows, i, 5), db_text(rows, i, 6),
                            db_text(rows, i, 7), db_text(rows, i, 8), db_text(rows, i, 9)};
        const char *what = NULL;
        int r = check_one(ctx, &c, &what);

        if (r == MLC_E_VERIFY || r == MLC_E_NOT_FOUND || r == MLC_E_INVALID) {
                *ret_text = ctx_printf(ctx, "evaluation %s: %s", c.object, ctx->err.msg);
                mlc_err_clear(&ctx->err);
                return *ret_text != NULL ? 0 : ctx->err.code;
        }
        if (r == 0 && what != NULL)
                *ret_text = ctx_printf(ctx, "evaluation %s: %s", c.object, what);
        return r;
}

static int check_batch(struct mlc_ctx *ctx, int64_t after, struct db_rows *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r = db_tx_begin_read(ctx, &tx);

        return r < 0 ? r : db_run(&tx, SQL_CHECK_EVALUATIONS, ret, DB_INT(after), DB_INT(20));
}

int gate_evaluation_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                          void *userdata)
{
        int64_t after = 0;
        int r = 0, n = 1;

        while (r == 0 && n > 0) {
                _cleanup_(db_rows_done) struct db_rows rows = {0};

                r = check_batch(ctx, after, &rows);
                n = r == 0 ? rows.n : 0;
                for (int i = 0; i < n && r == 0; i++) {
                        const char *text = NULL;
                        struct mlc_ctx job;

                        mlc_ctx_init(&job, ctx->app, "check", 256u << 20, 600000);
                        r = check_row(&job, &rows, i, &text);
                        if (r < 0)
                                ctx->err = job.err;
                        else if (text != NULL)
                                report(userdata, text);
                        after = db_int(&rows, i, 0);
                        mlc_ctx_done(&job);
                }
        }
        return r;
}
