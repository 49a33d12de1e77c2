/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#define TAR_MAX ((size_t)8 << 20)

struct mem {
        const char *data;
        size_t len, at;
};

static int mem_read(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        struct mem *m = userdata;
        size_t n = len < m->len - m->at ? len : m->len - m->at;

        (void)err;
        memcpy(buf, m->data + m->at, n);
        m->at += n;
        *ret_len = n;
        return 0;
}

static int str_write(void *userdata, const void *buf, size_t len, struct mlc_err *err)
{
        mlc_str_addn(userdata, buf, len);
        return mlc_str_check(userdata, err);
}

/* One header block and its content, as any tar would write them; everything can be lied about. */
static void add_entry(struct mlc_str *s, const char *name, char type, const char *link,
                      const char *data)
{
        unsigned char h[512] = {0};
        unsigned sum = 0;
        size_t len = strlen(data);

        memcpy(h, name, strlen(name));
        memcpy(h + 100, "0000755", 8);
        memcpy(h + 108, "0000000", 8);
        memcpy(h + 116, "0000000", 8);
        (void)snprintf((char *)h + 124, 12, "%011zo", len);
        memcpy(h + 136, "00000000000", 12);
        memset(h + 148, ' ', 8);
        h[156] = (unsigned char)type;
        memcpy(h + 157, link, strlen(link));
        memcpy(h + 257, "ustar\00000", 8);
        for (size_t i = 0; i < sizeof(h); i++)
                sum += h[i];
        (void)snprintf((char *)h + 148, 8, "%06o", sum);
        mlc_str_addn(s, h, sizeof(h));
        mlc_str_add(s, data);
        while (s->len % 512 != 0)
                mlc_str_addc(s, '\0');
}

static void add_end(struct mlc_str *s)
{
        for (int i = 0; i < 1024; i++)
                mlc_str_addc(s, '\0');
}

/* Reads everything; returns the code, and the number of entries seen before the fault. */
static int walk(const char *data, size_t len, const struct mlc_archive_limits *limits, int *ret_n,
                struct mlc_err *err)
{
        struct mem m = {.data = data, .len = len};
        struct mlc_archive_source source = {.read = mem_read, .userdata = &m};
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = NULL;
        struct mlc_archive_item item;
        char buf[1000];
        size_t n;
        bool more;
        int r;

        *ret_n = 0;
        r = mlc_archive_open(&source, limits, &ar, err);
        if (r < 0)
                return r;
        for (;;) {
                uint64_t total = 0;

                r = mlc_archive_next(ar, &item, &more, err);
                if (r < 0 || !more)
                        return r;
                (*ret_n)++;
                do {
                        r = mlc_archive_read(ar, buf, sizeof(buf), &n, err);
                        if (r < 0)
                                return r;
                        total += n;
                } while (n > 0);
                assert_int_equal(total, item.size);
        }
}

static int temp_fd(const char *text)
{
        FILE *f = tmpfile();
        int fd;

        assert_non_null(f);
        (void)fputs(text, f);
        (void)fflush(f);
        fd = dup(fileno(f));
        (void)fclose(f);
        return fd;
}

static void write_two(struct mlc_str *out, bool swapped)
{
        static char long_path[300];
        _cleanup_(close_fd) int a = temp_fd("alpha"), b = temp_fd("");
        struct mlc_archive_file files[] = {
                {.path = "b/run.sh", .fd = a, .size = 5, .executable = true},
                {.path = "a.txt", .fd = b, .size = 0},
                {.path = "caf\xc3\xa9", .fd = a, .size = 5},
                {.path = long_path, .fd = a, .size = 5},
        };
        struct mlc_archive_sink sink = {.write = str_write, .userdata = out};
        struct mlc_err err = {0};
        uint64_t size;

        memset(long_path, 'x', 250);
        long_path[100] = '/';
        long_path[149] = '/';
        if (swapped) {
                struct mlc_archive_file f = files[0];

                files[0] = files[3];
                files[3] = f;
        }
        assert_int_equal(mlc_archive_write(files, 4, &sink, &err), 0);
        assert_int_equal(mlc_archive_size(files, 4, &size, &err), 0);
        assert_int_equal(size, out->len);
}

