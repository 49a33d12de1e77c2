/* SPDX-License-Identifier: Apache-2.0 */
#include "client/upload.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "codec/hex.h"
#include "crypto/hash.h"

#define LOCATION_MAX 4096
#define TRIES 6
#define PAUSE_MS 100

struct state {
        struct mlc_client *client;
        const struct mlc_upload *u;
        char location[LOCATION_MAX]; /* "" when no upload is going on */
        char file[PATH_MAX]; /* where the location is kept; "" for nowhere */
        uint64_t offset; /* what the server has */
        uint64_t best; /* the largest offset so far */
        uint64_t sent; /* by this call */
        uint64_t moving; /* of the request in progress */
        int64_t shown; /* given to progress so far */
        unsigned idle; /* tries in turn that moved nothing */
        bool done;
};

static void show(struct state *s, uint64_t have)
{
        if (s->u->progress != NULL && (int64_t)have != s->shown)
                s->u->progress(s->u->userdata, (int64_t)have - s->shown);
        s->shown = (int64_t)have;
}

static int on_progress(void *userdata, uint64_t bytes)
{
        struct state *s = userdata;

        s->moving = bytes;
        show(s, s->offset + bytes);
        return 0;
}

/* The kept location */

static void name_file(struct state *s)
{
        char key[LOCATION_MAX], digest[MLC_DIGEST_STR], hex[65];
        struct mlc_digest d;

        s->file[0] = '\0';
        if (s->u->state_dir == NULL)
                return;
        mlc_digest_format(&s->u->digest, digest);
        (void)snprintf(key, sizeof(key), "%s\n%s\n%s", mlc_client_url(s->client), s->u->repository,
                       digest);
        mlc_sha256(key, strlen(key), &d);
        mlc_hex_encode(d.b, sizeof(d.b), hex);
        if (snprintf(s->file, sizeof(s->file), "%s/upload-%.32s", s->u->state_dir, hex) >=
            (int)sizeof(s->file))
                s->file[0] = '\0';
}

static void forget(struct state *s)
{
        s->location[0] = '\0';
        s->offset = 0;
        if (s->file[0] != '\0')
                (void)unlink(s->file);
}

/* Only what the server itself could have said is believed: the token goes there. */
static bool keep_location(struct state *s, const char *text)
{
        const char *url = mlc_client_url(s->client), *rest = strstr(url, "://");
        const char *prefix = rest != NULL ? strchr(rest + 3, '/') : NULL;
        size_t n_url = strlen(url), n_prefix = prefix != NULL ? strlen(prefix) : 0;

        if (strncmp(text, url, n_url) == 0 && text[n_url] == '/')
                text += n_url;
        else if (n_prefix > 0 && strncmp(text, prefix, n_prefix) == 0)
                text += n_prefix;
        if (text[0] != '/' || text[1] == '/' || strlen(text) >= sizeof(s->location))
                return false;
        (void)snprintf(s->location, sizeof(s->location), "%s", text);
        return true;
}

static void recall(struct state *s)
{
        _cleanup_(free_p) char *text = NULL;
        struct mlc_err none = {0};
        size_t len;

        if (s->file[0] == '\0' || mlc_read_file(s->file, LOCATION_MAX - 1, &text, &len, &none) < 0)
                return;
        text[strcspn(text, "\n")] = '\0';
        if (!keep_location(s, text))
                forget(s);
}

/* Losing this costs a new upload, so a full disk here is no reason to fail. */
static void remember(struct state *s)
{
        struct mlc_err none = {0};
        char line[LOCATION_MAX + 1];
        int n;

        if (s->file[0] == '\0')
                return;
        n = snprintf(line, sizeof(line), "%s\n", s->location);
        if (mlc_write_file_atomic(s->file, line, (size_t)n, 0600, &none) < 0)
                s->file[0] = '\0';
}

/* Requests */

