/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pin.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/hex.h"
#include "codec/json.h"
#include "crypto/hash.h"
#include "tlog/source.h"

#define FILE_MAX_BYTES ((size_t)2 << 20)

void mlc_vkey_fingerprint(const struct mlc_vkey *k, char ret[MLC_SSHKEY_FP])
{
        struct mlc_sshkey key;

        mlc_sshkey_from_ed25519(k->pub, &key);
        mlc_sshkey_fingerprint(&key, ret);
}

bool mlc_vkey_equal(const struct mlc_vkey *a, const struct mlc_vkey *b)
{
        return a->id == b->id && strcmp(a->name, b->name) == 0 &&
               memcmp(a->pub, b->pub, sizeof(a->pub)) == 0;
}

void mlc_pin_done(struct mlc_pin *pin)
{
        free(TAKE_PTR(pin->note));
}

static int name_file(const char *state_dir, const char *url, struct mlc_pin *p, struct mlc_err *err)
{
        struct mlc_digest d;
        char hex[65];

        mlc_sha256(url, strlen(url), &d);
        mlc_hex_encode(d.b, sizeof(d.b), hex);
        if (snprintf(p->file, sizeof(p->file), "%s/log-%.32s.json", state_dir, hex) >=
            (int)sizeof(p->file) - 8)
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", state_dir);
        return 0;
}

static int read_keys(const json_t *j, struct mlc_pin *p, struct mlc_err *err)
{
        json_t *keys, *v;
        size_t i;
        int r = mlc_json_get_arr(j, "", "keys", &keys, err);

        if (r < 0)
                return r;
        if (json_array_size(keys) == 0 || json_array_size(keys) > MLC_REPLAY_KEYS_MAX)
                return mlc_fail(err, MLC_E_INVALID, "it holds no key, or too many");
        json_array_foreach (keys, i, v) {
                const char *text = json_string_value(v);

                r = mlc_vkey_parse(text != NULL ? text : "", &p->keys[i], err);
                if (r < 0)
                        return r;
                p->n_keys = i + 1;
        }
        return 0;
}

static int read_file(const char *text, size_t len, struct mlc_pin *p, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        const char *note = NULL;
        int r = mlc_json_parse(text, len, &j, err);

        if (r < 0)
                return r;
        r = read_keys(j, p, err);
        if (r < 0)
                return r;
        r = mlc_json_opt_str(j, "", "checkpoint", &note, err);
        if (r < 0 || note == NULL)
                return r;
        r = mlc_checkpoint_open(note, strlen(note), &p->keys[0], &p->seen, err);
        if (r < 0)
                return r;
        p->note = strdup(note);
        if (p->note == NULL)
                abort();
        return 0;
}

int mlc_pin_read(const char *file, struct mlc_pin *ret, struct mlc_err *err)
{
        _cleanup_(mlc_pin_done) struct mlc_pin p = {0};
        _cleanup_(free_p) char *text = NULL;
        size_t len;
        int r;

        (void)snprintf(p.file, sizeof(p.file), "%s", file);
        r = mlc_read_file(file, FILE_MAX_BYTES, &text, &len, err);
        if (r < 0)
                return r;
        r = read_file(text, len, &p, err);
        if (r < 0)
                return r;
        *ret = p;
        p.note = NULL;
        return 0;
}

int mlc_pin_load(const char *state_dir, const char *url, struct mlc_pin *ret, struct mlc_err *err)
{
        struct mlc_pin p = {0};
        struct mlc_err why = {0};
        int r = name_file(state_dir, url, &p, err);

        if (r < 0)
                return r;
        *ret = p;
        r = mlc_pin_read(p.file, ret, &why);
        if (r == 0 || r == MLC_E_NOT_FOUND)
                return 0;
        return mlc_fail(err, r == MLC_E_IO ? r : MLC_E_VERIFY,
                        "what is known of the log at %s cannot be read: %s; remove '%s' only if "
                        "you are sure that nobody tampered with it",
                        url, why.msg, p.file);
}

int mlc_pin_save(const struct mlc_pin *pin, const char *url, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        _cleanup_(free_p) char *text = NULL;
        json_t *keys = json_array();

        for (size_t i = 0; i < pin->n_keys; i++) {
                _cleanup_(mlc_str_done) struct mlc_str key;

                mlc_str_init(&key, 1024);
                mlc_vkey_format(&pin->keys[i], &key);
                (void)json_array_append_new(keys, json_string(mlc_str_cstr(&key)));
        }
        j = json_pack("{s:s, s:o, s:s?}", "server", url, "keys", keys, "checkpoint", pin->note);
        text = json_dumps(j, JSON_INDENT(2));
        if (text == NULL)
                abort();
        return mlc_write_file_atomic(pin->file, text, strlen(text), 0600, err);
}

int mlc_pin_lock(const struct mlc_pin *pin, int *ret_fd, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        char path[PATH_MAX];

        if (snprintf(path, sizeof(path), "%s.lock", pin->file) >= (int)sizeof(path))
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", pin->file);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0 || flock(fd, LOCK_EX) < 0)
                return mlc_fail_errno(err, "lock", path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}
