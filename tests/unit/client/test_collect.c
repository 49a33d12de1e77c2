/* SPDX-License-Identifier: Apache-2.0 */
#include "client/collect.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "client/push.h"

struct fixture {
        char dir[64];
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        assert_non_null(f);
        (void)snprintf(f->dir, sizeof(f->dir), "/tmp/collect-XXXXXX");
        assert_non_null(mkdtemp(f->dir));
        assert_int_equal(chdir(f->dir), 0);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;
        char command[128];

        assert_int_equal(chdir("/"), 0);
        (void)snprintf(command, sizeof(command), "rm -rf '%s'", f->dir);
        assert_int_equal(system(command), 0);
        free(f);
        return 0;
}

static void put(const char *path, size_t size)
{
        struct mlc_err err = {0};
        char dir[128];
        char *slash;
        int fd;

        (void)snprintf(dir, sizeof(dir), "%s", path);
        slash = strrchr(dir, '/');
        if (slash != NULL) {
                *slash = '\0';
                assert_int_equal(mlc_mkdirs(dir, 0700, &err), 0);
        }
        fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        assert_true(fd >= 0);
        assert_int_equal(ftruncate(fd, (off_t)size), 0);
        (void)close(fd);
}

static int collect(struct mlc_files *ret, bool follow, const char *one, const char *two)
{
        const char *args[] = {one, two};
        struct mlc_err err = {0};
        int r = mlc_files_collect(args, two != NULL ? 2 : 1, follow, ret, &err);

        assert_int_equal(r, err.code);
        return r;
}

static void expect(const char *one, const char *two, bool follow, const char *paths)
{
        _cleanup_(mlc_files_done) struct mlc_files files = {0};
        char have[1024] = "";
        size_t n = 0;

        assert_int_equal(collect(&files, follow, one, two), 0);
        for (size_t i = 0; i < files.n; i++)
                n += (size_t)snprintf(have + n, sizeof(have) - n, "%s%s", i > 0 ? " " : "",
                                      files.list[i].path);
        assert_string_equal(have, paths);
}

static void test_paths(void **state)
{
        struct fixture *f = *state;
        char absolute[128];

        put("d/b", 2);
        put("d/a/x", 1);
        put("one", 3);
        expect("d", NULL, false, "a/x b");
        expect("./d/", "one", false, "a/x b one");
        expect("d/a/x", "one", false, "d/a/x one");
        expect(".//d/./b", NULL, false, "d/b");
        (void)snprintf(absolute, sizeof(absolute), "%s/d/b", f->dir);
        expect(absolute, NULL, false, "b");
        (void)snprintf(absolute, sizeof(absolute), "%s/d", f->dir);
        expect(absolute, NULL, false, "a/x b");
}

static void test_refusals(void **state)
{
        _cleanup_(mlc_files_done) struct mlc_files files = {0};

        (void)state;
        put("d/b", 1);
        put("e/b", 1);
        put("f/B", 1);
        put("g/b/c", 1);
        assert_int_equal(mkdir("empty", 0700), 0);
        assert_int_equal(mkfifo("pipe", 0600), 0);
        assert_int_equal(collect(&files, false, "d", "e"), MLC_E_INVALID);
        assert_int_equal(collect(&files, false, "d", "f"), MLC_E_INVALID);
        assert_int_equal(collect(&files, false, "d", "g"), MLC_E_INVALID);
        assert_int_equal(collect(&files, false, "empty", NULL), MLC_E_INVALID);
        assert_int_equal(collect(&files, false, "pipe", NULL), MLC_E_INVALID);
        assert_int_equal(collect(&files, false, "d/../d/b", NULL), MLC_E_INVALID);
        assert_int_equal(collect(&files, false, "missing", NULL), MLC_E_NOT_FOUND);
        put("h/back\\slash", 1);
        assert_int_equal(collect(&files, false, "h", NULL), MLC_E_INVALID);
        assert_int_equal(files.n, 0);
}

