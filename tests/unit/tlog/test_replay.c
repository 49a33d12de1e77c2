/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "tlog/replay.h"

#define ORIGIN "example.org/log"

/* A replay under construction: leaves are built from JSON text. */
struct story {
        struct mlc_replay *r;
        uint64_t n;
        struct mlc_signer key[3];
        struct mlc_vkey vkey[3];
        struct mlc_err err;
};

static int add(struct story *s, const char *kind, const char *id, const char *before,
               const char *after)
{
        _cleanup_(json_decref_p) json_t *b = before == NULL ? NULL : json_loads(before, 0, NULL);
        _cleanup_(json_decref_p) json_t *a = after == NULL ? NULL : json_loads(after, 0, NULL);
        const struct mlc_leaf_in in = {.origin = ORIGIN,
                                       .actor = "system",
                                       .action = "x.y",
                                       .kind = kind,
                                       .id = id,
                                       .before = b,
                                       .after = a};
        struct mlc_str leaf;
        int r;

        mlc_err_clear(&s->err);
        mlc_str_init(&leaf, 1 << 17);
        assert_int_equal(mlc_leaf_build(&in, &leaf, &s->err), 0);
        r = mlc_replay_leaf(s->r, s->n, leaf.data, leaf.len, &s->err);
        s->n += r == 0;
        mlc_str_done(&leaf);
        return r;
}

static json_t *keys_state(const struct story *s, size_t n)
{
        json_t *keys = json_array();
        struct mlc_str v;

        for (size_t i = 0; i < n; i++) {
                mlc_str_init(&v, 1024);
                mlc_vkey_format(&s->vkey[i], &v);
                (void)json_array_append_new(keys, json_string(v.data));
                mlc_str_done(&v);
        }
        return json_pack("{so}", "keys", keys);
}

/* Keys 0..n-1 afterwards; `signer` signs over the last. */
static int rotate(struct story *s, size_t n, size_t signer)
{
        _cleanup_(json_decref_p) json_t *before = n > 1 ? keys_state(s, n - 1) : NULL;
        _cleanup_(json_decref_p) json_t *after = keys_state(s, n);
        _cleanup_(json_decref_p) json_t *detail = NULL;
        const struct mlc_note_signer by = {ORIGIN, &s->key[signer]};
        struct mlc_leaf_in in = {.origin = ORIGIN,
                                 .actor = "system",
                                 .action = n > 1 ? "log.rotate" : "log.create",
                                 .kind = "log",
                                 .id = ORIGIN,
                                 .before = before,
                                 .after = after};
        struct mlc_str leaf, text, note;
        int r;

        mlc_err_clear(&s->err);
        mlc_str_init(&leaf, 1 << 17);
        mlc_str_init(&text, 4096);
        mlc_str_init(&note, 4096);
        mlc_str_add(&text, MLC_LOG_ROTATE_TYPE "\n" ORIGIN "\n");
        mlc_vkey_format(&s->vkey[n - 1], &text);
        mlc_str_addc(&text, '\n');
        assert_int_equal(mlc_note_sign(text.data, &by, 1, &note, &s->err), 0);
        detail = json_pack("{ss}", "note", note.data);
        in.detail = detail;
        assert_int_equal(mlc_leaf_build(&in, &leaf, &s->err), 0);
        r = mlc_replay_leaf(s->r, s->n, leaf.data, leaf.len, &s->err);
        s->n += r == 0;
        mlc_str_done(&leaf);
        mlc_str_done(&text);
        mlc_str_done(&note);
        return r;
}

static int setup(void **state)
{
        struct story *s = calloc(1, sizeof(*s));

        assert_non_null(s);
        for (size_t i = 0; i < 3; i++) {
                assert_int_equal(mlc_signer_generate(&s->key[i], &s->err), 0);
                assert_int_equal(mlc_vkey_make(ORIGIN, s->key[i].pub, &s->vkey[i], &s->err), 0);
        }
        s->r = mlc_replay_new();
        assert_int_equal(rotate(s, 1, 0), 0);
        *state = s;
        return 0;
}

static int teardown(void **state)
{
        struct story *s = *state;

        mlc_replay_free(&s->r);
        free(s);
        return 0;
}

static int finish(struct story *s, struct mlc_tlog_finding *f)
{
        mlc_err_clear(&s->err);
        return mlc_replay_finish(s->r, s->n, f, &s->err);
}

/* Three objects: one changed, one removed, one as made. Rows as given; NULL leaves one out. */
static void tell(struct story *s, const char *role, const char *alias)
{
        char *log;
        _cleanup_(json_decref_p) json_t *keys = keys_state(s, 1);

        assert_int_equal(add(s, "alias", "a:x", NULL, "{\"version\":1}"), 0);
        assert_int_equal(add(s, "role", "u1/admin@*", NULL, "{\"user\":\"u1\"}"), 0);
        assert_int_equal(add(s, "alias", "a:x", "{\"version\":1}", "{\"version\":2}"), 0);
        assert_int_equal(add(s, "alias", "a:y", NULL, "{\"version\":9}"), 0);
        assert_int_equal(add(s, "alias", "a:y", "{\"version\":9}", NULL), 0);
        mlc_replay_kind(s->r, "log");
        mlc_replay_kind(s->r, "role");
        mlc_replay_kind(s->r, "alias");
        log = json_dumps(keys, 0);
        mlc_replay_row(s->r, "log", ORIGIN, log);
        free(log);
        if (role != NULL)
                mlc_replay_row(s->r, "role", "u1/admin@*", role);
        if (alias != NULL)
                mlc_replay_row(s->r, "alias", "a:x", alias);
}

