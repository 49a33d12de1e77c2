/* SPDX-License-Identifier: Apache-2.0 */
#include "store/writer.h"

#include <assert.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/io.h"
#include "store/store_internal.h"

#define COPY_STEP (64u << 10) /* copied and hashed while it is in the cache */
#define WRITE_BACK_STEP (8u << 20)
#define CHECKPOINT_STEP (256u << 20)
#define STACK_SIZE (512u << 10)

void store_writer_init(struct store_writer *w, uint64_t offset, const struct mlc_sha256 *hash)
{
        *w = (struct store_writer){.fd = -1,
                                   .space_fd = -1,
                                   .done = offset,
                                   .done_hash = *hash,
                                   .started = offset,
                                   .synced = offset};
        (void)pthread_mutex_init(&w->lock, NULL);
        (void)pthread_cond_init(&w->changed, NULL);
}

static int checkpoint(struct store_writer *w, struct mlc_err *err)
{
        if (fdatasync(w->fd) < 0)
                return mlc_fail_errno(err, "cannot sync", "uploads/…/data");
        w->synced = w->done;
        return w->checkpoint(w->done, &w->done_hash, err, w->userdata);
}

static int write_buf(struct store_writer *w, const struct store_buf *b, struct mlc_err *err)
{
        uint64_t end = w->done + b->len;
        int r;

        if (end > w->reserved) {
                r = store_space_check(w->space_fd, b->len, err);
                if (r < 0)
                        return r;
        }
        r = store_pwrite_full(w->fd, b->data, b->len, w->done, err);
        if (r < 0)
                return r;
        w->done = end;
        w->done_hash = b->after;
        if (w->done - w->started >= WRITE_BACK_STEP) {
                /* only begins it, so that the sync at the end finds little to do */
                (void)sync_file_range(w->fd, (off_t)w->started, (off_t)(w->done - w->started),
                                      SYNC_FILE_RANGE_WRITE);
                w->started = w->done;
        }
        if (w->done - w->synced >= CHECKPOINT_STEP)
                return checkpoint(w, err);
        return 0;
}

static void *writer_main(void *arg)
{
        struct store_writer *w = arg;
        bool failed = false;

        for (unsigned next = 0;; next ^= 1) {
                struct store_buf *b = &w->buf[next];
                struct mlc_err err = {0};

                (void)pthread_mutex_lock(&w->lock);
                while (!b->full && !w->closing)
                        (void)pthread_cond_wait(&w->changed, &w->lock);
                (void)pthread_mutex_unlock(&w->lock);
                if (!b->full)
                        return NULL;

                if (!failed)
                        failed = write_buf(w, b, &err) < 0;

                (void)pthread_mutex_lock(&w->lock);
                if (err.code != 0)
                        w->err = err;
                b->len = 0;
                b->full = false;
                (void)pthread_cond_signal(&w->changed);
                (void)pthread_mutex_unlock(&w->lock);
        }
}

/* Signals are the main thread's business. */
static int start_thread(struct store_writer *w, struct mlc_err *err)
{
        pthread_attr_t attr;
        sigset_t all, old;
        int rc;

        (void)pthread_attr_init(&attr);
        (void)pthread_attr_setstacksize(&attr, STACK_SIZE);
        (void)sigfillset(&all);
        (void)pthread_sigmask(SIG_SETMASK, &all, &old);
        rc = pthread_create(&w->thread, &attr, writer_main, w);
        (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
        (void)pthread_attr_destroy(&attr);
        if (rc != 0)
                return mlc_fail(err, MLC_E_UNAVAILABLE, "cannot start a thread for the upload");
        w->running = true;
        return 0;
}

/* Hands the owner's buffer over; the other one becomes the owner's, once it is written. */
static int hand_over(struct store_writer *w, struct mlc_err *err)
{
        if (!w->running) {
                int r = start_thread(w, err);

                if (r < 0)
                        return r;
        }
        (void)pthread_mutex_lock(&w->lock);
        w->buf[w->fill].full = true;
        (void)pthread_cond_signal(&w->changed);
        (void)pthread_mutex_unlock(&w->lock);
        w->fill ^= 1;
        w->handed = true;
        return 0;
}

/* Waits until the owner's buffer is free. */
static int take_back(struct store_writer *w, struct mlc_err *err)
{
        int r;

        (void)pthread_mutex_lock(&w->lock);
        while (w->buf[w->fill].full)
                (void)pthread_cond_wait(&w->changed, &w->lock);
        r = w->err.code;
        if (r < 0)
                *err = w->err;
        (void)pthread_mutex_unlock(&w->lock);
        w->handed = false;
        return r;
}

int store_writer_add(struct store_writer *w, struct mlc_sha256 *hash, const void *data, size_t len,
                     struct mlc_err *err)
{
        const unsigned char *p = data;

        while (len > 0) {
                int r = w->handed ? take_back(w, err) : 0;
                struct store_buf *b = &w->buf[w->fill];
                size_t n = STORE_BUF_SIZE - b->len;

                if (r < 0)
                        return r;
                if (b->data == NULL) {
                        b->data = malloc(STORE_BUF_SIZE);
                        if (b->data == NULL)
                                abort();
                }
                if (n > len)
                        n = len;
                if (n > COPY_STEP)
                        n = COPY_STEP;
                memcpy(b->data + b->len, p, n);
                mlc_sha256_update(hash, p, n);
                b->len += n;
                b->after = *hash;
                p += n;
                len -= n;
                if (b->len == STORE_BUF_SIZE) {
                        r = hand_over(w, err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

int store_writer_drain(struct store_writer *w, struct mlc_err *err)
{
        struct store_buf *b = &w->buf[w->fill];

        if (w->running) {
                (void)pthread_mutex_lock(&w->lock);
                if (!w->handed)
                        b->full = b->len > 0;
                w->closing = true;
                (void)pthread_cond_signal(&w->changed);
                (void)pthread_mutex_unlock(&w->lock);
                (void)pthread_join(w->thread, NULL);
                w->running = false;
                w->closing = false;
                w->handed = false;
        } else if (b->len > 0 && w->err.code == 0) {
                (void)write_buf(w, b, &w->err);
                b->len = 0;
        }
        if (w->err.code != 0) {
                *err = w->err;
                return w->err.code;
        }
        return 0;
}

void store_writer_done(struct store_writer *w)
{
        assert(!w->running);
        for (unsigned i = 0; i < 2; i++) {
                free(w->buf[i].data);
                w->buf[i].data = NULL;
        }
        (void)pthread_cond_destroy(&w->changed);
        (void)pthread_mutex_destroy(&w->lock);
}
