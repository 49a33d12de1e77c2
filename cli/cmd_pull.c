/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "client/evidence.h"
#include "client/pull.h"
#include "codec/ref.h"
#include "codec/utf8.h"
#include "crypto/hash.h"
#include "log.h"
#include "progress.h"

#define ARENA_MAX ((size_t)64 << 20)

struct pulling {
        struct mlc_ref ref;
        json_t *version;
        const char *digest; /* of the manifest, in `version` */
        char repository[2 * MLC_NAME_MAX + 2];
        struct mlc_response manifest, card;
        struct mlc_manifest parsed;
        struct mlc_arena arena;
        struct mlc_log log;
        json_t *verified;
};

static void pulling_done(struct pulling *p)
{
        json_decref(p->version);
        json_decref(p->verified);
        mlc_response_done(&p->manifest);
        mlc_response_done(&p->card);
        mlc_arena_done(&p->arena);
        mlc_log_done(&p->log);
}

/* A blob of the repository in memory, compared with its digest. */
static int get_small(struct cli *cli, const char *path, const char *digest,
                     struct mlc_response *ret)
{
        const struct mlc_request req = {
                .method = "GET", .path = path, .reply_max = MLC_MANIFEST_MAX};
        char have[MLC_DIGEST_STR];
        struct mlc_digest d;
        int r = mlc_client_do(cli->client, &req, ret, &cli->err);

        if (r < 0)
                return r;
        mlc_sha256(mlc_str_cstr(&ret->body), ret->body.len, &d);
        mlc_digest_format(&d, have);
        if (strcmp(have, digest) == 0)
                return 0;
        return mlc_fail(&cli->err, MLC_E_VERIFY,
                        "the server at %s sent other bytes than those of '%s'",
                        mlc_client_url(cli->client), digest);
}

/* The version must be the one that was asked for, as far as the reference itself says. */
static int check_asked(struct cli *cli, const struct pulling *p, int64_t number)
{
        char digest[MLC_DIGEST_STR];
        bool same = true;

        if (p->ref.kind == MLC_REF_VERSION)
                same = number >= 0 && (uint64_t)number == p->ref.version;
        if (p->ref.kind == MLC_REF_DIGEST) {
                mlc_digest_format(&p->ref.digest, digest);
                same = strcmp(digest, p->digest) == 0;
        }
        if (same)
                return 0;
        return mlc_fail(&cli->err, MLC_E_VERIFY,
                        "the server at %s answered with another version than '%s'",
                        mlc_client_url(cli->client), cli->args[0]);
}

static int resolve(struct cli *cli, struct pulling *p)
{
        struct mlc_digest checked;
        char path[512];
        int64_t number;
        int r = cli_version_get(cli, &p->ref, &p->version);

        if (r < 0)
                return r;
        r = mlc_json_get_str(p->version, "", "digest", &p->digest, &cli->err);
        if (r < 0)
                return r;
        r = mlc_json_get_i64(p->version, "", "version", &number, &cli->err);
        if (r < 0)
                return r;
        r = check_asked(cli, p, number);
        if (r < 0)
                return r;
        r = mlc_digest_parse(p->digest, &checked, &cli->err); /* it goes into a path */
        if (r < 0)
                return r;
        (void)snprintf(p->repository, sizeof(p->repository), "%s/%s", p->ref.ns, p->ref.model);
        (void)snprintf(path, sizeof(path), "/v2/%s/manifests/%s", p->repository, p->digest);
        r = get_small(cli, path, p->digest, &p->manifest);
        if (r < 0)
                return r;
        return mlc_manifest_parse(mlc_str_cstr(&p->manifest.body), p->manifest.body.len, NULL,
                                  &p->arena, &p->parsed, &cli->err);
}

static void warn_of_status(const struct pulling *p)
{
        const char *status = json_string_value(json_object_get(p->version, "status"));
        const char *reason = json_string_value(json_object_get(p->version, "status_reason"));
        _cleanup_(mlc_str_done) struct mlc_str text;

        mlc_str_init(&text, 8192);
        if (status == NULL || strcmp(status, "ready") == 0)
                return;
        mlc_utf8_escape_display(status, strlen(status), &text);
        if (reason != NULL) {
                mlc_str_add(&text, ": ");
                mlc_utf8_escape_display(reason, strlen(reason), &text);
        }
        (void)fprintf(stderr, "warning: this version is %s\n", mlc_str_cstr(&text));
}

/* README.md is in the commit itself, so it is needed to recompute what was signed. */
static int get_card(struct cli *cli, struct pulling *p)
{
        char path[512];

        for (size_t i = 0; i < p->parsed.n_layers; i++) {
                const struct mlc_descriptor *l = &p->parsed.layers[i];

                if (l->path == NULL || strcmp(l->path, MLC_COMMIT_CARD) != 0 ||
                    l->size > MLC_COMMIT_CARD_MAX)
                        continue;
                (void)snprintf(path, sizeof(path), "/v2/%s/blobs/%s", p->repository, l->digest);
                return get_small(cli, path, l->digest, &p->card);
        }
        return 0;
}

