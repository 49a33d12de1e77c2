/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/clock.h"
#include "gen/promotion.sql.h"
#include "http/http.h"
#include "promotion/promotion_internal.h"
#include "rollout/rollout.h"

/* What a rollback would do, by the rows as they are. */
struct plan {
        struct mlc_ref model;
        const char *repo;
        json_t *environment; /* owned */
        bool protected, usual; /* usual: the target is the one that needs no `to` */
        struct promotion_version target;
        int64_t live_version;
        const char *live_digest, *live_promotion;
        const char *policy_digest, *environment_digest; /* of when the target was approved */
};

static void plan_done(struct plan *p)
{
        json_decref(p->environment);
}

static int read_live(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in, bool lock,
                     struct plan *p)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = lock ? db_run(tx, SQL_PROMOTION_LIVE_GET, &rows, DB_TEXT(in->environment),
                              DB_TEXT(p->repo))
                     : db_run(tx, SQL_PROMOTION_LIVE_READ, &rows, DB_TEXT(in->environment),
                              DB_TEXT(p->repo));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT, "nothing of '%s' is live in '%s'", p->repo,
                                in->environment);
        p->live_version = db_int(&rows, 0, 0);
        p->live_digest = db_text_dup(ctx, &rows, 0, 1);
        p->live_promotion = db_text_dup(ctx, &rows, 0, 2);
        return p->live_digest != NULL && p->live_promotion != NULL ? 0 : ctx->err.code;
}

/* The version that a rollback without `to` brings back; 0 when there is none. */
static int usual_target(struct db_tx *tx, const struct rollback_in *in, const struct plan *p,
                        int64_t *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PROMOTION_BACK, &rows, DB_TEXT(p->repo), DB_TEXT(in->environment),
                       DB_INT(p->live_version));

        if (r < 0)
                return r;
        *ret = rows.n > 0 ? db_int(&rows, 0, 0) : 0;
        return 0;
}

/* Digests of when the target was live last: it must have been. */
static int was_live(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in,
                    struct plan *p)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_PROMOTION_WAS_LIVE, &rows, DB_TEXT(p->repo),
                       DB_TEXT(in->environment), DB_INT(p->target.number));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/to",
                                      "version '%s:%" PRId64 "' was never live in '%s'", p->repo,
                                      p->target.number, in->environment);
        p->policy_digest = db_text_dup(ctx, &rows, 0, 0);
        p->environment_digest = db_text_dup(ctx, &rows, 0, 1);
        return p->policy_digest != NULL && p->environment_digest != NULL ? 0 : ctx->err.code;
}

static int choose(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in,
                  struct plan *p)
{
        char number[24];
        int64_t usual = 0;
        int r = usual_target(tx, in, p, &usual);

        if (r < 0)
                return r;
        if (in->to == NULL && usual == 0)
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "there is no version of '%s' to go back to in '%s'", p->repo,
                                in->environment);
        (void)snprintf(number, sizeof(number), "%" PRId64, usual);
        r = promotion_version_find(ctx, tx, &p->model, in->to != NULL ? in->to : number,
                                   &p->target);
        if (r < 0)
                return r;
        p->usual = p->target.number == usual;
        if (p->target.number == p->live_version)
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/to",
                                      "version '%s:%" PRId64 "' is live already", p->repo,
                                      p->target.number);
        if (mlc_streq(p->target.status, "withdrawn"))
                return ctx_fail_field(ctx, MLC_E_CONFLICT, "/to",
                                      "version '%s:%" PRId64 "' is withdrawn", p->repo,
                                      p->target.number);
        return was_live(ctx, tx, in, p);
}

static int plan(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in, struct plan *p)
{
        int r = promotion_model(ctx, "/model", in->model, &p->model);

        if (r < 0)
                return r;
        if (!auth_may_read(ctx->principal, p->model.ns))
                return ctx_fail_field(ctx, MLC_E_NOT_FOUND, "/model", "there is no model '%s'",
                                      in->model);
        if ((auth_roles(ctx->principal, p->model.ns) & AUTH_OPERATOR) == 0)
                return ctx_fail(ctx, MLC_E_FORBIDDEN,
                                "rolling back models of '%s' needs the role operator there",
                                p->model.ns);
        p->repo = ctx_printf(ctx, "%s/%s", p->model.ns, p->model.model);
        if (p->repo == NULL)
                return ctx->err.code;
        r = promotion_environment(ctx, tx, in->environment, &p->environment);
        if (r == 0)
                r = read_live(ctx, tx, in, false, p);
        if (r < 0)
                return r;
        p->protected = json_integer_value(json_object_get(p->environment, "threshold")) > 0;
        return choose(ctx, tx, in, p);
}

