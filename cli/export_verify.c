/* SPDX-License-Identifier: Apache-2.0 */
/* audit verify EXPORT-DIR */
#include "export_verify.h"

#include <dirent.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "export.h"
#include "tlog/proof.h"

#define ARENA_MAX ((size_t)64 << 20)

static void verifying_done(struct verifying *v)
{
        for (size_t i = 0; i < v->n_proven; i++)
                mlc_leaf_done(&v->proven[i].leaf);
        free(v->proven);
        json_decref(v->bundle);
        json_decref(v->verdict);
        json_decref(v->people);
        json_decref(v->not_recomputed);
        json_decref(v->not_proven);
        mlc_arena_done(&v->arena);
}

int export_wrong(struct verifying *v, const char *name, const char *what)
{
        mlc_err_clear(&v->cli->err);
        return mlc_fail(&v->cli->err, MLC_E_VERIFY, "'%.200s': %s", name, what);
}

const char *export_text(const json_t *j, const char *key)
{
        const char *s = json_string_value(json_object_get(j, key));

        return s != NULL ? s : "";
}

/* Each sentence once. */
void export_unproven(struct verifying *v, const char *fmt, ...)
{
        char text[400];
        const json_t *one;
        va_list ap;
        size_t i;

        va_start(ap, fmt);
        /* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is above */
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        json_array_foreach (v->not_proven, i, one)
                if (mlc_streq(json_string_value(one), text))
                        return;
        (void)json_array_append_new(v->not_proven, json_string(text));
}

int export_slurp(struct verifying *v, const char *name, char **ret, size_t *ret_len)
{
        char path[PATH_MAX];
        int r;

        if (snprintf(path, sizeof(path), "%s/%s", v->dir, name) >= (int)sizeof(path))
                return mlc_fail(&v->cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", v->dir);
        r = mlc_read_file(path, EXPORT_FILE_MAX, ret, ret_len, &v->cli->err);
        return r == MLC_E_NOT_FOUND ? export_wrong(v, name, "it is not there") : r;
}

int export_each(struct verifying *v, const char *folder, const char *suffix,
                int (*check)(struct verifying *v, const char *name))
{
        char path[PATH_MAX];
        struct dirent **list = NULL;
        int n, r = 0;

        if (snprintf(path, sizeof(path), "%s/%s", v->dir, folder) >= (int)sizeof(path))
                return mlc_fail(&v->cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", v->dir);
        n = scandir(path, &list, NULL, alphasort);
        for (int i = 0; i < n; i++) {
                char name[128];

                if (snprintf(name, sizeof(name), "%s/%s", folder, list[i]->d_name) >=
                    (int)sizeof(name))
                        r = r < 0 ? r : export_wrong(v, folder, "a name in it is too long");
                else if (r == 0 && mlc_ends_with(name, suffix)) {
                        name[strlen(name) - strlen(suffix)] = '\0';
                        r = check(v, name);
                }
                free(list[i]);
        }
        free(list);
        return r;
}

/* The log's name as the proof of the version has it: the first line of a checkpoint. */
static int find_key(struct verifying *v, struct trust *trust)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_tlog_proof proof;
        char origin[MLC_KEY_NAME_MAX + 1];
        size_t len, n;
        int r = export_slurp(v, "proofs/version.tlog-proof", &text, &len);

        if (r == 0) {
                r = mlc_tlog_proof_parse(text, len, &proof, &v->cli->err);
                if (r < 0)
                        return mlc_wrap(&v->cli->err, "'proofs/version.tlog-proof'");
        }
        if (r < 0)
                return r;
        n = strcspn(proof.checkpoint, "\n");
        (void)snprintf(origin, sizeof(origin), "%.*s", (int)(n < 512 ? n : 512), proof.checkpoint);
        return trust_by_name(v->cli, origin, trust);
}

/* Who owns an environment is in the whole log; an export has one promotion of it. */
static void note_owners(struct verifying *v, const struct trust *trust)
{
        const char *name = export_text(v->promotion->state, "environment");

        for (size_t i = 0; i < trust->n_environments; i++)
                if (mlc_streq(trust->environments[i].name, name)) {
                        export_unproven(v,
                                        "that the owners of '%s' signed its rules: that takes the "
                                        "whole log, 'mlctl audit verify --trust'",
                                        name);
                        return;
                }
        export_unproven(v, "unprotected: %s no owners of '%s'",
                        trust->file ? "the trust file has" : "without a trust file there are",
                        name);
}

static int check_all(struct verifying *v, struct trust *trust, bool fetch)
{
        int r = export_check_sums(v);

        if (r == 0 && trust->n_keys == 0)
                r = find_key(v, trust);
        if (r < 0)
                return r;
        v->key = trust->key;
        r = export_load_proofs(v);
        if (r == 0)
                r = export_check_verdict(v, fetch);
        if (r == 0)
                r = export_check_approvals(v);
        if (r == 0)
                r = export_check_signers(v);
        if (r == 0)
                r = export_count_approvals(v);
        if (r == 0)
                r = export_check_commit(v);
        if (r == 0)
                note_owners(v, trust);
        /* nothing signs what is only for people to read */
        export_unproven(v, "README.md, verify.sh and names.json, which are for people to read");
        return r;
}

static void print_result(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"promotion", "promotion", OUT_TEXT},
                {"state", "state", OUT_TEXT},
                {"version", "artifact", OUT_TEXT},
                {"verdict", "verdict", OUT_TEXT},
                {"evaluations", "evaluations", OUT_TEXT},
                {"signatures", "approvals", OUT_TEXT},
                {"log", "log", OUT_TEXT},
                {"wrong", "what", OUT_TEXT},
                {0},
        };
        static const struct {
                const char *key, *title;
        } lists[] = {{"not_recomputed", "not computed again"}, {"not_proven", "not proven"}};
        bool ok = json_is_true(json_object_get(j, "ok"));
        const json_t *one;
        size_t i;

        (void)printf("%s%s%s\n", ok ? out_green(cli) : out_red(cli),
                     ok ? "the export holds" : "verification failed", out_reset(cli));
        out_fields(cli, j, fields);
        for (size_t k = 0; k < ARRAY_LEN(lists); k++)
                json_array_foreach (json_object_get(j, lists[k].key), i, one) {
                        (void)printf("%s: ", lists[k].title);
                        out_text(json_string_value(one));
                        (void)printf("\n");
                }
}