bool mlc_upload_offset(const struct mlc_response *res, uint64_t *ret)
{
        char text[64];
        unsigned long long v;

        if (mlc_response_header(res, "upload-offset", text, sizeof(text))) {
                if (!mlc_parse_u64(text, &v))
                        return false;
                *ret = v;
                return true;
        }
        if (!mlc_response_header(res, "range", text, sizeof(text)))
                return false;
        if (!mlc_starts_with(text, "0-") || !mlc_parse_u64(text + 2, &v) || v == ULLONG_MAX)
                return false;
        /* "0-0" says one byte or none: the server then tells by refusing what does not fit */
        *ret = v == 0 ? 0 : v + 1;
        return true;
}

static int ask_status(struct state *s, struct mlc_err *err)
{
        struct mlc_request req = {.method = "GET", .path = s->location};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        uint64_t offset;
        int r = mlc_client_do(s->client, &req, &res, err);

        if (r < 0)
                return r;
        if (!mlc_upload_offset(&res, &offset) || offset > s->u->size)
                return mlc_fail(err, MLC_E_NOT_FOUND, "the upload is not of this file");
        if (offset > s->best) {
                s->best = offset;
                s->idle = 0;
        }
        s->offset = offset;
        show(s, offset);
        return 0;
}

static int take_location(struct state *s, const struct mlc_response *res, struct mlc_err *err)
{
        char text[LOCATION_MAX];

        if (!mlc_response_header(res, "location", text, sizeof(text)) || !keep_location(s, text))
                return mlc_fail(err, MLC_E_INTERNAL,
                                "the server gave no usable address for the upload");
        return 0;
}

/* Small ones go whole; for others the server looks first whether it has the bytes elsewhere. */
static int start(struct state *s, struct mlc_err *err)
{
        bool whole = s->u->size <= MLC_UPLOAD_WHOLE_MAX;
        struct mlc_request req = {.method = "POST"};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        char path[LOCATION_MAX], digest[MLC_DIGEST_STR];
        int r;

        mlc_digest_format(&s->u->digest, digest);
        (void)snprintf(path, sizeof(path), "/v2/%s/blobs/uploads/?%s=%s", s->u->repository,
                       whole ? "digest" : "mount", digest);
        req.path = path;
        if (whole) {
                req.upload = true;
                req.upload_fd = s->u->fd;
                req.upload_len = s->u->size;
                req.progress = on_progress;
                req.userdata = s;
        }
        s->moving = 0;
        r = mlc_client_do(s->client, &req, &res, err);
        s->sent += s->moving;
        if (r < 0)
                return r;
        s->done = res.status == 201;
        if (s->done)
                return 0;
        r = take_location(s, &res, err);
        if (r < 0)
                return r;
        s->offset = 0;
        remember(s);
        return whole ? ask_status(s, err) : 0;
}

static int send_rest(struct state *s, struct mlc_err *err)
{
        char range[80], location[LOCATION_MAX];
        const char *headers[] = {range, NULL};
        struct mlc_request req = {
                .method = "PATCH",
                .path = s->location,
                .headers = headers,
                .upload = true,
                .upload_fd = s->u->fd,
                .upload_off = s->offset,
                .upload_len = s->u->size - s->offset,
                .progress = on_progress,
                .userdata = s,
        };
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r;

        (void)snprintf(range, sizeof(range), "Content-Range: %llu-%llu",
                       (unsigned long long)s->offset, (unsigned long long)s->u->size - 1);
        s->moving = 0;
        r = mlc_client_do(s->client, &req, &res, err);
        s->sent += s->moving;
        if (r < 0)
                return r;
        s->offset = s->u->size;
        if (mlc_response_header(&res, "location", location, sizeof(location)))
                (void)keep_location(s, location); /* a server may give another one each time */
        return 0;
}