static struct mlc_statement statement_of(struct mlc_ctx *ctx, const struct rollback_in *in,
                                         const struct plan *p)
{
        return (struct mlc_statement){.decision = "rollback",
                                      .subject_kind = "promotion",
                                      .subject_id = p->live_promotion,
                                      .model = p->repo,
                                      .version = p->target.number,
                                      .artifact = p->target.digest,
                                      .environment = in->environment,
                                      .environment_digest = p->environment_digest,
                                      .policy_digest = p->policy_digest,
                                      .from = p->live_digest,
                                      .role = "operator",
                                      .log = audit_origin(ctx->app)};
}

struct rollback {
        const struct rollback_in *in;
        json_t *reply; /* owned */
};

/* Signed with the caller's key, or not: *ret_approval NULL then. */
static int check_signed(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in,
                        const struct plan *p, const char **ret_reason, const char **ret_approval)
{
        const struct approval_in signed_in = {in->statement, in->signature, in->reason, in->salt};
        struct mlc_statement expect = statement_of(ctx, in, p);
        struct approval_signed s;
        char id[24], leaf[65], reason[72];
        int r;

        *ret_approval = NULL;
        if (in->signature == NULL) {
                if (p->protected && !p->usual)
                        return ctx_fail_field(ctx, MLC_E_FORBIDDEN, "/signature",
                                              "'%s' is protected: going back to another version "
                                              "than the one before needs your signature",
                                              in->environment);
                r = audit_commit_pii(ctx, tx, ctx->principal->user, in->reason, reason);
                *ret_reason = r == 0 ? ctx_strdup(ctx, reason) : NULL;
                return *ret_reason != NULL ? 0 : ctx->err.code;
        }
        if (in->statement == NULL || in->salt == NULL)
                return ctx_fail_field(ctx, MLC_E_INVALID, "/signature",
                                      "a signature comes with statement and salt");
        r = approval_verify(ctx, tx, &signed_in, &expect, &s);
        if (r == 0)
                r = approval_store(ctx, tx, &s, p->repo, id, leaf);
        if (r < 0)
                return r;
        *ret_reason = s.s.reason_commitment;
        *ret_approval = ctx_strdup(ctx, id);
        return *ret_approval != NULL ? 0 : ctx->err.code;
}

/* After the locks: the plan holds only when nothing moved meanwhile. */
static int hold(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in, struct plan *p)
{
        const char *live = p->live_promotion;
        int r = db_run(tx, SQL_PROMOTION_MODEL_LOCK, NULL, DB_TEXT(p->repo));

        if (r == 0)
                r = read_live(ctx, tx, in, true, p);
        if (r < 0)
                return r;
        if (!mlc_streq(live, p->live_promotion))
                return ctx_fail(ctx, MLC_E_CONFLICT,
                                "what is live in '%s' has just changed: look, and try again",
                                in->environment);
        return 0;
}

static int take_down(struct mlc_ctx *ctx, struct db_tx *tx, const struct plan *p, const char *by)
{
        _cleanup_(json_decref_p) json_t *detail = json_pack("{s:s}", "by", by);
        struct promotion old;
        int r = promotion_load(ctx, tx, p->live_promotion, true, &old);

        return r < 0 ? r : promotion_move(ctx, tx, &old, "rolled_back", detail);
}

/* What rolls out there is ended at once: what comes back covers it. */
static int cut_rollout(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in,
                       const struct plan *p)
{
        const char *other = NULL;
        int r = rollout_cut(ctx, tx, p->repo, in->environment, "a rollback came", &other);

        if (r < 0 || other == NULL)
                return r;
        return promotion_rollout_ended(ctx, tx, other, "rolled_back", "a rollback came");
}

static int roll(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in,
                const struct plan *p, const char *id)
{
        return rollout_begin(ctx, tx,
                             &(struct rollout_in){.promotion = id,
                                                  .model = p->repo,
                                                  .environment = in->environment,
                                                  .digest = p->target.digest,
                                                  .version = p->target.number,
                                                  .document = p->environment,
                                                  .requested_by = ctx->principal->user,
                                                  .back = true});
}

