/* SPDX-License-Identifier: Apache-2.0 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "cli.h"
#include "client/origin.h"
#include "client/push.h"
#include "codec/ref.h"
#include "config.h"
#include "progress.h"

/* What the options and the surroundings say of an artifact. */
struct origin_in {
        const char *datasets[MLC_LINEAGE_DATASETS_MAX];
        struct mlc_origin found;
        char base[MLC_REF_STR + MLC_DIGEST_STR];
        struct mlc_lineage lineage; /* points into the above */
        json_t *labels, *metrics;
};

static void origin_done(struct origin_in *o)
{
        json_decref(o->labels);
        json_decref(o->metrics);
}

static const char *from_env(void *userdata, const char *name)
{
        (void)userdata;
        return getenv(name);
}

static int read_labels(struct cli *cli, json_t *labels)
{
        const char *text, *eq;

        for (int i = 0; (text = cli_opt_at(cli, "label", i)) != NULL; i++) {
                eq = strchr(text, '=');
                if (eq == NULL || eq == text)
                        return mlc_fail(&cli->err, MLC_E_USAGE, "--label takes KEY=VALUE, not '%s'",
                                        text);
                if (json_object_setn_new(labels, text, (size_t)(eq - text), json_string(eq + 1)) <
                    0)
                        return mlc_fail(&cli->err, MLC_E_USAGE, "label '%s' is not valid UTF-8",
                                        text);
        }
        return 0;
}

static int read_metrics(struct cli *cli, json_t *metrics)
{
        const char *text, *eq;
        char *end;
        double v;

        for (int i = 0; (text = cli_opt_at(cli, "metric", i)) != NULL; i++) {
                eq = strchr(text, '=');
                v = eq != NULL ? strtod(eq + 1, &end) : 0;
                if (eq == NULL || eq == text || end == eq + 1 || *end != '\0' || !isfinite(v))
                        return mlc_fail(&cli->err, MLC_E_USAGE,
                                        "--metric takes NAME=NUMBER, not '%s'", text);
                if (json_object_setn_new(metrics, text, (size_t)(eq - text), json_real(v)) < 0)
                        return mlc_fail(&cli->err, MLC_E_USAGE, "metric '%s' is not valid UTF-8",
                                        text);
        }
        return 0;
}

static int read_datasets(struct cli *cli, struct origin_in *o)
{
        struct mlc_dataset parsed;
        const char *text;

        for (int i = 0; (text = cli_opt_at(cli, "dataset", i)) != NULL; i++) {
                int r = mlc_dataset_parse(text, &parsed, &cli->err);

                if (r < 0)
                        return mlc_wrap(&cli->err, "--dataset '%s'", text);
                if (i == MLC_LINEAGE_DATASETS_MAX)
                        return mlc_fail(&cli->err, MLC_E_USAGE, "more than %d datasets",
                                        MLC_LINEAGE_DATASETS_MAX);
                o->datasets[i] = text;
                o->lineage.n_datasets = (size_t)i + 1;
        }
        o->lineage.datasets = o->datasets;
        return 0;
}

/* The base by its digest, whatever name it was given by. */
static int resolve_base(struct cli *cli, struct origin_in *o)
{
        const char *text = cli_opt(cli, "base"), *digest;
        _cleanup_(json_decref_p) json_t *version = NULL;
        struct mlc_ref ref;
        int r;

        if (text == NULL)
                return 0;
        r = mlc_ref_parse(text, &ref, &cli->err);
        if (r < 0)
                return mlc_wrap(&cli->err, "--base '%s'", text);
        r = cli_version_get(cli, &ref, &version);
        if (r < 0)
                return mlc_wrap(&cli->err, "--base '%s'", text);
        r = mlc_json_get_str(version, "", "digest", &digest, &cli->err);
        if (r < 0)
                return r;
        (void)snprintf(o->base, sizeof(o->base), "%s/%s@%s", ref.ns, ref.model, digest);
        o->lineage.base = o->base;
        return 0;
}

