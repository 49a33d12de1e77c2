/* SPDX-License-Identifier: Apache-2.0 */
#include "crypto/merkle.h"

#include <assert.h>
#include <string.h>

#include "crypto/hash.h"

void mlc_merkle_leaf(const void *data, size_t len, struct mlc_digest *ret)
{
        struct mlc_sha256 h;

        mlc_sha256_init(&h);
        mlc_sha256_update(&h, "\0", 1);
        mlc_sha256_update(&h, data, len);
        mlc_sha256_final(&h, ret);
}

void mlc_merkle_node(const struct mlc_digest *left, const struct mlc_digest *right,
                     struct mlc_digest *ret)
{
        unsigned char in[65];

        in[0] = 1;
        memcpy(in + 1, left->b, 32);
        memcpy(in + 33, right->b, 32);
        mlc_sha256(in, sizeof(in), ret);
}

void mlc_merkle_empty_root(struct mlc_digest *ret)
{
        mlc_sha256("", 0, ret);
}

void mlc_merkle_append(struct mlc_merkle_frontier *f, const struct mlc_digest *leaf)
{
        size_t n = mlc_merkle_frontier_peaks(f->size);
        struct mlc_digest h = *leaf;

        assert(f->size < INT64_MAX);
        /* each trailing one bit of the size is a subtree that the new one completes */
        for (uint64_t size = f->size; (size & 1) != 0; size >>= 1)
                mlc_merkle_node(&f->peak[--n], &h, &h);
        f->peak[n] = h;
        f->size++;
}

void mlc_merkle_root(const struct mlc_merkle_frontier *f, struct mlc_digest *ret)
{
        size_t n = mlc_merkle_frontier_peaks(f->size);
        struct mlc_digest h;

        if (n == 0) {
                mlc_merkle_empty_root(ret);
                return;
        }
        h = f->peak[--n];
        while (n > 0)
                mlc_merkle_node(&f->peak[--n], &h, &h);
        *ret = h;
}

size_t mlc_merkle_frontier_export(const struct mlc_merkle_frontier *f,
                                  unsigned char ret[MLC_MERKLE_FRONTIER_LEN_MAX])
{
        size_t n = mlc_merkle_frontier_peaks(f->size);

        for (unsigned i = 0; i < 8; i++)
                ret[i] = (unsigned char)(f->size >> (56 - 8 * i) & 0xff);
        for (size_t i = 0; i < n; i++)
                memcpy(ret + 8 + 32 * i, f->peak[i].b, 32);
        return 8 + 32 * n;
}

int mlc_merkle_frontier_import(const void *data, size_t len, struct mlc_merkle_frontier *ret,
                               struct mlc_err *err)
{
        const unsigned char *p = data;
        struct mlc_merkle_frontier f = {0};
        size_t n;

        if (len < 8)
                return mlc_fail(err, MLC_E_INVALID, "tree frontier is %zu bytes long", len);
        for (unsigned i = 0; i < 8; i++)
                f.size = f.size << 8 | p[i];
        n = mlc_merkle_frontier_peaks(f.size);
        if (f.size > INT64_MAX || len != 8 + 32 * n)
                return mlc_fail(err, MLC_E_INVALID,
                                "tree frontier is %zu bytes long, which does not fit its size",
                                len);
        for (size_t i = 0; i < n; i++)
                memcpy(f.peak[i].b, p + 8 + 32 * i, 32);
        *ret = f;
        return 0;
}

/* Where a proof's path stands: fn and sn of RFC 9162 section 2.1.3.2. */
struct walk {
        uint64_t fn, sn;
};

/* True when the next hash of the proof is the left sibling. Moves one level up. */
static bool step_left(struct walk *w)
{
        bool left = (w->fn & 1) != 0 || w->fn == w->sn;

        if (left)
                while ((w->fn & 1) == 0 && w->fn != 0) {
                        w->fn >>= 1;
                        w->sn >>= 1;
                }
        w->fn >>= 1;
        w->sn >>= 1;
        return left;
}

