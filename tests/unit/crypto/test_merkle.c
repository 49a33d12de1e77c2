/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "codec/hex.h"
#include "codec/json.h"
#include "crypto/merkle.h"
#include "support/vectors.h"

#define SIZE_MAX_TESTED 150

/* transparency-dev/merkle testonly/constants.go */
static const char *const LEAVES[][2] = {
        {"", "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
        {"00", "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"},
        {"10", "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"},
        {"2021", "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7"},
        {"3031", "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"},
        {"40414243", "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef"},
        {"5051525354555657", "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"},
        {"606162636465666768696a6b6c6d6e6f",
         "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"},
};

static void assert_hash(const struct mlc_digest *d, const char *want)
{
        char hex[65];

        mlc_hex_encode(d->b, sizeof(d->b), hex);
        assert_string_equal(hex, want);
}

static void hash_vectors(void **state)
{
        struct mlc_digest d, l, r;

        (void)state;
        mlc_merkle_empty_root(&d);
        assert_hash(&d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        mlc_merkle_leaf("L123456", 7, &d);
        assert_hash(&d, "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56");
        memset(&l, 0, sizeof(l));
        memset(&r, 0xff, sizeof(r));
        mlc_merkle_node(&l, &r, &d);
        mlc_merkle_node(&r, &l, &l);
        assert_false(mlc_digest_equal(&d, &l));
}

static void roots_by_size(void **state)
{
        struct mlc_merkle_frontier f = {0};
        struct mlc_digest d;

        (void)state;
        mlc_merkle_root(&f, &d);
        assert_hash(&d, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        for (size_t i = 0; i < ARRAY_LEN(LEAVES); i++) {
                unsigned char leaf[16];
                size_t n = strlen(LEAVES[i][0]) / 2;

                assert_true(mlc_hex_decode(LEAVES[i][0], leaf, n));
                mlc_merkle_leaf(leaf, n, &d);
                mlc_merkle_append(&f, &d);
                mlc_merkle_root(&f, &d);
                assert_hash(&d, LEAVES[i][1]);
        }
}

static void nth_leaf(uint64_t i, struct mlc_digest *ret)
{
        mlc_merkle_leaf(&i, sizeof(i), ret);
}

/* The definition, word for word. */
static void naive(uint64_t begin, uint64_t end, struct mlc_digest *ret)
{
        struct mlc_digest l, r;
        uint64_t k = 1;

        if (begin == end) {
                mlc_merkle_empty_root(ret);
                return;
        }
        if (end - begin == 1) {
                nth_leaf(begin, ret);
                return;
        }
        while (2 * k < end - begin)
                k *= 2;
        naive(begin, begin + k, &l);
        naive(begin + k, end, &r);
        mlc_merkle_node(&l, &r, ret);
}

struct source {
        uint64_t size; /* what lies beyond must not be asked for */
        struct mlc_digest *level[12];
};

static int get(void *userdata, unsigned level, uint64_t index, struct mlc_digest *ret,
               struct mlc_err *err)
{
        const struct source *s = userdata;

        if (level >= 12 || (index + 1) << level > s->size)
                return mlc_fail(err, MLC_E_INTERNAL, "asked for level %u index %llu of size %llu",
                                level, (unsigned long long)index, (unsigned long long)s->size);
        *ret = s->level[level][index];
        return 0;
}

static void source_make(struct source *s, uint64_t n)
{
        s->size = n;
        for (unsigned l = 0; l < 12; l++) {
                s->level[l] = calloc((n >> l) + 1, sizeof(struct mlc_digest));
                assert_non_null(s->level[l]);
                for (uint64_t i = 0; i < n >> l; i++) {
                        if (l == 0)
                                nth_leaf(i, &s->level[0][i]);
                        else
                                mlc_merkle_node(&s->level[l - 1][2 * i],
                                                &s->level[l - 1][2 * i + 1], &s->level[l][i]);
                }
        }
}

static void source_free(struct source *s)
{
        for (unsigned l = 0; l < 12; l++)
                free(s->level[l]);
}

static void inclusion_of_all(struct source *s, uint64_t size, const struct mlc_digest *root)
{
        struct mlc_merkle_source src = {.get = get, .userdata = s};
        struct mlc_err err = {0};

        for (uint64_t i = 0; i < size; i++) {
                struct mlc_merkle_proof p;
                struct mlc_merkle_inclusion c = {.index = i, .size = size, .root = *root};

                if (mlc_merkle_prove_inclusion(&src, i, size, &p, &err) < 0)
                        fail_msg("%s", err.msg);
                nth_leaf(i, &c.leaf);
                c.proof = p.h;
                c.n_proof = p.n;
                assert_int_equal(mlc_merkle_check_inclusion(&c, &err), 0);
                c.leaf.b[0] ^= 1;
                assert_int_equal(mlc_merkle_check_inclusion(&c, &err), MLC_E_VERIFY);
                mlc_err_clear(&err);
        }
}

static void consistency_of_all(struct source *s, const struct mlc_digest *roots, uint64_t size)
{
        struct mlc_merkle_source src = {.get = get, .userdata = s};
        struct mlc_err err = {0};

        for (uint64_t m = 1; m <= size; m++) {
                struct mlc_merkle_proof p;
                struct mlc_merkle_consistency c = {
                        .size1 = m, .size2 = size, .root1 = roots[m], .root2 = roots[size]};

                if (mlc_merkle_prove_consistency(&src, m, size, &p, &err) < 0)
                        fail_msg("%s", err.msg);
                c.proof = p.h;
                c.n_proof = p.n;
                assert_int_equal(mlc_merkle_check_consistency(&c, &err), 0);
                c.root1.b[31] ^= 1;
                assert_int_equal(mlc_merkle_check_consistency(&c, &err), MLC_E_VERIFY);
                mlc_err_clear(&err);
        }
}

static void proofs_against_the_definition(void **state)
{
        struct mlc_digest roots[SIZE_MAX_TESTED + 1], got;
        struct mlc_merkle_frontier f = {0};
        struct source s;
        struct mlc_merkle_source src = {.get = get, .userdata = &s};

        (void)state;
        source_make(&s, SIZE_MAX_TESTED);
        for (uint64_t n = 0; n <= SIZE_MAX_TESTED; n++) {
                struct mlc_err err = {0};

                s.size = n;
                naive(0, n, &roots[n]);
                mlc_merkle_root(&f, &got);
                assert_true(mlc_digest_equal(&got, &roots[n]));
                assert_int_equal(mlc_merkle_root_at(&src, n, &got, &err), 0);
                assert_true(mlc_digest_equal(&got, &roots[n]));
                inclusion_of_all(&s, n, &roots[n]);
                consistency_of_all(&s, roots, n);
                nth_leaf(n, &got);
                mlc_merkle_append(&f, &got);
        }
        s.size = SIZE_MAX_TESTED;
        source_free(&s);
}

static void proofs_have_bounds(void **state)
{
        struct source s = {0};
        struct mlc_merkle_source src = {.get = get, .userdata = &s};
        struct mlc_merkle_proof p = {.n = 77};
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_merkle_prove_inclusion(&src, 1, 1, &p, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_merkle_prove_inclusion(&src, 0, 0, &p, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_merkle_prove_consistency(&src, 0, 1, &p, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_merkle_prove_consistency(&src, 2, 1, &p, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_merkle_prove_inclusion(&src, 0, 2, &p, &err), MLC_E_INTERNAL);
        assert_int_equal(p.n, 77);
}

static void frontier_is_kept(void **state)
{
        unsigned char saved[MLC_MERKLE_FRONTIER_LEN_MAX];
        struct mlc_merkle_frontier f = {0}, g;
        struct mlc_digest a, b;

        (void)state;
        for (uint64_t n = 0; n < 70; n++) {
                struct mlc_err err = {0};
                size_t len = mlc_merkle_frontier_export(&f, saved);

                memset(&g, 0xaa, sizeof(g));
                assert_int_equal(mlc_merkle_frontier_import(saved, len, &g, &err), 0);
                assert_true(g.size == n);
                mlc_merkle_root(&f, &a);
                mlc_merkle_root(&g, &b);
                assert_true(mlc_digest_equal(&a, &b));
                assert_int_equal(mlc_merkle_frontier_import(saved, len - 1, &g, &err),
                                 MLC_E_INVALID);
                mlc_err_clear(&err);
                saved[0] |= 0x80;
                assert_int_equal(mlc_merkle_frontier_import(saved, len, &g, &err), MLC_E_INVALID);
                nth_leaf(n, &a);
                mlc_merkle_append(&f, &a);
        }
}

/* ---- the published corpus */

struct tally {
        unsigned agree, placeholder;
};
static struct tally tally;

static bool hash_member(const json_t *j, const char *key, struct mlc_digest *ret)
{
        const char *s = json_string_value(json_object_get(j, key));

        return s != NULL && mlc_base64_decode_exact(MLC_BASE64_STD, s, strlen(s), ret->b, 32);
}

static bool proof_member(const json_t *j, struct mlc_digest ret[80], size_t *ret_n)
{
        const json_t *a = json_object_get(j, "proof");
        size_t n = json_array_size(a);

        if (n > 80)
                return false;
        for (size_t i = 0; i < n; i++) {
                const char *s = json_string_value(json_array_get(a, i));

                if (!mlc_base64_decode_exact(MLC_BASE64_STD, s, strlen(s), ret[i].b, 32))
                        return false;
        }
        *ret_n = n;
        return true;
}

static uint64_t number(const json_t *j, const char *key)
{
        const json_t *v = json_object_get(j, key);

        assert_true(json_is_number(v));
        if (json_is_integer(v))
                return (uint64_t)json_integer_value(v);
        /* two cases hold 2^64 - 1, which only fits a real */
        return json_real_value(v) < 1e18 ? (uint64_t)json_real_value(v) : UINT64_MAX;
}

static bool case_holds(const json_t *j)
{
        struct mlc_digest proof[80];
        struct mlc_err err = {0};

        if (json_object_get(j, "leafIdx") != NULL) {
                struct mlc_merkle_inclusion c = {.index = number(j, "leafIdx"),
                                                 .size = number(j, "treeSize"),
                                                 .proof = proof};

                return hash_member(j, "root", &c.root) && hash_member(j, "leafHash", &c.leaf) &&
                       proof_member(j, proof, &c.n_proof) &&
                       mlc_merkle_check_inclusion(&c, &err) == 0;
        }
        {
                struct mlc_merkle_consistency c = {
                        .size1 = number(j, "size1"), .size2 = number(j, "size2"), .proof = proof};

                return hash_member(j, "root1", &c.root1) && hash_member(j, "root2", &c.root2) &&
                       proof_member(j, proof, &c.n_proof) &&
                       mlc_merkle_check_consistency(&c, &err) == 0;
        }
}

static void one_case(const char *path)
{
        json_error_t e;
        json_t *j = json_load_file(path, 0, &e);
        bool holds, want_err;

        if (j == NULL)
                j = json_load_file(path, JSON_DECODE_INT_AS_REAL, &e);
        assert_non_null(j);
        want_err = json_is_true(json_object_get(j, "wantErr"));
        holds = case_holds(j);
        json_decref(j);
        if (strstr(path, "sizes-are-equal-one-and-proof-is-empty") != NULL) {
                assert_false(holds); /* its roots are no hashes, but 12 bytes of text */
                tally.placeholder++;
                return;
        }
        if (holds == want_err)
                fail_msg("%s: %s", path, holds ? "accepted" : "refused");
        tally.agree++;
}

static void published_corpus(void **state)
{
        char path[VECTOR_PATH_MAX];

        (void)state;
        vector_path(path, "merkle/inclusion");
        (void)vector_walk(path, one_case);
        vector_path(path, "merkle/consistency");
        (void)vector_walk(path, one_case);
        assert_int_equal(tally.agree, 195);
        assert_int_equal(tally.placeholder, 1);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(hash_vectors),
                cmocka_unit_test(roots_by_size),
                cmocka_unit_test(proofs_against_the_definition),
                cmocka_unit_test(proofs_have_bounds),
                cmocka_unit_test(frontier_is_kept),
                cmocka_unit_test(published_corpus),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
