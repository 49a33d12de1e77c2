/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli.h"
#include "client/upload.h"
#include "codec/ref.h"
#include "config.h"
#include "policy/evaluation.h"
#include "policy/examples.h"
#include "progress.h"
#include "resource.h"

#define LIST_MAX 100000
#define ARENA_MAX ((size_t)64 << 20)

/* evaluate */

struct examples_in {
        const char *file;
        int fd;
        uint64_t size;
        struct mlc_digest digest;
};

static void examples_in_done(struct examples_in *in)
{
        close_fd(&in->fd);
}

/* Reads the examples here first: what does not fit is said before anything is sent. */
static int read_examples(struct cli *cli, const struct mlc_evaluation *e, struct examples_in *in)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
        struct mlc_examples_in source;
        struct stat st;
        int r;

        in->fd = open(in->file, O_RDONLY | O_CLOEXEC);
        if (in->fd < 0 || fstat(in->fd, &st) < 0)
                return mlc_fail_errno(&cli->err, "read", in->file);
        if (!S_ISREG(st.st_mode))
                return mlc_fail(&cli->err, MLC_E_USAGE, "'%s' is no file", in->file);
        if ((uint64_t)st.st_size > MLC_EXAMPLES_MAX)
                return mlc_fail(&cli->err, MLC_E_LIMIT, "'%s' has more than 1 GiB", in->file);
        in->size = (uint64_t)st.st_size;
        mlc_examples_in_fd(&source, &in->fd);
        r = mlc_examples_load(&source, &x, &in->digest, &cli->err);
        if (r == 0)
                r = mlc_examples_compare(x, e, &cli->err);
        return r < 0 ? mlc_wrap(&cli->err, "'%s'", in->file) : 0;
}

static int send_examples(struct cli *cli, const struct examples_in *in)
{
        _cleanup_(progress_done) struct progress progress;
        _cleanup_(free_p) char *state_dir = NULL;
        struct mlc_upload up = {.digest = in->digest, .size = in->size, .fd = in->fd};
        char repository[MLC_REF_STR];
        struct mlc_meter meter;
        struct mlc_ref ref;
        uint64_t sent;
        int r;

        progress_init(&progress, cli);
        r = mlc_ref_parse(cli->args[0], &ref, &cli->err);
        if (r == 0)
                r = config_state_dir(&state_dir, &cli->err);
        if (r < 0)
                return r;
        (void)snprintf(repository, sizeof(repository), "%s/%s", ref.ns, ref.model);
        meter = progress_meter(&progress);
        meter.phase(meter.userdata, "pushing", in->size);
        up.repository = repository;
        up.state_dir = state_dir;
        up.progress = meter.add;
        up.userdata = meter.userdata;
        return mlc_upload_blob(cli->client, &up, &sent, &cli->err);
}

static void print_evaluation(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"evaluation", "evaluation", OUT_TEXT},
                {"model", "model", OUT_TEXT},
                {"version", "version", OUT_TEXT},
                {"dataset", "dataset", OUT_TEXT},
                {"recomputed", "recomputed", OUT_TEXT},
                {"withdrawn", "withdrawn", OUT_TEXT},
                {"reason", "reason", OUT_TEXT},
                {"leaf", "leaf_hash", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *shown = json_copy((json_t *)(uintptr_t)j);
        const json_t *metrics = json_object_get(j, "recomputed");

        if (json_is_array(metrics))
                (void)json_object_set_new(shown, "recomputed",
                                          json_integer((json_int_t)json_array_size(metrics)));
        if (json_is_integer(json_object_get(shown, "recomputed")))
                (void)json_object_set_new(
                        shown, "recomputed",
                        json_sprintf("%" JSON_INTEGER_FORMAT " metrics from the examples",
                                     json_integer_value(json_object_get(shown, "recomputed"))));
        out_fields(cli, shown, fields);
}

static int post(struct cli *cli, const char *text, size_t len, const struct examples_in *examples)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        _cleanup_(json_decref_p) json_t *made = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_request request = {.method = "POST", .body = text, .body_len = len};
        char digest[MLC_DIGEST_STR];
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = resource_version(cli, cli->args[0], &path);
        if (r < 0)
                return r;
        mlc_str_add(&path, "/evaluations");
        mlc_digest_format(&examples->digest, digest);
        resource_query(&path, "examples", examples->file != NULL ? digest : NULL);
        request.path = mlc_str_cstr(&path);
        r = mlc_client_do(cli->client, &request, &reply, &cli->err);
        if (r == 0)
                r = mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, &made, &cli->err);
        if (r < 0)
                return r;
        if (json_is_false(json_object_get(made, "created")))
                out_note(cli, "this evaluation was there already");
        out_result(cli, made, print_evaluation);
        return 0;
}

static int run_evaluate(struct cli *cli)
{
        const char *file = cli_opt(cli, "file");
        _cleanup_(examples_in_done) struct examples_in examples = {.file = cli_opt(cli, "examples"),
                                                                   .fd = -1};
        _cleanup_(mlc_arena_done) struct mlc_arena arena;
        _cleanup_(json_decref_p) json_t *doc = NULL;
        _cleanup_(free_p) char *text = NULL;
        struct mlc_evaluation e;
        size_t len;
        int r;

        mlc_arena_init(&arena, ARENA_MAX);
        if (file == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "evaluate needs --file eval.json");
        r = mlc_read_file(file, MLC_EVALUATION_MAX, &text, &len, &cli->err);
        if (r < 0)
                return r;
        r = mlc_evaluation_parse(text, len, &arena, &doc, &e, &cli->err);
        if (r < 0)
                return mlc_wrap(&cli->err, "'%s'", file);
        if (examples.file != NULL) {
                r = read_examples(cli, &e, &examples);
                if (r < 0)
                        return r;
        }
        r = cli_connect(cli);
        if (r == 0 && examples.file != NULL)
                r = send_examples(cli, &examples);
        return r < 0 ? r : post(cli, text, len, &examples);
}

