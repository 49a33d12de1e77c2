/* SPDX-License-Identifier: Apache-2.0 */
/* What of the store needs no database: state of uploads, the writer, links, space. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>

#include "codec/hex.h"
#include "store/store_internal.h"
#include "store/writer.h"

static void hash_of(const void *p, size_t n, struct mlc_sha256 *h)
{
        mlc_sha256_init(h);
        mlc_sha256_update(h, p, n);
}

static struct store_state sample(void)
{
        struct store_state st = {.offset = 5, .hash_valid = true};

        (void)snprintf(st.user, sizeof(st.user), "u0123456789ab");
        (void)snprintf(st.repo, sizeof(st.repo), "fraud/scorer");
        hash_of("hello", 5, &st.hash);
        return st;
}

static void state_round_trip(void **unused)
{
        struct store_state st = sample(), back;
        struct mlc_digest a, b;
        struct mlc_err err = {0};
        char *text = NULL;

        (void)unused;
        assert_int_equal(store_state_encode(&st, &text, &err), 0);
        assert_int_equal(store_state_parse(text, strlen(text), &back, &err), 0);
        assert_string_equal(back.user, st.user);
        assert_string_equal(back.repo, st.repo);
        assert_int_equal(back.offset, 5);
        assert_true(back.hash_valid);
        /* the computation goes on where it stopped */
        mlc_sha256_update(&back.hash, " world", 6);
        mlc_sha256_final(&back.hash, &a);
        mlc_sha256("hello world", 11, &b);
        assert_true(mlc_digest_equal(&a, &b));
        free(text);
}

static void state_with_unusable_hash_is_hashed_again(void **unused)
{
        static const char *const texts[] = {
                "{\"v\":1,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":5}",
                "{\"v\":1,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":5,\"hash\":\"00\"}",
                "{\"v\":1,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":5,\"hash\":7}",
        };
        struct store_state st = sample(), back;
        struct mlc_err err = {0};
        char *text = NULL;

        (void)unused;
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                assert_int_equal(store_state_parse(texts[i], strlen(texts[i]), &back, &err), 0);
                assert_false(back.hash_valid);
                assert_int_equal(back.offset, 5);
        }
        st.offset = 6; /* the hash is one of five bytes */
        assert_int_equal(store_state_encode(&st, &text, &err), 0);
        assert_int_equal(store_state_parse(text, strlen(text), &back, &err), 0);
        assert_false(back.hash_valid);
        free(text);
}

static void damaged_state_is_refused(void **unused)
{
        static const char *const texts[] = {
                "",
                "{",
                "[]",
                "null",
                "{}",
                "{\"v\":2,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":5}",
                "{\"v\":1,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":-1}",
                "{\"v\":1,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":\"5\"}",
                "{\"v\":1,\"user\":\"u1\",\"offset\":5}",
                "{\"v\":1,\"user\":\"u1234567890123456\",\"repo\":\"a/b\",\"offset\":5}",
                "{\"v\":1,\"v\":1,\"user\":\"u1\",\"repo\":\"a/b\",\"offset\":5}",
        };

        (void)unused;
        for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
                struct store_state st;
                struct mlc_err err = {0};

                assert_int_equal(store_state_parse(texts[i], strlen(texts[i]), &st, &err),
                                 MLC_E_INVALID);
        }
}

static void floor_of_free_space(void **unused)
{
        const uint64_t gib = 1ULL << 30;

        (void)unused;
        assert_int_equal(store_space_floor(0), gib);
        assert_int_equal(store_space_floor(20 * gib), gib);
        assert_int_equal(store_space_floor(100 * gib), 5 * gib);
}

/* --- files --- */

struct place {
        char dir[64];
        struct store s;
};

static void place_make(struct place *p)
{
        char path[128];

        memset(p, 0, sizeof(*p));
        (void)snprintf(p->dir, sizeof(p->dir), "/tmp/test_store.XXXXXX");
        assert_non_null(mkdtemp(p->dir));
        (void)snprintf(path, sizeof(path), "%s/blobs", p->dir);
        assert_int_equal(mkdir(path, 0700), 0);
        p->s.blobs_fd = open(path, O_RDONLY | O_DIRECTORY);
        (void)snprintf(path, sizeof(path), "%s/uploads", p->dir);
        assert_int_equal(mkdir(path, 0700), 0);
        p->s.uploads_fd = open(path, O_RDONLY | O_DIRECTORY);
        assert_true(p->s.blobs_fd >= 0 && p->s.uploads_fd >= 0);
}

static void place_done(struct place *p)
{
        char cmd[128];

        (void)close(p->s.blobs_fd);
        (void)close(p->s.uploads_fd);
        (void)snprintf(cmd, sizeof(cmd), "rm -rf %s", p->dir);
        assert_int_equal(system(cmd), 0);
}

static void publish_twice(void **unused)
{
        struct place p;
        struct mlc_err err = {0};
        struct mlc_digest d;
        char name[STORE_BLOB_NAME], id[MLC_UUID_STR];
        struct stat st;

        (void)unused;
        place_make(&p);
        mlc_sha256("hello", 5, &d);
        store_blob_name(&d, name);
        for (int i = 0; i < 3; i++) {
                int dir_fd = -1, data_fd = -1;

                mlc_uuid4(id);
                assert_int_equal(store_dir_make(&p.s, id, &dir_fd, &data_fd, &err), 0);
                assert_int_equal(atomic_load(&p.s.kept), 1);
                assert_int_equal(store_pwrite_full(data_fd, "hello", 5, 0, &err), 0);
                assert_int_equal(store_publish(&p.s, dir_fd, &d, 5, &err), 0);
                store_dir_remove(&p.s, id, dir_fd);
                assert_int_equal(atomic_load(&p.s.kept), 0);
                assert_int_equal(fstatat(p.s.blobs_fd, name, &st, 0), 0);
                assert_int_equal(st.st_size, 5);
                assert_int_equal(st.st_nlink, 1);
                assert_int_equal(st.st_mode & 0777, 0400);
                (void)close(dir_fd);
                (void)close(data_fd);
                if (i == 1) /* a file cut short is replaced by the next push */
                        assert_int_equal(fchmodat(p.s.blobs_fd, name, 0600, 0), 0);
                if (i == 1) {
                        int fd = openat(p.s.blobs_fd, name, O_RDWR);

                        assert_int_equal(ftruncate(fd, 2), 0);
                        (void)close(fd);
                }
        }
        place_done(&p);
}

