/* SPDX-License-Identifier: Apache-2.0 */
/* Statements: only one spelling, which is what building gives. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/statement.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(mlc_str_done) struct mlc_str again;
        struct mlc_statement s;
        struct mlc_err err = {0};
        struct mlc_arena a;

        mlc_str_init(&again, MLC_STATEMENT_MAX);
        mlc_arena_init(&a, 4u << 20);
        if (mlc_statement_parse(size > 0 ? (const char *)data : "", size, &a, &s, &err) == 0) {
                assert(mlc_statement_build(&s, &again, &err) == 0);
                assert(again.len == size && memcmp(again.data, data, size) == 0);
                assert(mlc_statement_differs(&s, &s) == NULL);
        } else {
                assert(err.code < 0);
        }
        mlc_arena_done(&a);
        return 0;
}