/* evaluation list, evaluation withdraw */

static void print_list(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"EVALUATION", "evaluation", OUT_TEXT},
                {"DATASET", "dataset", OUT_TEXT},
                {"EXAMPLES", "has", OUT_TEXT},
                {"BY", "author.name", OUT_TEXT},
                {"RECEIVED (UTC)", "at", OUT_TIME},
                {"STATE", "state", OUT_TEXT},
                {0},
        };
        _cleanup_(json_decref_p) json_t *rows = json_array();
        const json_t *one;
        size_t i;

        json_array_foreach (j, i, one) {
                json_t *row = json_copy((json_t *)(uintptr_t)one);
                bool gone = json_is_true(json_object_get(one, "withdrawn"));

                (void)json_object_set_new(
                        row, "has",
                        json_string(json_is_string(json_object_get(one, "examples")) ? "yes"
                                                                                     : "no"));
                (void)json_object_set_new(row, "state", json_string(gone ? "withdrawn" : "counts"));
                (void)json_array_append_new(rows, row);
        }
        out_table(cli, rows, columns);
}

static int run_list(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *items = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        r = resource_version(cli, cli->args[0], &path);
        mlc_str_add(&path, "/evaluations");
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0)
                r = mlc_client_list(cli->client, mlc_str_cstr(&path), LIST_MAX, &items, &cli->err);
        if (r < 0)
                return r;
        if (json_array_size(items) == 0)
                out_note(cli, "none");
        if (json_array_size(items) > 0 || cli->output != CLI_TABLE)
                out_result(cli, items, print_list);
        return 0;
}

/* The path of the one version that has this evaluation. */
static int find_evaluation(struct cli *cli, const char *id, struct mlc_str *ret)
{
        _cleanup_(json_decref_p) json_t *found = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        const json_t *items, *one;
        char ref[MLC_REF_STR];
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_addf(&path, "/api/v1/evaluations/%s", id);
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &found, &cli->err);
        if (r < 0)
                return r;
        items = json_object_get(found, "items");
        one = json_array_get(items, 0);
        if (one == NULL)
                return mlc_fail(&cli->err, MLC_E_NOT_FOUND, "there is no evaluation '%s'", id);
        if (json_array_size(items) > 1)
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "%zu versions have the evaluation '%s', '%s:%lld' and others: say "
                                "which, 'mlctl evaluation withdraw REF ID'",
                                json_array_size(items), id,
                                json_string_value(json_object_get(one, "model")),
                                (long long)json_integer_value(json_object_get(one, "version")));
        (void)snprintf(ref, sizeof(ref), "%s:%lld",
                       json_string_value(json_object_get(one, "model")),
                       (long long)json_integer_value(json_object_get(one, "version")));
        return resource_version(cli, ref, ret);
}

static int run_withdraw(struct cli *cli)
{
        const char *ref = cli->n_args > 1 ? cli->args[0] : NULL;
        const char *evaluation = cli->args[cli->n_args - 1];
        const char *reason = cli_opt(cli, "reason");
        _cleanup_(json_decref_p) json_t *body = NULL, *now = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_digest id;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        if (reason == NULL || reason[0] == '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "withdrawing takes --reason TEXT; it stays visible");
        r = mlc_digest_parse(evaluation, &id, &cli->err);
        if (r < 0)
                return mlc_wrap(&cli->err, "evaluation '%s'", evaluation);
        if (ref != NULL)
                r = resource_version(cli, ref, &path);
        if (r == 0)
                r = cli_connect(cli);
        if (r == 0 && ref == NULL)
                r = find_evaluation(cli, evaluation, &path);
        if (r < 0)
                return r;
        mlc_str_addf(&path, "/evaluations/%s/withdraw", evaluation);
        body = json_pack("{s:s}", "reason", reason);
        if (body == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the reason is not valid UTF-8");
        r = mlc_client_json(cli->client, "POST", mlc_str_cstr(&path), body, &now, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, now, print_evaluation);
        return 0;
}

static const struct cli_option EVALUATE_OPTIONS[] = {
        {"file", "FILE", "the evaluation, JSON (schema evaluation/v1); -f for short", false},
        {"examples", "FILE", "results example by example: CSV id,label,prediction[,score]", false},
        {0},
};

static const struct cli_option WITHDRAW_OPTIONS[] = {
        {"reason", "TEXT", "why; everybody sees it", false},
        {0},
};

const struct cli_command CMD_EVALUATE[] = {
        {"evaluate", "REF", 1, 1, "record an evaluation of a version",
         "Both files are checked here before anything is sent. With --examples the server "
         "computes\n"
         "accuracy, precision, recall, AUC and errors from the examples, overall and by slice, "
         "and\n"
         "refuses metrics that differ; versions that were evaluated on the same examples are\n"
         "compared in pairs. All evaluations count; none is replaced.",
         EVALUATE_OPTIONS, run_evaluate},
        {"evaluation list", "REF", 1, 1, "the evaluations of a version, newest first", NULL, NULL,
         run_list},
        {"evaluation withdraw", "[REF] EVALUATION", 1, 2, "make an evaluation count no longer",
         "It stays visible, with the reason. EVALUATION is its id (sha256:…) as 'mlctl evaluation\n"
         "list' shows it; REF, the version, is needed when several have that evaluation.",
         WITHDRAW_OPTIONS, run_withdraw},
        {0},
};
