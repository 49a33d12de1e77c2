/* SPDX-License-Identifier: Apache-2.0 */
#include "client/proof.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "unit/tlog/memlog.h"

#define ORIGIN "test/log"
#define URL "http://127.0.0.1:1"

static struct mlc_checkpoint grow(struct memlog *m, unsigned n, const char *text)
{
        struct mlc_checkpoint c = {.size = 0};
        struct mlc_err err = {0};
        struct mlc_digest leaf;
        char entry[64];

        for (unsigned i = 0; i < n; i++) {
                (void)snprintf(entry, sizeof(entry), "%s %llu", text,
                               (unsigned long long)m->tiler.size);
                mlc_merkle_leaf(entry, strlen(entry), &leaf);
                assert_int_equal(mlc_tiler_append(&m->tiler, &leaf, &err), 0);
        }
        assert_int_equal(mlc_tiler_flush(&m->tiler, &err), 0);
        c.size = m->tiler.size;
        mlc_tiler_root(&m->tiler, &c.root);
        (void)snprintf(c.origin, sizeof(c.origin), ORIGIN);
        return c;
}

static int compare(struct memlog *m, const struct mlc_checkpoint *seen,
                   const struct mlc_checkpoint *now, const char *says)
{
        const struct mlc_tlog_source src = memlog_source(m);
        struct mlc_err err = {0};
        int r = mlc_log_compare(&src, URL, seen, now, &err);

        assert_int_equal(r, err.code);
        assert_true(says == NULL ? r == 0 : strstr(err.msg, says) != NULL);
        return r;
}

static void test_compare(void **state)
{
        static const unsigned steps[] = {1, 1, 5, 249, 1, 300, 70000};
        struct memlog *m = memlog_new(ORIGIN), *fork = memlog_new(ORIGIN);
        struct mlc_checkpoint none = {0}, seen[8] = {0}, other[8] = {0};
        size_t n = sizeof(steps) / sizeof(steps[0]);

        (void)state;
        for (size_t i = 0; i < n; i++) {
                seen[i] = grow(m, steps[i], "entry");
                other[i] = grow(fork, steps[i], i < 3 ? "entry" : "other");
        }
        for (size_t i = 0; i < n; i++) {
                assert_int_equal(compare(m, &none, &seen[i], NULL), 0);
                for (size_t k = i; k < n; k++)
                        assert_int_equal(compare(m, &seen[i], &seen[k], NULL), 0);
                for (size_t k = 0; k < i; k++)
                        assert_int_equal(compare(m, &seen[i], &seen[k], "shorter"), MLC_E_VERIFY);
        }
        for (size_t i = 3; i < n; i++) {
                for (size_t k = i; k < n; k++)
                        assert_int_equal(compare(fork, &seen[i], &other[k], "forked"),
                                         MLC_E_VERIFY);
                assert_int_equal(compare(fork, &seen[2], &other[i], NULL), 0);
                /* the true tiles do not lead to the other root */
                if (i + 1 < n)
                        assert_int_equal(compare(m, &seen[i], &other[i + 1], "forked"),
                                         MLC_E_VERIFY);
        }
        memlog_free(m);
        memlog_free(fork);
}

static void test_pin_file(void **state)
{
        struct memlog *m = memlog_new(ORIGIN), *liar = memlog_new(ORIGIN);
        struct mlc_note_signer signer = {ORIGIN, &m->key};
        _cleanup_(mlc_pin_done) struct mlc_pin pin = {0}, again = {0}, broken = {0};
        char dir[] = "/tmp/pin-XXXXXX", fingerprint[MLC_SSHKEY_FP];
        struct mlc_checkpoint c = grow(m, 3, "entry");
        struct mlc_err err = {0};
        struct mlc_str text, note;
        struct stat st;

        (void)state;
        assert_non_null(mkdtemp(dir));
        assert_int_equal(mlc_pin_load(dir, URL, &pin, &err), 0);
        assert_int_equal(pin.n_keys, 0);
        mlc_str_init(&text, 4096);
        mlc_str_init(&note, 4096);
        mlc_checkpoint_format(&c, &text);
        assert_int_equal(mlc_note_sign(mlc_str_cstr(&text), &signer, 1, &note, &err), 0);
        pin.keys[0] = m->vkey;
        pin.keys[1] = liar->vkey;
        pin.n_keys = 2;
        pin.note = mlc_str_take(&note);
        pin.seen = c;
        assert_int_equal(mlc_pin_save(&pin, URL, &err), 0);
        assert_int_equal(stat(pin.file, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0600);
        assert_int_equal(mlc_pin_load(dir, URL, &again, &err), 0);
        assert_int_equal(again.n_keys, 2);
        assert_true(mlc_vkey_equal(&again.keys[0], &m->vkey));
        assert_true(mlc_vkey_equal(&again.keys[1], &liar->vkey));
        assert_false(mlc_vkey_equal(&again.keys[0], &again.keys[1]));
        assert_int_equal(again.seen.size, 3);
        assert_true(mlc_digest_equal(&again.seen.root, &c.root));
        mlc_vkey_fingerprint(&again.keys[0], fingerprint);
        assert_int_equal(strlen(fingerprint), MLC_SSHKEY_FP - 1);
        /* a checkpoint that the pinned key did not sign is not believed from a file either */
        pin.keys[0] = liar->vkey;
        assert_int_equal(mlc_pin_save(&pin, URL, &err), 0);
        assert_int_equal(mlc_pin_load(dir, URL, &broken, &err), MLC_E_VERIFY);
        assert_non_null(strstr(err.msg, pin.file));
        (void)unlink(pin.file);
        (void)rmdir(dir);
        mlc_str_done(&text);
        mlc_str_done(&note);
        memlog_free(m);
        memlog_free(liar);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_compare),
                cmocka_unit_test(test_pin_file),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