static void the_state_that_leaves_give_passes(void **state)
{
        struct story *s = *state;
        struct mlc_tlog_finding f;

        tell(s, " { \"user\" : \"u1\" } ", "{\"version\":2}");
        assert_int_equal(finish(s, &f), 0);
}

static void a_changed_row_names_its_last_leaf(void **state)
{
        struct story *s = *state;
        struct mlc_tlog_finding f;

        tell(s, "{\"user\":\"u1\"}", "{\"version\":1}");
        assert_int_equal(finish(s, &f), MLC_E_VERIFY);
        assert_int_equal(f.index, 3);
        assert_non_null(strstr(f.what, "alias 'a:x'"));
}

static void a_lost_row_names_its_last_leaf(void **state)
{
        struct story *s = *state;
        struct mlc_tlog_finding f;

        tell(s, NULL, "{\"version\":1}");
        assert_int_equal(finish(s, &f), MLC_E_VERIFY);
        assert_int_equal(f.index, 2);
}

static void a_row_without_a_leaf_names_the_size(void **state)
{
        struct story *s = *state;
        struct mlc_tlog_finding f;

        tell(s, "{\"user\":\"u1\"}", "{\"version\":2}");
        mlc_replay_row(s->r, "role", "u2/admin@*", "{}");
        assert_int_equal(finish(s, &f), MLC_E_VERIFY);
        assert_int_equal(f.index, 6);
        mlc_replay_row(s->r, "alias", "a:y", "{\"version\":9}");
        assert_int_equal(finish(s, &f), MLC_E_VERIFY);
        assert_int_equal(f.index, 5);
}

static void a_row_of_an_unknown_kind_is_found(void **state)
{
        struct story *s = *state;
        struct mlc_tlog_finding f;

        tell(s, "{\"user\":\"u1\"}", "{\"version\":2}");
        mlc_replay_row(s->r, "ghost", "g", "{}");
        assert_int_equal(finish(s, &f), MLC_E_VERIFY);
        assert_int_equal(f.index, 6);
}

static void the_chain_of_before_is_checked(void **state)
{
        struct story *s = *state;

        assert_int_equal(add(s, "alias", "a", "{\"v\":0}", "{\"v\":1}"), MLC_E_VERIFY);
        assert_int_equal(add(s, "alias", "a", NULL, "{\"v\":1}"), 0);
        assert_int_equal(add(s, "alias", "a", NULL, "{\"v\":2}"), MLC_E_VERIFY);
        assert_int_equal(add(s, "alias", "a", "{\"v\":0}", "{\"v\":2}"), MLC_E_VERIFY);
        assert_int_equal(add(s, "alias", "a", "{\"v\":1}", NULL), 0);
        assert_int_equal(add(s, "alias", "a", "{\"v\":1}", "{\"v\":2}"), MLC_E_VERIFY);
        assert_int_equal(add(s, "alias", "a", NULL, "{\"v\":3}"), 0);
}

static void keys_are_signed_over(void **state)
{
        struct story *s = *state;
        const struct mlc_replay_key *keys;

        assert_int_equal(add(s, "alias", "a", NULL, "{\"v\":1}"), 0);
        assert_int_equal(rotate(s, 2, 1), MLC_E_VERIFY); /* by itself */
        assert_int_equal(rotate(s, 2, 0), 0);
        assert_int_equal(rotate(s, 3, 0), MLC_E_VERIFY); /* by the first, not the last */
        assert_int_equal(rotate(s, 3, 1), 0);
        assert_int_equal(mlc_replay_keys(s->r, &keys), 3);
        assert_int_equal(keys[0].from, 0);
        assert_int_equal(keys[1].from, 2);
        assert_int_equal(keys[2].from, 3);
        assert_memory_equal(keys[2].vkey.pub, s->vkey[2].pub, 32);
}

static void the_first_leaf_founds_the_log(void **state)
{
        struct story s = {.r = mlc_replay_new()};

        (void)state;
        assert_int_equal(add(&s, "alias", "a", NULL, "{\"v\":1}"), MLC_E_VERIFY);
        mlc_replay_free(&s.r);
}

static void a_successor_carries_the_state(void **state)
{
        struct story *s = *state;

        assert_int_equal(add(s, "alias", "a", NULL, "{\"v\":1}"), 0);
        mlc_replay_succeed(s->r);
        s->n = 0;
        assert_int_equal(add(s, "alias", "a", "{\"v\":1}", "{\"v\":2}"), MLC_E_VERIFY);
        assert_non_null(strstr(s->err.msg, "does not found the log"));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                T(the_state_that_leaves_give_passes),
                T(a_changed_row_names_its_last_leaf),
                T(a_lost_row_names_its_last_leaf),
                T(a_row_without_a_leaf_names_the_size),
                T(a_row_of_an_unknown_kind_is_found),
                T(the_chain_of_before_is_checked),
                T(keys_are_signed_over),
                T(a_successor_carries_the_state),
                cmocka_unit_test(the_first_leaf_founds_the_log),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