static int bring_back(struct mlc_ctx *ctx, struct db_tx *tx, const struct rollback_in *in,
                      const struct plan *p, const char *id)
{
        _cleanup_(json_decref_p) json_t *detail = NULL;
        const char *reason = NULL, *approval = NULL;
        int64_t now = mlc_now_ms();
        bool traffic = promotion_has_targets(p->environment);
        char at[MLC_TIME_MAX];
        int r = check_signed(ctx, tx, in, p, &reason, &approval);

        if (r == 0)
                r = traffic ? cut_rollout(ctx, tx, in, p) : take_down(ctx, tx, p, id);
        if (r < 0)
                return r;
        mlc_time_format(now, at);
        r = db_run(tx, SQL_PROMOTION_INSERT_ROLLBACK, NULL, DB_TEXT(id), DB_INT(p->target.id),
                   DB_TEXT(p->repo), DB_INT(p->target.number), DB_TEXT(p->target.digest),
                   DB_TEXT(in->environment), DB_TEXT(ctx->principal->user), DB_TEXT(reason),
                   DB_TEXT(p->live_promotion), DB_TEXT(at), DB_TEXT(p->policy_digest),
                   DB_TEXT(p->environment_digest), DB_TEXT(p->live_digest), DB_BOOL(traffic));
        if (r < 0)
                return r;
        detail = json_pack("{s:b, s:s?}", "signed", approval != NULL, "approval", approval);
        r = promotion_record(ctx, tx,
                             &(struct promotion_event){.action = "promotion.rollback",
                                                       .kind = "promotion",
                                                       .id = id,
                                                       .model = p->repo,
                                                       .detail = detail},
                             NULL);
        if (r < 0)
                return r;
        if (traffic)
                return roll(ctx, tx, in, p, id);
        return promotion_switch(ctx, tx,
                                &(struct promotion_switch){.environment = p->environment,
                                                           .environment_name = in->environment,
                                                           .model = p->repo,
                                                           .ns = p->model.ns,
                                                           .name = p->model.model,
                                                           .version = p->target.number,
                                                           .digest = p->target.digest,
                                                           .promotion = id,
                                                           .at_ms = now});
}

static int roll_back(struct mlc_ctx *ctx, struct db_tx *tx, void *userdata)
{
        struct rollback *b = userdata;
        _cleanup_(plan_done) struct plan p = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *id;
        int r = db_run0(tx, SQL_PROMOTION_NEWS_SHARE, NULL);

        json_decref(b->reply);
        b->reply = NULL;
        if (r == 0)
                r = plan(ctx, tx, b->in, &p);
        if (r == 0)
                r = hold(ctx, tx, b->in, &p);
        if (r == 0)
                r = db_run0(tx, SQL_PROMOTION_NEXT_ID, &rows);
        if (r < 0)
                return r;
        id = db_text_dup(ctx, &rows, 0, 0);
        if (id == NULL)
                return ctx->err.code;
        r = bring_back(ctx, tx, b->in, &p, id);
        if (r == 0)
                r = promotion_show(ctx, tx, id, &b->reply);
        return r < 0 ? r : http_idempotent_store(ctx, tx, 201, b->reply);
}

int promotion_rollback(struct mlc_ctx *ctx, const struct rollback_in *in, json_t **ret)
{
        struct rollback b = {.in = in};
        int r = db_tx_retry(ctx, roll_back, &b);

        if (r < 0) {
                json_decref(b.reply);
                return r;
        }
        rollout_wake(ctx);
        *ret = b.reply;
        return 0;
}

int promotion_rollback_statement(struct mlc_ctx *ctx, const struct rollback_in *in, json_t **ret)
{
        _cleanup_(plan_done) struct plan p = {0};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        json_t *statement, *meanings;
        struct mlc_statement expect;
        int r = db_tx_begin(ctx, &tx);

        if (r == 0)
                r = plan(ctx, &tx, in, &p);
        if (r < 0)
                return r;
        expect = statement_of(ctx, in, &p);
        r = approval_template(ctx, &tx, &expect, &statement, &meanings);
        if (r < 0)
                return r;
        *ret = json_pack("{s:o, s:o, s:b, s:I, s:I}", "statement", statement, "meanings", meanings,
                         "signature_needed", p.protected && !p.usual, "version",
                         (json_int_t)p.target.number, "from_version", (json_int_t)p.live_version);
        return 0;
}
