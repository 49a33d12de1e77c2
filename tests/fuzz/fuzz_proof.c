/* SPDX-License-Identifier: Apache-2.0 */
/* Offline proofs: what parses comes back the same, and nothing verifies under a key that signed
 * nothing of it. */
#include <assert.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "tlog/proof.h"

#define VKEY "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = size > 0 ? (const char *)data : "";
        _cleanup_(mlc_str_done) struct mlc_str again;
        const struct mlc_digest leaf = {{0}};
        struct mlc_tlog_proof p, q;
        struct mlc_vkey key;
        const struct mlc_vkeys keys = {&key, 1};
        struct mlc_err err = {0};
        int r = mlc_vkey_parse(VKEY, &key, &err);

        assert(r == 0);
        mlc_str_init(&again, MLC_TLOG_PROOF_MAX);
        if (mlc_tlog_proof_parse(text, size, &p, &err) < 0) {
                assert(err.code != 0 && err.msg[0] != '\0');
                return 0;
        }
        mlc_tlog_proof_format(&p, &again);
        r = mlc_tlog_proof_parse(again.data, again.len, &q, &err);
        assert(r == 0 && q.index == p.index && q.path.n == p.path.n);
        assert(q.checkpoint_len == p.checkpoint_len);
        assert(mlc_tlog_proof_verify(&p, &leaf, &keys, NULL, &err) < 0);
        return 0;
}
