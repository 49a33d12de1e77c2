/* SPDX-License-Identifier: Apache-2.0 */
/* While people are asked to sign a step. */
#include "unit/rollout/support.h"

#define INPUTS(more) "{'step':0,'step_ms':7200000" more "}"

/* What is decided with these inputs, once the minima are met and the deadline is over. */
static void decides(const char *inputs, const char *expected)
{
        _cleanup_(json_decref_p) json_t *plan = plan_of(
                ROLLOUT("{'strategy':'canary','steps':[{'weight':'50%','requests':100,'approvals':"
                        "[{'name':'risk','from':['role:approver']}]}],'checks':[{'id':'errors',"
                        "'type':'error-rate','margin':'5%'}],'deadline':'1h','on_deadline':"
                        "'rollback','on_silence':'pause'}"));
        _cleanup_(json_decref_p) json_t *none = mlc_rollout_stats_new();
        _cleanup_(json_decref_p) json_t *increment =
                json_of("{'generation':1,'step':0,'weight':5000,'arms':{'candidate':{'requests':"
                        "1000,'errors':0},'stable':{'requests':1000,'errors':0}}}");
        _cleanup_(json_decref_p) json_t *in = json_of(inputs);
        json_t *stats, *decision;
        struct mlc_err err = {0};

        assert_int_equal(mlc_rollout_fold(plan, none, increment, &stats, &err), 0);
        assert_int_equal(mlc_rollout_decide_again(plan, stats, in, &decision, &err), 0);
        assert_string_equal(text(decision, "decision"), expected);
        json_decref(decision);
        json_decref(stats);
}

/* One late answer of a gateway does not end what people are asked for. */
static void no_deadline_while_they_are_asked(void **state)
{
        (void)state;
        decides(INPUTS(",'asked':false"), "wait");
        decides(INPUTS(",'asked':false,'fault':'late'"), "deadline");
        decides(INPUTS(",'asked':true,'fault':'late'"), "hold");
        decides(INPUTS(",'asked':true,'fault':'late','signed_off':true"), "hold");
        decides(INPUTS(",'asked':true,'signed_off':true"), "advance");
}

static void a_minute_is_silence(void **state)
{
        (void)state;
        decides(INPUTS(",'asked':true,'fault':'late','silent_ms':59999"), "hold");
        decides(INPUTS(",'asked':true,'fault':'late','silent_ms':60000"), "silence");
        decides(INPUTS(",'asked':true,'silent_ms':60000"), "wait");
}

/* Stored by who did not know yet whether people were asked: as it was decided then. */
static void what_was_stored_before(void **state)
{
        (void)state;
        decides(INPUTS(",'fault':'late'"), "silence");
        decides(INPUTS(""), "wait");
        decides(INPUTS(",'signed_off':true"), "advance");
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(no_deadline_while_they_are_asked),
                                           cmocka_unit_test(a_minute_is_silence),
                                           cmocka_unit_test(what_was_stored_before)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
