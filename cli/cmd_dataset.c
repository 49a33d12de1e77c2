/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "cli.h"
#include "client/collect.h"
#include "crypto/hash.h"

#define CHUNK ((size_t)1 << 20)

static int hash_file(const struct mlc_file *file, unsigned char *chunk, struct mlc_digest *ret,
                     struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open(file->source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct mlc_sha256 hash;
        uint64_t total = 0;
        struct stat st;
        size_t len;

        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(err, "read", file->source);
        if (!S_ISREG(st.st_mode))
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' is no file any more", file->source);
        mlc_sha256_init(&hash);
        do {
                int r = mlc_read_full(fd, chunk, CHUNK, &len, err);

                if (r < 0)
                        return r;
                mlc_sha256_update(&hash, chunk, len);
                total += len;
        } while (len == CHUNK);
        if (total != file->size)
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' was changed while it was read",
                                file->source);
        mlc_sha256_final(&hash, ret);
        return 0;
}

/* A folder: SHA-256 over its sorted files, "path NUL size NUL hex LF" each. */
static int hash_folder(const struct mlc_files *files, unsigned char *chunk, struct mlc_digest *ret,
                       struct mlc_err *err)
{
        struct mlc_sha256 hash;

        mlc_sha256_init(&hash);
        for (size_t i = 0; i < files->n; i++) {
                char digest[MLC_DIGEST_STR], size[24];
                struct mlc_digest one;
                int n, r = hash_file(&files->list[i], chunk, &one, err);

                if (r < 0)
                        return r;
                mlc_digest_format(&one, digest);
                n = snprintf(size, sizeof(size), "%" PRIu64, files->list[i].size);
                mlc_sha256_update(&hash, files->list[i].path, strlen(files->list[i].path) + 1);
                mlc_sha256_update(&hash, size, (size_t)n + 1);
                mlc_sha256_update(&hash, digest + strlen("sha256:"), 64);
                mlc_sha256_update(&hash, "\n", 1);
        }
        mlc_sha256_final(&hash, ret);
        return 0;
}

static void print_digest(struct cli *cli, const json_t *j)
{
        (void)cli;
        (void)puts(json_string_value(json_object_get(j, "digest")));
}

static int run_digest(struct cli *cli)
{
        const char *path = cli->args[0];
        _cleanup_(mlc_files_done) struct mlc_files files = {0};
        _cleanup_(json_decref_p) json_t *result = NULL;
        _cleanup_(free_p) unsigned char *chunk = malloc(CHUNK);
        char text[MLC_DIGEST_STR];
        struct mlc_digest digest;
        struct stat st;
        int r;

        if (chunk == NULL)
                abort();
        if (stat(path, &st) < 0)
                return mlc_fail_errno(&cli->err, "find", path);
        r = mlc_files_collect((const char *const *)cli->args, 1, false, &files, &cli->err);
        if (r < 0)
                return r;
        r = S_ISDIR(st.st_mode) ? hash_folder(&files, chunk, &digest, &cli->err)
                                : hash_file(&files.list[0], chunk, &digest, &cli->err);
        if (r < 0)
                return r;
        mlc_digest_format(&digest, text);
        result = json_pack("{s:s, s:I, s:I}", "digest", text, "files", (json_int_t)files.n, "bytes",
                           (json_int_t)files.bytes);
        out_result(cli, result, print_digest);
        return 0;
}

const struct cli_command CMD_DATASET[] = {
        {"dataset digest", "PATH", 1, 1, "the digest that names a file or a folder of data",
         "Of a folder: the SHA-256 over its files in the order of their paths, for each its path, "
         "a\n"
         "NUL, its size, a NUL, its SHA-256 and a line feed. Put the name before it and an '@':\n"
         "'mlctl push … --dataset fraud/train@sha256:…'.",
         NULL, run_digest},
        {0},
};
