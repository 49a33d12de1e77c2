/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/hash.h"
#include "mlctl/error.h"

/* Measured (tests/bench/run push): with 1 MiB a push of 1 GiB cost 1.6 to 1.8 times the CPU of the
 * bare sink, spent copying into the page cache; with 256 KiB no more than the sink. */
#define STORE_BUF_SIZE (256u << 10)

/*
 * Two buffers between the connection's thread, which fills and hashes, and a thread of its own,
 * which writes: receiving, hashing and writing overlap, and memory is constant. What fits into one
 * buffer is written without a thread. All calls are the owner's; only the callback runs in the
 * writing thread.
 */
struct store_buf {
        unsigned char *data;
        size_t len;
        struct mlc_sha256 after; /* the hash with this buffer in it */
        bool full;
};

/* Called about every 256 MiB, when the first `offset` bytes are synced. */
typedef int (*store_checkpoint)(uint64_t offset, const struct mlc_sha256 *hash, struct mlc_err *err,
                                void *userdata);

struct store_writer {
        int fd; /* borrowed */
        int space_fd; /* borrowed: where free space is watched */
        uint64_t reserved; /* bytes before this were reserved by fallocate */
        store_checkpoint checkpoint;
        void *userdata;

        pthread_mutex_t lock;
        pthread_cond_t changed;
        pthread_t thread;
        bool running;
        unsigned fill; /* the owner's buffer */
        bool handed; /* that buffer may still be being written */

        /* under lock */
        struct store_buf buf[2];
        bool closing;
        struct mlc_err err;

        /* the writing thread's while it runs, then the owner's */
        uint64_t done; /* bytes written in order */
        struct mlc_sha256 done_hash; /* of those */
        uint64_t started; /* bytes whose write-back was begun */
        uint64_t synced; /* bytes that are durable */
};

/* `hash` after `offset` bytes, all of them synced. Descriptors and callbacks are set by the caller
 * afterwards. */
void store_writer_init(struct store_writer *w, uint64_t offset, const struct mlc_sha256 *hash);
/* Updates *hash too. On failure (of an earlier write, too) the writer takes no more. */
int store_writer_add(struct store_writer *w, struct mlc_sha256 *hash, const void *data, size_t len,
                     struct mlc_err *err) MLC_CHECK;
/* Everything added is written when it returns 0; `done` and `done_hash` say how far it came
 * otherwise. */
int store_writer_drain(struct store_writer *w, struct mlc_err *err) MLC_CHECK;
void store_writer_done(struct store_writer *w); /* drained or never used */