static void same_input_same_bytes(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str one = {0}, two = {0};

        (void)state;
        mlc_str_init(&one, TAR_MAX);
        mlc_str_init(&two, TAR_MAX);
        write_two(&one, false);
        write_two(&two, true);
        assert_int_equal(one.len, two.len);
        assert_memory_equal(one.data, two.data, one.len);
        assert_string_equal(one.data, "a.txt");
        assert_string_equal(one.data + 100, "0000644");
        assert_string_equal(one.data + 136, "00000000000");
        assert_string_equal(one.data + 512, "b/run.sh");
        assert_string_equal(one.data + 512 + 100, "0000755");
}

/* GNU tar as an independent reader. */
static void stock_tar_reads_it(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str out = {0};
        _cleanup_(close_fd) int fd = -1;
        char path[] = "/tmp/mlc-archive-XXXXXX", cmd[200], line[512];
        struct mlc_err err = {0};
        int lines = 0;
        FILE *p;

        (void)state;
        mlc_str_init(&out, TAR_MAX);
        write_two(&out, false);
        fd = mkstemp(path);
        assert_true(fd >= 0);
        assert_int_equal(mlc_write_full(fd, out.data, out.len, &err), 0);
        (void)snprintf(cmd, sizeof(cmd), "LC_ALL=C.UTF-8 tar -tvf %s --numeric-owner 2>&1", path);
        p = popen(cmd, "r");
        assert_non_null(p);
        while (fgets(line, sizeof(line), p) != NULL) {
                assert_true(strncmp(line, lines == 1 ? "-rwxr-xr-x" : "-rw-r--r--", 10) == 0);
                assert_non_null(strstr(line, " 0/0 "));
                assert_non_null(strstr(line, "1970-01-01"));
                lines++;
        }
        assert_int_equal(pclose(p), 0);
        assert_int_equal(lines, 4);
        (void)unlink(path);
}

static void reads_back_what_it_wrote(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str out = {0};
        struct mlc_err err = {0};
        int n;

        (void)state;
        mlc_str_init(&out, TAR_MAX);
        write_two(&out, false);
        assert_int_equal(walk(out.data, out.len, NULL, &n, &err), 0);
        assert_int_equal(n, 4);
        for (size_t len = 1; len < out.len - 1024; len += 97) { /* cut anywhere: refused */
                mlc_err_clear(&err);
                if (walk(out.data, len, NULL, &n, &err) == 0)
                        assert_true(len % 512 == 0 && n < 4); /* between entries only */
        }
}

static void refuses_wrong_sizes_and_twins(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str out = {0};
        _cleanup_(close_fd) int a = temp_fd("alpha");
        struct mlc_archive_file f[2] = {{.path = "a", .fd = a, .size = 4},
                                        {.path = "a", .fd = a, .size = 5}};
        struct mlc_archive_sink sink = {.write = str_write, .userdata = &out};
        struct mlc_err err = {0};

        (void)state;
        mlc_str_init(&out, TAR_MAX);
        assert_int_equal(mlc_archive_write(f, 1, &sink, &err), MLC_E_CONFLICT);
        assert_non_null(strstr(err.msg, "longer"));
        mlc_err_clear(&err);
        f[0].size = 6;
        assert_int_equal(mlc_archive_write(f, 1, &sink, &err), MLC_E_CONFLICT);
        assert_non_null(strstr(err.msg, "shorter"));
        mlc_err_clear(&err);
        f[0].size = 5;
        assert_int_equal(mlc_archive_write(f, 2, &sink, &err), MLC_E_INVALID);
        assert_non_null(strstr(err.msg, "twice"));
        mlc_err_clear(&err);
        f[0].path = "../a";
        assert_int_equal(mlc_archive_write(f, 1, &sink, &err), MLC_E_INVALID);
}

