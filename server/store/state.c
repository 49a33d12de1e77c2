/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "codec/hex.h"
#include "codec/json.h"
#include "store/store_internal.h"

#define STATE_VERSION 1

int store_state_encode(const struct store_state *st, char **ret, struct mlc_err *err)
{
        unsigned char hash[MLC_SHA256_STATE_LEN];
        char hex[2 * MLC_SHA256_STATE_LEN + 1];
        struct mlc_str s;
        int r;

        mlc_sha256_export(&st->hash, hash);
        mlc_hex_encode(hash, sizeof(hash), hex);
        mlc_str_init(&s, STORE_STATE_MAX);
        /* user ids and repository names need no escapes */
        mlc_str_addf(&s,
                     "{\"v\":%d,\"user\":\"%s\",\"repo\":\"%s\",\"offset\":%llu,\"hash\":\"%s\"}\n",
                     STATE_VERSION, st->user, st->repo, (unsigned long long)st->offset, hex);
        r = mlc_str_check(&s, err);
        if (r == 0)
                *ret = mlc_str_take(&s);
        mlc_str_done(&s);
        return r;
}

static bool copy_member(const json_t *j, const char *name, char *ret, size_t size)
{
        const char *s = json_string_value(json_object_get(j, name));

        if (s == NULL || strlen(s) >= size)
                return false;
        (void)snprintf(ret, size, "%s", s);
        return true;
}

/* False when the hash is not one that this build can go on with. */
static bool take_hash(const json_t *j, struct store_state *st)
{
        const char *hex = json_string_value(json_object_get(j, "hash"));
        unsigned char raw[MLC_SHA256_STATE_LEN];
        struct mlc_err ignored = {0};

        return hex != NULL && mlc_hex_decode(hex, raw, sizeof(raw)) &&
               mlc_sha256_import(raw, sizeof(raw), &st->hash, &ignored) == 0 &&
               mlc_sha256_count(&st->hash) == st->offset;
}

int store_state_parse(const char *text, size_t len, struct store_state *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *j = json_loadb(text, len, MLC_JSON_FLAGS, NULL);
        struct store_state st = {0};
        const json_t *offset = json_object_get(j, "offset");

        if (json_integer_value(json_object_get(j, "v")) != STATE_VERSION ||
            !copy_member(j, "user", st.user, sizeof(st.user)) ||
            !copy_member(j, "repo", st.repo, sizeof(st.repo)) || !json_is_integer(offset) ||
            json_integer_value(offset) < 0)
                return mlc_fail(err, MLC_E_INVALID, "the state of the upload cannot be read");
        st.offset = (uint64_t)json_integer_value(offset);
        st.hash_valid = take_hash(j, &st);
        if (!st.hash_valid)
                mlc_sha256_init(&st.hash);
        *ret = st;
        return 0;
}

int store_state_load(int dir_fd, struct store_state *ret, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = openat(dir_fd, "state", O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        char text[STORE_STATE_MAX];
        size_t len;
        int r;

        if (fd < 0)
                return mlc_fail_errno(err, "cannot open", "uploads/…/state");
        r = mlc_read_full(fd, text, sizeof(text), &len, err);
        if (r < 0)
                return r;
        return store_state_parse(text, len, ret, err);
}

/* An older state after a power cut is correct too, so the rename is not made durable; but what it
 * puts in place must be there whole, once there are bytes to go on from. */
int store_state_save(int dir_fd, const struct store_state *st, struct mlc_err *err)
{
        _cleanup_(free_p) char *text = NULL;
        _cleanup_(close_fd) int fd = -1;
        int r = store_state_encode(st, &text, err);

        if (r < 0)
                return r;
        fd = openat(dir_fd, "state.new", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "cannot make", "uploads/…/state.new");
        r = mlc_write_full(fd, text, strlen(text), err);
        if (r < 0)
                return r;
        if (st->offset > 0 && fdatasync(fd) < 0)
                return mlc_fail_errno(err, "cannot sync", "uploads/…/state.new");
        if (renameat(dir_fd, "state.new", dir_fd, "state") < 0)
                return mlc_fail_errno(err, "cannot replace", "uploads/…/state");
        return 0;
}
