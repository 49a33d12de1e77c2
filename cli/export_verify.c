/* SPDX-License-Identifier: Apache-2.0 */
/* audit verify EXPORT-DIR */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "crypto/hash.h"
#include "crypto/merkle.h"
#include "crypto/sshsig.h"
#include "export.h"
#include "policy/policy.h"
#include "policy/statement.h"
#include "tlog/leaf.h"
#include "tlog/proof.h"

#define FILE_MAX ((size_t)64 << 20)
#define NAMES_MAX 4096
#define ARENA_MAX ((size_t)16 << 20)

struct verifying {
        struct cli *cli;
        const char *dir;
        struct mlc_vkey key;
        char *signers;
        char verdict[MLC_DIGEST_STR]; /* of statement.json; "" without one */
        char artifact[MLC_DIGEST_STR]; /* of the version, by its entry in the log */
        char subject[32]; /* the promotion, as approvals name it */
        size_t approvals, entries;
        struct mlc_arena arena;
};

static void verifying_done(struct verifying *v)
{
        free(v->signers);
        mlc_arena_done(&v->arena);
}

static int wrong(struct verifying *v, const char *name, const char *what)
{
        return mlc_fail(&v->cli->err, MLC_E_VERIFY, "'%s': %s", name, what);
}

static int slurp(struct verifying *v, const char *name, char **ret, size_t *ret_len)
{
        char path[PATH_MAX];

        if (snprintf(path, sizeof(path), "%s/%s", v->dir, name) >= (int)sizeof(path))
                return mlc_fail(&v->cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", v->dir);
        return mlc_read_file(path, FILE_MAX, ret, ret_len, &v->cli->err);
}

/* Files of a folder of the export that end so, one after the other by name. */
static int each(struct verifying *v, const char *folder, const char *suffix,
                int (*check)(struct verifying *v, const char *name))
{
        char path[PATH_MAX];
        struct dirent **list = NULL;
        int n, r = 0;

        if (snprintf(path, sizeof(path), "%s/%s", v->dir, folder) >= (int)sizeof(path))
                return mlc_fail(&v->cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", v->dir);
        n = scandir(path, &list, NULL, alphasort);
        for (int i = 0; i < n; i++) {
                char name[PATH_MAX];

                (void)snprintf(name, sizeof(name), "%s/%s", folder, list[i]->d_name);
                if (r == 0 && mlc_ends_with(name, suffix)) {
                        name[strlen(name) - strlen(suffix)] = '\0';
                        r = check(v, name);
                }
                free(list[i]);
        }
        free(list);
        return r;
}

/* Entries of the log */

static const char *state_text(const struct mlc_leaf *leaf, const char *key)
{
        const char *text = json_string_value(json_object_get(leaf->state, key));

        return text != NULL ? text : "";
}

/* An approval's entry is that of a file here, byte for byte. */
static int match_approval(struct verifying *v, const char *name, const struct mlc_leaf *leaf)
{
        const char *who = state_text(leaf, "signer");
        _cleanup_(free_p) char *text = NULL;
        char file[PATH_MAX], digest[MLC_DIGEST_STR];
        struct mlc_digest d;
        size_t len;
        int r;

        if (strchr(who, '/') != NULL || who[0] == '\0')
                return wrong(v, name, "the entry names no signer");
        (void)snprintf(file, sizeof(file), "approvals/%s.json", who);
        r = slurp(v, file, &text, &len);
        if (r < 0)
                return r;
        mlc_sha256(text, len, &d);
        mlc_digest_format(&d, digest);
        if (strcmp(digest, state_text(leaf, "statement")) != 0)
                return wrong(v, name, "the log has another statement of this person");
        v->entries++;
        return 0;
}

static int match(struct verifying *v, const char *name, const struct mlc_leaf *leaf)
{
        if (strcmp(leaf->kind, "version") == 0)
                (void)snprintf(v->artifact, sizeof(v->artifact), "%s", state_text(leaf, "digest"));
        else if (strcmp(leaf->kind, "promotion") == 0)
                (void)snprintf(v->subject, sizeof(v->subject), "%s", leaf->id);
        else if (strcmp(leaf->kind, "approval") == 0)
                return match_approval(v, name, leaf);
        return 0;
}

static int check_proof(struct verifying *v, const char *name)
{
        const struct mlc_vkeys keys = {&v->key, 1};
        _cleanup_(free_p) char *text = NULL, *bytes = NULL;
        _cleanup_(mlc_leaf_done) struct mlc_leaf leaf = {0};
        struct mlc_tlog_proof proof;
        struct mlc_digest hash;
        char file[PATH_MAX];
        size_t text_len, len;
        int r;

        (void)snprintf(file, sizeof(file), "%s.tlog-proof", name);
        r = slurp(v, file, &text, &text_len);
        (void)snprintf(file, sizeof(file), "%s.leaf", name);
        if (r == 0)
                r = slurp(v, file, &bytes, &len);
        if (r == 0)
                r = mlc_tlog_proof_parse(text, text_len, &proof, &v->cli->err);
        if (r == 0) {
                mlc_merkle_leaf(bytes, len, &hash);
                r = mlc_tlog_proof_verify(&proof, &hash, &keys, NULL, &v->cli->err);
        }
        if (r == 0)
                r = mlc_leaf_parse(bytes, len, &leaf, &v->cli->err);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'%s'", name);
        return match(v, name, &leaf);
}

/* Approvals */

static bool key_listed(const struct verifying *v, const char *who, const struct mlc_sshkey *key)
{
        size_t n = strlen(who);

        for (const char *line = v->signers; line != NULL && *line != '\0';) {
                const char *end = strchr(line, '\n');
                size_t len = end != NULL ? (size_t)(end - line) : strlen(line);
                char copy[MLC_SSHKEY_LINE_MAX];
                struct mlc_sshkey listed;
                struct mlc_err none = {0};
                const char *type;

                if (len < sizeof(copy) && len > n && strncmp(line, who, n) == 0 && line[n] == ' ') {
                        memcpy(copy, line, len);
                        copy[len] = '\0';
                        type = strstr(copy, " ssh-");
                        type = type != NULL ? type : strstr(copy, " ecdsa-");
                        type = type != NULL ? type : strstr(copy, " sk-");
                        if (type != NULL && strstr(copy, "approval@mlctl") != NULL &&
                            mlc_sshkey_parse(type + 1, &listed, &none) == 0 &&
                            mlc_sshkey_equal(&listed, key))
                                return true;
                }
                line = end != NULL ? end + 1 : NULL;
        }
        return false;
}

static int check_binding(struct verifying *v, const char *name, const struct mlc_statement *s)
{
        const char *who = strrchr(name, '/') + 1;

        if (strcmp(s->signer, who) != 0)
                return wrong(v, name, "the statement is of somebody else");
        if (strcmp(s->log, v->key.name) != 0)
                return wrong(v, name, "the statement is for another log");
        if (strcmp(s->subject_kind, "promotion") != 0)
                return wrong(v, name, "the statement is not about a promotion");
        if (!mlc_streq(s->artifact, v->artifact))
                return wrong(v, name, "the statement is about another version");
        if (strcmp(s->decision, "rollback") != 0 && strcmp(s->subject_id, v->subject) != 0)
                return wrong(v, name, "the statement is about another promotion");
        if (s->verdict_digest != NULL && strcmp(s->verdict_digest, v->verdict) != 0)
                return wrong(v, name, "the statement was signed for another verdict");
        return 0;
}

static int check_approval(struct verifying *v, const char *name)
{
        _cleanup_(free_p) char *text = NULL, *armour = NULL;
        _cleanup_(free_p) struct mlc_sshsig_result *sig = calloc(1, sizeof(*sig));
        struct mlc_sshsig_message message = {.ns = MLC_STATEMENT_NAMESPACE};
        struct mlc_statement s;
        char file[PATH_MAX];
        size_t len, armour_len;
        int r;

        if (sig == NULL)
                abort();
        (void)snprintf(file, sizeof(file), "%s.json", name);
        r = slurp(v, file, &text, &len);
        (void)snprintf(file, sizeof(file), "%s.sig", name);
        if (r == 0)
                r = slurp(v, file, &armour, &armour_len);
        if (r < 0)
                return r;
        message.data = text;
        message.len = len;
        r = mlc_sshsig_verify(armour, armour_len, &message, sig, &v->cli->err);
        if (r == 0)
                r = mlc_statement_parse(text, len, &v->arena, &s, &v->cli->err);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'%s'", name);
        if (!key_listed(v, strrchr(name, '/') + 1, &sig->key))
                return wrong(v, name, "signed with a key that allowed_signers does not have");
        r = check_binding(v, name, &s);
        v->approvals += r == 0;
        return r;
}

/* The verdict, computed again where no examples are needed. */
static int check_verdict(struct verifying *v)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_digest d;
        size_t len;
        int r = slurp(v, "statement.json", &text, &len);

        if (r == MLC_E_NOT_FOUND) { /* a rollback */
                mlc_err_clear(&v->cli->err);
                return 0;
        }
        if (r < 0)
                return r;
        mlc_sha256(text, len, &d);
        mlc_digest_format(&d, v->verdict);
        return 0;
}

static int check_all(struct verifying *v)
{
        size_t len;
        int r = slurp(v, "allowed_signers", &v->signers, &len);

        if (r == 0)
                r = check_verdict(v);
        if (r == 0)
                r = each(v, "proofs", ".tlog-proof", check_proof);
        if (r < 0)
                return r;
        if (v->artifact[0] == '\0' || v->subject[0] == '\0')
                return wrong(v, "proofs", "version or promotion has no proof");
        r = each(v, "approvals", ".json", check_approval);
        if (r < 0)
                return r;
        if (v->approvals != v->entries)
                return wrong(v, "approvals", "not every one has its entry of the log");
        return 0;
}

/* The log's name as a statement's proof has it: the first line of a checkpoint. */
static int find_key(struct verifying *v, struct trust *trust)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_tlog_proof proof;
        char origin[MLC_KEY_NAME_MAX + 1];
        size_t len, n;
        int r = slurp(v, "proofs/version.tlog-proof", &text, &len);

        if (r == 0)
                r = mlc_tlog_proof_parse(text, len, &proof, &v->cli->err);
        if (r < 0)
                return r;
        n = strcspn(proof.checkpoint, "\n");
        (void)snprintf(origin, sizeof(origin), "%.*s", (int)(n < 512 ? n : 512), proof.checkpoint);
        return trust_by_name(v->cli, origin, trust);
}

