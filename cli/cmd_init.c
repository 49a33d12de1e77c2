/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "cli.h"
#include "codec/ref.h"
#include "policy/document.h"
#include "templates.h"

#define FILE_MAX ((size_t)64 << 10)

struct project {
        struct mlc_ref ref;
        char model[MLC_REF_STR];
        const char *environment;
};

static const struct {
        const char *path, *text, *what;
} FILES[] = {
        {"mlctl/environment.yaml", TEMPLATE_ENVIRONMENT, "where versions are promoted to"},
        {"mlctl/policy.yaml", TEMPLATE_POLICY, "what they must meet, and who approves"},
        {"mlctl/model.yaml", TEMPLATE_MODEL, "the model"},
        {".github/workflows/mlctl.yml", TEMPLATE_GITHUB, "CI job for GitHub"},
        {".gitlab-ci.yml", TEMPLATE_GITLAB, "CI job for GitLab"},
};

static void fill(const struct project *p, const char *text, struct mlc_str *ret)
{
        const struct {
                const char *mark, *value;
        } marks[] = {
                {"@MODEL@", p->model},
                {"@NAMESPACE@", p->ref.ns},
                {"@SLUG@", p->ref.model},
                {"@ENVIRONMENT@", p->environment},
        };

        while (*text != '\0') {
                bool found = false;

                for (size_t i = 0; i < ARRAY_LEN(marks) && !found; i++)
                        if (mlc_starts_with(text, marks[i].mark)) {
                                mlc_str_add(ret, marks[i].value);
                                text += strlen(marks[i].mark);
                                found = true;
                        }
                if (!found)
                        mlc_str_addc(ret, *text++);
        }
}

static int path_of(struct cli *cli, const char *dir, size_t i, char ret[PATH_MAX])
{
        if (snprintf(ret, PATH_MAX, "%s/%s", dir, FILES[i].path) >= PATH_MAX)
                return mlc_fail(&cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", dir);
        return 0;
}

/* Nothing is written when anything is there already. */
static int refuse_existing(struct cli *cli, const char *dir)
{
        for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
                char path[PATH_MAX];
                int r = path_of(cli, dir, i, path);

                if (r < 0)
                        return r;
                if (access(path, F_OK) == 0 || errno != ENOENT)
                        return mlc_fail(&cli->err, MLC_E_USAGE,
                                        "'%s' is there already; init overwrites nothing", path);
        }
        return 0;
}

static int write_file(struct cli *cli, const struct project *p, const char *dir, size_t i)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        char path[PATH_MAX], parent[PATH_MAX];
        int r = path_of(cli, dir, i, path);

        mlc_str_init(&text, FILE_MAX);
        if (r < 0)
                return r;
        memcpy(parent, path, sizeof(parent));
        *strrchr(parent, '/') = '\0';
        fill(p, FILES[i].text, &text);
        r = mlc_str_check(&text, &cli->err);
        if (r == 0)
                r = mlc_mkdirs(parent, 0755, &cli->err);
        return r < 0 ? r : mlc_write_file_atomic(path, text.data, text.len, 0644, &cli->err);
}

static void print_files(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"WROTE", "path", OUT_TEXT}, {"WHAT", "what", OUT_TEXT}, {0}};

        out_table(cli, json_object_get(j, "files"), columns);
}

static int read_project(struct cli *cli, struct project *ret)
{
        const char *model = cli_opt(cli, "model"), *environment = cli_opt(cli, "environment");
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789-";
        int r = mlc_ref_parse_model(model != NULL ? model : "demo/scorer", &ret->ref, &cli->err);

        if (r < 0)
                return mlc_wrap(&cli->err, "--model");
        (void)snprintf(ret->model, sizeof(ret->model), "%s/%s", ret->ref.ns, ret->ref.model);
        ret->environment = environment != NULL ? environment : "production";
        if (ret->environment[0] == '\0' || ret->environment[0] == '-' ||
            strlen(ret->environment) > MLC_NAME_MAX ||
            ret->environment[strspn(ret->environment, allowed)] != '\0')
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "--environment takes lower-case letters, digits and dashes, not "
                                "'%s'",
                                ret->environment);
        return 0;
}

static int run_init(struct cli *cli)
{
        const char *dir = cli->n_args > 0 ? cli->args[0] : ".";
        _cleanup_(json_decref_p) json_t *shown = NULL;
        struct project p;
        int r = read_project(cli, &p);

        if (r == 0)
                r = refuse_existing(cli, dir);
        if (r < 0)
                return r;
        shown = json_pack("{s:s, s:s, s:[]}", "model", p.model, "environment", p.environment,
                          "files");
        for (size_t i = 0; i < ARRAY_LEN(FILES); i++) {
                r = write_file(cli, &p, dir, i);
                if (r < 0)
                        return r;
                (void)json_array_append_new(json_object_get(shown, "files"),
                                            json_pack("{s:o, s:s}", "path",
                                                      json_sprintf("%s/%s", dir, FILES[i].path),
                                                      "what", FILES[i].what));
        }
        out_result(cli, shown, print_files);
        out_note(cli, "read them, then: mlctl apply -f %s/mlctl --dry-run", dir);
        return 0;
}

static const struct cli_option INIT_OPTIONS[] = {
        {"model", "NS/MODEL", "the model (demo/scorer)", false},
        {"environment", "NAME", "the environment (production)", false},
        {0},
};

const struct cli_command CMD_INIT[] = {
        {"init", "[DIR]", 0, 1, "write a first environment, policy and model, and CI jobs",
         "Files with comments to read and change: mlctl/environment.yaml, policy.yaml and "
         "model.yaml\n"
         "for 'mlctl apply -f mlctl', .github/workflows/mlctl.yml and .gitlab-ci.yml. Talks to no\n"
         "server, and overwrites nothing.",
         INIT_OPTIONS, run_init},
        {0},
};