static int check_code(struct cli *cli, const char *code)
{
        const char *at = strrchr(code, '@');
        size_t n = at != NULL ? strlen(at + 1) : 0;

        if ((n == 40 || n == 64) && strspn(at + 1, "0123456789abcdef") == n && at != code)
                return 0;
        return mlc_fail(
                &cli->err, MLC_E_USAGE,
                "--code takes URL@COMMIT with the whole commit id (40 hex digits), not '%s'", code);
}

/* Fills what was not given from CI or the checkout, and says so. */
static int fill_origin(struct cli *cli, struct origin_in *o)
{
        const char *code = cli_opt(cli, "code"), *run = cli_opt(cli, "run");
        int r = code != NULL ? check_code(cli, code) : 0;

        if (r < 0)
                return r;
        mlc_origin_detect(from_env, NULL, code == NULL, &o->found);
        if (code == NULL && o->found.code[0] != '\0') {
                code = o->found.code;
                out_note(cli, "code: %s (from %s; --code says otherwise)", code,
                         o->found.code_from);
                if (o->found.dirty) {
                        out_note(cli, "warning: the checkout has changes that this commit does not "
                                      "hold; the version is labelled git.dirty=true");
                        (void)json_object_set_new(o->labels, "git.dirty", json_string("true"));
                }
        }
        if (run == NULL && o->found.run[0] != '\0') {
                run = o->found.run;
                out_note(cli, "run: %s (from %s)", run, o->found.run_from);
        }
        if (o->found.actor[0] != '\0' && json_object_get(o->labels, "ci.actor") == NULL) {
                out_note(cli, "actor: %s (from CI)", o->found.actor);
                (void)json_object_set_new(o->labels, "ci.actor", json_string(o->found.actor));
        }
        o->lineage.code = code;
        o->lineage.run = run;
        return 0;
}

static int read_origin(struct cli *cli, struct origin_in *o)
{
        int r;

        o->labels = json_object();
        o->metrics = json_object();
        r = read_labels(cli, o->labels);
        if (r < 0)
                return r;
        r = read_metrics(cli, o->metrics);
        if (r < 0)
                return r;
        r = read_datasets(cli, o);
        if (r < 0)
                return r;
        r = fill_origin(cli, o);
        if (r < 0)
                return r;
        return resolve_base(cli, o);
}

static json_t *plan_json(const struct mlc_ref *ref, const struct mlc_files *files,
                         const struct mlc_push_result *result)
{
        json_t *list = json_array();
        char name[MLC_REF_STR];

        mlc_ref_format(ref, name);
        for (size_t i = 0; i < files->n; i++)
                (void)json_array_append_new(list,
                                            json_pack("{s:s, s:I}", "path", files->list[i].path,
                                                      "size", (json_int_t)files->list[i].size));
        return json_pack("{s:s, s:s, s:b, s:I, s:I, s:I, s:o}", "ref", name, "digest",
                         result->digest, "dry_run", 1, "bytes", (json_int_t)result->bytes,
                         "bytes_to_send", (json_int_t)result->bytes_sent, "layers",
                         (json_int_t)result->n_layers, "files", list);
}

static void print_plan(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"FILE", "path", OUT_TEXT}, {"SIZE", "size", OUT_SIZE}, {0}};
        static const struct out_column fields[] = {
                {"digest", "digest", OUT_TEXT},
                {"size", "bytes", OUT_SIZE},
                {"would send", "bytes_to_send", OUT_SIZE},
                {0},
        };

        out_table(cli, json_object_get(j, "files"), columns);
        (void)printf("\n");
        out_fields(cli, j, fields);
}

static void print_pushed(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"digest", "digest", OUT_TEXT},  {"commit", "commit", OUT_TEXT},
                {"size", "bytes", OUT_SIZE},     {"sent", "bytes_sent", OUT_SIZE},
                {"leaf", "leaf_hash", OUT_TEXT}, {0},
        };

        (void)printf("%s", out_bold(cli));
        out_text(json_string_value(json_object_get(j, "ref")));
        (void)printf("%s%s\n", out_reset(cli),
                     json_is_true(json_object_get(j, "created"))
                             ? ""
                             : "  (that version exists already)");
        out_fields(cli, j, fields);
}

