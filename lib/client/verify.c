/* SPDX-License-Identifier: Apache-2.0 */
#include "client/verify.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "client/commit.h"
#include "codec/hex.h"
#include "tlog/replay.h"

#define POLL_MS 100
#define LINE_MAX_BYTES ((size_t)1 << 20)

/* A version as its first entry has it. */
struct made {
        uint64_t index;
        char *model;
        int64_t number;
        char commit[MLC_COMMIT_OID_STR];
};

struct run {
        const struct mlc_audit *in;
        struct mlc_tlog_finding *finding;
        struct mlc_replay *replay;
        struct mlc_custody *custody; /* NULL without */
        uint64_t
                beyond; /* an entry up to which the state reaches, but the log read did not; or 0 */
        bool again; /* the log is read once more, for custody alone */
        FILE *state; /* JSON lines, after the first one; NULL without */
        uint64_t snapshot; /* entries of the log that the state holds */
        uint64_t pending; /* that it holds beyond them */
        struct made *made;
        size_t n_made, room;
        struct mlc_audit_result out;
};

static void run_done(struct run *r)
{
        mlc_replay_free(&r->replay);
        mlc_custody_free(&r->custody);
        json_decref(r->out.environments);
        if (r->state != NULL)
                (void)fclose(r->state);
        for (size_t i = 0; i < r->n_made; i++)
                free(r->made[i].model);
        free(r->made);
}

/* The state */

static int to_file(void *userdata, const void *data, size_t len)
{
        return fwrite(data, 1, len, userdata) == len ? 0 : MLC_E_IO;
}

/* The next line as JSON; *ret NULL at the end. */
static int next_line(struct run *run, json_t **ret, struct mlc_err *err)
{
        _cleanup_(free_p) char *line = NULL;
        size_t size = 0;
        ssize_t n = getline(&line, &size, run->state);

        *ret = NULL;
        if (n < 0 && ferror(run->state))
                return mlc_fail(err, MLC_E_IO, "cannot read the state back");
        if (n <= 0)
                return 0;
        if ((size_t)n > LINE_MAX_BYTES)
                return mlc_fail(err, MLC_E_LIMIT, "a line of the state is too long");
        return mlc_json_parse(line, (size_t)n, ret, err);
}

static int read_header(struct run *run, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *head = NULL;
        const char *origin;
        int64_t size, pending;
        int r = next_line(run, &head, err);

        if (r < 0)
                return r;
        r = mlc_json_get_str(head, "", "origin", &origin, err);
        if (r < 0)
                return r;
        r = mlc_json_get_i64(head, "", "size", &size, err);
        if (r < 0)
                return r;
        r = mlc_json_get_i64(head, "", "pending", &pending, err);
        if (r < 0)
                return r;
        if (strcmp(origin, run->in->keys.keys[0].name) != 0 || size < 0 || pending < 0)
                return mlc_tlog_found(run->finding, 0, err, "the state is of another log, '%s'",
                                      origin);
        run->snapshot = (uint64_t)size;
        run->pending = (uint64_t)pending;
        return 0;
}

static int fetch_state(struct run *run, struct mlc_err *err)
{
        struct mlc_request req = {.method = "GET", .path = "/api/v1/audit/state", .sink = to_file};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r;

        run->state = tmpfile();
        if (run->state == NULL)
                return mlc_fail_errno(err, "make a temporary file in", "the temporary directory");
        req.userdata = run->state;
        r = mlc_client_do(run->in->client, &req, &res, err);
        if (r < 0)
                return r;
        if (fflush(run->state) != 0 || fseek(run->state, 0, SEEK_SET) < 0)
                return mlc_fail_errno(err, "write", "temporary file");
        return read_header(run, err);
}

/* The log must hold what the state was taken after. */
static int wait_for(struct run *run, struct mlc_err *err)
{
        int64_t until = mlc_monotonic_ms() + MLC_PROOF_WAIT_MS;
        struct mlc_checkpoint c;
        int r;

        for (;;) {
                struct mlc_tlog_file note = {0};

                r = run->in->src.read(run->in->src.userdata, "checkpoint", MLC_NOTE_MAX, &note,
                                      err);
                if (r < 0)
                        return r;
                r = mlc_tlog_open_checkpoint(note.data, note.len, &run->in->keys, &c, err);
                free(note.data);
                if (r < 0)
                        return mlc_tlog_found(run->finding, 0, err,
                                              "the checkpoint is not signed by the trusted key");
                if (c.size >= run->snapshot + run->pending)
                        return 0;
                if (mlc_monotonic_ms() >= until && c.size >= run->snapshot)
                        return 0; /* each pending entry is looked for later */
                if (mlc_monotonic_ms() >= until)
                        return mlc_tlog_found(
                                run->finding, c.size, err,
                                "the log has %llu entries, the state was made by %llu",
                                (unsigned long long)c.size, (unsigned long long)run->snapshot);
                mlc_sleep_ms(POLL_MS);
        }
}

