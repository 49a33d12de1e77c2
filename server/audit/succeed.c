/* SPDX-License-Identifier: Apache-2.0 */
/* `mlctld log succeed`: a new log that goes on from the state of the database. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/log.h"

#define SCAN_ARENA ((size_t)AUDIT_ROWS_MAX * (MLC_ENTRY_MAX + 512) + 65536)
#define SCAN_MS 600000

struct succession {
        struct audit *a;
        int64_t old_id;
        char old_origin[MLC_KEY_NAME_MAX + 1];
        struct audit_state old_state; /* note NULL: it cannot be read */
        struct mlc_checkpoint old_cp; /* published, size 0: none that is signed */
        uint64_t agreed; /* rows that the old files hold too */
        struct audit_head head; /* the old log's, with everything that waited */
        struct mlc_signer key;
        struct mlc_vkey vkey;
        int64_t epoch;
};

static void succession_done(struct succession *s)
{
        audit_state_done(&s->old_state);
        mlc_signer_done(&s->key);
}

/* How many rows of one tile are those of the old files. */
static int scan_tile(struct succession *s, uint64_t from, uint64_t to, uint64_t *ret_same)
{
        struct mlc_tlog_source src = mlc_tlog_source_dir(s->a->dir);
        _cleanup_(mlc_ctx_done) struct mlc_ctx ctx;
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        const struct audit_range range = {s->old_id, from, to};
        struct mlc_tile t = {0, from / MLC_TILE_WIDTH, 0};
        struct mlc_digest tile[MLC_TILE_WIDTH];
        struct audit_rows rows = {0};
        size_t same = 0;

        mlc_ctx_init(&ctx, s->a->app, "log.succeed", SCAN_ARENA, SCAN_MS);
        t.width = mlc_tile_width(0, t.index, s->old_cp.size);
        if (mlc_tlog_read_tile(&src, &t, tile, &ctx.err) < 0 || db_tx_begin_read(&ctx, &tx) < 0 ||
            audit_db_leaves(&ctx, &tx, &range, &rows) < 0) {
                mlc_log_err(MLC_LOG_WARN, ctx.trace, "log.scan_ended", &ctx.err);
                rows.n = 0;
        }
        while (same < rows.n && mlc_digest_equal(&rows.row[same].hash, &tile[same]))
                same++;
        *ret_same = same;
        return 0;
}

static int scan(struct succession *s, uint64_t rows)
{
        uint64_t end = rows < s->old_cp.size ? rows : s->old_cp.size, n = 0;
        int r = 0;

        while (s->agreed < end && r == 0) {
                uint64_t to = s->agreed + MLC_TILE_WIDTH < end ? s->agreed + MLC_TILE_WIDTH : end;

                r = scan_tile(s, s->agreed, to, &n);
                s->agreed += n;
                if (s->agreed < to)
                        break;
        }
        return r;
}

/* What waits in the outbox has happened: it belongs to the old log's rows. */
static int drain(struct mlc_ctx *ctx, struct db_tx *tx, struct audit_head *head)
{
        int64_t n = 1;
        int r = 0;

        while (n > 0 && r == 0)
                r = audit_db_sequence(ctx, tx, head, &n);
        return r;
}

static json_t *detail_of(const struct succession *s, const char *reason_commitment)
{
        uint64_t signed_size = s->old_state.note != NULL && s->old_state.cp.size > s->old_cp.size
                                       ? s->old_state.cp.size
                                       : s->old_cp.size;
        const struct audit_keys *keys = &s->a->keys;
        _cleanup_(mlc_str_done) struct mlc_str key;
        char root[MLC_DIGEST_STR];
        json_t *d;

        mlc_str_init(&key, 1024);
        mlc_vkey_format(&keys->vkey[keys->n - 1], &key);
        mlc_digest_format(&s->head.root, root);
        d = json_pack("{ss,ss,ss?,sI,ss,sI,ss}", "predecessor", s->old_origin, "old_key",
                      mlc_str_cstr(&key), "old_checkpoint", s->old_state.note, "carried_size",
                      (json_int_t)s->head.frontier.size, "carried_root", root, "agreed_size",
                      (json_int_t)s->agreed, "reason", reason_commitment);
        if (signed_size > s->agreed)
                (void)json_object_set_new(
                        d, "lost",
                        json_pack("[II]", (json_int_t)s->agreed, (json_int_t)signed_size));
        else
                (void)json_object_set_new(d, "lost", json_null());
        return d;
}

/* The successor's row, head and first leaf. From here on the audit struct is the new log's. */
static int found_successor(struct mlc_ctx *ctx, struct db_tx *tx, struct succession *s,
                           const char *reason)
{
        _cleanup_(json_decref_p) json_t *state = audit_log_state(&s->vkey, 1, s->old_origin);
        _cleanup_(json_decref_p) json_t *detail = NULL;
        struct audit_origin_row row = {.log_id = s->old_id + 1, .state = state};
        struct audit_head head = {.log_id = s->old_id + 1, .epoch = s->epoch};
        struct audit_entry e = {.action = "log.succeed",
                                .kind = MLC_REPLAY_KIND_LOG,
                                .id = s->vkey.name,
                                .after = state,
                                .actor = "system"};
        char commitment[MLC_DIGEST_STR];
        int r;

        r = audit_commit_pii(ctx, tx, "system", reason, commitment);
        if (r < 0)
                return r;
        detail = detail_of(s, commitment);
        e.detail = detail;
        (void)snprintf(row.origin, sizeof(row.origin), "%s", s->vkey.name);
        mlc_merkle_empty_root(&head.root);
        r = audit_db_origin_insert(ctx, tx, &row);
        if (r == 0)
                r = audit_db_head_update(ctx, tx, &head);
        if (r < 0)
                return r;
        atomic_store(&s->a->read_only, false);
        (void)snprintf(s->a->origin, sizeof(s->a->origin), "%s", s->vkey.name);
        return audit_append(ctx, tx, &e, NULL);
}

