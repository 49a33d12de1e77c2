/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdint.h>

#include "cli.h"
#include "codec/digest.h"

/*
 * Examples files by digest, each fetched once: from a folder, when one is given, else from the
 * model's repository. Together at most EXAMPLES_TOTAL bytes are fetched.
 */
#define EXAMPLES_TOTAL ((uint64_t)4 << 30)
#define EXAMPLES_KEPT 64 /* open files; what comes later is fetched each time */

struct examples {
        struct cli *cli;
        const char *model; /* ns/model; NULL: nothing is fetched */
        const char *dir; /* files named by the hex digits of their digest; NULL: none */
        struct {
                char digest[MLC_DIGEST_STR];
                int fd;
        } kept[EXAMPLES_KEPT];
        size_t n_kept;
        uint64_t bytes; /* fetched until now */
};

void examples_done(struct examples *x); /* for _cleanup_ */
/* An `open` of struct mlc_policy_examples, userdata a struct examples. MLC_E_LIMIT when they are
 * too large, MLC_E_NOT_FOUND when they are nowhere. */
int examples_open(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err) MLC_CHECK;
