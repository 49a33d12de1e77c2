/* SPDX-License-Identifier: Apache-2.0 */
/* proofs/ and allowed_signers of an export. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "export.h"
#include "resource.h"
#include "tlog/proof.h"

#define ENTRIES_MAX 1000

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

/* Proofs */

static int put_proof(struct export *e, const char *name, const char *leaf_hash)
{
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        _cleanup_(mlc_str_done) struct mlc_str text;
        _cleanup_(mlc_str_done) struct mlc_str leaf;
        struct mlc_tlog_proof proof = {0};
        char file[128];
        int r;

        mlc_str_init(&text, MLC_TLOG_PROOF_MAX);
        mlc_str_init(&leaf, (size_t)1 << 17);
        r = mlc_log_prove(&e->log, leaf_hash, &p, &e->cli->err);
        if (r == 0)
                r = mlc_jcs(p.leaf.doc, &leaf, &e->cli->err);
        if (r < 0)
                return r;
        if (strcmp(p.leaf.kind, "key") == 0 && p.leaf.state != NULL)
                (void)json_array_append(e->keys, json_object_get(p.leaf.state, "public"));
        proof.index = p.index;
        proof.path = p.path;
        proof.checkpoint = e->log.pin.note;
        proof.checkpoint_len = strlen(e->log.pin.note);
        mlc_tlog_proof_format(&proof, &text);
        r = mlc_str_check(&text, &e->cli->err);
        (void)snprintf(file, sizeof(file), "proofs/%s.leaf", name);
        if (r == 0)
                r = export_put(e, file, leaf.data, leaf.len);
        (void)snprintf(file, sizeof(file), "proofs/%s.tlog-proof", name);
        return r < 0 ? r : export_put(e, file, text.data, text.len);
}

/* All entries of the log about one object: "promotion-1", "promotion-2", … by number. */
static int put_history(struct export *e, const char *kind, const char *id)
{
        _cleanup_(json_decref_p) json_t *list = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        const json_t *entry;
        size_t i;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_addf(&path, "/api/v1/audit/entries?kind=%s&id=", kind);
        mlc_url_encode(&path, id);
        r = mlc_client_list(e->cli->client, mlc_str_cstr(&path), ENTRIES_MAX, &list, &e->cli->err);
        if (r < 0)
                return r;
        json_array_foreach (list, i, entry) {
                const char *hash = text_of(entry, "leaf_hash");
                char name[64];

                if (hash == NULL)
                        continue;
                (void)snprintf(name, sizeof(name), "%s-%zu", kind, ++e->entries);
                r = put_proof(e, name, hash);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The key that signed, with its end if it has come to one; its public half is kept for the list. */
static int put_key(struct export *e, const char *key)
{
        size_t before = json_array_size(e->keys);
        int r = export_check_id(e, key);

        if (r == 0)
                r = put_history(e, "key", key);
        if (r == 0 && json_array_size(e->keys) == before)
                return mlc_fail(&e->cli->err, MLC_E_VERIFY, "the log has no entry of key '%s'",
                                key);
        return r;
}

/* What makes the signer one of `from`: the entries of the role. Group and person need none. */
static int put_roles(struct export *e, const char *who, const json_t *from)
{
        const char *model = text_of(e->promotion, "model");
        const json_t *one;
        size_t i;

        json_array_foreach (from, i, one) {
                const char *subject = json_string_value(one);
                char id[512];
                int r;

                if (subject == NULL || !mlc_starts_with(subject, "role:"))
                        continue;
                (void)snprintf(id, sizeof(id), "%s/%s@%.*s", who, subject + strlen("role:"),
                               (int)strcspn(model, "/"), model);
                r = put_history(e, "role", id);
                (void)snprintf(id, sizeof(id), "%s/%s@*", who, subject + strlen("role:"));
                if (r == 0)
                        r = put_history(e, "role", id);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int put_signer(struct export *e, const json_t *a)
{
        const json_t *rules = json_object_get(json_object_get(e->bundle, "policy"), "approvals");
        const json_t *rule;
        const char *hash, *key;
        size_t i;
        int r = mlc_json_get_str(a, "", "leaf_hash", &hash, &e->cli->err);

        if (r == 0)
                r = mlc_json_get_str(a, "", "key", &key, &e->cli->err);
        if (r == 0)
                r = export_check_id(e, text_of(a, "id"));
        if (r == 0)
                r = put_proof(e, text_of(a, "id"), hash);
        if (r == 0)
                r = put_key(e, key);
        json_array_foreach (rules, i, rule)
                if (r == 0)
                        r = put_roles(e, text_of(json_object_get(a, "signer"), "id"),
                                      json_object_get(rule, "from"));
        return r;
}

int export_proofs(struct export *e)
{
        const char *id = text_of(e->promotion, "id"), *hash;
        const json_t *a;
        size_t i;
        int r = mlc_json_get_str(e->version, "", "leaf_hash", &hash, &e->cli->err);

        e->keys = json_array();
        if (r == 0)
                r = put_proof(e, "version", hash);
        json_array_foreach (e->approvals, i, a)
                if (r == 0 && !json_is_true(json_object_get(a, "void")))
                        r = put_signer(e, a);
        return r < 0 ? r : put_history(e, "promotion", id);
}

/* Keys: those with which somebody signed here, and whose entries are here. */

static bool wanted_line(const struct export *e, const char *line)
{
        const json_t *key;
        size_t i;

        if (strstr(line, "namespaces=\"git\"") != NULL)
                return true;
        json_array_foreach (e->keys, i, key) {
                const char *public = json_string_value(key);
                size_t n = public != NULL ? strlen(public) : 0;

                if (n > 0 && mlc_ends_with(line, public) && line[strlen(line) - n - 1] == ' ')
                        return true;
        }
        return false;
}

int export_signers(struct export *e)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        struct mlc_request request = {.method = "GET", .path = "/keys/allowed_signers"};
        _cleanup_(mlc_str_done) struct mlc_str kept;
        int r;

        mlc_str_init(&kept, (size_t)32 << 20);
        r = mlc_client_do(e->cli->client, &request, &reply, &e->cli->err);
        if (r < 0)
                return r;
        for (char *line = reply.body.data; line != NULL && *line != '\0';) {
                char *end = strchr(line, '\n');

                if (end != NULL)
                        *end++ = '\0';
                if (wanted_line(e, line)) {
                        mlc_str_add(&kept, line);
                        mlc_str_addc(&kept, '\n');
                }
                line = end;
        }
        r = mlc_str_check(&kept, &e->cli->err);
        return r < 0 ? r : export_put(e, "allowed_signers", mlc_str_cstr(&kept), kept.len);
}
