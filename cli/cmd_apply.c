/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "codec/ref.h"
#include "documents.h"
#include "evidence.h"
#include "judge.h"
#include "layers.h"
#include "policy/document.h"
#include "resource.h"
#include "textdiff.h"

#define ARENA_MAX ((size_t)64 << 20)

/* apply: what changes */

/* Documents as the server keeps them name people by id; "user:u7f3a" becomes "user:dana" again. */
static json_t *with_names(const json_t *j, const json_t *people)
{
        const char *text = json_string_value(j), *key;
        json_t *out, *v;
        size_t i;

        if (json_is_object(j)) {
                out = json_object();
                json_object_foreach ((json_t *)(uintptr_t)j, key, v)
                        (void)json_object_set_new(out, key, with_names(v, people));
                return out;
        }
        if (json_is_array(j)) {
                out = json_array();
                json_array_foreach (j, i, v)
                        (void)json_array_append_new(out, with_names(v, people));
                return out;
        }
        if (text != NULL && mlc_starts_with(text, "user:")) {
                const char *name = json_string_value(json_object_get(people, text + 5));

                if (name != NULL)
                        return json_sprintf("user:%s", name);
        }
        return json_incref((json_t *)(uintptr_t)j);
}

/* What the server has under that name; *ret NULL: nothing, or nothing that we may read. */
static int current(struct cli *cli, const struct mlc_document *d, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_err err = {0};
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_addf(&path, "/api/v1/documents/%s/%s", mlc_document_kind_name(d->kind), d->name);
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &doc, &err);
        if (r == MLC_E_NOT_FOUND || r == MLC_E_FORBIDDEN)
                return 0;
        if (r < 0) {
                cli->err = err;
                return r;
        }
        *ret = with_names(json_object_get(doc, "document"), json_object_get(doc, "people"));
        return 0;
}

static int before_all(struct cli *cli, const struct mlc_documents *docs, json_t *ret)
{
        for (size_t i = 0; i < docs->n; i++) {
                json_t *one = NULL;
                int r = current(cli, &docs->items[i], &one);

                if (r < 0)
                        return r;
                (void)json_array_append_new(ret, one != NULL ? one : json_null());
        }
        return 0;
}

static const json_t *find(const json_t *list, const struct mlc_document *d)
{
        const json_t *one;
        size_t i;

        json_array_foreach (list, i, one)
                if (mlc_streq(json_string_value(json_object_get(one, "kind")),
                              mlc_document_kind_name(d->kind)) &&
                    mlc_streq(json_string_value(json_object_get(one, "name")), d->name))
                        return one;
        return NULL;
}

/* The heading of one document: what happened to it. */
static void print_document(struct cli *cli, const json_t *reply, const struct mlc_document *d,
                           const json_t *before)
{
        const json_t *pending = find(json_object_get(reply, "pending"), d);
        const json_t *applied = find(json_object_get(reply, "applied"), d);
        bool dry = json_is_true(json_object_get(reply, "dry_run"));
        const char *id = json_string_value(json_object_get(pending, "id"));

        (void)printf("%s%s/", out_bold(cli), mlc_document_kind_name(d->kind));
        out_text(d->name);
        (void)printf("%s  ", out_reset(cli));
        if (pending != NULL) {
                (void)printf("%s%s",
                             dry ? "would wait for owners" : "waits for owners: mlctl approve ",
                             "");
                if (id != NULL)
                        out_text(id);
                (void)printf("  (%" JSON_INTEGER_FORMAT " signatures needed)",
                             json_integer_value(json_object_get(pending, "need")));
        } else if (applied != NULL) {
                (void)printf("%s%s", dry ? "would be " : "",
                             json_is_null(before) ? "new" : "changed");
        } else {
                (void)printf("unchanged");
        }
        if (d->kind == MLC_ENVIRONMENT &&
            json_integer_value(json_object_get(d->json, "threshold")) == 0)
                (void)printf("  (unprotected: no owners sign changes of it)");
        (void)printf("\n");
        if (pending != NULL || applied != NULL)
                textdiff_print(cli, json_is_null(before) ? NULL : before, d->json);
}

static void print_warnings(struct cli *cli, const json_t *reply)
{
        const json_t *one;
        size_t i;

        json_array_foreach (json_object_get(reply, "warnings"), i, one)
                out_note(cli, "warning: %s", json_string_value(one));
}

static int send(struct cli *cli, const struct mlc_str *yaml, json_t **ret)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        struct mlc_request request = {
                .method = "POST",
                .path = cli_opt(cli, "dry-run") != NULL ? "/api/v1/documents?dry_run=true"
                                                        : "/api/v1/documents",
                .body = yaml->data,
                .body_len = yaml->len,
                .content_type = "application/yaml",
        };
        int r = mlc_client_do(cli->client, &request, &reply, &cli->err);

        return r < 0 ? r
                     : mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, ret, &cli->err);
}

static int run_apply(struct cli *cli)
{
        const char *from = cli_opt(cli, "file");
        _cleanup_(json_decref_p) json_t *before = json_array(), *reply = NULL;
        _cleanup_(mlc_arena_done) struct mlc_arena arena;
        _cleanup_(mlc_documents_done) struct mlc_documents docs = {0};
        _cleanup_(mlc_str_done) struct mlc_str yaml;
        int r;

        mlc_str_init(&yaml, DOCUMENTS_MAX);
        mlc_arena_init(&arena, ARENA_MAX);
        if (from == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "apply needs -f FILE, -f DIR or -f -");
        r = documents_read(cli, from, &yaml);
        if (r == 0)
                r = mlc_documents_parse(yaml.data, yaml.len, &arena, &docs, &cli->err);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0 && cli->output == CLI_TABLE)
                r = before_all(cli, &docs, before);
        if (r == 0)
                r = send(cli, &yaml, &reply);
        if (r < 0)
                return r;
        out_result(cli, reply, NULL);
        if (cli->output == CLI_TABLE)
                for (size_t i = 0; i < docs.n; i++)
                        print_document(cli, reply, &docs.items[i], json_array_get(before, i));
        print_warnings(cli, reply);
        return 0;
}

