/* SPDX-License-Identifier: Apache-2.0 */
/* audit export --promotion ID DIR */
#include "export.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "log.h"
#include "policy/policy.h"
#include "promotion.h"
#include "resource.h"

#define JSON_FILE_MAX ((size_t)64 << 20)

void export_done(struct export *e)
{
        json_decref(e->promotion);
        json_decref(e->approvals);
        json_decref(e->version);
        json_decref(e->bundle);
        json_decref(e->keys);
        json_decref(e->sums);
        mlc_log_done(&e->log);
}

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

int export_path(struct export *e, const char *name, char ret[PATH_MAX])
{
        char parent[PATH_MAX];

        if (snprintf(ret, PATH_MAX, "%s/%s", e->dir, name) >= PATH_MAX)
                return mlc_fail(&e->cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", e->dir);
        memcpy(parent, ret, sizeof(parent));
        *strrchr(parent, '/') = '\0';
        return mlc_mkdirs(parent, 0755, &e->cli->err);
}

void export_sum(struct export *e, const char *name, const struct mlc_digest *d)
{
        char hex[65];

        if (e->sums == NULL)
                e->sums = json_object();
        mlc_hex_encode(d->b, sizeof(d->b), hex);
        (void)json_object_set_new(e->sums, name, json_string(hex));
}

int export_put(struct export *e, const char *name, const void *data, size_t len)
{
        char path[PATH_MAX];
        struct mlc_digest d;
        int r = export_path(e, name, path);

        mlc_sha256(data, len, &d);
        export_sum(e, name, &d);
        return r < 0 ? r
                     : mlc_write_file_atomic(path, data, len,
                                             mlc_ends_with(name, ".sh") ? 0755 : 0644,
                                             &e->cli->err);
}

int export_put_json(struct export *e, const char *name, const json_t *j)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, JSON_FILE_MAX);
        r = mlc_jcs(j, &text, &e->cli->err);
        return r < 0 ? r : export_put(e, name, text.data, text.len);
}

/* An id becomes a file name only when it looks like one of ours. */
int export_check_id(struct export *e, const char *id)
{
        if (id != NULL && id[0] != '\0' && strlen(id) < 32 &&
            id[strspn(id, "abcdefghijklmnopqrstuvwxyz0123456789")] == '\0')
                return 0;
        return mlc_fail(&e->cli->err, MLC_E_VERIFY, "the server names something by a bad id");
}

/* Verdict and evidence; a rollback has neither. */
static int put_verdict(struct export *e)
{
        const char *want = text_of(e->promotion, "verdict_digest");
        _cleanup_(json_decref_p) json_t *evidence = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        char have[MLC_DIGEST_STR];
        struct mlc_digest d;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        if (want == NULL)
                return 0;
        mlc_str_addf(&path, "/api/v1/promotions/%s/evidence", text_of(e->promotion, "id"));
        r = mlc_client_json(e->cli->client, "GET", mlc_str_cstr(&path), NULL, &evidence,
                            &e->cli->err);
        if (r == 0)
                r = mlc_verdict_digest(json_object_get(evidence, "verdict"), &d, &e->cli->err);
        if (r < 0)
                return r;
        mlc_digest_format(&d, have);
        if (strcmp(have, want) != 0)
                return mlc_fail(&e->cli->err, MLC_E_VERIFY,
                                "the server gives another verdict than the promotion's: %s, not %s",
                                have, want);
        e->bundle = json_incref(json_object_get(evidence, "bundle"));
        r = export_put_json(e, "statement.json", json_object_get(evidence, "verdict"));
        return r < 0 ? r : export_put_json(e, "bundle.json", e->bundle);
}

static int put_approval(struct export *e, const json_t *a)
{
        const char *who = text_of(json_object_get(a, "signer"), "id");
        const char *statement = text_of(a, "statement"), *signature = text_of(a, "signature");
        char name[64];
        int r = export_check_id(e, who);

        if (r < 0)
                return r;
        if (statement == NULL || signature == NULL)
                return mlc_fail(&e->cli->err, MLC_E_VERIFY, "an approval has no signature");
        (void)snprintf(name, sizeof(name), "approvals/%s.json", who);
        r = export_put(e, name, statement, strlen(statement));
        (void)snprintf(name, sizeof(name), "approvals/%s.sig", who);
        return r < 0 ? r : export_put(e, name, signature, strlen(signature));
}

