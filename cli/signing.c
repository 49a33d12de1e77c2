/* SPDX-License-Identifier: Apache-2.0 */
#include "signing.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/proof.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "crypto/random.h"
#include "sshsign.h"

#define CLOCK_MS (15 * 60000LL) /* the server takes no statement that is older */

void signing_done(struct signing *s)
{
        mlc_str_done(&s->text);
}

static int differs(struct cli *cli, const char *member)
{
        return mlc_fail(&cli->err, MLC_E_VERIFY,
                        "the server's statement has another '%s' than what it shows; nothing was "
                        "signed",
                        member);
}

static void commit_reason(struct signing *s)
{
        unsigned char salt[32];
        struct mlc_sha256 h;
        struct mlc_digest d;

        mlc_random_bytes(salt, sizeof(salt));
        mlc_hex_encode(salt, sizeof(salt), s->salt);
        mlc_sha256_init(&h);
        mlc_sha256_update(&h, salt, sizeof(salt));
        mlc_sha256_update(&h, s->reason, strlen(s->reason));
        mlc_sha256_final(&h, &d);
        mlc_digest_format(&d, s->commitment);
}

/* Who we are, and which log this is: by the pinned key where there is one. */
static int identity(struct cli *cli, json_t **ret_who, struct mlc_statement *facts)
{
        int r = mlc_client_json(cli->client, "GET", "/api/v1/whoami", NULL, ret_who, &cli->err);

        if (r == 0)
                r = mlc_json_get_str(*ret_who, "", "origin", &facts->log, &cli->err);
        if (r == 0)
                r = mlc_json_get_str(json_object_get(*ret_who, "user"), "/user", "id",
                                     &facts->signer, &cli->err);
        if (r == 0 && cli->log != NULL)
                facts->log = cli->log->pin.keys[0].name;
        return r;
}

static int take_choices(struct cli *cli, const json_t *served, struct mlc_statement *facts)
{
        const struct {
                const char *key;
                const char **ret;
        } members[] = {
                {"signer_name_commitment", &facts->signer_name_commitment},
                {"role", &facts->role},
                {"time", &facts->time},
                {"expires", &facts->expires},
                {"nonce", &facts->nonce},
        };
        int64_t time;

        for (size_t i = 0; i < ARRAY_LEN(members); i++) {
                int r = mlc_json_get_str(served, "/statement", members[i].key, members[i].ret,
                                         &cli->err);

                if (r < 0)
                        return r;
        }
        if (!mlc_time_parse(facts->time, &time))
                return differs(cli, "time");
        if (time < mlc_now_ms() - CLOCK_MS || time > mlc_now_ms() + CLOCK_MS)
                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                "the server's statement is dated '%s', more than 15 minutes from "
                                "this computer's clock; nothing was signed",
                                facts->time);
        return 0;
}

/* Every member of our statement that the server proposes too is the same there, and no other is. */
static int compare(struct cli *cli, const struct mlc_str *text, const json_t *served)
{
        _cleanup_(json_decref_p) json_t *ours = NULL;
        const char *key;
        json_t *value;
        int r = mlc_json_parse(mlc_str_cstr(text), text->len, &ours, &cli->err);

        if (r < 0)
                return r;
        json_object_foreach ((json_t *)(uintptr_t)served, key, value)
                if (!json_equal(value, json_object_get(ours, key)))
                        return differs(cli, key);
        json_object_foreach (ours, key, value)
                if (strcmp(key, "decision") != 0 && strcmp(key, "meaning") != 0 &&
                    strcmp(key, "reason_commitment") != 0 && json_object_get(served, key) == NULL)
                        return differs(cli, key);
        return 0;
}

int signing_make(struct cli *cli, struct mlc_statement *facts, const json_t *served,
                 const json_t *meanings, struct signing *ret)
{
        _cleanup_(json_decref_p) json_t *who = NULL;
        int r;

        mlc_str_init(&ret->text, MLC_STATEMENT_MAX);
        facts->meaning =
                mlc_statement_meaning(facts->subject_kind, facts->document, facts->decision);
        if (!mlc_streq(facts->meaning,
                       json_string_value(json_object_get(meanings, facts->decision))))
                return differs(cli, "meaning");
        commit_reason(ret);
        facts->reason_commitment = ret->commitment;
        r = identity(cli, &who, facts);
        if (r == 0)
                r = take_choices(cli, served, facts);
        if (r == 0)
                r = mlc_statement_build(facts, &ret->text, &cli->err);
        if (r == 0)
                r = compare(cli, &ret->text, served);
        facts->log = facts->signer = NULL; /* of `who` */
        return r;
}

int signing_ask(struct cli *cli, const char *question)
{
        char answer[16];

        if (cli_opt(cli, "yes") != NULL || !isatty(STDIN_FILENO))
                return 0;
        (void)fflush(stdout);
        (void)fprintf(stderr, "%s [y/N] ", question);
        if (fgets(answer, sizeof(answer), stdin) != NULL &&
            (strcmp(answer, "y\n") == 0 || strcmp(answer, "yes\n") == 0))
                return 0;
        return mlc_fail(&cli->err, MLC_E_CONFLICT, "nothing was signed");
}

int signing_sign(struct cli *cli, const struct signing *s, const char *key, json_t **ret)
{
        _cleanup_(free_p) char *armour = NULL;
        int r = ssh_sign(key, MLC_STATEMENT_NAMESPACE, mlc_str_cstr(&s->text), &armour, &cli->err);

        if (r < 0)
                return r;
        *ret = json_pack("{s:s, s:s, s:s, s:s}", "statement", mlc_str_cstr(&s->text), "signature",
                         armour, "reason", s->reason, "salt", s->salt);
        if (*ret == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the reason is not valid UTF-8");
        return 0;
}

int signing_post(struct cli *cli, const char *path, const json_t *body, json_t **ret)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        _cleanup_(free_p) char *text = json_dumps(body, JSON_COMPACT);
        char uuid[MLC_UUID_STR], header[64];
        const char *headers[] = {header, NULL};
        struct mlc_request req = {.method = "POST", .path = path, .headers = headers, .body = text};
        int r;

        if (text == NULL)
                return mlc_fail(&cli->err, MLC_E_USAGE, "the request is not valid UTF-8");
        req.body_len = strlen(text);
        mlc_uuid4(uuid);
        (void)snprintf(header, sizeof(header), "Idempotency-Key: %s", uuid);
        r = mlc_client_do(cli->client, &req, &reply, &cli->err);
        return r < 0 ? r
                     : mlc_json_parse(mlc_str_cstr(&reply.body), reply.body.len, ret, &cli->err);
}
