/* SPDX-License-Identifier: Apache-2.0 */
#include "documents.h"

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "policy/document.h"

#define ARENA_MAX ((size_t)64 << 20)

static int check(struct cli *cli, const char *text, size_t len, size_t *ret_n)
{
        _cleanup_(mlc_arena_done) struct mlc_arena arena;
        _cleanup_(mlc_documents_done) struct mlc_documents docs = {0};
        int r;

        mlc_arena_init(&arena, ARENA_MAX);
        r = mlc_documents_parse(text, len, &arena, &docs, &cli->err);
        *ret_n = docs.n;
        return r;
}

static int add_text(struct cli *cli, const char *name, const char *text, size_t len,
                    struct mlc_str *ret)
{
        size_t n = 0;
        int r = check(cli, text, len, &n);

        if (r < 0)
                return mlc_wrap(&cli->err, "'%s'", name);
        if (n == 0)
                return mlc_fail(&cli->err, MLC_E_INVALID, "'%s' holds no document", name);
        if (ret->len > 0)
                mlc_str_add(ret, mlc_ends_with(mlc_str_cstr(ret), "\n") ? "---\n" : "\n---\n");
        mlc_str_addn(ret, text, len);
        if (ret->over)
                return mlc_fail(&cli->err, MLC_E_LIMIT,
                                "more than 1 MiB of documents at '%s'; apply them in parts", name);
        return 0;
}

static int add_file(struct cli *cli, const char *path, struct mlc_str *ret)
{
        _cleanup_(free_p) char *text = NULL;
        size_t len;
        int r = mlc_read_file(path, DOCUMENTS_MAX, &text, &len, &cli->err);

        return r < 0 ? r : add_text(cli, path, text, len, ret);
}

static int add_stdin(struct cli *cli, struct mlc_str *ret)
{
        _cleanup_(free_p) char *text = malloc(DOCUMENTS_MAX + 1);
        size_t len;
        int r;

        if (text == NULL)
                abort();
        r = mlc_read_full(STDIN_FILENO, text, DOCUMENTS_MAX + 1, &len, &cli->err);
        if (r < 0)
                return r;
        if (len > DOCUMENTS_MAX)
                return mlc_fail(&cli->err, MLC_E_LIMIT, "more than 1 MiB on standard input");
        return add_text(cli, "standard input", text, len, ret);
}

static int is_yaml(const struct dirent *e)
{
        return e->d_name[0] != '.' &&
               (mlc_ends_with(e->d_name, ".yaml") || mlc_ends_with(e->d_name, ".yml"));
}

static int by_name(const struct dirent **a, const struct dirent **b)
{
        return strcmp((*a)->d_name, (*b)->d_name);
}

static int add_dir(struct cli *cli, const char *dir, struct mlc_str *ret)
{
        struct dirent **list = NULL;
        int n = scandir(dir, &list, is_yaml, by_name), r = 0;

        if (n < 0)
                return mlc_fail_errno(&cli->err, "read", dir);
        if (n == 0)
                r = mlc_fail(&cli->err, MLC_E_USAGE, "'%s' holds no *.yaml", dir);
        for (int i = 0; i < n; i++) {
                char path[PATH_MAX];

                if (r == 0 && snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name) >=
                                      (int)sizeof(path))
                        r = mlc_fail(&cli->err, MLC_E_LIMIT, "path '%.64s…' is too long", dir);
                if (r == 0)
                        r = add_file(cli, path, ret);
                free(list[i]);
        }
        free(list);
        return r;
}

int documents_read(struct cli *cli, const char *from, struct mlc_str *ret)
{
        struct stat st;
        size_t n;
        int r;

        if (strcmp(from, "-") == 0)
                r = add_stdin(cli, ret);
        else if (stat(from, &st) < 0)
                r = mlc_fail_errno(&cli->err, "read", from);
        else
                r = S_ISDIR(st.st_mode) ? add_dir(cli, from, ret) : add_file(cli, from, ret);
        if (r < 0)
                return r;
        r = check(cli, ret->data, ret->len, &n); /* the same document in two files */
        return r < 0 ? mlc_wrap(&cli->err, "all files of '%s' together", from) : 0;
}
