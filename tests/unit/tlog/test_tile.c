/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "crypto/note.h"
#include "tlog/proof.h"
#include "tlog/source.h"
#include "unit/tlog/memlog.h"

#define SIZE_MAX_TESTED 1100

/* MTH as RFC 6962 defines it. */
static void naive(const struct mlc_digest *h, size_t n, struct mlc_digest *ret)
{
        struct mlc_digest left, right;
        size_t k = 1;

        if (n == 0) {
                mlc_merkle_empty_root(ret);
                return;
        }
        if (n == 1) {
                *ret = h[0];
                return;
        }
        while (k * 2 < n)
                k *= 2;
        naive(h, k, &left);
        naive(h + k, n - k, &right);
        mlc_merkle_node(&left, &right, ret);
}

static void entry_of(uint64_t i, char ret[32])
{
        (void)snprintf(ret, 32, "entry %llu", (unsigned long long)i);
}

static void leaf_of(uint64_t i, struct mlc_digest *ret)
{
        char e[32];

        entry_of(i, e);
        mlc_merkle_leaf(e, strlen(e), ret);
}

static void paths_are_canonical(void **state)
{
        static const struct {
                struct mlc_tile t;
                const char *path;
        } good[] = {
                {{0, 0, 256}, "tile/0/000"},
                {{0, 7, 256}, "tile/0/007"},
                {{1, 999, 3}, "tile/1/999.p/3"},
                {{0, 1000, 256}, "tile/0/x001/000"},
                {{63, 1234067, 255}, "tile/63/x001/x234/067.p/255"},
                {{MLC_TILE_ENTRIES, 1234067, 1}, "tile/entries/x001/x234/067.p/1"},
        };
        static const char *const bad[] = {
                "",
                "tile",
                "tile/",
                "tile/0/",
                "tile/0/0",
                "tile/0/00",
                "tile/0/0000",
                "tile/00/000",
                "tile/01/000",
                "tile/64/000",
                "tile/-1/000",
                "tile/0/x000/001",
                "tile/0/x001",
                "tile/0/x1/000",
                "tile/0/001/000",
                "tile/0/x001/x000",
                "tile/0/000.p",
                "tile/0/000.p/",
                "tile/0/000.p/0",
                "tile/0/000.p/01",
                "tile/0/000.p/256",
                "tile/0/000.p/1/",
                "tile/0/000/",
                "tile/0/000 ",
                "tile/0/../000",
                "tile/0/x999/x999/x999/x999/x999/x999/999",
                "tile/0/x100/x000/x000/x000/x000/000",
                "tile/data/000",
                "tile/entriesx/000",
                "/tile/0/000",
                NULL,
        };
        char path[MLC_TILE_PATH_MAX];
        struct mlc_err err = {0};
        struct mlc_tile t;

        (void)state;
        for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
                mlc_tile_path(&good[i].t, path);
                assert_string_equal(path, good[i].path);
                assert_int_equal(mlc_tile_parse(path, &t, &err), 0);
                assert_int_equal(t.level, good[i].t.level);
                assert_int_equal(t.index, good[i].t.index);
                assert_int_equal(t.width, good[i].t.width);
        }
        for (size_t i = 0; bad[i] != NULL; i++) {
                mlc_err_clear(&err);
                if (mlc_tile_parse(bad[i], &t, &err) != MLC_E_INVALID)
                        fail_msg("accepted '%s'", bad[i]);
        }
}

static void widths_follow_the_size(void **state)
{
        (void)state;
        /* the worked example of the specification: 70,000 entries */
        assert_int_equal(mlc_tile_width(0, 272, 70000), 256);
        assert_int_equal(mlc_tile_width(0, 273, 70000), 112);
        assert_int_equal(mlc_tile_width(0, 274, 70000), 0);
        assert_int_equal(mlc_tile_width(1, 0, 70000), 256);
        assert_int_equal(mlc_tile_width(1, 1, 70000), 17);
        assert_int_equal(mlc_tile_width(2, 0, 70000), 1);
        assert_int_equal(mlc_tile_width(3, 0, 70000), 0);
        assert_int_equal(mlc_tile_width(MLC_TILE_ENTRIES, 273, 70000), 112);
        assert_int_equal(mlc_tile_width(0, 0, 256), 256);
        assert_int_equal(mlc_tile_width(1, 0, 256), 1);
        assert_int_equal(mlc_tile_width(0, 0, 0), 0);
        assert_int_equal(mlc_tile_width(63, 0, UINT64_MAX), 0);
        assert_int_equal(mlc_tile_width(0, UINT64_MAX, UINT64_MAX), 0);
}