static int read_target(struct cli *cli, struct mlc_ref *ret)
{
        struct mlc_err why = {0};

        if (mlc_ref_parse_model(cli->args[0], ret, &why) == 0)
                return 0;
        if (mlc_ref_parse(cli->args[0], ret, &cli->err) < 0)
                return cli->err.code;
        return mlc_fail(&cli->err, MLC_E_USAGE,
                        "push takes NAMESPACE/MODEL, not '%s': the server gives the number, and "
                        "--alias sets an alias",
                        cli->args[0]);
}

static int push(struct cli *cli, struct mlc_push *in, struct mlc_push_result *ret)
{
        _cleanup_(progress_done) struct progress progress;
        _cleanup_(free_p) char *state_dir = NULL;
        int r = config_state_dir(&state_dir, &cli->err);

        progress_init(&progress, cli);
        if (r < 0)
                return r;
        in->state_dir = state_dir;
        in->meter = progress_meter(&progress);
        return mlc_push_run(cli->client, in, ret, &cli->err);
}

static int run_push(struct cli *cli)
{
        _cleanup_(mlc_files_done) struct mlc_files files = {0};
        _cleanup_(origin_done) struct origin_in origin = {0};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        struct mlc_push_result result = {0};
        struct mlc_push in = {.files = &files, .dry_run = cli_opt(cli, "dry-run") != NULL};
        struct mlc_ref ref;
        int r = read_target(cli, &ref);

        if (r < 0)
                return r;
        r = progress_jobs(cli, &in.jobs);
        if (r < 0)
                return r;
        r = mlc_files_collect((const char *const *)(const void *)(cli->args + 1),
                              (size_t)cli->n_args - 1, cli_opt(cli, "follow-symlinks") != NULL,
                              &files, &cli->err);
        if (r < 0)
                return r;
        r = cli_connect(cli);
        if (r < 0)
                return r;
        r = read_origin(cli, &origin);
        if (r < 0)
                return r;
        in.ns = ref.ns;
        in.model = ref.model;
        in.lineage = origin.lineage;
        in.labels = origin.labels;
        in.metrics = origin.metrics;
        in.alias = cli_opt(cli, "alias");
        r = push(cli, &in, &result);
        if (r < 0)
                return r;
        if (in.dry_run) {
                shown = plan_json(&ref, &files, &result);
                out_result(cli, shown, print_plan);
                return 0;
        }
        shown = result.version;
        (void)json_object_set_new(shown, "bytes", json_integer((json_int_t)result.bytes));
        (void)json_object_set_new(shown, "bytes_sent", json_integer((json_int_t)result.bytes_sent));
        out_result(cli, shown, print_pushed);
        return 0;
}

static const struct cli_option OPTIONS[] = {
        {"dataset", "NAME@SCHEME:VALUE", "data that it was trained on", true},
        {"code", "URL@COMMIT", "the code that made it", false},
        {"run", "ID", "the run that made it: a UUID or an address", false},
        {"base", "REF", "the version that it was made from", false},
        {"label", "KEY=VALUE", "a label of the version", true},
        {"metric", "NAME=NUMBER", "a metric of the training; shown, never judged", true},
        {"alias", "NAME", "set this alias to the version", false},
        {"follow-symlinks", NULL, "push what links name, also out of the tree", false},
        {"jobs", "N", "files at a time, 1 to 16 (4)", false},
        {"dry-run", NULL, "say what would be pushed, and send nothing", false},
        {0},
};

const struct cli_command CMD_PUSH[] = {
        {"push", "NAMESPACE/MODEL FILE|DIR...", 2, -1, "make files a version of a model",
         "Paths in the artifact are relative to the directory given; a file given by its absolute\n"
         "path is stored under its name. Code and run are taken from GitHub's or GitLab's CI, or\n"
         "the code from the git checkout, when they are not given. What the server has already is\n"
         "not sent again, and a push that broke off goes on where it stopped.",
         OPTIONS, run_push},
        {0},
};
