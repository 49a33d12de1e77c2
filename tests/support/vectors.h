/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Published vectors that are too large for a test file: read from $MLC_VECTORS, or from
 * ../shared/vectors beside the sources. Include after cmocka.h. */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"

#define VECTOR_PATH_MAX 1024

/* Path of a file or folder of the vectors; skips the running test when they are absent. */
static inline void vector_path(char ret[VECTOR_PATH_MAX], const char *rel)
{
        const char *dir = getenv("MLC_VECTORS");

        (void)snprintf(ret, VECTOR_PATH_MAX, "%s/%s",
                       dir != NULL ? dir : MLC_SOURCE_DIR "/../shared/vectors", rel);
        if (access(ret, R_OK) != 0) {
                print_message("%s is not there: skipped\n", ret);
                skip();
        }
}

/* The caller frees. */
static inline char *vector_read(const char *rel, size_t *ret_len)
{
        char path[VECTOR_PATH_MAX], *data = NULL;
        struct mlc_err err = {0};

        vector_path(path, rel);
        if (mlc_read_file(path, 1u << 20, &data, ret_len, &err) < 0)
                fail_msg("%s", err.msg);
        return data;
}

/* Calls each() for every file below dir and returns how many there were. */
static inline unsigned vector_walk(const char *dir, void (*each)(const char *path))
{
        DIR *d = opendir(dir);
        struct dirent *e;
        unsigned n = 0;

        assert_non_null(d);
        while ((e = readdir(d)) != NULL) {
                char path[VECTOR_PATH_MAX];
                struct stat st;

                if (e->d_name[0] == '.')
                        continue;
                assert_true((size_t)snprintf(path, sizeof(path), "%s/%s", dir, e->d_name) <
                            sizeof(path));
                assert_int_equal(stat(path, &st), 0);
                if (S_ISDIR(st.st_mode)) {
                        n += vector_walk(path, each);
                } else {
                        each(path);
                        n++;
                }
        }
        (void)closedir(d);
        return n;
}