static void roots_equal_the_definition_at_every_size(void **state)
{
        static struct mlc_digest leaves[SIZE_MAX_TESTED];
        struct memlog *m = memlog_new("example.org/log");
        struct mlc_digest want, got;
        struct mlc_err err = {0};

        (void)state;
        for (size_t n = 0; n <= SIZE_MAX_TESTED; n++) {
                naive(leaves, n, &want);
                mlc_tiler_root(&m->tiler, &got);
                assert_memory_equal(&got, &want, sizeof(got));
                if (n == SIZE_MAX_TESTED)
                        break;
                leaf_of(n, &leaves[n]);
                assert_int_equal(mlc_tiler_append(&m->tiler, &leaves[n], &err), 0);
        }
        memlog_free(m);
}

/* A few sizes around every boundary, all proofs out of the tiles alone. */
static void tiles_give_every_proof(void **state)
{
        static const uint64_t sizes[] = {1, 2, 3, 255, 256, 257, 511, 512, 513, 700, 1024, 1100};
        static struct mlc_digest leaves[SIZE_MAX_TESTED];
        struct memlog *m = memlog_new("example.org/log");
        struct mlc_tlog_hashes *h = calloc(1, sizeof(*h));
        struct mlc_err err = {0};
        char e[32];

        (void)state;
        assert_non_null(h);
        for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
                uint64_t n = sizes[s];
                struct mlc_merkle_source src;
                struct mlc_merkle_proof proof;
                struct mlc_merkle_inclusion in = {.size = n};
                struct mlc_merkle_consistency c = {.size2 = n};

                while (m->tiler.size < n) {
                        leaf_of(m->tiler.size, &leaves[m->tiler.size]);
                        entry_of(m->tiler.size, e);
                        memlog_add(m, e, strlen(e));
                }
                memlog_publish(m);
                memset(h, 0, sizeof(*h));
                h->src = memlog_source(m);
                h->size = n;
                src = mlc_tlog_merkle_source(h);
                naive(leaves, n, &in.root);
                c.root2 = in.root;
                for (uint64_t i = 0; i < n; i++) {
                        assert_int_equal(mlc_merkle_prove_inclusion(&src, i, n, &proof, &err), 0);
                        in.index = i;
                        in.leaf = leaves[i];
                        in.proof = proof.h;
                        in.n_proof = proof.n;
                        assert_int_equal(mlc_merkle_check_inclusion(&in, &err), 0);
                        naive(leaves, i + 1, &c.root1);
                        c.size1 = i + 1;
                        assert_int_equal(mlc_merkle_prove_consistency(&src, i + 1, n, &proof, &err),
                                         0);
                        c.proof = proof.h;
                        c.n_proof = proof.n;
                        assert_int_equal(mlc_merkle_check_consistency(&c, &err), 0);
                }
        }
        free(h);
        memlog_free(m);
}

static void a_tiler_loads_from_its_tiles(void **state)
{
        struct memlog *m = memlog_new("example.org/log");
        struct mlc_tiler *t = calloc(1, sizeof(*t));
        struct mlc_tlog_source src = memlog_source(m);
        struct mlc_digest a, b;
        struct mlc_err err = {0};
        char e[32];

        (void)state;
        assert_non_null(t);
        while (m->tiler.size < 70000) {
                entry_of(m->tiler.size, e);
                memlog_add(m, e, strlen(e));
        }
        memlog_publish(m);
        t->emit = memlog_emit;
        t->userdata = m;
        assert_int_equal(mlc_tlog_load_tiler(&src, 70000, 70000, t, &err), 0);
        mlc_tiler_root(t, &a);
        mlc_tiler_root(&m->tiler, &b);
        assert_memory_equal(&a, &b, sizeof(a));
        leaf_of(70000, &a);
        assert_int_equal(mlc_tiler_append(t, &a, &err), 0);
        assert_int_equal(mlc_tiler_append(&m->tiler, &a, &err), 0);
        mlc_tiler_root(t, &a);
        mlc_tiler_root(&m->tiler, &b);
        assert_memory_equal(&a, &b, sizeof(a));
        memset(t, 0, sizeof(*t));
        t->emit = memlog_emit;
        assert_int_equal(mlc_tlog_load_tiler(&src, 70001, 70001, t, &err), MLC_E_NOT_FOUND);
        /* an earlier size, out of the same files */
        mlc_err_clear(&err);
        memset(t, 0, sizeof(*t));
        t->emit = memlog_emit;
        t->userdata = m;
        assert_int_equal(mlc_tlog_load_tiler(&src, 70000, 69905, t, &err), 0);
        for (uint64_t i = 69905; i < 70001; i++) {
                leaf_of(i, &a);
                assert_int_equal(mlc_tiler_append(t, &a, &err), 0);
        }
        mlc_tiler_root(t, &a);
        assert_memory_equal(&a, &b, sizeof(a));
        free(t);
        memlog_free(m);
}

