/* SPDX-License-Identifier: Apache-2.0 */
/* What an account keeps of a log: a file that others may have written. */
#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "client/pin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(close_fd) int fd = memfd_create("pin", 0);
        _cleanup_(mlc_pin_done) struct mlc_pin pin = {0};
        struct mlc_err err = {0};
        char path[64];

        assert(fd >= 0 && (size == 0 || write(fd, data, size) == (ssize_t)size));
        (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
        if (mlc_pin_read(path, &pin, &err) < 0) {
                assert(err.code < 0 && err.msg[0] != '\0');
                return 0;
        }
        assert(pin.n_keys <= MLC_REPLAY_KEYS_MAX);
        assert(pin.seen.size == 0 || pin.note != NULL);
        return 0;
}
