/* SPDX-License-Identifier: Apache-2.0 */
/* Opening the log: founding it at first start, and comparing what database, state and files say. */
#include <assert.h>
#include <errno.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "gen/audit.sql.h"

#define BOOT_ARENA (8u << 20)
#define BOOT_MS 60000

int audit_published(const struct audit *a, struct mlc_checkpoint *ret, struct mlc_err *err)
{
        const struct mlc_vkeys keys = {a->keys.vkey, a->keys.n};
        char path[AUDIT_PATH_MAX + 16];
        _cleanup_(free_p) char *note = NULL;
        size_t len;
        int r;

        (void)snprintf(path, sizeof(path), "%s/checkpoint", a->dir);
        r = mlc_read_file(path, MLC_NOTE_MAX, &note, &len, err);
        if (r == MLC_E_NOT_FOUND) {
                mlc_err_clear(err);
                *ret = (struct mlc_checkpoint){0};
                (void)snprintf(ret->origin, sizeof(ret->origin), "%s", a->origin);
                mlc_merkle_empty_root(&ret->root);
                return 0;
        }
        if (r < 0)
                return r;
        r = mlc_tlog_open_checkpoint(note, len, &keys, ret, err);
        if (r < 0) {
                (void)mlc_wrap(err, "the checkpoint of the log");
                err->code = MLC_E_VERIFY;
                return MLC_E_VERIFY;
        }
        return 0;
}

/* The reason not to write, or NULL. */
static const char *disagreement(const struct audit *a, const struct audit_head *head,
                                const struct audit_state *s, const struct mlc_checkpoint *cp)
{
        if (!mlc_streq(s->cp.origin, a->origin))
                return head->log_id < s->log_id ? "database is older than the log"
                                                : "the signing state is of another log";
        if (head->log_id < s->log_id || head->frontier.size < s->cp.size)
                return "database is older than the log";
        if (head->frontier.size == s->cp.size && !mlc_digest_equal(&head->root, &s->cp.root))
                return "the database holds another history than the log that was signed";
        if (cp->size > s->cp.size)
                return "the signing state is older than the log";
        if (cp->size < s->previous)
                return "log is older than its signing state";
        if (cp->size == s->cp.size && !mlc_digest_equal(&cp->root, &s->cp.root))
                return "the published checkpoint is not the one that was signed";
        return NULL;
}

int audit_compare(struct audit *a, const struct audit_head *head, const struct audit_state *s,
                  struct mlc_err *err)
{
        struct mlc_checkpoint cp;
        uint64_t anchored;
        const char *why;
        int r;

        r = audit_published(a, &cp, err);
        if (r == MLC_E_VERIFY) {
                audit_halt(a, "%s", err->msg);
                mlc_err_clear(err);
                return mlc_fail(err, MLC_E_READ_ONLY, "%s", a->reason);
        }
        if (r < 0)
                return r;
        why = disagreement(a, head, s, &cp);
        if (why == NULL) {
                r = audit_anchor_newest(a->app, &anchored, err);
                if (r < 0 && r != MLC_E_VERIFY)
                        return r;
                if (r == MLC_E_VERIFY || anchored > s->cp.size)
                        why = r == 0 ? "log is older than its anchors"
                                     : "the last anchor is damaged";
                mlc_err_clear(err);
        }
        if (why == NULL)
                return 0;
        audit_halt(a, "%s", why);
        return mlc_fail(err, MLC_E_READ_ONLY, "%s", a->reason);
}

static int check_origin(const char *origin, struct mlc_err *err)
{
        size_t n = strlen(origin);

        for (size_t i = 0; i < n; i++)
                if (origin[i] <= 0x20 || origin[i] > 0x7e || origin[i] == '+')
                        n = 0;
        if (n == 0 || n > 200)
                return mlc_fail(err, MLC_E_USAGE,
                                "--origin takes 1 to 200 visible ASCII characters without '+'");
        return 0;
}

/* First start: the origin's row, an empty head, and the leaf that founds the log. */
static int found_in_db(struct mlc_ctx *ctx, struct audit *a)
{
        _cleanup_(json_decref_p) json_t *state = audit_log_state(a->keys.vkey, a->keys.n, NULL);
        struct audit_origin_row row = {.log_id = 1, .state = state};
        const struct audit_entry e = {.action = "log.create",
                                      .kind = MLC_REPLAY_KIND_LOG,
                                      .id = a->origin,
                                      .after = state,
                                      .actor = "system"};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        struct audit_head head = {.log_id = 1};
        int r;

        (void)snprintf(row.origin, sizeof(row.origin), "%s", a->origin);
        mlc_merkle_empty_root(&head.root);
        r = db_tx_begin(ctx, &tx);
        if (r < 0)
                return r;
        r = audit_db_origin_insert(ctx, &tx, &row);
        if (r < 0)
                return r;
        r = audit_db_head_insert(ctx, &tx, &head);
        if (r < 0)
                return r;
        r = audit_append(ctx, &tx, &e, NULL);
        if (r < 0)
                return r;
        return db_tx_commit(&tx);
}