static void test_links(void **state)
{
        _cleanup_(mlc_files_done) struct mlc_files files = {0};

        (void)state;
        put("d/b", 1);
        put("d/s/x", 1);
        put("out", 1);
        put("out2/deep", 1);
        assert_int_equal(symlink("b", "d/in"), 0);
        assert_int_equal(symlink("s", "d/t"), 0);
        expect("d", NULL, false, "b in s/x t/x");
        assert_int_equal(symlink("../out", "d/leaves"), 0);
        assert_int_equal(collect(&files, false, "d", NULL), MLC_E_INVALID);
        expect("d", NULL, true, "b in leaves s/x t/x");
        assert_int_equal(unlink("d/leaves"), 0);
        /* a sibling whose name begins like the root's is outside */
        assert_int_equal(rename("out2", "dx"), 0);
        assert_int_equal(symlink("../dx", "d/sibling"), 0);
        assert_int_equal(collect(&files, false, "d", NULL), MLC_E_INVALID);
        expect("d", NULL, true, "b in s/x sibling/deep t/x");
        assert_int_equal(unlink("d/sibling"), 0);
        assert_int_equal(symlink("..", "d/s/up"), 0);
        assert_int_equal(collect(&files, true, "d", NULL), MLC_E_INVALID);
        assert_int_equal(unlink("d/s/up"), 0);
        assert_int_equal(symlink("loop", "d/loop"), 0);
        assert_int_equal(collect(&files, true, "d", NULL), MLC_E_INVALID);
        assert_int_equal(unlink("d/loop"), 0);
        /* a file that is named is held to the working directory */
        assert_int_equal(symlink("/etc/passwd", "named"), 0);
        assert_int_equal(collect(&files, false, "named", NULL), MLC_E_INVALID);
        expect("named", NULL, true, "named");
}

static void test_layers(void **state)
{
        _cleanup_(mlc_files_done) struct mlc_files files = {0};
        _cleanup_(mlc_plan_done) struct mlc_plan few = {0}, many = {0};
        struct mlc_err err = {0};
        uint64_t total = 0;
        char path[64];

        (void)state;
        put("d/README.md", 10);
        put("d/model.yaml", 10);
        for (int i = 0; i < MLC_PUSH_TAR_FILES - 2; i++) {
                (void)snprintf(path, sizeof(path), "d/part/%04d", i);
                put(path, 900u << 10);
        }
        assert_int_equal(collect(&files, false, "d", NULL), 0);
        assert_int_equal(mlc_plan_layers(&files, &few, &err), 0);
        assert_int_equal(few.n, MLC_PUSH_TAR_FILES);
        mlc_files_done(&files);
        put("d/zzz/big", MLC_PUSH_TAR_FILE_MAX);
        put("d/zzz/small", MLC_PUSH_TAR_FILE_MAX - 1);
        assert_int_equal(collect(&files, false, "d", NULL), 0);
        assert_int_equal(mlc_plan_layers(&files, &many, &err), 0);
        for (size_t i = 0; i < many.n; i++) {
                const struct mlc_layer_plan *l = &many.layers[i];

                assert_true(!l->tar || l->size <= MLC_PUSH_TAR_MAX);
                assert_true(l->tar || l->n == 1);
                for (size_t k = 0; k < l->n; k++) {
                        assert_true(!l->tar || l->files[k]->size < MLC_PUSH_TAR_FILE_MAX);
                        assert_false(l->tar && strcmp(l->files[k]->path, "README.md") == 0);
                        assert_false(l->tar && strcmp(l->files[k]->path, "model.yaml") == 0);
                }
                if (l->tar) { /* the size that was planned is the size that is written */
                        struct mlc_archive_file *a = calloc(l->n, sizeof(*a));
                        uint64_t size;

                        assert_non_null(a);
                        for (size_t k = 0; k < l->n; k++)
                                a[k] = (struct mlc_archive_file){.path = l->files[k]->path,
                                                                 .size = l->files[k]->size,
                                                                 .fd = -1};
                        assert_int_equal(mlc_archive_size(a, l->n, &size, &err), 0);
                        assert_int_equal(size, l->size);
                        free(a);
                }
                total += l->n;
        }
        assert_int_equal(total, files.n);
        assert_int_equal(many.n, 2 + 1 + 7); /* card and model.yaml, the big one, 7 archives */
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
                cmocka_unit_test_setup_teardown(test_refusals, setup, teardown),
                cmocka_unit_test_setup_teardown(test_links, setup, teardown),
                cmocka_unit_test_setup_teardown(test_layers, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
