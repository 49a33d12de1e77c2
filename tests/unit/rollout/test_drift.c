/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/drift.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/cleanup.h"

#define DIGEST "sha256:0000000000000000000000000000000000000000000000000000000000000001"

static const struct mlc_digest tree = {{1}}, other_tree = {{2}};

static void test_names(void **state)
{
        static const struct {
                const char *model;
                unsigned long long version;
                const char *name; /* NULL: refused */
        } cases[] = {
                {"fraud/scorer", 3, "fraud--scorer--3"},
                {"a-b/c.d_e", 9007199254740991ULL, "a-b--c.d_e--9007199254740991"},
                {"fraud/scorer", 0, NULL},
                {"fraud/scorer", 9007199254740992ULL, NULL},
                {"fraud/a--b", 1, NULL},
                {"fr--aud/b", 1, NULL},
                {"fraud", 1, NULL},
                {"fraud/Scorer", 1, NULL},
                {"fraud/../x", 1, NULL},
                {"a-/b", 1, NULL}, /* names begin and end with a letter or digit */
                {"a/-b", 1, NULL},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char name[MLC_SERVING_NAME_MAX] = "", model[MLC_SERVING_NAME_MAX];
                unsigned long long version;
                struct mlc_err err = {0};
                int r = mlc_serving_name(cases[i].model, cases[i].version, name, &err);

                if (cases[i].name == NULL) {
                        assert_int_equal(r, MLC_E_INVALID);
                        continue;
                }
                assert_int_equal(r, 0);
                assert_string_equal(name, cases[i].name);
                assert_true(mlc_serving_name_parse(name, model, &version));
                assert_string_equal(model, cases[i].model);
                assert_true(version == cases[i].version);
        }
}

static void test_names_of_others(void **state)
{
        static const char *const names[] = {"",         "iris",      "a--b",       "a--b--",
                                            "a--b--0",  "a--b--01",  "a--b--c--3", "--b--3",
                                            "a----3",   "a--b--3 ",  "A--b--3",    "a--b---3",
                                            "a--b--v3", "api--b--3", "a--b--3--4", "a---b--3"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(names); i++) {
                char model[MLC_SERVING_NAME_MAX] = "untouched";
                unsigned long long version;

                if (mlc_serving_name_parse(names[i], model, &version))
                        fail_msg("'%s' is taken for %s", names[i], model);
                assert_string_equal(model, "untouched");
        }
}

/* One expected version, fraud--scorer--3, and what is seen of it. */
struct scene {
        struct mlc_serving_call call;
        struct mat_place place;
        struct drift_expected expected[1];
        struct drift_in in;
        struct mlc_serving_result ready[1], retired[1];
        struct mlc_serving_model old[1];
        struct mat_found found[2];
        struct mlc_serving_listed listed[3];
        struct drift_seen seen;
};

static void set_scene(struct scene *s)
{
        *s = (struct scene){
                .call = {.url = "http://127.0.0.1:1"},
                .expected = {{.model = {.name = "fraud--scorer--3",
                                        .model = "fraud/scorer",
                                        .version = 3,
                                        .digest = DIGEST},
                              .tree = tree}},
                .ready = {{.outcome = MLC_SERVING_OK, .status = 200}},
                .retired = {{.outcome = MLC_SERVING_NOT_FOUND, .status = 404}},
                .old = {{.name = "fraud--scorer--2", .model = "fraud/scorer", .version = 2}},
                .found = {{.name = "fraud--scorer--3", .folder = true, .tree = tree}},
                .listed = {{"fraud--scorer--3", "3", "ready"}},
        };
        s->in = (struct drift_in){.call = &s->call,
                                  .place = &s->place,
                                  .expected = s->expected,
                                  .n_expected = 1,
                                  .retired = s->old,
                                  .n_retired = 1};
        s->seen = (struct drift_seen){.listing = {.outcome = MLC_SERVING_OK},
                                      .list = {.items = s->listed, .n = 1},
                                      .ready = s->ready,
                                      .retired = s->retired,
                                      .found = s->found,
                                      .n_found = 1};
}

/* "NAME STATE; …" of the report. */
static void expect(const struct scene *s, const char *want)
{
        _cleanup_(json_decref_p) json_t *report = drift_compare(&s->in, &s->seen);
        char got[512] = "";
        size_t n = 0;
        bool clean = true;

        for (size_t i = 0; i < json_array_size(report); i++) {
                const json_t *one = json_array_get(report, i);
                const char *name = json_string_value(json_object_get(one, "name"));
                const char *st = json_string_value(json_object_get(one, "state"));

                assert_int_equal(json_object_size(one), 8);
                n += (size_t)snprintf(got + n, sizeof(got) - n, "%s%s %s", i > 0 ? "; " : "",
                                      name != NULL ? name : "-", st);
                clean = clean && strcmp(st, "ok") == 0;
        }
        assert_string_equal(got, want);
        assert_int_equal(drift_clean(report), clean);
}