static int found(struct mlc_ctx *ctx, struct audit *a)
{
        const char *wanted = a->app->config.origin;
        int r;

        r = audit_keys_create(a->app->config.data, &a->keys.signer[0], &ctx->err);
        if (r < 0)
                return r;
        if (wanted != NULL) {
                r = check_origin(wanted, &ctx->err);
                if (r < 0)
                        return r;
                (void)snprintf(a->origin, sizeof(a->origin), "%s", wanted);
        } else {
                r = audit_default_origin(&a->keys.signer[0], a->origin, &ctx->err);
                if (r < 0)
                        return r;
        }
        r = mlc_vkey_make(a->origin, a->keys.signer[0].pub, &a->keys.vkey[0], &ctx->err);
        if (r < 0)
                return r;
        a->keys.n = 1;
        a->log_id = 1;
        r = found_in_db(ctx, a);
        if (r < 0)
                return r;
        log_info(ctx->trace, "log.created", KV_STR("origin", a->origin));
        return 0;
}

/* The log in the database, or MLC_E_NOT_FOUND. */
static int read_db(struct mlc_ctx *ctx, struct audit_origin_row *row, struct audit_head *head)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = audit_db_origin(ctx, &tx, row);
        if (r < 0)
                return r;
        return audit_db_head(ctx, &tx, false, head);
}

static int use_row(struct mlc_ctx *ctx, struct audit *a, const struct audit_origin_row *row)
{
        const char *wanted = a->app->config.origin;

        if (wanted != NULL && !mlc_streq(wanted, row->origin))
                return ctx_fail(
                        ctx, MLC_E_USAGE,
                        "the log's name is '%s' since the first start; --origin cannot change it",
                        row->origin);
        (void)snprintf(a->origin, sizeof(a->origin), "%s", row->origin);
        a->log_id = row->log_id;
        return audit_keys_load(a->app->config.data, json_object_get(row->state, "keys"), &a->keys,
                               &ctx->err);
}

/* The database knows no log, but a signing state exists: never found a second one over it. */
static int orphaned(struct mlc_ctx *ctx, struct audit *a, const struct audit_state *s)
{
        int r;

        r = audit_keys_create(a->app->config.data, &a->keys.signer[0], &ctx->err);
        if (r < 0)
                return r;
        (void)snprintf(a->origin, sizeof(a->origin), "%s", s->cp.origin);
        r = mlc_vkey_make(a->origin, a->keys.signer[0].pub, &a->keys.vkey[0], &ctx->err);
        if (r < 0)
                return r;
        a->keys.n = 1;
        a->log_id = s->log_id;
        audit_halt(a, "database is older than the log");
        return 0;
}

/* An empty log has no state file yet: a start that was cut off, or the first one. */
static int first_state(struct mlc_ctx *ctx, struct audit *a, const struct audit_head *head,
                       struct audit_state *ret)
{
        struct audit_state s = {.log_id = a->log_id, .epoch = head->epoch};
        int r;

        if (head->frontier.size > 0) {
                audit_halt(a, "log is older than its signing state: 'log/state' is missing");
                return 0;
        }
        (void)snprintf(s.cp.origin, sizeof(s.cp.origin), "%s", a->origin);
        mlc_merkle_empty_root(&s.cp.root);
        s.note = strdup("");
        if (s.note == NULL)
                abort();
        r = audit_state_write(a->dir, &s, &ctx->err);
        if (r < 0) {
                audit_state_done(&s);
                return r;
        }
        *ret = s;
        return 0;
}

static int open_known(struct mlc_ctx *ctx, struct audit *a, struct audit_state *s, bool has_state)
{
        struct audit_origin_row row = {0};
        struct audit_head head;
        int r;

        r = read_db(ctx, &row, &head);
        if (r == 0)
                r = use_row(ctx, a, &row);
        json_decref(row.state);
        if (r < 0)
                return r;
        if (!has_state && !atomic_load(&a->read_only)) {
                r = first_state(ctx, a, &head, s);
                if (r < 0)
                        return r;
        }
        if (atomic_load(&a->read_only))
                return 0;
        r = audit_compare(a, &head, s, &ctx->err);
        if (r == MLC_E_READ_ONLY) {
                mlc_err_clear(&ctx->err);
                r = 0;
        }
        return r;
}

