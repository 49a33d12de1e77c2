/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>
#include <stdint.h>

#include "format/format.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Any bytes under this name: an answer, never a failure other than the arena's cap. */
static inline int fuzz_format(const uint8_t *data, size_t size, const char *path)
{
        struct mlc_format_info info = {0};
        struct mlc_err err = {0};
        struct mlc_reader r;
        struct mlc_arena a;
        int rc;

        mlc_arena_init(&a, MLC_FORMAT_ARENA_MIN);
        mlc_reader_mem(&r, data, size);
        rc = mlc_format_inspect(&r, path, &a, &info, &err);
        assert(rc == 0 || rc == MLC_E_LIMIT);
        assert((rc < 0) == (err.code != 0));
        if (rc == 0) {
                assert(info.format != NULL);
                assert(info.malformed == NULL || info.safety == MLC_SAFETY_UNSAFE);
                for (size_t i = 0; i < info.n_tensors_kept; i++)
                        assert(info.tensors[i].name != NULL && info.tensors[i].dtype != NULL);
        }
        mlc_arena_done(&a);
        return 0;
}
