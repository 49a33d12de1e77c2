/* SPDX-License-Identifier: Apache-2.0 */
/* JSON and its canonical form, which must be its own canonical form. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/jcs.h"
#include "codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The canonical form of text, or false. `integers`: of signed data, which holds no reals. */
static bool canonical(const char *text, size_t len, bool integers, struct mlc_str *ret)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        struct mlc_err err = {0};

        if (mlc_json_parse(text, len, &j, &err) < 0)
                return false;
        return (integers ? mlc_jcs_signed(j, ret, &err) : mlc_jcs(j, ret, &err)) == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = size > 0 ? (const char *)data : "";

        for (int integers = 0; integers <= 1; integers++) {
                _cleanup_(mlc_str_done) struct mlc_str once, twice;
                bool again;

                mlc_str_init(&once, 1u << 22);
                mlc_str_init(&twice, 1u << 22);
                if (!canonical(text, size, integers != 0, &once))
                        continue;
                assert(mlc_utf8_valid(once.data, once.len));
                again = canonical(once.data, once.len, integers != 0, &twice);
                /* a real above 2^53 without exponent reads back as an integer that is refused */
                assert(again || integers == 0);
                if (again)
                        assert(once.len == twice.len &&
                               memcmp(once.data, twice.data, once.len) == 0);
        }
        return 0;
}