/* Entries */

static void note_version(struct run *run, uint64_t index, const struct mlc_leaf *leaf)
{
        const char *model = json_string_value(json_object_get(leaf->state, "model"));
        const char *commit = json_string_value(json_object_get(leaf->state, "commit"));
        const json_t *number = json_object_get(leaf->state, "version");
        struct made *m;

        if (run->n_made == run->room) {
                run->room = run->room == 0 ? 64 : 2 * run->room;
                run->made = reallocarray(run->made, run->room, sizeof(*run->made));
        }
        if (run->made == NULL)
                abort();
        m = &run->made[run->n_made];
        *m = (struct made){.index = index, .number = json_integer_value(number)};
        m->model = strdup(model != NULL ? model : "");
        if (m->model == NULL)
                abort();
        (void)snprintf(m->commit, sizeof(m->commit), "%s", commit != NULL ? commit : "");
        run->n_made++;
}

static int on_leaf(void *userdata, uint64_t index, const struct mlc_tlog_row *row,
                   struct mlc_err *err)
{
        _cleanup_(mlc_leaf_done) struct mlc_leaf leaf = {0};
        struct run *run = userdata;
        int r;

        if (!run->again && (run->state == NULL || index < run->snapshot)) {
                r = mlc_replay_leaf(run->replay, index, row->leaf, row->len, err);
                if (r < 0)
                        return r;
        }
        if (!run->in->commits && run->custody == NULL)
                return 0;
        r = mlc_leaf_parse(row->leaf, row->len, &leaf, err);
        if (r < 0)
                return r;
        if (run->in->commits && !run->again && strcmp(leaf.action, "version.create") == 0)
                note_version(run, index, &leaf);
        return run->custody != NULL ? mlc_custody_leaf(run->custody, index, &leaf, err) : 0;
}

/* Comparing */

/* A leaf that the state holds though it was in no batch yet. It must come into the log: else it
 * could excuse anything. */
static int on_pending(struct run *run, uint64_t index, const char *text, struct mlc_err *err)
{
        _cleanup_(mlc_log_done) struct mlc_log log = {.client = run->in->client, .forget = true};
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        struct mlc_digest hash;
        char hex[65];
        int r;

        log.pin.keys[0] = run->in->keys.keys[0];
        log.pin.n_keys = 1;
        mlc_merkle_leaf(text, strlen(text), &hash);
        mlc_hex_encode(hash.b, sizeof(hash.b), hex);
        r = mlc_log_prove(&log, hex, &p, err);
        if (r == MLC_E_NOT_FOUND || r == MLC_E_VERIFY) {
                mlc_err_clear(err);
                return mlc_tlog_found(run->finding, index, err,
                                      "the state rests on an entry that is not in the log");
        }
        if (r < 0)
                return r;
        if (p.index >= run->out.checkpoint.size && p.index >= run->beyond)
                run->beyond = p.index + 1;
        r = mlc_replay_leaf(run->replay, index, text, strlen(text), err);
        if (r != MLC_E_VERIFY)
                return r;
        (void)snprintf(run->finding->what, sizeof(run->finding->what), "%s", err->msg);
        run->finding->index = index;
        return r;
}

static int on_object(struct run *run, const json_t *line, struct mlc_err *err)
{
        const char *kind = json_string_value(json_object_get(line, "kind"));
        const char *id = json_string_value(json_object_get(line, "id"));
        const json_t *state = json_object_get(line, "state");
        _cleanup_(free_p) char *text = NULL;

        if (kind == NULL)
                return mlc_fail(err, MLC_E_INVALID, "a line of the state is of no known form");
        if (id == NULL) {
                mlc_replay_kind(run->replay, kind);
                return 0;
        }
        text = json_dumps(state, JSON_COMPACT | JSON_ENCODE_ANY);
        if (text == NULL)
                return mlc_fail(err, MLC_E_INVALID, "an object of the state has no state");
        mlc_replay_row(run->replay, kind, id, text);
        run->out.objects++;
        return 0;
}

static int compare_state(struct run *run, struct mlc_err *err)
{
        uint64_t index = run->snapshot;
        bool ended = false;
        int r;

        while (!ended) {
                _cleanup_(json_decref_p) json_t *line = NULL;
                const char *leaf;

                r = next_line(run, &line, err);
                if (r < 0)
                        return r;
                if (line == NULL)
                        return mlc_fail(err, MLC_E_UNREACHABLE, "the state broke off; try again");
                leaf = json_string_value(json_object_get(line, "leaf"));
                ended = json_is_true(json_object_get(line, "end"));
                if (leaf != NULL)
                        r = on_pending(run, index++, leaf, err);
                else if (!ended)
                        r = on_object(run, line, err);
                if (r < 0)
                        return r;
        }
        return mlc_replay_finish(run->replay, index, run->finding, err);
}

