/* SPDX-License-Identifier: Apache-2.0 */
/* The server's keys below DIR/keys: server.key is in use, server-<id>.key were before. */
#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "crypto/hash.h"
#include "crypto/sshkey.h"
#include "git/git.h"

static void close_dir(DIR **d)
{
        if (*d != NULL)
                (void)closedir(*d);
}

int audit_keys_create(const char *data, struct mlc_signer *ret, struct mlc_err *err)
{
        char dir[AUDIT_PATH_MAX], path[AUDIT_PATH_MAX + 16];
        int r;

        (void)snprintf(dir, sizeof(dir), "%s/keys", data);
        (void)snprintf(path, sizeof(path), "%s/server.key", dir);
        r = mlc_mkdirs(dir, 0700, err);
        if (r < 0)
                return r;
        if (access(path, F_OK) == 0)
                return mlc_signer_load(path, ret, err);
        r = mlc_signer_generate(ret, err);
        if (r < 0)
                return r;
        return mlc_signer_save(ret, path, err);
}

/* "server-<8 hex of the key>.key" */
static void named_path(const char *data, const struct mlc_signer *key, char ret[AUDIT_PATH_MAX])
{
        struct mlc_digest d;
        char hex[9];

        mlc_sha256(key->pub, sizeof(key->pub), &d);
        mlc_hex_encode(d.b, 4, hex);
        (void)snprintf(ret, AUDIT_PATH_MAX, "%.4000s/keys/server-%s.key", data, hex);
}

int audit_keys_next(const char *data, struct mlc_signer *ret, struct mlc_err *err)
{
        char path[AUDIT_PATH_MAX];
        int r;

        r = mlc_signer_generate(ret, err);
        if (r < 0)
                return r;
        named_path(data, ret, path);
        return mlc_signer_save(ret, path, err);
}

int audit_keys_promote(const char *data, const struct mlc_signer *old,
                       const struct mlc_signer *next, struct mlc_err *err)
{
        char current[AUDIT_PATH_MAX], path[AUDIT_PATH_MAX];

        (void)snprintf(current, sizeof(current), "%.4000s/keys/server.key", data);
        named_path(data, old, path);
        if (rename(current, path) < 0)
                return mlc_fail_errno(err, "rename to", path);
        named_path(data, next, path);
        if (rename(path, current) < 0)
                return mlc_fail_errno(err, "rename to", current);
        return mlc_fsync_parent(current, err);
}

/* Looks through DIR/keys for the private half of one public key. */
static int find_key(const char *dir, const struct mlc_vkey *vkey, struct mlc_signer *ret,
                    struct mlc_err *err)
{
        _cleanup_(close_dir) DIR *d = opendir(dir);
        char path[AUDIT_PATH_MAX + 512];
        struct dirent *e;

        if (d == NULL)
                return mlc_fail_errno(err, "open", dir);
        while ((e = readdir(d)) != NULL) {
                _cleanup_(mlc_signer_done) struct mlc_signer s;
                struct mlc_err skip = {0};

                if (!mlc_starts_with(e->d_name, "server") || !mlc_ends_with(e->d_name, ".key"))
                        continue;
                (void)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name);
                if (mlc_signer_load(path, &s, &skip) < 0 ||
                    memcmp(s.pub, vkey->pub, sizeof(s.pub)) != 0)
                        continue;
                *ret = s;
                return 0;
        }
        return mlc_fail(err, MLC_E_NOT_FOUND,
                        "the private key of '%s+%08x' is not below '%s': put it back", vkey->name,
                        vkey->id, dir);
}

int audit_keys_load(const char *data, const json_t *vkeys, struct audit_keys *ret,
                    struct mlc_err *err)
{
        char dir[AUDIT_PATH_MAX];
        const char *text;
        int r;

        (void)snprintf(dir, sizeof(dir), "%s/keys", data);
        ret->n = 0;
        if (json_array_size(vkeys) == 0 || json_array_size(vkeys) > MLC_REPLAY_KEYS_MAX)
                return mlc_fail(err, MLC_E_INTERNAL, "the database lists no keys of the log");
        for (size_t i = 0; i < json_array_size(vkeys); i++) {
                text = json_string_value(json_array_get(vkeys, i));
                r = mlc_vkey_parse(text == NULL ? "" : text, &ret->vkey[i], err);
                if (r < 0) {
                        mlc_err_clear(err);
                        return mlc_fail(err, MLC_E_VERIFY,
                                        "a key of the log in the database was changed: '%s'",
                                        text == NULL ? "" : text);
                }
                r = find_key(dir, &ret->vkey[i], &ret->signer[i], err);
                if (r < 0)
                        return r;
                ret->n = i + 1;
        }
        return 0;
}

int audit_default_origin(const struct mlc_signer *key, char ret[MLC_KEY_NAME_MAX + 1],
                         struct mlc_err *err)
{
        char host[200] = "", hex[9];
        struct mlc_digest d;

        if (gethostname(host, sizeof(host) - 1) < 0)
                return mlc_fail_errno(err, "read the name of", "this host");
        mlc_sha256(key->pub, sizeof(key->pub), &d);
        mlc_hex_encode(d.b, 4, hex);
        (void)snprintf(ret, MLC_KEY_NAME_MAX + 1, "%s/log-%s", host[0] == '\0' ? "localhost" : host,
                       hex);
        return 0;
}

json_t *audit_log_state(const struct mlc_vkey *vkeys, size_t n, const char *predecessor)
{
        json_t *keys = json_array();
        struct mlc_str text;

        for (size_t i = 0; i < n; i++) {
                mlc_str_init(&text, 1024);
                mlc_vkey_format(&vkeys[i], &text);
                (void)json_array_append_new(keys, json_string(mlc_str_cstr(&text)));
                mlc_str_done(&text);
        }
        return json_pack("{so,ss?}", "keys", keys, "predecessor", predecessor);
}

int audit_keys_sign(const struct audit_keys *keys, const struct mlc_checkpoint *cp, char **ret_note,
                    struct mlc_err *err)
{
        struct mlc_note_signer signers[MLC_REPLAY_KEYS_MAX];
        _cleanup_(mlc_str_done) struct mlc_str text, note;
        int r;

        mlc_str_init(&text, 4096);
        mlc_str_init(&note, 65536);
        for (size_t i = 0; i < keys->n; i++) {
                signers[i].name = keys->vkey[i].name;
                signers[i].key = &keys->signer[i];
        }
        mlc_checkpoint_format(cp, &text);
        r = mlc_str_check(&text, err);
        if (r < 0)
                return r;
        r = mlc_note_sign(mlc_str_cstr(&text), signers, keys->n, &note, err);
        if (r < 0)
                return r;
        *ret_note = mlc_str_take(&note);
        return 0;
}

void audit_commit_signers(const struct audit_keys *keys, size_t n, struct mlc_str *ret)
{
        char name[GIT_IDENTITY_STR];
        struct mlc_sshkey key;

        for (size_t i = 0; i < n; i++) {
                git_identity(&keys->signer[i], name);
                mlc_sshkey_from_ed25519(keys->signer[i].pub, &key);
                mlc_str_addf(ret, "%s@mlctl namespaces=\"git\" ", name);
                mlc_sshkey_format(&key, ret);
                mlc_str_addc(ret, '\n');
        }
}

void audit_keys_done(struct audit_keys *keys)
{
        for (size_t i = 0; i < keys->n; i++)
                mlc_signer_done(&keys->signer[i]);
        keys->n = 0;
}
