/* SPDX-License-Identifier: Apache-2.0 */
#include "client/download.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "crypto/hash.h"

#define TRIES 6
#define PAUSE_MS 100
#define READ_SIZE ((size_t)1 << 20)

struct state {
        const struct mlc_download *d;
        struct mlc_client *client;
        struct mlc_sha256 hash; /* of the first `have` bytes */
        uint64_t have, received;
        int fd; /* stands at `have` */
        struct mlc_err err; /* of the sink */
};

static void show(const struct state *s, int64_t bytes)
{
        if (s->d->progress != NULL && bytes != 0)
                s->d->progress(s->d->userdata, bytes);
}

static int on_data(void *userdata, const void *data, size_t len)
{
        struct state *s = userdata;

        if (len > s->d->size - s->have)
                return mlc_fail(&s->err, MLC_E_VERIFY,
                                "the server at %s sent more than the %llu "
                                "bytes of '%s'",
                                mlc_client_url(s->client), (unsigned long long)s->d->size,
                                s->d->name);
        if (mlc_write_full(s->fd, data, len, &s->err) < 0)
                return s->err.code;
        mlc_sha256_update(&s->hash, data, len);
        s->have += len;
        s->received += len;
        show(s, (int64_t)len);
        return 0;
}

static int start_over(struct state *s, struct mlc_err *err)
{
        if (ftruncate(s->fd, 0) < 0 || lseek(s->fd, 0, SEEK_SET) < 0)
                return mlc_fail_errno(err, "truncate", s->d->name);
        show(s, -(int64_t)s->have);
        s->have = 0;
        mlc_sha256_init(&s->hash);
        return 0;
}

/* Opens the file and hashes what an earlier try left in it. */
static int open_partial(struct state *s, struct mlc_err *err)
{
        _cleanup_(free_p) char *buf = malloc(READ_SIZE);
        size_t n;
        int r;

        if (buf == NULL)
                abort();
        s->fd = openat(s->d->dir_fd, s->d->name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
        if (s->fd < 0)
                return mlc_fail_errno(err, "create", s->d->name);
        mlc_sha256_init(&s->hash);
        for (;;) {
                r = mlc_read_full(s->fd, buf, READ_SIZE, &n, err);
                if (r < 0)
                        return r;
                if (n == 0)
                        break;
                mlc_sha256_update(&s->hash, buf, n);
                s->have += n;
                show(s, (int64_t)n);
        }
        return s->have > s->d->size ? start_over(s, err) : 0;
}

static int fetch(struct state *s, int *ret_status, struct mlc_err *err)
{
        char path[512], range[64], digest[MLC_DIGEST_STR];
        const char *headers[] = {range, NULL};
        struct mlc_request req = {
                .method = "GET",
                .path = path,
                .sink = on_data,
                .sink_status = s->have > 0 ? 206 : 200,
                .userdata = s,
                .reply_max = 65536,
        };
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r;

        mlc_digest_format(&s->d->digest, digest);
        (void)snprintf(path, sizeof(path), "/v2/%s/blobs/%s", s->d->repository, digest);
        (void)snprintf(range, sizeof(range), "Range: bytes=%llu-", (unsigned long long)s->have);
        if (s->have > 0)
                req.headers = headers;
        r = mlc_client_do(s->client, &req, &res, err);
        *ret_status = res.status;
        return r;
}

static bool worth_another(int code)
{
        return code == MLC_E_UNREACHABLE || code == MLC_E_UNAVAILABLE || code == MLC_E_TOO_MANY ||
               code == MLC_E_TIMEOUT;
}

static int fetch_all(struct state *s, struct mlc_err *err)
{
        unsigned idle = 0;

        while (s->have < s->d->size) {
                uint64_t before = s->have;
                struct mlc_err why = {0};
                int status = 0, r = fetch(s, &status, &why);

                if (s->err.code != 0)
                        return mlc_fail(err, s->err.code, "%s", s->err.msg);
                if (before > 0 && status == 200) { /* it does not know ranges */
                        r = start_over(s, err);
                        if (r < 0)
                                return r;
                } else if (r < 0 && !worth_another(r)) {
                        return mlc_fail(err, r, "%s", why.msg);
                }
                idle = s->have > before ? 0 : idle + 1;
                if (idle >= TRIES)
                        return mlc_fail(err, r < 0 ? r : MLC_E_UNREACHABLE, "%s",
                                        r < 0 ? why.msg : "the server sends no bytes");
                if (s->have < s->d->size && r < 0)
                        mlc_sleep_ms(PAUSE_MS << idle);
        }
        return 0;
}

int mlc_download_blob(struct mlc_client *c, const struct mlc_download *d, uint64_t *ret_received,
                      struct mlc_err *err)
{
        struct state s = {.d = d, .client = c, .fd = -1};
        struct mlc_digest digest;
        int r = open_partial(&s, err);

        if (r == 0)
                r = fetch_all(&s, err);
        if (s.fd >= 0)
                (void)close(s.fd);
        if (r < 0)
                return r;
        mlc_sha256_final(&s.hash, &digest);
        if (!mlc_digest_equal(&digest, &d->digest)) {
                (void)unlinkat(d->dir_fd, d->name, 0);
                return mlc_fail(err, MLC_E_VERIFY,
                                "the server at %s sent other bytes than those of '%s'",
                                mlc_client_url(c), d->name);
        }
        *ret_received = s.received;
        return 0;
}