int mlc_merkle_check_inclusion(const struct mlc_merkle_inclusion *p, struct mlc_err *err)
{
        struct walk w = {.fn = p->index, .sn = p->size - 1};
        struct mlc_digest r = p->leaf;

        if (p->index >= p->size)
                return mlc_fail(err, MLC_E_VERIFY, "inclusion proof: index %llu is not below %llu",
                                (unsigned long long)p->index, (unsigned long long)p->size);
        for (size_t i = 0; i < p->n_proof; i++) {
                if (w.sn == 0)
                        return mlc_fail(err, MLC_E_VERIFY, "inclusion proof is too long");
                if (step_left(&w))
                        mlc_merkle_node(&p->proof[i], &r, &r);
                else
                        mlc_merkle_node(&r, &p->proof[i], &r);
        }
        if (w.sn != 0)
                return mlc_fail(err, MLC_E_VERIFY, "inclusion proof is too short");
        if (!mlc_digest_equal(&r, &p->root))
                return mlc_fail(err, MLC_E_VERIFY, "inclusion proof leads to another root");
        return 0;
}

static int check_consistency_path(const struct mlc_merkle_consistency *p, struct mlc_err *err)
{
        struct walk w = {.fn = p->size1 - 1, .sn = p->size2 - 1};
        bool whole = (p->size1 & (p->size1 - 1)) == 0; /* size1's tree is one complete subtree */
        struct mlc_digest fr = whole ? p->root1 : p->proof[0], sr = fr;

        while ((w.fn & 1) != 0) {
                w.fn >>= 1;
                w.sn >>= 1;
        }
        for (size_t i = whole ? 0 : 1; i < p->n_proof; i++) {
                const struct mlc_digest *c = &p->proof[i];

                if (w.sn == 0)
                        return mlc_fail(err, MLC_E_VERIFY, "consistency proof is too long");
                if (step_left(&w)) {
                        mlc_merkle_node(c, &fr, &fr);
                        mlc_merkle_node(c, &sr, &sr);
                } else {
                        mlc_merkle_node(&sr, c, &sr);
                }
        }
        if (w.sn != 0)
                return mlc_fail(err, MLC_E_VERIFY, "consistency proof is too short");
        if (!mlc_digest_equal(&fr, &p->root1) || !mlc_digest_equal(&sr, &p->root2))
                return mlc_fail(err, MLC_E_VERIFY,
                                "consistency proof from %llu to %llu leads to another root",
                                (unsigned long long)p->size1, (unsigned long long)p->size2);
        return 0;
}

int mlc_merkle_check_consistency(const struct mlc_merkle_consistency *p, struct mlc_err *err)
{
        if (p->size1 == 0)
                return mlc_fail(err, MLC_E_VERIFY, "consistency with an empty tree proves nothing");
        if (p->size1 > p->size2)
                return mlc_fail(err, MLC_E_VERIFY, "tree shrank from %llu to %llu",
                                (unsigned long long)p->size1, (unsigned long long)p->size2);
        if (p->size1 == p->size2) {
                if (p->n_proof != 0)
                        return mlc_fail(err, MLC_E_VERIFY, "consistency proof is too long");
                if (!mlc_digest_equal(&p->root1, &p->root2))
                        return mlc_fail(err, MLC_E_VERIFY, "two roots for one size %llu",
                                        (unsigned long long)p->size1);
                return 0;
        }
        if (p->n_proof == 0)
                return mlc_fail(err, MLC_E_VERIFY, "consistency proof is empty");
        if (p->n_proof > 63)
                return mlc_fail(err, MLC_E_VERIFY, "consistency proof is too long");
        return check_consistency_path(p, err);
}

/* Hash of D[begin : end], the right part of a tree: begin is a multiple of the largest power of two
 * that fits into end - begin, or 0. Peaks are folded from the right. */
