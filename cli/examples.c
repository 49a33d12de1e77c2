/* SPDX-License-Identifier: Apache-2.0 */
#include "examples.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "client/download.h"
#include "policy/examples.h"

void examples_done(struct examples *x)
{
        for (size_t i = 0; i < x->n_kept; i++)
                close_fd(&x->kept[i].fd);
        x->n_kept = 0;
}

static int blob_size(const struct examples *x, const char *digest, uint64_t *ret,
                     struct mlc_err *err)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_request request = {.method = "HEAD"};
        unsigned long long size;
        char text[32];
        int r;

        mlc_str_init(&path, 1024);
        mlc_str_addf(&path, "/v2/%s/blobs/%s", x->model, digest);
        r = mlc_str_check(&path, err);
        if (r < 0)
                return r;
        request.path = mlc_str_cstr(&path);
        r = mlc_client_do(x->cli->client, &request, &reply, err);
        if (r < 0)
                return r;
        if (!mlc_response_header(&reply, "content-length", text, sizeof(text)) ||
            !mlc_parse_u64(text, &size))
                return mlc_fail(err, MLC_E_VERIFY, "the server does not say how long '%s' is",
                                digest);
        if (size > MLC_EXAMPLES_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the examples '%s' have more than 1 GiB", digest);
        if (size > EXAMPLES_TOTAL - x->bytes)
                return mlc_fail(err, MLC_E_LIMIT,
                                "the examples '%s' are too many: no more than 4 GiB are fetched",
                                digest);
        *ret = size;
        return 0;
}

/* Into a file that has no name any more once it is open. */
static int fetch(const struct examples *x, const char *dir, const struct mlc_download *what,
                 int *ret_fd, struct mlc_err *err)
{
        struct mlc_download d = *what;
        _cleanup_(close_fd) int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        uint64_t received;
        int r, fd;

        if (dir_fd < 0)
                return mlc_fail_errno(err, "open", dir);
        d.dir_fd = dir_fd;
        d.name = "examples";
        r = mlc_download_blob(x->cli->client, &d, &received, err);
        if (r < 0)
                return r;
        fd = openat(dir_fd, d.name, O_RDONLY | O_CLOEXEC);
        (void)unlinkat(dir_fd, d.name, 0);
        if (fd < 0)
                return mlc_fail_errno(err, "open", dir);
        *ret_fd = fd;
        return 0;
}

static int download(struct examples *x, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct mlc_download d = {.repository = x->model};
        const char *tmp = getenv("TMPDIR");
        char dir[PATH_MAX];
        int r = mlc_digest_parse(digest, &d.digest, err);

        if (r == 0)
                r = blob_size(x, digest, &d.size, err);
        if (r < 0)
                return r;
        if (snprintf(dir, sizeof(dir), "%s/mlctl-XXXXXX",
                     tmp != NULL && tmp[0] == '/' ? tmp : "/tmp") >= (int)sizeof(dir) ||
            mkdtemp(dir) == NULL)
                return mlc_fail_errno(err, "make directory", dir);
        r = fetch(x, dir, &d, ret_fd, err);
        (void)rmdir(dir);
        if (r == 0)
                x->bytes += d.size;
        return r;
}

/* Each reader stands where it reads: the kept file is opened once more. */
static int again(int fd, int *ret_fd, struct mlc_err *err)
{
        char path[64];
        int copy;

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        copy = open(path, O_RDONLY | O_CLOEXEC);
        if (copy < 0)
                return mlc_fail_errno(err, "open", path);
        *ret_fd = copy;
        return 0;
}

/* The file of the folder; *ret_fd stays -1 when it has none. */
static int from_dir(const struct examples *x, const char *digest, int *ret_fd, struct mlc_err *err)
{
        char path[PATH_MAX];
        struct mlc_digest d;
        int fd, r = mlc_digest_parse(digest, &d, err);

        if (r < 0 || x->dir == NULL)
                return r;
        if (snprintf(path, sizeof(path), "%s/%s.csv", x->dir, digest + strlen("sha256:")) >=
            (int)sizeof(path))
                return mlc_fail(err, MLC_E_LIMIT, "path '%.64s…' is too long", x->dir);
        fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0 && errno != ENOENT)
                return mlc_fail_errno(err, "open", path);
        *ret_fd = fd;
        return 0;
}

int examples_open(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct examples *x = userdata;
        int fd = -1, r;

        for (size_t i = 0; i < x->n_kept; i++)
                if (strcmp(x->kept[i].digest, digest) == 0)
                        return again(x->kept[i].fd, ret_fd, err);
        r = from_dir(x, digest, &fd, err);
        if (r < 0)
                return r;
        if (fd >= 0) {
                *ret_fd = fd;
                return 0;
        }
        if (x->model == NULL)
                return mlc_fail(err, MLC_E_NOT_FOUND, "the examples '%s' are not at hand", digest);
        r = download(x, digest, &fd, err);
        if (r < 0)
                return r;
        if (x->n_kept == EXAMPLES_KEPT) {
                *ret_fd = fd;
                return 0;
        }
        (void)snprintf(x->kept[x->n_kept].digest, MLC_DIGEST_STR, "%s", digest);
        x->kept[x->n_kept].fd = fd;
        x->n_kept++;
        return again(fd, ret_fd, err);
}
