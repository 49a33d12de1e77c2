/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "codec/manifest.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct mlc_manifest m;
        struct mlc_err err = {0};
        struct mlc_arena a;
        struct mlc_str lineage;

        mlc_arena_init(&a, 16u << 20);
        if (mlc_manifest_parse(data, size, NULL, &a, &m, &err) == 0) {
                mlc_str_init(&lineage, 1u << 20);
                if (mlc_lineage_format(&m.lineage, &lineage, &err) < 0)
                        __builtin_trap(); /* what was accepted can be written */
                mlc_str_done(&lineage);
        }
        mlc_arena_done(&a);
        return 0;
}