static void test_one_version(void **state)
{
        struct scene s;

        (void)state;
        set_scene(&s);
        expect(&s, "fraud--scorer--3 ok");
        s.ready[0].outcome = MLC_SERVING_NOT_FOUND;
        expect(&s, "fraud--scorer--3 missing");
        s.ready[0].outcome = MLC_SERVING_TRANSIENT;
        expect(&s, "fraud--scorer--3 unreachable");
        s.found[0].tree = other_tree; /* worse news first */
        expect(&s, "fraud--scorer--3 changed");
        set_scene(&s);
        (void)snprintf(s.found[0].what, sizeof(s.found[0].what), "a link");
        expect(&s, "fraud--scorer--3 changed");
        set_scene(&s);
        s.seen.n_found = 0;
        expect(&s, "fraud--scorer--3 missing");
        (void)snprintf(s.seen.repository, sizeof(s.seen.repository), "cannot be read");
        expect(&s, "fraud--scorer--3 unreachable");
        s.in.place = NULL; /* a webhook without repository */
        s.seen.repository[0] = '\0';
        expect(&s, "fraud--scorer--3 ok");
}

static void test_on_its_way(void **state)
{
        struct scene s;

        (void)state;
        set_scene(&s);
        s.expected[0].optional = true;
        expect(&s, "fraud--scorer--3 ok");
        s.ready[0].outcome = MLC_SERVING_NOT_FOUND;
        expect(&s, "fraud--scorer--3 ok"); /* its folder lies there, to be loaded or removed */
        s.seen.n_found = 0;
        s.seen.list.n = 0;
        expect(&s, "");
        set_scene(&s);
        s.expected[0].optional = true;
        s.found[0].tree = other_tree;
        expect(&s, "fraud--scorer--3 changed");
        s.expected[0].unknown = true; /* its folder has only just been made */
        expect(&s, "fraud--scorer--3 changed");
        (void)snprintf(s.found[0].digest, sizeof(s.found[0].digest), "%s", DIGEST);
        expect(&s, "fraud--scorer--3 ok");
}

static void test_without_repository(void **state)
{
        struct scene s;

        (void)state;
        set_scene(&s);
        s.in.place = NULL;
        s.expected[0].unknown = true;
        s.seen.n_found = 0;
        expect(&s, "fraud--scorer--3 ok");
        s.ready[0].outcome = MLC_SERVING_NOT_FOUND;
        expect(&s, "fraud--scorer--3 missing");
}

static void test_what_nobody_approved(void **state)
{
        struct scene s;

        (void)state;
        set_scene(&s);
        s.listed[1] = (struct mlc_serving_listed){"iris", "1", "unavailable"};
        s.seen.list.n = 2;
        expect(&s, "fraud--scorer--3 ok; iris unapproved");
        s.found[1] = (struct mat_found){.name = "iris", .folder = true, .tree = tree};
        s.seen.n_found = 2;
        expect(&s, "fraud--scorer--3 ok; iris unapproved"); /* once */
        s.seen.list.n = 1;
        expect(&s, "fraud--scorer--3 ok; iris unapproved");
        s.retired[0].outcome = MLC_SERVING_OK;
        expect(&s, "fraud--scorer--2 unapproved; fraud--scorer--3 ok; iris unapproved");
        set_scene(&s);
        s.listed[1] = s.listed[0];
        s.seen.list.n = 2;
        expect(&s, "fraud--scorer--3 changed"); /* two folders claim the name */
        set_scene(&s);
        (void)snprintf(s.listed[0].version, sizeof(s.listed[0].version), "4");
        expect(&s, "fraud--scorer--3 changed");
}

static void test_no_data_is_not_good_data(void **state)
{
        struct scene s;

        (void)state;
        set_scene(&s);
        s.seen.list.n = 0;
        s.seen.listing.outcome = MLC_SERVING_REFUSED;
        expect(&s, "- unreachable; fraud--scorer--3 ok");
        s.ready[0].outcome = MLC_SERVING_UNREACHABLE;
        expect(&s, "fraud--scorer--3 unreachable");
        s.in.n_expected = 0;
        s.seen.n_found = 0;
        expect(&s, "- unreachable");
        s.seen.listing.outcome = MLC_SERVING_OK;
        expect(&s, "");
        (void)snprintf(s.seen.repository, sizeof(s.seen.repository), "cannot be read");
        expect(&s, "- unreachable");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_names),
                cmocka_unit_test(test_names_of_others),
                cmocka_unit_test(test_one_version),
                cmocka_unit_test(test_on_its_way),
                cmocka_unit_test(test_without_repository),
                cmocka_unit_test(test_what_nobody_approved),
                cmocka_unit_test(test_no_data_is_not_good_data),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