static void refuses_hostile_entries(void **state)
{
        static const struct {
                const char *first, *name;
                char type;
                const char *link, *reason;
        } BAD[] = {
                {NULL, "/etc/passwd", '0', "", "absolute"},
                {NULL, "../x", '0', "", "'..'"},
                {NULL, "a/../../x", '0', "", "'..'"},
                {NULL, "./x", '0', "", "'.'"},
                {NULL, "a//x", '0', "", "empty component"},
                {NULL, "a\\x", '0', "", "backslash"},
                {NULL, "a\nx", '0', "", "control"},
                {NULL, "a\xffx", '0', "", "UTF-8"},
                {NULL, "l", '2', "/etc", "link"},
                {"a", "l", '1', "a", "link"},
                {NULL, "l", '1', "/etc/passwd", "link"},
                {NULL, "c", '3', "", "device"},
                {NULL, "b", '4', "", "device"},
                {NULL, "p", '6', "", "pipe"},
                {"a", "a", '0', "", "twice"},
                {"Model.bin", "model.BIN", '0', "", "case"},
                {"caf\xc3\xa9", "CAF\xc3\x89", '0', "", "case"},
                {"Dir/a", "dir/b", '0', "", "case"},
                {"a", "a/b", '0', "", "file and a folder"},
                {"a/b", "a", '0', "", "file and a folder"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
                _cleanup_(mlc_str_done) struct mlc_str s = {0};
                struct mlc_err err = {0};
                int n;

                mlc_str_init(&s, TAR_MAX);
                if (BAD[i].first != NULL)
                        add_entry(&s, BAD[i].first, '0', "", "x");
                add_entry(&s, BAD[i].name, BAD[i].type, BAD[i].link, "");
                add_end(&s);
                assert_int_equal(walk(s.data, s.len, NULL, &n, &err), MLC_E_INVALID);
                if (strstr(err.msg, BAD[i].reason) == NULL)
                        fail_msg("row %zu: %s", i, err.msg);
                assert_int_equal(n, BAD[i].first != NULL);
        }
}

/* GNU sparse 1.0 in pax clothing: a hole that would become a terabyte. */
static void refuses_sparse_files(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str s = {0};
        struct mlc_err err = {0};
        int n;

        (void)state;
        mlc_str_init(&s, TAR_MAX);
        add_entry(&s, "h", 'x', "",
                  "22 GNU.sparse.major=1\n22 GNU.sparse.minor=0\n24 GNU.sparse.name=file\n"
                  "31 GNU.sparse.realsize=1000000\n");
        add_entry(&s, "GNUSparseFile.0/file", '0', "", "1\n0\n1\n");
        add_end(&s);
        assert_true(walk(s.data, s.len, NULL, &n, &err) < 0);
        assert_int_equal(n, 0);
}

static void a_folder_may_follow_its_content(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str s = {0};
        struct mlc_err err = {0};
        int n;

        (void)state;
        mlc_str_init(&s, TAR_MAX);
        add_entry(&s, "d/a", '0', "", "x");
        add_entry(&s, "d/", '5', "", "");
        add_entry(&s, "d/b", '0', "", "y");
        add_end(&s);
        assert_int_equal(walk(s.data, s.len, NULL, &n, &err), 0);
        assert_int_equal(n, 3);
}

static void holds_its_limits(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str s = {0};
        struct mlc_archive_limits two = {.entries = 2}, five = {.bytes = 5}, six = {.bytes = 6};
        struct mlc_err err = {0};
        int n;

        (void)state;
        mlc_str_init(&s, TAR_MAX);
        add_entry(&s, "a", '0', "", "xx");
        add_entry(&s, "b", '0', "", "xx");
        add_entry(&s, "c", '0', "", "xx");
        add_end(&s);
        assert_int_equal(walk(s.data, s.len, &two, &n, &err), MLC_E_LIMIT);
        assert_int_equal(n, 2);
        mlc_err_clear(&err);
        assert_int_equal(walk(s.data, s.len, &five, &n, &err), MLC_E_LIMIT);
        mlc_err_clear(&err);
        assert_int_equal(walk(s.data, s.len, &six, &n, &err), 0);
}

/* 4 MiB of zeros, packed by `tool` to a few KiB. */
static void bomb(const char *tool, struct mlc_str *ret)
{
        char cmd[200], buf[4096];
        size_t n;
        FILE *p;

        (void)snprintf(cmd, sizeof(cmd),
                       "d=$(mktemp -d) && head -c 4194304 /dev/zero >$d/zeros && "
                       "tar -C $d -cf - zeros | %s -9 -c; rm -r $d",
                       tool);
        p = popen(cmd, "r");
        assert_non_null(p);
        while ((n = fread(buf, 1, sizeof(buf), p)) > 0)
                mlc_str_addn(ret, buf, n);
        (void)pclose(p);
        assert_true(ret->len > 50 && ret->len < 100000);
}

static void refuses_bombs(void **state)
{
        static const char *const TOOLS[] = {"gzip", "zstd -q"};
        struct mlc_archive_limits lax = {.ratio = 1000000};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(TOOLS); i++) {
                _cleanup_(mlc_str_done) struct mlc_str s = {0};
                struct mlc_err err = {0};
                int n;

                if (i == 1 && system("command -v zstd >/dev/null") != 0)
                        continue;
                mlc_str_init(&s, TAR_MAX);
                bomb(TOOLS[i], &s);
                assert_int_equal(walk(s.data, s.len, NULL, &n, &err), MLC_E_LIMIT);
                assert_non_null(strstr(err.msg, "times its size"));
                mlc_err_clear(&err);
                assert_int_equal(walk(s.data, s.len, &lax, &n, &err), 0);
                assert_int_equal(n, 1);
        }
}

