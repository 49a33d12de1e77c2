/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "cli.h"
#include "client/verify.h"
#include "codec/hex.h"
#include "codec/utf8.h"
#include "config.h"
#include "export.h"
#include "log.h"
#include "trust.h"

#define LOG_DEFAULT 50
#define LOG_MAX 100000
#define FOLLOW_MS 1000

/* audit log */

static void print_entries(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"INDEX", "index", OUT_TEXT}, {"TIME", "time", OUT_TIME},
                {"ACTOR", "actor", OUT_TEXT}, {"ACTION", "action", OUT_TEXT},
                {"OBJECT", "id", OUT_TEXT},   {0},
        };

        out_table(cli, j, columns);
}

static void print_entry_line(struct cli *cli, const json_t *j)
{
        static const char *const members[] = {"time", "actor", "action", "id"};

        (void)cli;
        (void)printf("%lld", (long long)json_integer_value(json_object_get(j, "index")));
        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
                const char *text = json_string_value(json_object_get(j, members[i]));

                (void)printf("  ");
                out_text(text != NULL ? text : "-");
        }
        (void)printf("\n");
}

static void add_filter(struct mlc_str *path, const char *name, const char *value)
{
        if (value == NULL)
                return;
        mlc_str_addf(path, "&%s=", name);
        mlc_url_encode(path, value);
}

/* A time, a date, or how long ago ("7d"), as RFC 3339. */
static int read_time(struct cli *cli, const char *option, char ret[MLC_TIME_MAX])
{
        const char *text = cli_opt(cli, option);
        int64_t ms;

        ret[0] = '\0';
        if (text == NULL)
                return 0;
        if (mlc_duration_parse(text, &ms))
                ms = mlc_now_ms() - ms;
        else if (!mlc_time_parse(text, &ms))
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "--%s takes a time (2026-11-24T10:00:00Z), a date or a duration "
                                "(7d), not '%s'",
                                option, text);
        mlc_time_format(ms, ret);
        return 0;
}

static int log_path(struct cli *cli, struct mlc_str *path)
{
        static const char *const names[] = {"actor", "action", "model", "kind", "id"};
        char since[MLC_TIME_MAX], until[MLC_TIME_MAX];
        int r = read_time(cli, "since", since);

        if (r < 0)
                return r;
        r = read_time(cli, "until", until);
        if (r < 0)
                return r;
        mlc_str_add(path, "/api/v1/audit/entries?limit=1000");
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                add_filter(path, names[i], cli_opt(cli, names[i]));
        add_filter(path, "since", since[0] != '\0' ? since : NULL);
        add_filter(path, "until", until[0] != '\0' ? until : NULL);
        return mlc_str_check(path, &cli->err);
}

/* Newest first as the server lists them; shown oldest first. */
static json_t *reversed(const json_t *list, int64_t after)
{
        json_t *out = json_array();

        for (size_t i = json_array_size(list); i-- > 0;) {
                json_t *e = json_array_get(list, i);

                if (json_integer_value(json_object_get(e, "index")) > after)
                        (void)json_array_append(out, e);
        }
        return out;
}

static int follow(struct cli *cli, const char *path, size_t limit)
{
        int64_t after = -1;

        for (;;) {
                _cleanup_(json_decref_p) json_t *list = NULL, *new = NULL;
                json_t *e;
                size_t i;
                int r = mlc_client_list(cli->client, path, limit, &list, &cli->err);

                if (r < 0)
                        return r;
                new = reversed(list, after);
                json_array_foreach (new, i, e) {
                        out_line(cli, e, print_entry_line);
                        after = json_integer_value(json_object_get(e, "index"));
                }
                limit = 1000;
                mlc_sleep_ms(FOLLOW_MS);
        }
}

static int run_log(struct cli *cli)
{
        const char *text = cli_opt(cli, "limit");
        _cleanup_(json_decref_p) json_t *list = NULL, *shown = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        unsigned long long limit = LOG_DEFAULT;
        int r;

        mlc_str_init(&path, 8192);
        if (text != NULL && (!mlc_parse_u64(text, &limit) || limit < 1 || limit > LOG_MAX))
                return mlc_fail(&cli->err, MLC_E_USAGE, "--limit takes 1 to %d, not '%s'", LOG_MAX,
                                text);
        r = log_path(cli, &path);
        if (r < 0)
                return r;
        r = cli_connect(cli);
        if (r < 0)
                return r;
        if (cli_opt(cli, "follow") != NULL)
                return follow(cli, mlc_str_cstr(&path), (size_t)limit);
        r = mlc_client_list(cli->client, mlc_str_cstr(&path), (size_t)limit, &list, &cli->err);
        if (r < 0)
                return r;
        shown = reversed(list, -1);
        out_result(cli, shown, print_entries);
        return 0;
}

