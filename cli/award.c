/* SPDX-License-Identifier: Apache-2.0 */
#include "award.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "crypto/sshkey.h"

static const char *text_of(const json_t *j, const char *key)
{
        const char *text = json_string_value(json_object_get(j, key));

        return text != NULL ? text : "";
}

/* --- what waits --- */

void award_print_pending(struct cli *cli, const json_t *pending)
{
        const json_t *one;
        size_t i;

        json_array_foreach (pending, i, one) {
                const char *name = text_of(one, "name"), *slash = strchr(name, '/');

                (void)printf("\n%swaits for owners%s  ", out_bold(cli), out_reset(cli));
                (void)printf("%s ", strcmp(text_of(one, "kind"), "Key") == 0 ? "key" : "role");
                out_text(slash != NULL ? slash + 1 : name);
                (void)printf("  (%" JSON_INTEGER_FORMAT
                             " signatures needed)\nOwners sign with:  mlctl approve ",
                             json_integer_value(json_object_get(one, "need")));
                out_text(text_of(one, "id"));
                (void)printf(" --key ~/.ssh/id_ed25519 --reason TEXT\n");
        }
}

/* --- what is signed --- */

bool award_is(const json_t *document)
{
        const char *kind = text_of(document, "kind");

        return strcmp(kind, "Role") == 0 || strcmp(kind, "Key") == 0;
}

/* A key by the base64 of its wire form; false when it is none. */
static bool key_parse(const char *public, struct mlc_sshkey *ret)
{
        _cleanup_(mlc_str_done) struct mlc_str blob;
        struct mlc_err why = {0};

        mlc_str_init(&blob, MLC_SSHKEY_BLOB_MAX);
        return mlc_base64_decode(MLC_BASE64_STD, public, strlen(public), &blob, &why) == 0 &&
               mlc_sshkey_from_blob(mlc_str_cstr(&blob), blob.len, ret, &why) == 0;
}

int award_document_name(struct cli *cli, const json_t *document, struct mlc_str *ret)
{
        const char *kind = text_of(document, "kind"), *user = text_of(document, "user");
        char fingerprint[MLC_SSHKEY_FP];
        struct mlc_sshkey key;

        if (strcmp(kind, "Role") == 0) {
                mlc_str_addf(ret, "Role/%s/%s@%s", user, text_of(document, "role"),
                             text_of(document, "namespace"));
        } else if (strcmp(kind, "Key") == 0) {
                if (!key_parse(text_of(document, "public"), &key) ||
                    strcmp(mlc_sshkey_type_name(key.type), text_of(document, "type")) != 0)
                        return mlc_fail(&cli->err, MLC_E_VERIFY,
                                        "what the server shows is no SSH key");
                mlc_sshkey_fingerprint(&key, fingerprint);
                mlc_str_addf(ret, "Key/%s/%s", user, fingerprint);
        } else {
                mlc_str_addf(ret, "%s/%s", kind, text_of(document, "name"));
        }
        return mlc_str_check(ret, &cli->err);
}

static json_t *key_shown(const char *public)
{
        char fingerprint[MLC_SSHKEY_FP];
        struct mlc_sshkey key;

        if (!key_parse(public, &key))
                return json_string("unreadable");
        mlc_sshkey_fingerprint(&key, fingerprint);
        return json_sprintf("%s %s", mlc_sshkey_type_name(key.type), fingerprint);
}

static json_t *keys_shown(const json_t *document)
{
        const json_t *keys = json_object_get(document, "keys"), *one;
        json_t *list = json_array();
        size_t i;

        if (strcmp(text_of(document, "kind"), "Key") == 0)
                (void)json_array_append_new(list, key_shown(text_of(document, "public")));
        json_array_foreach (keys, i, one)
                (void)json_array_append_new(
                        list, key_shown(json_is_string(one) ? json_string_value(one) : ""));
        if (json_array_size(list) == 0)
                (void)json_array_append_new(list, json_string("none registered"));
        return list;
}

void award_print(struct cli *cli, const json_t *change, const json_t *document)
{
        static const struct out_column fields[] = {
                {"change", "id", OUT_TEXT},       {"gives", "gives", OUT_TEXT},
                {"to", "to", OUT_TEXT},           {"keys", "keys", OUT_LIST},
                {"of", "environments", OUT_LIST}, {"asked by", "requested_by.name", OUT_TEXT},
                {"expires", "expires", OUT_TIME}, {0},
        };
        _cleanup_(json_decref_p) json_t *shown = json_copy((json_t *)(uintptr_t)change);
        const char *name =
                json_string_value(json_object_get(json_object_get(change, "person"), "name"));
        const char *ns = text_of(document, "namespace");

        if (strcmp(text_of(document, "kind"), "Key") == 0)
                (void)json_object_set_new(shown, "gives",
                                          json_string("a further key to sign with"));
        else if (strcmp(ns, "*") == 0)
                (void)json_object_set_new(
                        shown, "gives",
                        json_sprintf("role %s everywhere", text_of(document, "role")));
        else
                (void)json_object_set_new(
                        shown, "gives",
                        json_sprintf("role %s in namespace %s", text_of(document, "role"), ns));
        (void)json_object_set_new(
                shown, "to",
                json_sprintf("%s (%s)", text_of(document, "user"), name != NULL ? name : "erased"));
        (void)json_object_set_new(shown, "keys", keys_shown(document));
        out_fields(cli, shown, fields);
}