static int check_one_commit(struct run *run, const struct made *m, const struct mlc_vkeys *keys,
                            struct mlc_err *err)
{
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        char path[512];
        const struct mlc_request req = {.method = "GET", .path = path, .reply_max = MLC_COMMIT_MAX};
        struct mlc_commit commit;
        struct mlc_err why = {0};
        int r;

        (void)snprintf(path, sizeof(path), "/api/v1/models/%s/versions/%lld/commit", m->model,
                       (long long)m->number);
        r = mlc_client_do(run->in->client, &req, &res, &why);
        if (r < 0 && r != MLC_E_NOT_FOUND)
                return mlc_fail(err, r, "%s", why.msg);
        if (r == 0)
                r = mlc_commit_check(mlc_str_cstr(&res.body), res.body.len, keys, &commit, &why);
        if (r < 0)
                return mlc_tlog_found(run->finding, m->index, err, "the commit of %s:%lld: %s",
                                      m->model, (long long)m->number, why.msg);
        if (strcmp(commit.oid, m->commit) != 0)
                return mlc_tlog_found(run->finding, m->index, err,
                                      "the commit of %s:%lld is '%s', the log says '%s'", m->model,
                                      (long long)m->number, commit.oid, m->commit);
        run->out.commits++;
        return 0;
}

static int check_commits(struct run *run, struct mlc_err *err)
{
        const struct mlc_replay_key *known;
        size_t n = mlc_replay_keys(run->replay, &known);
        struct mlc_vkey keys[MLC_REPLAY_KEYS_MAX];
        const struct mlc_vkeys all = {keys, n};

        for (size_t i = 0; i < n; i++)
                keys[i] = known[i].vkey;
        for (size_t i = 0; i < run->n_made; i++) {
                int r = check_one_commit(run, &run->made[i], &all, err);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int verify_log(struct run *run, struct mlc_err *err)
{
        struct mlc_tlog_mark mark = {.what = "the checkpoint seen last"};
        struct mlc_tlog_verify v = {
                .src = run->in->src,
                .keys = run->in->keys,
                .marks = &mark,
                .leaf = on_leaf,
                .userdata = run,
        };

        if (run->in->seen != NULL && run->in->seen->size > 0) {
                mark.size = run->in->seen->size;
                mark.root = run->in->seen->root;
                v.n_marks = 1;
        }
        return mlc_tlog_verify(&v, &run->out.checkpoint, run->finding, err);
}

static void custody_begin(struct run *run)
{
        const struct mlc_audit *in = run->in;

        mlc_custody_free(&run->custody);
        if (in->custody)
                run->custody = mlc_custody_new(in->keys.keys[0].name, in->environments,
                                               in->n_environments);
}

/* After all else: what the state rests on was read as well, when need be by reading once more. */
static int custody_end(struct run *run, struct mlc_err *err)
{
        uint64_t index = 0;
        int r = 0;

        if (run->custody == NULL)
                return 0;
        if (run->beyond > run->out.checkpoint.size) {
                run->again = true;
                custody_begin(run);
                r = verify_log(run, err);
        }
        if (r < 0)
                return r;
        if (run->out.checkpoint.size < run->beyond)
                return mlc_tlog_found(run->finding, run->beyond, err,
                                      "the log became shorter while it was read");
        r = mlc_custody_finish(run->custody, &index, err);
        if (r == MLC_E_VERIFY) {
                run->finding->index = index;
                (void)snprintf(run->finding->what, sizeof(run->finding->what), "%s", err->msg);
        }
        run->out.environments = mlc_custody_environments(run->custody);
        return r;
}

int mlc_audit_run(const struct mlc_audit *in, struct mlc_audit_result *ret,
                  struct mlc_tlog_finding *ret_finding, struct mlc_err *err)
{
        _cleanup_(run_done) struct run run = {.in = in, .finding = ret_finding};
        int r = 0;

        run.replay = mlc_replay_new();
        custody_begin(&run);
        if (in->state) {
                r = fetch_state(&run, err);
                if (r == 0)
                        r = wait_for(&run, err);
        }
        if (r == 0)
                r = verify_log(&run, err);
        if (r == 0 && in->state)
                r = compare_state(&run, err);
        if (r == 0 && in->commits)
                r = check_commits(&run, err);
        if (r == 0)
                r = custody_end(&run, err);
        if (r < 0)
                return r;
        *ret = run.out;
        run.out.environments = NULL;
        return 0;
}