static int verify(struct cli *cli, struct pulling *p)
{
        struct mlc_evidence e = {
                .ns = p->ref.ns,
                .model = p->ref.model,
                .version = p->version,
                .alias = p->ref.kind == MLC_REF_ALIAS ? p->ref.alias : NULL,
                .manifest = {mlc_str_cstr(&p->manifest.body), p->manifest.body.len},
                .parsed = &p->parsed,
        };
        int r = cli_log_open(cli, &p->log);

        if (r < 0)
                return r;
        r = get_card(cli, p);
        if (r < 0)
                return r;
        if (p->card.status != 0)
                e.card = (struct mlc_bytes){mlc_str_cstr(&p->card.body), p->card.body.len};
        return mlc_evidence_check(&p->log, &e, &p->verified, &cli->err);
}

static void print_pulled(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"digest", "digest", OUT_TEXT},
                {"directory", "dir", OUT_TEXT},
                {"files", "n_files", OUT_TEXT},
                {"kept", "n_kept", OUT_TEXT},
                {"size", "size", OUT_SIZE},
                {"received", "bytes_received", OUT_SIZE},
                {0},
        };
        static const struct out_column columns[] = {
                {"VERIFIED", "what", OUT_TEXT}, {"BY", "proof", OUT_TEXT}, {0}};
        const json_t *verified = json_object_get(j, "verified");
        json_t *text;
        size_t i;

        (void)printf("%s", out_bold(cli));
        out_text(json_string_value(json_object_get(j, "ref")));
        (void)printf("%s\n", out_reset(cli));
        out_fields(cli, j, fields);
        if (verified == NULL)
                return;
        (void)printf("\n");
        out_table(cli, json_object_get(verified, "checks"), columns);
        (void)printf("\n");
        json_array_foreach (json_object_get(verified, "not_proven"), i, text) {
                (void)printf("%snot proven:%s ", out_dim(cli), out_reset(cli));
                out_text(json_string_value(text));
                (void)printf("\n");
        }
}

static void show(struct cli *cli, struct pulling *p, const struct mlc_pull_result *result)
{
        json_t *j = p->version;

        (void)json_object_set_new(j, "dir", json_string(cli->args[1]));
        (void)json_object_set_new(j, "n_files", json_integer((json_int_t)result->files));
        (void)json_object_set_new(j, "n_kept", json_integer((json_int_t)result->kept));
        (void)json_object_set_new(j, "bytes_received",
                                  json_integer((json_int_t)result->bytes_received));
        if (p->verified != NULL)
                (void)json_object_set(j, "verified", p->verified);
        out_result(cli, j, print_pulled);
}

static int pull(struct cli *cli, struct pulling *p, unsigned jobs)
{
        _cleanup_(progress_done) struct progress progress;
        struct mlc_pull in = {
                .repository = p->repository,
                .manifest = &p->parsed,
                .dir = cli->args[1],
                .force = cli_opt(cli, "force") != NULL,
                .jobs = jobs,
        };
        struct mlc_pull_result result;
        int r;

        progress_init(&progress, cli);
        in.meter = progress_meter(&progress);
        r = mlc_pull_run(cli->client, &in, &result, &cli->err);
        if (r < 0)
                return r;
        show(cli, p, &result);
        return 0;
}

static int run_pull(struct cli *cli)
{
        _cleanup_(pulling_done) struct pulling p = {0};
        unsigned jobs;
        int r;

        mlc_arena_init(&p.arena, ARENA_MAX);
        r = mlc_ref_parse(cli->args[0], &p.ref, &cli->err);
        if (r < 0)
                return r;
        r = progress_jobs(cli, &jobs);
        if (r < 0)
                return r;
        r = cli_connect(cli);
        if (r < 0)
                return r;
        r = resolve(cli, &p);
        if (r < 0)
                return r;
        warn_of_status(&p);
        if (cli_opt(cli, "verify") != NULL) {
                r = verify(cli, &p);
                if (r < 0)
                        return r;
        }
        return pull(cli, &p, jobs);
}

static const struct cli_option OPTIONS[] = {
        {"verify", NULL, "check log, commit and alias before any file appears", false},
        {"force", NULL, "replace files that are there and differ", false},
        {"jobs", "N", "files at a time, 1 to 16 (4)", false},
        {0},
};

const struct cli_command CMD_PULL[] = {
        {"pull", "REF DIR", 2, 2, "fetch the files of a version into a directory",
         "Every file is compared with its digest, always. With --verify, the entry of the log "
         "that\n"
         "made the version, the signed commit and the alias are proven first; see the table that\n"
         "it prints for what is proven and what is not. A pull that broke off is taken up again.",
         OPTIONS, run_pull},
        {0},
};
