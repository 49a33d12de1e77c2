/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include "base/str.h"
#include "policy/approval.h"

/* ua1 is of group a, ub of group b, uab of both; everybody in role:approver but ux. */
static int holds(void *userdata, const char *person, const char *from, bool *ret,
                 struct mlc_err *err)
{
        (void)userdata;
        if (mlc_streq(from, "group:broken"))
                return mlc_fail(err, MLC_E_UNAVAILABLE, "no answer");
        *ret = (mlc_streq(from, "role:approver") && person[1] != 'x') ||
               (mlc_starts_with(from, "group:") && strchr(person + 1, from[6]) != NULL) ||
               (mlc_starts_with(from, "user:") && mlc_streq(from + 5, person));
        return 0;
}

#define R(name, from, count) "{'name':'" name "','from':[" from "],'count':" count "}"

static const struct {
        const char *rules, *people, *excluded;
        bool satisfied;
        unsigned have[3];
} CASES[] = {
        {"[]", "", "", true, {0}},
        {"[" R("r", "'role:approver'", "2") "]", "", "", false, {0}},
        {"[" R("r", "'role:approver'", "2") "]", "u1", "", false, {1}},
        {"[" R("r", "'role:approver'", "2") "]", "u1 u2", "", true, {2}},
        {"[" R("r", "'role:approver'", "2") "]", "u1 u2 u3", "", true, {2}},
        {"[" R("r", "'role:approver'", "2") "]", "u1 u1", "", false, {1}}, /* once */
        {"[" R("r", "'role:approver'", "2") "]", "u1 u2", "u2", false, {1}}, /* author */
        {"[" R("r", "'role:approver'", "2") "]", "u1 ux", "", false, {1}},
        {"[" R("r", "'role:approver','user:ux'", "2") "]", "u1 ux", "", true, {2}},
        /* one person counts once across rules */
        {"[" R("a", "'group:a'", "1") "," R("b", "'group:b'", "1") "]", "uab", "", false, {1, 0}},
        {"[" R("a", "'group:a'", "1") "," R("b", "'group:b'", "1") "]", "uab ua", "", true, {1, 1}},
        {"[" R("a", "'group:a'", "1") "," R("b", "'group:b'", "1") "]", "uab ub", "", true, {1, 1}},
        {"[" R("a", "'group:a'", "1") "," R("b", "'group:b'", "1") "]",
         "ua u2a",
         "",
         false,
         {1, 0}},
        /* people move over two rules to make room for the last one */
        {"[" R("a", "'group:a'", "1") "," R("b", "'group:b'", "1") "," R("c", "'group:c'", "1") "]",
         "uab ubc ua",
         "",
         true,
         {1, 1, 1}},
        {"[" R("a", "'group:a'", "2") "," R("b", "'group:b'", "2") "]",
         "uab u2ab ua u2b",
         "",
         true,
         {2, 2}},
        {"[" R("a", "'group:a'", "2") "," R("b", "'group:b'", "2") "]",
         "uab u2ab ua u2a",
         "",
         true,
         {2, 2}},
        {"[" R("a", "'group:a'", "3") "," R("b", "'group:b'", "1") "]",
         "uab ua u2a",
         "",
         false,
         {2, 1}},
};

static size_t split(char *text, const char **ret)
{
        size_t n = 0;
        char *save = NULL;

        for (char *p = strtok_r(text, " ", &save); p != NULL; p = strtok_r(NULL, " ", &save))
                ret[n++] = p;
        return n;
}

static void people_are_counted(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(CASES); i++) {
                _cleanup_(json_decref_p) json_t *rules = json_of(CASES[i].rules);
                _cleanup_(free_p) char *p = strdup(CASES[i].people), *e = strdup(CASES[i].excluded);
                const char *people[16], *excluded[16];
                struct mlc_approval_in in = {
                        .rules = rules, .people = people, .excluded = excluded, .holds = holds};
                struct mlc_approval_count c;
                struct mlc_err err = {0};
                struct mlc_arena a;
                unsigned have = 0, placed = 0;

                in.n_people = split(p, people);
                in.n_excluded = split(e, excluded);
                mlc_arena_init(&a, 1u << 20);
                if (mlc_approval_count(&in, &a, &c, &err) < 0)
                        fail_msg("%s", err.msg);
                if (c.satisfied != CASES[i].satisfied)
                        fail_msg("case %zu", i);
                for (size_t k = 0; k < c.n_rules; k++) {
                        assert_true(c.rules[k].have <= c.rules[k].need);
                        if (CASES[i].satisfied)
                                assert_int_equal(c.rules[k].have, CASES[i].have[k]);
                        have += c.rules[k].have;
                }
                for (size_t k = 0; k < in.n_people; k++)
                        placed += c.placed[k] >= 0;
                assert_int_equal(placed, have);
                for (size_t k = 0, want = 0; k < c.n_rules; k++) {
                        want += CASES[i].have[k];
                        if (k + 1 == c.n_rules)
                                assert_int_equal(have, want);
                }
                mlc_arena_done(&a);
        }
}

