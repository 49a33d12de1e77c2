/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "policy/evaluation.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        struct mlc_evaluation e;
        struct mlc_err err = {0};
        struct mlc_arena a;

        mlc_arena_init(&a, 16u << 20);
        if (mlc_evaluation_parse(size > 0 ? (const char *)data : "", size, &a, &doc, &e, &err) ==
            0) {
                assert(e.n_metrics > 0);
                for (size_t i = 0; i < e.n_metrics; i++) {
                        assert(isfinite(e.metrics[i].value) && e.metrics[i].n > 0);
                        assert(mlc_slice_equal(e.metrics[i].slice, e.metrics[i].slice));
                }
        } else {
                assert(err.code < 0 && err.msg[0] != '\0');
        }
        mlc_arena_done(&a);
        return 0;
}