static int put_approvals(struct export *e)
{
        const json_t *a;
        size_t i;

        json_array_foreach (e->approvals, i, a) {
                int r = json_is_true(json_object_get(a, "void")) ? 0 : put_approval(e, a);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* Names */

static void add_name(json_t *names, const json_t *person)
{
        const char *id = text_of(person, "id"), *name = text_of(person, "name");

        if (id != NULL && name != NULL)
                (void)json_object_set_new(names, id, json_string(name));
}

static int put_names(struct export *e)
{
        _cleanup_(json_decref_p) json_t *names = json_object();
        const json_t *a;
        size_t i;

        add_name(names, json_object_get(e->promotion, "requested_by"));
        add_name(names, json_object_get(e->version, "author"));
        json_array_foreach (e->approvals, i, a)
                add_name(names, json_object_get(a, "signer"));
        return export_put_json(e, "names.json", names);
}

/* SHA256SUMS, as sha256sum(1) reads it; no name here needs its escapes. */
static int put_sums(struct export *e)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        const char *name;
        json_t *sum;
        int r;

        mlc_str_init(&text, (size_t)4 << 20);
        json_object_foreach (e->sums, name, sum)
                mlc_str_addf(&text, "%s  %s\n", json_string_value(sum), name);
        r = mlc_str_check(&text, &e->cli->err);
        return r < 0 ? r : export_put(e, "SHA256SUMS", text.data, text.len);
}

/* The whole */

static int fetch(struct export *e, const char *id)
{
        _cleanup_(json_decref_p) json_t *approvals = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_ref ref;
        int r = promotion_get(e->cli, id, &e->promotion);

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        if (r < 0)
                return r;
        r = export_check_id(e, text_of(e->promotion, "id"));
        mlc_str_addf(&path, "/api/v1/promotions/%s/approvals", text_of(e->promotion, "id"));
        if (r == 0)
                r = mlc_client_json(e->cli->client, "GET", mlc_str_cstr(&path), NULL, &approvals,
                                    &e->cli->err);
        if (r < 0)
                return r;
        /* a rollback's are about the promotion that it takes down */
        e->approvals = json_incref(json_is_string(json_object_get(e->promotion, "rollback_of"))
                                           ? json_object_get(e->promotion, "approvals")
                                           : json_object_get(approvals, "items"));
        r = mlc_ref_parse_model(text_of(e->promotion, "model"), &ref, &e->cli->err);
        ref.kind = MLC_REF_VERSION;
        ref.version = (uint64_t)json_integer_value(json_object_get(e->promotion, "version"));
        return r < 0 ? r : cli_version_get(e->cli, &ref, &e->version);
}

static int make_dir(struct export *e)
{
        if (mkdir(e->dir, 0755) == 0)
                return 0;
        if (errno == EEXIST)
                return mlc_fail(&e->cli->err, MLC_E_USAGE,
                                "'%s' is there already; an export makes its own directory", e->dir);
        return mlc_fail_errno(&e->cli->err, "make directory", e->dir);
}

static void print_export(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"promotion", "promotion", OUT_TEXT},
                {"directory", "directory", OUT_TEXT},
                {"signatures", "approvals", OUT_TEXT},
                {0},
        };

        out_fields(cli, j, fields);
}

int export_run(struct cli *cli)
{
        const char *id = cli_opt(cli, "promotion");
        _cleanup_(export_done) struct export e = {.cli = cli, .dir = cli->args[0]};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        int r;

        if (id == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "audit export needs --promotion ID");
        r = cli_connect(cli);
        if (r == 0)
                r = cli_log_open(cli, &e.log);
        if (r == 0)
                r = mlc_log_follow_keys(&e.log, &cli->err);
        if (r == 0)
                r = fetch(&e, id);
        if (r == 0)
                r = make_dir(&e);
        if (r == 0)
                r = put_verdict(&e);
        if (r == 0)
                r = put_approvals(&e);
        if (r == 0)
                r = export_proofs(&e);
        if (r == 0)
                r = export_signers(&e);
        if (r == 0)
                r = export_evidence(&e);
        if (r == 0)
                r = export_repository(&e);
        if (r == 0)
                r = put_names(&e);
        if (r == 0)
                r = export_texts(&e);
        if (r == 0)
                r = put_sums(&e);
        if (r < 0)
                return r;
        shown = json_pack("{s:s, s:s, s:I}", "promotion", id, "directory", e.dir, "approvals",
                          (json_int_t)json_array_size(e.approvals));
        out_result(cli, shown, print_export);
        out_note(cli, "read %s/README.md, or run %s/verify.sh", e.dir, e.dir);
        return 0;
}