/* audit show */

static void print_entry(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"index", "index", OUT_TEXT},    {"time", "time", OUT_TEXT},
                {"actor", "actor", OUT_TEXT},    {"action", "action", OUT_TEXT},
                {"object", "id", OUT_TEXT},      {"kind", "kind", OUT_TEXT},
                {"before", "before", OUT_TEXT},  {"after", "after", OUT_TEXT},
                {"hash", "leaf_hash", OUT_TEXT}, {0},
        };
        static const struct out_column proof[] = {
                {"log", "verified.log", OUT_TEXT},       {"key", "verified.key", OUT_TEXT},
                {"entries", "verified.size", OUT_TEXT},  {"root", "verified.root", OUT_TEXT},
                {"hashes", "verified.hashes", OUT_TEXT}, {0},
        };
        _cleanup_(free_p) char *state = NULL, *detail = NULL;

        out_fields(cli, j, fields);
        state = json_dumps(json_object_get(j, "state"), JSON_INDENT(2) | JSON_ENCODE_ANY);
        detail = json_dumps(json_object_get(j, "detail"), JSON_INDENT(2) | JSON_ENCODE_ANY);
        (void)printf("%sstate%s ", out_dim(cli), out_reset(cli));
        out_block(state != NULL ? state : "null");
        (void)printf("%sdetail%s ", out_dim(cli), out_reset(cli));
        out_block(detail != NULL ? detail : "null");
        (void)printf("\n%sproven to be in the log%s\n", out_green(cli), out_reset(cli));
        out_fields(cli, j, proof);
}

static json_t *entry_json(const struct mlc_log *log, const struct mlc_proven *p)
{
        json_t *j = json_deep_copy(p->entry), *verified;
        char fingerprint[MLC_SSHKEY_FP], root[65];

        mlc_vkey_fingerprint(&log->pin.keys[0], fingerprint);
        mlc_hex_encode(log->pin.seen.root.b, 32, root);
        verified = json_pack("{s:s, s:s, s:I, s:s, s:I}", "log", log->pin.keys[0].name, "key",
                             fingerprint, "size", (json_int_t)log->pin.seen.size, "root", root,
                             "hashes", (json_int_t)p->path.n);
        (void)json_object_del(j, "proof"); /* what the server gave; ours is --proof */
        (void)json_object_set(j, "before", json_object_get(p->leaf.doc, "before"));
        (void)json_object_set(j, "after", json_object_get(p->leaf.doc, "after"));
        (void)json_object_set(j, "state", json_object_get(p->leaf.doc, "state"));
        (void)json_object_set(j, "detail", json_object_get(p->leaf.doc, "detail"));
        /* the entry itself counts, not what stands beside it */
        (void)json_object_set_new(j, "actor", json_string(p->leaf.actor));
        (void)json_object_set_new(j, "action", json_string(p->leaf.action));
        (void)json_object_set_new(j, "kind", json_string(p->leaf.kind));
        (void)json_object_set_new(j, "id", json_string(p->leaf.id));
        (void)json_object_set_new(j, "time", json_string(p->leaf.time));
        (void)json_object_set_new(j, "verified", verified);
        return j;
}

static int write_proof(struct cli *cli, const struct mlc_log *log, const struct mlc_proven *p)
{
        const char *file = cli_opt(cli, "proof");
        const struct mlc_tlog_proof proof = {
                .index = p->index,
                .path = p->path,
                .checkpoint = log->pin.note,
                .checkpoint_len = strlen(log->pin.note),
        };
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, MLC_TLOG_PROOF_MAX);
        if (file == NULL)
                return 0;
        mlc_tlog_proof_format(&proof, &text);
        r = mlc_str_check(&text, &cli->err);
        if (r < 0)
                return r;
        r = mlc_write_file_atomic(file, text.data, text.len, 0644, &cli->err);
        if (r < 0)
                return r;
        out_note(cli, "wrote the proof to %s", file);
        return 0;
}

static int run_show(struct cli *cli)
{
        _cleanup_(mlc_proven_done) struct mlc_proven proven = {0};
        _cleanup_(mlc_log_done) struct mlc_log log = {0};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        const char *which = cli->args[0];
        struct mlc_digest hash;
        unsigned long long index = 0;
        bool by_hash = mlc_hex_decode(which, hash.b, sizeof(hash.b));
        int r;

        if (!by_hash && !mlc_parse_u64(which, &index))
                return mlc_fail(
                        &cli->err, MLC_E_USAGE,
                        "audit show takes an index or a leaf hash (64 hex digits), not '%s'",
                        which);
        r = cli_connect(cli);
        if (r < 0)
                return r;
        r = cli_log_open(cli, &log);
        if (r < 0)
                return r;
        r = by_hash ? mlc_log_prove(&log, which, &proven, &cli->err)
                    : mlc_log_prove_index(&log, index, &proven, &cli->err);
        if (r < 0)
                return r;
        r = write_proof(cli, &log, &proven);
        if (r < 0)
                return r;
        shown = entry_json(&log, &proven);
        out_result(cli, shown, print_entry);
        return 0;
}