static void print_result(struct cli *cli, const json_t *j)
{
        static const struct out_column fields[] = {
                {"promotion", "promotion", OUT_TEXT},
                {"version", "artifact", OUT_TEXT},
                {"verdict", "verdict", OUT_TEXT},
                {"signatures", "approvals", OUT_TEXT},
                {"log", "log", OUT_TEXT},
                {"wrong", "what", OUT_TEXT},
                {0},
        };
        bool ok = json_is_true(json_object_get(j, "ok"));

        (void)printf("%s%s%s\n", ok ? out_green(cli) : out_red(cli),
                     ok ? "the export holds" : "verification failed", out_reset(cli));
        out_fields(cli, j, fields);
}

int export_verify(struct cli *cli, const char *dir, struct trust *trust)
{
        _cleanup_(verifying_done) struct verifying v = {.cli = cli, .dir = dir};
        _cleanup_(json_decref_p) json_t *shown = NULL;
        int r = 0;

        mlc_arena_init(&v.arena, ARENA_MAX);
        if (trust->n_keys == 0)
                r = find_key(&v, trust);
        if (r < 0)
                return r;
        v.key = trust->key;
        r = check_all(&v);
        if (r < 0 && r != MLC_E_VERIFY && r != MLC_E_INVALID && r != MLC_E_NOT_FOUND)
                return r;
        if (r < 0)
                shown = json_pack("{s:b, s:s}", "ok", 0, "what", cli->err.msg);
        else
                shown = json_pack("{s:b, s:s, s:s, s:s, s:I, s:s}", "ok", 1, "promotion", v.subject,
                                  "artifact", v.artifact, "verdict", v.verdict, "approvals",
                                  (json_int_t)v.approvals, "log", v.key.name);
        mlc_err_clear(&cli->err);
        out_result(cli, shown, print_result);
        cli->exit = r < 0 ? 1 : 0;
        return 0;
}
