/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tlog/verify.h"
#include "unit/tlog/memlog.h"

static struct memlog *log_of(uint64_t n)
{
        struct memlog *m = memlog_new("example.org/log");
        char e[32];

        for (uint64_t i = 0; i < n; i++) {
                (void)snprintf(e, sizeof(e), "entry %llu", (unsigned long long)i);
                memlog_add(m, e, strlen(e));
        }
        memlog_publish(m);
        return m;
}

static int verify(struct memlog *m, struct mlc_tlog_finding *f)
{
        struct mlc_tlog_verify v = {.src = memlog_source(m), .keys = {&m->vkey, 1}};
        struct mlc_checkpoint cp;
        struct mlc_err err = {0};
        int r = mlc_tlog_verify(&v, &cp, f, &err);

        assert_int_equal(r, err.code);
        return r;
}

static void a_good_log_passes_at_every_size(void **state)
{
        static const uint64_t sizes[] = {0, 1, 2, 255, 256, 257, 512, 65535, 65536, 65537, 66000};
        struct mlc_tlog_finding f;

        (void)state;
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                struct memlog *m = log_of(sizes[i]);

                assert_int_equal(verify(m, &f), 0);
                memlog_free(m);
        }
}

/* Every byte of every file of a log of 600 entries, with the index that has to be named. */
static void any_flipped_byte_is_found(void **state)
{
        struct memlog *m = log_of(600);
        struct mlc_tlog_finding f;
        struct mlc_tile t;
        struct mlc_err err = {0};
        const char *path;
        size_t pos = 0;
        void *value;

        (void)state;
        while (mlc_map_next(&m->files, &pos, &path, &value)) {
                struct memfile *file = value;
                bool tile = mlc_tile_parse(path, &t, &err) == 0;

                mlc_err_clear(&err);
                for (size_t i = 0; i < file->len; i += tile ? 61 : 1) {
                        file->data[i] ^= 4;
                        if (verify(m, &f) != MLC_E_VERIFY)
                                fail_msg("%s: byte %zu", path, i);
                        file->data[i] ^= 4;
                        if (tile && t.level == 0)
                                assert_int_equal(f.index, t.index * 256 + i / 32);
                        if (tile && t.level == 1)
                                assert_int_equal(f.index, i / 32 * 256);
                        if (tile && t.level == MLC_TILE_ENTRIES)
                                assert_true(f.index >= t.index * 256 &&
                                            f.index < t.index * 256 + t.width);
                }
        }
        assert_int_equal(verify(m, &f), 0);
        memlog_free(m);
}

static void missing_and_cut_files_are_found(void **state)
{
        static const struct {
                const char *path;
                uint64_t index;
        } cases[] = {{"tile/0/001", 256},
                     {"tile/0/002.p/88", 512},
                     {"tile/1/000.p/2", 0},
                     {"tile/entries/000", 0},
                     {"tile/entries/002.p/88", 512}};
        struct memlog *m = log_of(600);
        struct mlc_tlog_finding f;

        (void)state;
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct memfile *file = mlc_map_remove(&m->files, cases[i].path);

                assert_non_null(file);
                assert_int_equal(verify(m, &f), MLC_E_VERIFY);
                assert_int_equal(f.index, cases[i].index);
                file->len--;
                (void)mlc_map_set(&m->files, cases[i].path, file);
                assert_int_equal(verify(m, &f), MLC_E_VERIFY);
                file->len++;
        }
        assert_int_equal(verify(m, &f), 0);
        memlog_free(m);
}

static void a_fork_and_a_cut_log_are_found(void **state)
{
        struct memlog *a = log_of(300), *b = log_of(500);
        struct mlc_checkpoint cp;
        struct mlc_tlog_mark mark = {.size = 300, .what = "the checkpoint seen last"};
        struct mlc_tlog_verify v = {.keys = {&b->vkey, 1}, .marks = &mark, .n_marks = 1};
        struct mlc_tlog_finding f;
        struct mlc_err err = {0};

        (void)state;
        mlc_tiler_root(&a->tiler, &mark.root);
        v.src = memlog_source(b);
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), 0);
        assert_int_equal(cp.size, 500);
        mark.root.b[0] ^= 1;
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), MLC_E_VERIFY);
        assert_non_null(strstr(f.what, "does not contain the checkpoint seen last"));
        mlc_err_clear(&err);
        mark.size = 501;
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), MLC_E_VERIFY);
        assert_non_null(strstr(f.what, "it was cut"));
        assert_int_equal(f.index, 500);
        mlc_err_clear(&err);
        /* the same name with another key */
        v.n_marks = 0;
        v.keys.keys = &a->vkey;
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), MLC_E_VERIFY);
        memlog_free(a);
        memlog_free(b);
}

struct rows {
        uint64_t bad, missing, seen;
        char leaf[32];
};

static int row(void *userdata, uint64_t index, struct mlc_tlog_row *ret, struct mlc_err *err)
{
        struct rows *r = userdata;

        if (index == r->missing)
                return mlc_fail(err, MLC_E_NOT_FOUND, "no row");
        (void)snprintf(r->leaf, sizeof(r->leaf), "entry %llu", (unsigned long long)index);
        mlc_merkle_leaf(r->leaf, strlen(r->leaf), &ret->hash);
        if (index == r->bad)
                r->leaf[0] = 'E';
        ret->leaf = r->leaf;
        ret->len = strlen(r->leaf);
        return 0;
}

static int leaf(void *userdata, uint64_t index, const struct mlc_tlog_row *entry,
                struct mlc_err *err)
{
        struct rows *r = userdata;

        (void)entry;
        r->seen++;
        return index == 77 && r->bad == 78 ? mlc_fail(err, MLC_E_VERIFY, "bad leaf") : 0;
}

static void rows_are_compared(void **state)
{
        struct memlog *m = log_of(400);
        struct rows r = {.bad = UINT64_MAX, .missing = UINT64_MAX};
        struct mlc_tlog_verify v = {.src = memlog_source(m), .keys = {&m->vkey, 1}};
        struct mlc_tlog_finding f;
        struct mlc_checkpoint cp;
        struct mlc_err err = {0};

        (void)state;
        v.row = row;
        v.rows_to = UINT64_MAX;
        v.leaf = leaf;
        v.userdata = &r;
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), 0);
        assert_int_equal(r.seen, 400);
        r.bad = 311;
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), MLC_E_VERIFY);
        assert_int_equal(f.index, 311);
        mlc_err_clear(&err);
        r.missing = 5;
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), MLC_E_VERIFY);
        assert_int_equal(f.index, 5);
        mlc_err_clear(&err);
        r = (struct rows){.bad = 78, .missing = UINT64_MAX};
        assert_int_equal(mlc_tlog_verify(&v, &cp, &f, &err), MLC_E_VERIFY);
        assert_int_equal(f.index, 77);
        memlog_free(m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_good_log_passes_at_every_size),
                cmocka_unit_test(any_flipped_byte_is_found),
                cmocka_unit_test(missing_and_cut_files_are_found),
                cmocka_unit_test(a_fork_and_a_cut_log_are_found),
                cmocka_unit_test(rows_are_compared),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