static void bundles_are_strict(void **state)
{
        static const struct {
                const char *bytes;
                size_t len;
        } bad[] = {{"\0", 1}, {"\0\1", 2}, {"\0\2a", 3}, {"\0\1ab", 4}, {"\xff\xff", 2}};
        static char big[MLC_ENTRY_MAX + 1];
        struct mlc_bundle *b = calloc(1, sizeof(*b));
        struct mlc_str s;
        struct mlc_err err = {0};

        (void)state;
        assert_non_null(b);
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                mlc_err_clear(&err);
                assert_int_equal(mlc_bundle_parse(bad[i].bytes, bad[i].len, b, &err),
                                 MLC_E_INVALID);
        }
        mlc_err_clear(&err);
        mlc_str_init(&s, MLC_BUNDLE_MAX);
        assert_int_equal(mlc_bundle_add(&s, big, sizeof(big), &err), MLC_E_LIMIT);
        assert_int_equal(s.len, 0);
        mlc_err_clear(&err);
        for (int i = 0; i < 256; i++)
                assert_int_equal(mlc_bundle_add(&s, big, i == 7 ? MLC_ENTRY_MAX : 0, &err), 0);
        assert_int_equal(mlc_bundle_parse(s.data, s.len, b, &err), 0);
        assert_int_equal(b->n, 256);
        assert_int_equal(b->entry[7].len, MLC_ENTRY_MAX);
        assert_int_equal(b->entry[8].len, 0);
        assert_int_equal(mlc_bundle_add(&s, "x", 1, &err), 0);
        assert_int_equal(mlc_bundle_parse(s.data, s.len, b, &err), MLC_E_INVALID);
        mlc_str_done(&s);
        free(b);
}

static void proofs_travel_as_text(void **state)
{
        struct memlog *m = memlog_new("example.org/log");
        struct mlc_tlog_hashes *h = calloc(1, sizeof(*h));
        struct mlc_merkle_source src;
        struct mlc_tlog_proof p = {.index = 300}, q;
        struct mlc_vkeys keys = {&m->vkey, 1};
        struct mlc_checkpoint cp;
        struct mlc_digest leaf;
        struct mlc_str text;
        struct mlc_err err = {0};
        struct memfile *note;
        char e[32];

        (void)state;
        assert_non_null(h);
        for (uint64_t i = 0; i < 600; i++) {
                entry_of(i, e);
                memlog_add(m, e, strlen(e));
        }
        memlog_publish(m);
        h->src = memlog_source(m);
        h->size = 600;
        src = mlc_tlog_merkle_source(h);
        note = mlc_map_get(&m->files, "checkpoint");
        p.checkpoint = note->data;
        p.checkpoint_len = note->len;
        assert_int_equal(mlc_merkle_prove_inclusion(&src, 300, 600, &p.path, &err), 0);
        mlc_str_init(&text, 1 << 16);
        mlc_tlog_proof_format(&p, &text);
        assert_int_equal(mlc_tlog_proof_parse(text.data, text.len, &q, &err), 0);
        leaf_of(300, &leaf);
        assert_int_equal(mlc_tlog_proof_verify(&q, &leaf, &keys, &cp, &err), 0);
        assert_int_equal(cp.size, 600);
        leaf_of(301, &leaf);
        assert_int_equal(mlc_tlog_proof_verify(&q, &leaf, &keys, &cp, &err), MLC_E_VERIFY);
        /* any byte: it does not parse, or does not verify; extra lines and unknown signatures aside
         */
        leaf_of(300, &leaf);
        for (size_t i = 0; i < text.len; i++) {
                mlc_err_clear(&err);
                text.data[i] ^= 1;
                if (mlc_tlog_proof_parse(text.data, text.len, &q, &err) == 0)
                        assert_true(mlc_tlog_proof_verify(&q, &leaf, &keys, &cp, &err) < 0);
                text.data[i] ^= 1;
        }
        for (size_t i = 0; i < text.len - note->len; i++) {
                mlc_err_clear(&err);
                assert_int_equal(mlc_tlog_proof_parse(text.data, i, &q, &err), MLC_E_INVALID);
        }
        mlc_str_done(&text);
        free(h);
        memlog_free(m);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(paths_are_canonical),
                cmocka_unit_test(widths_follow_the_size),
                cmocka_unit_test(roots_equal_the_definition_at_every_size),
                cmocka_unit_test(tiles_give_every_proof),
                cmocka_unit_test(a_tiler_loads_from_its_tiles),
                cmocka_unit_test(bundles_are_strict),
                cmocka_unit_test(proofs_travel_as_text),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