/* Under the lock of the files, so that two servers that start at once found one log. */
static int open_locked(struct mlc_ctx *ctx, struct audit *a)
{
        _cleanup_(audit_state_done) struct audit_state s = {0};
        _cleanup_(close_fd) int lock = -1;
        bool has_state;
        int r;

        r = audit_files_lock(a->dir, &lock, &ctx->err);
        if (r < 0)
                return r;
        r = audit_state_read(a->dir, &s, &ctx->err);
        has_state = r == 0;
        if (r == MLC_E_VERIFY)
                audit_halt(a, "%s", ctx->err.msg);
        else if (r < 0 && r != MLC_E_NOT_FOUND)
                return r;
        mlc_err_clear(&ctx->err);
        r = open_known(ctx, a, &s, has_state);
        if (r != MLC_E_NOT_FOUND || a->origin[0] != '\0')
                return r;
        mlc_err_clear(&ctx->err);
        if (has_state)
                return orphaned(ctx, a, &s);
        if (atomic_load(&a->read_only))
                return ctx_fail(ctx, MLC_E_READ_ONLY, "%s", a->reason);
        r = found(ctx, a);
        if (r < 0)
                return r;
        return open_known(ctx, a, &s, false);
}

static const struct audit_source own_sources[] = {
        {MLC_REPLAY_KIND_LOG, &SQL_AUDIT_ORIGIN_STATES},
        {AUDIT_KIND_ANCHOR, &SQL_AUDIT_ANCHOR_STATES},
};

static struct audit *audit_new(struct app *app)
{
        struct audit *a = calloc(1, sizeof(*a));
        pthread_condattr_t attr;

        if (a == NULL)
                abort();
        a->app = app;
        (void)snprintf(a->dir, sizeof(a->dir), "%s/log", app->config.data);
        (void)pthread_mutex_init(&a->lock, NULL);
        (void)pthread_condattr_init(&attr);
        (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
        (void)pthread_cond_init(&a->wake, &attr);
        (void)pthread_condattr_destroy(&attr);
        app->audit = a;
        audit_add_sources(app, own_sources, ARRAY_LEN(own_sources));
        return a;
}

/* Nothing is appended to a log that must not be signed. */
static int compare_attached(struct audit *a, const struct audit_head *head, struct mlc_err *err)
{
        _cleanup_(audit_state_done) struct audit_state s = {0};
        int r;

        r = audit_state_read(a->dir, &s, err);
        if (r == 0)
                r = audit_compare(a, head, &s, err);
        else if (r == MLC_E_VERIFY)
                audit_halt(a, "%s", err->msg);
        else if (r == MLC_E_NOT_FOUND && head->frontier.size > 0)
                audit_halt(a, "log is older than its signing state: 'log/state' is missing");
        if (r < 0 && r != MLC_E_READ_ONLY && r != MLC_E_VERIFY && r != MLC_E_NOT_FOUND)
                return r;
        mlc_err_clear(err);
        return 0;
}

int audit_attach(struct app *app, struct mlc_err *err)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        struct audit_origin_row row = {0};
        struct audit *a = audit_new(app);
        struct audit_head head;
        int r;

        mlc_ctx_init(&ctx, app, "audit.attach", BOOT_ARENA, BOOT_MS);
        r = read_db(&ctx, &row, &head);
        if (r == 0)
                r = use_row(&ctx, a, &row);
        json_decref(row.state);
        if (r == 0)
                r = compare_attached(a, &head, &ctx.err);
        if (r < 0) {
                *err = ctx.err;
                audit_close(app);
        }
        return r;
}

int audit_open(struct app *app, struct mlc_err *err)
{
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        struct audit *a = audit_new(app);
        int r;

        mlc_ctx_init(&ctx, app, "audit.open", BOOT_ARENA, BOOT_MS);
        r = open_locked(&ctx, a);
        if (r < 0) {
                *err = ctx.err;
                audit_close(app);
                return r;
        }
        return 0;
}

void audit_close(struct app *app)
{
        struct audit *a = TAKE_PTR(app->audit);

        if (a == NULL)
                return;
        audit_keys_done(&a->keys);
        (void)pthread_cond_destroy(&a->wake);
        (void)pthread_mutex_destroy(&a->lock);
        free(a);
}