/* audit verify */

/* With a trust file: whose approvals were checked, and whose nobody can. */
static void print_environments(struct cli *cli, const json_t *j)
{
        const json_t *e;
        size_t i;

        json_array_foreach (json_object_get(j, "environments"), i, e) {
                bool protected = json_is_true(json_object_get(e, "protected"));

                (void)printf("%s%s  ", protected ? out_green(cli) : out_red(cli),
                             protected ? "protected" : "unprotected");
                out_text(json_string_value(json_object_get(e, "name")));
                (void)printf("%s\n", out_reset(cli));
        }
}

static void print_verified(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"log", "log", OUT_TEXT},
                {"key", "key", OUT_TEXT},
                {"entries", "size", OUT_TEXT},
                {"root", "root", OUT_TEXT},
                {"objects", "objects", OUT_TEXT},
                {"commits", "commits", OUT_TEXT},
                {"index", "index", OUT_TEXT},
                {"wrong", "what", OUT_TEXT},
                {0},
        };
        bool ok = json_is_true(json_object_get(j, "ok"));

        (void)printf("%s%s%s\n", ok ? out_green(cli) : out_red(cli),
                     ok ? "the log is whole" : "verification failed", out_reset(cli));
        out_fields(cli, j, fields);
        print_environments(cli, j);
        if (ok && !json_is_true(json_object_get(j, "replayed")))
                (void)printf("%snot compared with the state of a server%s\n", out_dim(cli),
                             out_reset(cli));
}

static int show_failure(struct cli *cli, uint64_t index, const char *what)
{
        _cleanup_(json_decref_p) json_t *j =
                json_pack("{s:b, s:I, s:s}", "ok", 0, "index", (json_int_t)index, "what", what);

        mlc_err_clear(&cli->err);
        out_result(cli, j, print_verified);
        cli->exit = 1;
        return 0;
}

static int show_success(struct cli *cli, const struct mlc_audit *in,
                        const struct mlc_audit_result *result)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        char fingerprint[MLC_SSHKEY_FP], root[65];

        mlc_vkey_fingerprint(&in->keys.keys[0], fingerprint);
        mlc_hex_encode(result->checkpoint.root.b, 32, root);
        j = json_pack("{s:b, s:s, s:s, s:I, s:s, s:b, s:I, s:I}", "ok", 1, "log",
                      result->checkpoint.origin, "key", fingerprint, "size",
                      (json_int_t)result->checkpoint.size, "root", root, "replayed", in->state,
                      "objects", (json_int_t)result->objects, "commits",
                      (json_int_t)result->commits);
        if (result->environments != NULL)
                (void)json_object_set_new(j, "environments", result->environments);
        out_result(cli, j, print_verified);
        return 0;
}

static int verify(struct cli *cli, const struct mlc_audit *in)
{
        struct mlc_audit_result result = {0};
        struct mlc_tlog_finding finding = {0};
        int r = mlc_audit_run(in, &result, &finding, &cli->err);

        if (r == MLC_E_VERIFY)
                return show_failure(cli, finding.index,
                                    finding.what[0] != '\0' ? finding.what : cli->err.msg);
        if (r < 0)
                return r;
        return show_success(cli, in, &result);
}

static void cover(struct mlc_audit *in, const struct trust *trust)
{
        in->custody = trust->file;
        in->environments = trust->environments;
        in->n_environments = trust->n_environments;
}

static int verify_server(struct cli *cli, const struct trust *trust)
{
        _cleanup_(mlc_log_done) struct mlc_log log = {0};
        struct mlc_audit in = {.state = true, .commits = true};
        int r;

        cover(&in, trust);
        cli->skip_log = true; /* what is wrong with it is the result here, no error */
        r = cli_connect(cli);
        if (r < 0)
                return r;
        in.client = cli->client;
        in.src = mlc_log_source(cli->client);
        if (trust->n_keys > 0) {
                in.keys = (struct mlc_vkeys){&trust->key, 1};
                in.seen = &trust->seen;
                return verify(cli, &in);
        }
        r = cli_log_open(cli, &log);
        if (r == 0)
                r = mlc_log_follow_keys(&log, &cli->err);
        if (r == 0)
                r = mlc_log_check_signers(&log, &cli->err);
        if (r == MLC_E_VERIFY)
                return show_failure(cli, log.pin.seen.size, cli->err.msg);
        if (r < 0)
                return r;
        in.keys = (struct mlc_vkeys){log.pin.keys, 1};
        in.seen = &log.pin.seen;
        return verify(cli, &in);
}