/* Against the best of all assignments, by trying each. */
static unsigned best(const bool may[5][3], const unsigned need[3], size_t person, unsigned have[3])
{
        unsigned most = 0;

        if (person == 5)
                return have[0] + have[1] + have[2];
        most = best(may, need, person + 1, have);
        for (size_t k = 0; k < 3; k++) {
                unsigned got;

                if (!may[person][k] || have[k] == need[k])
                        continue;
                have[k]++;
                got = best(may, need, person + 1, have);
                have[k]--;
                most = got > most ? got : most;
        }
        return most;
}

static int holds_bits(void *userdata, const char *person, const char *from, bool *ret,
                      struct mlc_err *err)
{
        const bool(*may)[3] = userdata;

        (void)err;
        *ret = may[person[1] - '0'][from[5] - '0'];
        return 0;
}

static void the_matching_is_maximal(void **state)
{
        static const char *const people[] = {"u0", "u1", "u2", "u3", "u4"};
        uint64_t seed = 42;

        (void)state;
        for (int round = 0; round < 2000; round++) {
                bool may[5][3];
                unsigned need[3], none[3] = {0}, have = 0;
                _cleanup_(json_decref_p) json_t *rules = json_array();
                struct mlc_approval_in in = {rules, people, 5, NULL, 0, holds_bits, may};
                struct mlc_approval_count c;
                struct mlc_err err = {0};
                struct mlc_arena a;

                for (unsigned k = 0; k < 3; k++) {
                        seed = seed * 6364136223846793005u + 1442695040888963407u;
                        need[k] = 1 + (unsigned)(seed >> 60) % 3;
                        for (unsigned i = 0; i < 5; i++)
                                may[i][k] = (seed >> (40 + i) & 1) != 0;
                        json_array_append_new(rules, json_pack("{s:s, s:[o], s:i}", "name", "r",
                                                               "from", json_sprintf("user:%u", k),
                                                               "count", (int)need[k]));
                }
                mlc_arena_init(&a, 1u << 20);
                assert_int_equal(mlc_approval_count(&in, &a, &c, &err), 0);
                for (size_t k = 0; k < 3; k++)
                        have += c.rules[k].have;
                assert_int_equal(have, best(may, need, 0, none));
                mlc_arena_done(&a);
        }
}

static void errors_are_passed_on(void **state)
{
        static const char *const people[] = {"u1"};
        static const char *const bad[] = {
                "{}",
                "[{'name':'r','from':['group:broken'],'count':1}]",
                "[{'name':'r','from':'x','count':1}]",
                "[{'name':'r','from':[5],'count':1}]",
                "[{'name':'r','from':[],'count':0}]",
                "[{'name':'r','from':[],'count':33}]",
                "[{'from':[],'count':1}]",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                _cleanup_(json_decref_p) json_t *rules = json_of(bad[i]);
                struct mlc_approval_in in = {
                        .rules = rules, .people = people, .n_people = 1, .holds = holds};
                struct mlc_approval_count c;
                struct mlc_err err = {0};
                struct mlc_arena a;

                mlc_arena_init(&a, 1u << 20);
                assert_true(mlc_approval_count(&in, &a, &c, &err) < 0);
                assert_true(err.code != 0);
                mlc_arena_done(&a);
        }
}

static void one_may_be_asked_about(void **state)
{
        static const char *const excluded[] = {"ua"};
        _cleanup_(json_decref_p) json_t *rules = json_of("[" R("a", "'group:a'", "1") "]");
        struct mlc_approval_in in = {
                .rules = rules, .excluded = excluded, .n_excluded = 1, .holds = holds};
        struct mlc_err err = {0};
        bool may = false;

        (void)state;
        assert_int_equal(mlc_approval_may(&in, 0, "u2a", &may, &err), 0);
        assert_true(may);
        assert_int_equal(mlc_approval_may(&in, 0, "ua", &may, &err), 0);
        assert_false(may);
        assert_int_equal(mlc_approval_may(&in, 0, "ub", &may, &err), 0);
        assert_false(may);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(people_are_counted),
                cmocka_unit_test(the_matching_is_maximal),
                cmocka_unit_test(errors_are_passed_on),
                cmocka_unit_test(one_may_be_asked_about),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