/* policy test */

static void print_approvals(struct cli *cli, const json_t *j)
{
        const json_t *rule, *who;
        size_t i, k;

        (void)cli;
        json_array_foreach (json_object_get(j, "approvals"), i, rule) {
                (void)printf("approval ");
                out_text(json_string_value(json_object_get(rule, "rule")));
                (void)printf(": %" JSON_INTEGER_FORMAT " of",
                             json_integer_value(json_object_get(rule, "need")));
                json_array_foreach (json_object_get(rule, "eligible"), k, who) {
                        const char *name = json_string_value(json_object_get(who, "name"));
                        const char *id = json_string_value(json_object_get(who, "id"));

                        (void)printf("%s ", k > 0 ? "," : "");
                        out_text(name != NULL ? name : id != NULL ? id : "?");
                }
                (void)printf("%s\n", json_array_size(json_object_get(rule, "eligible")) == 0
                                             ? " nobody: no one under this rule could sign"
                                             : "");
        }
}

static void print_test(struct cli *cli, const json_t *j)
{
        const json_t *verdict = json_object_get(j, "verdict");
        const char *would = json_string_value(json_object_get(j, "would_be"));

        judge_print_word(cli, json_string_value(json_object_get(verdict, "verdict")));
        (void)printf(": a promotion of ");
        out_text(json_string_value(json_object_get(verdict, "model")));
        (void)printf(":%" JSON_INTEGER_FORMAT " to ",
                     json_integer_value(json_object_get(verdict, "version")));
        out_text(json_string_value(json_object_get(verdict, "environment")));
        (void)printf(" would be ");
        out_text(would != NULL ? would : "?");
        (void)printf("%s\n\n", json_is_true(json_object_get(j, "protected"))
                                       ? ""
                                       : "  (unprotected: no owners sign changes of it)");
        judge_print_checks(cli, json_object_get(verdict, "checks"));
        print_approvals(cli, j);
}

/* How the API names a version of a model: "3", "latest", "champion", "sha256:…". */
static int ask(struct cli *cli, const char *environment, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *body = NULL;
        char version[MLC_ALIAS_MAX + 1];
        struct mlc_ref ref;
        int r = mlc_ref_parse(cli->args[0], &ref, &cli->err);

        if (r < 0)
                return r;
        resource_version_name(&ref, version);
        body = json_pack("{s:o, s:s, s:s}", "model", json_sprintf("%s/%s", ref.ns, ref.model),
                         "version", version, "environment", environment);
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "'%s' is no environment", environment);
        return mlc_client_json(cli->client, "POST", "/api/v1/policy-tests", body, ret, &cli->err);
}

static int run_test(struct cli *cli)
{
        const char *to = cli_opt(cli, "to"), *would;
        _cleanup_(json_decref_p) json_t *reply = NULL, *documents = NULL;
        _cleanup_(evidence_seen_done) struct evidence_seen seen = {0};
        const json_t *bundle;
        int r;

        if (to == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "policy test needs --to ENVIRONMENT");
        r = cli_connect(cli);
        if (r == 0)
                r = ask(cli, to, &reply);
        if (r == 0)
                r = layers_fetch(cli, json_object_get(reply, "bundle"), &documents);
        bundle = json_object_get(reply, "bundle");
        if (r == 0)
                r = layers_check(cli, bundle, documents);
        if (r == 0)
                r = evidence_judge(cli, bundle, &seen);
        if (r == 0)
                r = judge_compare(cli, seen.verdict, json_object_get(reply, "verdict"));
        if (r < 0)
                return r;
        out_result(cli, reply, print_test);
        would = json_string_value(json_object_get(reply, "would_be"));
        if (mlc_streq(would, "rejected"))
                cli->exit = 1;
        else if (mlc_streq(would, "held"))
                cli->exit = 4;
        return 0;
}

static const struct cli_option APPLY_OPTIONS[] = {
        {"file", "FILE|DIR|-", "the documents, YAML; -f for short; - is standard input", false},
        {"dry-run", NULL, "say what would change, and change nothing", false},
        {0},
};

static const struct cli_option TEST_OPTIONS[] = {
        {"to", "ENVIRONMENT", "where it would be promoted to", false},
        {0},
};

const struct cli_command CMD_APPLY[] = {
        {"apply", "", 0, 0, "apply Environment, Policy, Model and Group documents",
         "All or none. Of a directory, its *.yaml and *.yml. What belongs to a protected "
         "environment\n"
         "is not applied but becomes a change request, which its owners sign with\n"
         "'mlctl approve ID'. Warns of tests that can hardly pass with the evaluations there are.",
         APPLY_OPTIONS, run_apply},
        {"policy test", "REF", 1, 1,
         "the verdict that a promotion would get, and who could approve",
         "Changes nothing. The verdict is computed here again from the server's evidence, and is\n"
         "refused when it differs. Exit 0: it would be approved or wait for approvals, 1: "
         "refused,\n"
         "4: held for evidence.",
         TEST_OPTIONS, run_test},
        {0},
};
