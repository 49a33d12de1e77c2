/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "codec/digest.h"

/* The Merkle tree of RFC 6962 (RFC 9162 section 2.1) over SHA-256. Thread-safe. */
#define MLC_MERKLE_PROOF_MAX 64

void mlc_merkle_leaf(const void *data, size_t len, struct mlc_digest *ret);
void mlc_merkle_node(const struct mlc_digest *left, const struct mlc_digest *right,
                     struct mlc_digest *ret);
void mlc_merkle_empty_root(struct mlc_digest *ret); /* SHA-256 of nothing */

/*
 * The right edge of a tree: the roots of the complete subtrees that its size is the sum of, largest
 * first (one per set bit of size). {0} is the empty tree.
 */
struct mlc_merkle_frontier {
        uint64_t size;
        struct mlc_digest peak[64];
};

static inline size_t mlc_merkle_frontier_peaks(uint64_t size)
{
        return (size_t)__builtin_popcountll(size);
}

/* Appends one leaf hash; size stays below 2^63. */
void mlc_merkle_append(struct mlc_merkle_frontier *f, const struct mlc_digest *leaf);
void mlc_merkle_root(const struct mlc_merkle_frontier *f, struct mlc_digest *ret);
/* Bytes: size as 64-bit big-endian, then the peaks. Export returns the length. */
#define MLC_MERKLE_FRONTIER_LEN_MAX (8 + 64 * 32)
size_t mlc_merkle_frontier_export(const struct mlc_merkle_frontier *f,
                                  unsigned char ret[MLC_MERKLE_FRONTIER_LEN_MAX]);
int mlc_merkle_frontier_import(const void *data, size_t len, struct mlc_merkle_frontier *ret,
                               struct mlc_err *err) MLC_CHECK;

struct mlc_merkle_inclusion {
        uint64_t index, size;
        struct mlc_digest leaf, root;
        const struct mlc_digest *proof; /* leaf sibling first */
        size_t n_proof;
};

struct mlc_merkle_consistency {
        uint64_t size1, size2; /* size1 0 is refused: it would prove nothing */
        struct mlc_digest root1, root2;
        const struct mlc_digest *proof;
        size_t n_proof;
};

/* MLC_E_VERIFY when the proof does not hold. */
int mlc_merkle_check_inclusion(const struct mlc_merkle_inclusion *p, struct mlc_err *err) MLC_CHECK;
int mlc_merkle_check_consistency(const struct mlc_merkle_consistency *p,
                                 struct mlc_err *err) MLC_CHECK;

/*
 * Where hashes of complete subtrees come from: get() returns
 * MTH(D[index * 2^level : (index + 1) * 2^level]). It is asked only for subtrees that lie wholly
 * below the tree size given, and its error is passed on.
 */
struct mlc_merkle_source {
        int (*get)(void *userdata, unsigned level, uint64_t index, struct mlc_digest *ret,
                   struct mlc_err *err);
        void *userdata;
};

struct mlc_merkle_proof {
        size_t n;
        struct mlc_digest h[MLC_MERKLE_PROOF_MAX];
};

/* Root of the first `size` leaves. */
int mlc_merkle_root_at(const struct mlc_merkle_source *src, uint64_t size, struct mlc_digest *ret,
                       struct mlc_err *err) MLC_CHECK;
/* index < size, else MLC_E_INVALID. */
int mlc_merkle_prove_inclusion(const struct mlc_merkle_source *src, uint64_t index, uint64_t size,
                               struct mlc_merkle_proof *ret, struct mlc_err *err) MLC_CHECK;
/* 1 <= size1 <= size2, else MLC_E_INVALID. */
int mlc_merkle_prove_consistency(const struct mlc_merkle_source *src, uint64_t size1,
                                 uint64_t size2, struct mlc_merkle_proof *ret,
                                 struct mlc_err *err) MLC_CHECK;
