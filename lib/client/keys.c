/* SPDX-License-Identifier: Apache-2.0 */
/* Keys of the log beyond the pinned one: rotations, and the list of commit keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "client/proof.h"

#define SIGNERS_MAX ((size_t)8 << 20)
#define ROTATIONS "/api/v1/audit/entries?kind=log&action=log.rotate&limit=100"

/* Whether the entry makes `next` a key of the log, by the word of the one before. */
static bool vouches(const struct mlc_leaf *leaf, const struct mlc_vkey *before,
                    const struct mlc_vkey *next)
{
        const char *text = json_string_value(json_object_get(leaf->detail, "note"));
        const struct mlc_vkeys keys = {before, 1};
        _cleanup_(mlc_str_done) struct mlc_str want;
        struct mlc_err none = {0};
        struct mlc_note note;

        mlc_str_init(&want, 4096);
        if (strcmp(leaf->kind, MLC_REPLAY_KIND_LOG) != 0 || text == NULL ||
            mlc_note_open(text, strlen(text), &keys, &note, &none) < 0)
                return false;
        mlc_str_addf(&want, MLC_LOG_ROTATE_TYPE "\n%s\n", leaf->origin);
        mlc_vkey_format(next, &want);
        mlc_str_addc(&want, '\n');
        return note.text_len == want.len && memcmp(note.text, want.data, want.len) == 0;
}

/* Looks for the entry that adds the next key, and proves it; false when there is none. */
static int follow_one(struct mlc_log *l, const json_t *entries, bool *ret_found,
                      struct mlc_err *err)
{
        const struct mlc_vkey *next = &l->served[l->pin.n_keys];
        json_t *e;
        size_t i;

        *ret_found = false;
        json_array_foreach (entries, i, e) {
                _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
                const char *hash = json_string_value(json_object_get(e, "leaf_hash"));
                int r = mlc_log_prove(l, hash != NULL ? hash : "", &p, err);

                if (r < 0)
                        return r;
                if (!vouches(&p.leaf, &l->pin.keys[l->pin.n_keys - 1], next))
                        continue;
                l->pin.keys[l->pin.n_keys++] = *next;
                *ret_found = true;
                return l->forget ? 0 : mlc_pin_save(&l->pin, mlc_client_url(l->client), err);
        }
        return 0;
}

int mlc_log_follow_keys(struct mlc_log *l, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *entries = NULL;
        struct mlc_err none = {0};
        bool found = true;
        int r;

        if (l->n_served <= l->pin.n_keys)
                return 0;
        if (mlc_client_list(l->client, ROTATIONS, 1000, &entries, &none) < 0)
                return 0; /* not for this caller's eyes: the key stays unknown */
        while (found && l->pin.n_keys < l->n_served) {
                r = follow_one(l, entries, &found, err);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* PRINCIPAL namespaces="git" TYPE BASE64, as ssh-keygen(1) reads it; false for another line. */
static bool commit_key(const char *line, struct mlc_sshkey *ret, bool *ret_valid)
{
        static const char option[] = " namespaces=\"git\" ";
        const char *at = strstr(line, option);
        struct mlc_err none = {0};

        if (at == NULL)
                return false;
        *ret_valid = mlc_sshkey_parse(at + strlen(option), ret, &none) == 0;
        return true;
}

int mlc_log_check_signers(struct mlc_log *l, struct mlc_err *err)
{
        const struct mlc_request req = {
                .method = "GET", .path = "/keys/allowed_signers", .reply_max = SIGNERS_MAX};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        _cleanup_(free_p) char *text = NULL;
        unsigned listed = 0; /* bit i: key i of the log */
        char *save = NULL;
        int r = mlc_client_do(l->client, &req, &res, err);

        if (r < 0)
                return r;
        text = strdup(mlc_str_cstr(&res.body));
        if (text == NULL)
                abort();
        for (char *line = strtok_r(text, "\n", &save); line != NULL;
             line = strtok_r(NULL, "\n", &save)) {
                struct mlc_sshkey key, ours;
                bool valid, known = false;

                if (!commit_key(line, &key, &valid))
                        continue;
                for (size_t i = 0; valid && i < l->pin.n_keys; i++) {
                        mlc_sshkey_from_ed25519(l->pin.keys[i].pub, &ours);
                        if (mlc_sshkey_equal(&key, &ours)) {
                                listed |= 1u << i;
                                known = true;
                        }
                }
                if (!known)
                        return mlc_fail(
                                err, MLC_E_VERIFY,
                                "the key list at %s names a commit key that is not the log's",
                                mlc_client_url(l->client));
        }
        if ((listed & 1u) == 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "the key list at %s does not name the log's pinned key",
                                mlc_client_url(l->client));
        return 0;
}
