/* SPDX-License-Identifier: Apache-2.0 */
/* Trust files: what is accepted has a key, and environments that their owners can guard. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../cli/trust.h"
#include "base/cleanup.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(close_fd) int fd = memfd_create("trust", 0);
        _cleanup_(trust_done) struct trust t = {0};
        struct cli cli = {0};
        char path[64];

        assert(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size));
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (trust_read(&cli, path, &t) < 0) {
                assert(cli.err.code < 0 && cli.err.msg[0] != '\0');
                assert(t.n_environments == 0);
                return 0;
        }
        assert(t.n_keys == 1 && t.n_environments <= MLC_CUSTODY_ENVIRONMENTS_MAX);
        for (size_t i = 0; i < t.n_environments; i++)
                assert(t.environments[i].threshold >= 1 &&
                       t.environments[i].n_keys >= t.environments[i].threshold);
        return 0;
}