static int extract(const struct mlc_str *s, int root, struct mlc_err *err)
{
        struct mem m = {.data = s->data, .len = s->len};
        struct mlc_archive_source source = {.read = mem_read, .userdata = &m};
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = NULL;
        int r = mlc_archive_open(&source, NULL, &ar, err);

        return r < 0 ? r : mlc_archive_extract(ar, root, err);
}

static void extracts_below_the_root_only(void **state)
{
        _cleanup_(mlc_str_done) struct mlc_str s = {0};
        _cleanup_(close_fd) int root = -1;
        char dir[] = "/tmp/mlc-extract-XXXXXX", outside[] = "/tmp/mlc-outside-XXXXXX", cmd[100];
        struct mlc_err err = {0};
        struct stat st;

        (void)state;
        assert_non_null(mkdtemp(dir));
        assert_non_null(mkdtemp(outside));
        root = open(dir, O_RDONLY | O_DIRECTORY);
        mlc_str_init(&s, TAR_MAX);
        add_entry(&s, "d/e/f", '0', "", "hello");
        add_entry(&s, "empty/", '5', "", "");
        add_end(&s);
        assert_int_equal(extract(&s, root, &err), 0);
        assert_int_equal(fstatat(root, "d/e/f", &st, 0), 0);
        assert_int_equal(st.st_size, 5);
        assert_int_equal(fstatat(root, "empty", &st, 0), 0);
        assert_true(S_ISDIR(st.st_mode));

        assert_int_equal(extract(&s, root, &err), MLC_E_CONFLICT); /* never over a file */

        mlc_err_clear(&err);
        mlc_str_reset(&s);
        assert_int_equal(symlinkat(outside, root, "trap"), 0);
        add_entry(&s, "trap/f", '0', "", "hello");
        add_end(&s);
        assert_int_equal(extract(&s, root, &err), MLC_E_CONFLICT); /* never through a link */
        (void)snprintf(cmd, sizeof(cmd), "%s/f", outside);
        assert_int_equal(stat(cmd, &st), -1);

        mlc_err_clear(&err);
        mlc_str_reset(&s);
        assert_int_equal(symlinkat(cmd, root, "file"), 0);
        add_entry(&s, "file", '0', "", "hello");
        add_end(&s);
        assert_int_equal(extract(&s, root, &err), MLC_E_CONFLICT);
        assert_int_equal(stat(cmd, &st), -1);
        (void)snprintf(cmd, sizeof(cmd), "rm -r %s %s", dir, outside);
        assert_int_equal(system(cmd), 0);
}

static int broken_read(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        (void)userdata;
        (void)buf;
        (void)len;
        (void)ret_len;
        return mlc_fail(err, MLC_E_UNREACHABLE, "cable cut");
}

static void hands_on_the_error_of_the_source(void **state)
{
        struct mlc_archive_source source = {.read = broken_read};
        struct mlc_archive *ar = NULL;
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_archive_open(&source, NULL, &ar, &err), MLC_E_UNREACHABLE);
        assert_string_equal(err.msg, "cable cut");
        assert_null(ar);
}

static void garbage_is_not_an_archive(void **state)
{
        struct mlc_err err = {0};
        char junk[2048];
        int n;

        (void)state;
        memset(junk, 'j', sizeof(junk));
        assert_int_equal(walk(junk, sizeof(junk), NULL, &n, &err), MLC_E_INVALID);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(same_input_same_bytes),
                cmocka_unit_test(stock_tar_reads_it),
                cmocka_unit_test(reads_back_what_it_wrote),
                cmocka_unit_test(refuses_wrong_sizes_and_twins),
                cmocka_unit_test(refuses_hostile_entries),
                cmocka_unit_test(refuses_sparse_files),
                cmocka_unit_test(a_folder_may_follow_its_content),
                cmocka_unit_test(holds_its_limits),
                cmocka_unit_test(refuses_bombs),
                cmocka_unit_test(extracts_below_the_root_only),
                cmocka_unit_test(hands_on_the_error_of_the_source),
                cmocka_unit_test(garbage_is_not_an_archive),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
