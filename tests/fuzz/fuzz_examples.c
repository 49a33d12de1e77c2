/* SPDX-License-Identifier: Apache-2.0 */
/* Examples: every share is one, and a file pairs with itself without discordant pairs. */
#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/examples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct bytes {
        const uint8_t *data;
        size_t size, at, step;
};

static int read_bytes(void *userdata, void *buf, size_t len, size_t *ret_n, struct mlc_err *err)
{
        struct bytes *b = userdata;
        size_t n = b->size - b->at;

        (void)err;
        n = n < b->step ? n : b->step;
        n = n < len ? n : len;
        if (n > 0)
                memcpy(buf, b->data + b->at, n);
        b->at += n;
        *ret_n = n;
        return 0;
}

static struct mlc_examples *load(const uint8_t *data, size_t size, size_t step)
{
        struct bytes b = {data, size, 0, step};
        struct mlc_examples_in in = {read_bytes, &b};
        struct mlc_examples *x = NULL;
        struct mlc_err err = {0};

        if (mlc_examples_load(&in, &x, NULL, &err) < 0)
                assert(err.code < 0 && err.msg[0] != '\0');
        return x;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = load(data, size, SIZE_MAX);
        _cleanup_(mlc_examples_free_p) struct mlc_examples *y = load(data, size, 3);
        _cleanup_(json_decref_p) json_t *list = NULL;
        struct mlc_paired d = {0};
        double v;
        int64_t n;

        assert((x == NULL) == (y == NULL));
        if (x == NULL)
                return 0;
        assert(mlc_examples_metric(x, "accuracy", NULL, &v, &n));
        assert(v >= 0 && v <= 1 && n == mlc_examples_rows(x));
        assert(mlc_examples_recompute(x, NULL, &list, NULL) == 0);
        assert(mlc_examples_pair(x, y, "accuracy", NULL, &d) == MLC_PAIRED);
        assert(d.b == 0 && d.c == 0 && d.n == n);
        return 0;
}