static int verify_dir(struct cli *cli, const char *dir, struct trust *trust)
{
        struct mlc_audit in = {.src = mlc_tlog_source_dir(dir)};
        int r = 0;

        if (trust->n_keys == 0)
                r = trust_by_pins(cli, dir, trust);
        if (r < 0)
                return r;
        cover(&in, trust);
        in.keys = (struct mlc_vkeys){&trust->key, 1};
        in.seen = &trust->seen;
        return verify(cli, &in);
}

static int run_verify(struct cli *cli)
{
        const char *dir = cli_opt(cli, "log"), *file = cli_opt(cli, "trust");
        _cleanup_(trust_done) struct trust trust = {0};
        int r;

        if (cli->n_args > 0 && (dir != NULL || cli_opt(cli, "server") != NULL))
                return mlc_fail(&cli->err, MLC_E_USAGE, "give either an export, --server or --log");
        if (dir != NULL && cli_opt(cli, "server") != NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "give either --server or --log");
        if (file != NULL) {
                r = trust_read(cli, file, &trust);
                if (r < 0)
                        return r;
        }
        if (cli->n_args > 0)
                return export_verify(cli, cli->args[0], &trust);
        return dir != NULL ? verify_dir(cli, dir, &trust) : verify_server(cli, &trust);
}

static const struct cli_option LOG_OPTIONS[] = {
        {"actor", "USER", "only what this person or service did (id)", false},
        {"action", "ACTION", "only this action: version.create, alias.set, …", false},
        {"model", "NS/MODEL", "only what concerns this model", false},
        {"kind", "KIND", "only objects of this kind: version, alias, user, …", false},
        {"id", "ID", "only this object", false},
        {"since", "TIME", "a time, a date, or how long ago (7d)", false},
        {"until", "TIME", "the same", false},
        {"limit", "N", "the newest N that match (50)", false},
        {"follow", NULL, "go on with new ones as they come", false},
        {0},
};

static const struct cli_option SHOW_OPTIONS[] = {
        {"proof", "FILE", "write the proof (C2SP tlog-proof) for others to check", false},
        {0},
};

static const struct cli_option VERIFY_OPTIONS[] = {
        {"trust", "FILE", "key of the log and founding owners, from 'mlctl audit trust'", false},
        {"log", "DIR", "a log in files instead of a server's", false},
        {"fetch", NULL, "of an export: fetch examples that it lacks from the server", false},
        {0},
};

static const struct cli_option EXPORT_OPTIONS[] = {
        {"promotion", "ID", "which promotion", false},
        {"examples", NULL, "with the files of examples that evaluations were computed from", false},
        {0},
};

const struct cli_command CMD_AUDIT[] = {
        {"audit log", "", 0, 0, "entries of the audit log, the newest last", NULL, LOG_OPTIONS,
         run_log},
        {"audit show", "INDEX|HASH", 1, 1, "one entry, proven to be in the log", NULL, SHOW_OPTIONS,
         run_show},
        {"audit export", "DIR", 1, 1, "what was judged, signed and logged of a promotion, as files",
         "Signatures, statements, verdict, proofs and the version's commit, with the commands "
         "that\n"
         "check them without mlctl: ssh-keygen and git.",
         EXPORT_OPTIONS, export_run},
        {"audit verify", "[EXPORT-DIR]", 0, 1,
         "verify all of the log, and the server's state against it",
         "Derives every hash, tile and root again, checks the signature by the pinned key (or "
         "that\n"
         "of --trust), that the log continues what was seen before, that every change starts from\n"
         "the state before it, and that users, roles, tokens, keys, versions, aliases and commits\n"
         "are what the log says. Needs the role auditor. Exit 1 names the first wrong entry.\n"
         "With --trust also that in each environment that the file names only versions went live\n"
         "that the people approved whom its founding owners led to; others are unprotected.\n"
         "With a directory from 'mlctl audit export': its signatures, keys and proofs, and "
         "verdict,\n"
         "digests and commit computed again, offline; says what could not be.",
         VERIFY_OPTIONS, run_verify},
        {"audit trust", "", 0, 0, "print the pinned key, founding owners and last checkpoint",
         "For --trust: the log's key, then `environment NAME THRESHOLD` with the public keys of "
         "its\n"
         "founding owners for each protected environment, each proven to be in the log, then the\n"
         "checkpoint seen last. Compare the keys with their owners before others rely on it.",
         NULL, trust_print},
        {0},
};