static json_t *result(const struct verifying *v)
{
        return json_pack("{s:b, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:O, s:O}", "ok", 1,
                         "promotion", v->promotion->id, "state",
                         export_text(v->promotion->state, "state"), "artifact", v->artifact,
                         "verdict", v->verdict_digest, "approvals", (json_int_t)v->approvals,
                         "evaluations", (json_int_t)v->evaluations, "recomputed",
                         (json_int_t)v->recomputed, "log", v->key.name, "not_recomputed",
                         v->not_recomputed, "not_proven", v->not_proven);
}

int export_verify(struct cli *cli, const char *dir, struct trust *trust)
{
        _cleanup_(verifying_done) struct verifying v = {.cli = cli, .dir = dir};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        bool fetch = cli_opt(cli, "fetch") != NULL;
        int r = 0;

        mlc_arena_init(&v.arena, ARENA_MAX);
        v.people = json_object();
        v.not_recomputed = json_array();
        v.not_proven = json_array();
        if (fetch)
                r = cli_connect(cli);
        if (r < 0)
                return r;
        r = check_all(&v, trust, fetch);
        if (r < 0 && r != MLC_E_VERIFY && r != MLC_E_INVALID && r != MLC_E_NOT_FOUND &&
            r != MLC_E_LIMIT && r != MLC_E_CONFLICT && r != MLC_E_NOT_SUPPORTED)
                return r;
        shown = r < 0 ? json_pack("{s:b, s:s}", "ok", 0, "what", cli->err.msg) : result(&v);
        mlc_err_clear(&cli->err);
        out_result(cli, shown, print_result);
        cli->exit = r < 0 ? 1 : 0;
        return 0;
}
