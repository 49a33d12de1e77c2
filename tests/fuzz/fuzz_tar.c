/* SPDX-License-Identifier: Apache-2.0 */
/* The archive reader over arbitrary bytes, with small limits. */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "archive/archive.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct mem {
        const uint8_t *data;
        size_t len;
};

static int mem_read(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        struct mem *m = userdata;
        size_t n = len < m->len ? len : m->len;

        (void)err;
        memcpy(buf, m->data, n);
        m->data += n;
        m->len -= n;
        *ret_len = n;
        return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct mem m = {.data = data, .len = size};
        struct mlc_archive_source source = {.read = mem_read, .userdata = &m};
        struct mlc_archive_limits limits = {.entries = 100, .bytes = 1 << 20};
        struct mlc_archive *ar = NULL;
        struct mlc_archive_item item;
        struct mlc_err err = {0};
        bool more = true;
        char buf[512];
        size_t n = 1;
        int r = mlc_archive_open(&source, &limits, &ar, &err);

        while (r == 0 && more) {
                r = mlc_archive_next(ar, &item, &more, &err);
                if (r == 0 && more) {
                        assert(mlc_path_check(item.path, &err) == 0);
                        r = mlc_archive_read(ar, buf, sizeof(buf), &n, &err);
                }
        }
        assert((r < 0) == (err.code != 0));
        mlc_archive_free(ar);
        return 0;
}
