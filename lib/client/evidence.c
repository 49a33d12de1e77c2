/* SPDX-License-Identifier: Apache-2.0 */
#include "client/evidence.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/hex.h"

#define PATH_TEXT 1024

struct check {
        struct mlc_log *log;
        const struct mlc_evidence *e;
        int64_t number;
        const char *digest; /* of the manifest */
        char commit[MLC_COMMIT_OID_STR]; /* as the log's entry has it */
        json_t *checks, *not_proven;
};

static void note(json_t *list, const char *what, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static void note(json_t *list, const char *what, const char *fmt, ...)
{
        char text[512];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        (void)json_array_append_new(list, json_pack("{s:s, s:s}", "what", what, "proof", text));
}

/* The entry is about this object, whose state has this text under `key`. */
static int expect(const struct mlc_proven *p, const char *key, const char *want,
                  struct mlc_err *err)
{
        const char *have = json_string_value(json_object_get(p->leaf.state, key));

        if (have != NULL && strcmp(have, want) == 0)
                return 0;
        return mlc_fail(err, MLC_E_VERIFY, "the log says another %s of '%s': '%s', not '%s'", key,
                        p->leaf.id, have != NULL ? have : "none", want);
}

static int expect_object(const struct mlc_proven *p, const char *kind, const char *id,
                         struct mlc_err *err)
{
        if (strcmp(p->leaf.kind, kind) == 0 && strcmp(p->leaf.id, id) == 0)
                return 0;
        return mlc_fail(err, MLC_E_VERIFY, "entry %llu of the log is about %s '%s', not %s '%s'",
                        (unsigned long long)p->index, p->leaf.kind, p->leaf.id, kind, id);
}

static int check_leaf(struct check *c, struct mlc_err *err)
{
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        const char *hash, *commit;
        char id[PATH_TEXT];
        int r = mlc_json_get_str(c->e->version, "", "leaf_hash", &hash, err);

        if (r < 0)
                return r;
        (void)snprintf(id, sizeof(id), "%s/%s:%lld", c->e->ns, c->e->model, (long long)c->number);
        r = mlc_log_prove(c->log, hash, &p, err);
        if (r < 0)
                return r;
        r = expect_object(&p, "version", id, err);
        if (r < 0)
                return r;
        if (strcmp(p.leaf.action, "version.create") != 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "entry %llu of the log does not make the version, it is '%s'",
                                (unsigned long long)p.index, p.leaf.action);
        r = expect(&p, "digest", c->digest, err);
        if (r < 0)
                return r;
        commit = json_string_value(json_object_get(p.leaf.state, "commit"));
        if (commit == NULL || strlen(commit) >= sizeof(c->commit))
                return mlc_fail(err, MLC_E_VERIFY, "entry %llu of the log names no commit",
                                (unsigned long long)p.index);
        (void)snprintf(c->commit, sizeof(c->commit), "%s", commit);
        note(c->checks, "version",
             "entry %llu of the log makes %s, with this manifest and commit; %zu hashes lead to "
             "the "
             "root",
             (unsigned long long)p.index, id, p.path.n);
        return 0;
}

static int read_commit(struct check *c, struct mlc_response *ret, struct mlc_err *err)
{
        char path[PATH_TEXT];
        const struct mlc_request req = {.method = "GET", .path = path, .reply_max = MLC_COMMIT_MAX};

        (void)snprintf(path, sizeof(path), "/api/v1/models/%s/%s/versions/%lld/commit", c->e->ns,
                       c->e->model, (long long)c->number);
        return mlc_client_do(c->log->client, &req, ret, err);
}

static int check_commit(struct check *c, struct mlc_err *err)
{
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        struct mlc_vkeys keys;
        char tree[MLC_COMMIT_OID_STR], fingerprint[MLC_SSHKEY_FP];
        struct mlc_commit commit;
        int r = read_commit(c, &res, err);

        if (r < 0)
                return mlc_wrap(err, "the commit of the version");
        keys = mlc_log_keys(c->log);
        r = mlc_commit_check(mlc_str_cstr(&res.body), res.body.len, &keys, &commit, err);
        if (r < 0)
                return r;
        if (strcmp(commit.oid, c->commit) != 0)
                return mlc_fail(err, MLC_E_VERIFY, "the server gave commit '%s', the log says '%s'",
                                commit.oid, c->commit);
        r = mlc_commit_tree(&c->e->manifest, c->e->parsed, &c->e->card, tree, err);
        if (r < 0)
                return r;
        if (strcmp(commit.tree, tree) != 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "commit '%s' holds another manifest, card or lineage than the "
                                "version",
                                commit.oid);
        mlc_vkey_fingerprint(&keys.keys[commit.key], fingerprint);
        note(c->checks, "commit", "%s is signed by %s and holds manifest, card and lineage",
             commit.oid, fingerprint);
        return 0;
}

static int alias_leaf(struct check *c, json_t **ret, struct mlc_err *err)
{
        _cleanup_(mlc_str_done) struct mlc_str path;
        _cleanup_(json_decref_p) json_t *page = NULL;
        int r;

        mlc_str_init(&path, 4096);
        mlc_str_addf(&path, "/api/v1/models/%s/%s/aliases/", c->e->ns, c->e->model);
        mlc_url_encode(&path, c->e->alias);
        mlc_str_add(&path, "/history?limit=1");
        r = mlc_client_json(c->log->client, "GET", mlc_str_cstr(&path), NULL, &page, err);
        if (r < 0)
                return mlc_wrap(err, "the history of alias '%s'", c->e->alias);
        *ret = json_incref(json_array_get(json_object_get(page, "items"), 0));
        if (*ret == NULL)
                return mlc_fail(err, MLC_E_VERIFY, "alias '%s' has no history", c->e->alias);
        return 0;
}

static int check_alias(struct check *c, struct mlc_err *err)
{
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        _cleanup_(json_decref_p) json_t *last = NULL;
        const char *hash;
        char id[PATH_TEXT];
        int r;

        if (c->e->alias == NULL)
                return 0;
        r = alias_leaf(c, &last, err);
        if (r < 0)
                return r;
        r = mlc_json_get_str(last, "", "leaf_hash", &hash, err);
        if (r < 0)
                return r;
        r = mlc_log_prove(c->log, hash, &p, err);
        if (r < 0)
                return r;
        (void)snprintf(id, sizeof(id), "%s/%s:%s", c->e->ns, c->e->model, c->e->alias);
        r = expect_object(&p, "alias", id, err);
        if (r < 0)
                return r;
        r = expect(&p, "digest", c->digest, err);
        if (r < 0)
                return r;
        if (json_integer_value(json_object_get(p.leaf.state, "version")) != c->number)
                return mlc_fail(err, MLC_E_VERIFY, "the log says another version of alias '%s'",
                                c->e->alias);
        note(c->checks, "alias", "entry %llu of the log, of %s, made '%s' name this version",
             (unsigned long long)p.index, p.leaf.time, c->e->alias);
        (void)json_array_append_new(c->not_proven,
                                    json_string("that the alias was not moved since: only all of "
                                                "the log shows that (mlctl audit verify)"));
        return 0;
}

static int run_checks(struct check *c, struct mlc_err *err)
{
        int r = mlc_log_follow_keys(c->log, err);

        if (r < 0)
                return r;
        r = mlc_log_check_signers(c->log, err);
        if (r < 0)
                return r;
        note(c->checks, "manifest", "%s, %zu layers", c->digest, c->e->parsed->n_layers);
        r = check_leaf(c, err);
        if (r < 0)
                return r;
        r = check_commit(c, err);
        if (r < 0)
                return r;
        return check_alias(c, err);
}

static json_t *report(struct check *c)
{
        const struct mlc_pin *pin = &c->log->pin;
        char fingerprint[MLC_SSHKEY_FP], root[65];
        json_t *checks = json_array();

        mlc_vkey_fingerprint(&pin->keys[0], fingerprint);
        mlc_hex_encode(pin->seen.root.b, sizeof(pin->seen.root.b), root);
        note(checks, "log", "%s, pinned key %s", pin->keys[0].name, fingerprint);
        note(checks, "checkpoint", "%llu entries, signed by that key, %s",
             (unsigned long long)pin->seen.size,
             c->log->first ? "the first one seen: nothing to compare it with"
                           : "continues the one seen before");
        (void)json_array_extend(checks, c->checks);
        (void)json_array_append_new(
                c->not_proven,
                json_string("that the version's status did not change since it was made, and that "
                            "no newer version exists"));
        return json_pack("{s:s, s:s, s:I, s:s, s:o, s:O}", "log", pin->keys[0].name, "key",
                         fingerprint, "size", (json_int_t)pin->seen.size, "root", root, "checks",
                         checks, "not_proven", c->not_proven);
}

int mlc_evidence_check(struct mlc_log *l, const struct mlc_evidence *e, json_t **ret,
                       struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *checks = json_array(), *not_proven = json_array();
        struct check c = {.log = l, .e = e, .checks = checks, .not_proven = not_proven};
        int r = mlc_json_get_str(e->version, "", "digest", &c.digest, err);

        if (r < 0)
                return r;
        r = mlc_json_get_i64(e->version, "", "version", &c.number, err);
        if (r < 0)
                return r;
        r = run_checks(&c, err);
        if (r < 0)
                return r;
        *ret = report(&c);
        return *ret != NULL ? 0 : mlc_fail(err, MLC_E_INTERNAL, "cannot write the report");
}
