/* SPDX-License-Identifier: Apache-2.0 */
/* Documents: what is accepted has a normalised form that says the same when read again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "policy/document.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct mlc_documents d = {0};
        struct mlc_err err = {0};
        struct mlc_arena a;

        mlc_arena_init(&a, 64u << 20);
        if (mlc_documents_parse((const char *)data, size, &a, &d, &err) < 0)
                assert(err.code < 0 && err.msg[0] != '\0');
        for (size_t i = 0; i < d.n; i++) {
                struct mlc_documents again = {0};

                assert(d.items[i].source >= (const char *)data &&
                       d.items[i].source + d.items[i].source_len <= (const char *)data + size);
                /* anchors belong to one document, so its own text says the same */
                if (mlc_documents_parse(d.items[i].source, d.items[i].source_len, &a, &again,
                                        &err) == 0) {
                        assert(again.n == 1);
                        assert(mlc_digest_equal(&again.items[0].digest, &d.items[i].digest));
                        mlc_documents_done(&again);
                }
        }
        mlc_documents_done(&d);
        mlc_arena_done(&a);
        return 0;
}