static void too_many_uploads(void **unused)
{
        struct place p;
        struct mlc_err err = {0};
        int dir_fd, data_fd;

        (void)unused;
        place_make(&p);
        atomic_store(&p.s.kept, STORE_KEPT_MAX);
        assert_int_equal(store_dir_make(&p.s, "x", &dir_fd, &data_fd, &err), MLC_E_TOO_MANY);
        place_done(&p);
}

/* --- writer --- */

struct seen {
        int checkpoints;
        uint64_t last;
};

static int count_checkpoint(uint64_t offset, const struct mlc_sha256 *hash, struct mlc_err *err,
                            void *userdata)
{
        struct seen *s = userdata;

        (void)err;
        assert_true(mlc_sha256_count(hash) == offset);
        s->checkpoints++;
        s->last = offset;
        return 0;
}

/* Writes `total` bytes of a pattern in pieces and compares the file's hash with that of the stream.
 */
static void write_pattern(uint64_t total, size_t piece)
{
        struct place p;
        struct store_writer w;
        struct mlc_sha256 h, again;
        struct mlc_digest a, b;
        struct mlc_err err = {0};
        struct seen seen = {0};
        unsigned char *buf = malloc(piece);
        uint64_t sent = 0;
        int dir_fd, data_fd;

        place_make(&p);
        assert_int_equal(store_dir_make(&p.s, "x", &dir_fd, &data_fd, &err), 0);
        mlc_sha256_init(&h);
        store_writer_init(&w, 0, &h);
        w.fd = data_fd;
        w.space_fd = p.s.uploads_fd;
        w.checkpoint = count_checkpoint;
        w.userdata = &seen;
        while (sent < total) {
                size_t n = total - sent < piece ? (size_t)(total - sent) : piece;

                for (size_t i = 0; i < n; i++)
                        buf[i] = (unsigned char)((sent + i) * 2654435761u >> 13);
                assert_int_equal(store_writer_add(&w, &h, buf, n, &err), 0);
                sent += n;
        }
        assert_int_equal(store_writer_drain(&w, &err), 0);
        assert_int_equal(w.done, total);
        store_writer_done(&w);
        assert_int_equal(seen.checkpoints, total / (256u << 20));
        assert_int_equal(store_hash_file(data_fd, total, &again, &err), 0);
        mlc_sha256_final(&h, &a);
        mlc_sha256_final(&again, &b);
        assert_true(mlc_digest_equal(&a, &b));
        mlc_sha256_final(&w.done_hash, &b);
        assert_true(mlc_digest_equal(&a, &b));
        (void)close(dir_fd);
        (void)close(data_fd);
        free(buf);
        place_done(&p);
}

static void writer_writes_all(void **unused)
{
        static const uint64_t totals[] = {0,
                                          1,
                                          STORE_BUF_SIZE - 1,
                                          STORE_BUF_SIZE,
                                          STORE_BUF_SIZE + 1,
                                          2 * STORE_BUF_SIZE,
                                          3 * STORE_BUF_SIZE,
                                          5 * STORE_BUF_SIZE + 17};

        (void)unused;
        for (size_t i = 0; i < sizeof(totals) / sizeof(totals[0]); i++) {
                write_pattern(totals[i], 300007);
                write_pattern(totals[i], 4 * STORE_BUF_SIZE);
        }
}

static void writer_makes_checkpoints(void **unused)
{
        (void)unused;
        write_pattern((256u << 20) + 12345, 1u << 20);
}

static void writer_stops_at_a_failure(void **unused)
{
        struct place p;
        struct store_writer w;
        struct mlc_sha256 h;
        struct mlc_err err = {0};
        static unsigned char buf[STORE_BUF_SIZE];
        int r = 0, fd;

        (void)unused;
        place_make(&p);
        fd = open("/dev/full", O_RDWR);
        assert_true(fd >= 0);
        mlc_sha256_init(&h);
        store_writer_init(&w, 0, &h);
        w.fd = fd;
        w.space_fd = p.s.uploads_fd;
        for (int i = 0; i < 4 && r == 0; i++)
                r = store_writer_add(&w, &h, buf, sizeof(buf), &err);
        assert_int_equal(r, MLC_E_NO_SPACE);
        mlc_err_clear(&err);
        assert_int_equal(store_writer_drain(&w, &err), MLC_E_NO_SPACE);
        assert_int_equal(w.done, 0);
        store_writer_done(&w);
        (void)close(fd);
        place_done(&p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(state_round_trip),
                cmocka_unit_test(state_with_unusable_hash_is_hashed_again),
                cmocka_unit_test(damaged_state_is_refused),
                cmocka_unit_test(floor_of_free_space),
                cmocka_unit_test(publish_twice),
                cmocka_unit_test(too_many_uploads),
                cmocka_unit_test(writer_writes_all),
                cmocka_unit_test(writer_makes_checkpoints),
                cmocka_unit_test(writer_stops_at_a_failure),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
