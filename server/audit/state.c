/* SPDX-License-Identifier: Apache-2.0 */
/* Files below DIR/log: the lock, the signing state, and how any of them is written. */
#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "audit/audit_internal.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "codec/jcs.h"
#include "crypto/hash.h"

#define STATE_MAX (1u << 20)

int audit_files_lock(const char *dir, int *ret_fd, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        char path[AUDIT_PATH_MAX + 8];
        int r;

        r = mlc_mkdirs(dir, 0700, err);
        if (r < 0)
                return r;
        (void)snprintf(path, sizeof(path), "%s/lock", dir);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "open", path);
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return mlc_fail_errno(err, "lock", path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

/* One temporary name for all: only the holder of the lock writes, and what a crash leaves is known.
 */
static int write_temporary(const char *dir, const struct audit_file *f, char ret[AUDIT_PATH_MAX],
                           struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = -1;
        int r, n;

        n = snprintf(ret, AUDIT_PATH_MAX, "%s/next", dir);
        if (n < 0 || n >= AUDIT_PATH_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the path of the log is too long");
        fd = open(ret, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return mlc_fail_errno(err, "create", ret);
        r = mlc_write_full(fd, f->data, f->len, err);
        if (r < 0)
                return mlc_wrap(err, "write '%s'", ret);
        if (fdatasync(fd) < 0)
                return mlc_fail_errno(err, "sync", ret);
        return 0;
}

int audit_file_replace(const char *dir, const struct audit_file *f, struct mlc_err *err)
{
        char temporary[AUDIT_PATH_MAX], path[AUDIT_PATH_MAX + MLC_TILE_PATH_MAX], *slash;
        int r;

        (void)snprintf(path, sizeof(path), "%s/%s", dir, f->path);
        r = write_temporary(dir, f, temporary, err);
        if (r < 0)
                return r;
        slash = strrchr(path, '/');
        *slash = '\0';
        r = mlc_mkdirs(path, 0700, err);
        if (r < 0)
                return r;
        *slash = '/';
        if (rename(temporary, path) < 0)
                return mlc_fail_errno(err, "rename to", path);
        return mlc_fsync_parent(path, err);
}

int audit_file_create(const char *dir, const struct audit_file *f, struct mlc_err *err)
{
        char path[AUDIT_PATH_MAX + MLC_TILE_PATH_MAX];
        _cleanup_(free_p) char *old = NULL;
        struct mlc_err none = {0};
        size_t len;
        int r;

        (void)snprintf(path, sizeof(path), "%s/%s", dir, f->path);
        r = mlc_read_file(path, f->len + 1, &old, &len, &none);
        if (r == MLC_E_NOT_FOUND)
                return audit_file_replace(dir, f, err);
        if (r < 0 && r != MLC_E_LIMIT)
                return mlc_fail(err, r, "%s", none.msg);
        if (r == MLC_E_LIMIT || len != f->len || memcmp(old, f->data, len) != 0)
                return mlc_fail(err, MLC_E_VERIFY,
                                "the file '%s' of the log exists with other bytes", f->path);
        /* it may come from a start that was cut off before its directory was synced */
        return mlc_fsync_parent(path, err);
}

/* {"epoch",…,"sha256":…}: the digest is over the canonical form without it. */
static int state_digest(json_t *doc, char ret[MLC_DIGEST_STR], struct mlc_err *err)
{
        struct mlc_digest d;
        int r;

        (void)json_object_del(doc, "sha256");
        r = mlc_sha256_json(doc, &d, err);
        if (r < 0)
                return r;
        mlc_digest_format(&d, ret);
        return 0;
}

static int damaged(struct mlc_err *err)
{
        mlc_err_clear(err);
        return mlc_fail(err, MLC_E_VERIFY, "the signing state 'log/state' is damaged");
}

static int state_decode(json_t *doc, struct audit_state *s, struct mlc_err *err)
{
        const char *origin, *root, *note, *sum;
        char again[MLC_DIGEST_STR], given[MLC_DIGEST_STR];
        int64_t size, previous;

        if (mlc_json_get_str(doc, "", "sha256", &sum, err) < 0)
                return damaged(err);
        (void)snprintf(given, sizeof(given), "%s", sum);
        if (state_digest(doc, again, err) < 0 || !mlc_streq(given, again))
                return damaged(err);
        if (mlc_json_get_i64(doc, "", "epoch", &s->epoch, err) < 0 ||
            mlc_json_get_i64(doc, "", "log", &s->log_id, err) < 0 ||
            mlc_json_get_i64(doc, "", "size", &size, err) < 0 ||
            mlc_json_get_i64(doc, "", "previous", &previous, err) < 0 ||
            mlc_json_get_str(doc, "", "origin", &origin, err) < 0 ||
            mlc_json_get_str(doc, "", "root", &root, err) < 0 ||
            mlc_json_get_str(doc, "", "note", &note, err) < 0 ||
            mlc_digest_parse(root, &s->cp.root, err) < 0 || size < 0 || previous < 0 ||
            previous > size || strlen(origin) >= sizeof(s->cp.origin))
                return damaged(err);
        s->cp.size = (uint64_t)size;
        s->previous = (uint64_t)previous;
        (void)snprintf(s->cp.origin, sizeof(s->cp.origin), "%s", origin);
        s->note = strdup(note);
        if (s->note == NULL)
                abort();
        return 0;
}

/* Byte for byte as audit_state_write writes it. */
static bool state_is_canonical(json_t *doc, const char *text, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str again;
        char sum[MLC_DIGEST_STR];
        struct mlc_err err = {0};

        mlc_str_init(&again, STATE_MAX);
        if (state_digest(doc, sum, &err) < 0)
                return false;
        (void)json_object_set_new(doc, "sha256", json_string(sum));
        if (mlc_jcs_signed(doc, &again, &err) < 0)
                return false;
        mlc_str_addc(&again, '\n');
        return again.len == len && memcmp(again.data, text, len) == 0;
}

int audit_state_read(const char *dir, struct audit_state *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        _cleanup_(free_p) char *text = NULL;
        char path[AUDIT_PATH_MAX + 8];
        struct audit_state s = {0};
        size_t len;
        int r;

        (void)snprintf(path, sizeof(path), "%s/state", dir);
        r = mlc_read_file(path, STATE_MAX, &text, &len, err);
        if (r < 0)
                return r;
        if (mlc_json_parse(text, len, &doc, err) < 0 || !json_is_object(doc))
                return damaged(err);
        r = state_decode(doc, &s, err);
        if (r < 0)
                return r;
        if (!state_is_canonical(doc, text, len)) {
                audit_state_done(&s);
                return damaged(err);
        }
        *ret = s;
        return 0;
}

int audit_state_write(const char *dir, const struct audit_state *s, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        _cleanup_(mlc_str_done) struct mlc_str text;
        char root[MLC_DIGEST_STR], sum[MLC_DIGEST_STR];
        struct audit_file f = {.path = "state"};
        int r;

        mlc_str_init(&text, STATE_MAX);
        mlc_digest_format(&s->cp.root, root);
        doc = json_pack("{sI,sI,sI,sI,ss,ss,ss}", "epoch", (json_int_t)s->epoch, "log",
                        (json_int_t)s->log_id, "size", (json_int_t)s->cp.size, "previous",
                        (json_int_t)s->previous, "origin", s->cp.origin, "root", root, "note",
                        s->note);
        if (doc == NULL)
                return mlc_fail(err, MLC_E_INTERNAL, "the signing state is not UTF-8");
        r = state_digest(doc, sum, err);
        if (r < 0)
                return r;
        (void)json_object_set_new(doc, "sha256", json_string(sum));
        r = mlc_jcs_signed(doc, &text, err);
        if (r < 0)
                return r;
        mlc_str_addc(&text, '\n');
        f.data = text.data;
        f.len = text.len;
        return audit_file_replace(dir, &f, err);
}

void audit_state_done(struct audit_state *s)
{
        free(TAKE_PTR(s->note));
}
