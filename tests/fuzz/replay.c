/* SPDX-License-Identifier: Apache-2.0 */
/* Runs a fuzz target over every file of a corpus folder, for builds without libFuzzer. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *dir, const char *name)
{
        char path[4096], *data = NULL;
        struct mlc_err err = {0};
        size_t len;

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        if (mlc_read_file(path, 64u << 20, &data, &len, &err) < 0) {
                (void)fprintf(stderr, "%s\n", err.msg);
                return 1;
        }
        (void)LLVMFuzzerTestOneInput((const uint8_t *)data, len);
        free(data);
        return 0;
}

int main(int argc, char **argv)
{
        DIR *d = argc == 2 ? opendir(argv[1]) : NULL;
        struct dirent *e;
        int n = 0, failed = 0;

        if (d == NULL) {
                (void)fprintf(stderr, "usage: %s CORPUS-DIR (it must exist)\n", argv[0]);
                return 2;
        }
        while ((e = readdir(d)) != NULL) {
                if (e->d_name[0] == '.')
                        continue;
                failed += replay(argv[1], e->d_name);
                n++;
        }
        (void)closedir(d);
        (void)printf("%d inputs replayed\n", n);
        return failed != 0 || n == 0;
}