static int range_hash(const struct mlc_merkle_source *src, uint64_t begin, uint64_t end,
                      struct mlc_digest *ret, struct mlc_err *err)
{
        struct mlc_digest h, left;
        uint64_t rest = end - begin;
        bool first = true;

        assert(begin < end);
        for (; rest != 0; rest &= rest - 1) {
                unsigned level = (unsigned)__builtin_ctzll(rest);
                uint64_t start = begin + (rest & (rest - 1));
                int r = src->get(src->userdata, level, start >> level, &left, err);

                if (r < 0)
                        return r;
                if (first)
                        h = left;
                else
                        mlc_merkle_node(&left, &h, &h);
                first = false;
        }
        *ret = h;
        return 0;
}

int mlc_merkle_root_at(const struct mlc_merkle_source *src, uint64_t size, struct mlc_digest *ret,
                       struct mlc_err *err)
{
        if (size == 0) {
                mlc_merkle_empty_root(ret);
                return 0;
        }
        return range_hash(src, 0, size, ret, err);
}

/* Largest power of two below n, n > 1. */
static uint64_t split(uint64_t n)
{
        return 1ULL << (63 - (unsigned)__builtin_clzll(n - 1));
}

/* Adds the hash of D[begin : end] to the proof. */
static int prove(const struct mlc_merkle_source *src, uint64_t begin, uint64_t end,
                 struct mlc_merkle_proof *p, struct mlc_err *err)
{
        int r;

        assert(p->n < MLC_MERKLE_PROOF_MAX);
        r = range_hash(src, begin, end, &p->h[p->n], err);
        if (r == 0)
                p->n++;
        return r;
}

static void reverse(struct mlc_merkle_proof *p)
{
        for (size_t i = 0, j = p->n; i + 1 < j; i++) {
                struct mlc_digest t = p->h[i];

                p->h[i] = p->h[--j];
                p->h[j] = t;
        }
}

int mlc_merkle_prove_inclusion(const struct mlc_merkle_source *src, uint64_t index, uint64_t size,
                               struct mlc_merkle_proof *ret, struct mlc_err *err)
{
        struct mlc_merkle_proof p = {0};
        uint64_t begin = 0, end = size;

        if (index >= size || size > INT64_MAX)
                return mlc_fail(err, MLC_E_INVALID, "index %llu is not below the tree size %llu",
                                (unsigned long long)index, (unsigned long long)size);
        /* from the root down, so that the path comes out last sibling first */
        while (end - begin > 1) {
                uint64_t mid = begin + split(end - begin);
                bool right = index >= mid;
                int r = right ? prove(src, begin, mid, &p, err) : prove(src, mid, end, &p, err);

                if (r < 0)
                        return r;
                if (right)
                        begin = mid;
                else
                        end = mid;
        }
        reverse(&p);
        *ret = p;
        return 0;
}

int mlc_merkle_prove_consistency(const struct mlc_merkle_source *src, uint64_t size1,
                                 uint64_t size2, struct mlc_merkle_proof *ret, struct mlc_err *err)
{
        struct mlc_merkle_proof p = {0};
        uint64_t begin = 0, end = size2;
        int r;

        if (size1 == 0 || size1 > size2 || size2 > INT64_MAX)
                return mlc_fail(err, MLC_E_INVALID,
                                "no consistency proof goes from size %llu to %llu",
                                (unsigned long long)size1, (unsigned long long)size2);
        /* SUBPROOF of RFC 9162 section 2.1.4.1, from the root down to where size1 ends */
        while (end != size1) {
                uint64_t mid = begin + split(end - begin);
                bool right = size1 > mid;

                r = right ? prove(src, begin, mid, &p, err) : prove(src, mid, end, &p, err);
                if (r < 0)
                        return r;
                if (right)
                        begin = mid;
                else
                        end = mid;
        }
        if (begin != 0) {
                r = prove(src, begin, end, &p, err);
                if (r < 0)
                        return r;
        }
        reverse(&p);
        *ret = p;
        return 0;
}
