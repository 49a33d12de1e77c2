/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "award.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "cli.h"
#include "crypto/sshkey.h"
#include "sshsign.h"

#define PROOF_NAMESPACE "key-proof@mlctl"

static const struct out_column KEY_FIELDS[] = {
        {"id", "id", OUT_TEXT},
        {"user", "user", OUT_TEXT},
        {"type", "type", OUT_TEXT},
        {"fingerprint", "fingerprint", OUT_TEXT},
        {"revoked", "revoked", OUT_TEXT},
        {"created", "created", OUT_TIME},
        {0},
};

static void print_key(struct cli *cli, const json_t *j)
{
        out_fields(cli, j, KEY_FIELDS);
        award_print_pending(cli, json_object_get(j, "pending"));
}

/* Signs what the server will check: the key, the person and the log it is meant for. */
static int make_proof(struct cli *cli, const char *file, const char *line, char **ret)
{
        _cleanup_(json_decref_p) json_t *who = NULL;
        _cleanup_(mlc_str_done) struct mlc_str text;
        char fingerprint[MLC_SSHKEY_FP];
        const char *origin, *user;
        struct mlc_sshkey key;
        int r = mlc_sshkey_parse(line, &key, &cli->err);

        mlc_str_init(&text, 4096);
        if (r < 0)
                return mlc_wrap(&cli->err, "'%s'", file);
        r = mlc_client_json(cli->client, "GET", "/api/v1/whoami", NULL, &who, &cli->err);
        if (r < 0)
                return r;
        r = mlc_json_get_str(who, "", "origin", &origin, &cli->err);
        if (r < 0)
                return r;
        r = mlc_json_get_str(json_object_get(who, "user"), "/user", "id", &user, &cli->err);
        if (r < 0)
                return r;
        mlc_sshkey_fingerprint(&key, fingerprint);
        mlc_str_addf(&text, "mlctl key proof v1\nlog %s\nuser %s\nkey %s\n", origin, user,
                     fingerprint);
        return ssh_sign(file, PROOF_NAMESPACE, mlc_str_cstr(&text), ret, &cli->err);
}

static int run_add(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *body = NULL, *key = NULL;
        _cleanup_(free_p) char *line = NULL, *proof = NULL;
        size_t len;
        int r = cli_connect(cli);

        if (r < 0)
                return r;
        r = mlc_read_file(cli->args[0], MLC_SSHKEY_LINE_MAX, &line, &len, &cli->err);
        if (r < 0)
                return r;
        line[strcspn(line, "\r\n")] = '\0';
        r = make_proof(cli, cli->args[0], line, &proof);
        if (r < 0)
                return r;
        body = json_pack("{s:s, s:s}", "public", line, "proof", proof);
        r = mlc_client_json(cli->client, "POST", "/api/v1/keys", body, &key, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, key, print_key);
        return 0;
}

static void print_keys(struct cli *cli, const json_t *j)
{
        static const struct out_column columns[] = {
                {"ID", "id", OUT_TEXT},
                {"TYPE", "type", OUT_TEXT},
                {"FINGERPRINT", "fingerprint", OUT_TEXT},
                {"REVOKED", "revoked", OUT_TEXT},
                {"CREATED", "created", OUT_TIME},
                {0},
        };

        out_table(cli, j, columns);
}

static int run_list(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *keys = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r = cli_connect(cli);

        mlc_str_init(&path, 4096);
        if (r < 0)
                return r;
        mlc_str_add(&path, "/api/v1/keys");
        if (cli_opt(cli, "user") != NULL) {
                mlc_str_add(&path, "?user=");
                mlc_url_encode(&path, cli_opt(cli, "user"));
        }
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &keys, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, keys, print_keys);
        return 0;
}

static int run_revoke(struct cli *cli)
{
        _cleanup_(json_decref_p) json_t *key = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        int r = cli_connect(cli);

        mlc_str_init(&path, 4096);
        if (r < 0)
                return r;
        mlc_str_add(&path, "/api/v1/keys/");
        mlc_url_encode(&path, cli->args[0]);
        r = mlc_client_json(cli->client, "DELETE", mlc_str_cstr(&path), NULL, &key, &cli->err);
        if (r < 0)
                return r;
        out_result(cli, key, print_key);
        return 0;
}

static const struct cli_option LIST_OPTIONS[] = {
        {"user", "USER", "of another person", false},
        {0},
};

const struct cli_command CMD_KEY[] = {
        {"key add", "FILE.pub", 1, 1, "register your public SSH key",
         "The private half lies beside it or in the agent: it signs a proof that it is yours.\n"
         "A key of an owner or approver of a protected environment waits for its owners.",
         NULL, run_add},
        {"key list", "", 0, 0, "your keys", NULL, LIST_OPTIONS, run_list},
        {"key revoke", "ID", 1, 1, "revoke a key from this moment of the log on", NULL, NULL,
         run_revoke},
        {0},
};