static int finish(struct state *s, struct mlc_err *err)
{
        char path[LOCATION_MAX + MLC_DIGEST_STR + 8], digest[MLC_DIGEST_STR];
        struct mlc_request req = {.method = "PUT", .path = path};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r;

        mlc_digest_format(&s->u->digest, digest);
        (void)snprintf(path, sizeof(path), "%s%cdigest=%s", s->location,
                       strchr(s->location, '?') != NULL ? '&' : '?', digest);
        r = mlc_client_do(s->client, &req, &res, err);
        s->done = r == 0;
        return r;
}

static int step(struct state *s, struct mlc_err *err)
{
        if (s->location[0] == '\0')
                return start(s, err);
        if (s->offset < s->u->size)
                return send_rest(s, err);
        return finish(s, err);
}

int mlc_blob_present(struct mlc_client *c, const char *repository, const struct mlc_digest *digest,
                     bool *ret, struct mlc_err *err)
{
        char path[LOCATION_MAX], text[MLC_DIGEST_STR];
        struct mlc_request req = {.method = "HEAD", .path = path, .allow_error = true};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r;

        mlc_digest_format(digest, text);
        (void)snprintf(path, sizeof(path), "/v2/%s/blobs/%s", repository, text);
        r = mlc_client_do(c, &req, &res, err);
        if (r < 0)
                return r;
        /* a repository that does not exist yet is 404 as well; other refusals show at the upload */
        *ret = res.status == 200;
        return 0;
}

/* After a failure: 0 to try again, or the failure. What the server has is asked for anew. */
static int recover(struct state *s, struct mlc_err *why, struct mlc_err *err)
{
        struct mlc_err e = {0};
        bool present = false;
        int r;

        if (why->code == MLC_E_INVALID && s->location[0] != '\0' && s->offset == s->u->size) {
                forget(s);
                return mlc_fail(err, MLC_E_CONFLICT,
                                "the file changed while it was pushed; push it again (%s)",
                                why->msg);
        }
        switch (why->code) {
        case MLC_E_UNREACHABLE:
        case MLC_E_UNAVAILABLE:
        case MLC_E_TOO_MANY:
        case MLC_E_TIMEOUT:
        case MLC_E_RANGE:
        case MLC_E_CONFLICT:
                break;
        case MLC_E_NOT_FOUND: /* expired, or finished by a request whose reply got lost */
                if (s->location[0] != '\0')
                        break;
                /* fall through */
        default:
                return mlc_fail(err, why->code, "%s", why->msg);
        }
        if (++s->idle >= TRIES)
                return mlc_fail(err, why->code, "%s", why->msg);
        mlc_sleep_ms(PAUSE_MS << s->idle);
        if (s->location[0] == '\0')
                return 0;
        r = why->code == MLC_E_NOT_FOUND ? why->code : ask_status(s, &e);
        if (r != MLC_E_NOT_FOUND)
                return 0; /* asked again after the next failure */
        forget(s);
        mlc_err_clear(&e);
        if (mlc_blob_present(s->client, s->u->repository, &s->u->digest, &present, &e) == 0)
                s->done = present;
        return 0;
}

int mlc_upload_blob(struct mlc_client *c, const struct mlc_upload *u, uint64_t *ret_sent,
                    struct mlc_err *err)
{
        struct state s = {.client = c, .u = u};
        struct mlc_err e = {0};
        int r;

        name_file(&s);
        recall(&s);
        if (s.location[0] != '\0' && ask_status(&s, &e) < 0) {
                if (e.code == MLC_E_NOT_FOUND)
                        forget(&s);
                else if (recover(&s, &e, err) < 0)
                        return err->code;
        }
        while (!s.done) {
                mlc_err_clear(&e);
                r = step(&s, &e);
                if (r >= 0)
                        continue;
                r = recover(&s, &e, err);
                if (r < 0)
                        return r;
        }
        forget(&s);
        show(&s, u->size);
        *ret_sent = s.sent;
        return 0;
}