static int succeed_in_db(struct mlc_ctx *ctx, struct succession *s, const char *reason)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        int r;

        r = db_tx_begin(ctx, &tx);
        if (r == 0)
                r = audit_db_head(ctx, &tx, true, &s->head);
        if (r == 0)
                r = drain(ctx, &tx, &s->head);
        if (r < 0)
                return r;
        s->epoch = (s->head.epoch > s->old_state.epoch ? s->head.epoch : s->old_state.epoch) + 1;
        r = found_successor(ctx, &tx, s, reason);
        return r < 0 ? r : db_tx_commit(&tx);
}

/* The old files go to log/archive/N, the state last; then the new log's state begins. */
static int archive(const struct audit *a, int64_t old_id, int64_t epoch, struct mlc_err *err)
{
        static const char *const names[] = {"tile", "checkpoint", "state"};
        struct audit_state s = {.log_id = old_id + 1, .epoch = epoch, .note = strdup("")};
        char dir[AUDIT_PATH_MAX], from[AUDIT_PATH_MAX + 32], to[AUDIT_PATH_MAX + 32];
        int r;

        if (s.note == NULL)
                abort();
        (void)snprintf(dir, sizeof(dir), "%.4000s/archive/%" PRId64, a->dir, old_id);
        r = mlc_mkdirs(dir, 0700, err);
        for (size_t i = 0; i < ARRAY_LEN(names) && r == 0; i++) {
                (void)snprintf(from, sizeof(from), "%s/%s", a->dir, names[i]);
                (void)snprintf(to, sizeof(to), "%s/%s", dir, names[i]);
                if (rename(from, to) < 0 && errno != ENOENT)
                        r = mlc_fail_errno(err, "rename to", to);
        }
        if (r == 0)
                r = mlc_fsync_dir(dir, err);
        (void)snprintf(s.cp.origin, sizeof(s.cp.origin), "%s", a->origin);
        mlc_merkle_empty_root(&s.cp.root);
        if (r == 0)
                r = audit_state_write(a->dir, &s, err);
        audit_state_done(&s);
        return r;
}

static int new_name(struct mlc_ctx *ctx, struct succession *s)
{
        const char *wanted = ctx->app->config.origin;
        char name[MLC_KEY_NAME_MAX + 1];
        int r;

        r = audit_keys_next(ctx->app->config.data, &s->key, &ctx->err);
        if (r == 0)
                r = audit_default_origin(&s->key, name, &ctx->err);
        if (r < 0)
                return r;
        if (wanted != NULL && !mlc_streq(wanted, s->old_origin))
                (void)snprintf(name, sizeof(name), "%s", wanted);
        return mlc_vkey_make(name, s->key.pub, &s->vkey, &ctx->err);
}

static int read_old(struct mlc_ctx *ctx, struct succession *s)
{
        struct audit *a = s->a;
        struct mlc_err none = {0};

        s->old_id = a->log_id;
        (void)snprintf(s->old_origin, sizeof(s->old_origin), "%s", a->origin);
        if (audit_state_read(a->dir, &s->old_state, &none) < 0)
                s->old_state = (struct audit_state){0};
        mlc_err_clear(&none);
        if (audit_published(a, &s->old_cp, &none) < 0)
                s->old_cp = (struct mlc_checkpoint){0};
        (void)ctx;
        return 0;
}

/* A succession that was cut off after COMMIT: only its files are left to do. */
static bool is_unfinished(const struct succession *s, const struct audit_head *head)
{
        return s->old_id > 1 && head->frontier.size == 0 &&
               (s->old_state.note == NULL || s->old_state.log_id < s->old_id);
}

int audit_succeed(struct mlc_ctx *ctx, const char *reason)
{
        struct audit *a = ctx->app->audit;
        _cleanup_(succession_done) struct succession s = {.a = a};
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(close_fd) int lock = -1;
        struct audit_head head;
        int r;

        r = audit_files_lock(a->dir, &lock, &ctx->err);
        if (r == 0)
                r = read_old(ctx, &s);
        if (r == 0)
                r = db_tx_begin_read(ctx, &tx);
        if (r == 0)
                r = audit_db_head(ctx, &tx, false, &head);
        db_tx_done(&tx);
        if (r < 0)
                return r;
        if (is_unfinished(&s, &head))
                return archive(a, s.old_id - 1, head.epoch, &ctx->err);
        r = scan(&s, head.frontier.size);
        if (r == 0)
                r = new_name(ctx, &s);
        if (r == 0)
                r = succeed_in_db(ctx, &s, reason);
        if (r == 0)
                r = archive(a, s.old_id, s.epoch, &ctx->err);
        if (r == 0)
                r = audit_keys_promote(ctx->app->config.data, audit_signer(ctx->app), &s.key,
                                       &ctx->err);
        if (r < 0)
                return r;
        (void)printf("{\"origin\":\"%s\",\"predecessor\":\"%s\",\"carried\":%" PRIu64
                     ",\"agreed\":%" PRIu64 "}\n",
                     a->origin, s.old_origin, s.head.frontier.size, s.agreed);
        return 0;
}
