/* SPDX-License-Identifier: Apache-2.0 */
/* Rollouts whose steps ask for approvals: no step is left, and nothing goes live, without them. */
#include "unit/policy/custody_world.h"

#define PLAN "sha256:eeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeeee"
#define SHOWN "sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"
#define OTHER "sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"

/* 50 %, two approvers; 70 %, nobody; 100 %, one approver. */
static json_t *model(void)
{
        return json_pack(
                "{s:s, s:s, s:s, s:n, s:[], s:{s:s, s:["
                "{s:s, s:[{s:s, s:[s], s:i, s:n}]}, {s:s}, {s:s, s:[{s:s, s:[s], s:i, s:n}]}"
                "], s:[]}}",
                "apiVersion", "mlctl/v1", "kind", "Model", "name", "fraud/scorer", "policy",
                "routes", "rollout", "strategy", "none", "steps", "weight", "0.500000000",
                "approvals", "name", "risk", "from", "role:approver", "count", 2, "request_ttl_ms",
                "weight", "0.700000000", "weight", "1.00000000", "approvals", "name", "last",
                "from", "role:approver", "count", 1, "request_ttl_ms", "checks");
}

/* Version 1 is live, version 2 about to begin. */
static struct world *world_of_steps(void)
{
        struct world *w = world_empty();
        json_t *env = environment("production", OWNERS, 2);

        json_array_append_new(json_object_get(env, "targets"), json_pack("{s:s}", "name", "eu"));
        fine(w, apply(w, policy("production", "role:approver", 2)));
        fine(w, apply(w, env));
        fine(w, protect(w, "de", 2));
        goes_live(w, "p1", 1, NULL, 0);
        fine(w, apply(w, model()));
        return w;
}

static int request(struct world *w, const char *id)
{
        json_t *state = json_pack("{s:s, s:s}", "evidence", SHOWN, "state", "open");

        return leaf(w, "request.open", id, state, NULL);
}

static int rollout(struct world *w, const char *state, int step)
{
        json_t *out = json_pack("{s:s, s:s, s:s, s:i}", "promotion", "p2", "plan", PLAN, "state",
                                state, "step", step);

        return leaf(w, "rollout.step", "r1", out, NULL);
}

static struct mlc_statement step_of(struct world *w, const char *id)
{
        static const char *const shown[] = {SHOWN};
        struct mlc_statement s = approval_of(w, id, 2);

        s.subject_kind = "rollout";
        s.plan_digest = PLAN;
        s.evidence = shown;
        s.n_evidence = 1;
        return s;
}

static int sign(struct world *w, const char *id, char who)
{
        return decide(w, step_of(w, id), who, who);
}

static void begins(struct world *w)
{
        fine(w, approve(w, "p2", 2, 'a'));
        fine(w, approve(w, "p2", 2, 'b'));
        fine(w, promotion(w, "p2", 2, "rolling_out"));
        fine(w, rollout(w, "preparing", 0));
        fine(w, rollout(w, "running", 0));
        fine(w, request(w, "r1/1"));
}

#define WORLD                                                                                      \
        struct world *w = world_of_steps();                                                        \
        (void)state;                                                                               \
        begins(w)

static void each_step_by_its_approvals(void **state)
{
        WORLD;
        fine(w, sign(w, "r1/1", 'a'));
        fine(w, sign(w, "r1/1", 'b'));
        fine(w, rollout(w, "running", 1));
        fine(w, rollout(w, "running", 2));
        fine(w, request(w, "r1/3"));
        fine(w, sign(w, "r1/3", 'a'));
        fine(w, rollout(w, "completing", 2));
        fine(w, promotion(w, "p1", 1, "replaced"));
        fine(w, promotion(w, "p2", 2, "live"));
        fine(w, live(w, "p2", 2));
        fine(w, alias(w, 2));
        world_ends(w);
        world_free(w);
}

static void too_few(void **state)
{
        WORLD;
        fine(w, sign(w, "r1/1", 'a'));
        fine(w, sign(w, "r1/1", 'a'));
        wrong(w, rollout(w, "running", 1), "goes on from step 1 without the approvals");
        wrong(w, rollout(w, "running", 2), "rule 'risk' has 1 of 2");
        wrong(w, rollout(w, "completing", 0), "goes on from step 1");
        world_free(w);
}

static void live_past_a_step(void **state)
{
        WORLD;
        wrong(w, promotion(w, "p2", 2, "live"), "without the approvals that steps");
        fine(w, sign(w, "r1/1", 'a'));
        fine(w, sign(w, "r1/1", 'b'));
        fine(w, rollout(w, "running", 2));
        wrong(w, promotion(w, "p2", 2, "live"), "without the approvals that steps");
        world_free(w);
}

static void live_without_a_rollout(void **state)
{
        struct world *w = world_of_steps();

        (void)state;
        fine(w, approve(w, "p2", 2, 'a'));
        fine(w, approve(w, "p2", 2, 'b'));
        wrong(w, promotion(w, "p2", 2, "live"), "without the approvals that steps");
        world_free(w);
}

static void who_made_or_asked_for_it(void **state)
{
        WORLD;
        fine(w, role(w, 'm', "approver", "other", true));
        fine(w, sign(w, "r1/1", 'a'));
        fine(w, sign(w, "r1/1", 'r'));
        fine(w, sign(w, "r1/1", 'm'));
        wrong(w, rollout(w, "running", 1), "has 1 of 2");
        world_free(w);
}

static void a_rejection(void **state)
{
        struct mlc_statement s;

        WORLD;
        fine(w, sign(w, "r1/1", 'a'));
        fine(w, sign(w, "r1/1", 'b'));
        s = step_of(w, "r1/1");
        s.decision = "reject";
        fine(w, decide(w, s, 'x', 'x')); /* whom nobody asks */
        fine(w, decide(w, s, 'b', 'b'));
        wrong(w, rollout(w, "running", 1), "though it was rejected");
        world_free(w);
}

static void signed_for_something_else(void **state)
{
        static const char *const other[] = {OTHER};
        static const char *const words[] = {
                "it is for another plan",     "it is for other evidence", "for another version",
                "it is for another artifact", "for other rules",          "for another verdict",
                "its signature does not hold"};

        WORLD;
        for (size_t i = 0; i < ARRAY_LEN(words); i++) {
                struct mlc_statement s = step_of(w, "r1/1");

                if (i == 0)
                        s.plan_digest = OTHER;
                else if (i == 1)
                        s.evidence = other;
                else if (i == 2)
                        s.version = 3;
                else if (i == 3)
                        s.artifact = OTHER;
                else if (i == 4)
                        s.policy_digest = OTHER;
                else if (i == 5)
                        s.verdict_digest = OTHER;
                if (i < 6)
                        fine(w, decide(w, s, 'b', 'b'));
                else
                        break;
        }
        fine(w, sign(w, "r1/1", 'a'));
        for (size_t i = 0; i < 3; i++) /* the newest are named */
                wrong(w, rollout(w, "running", 1), words[5 - i]);
        /* another step's, another rollout's and the promotion's own do not count */
        fine(w, sign(w, "r1/2", 'b'));
        fine(w, sign(w, "r2/1", 'b'));
        wrong(w, rollout(w, "running", 1), "has 1 of 2");
        fine(w, decide(w, step_of(w, "r1/1"), 'b', 'x'));
        wrong(w, rollout(w, "running", 1), "has 1 of 2");
        fine(w, sign(w, "r1/1", 'b'));
        fine(w, rollout(w, "running", 1));
        world_free(w);
}

static void void_and_late(void **state)
{
        WORLD;
        fine(w, sign(w, "r1/1", 'a'));
        fine(w, sign(w, "r1/1", 'b'));
        fine(w, leaf(w, "approval.void", "a6", json_pack("{s:b}", "void", 1), NULL));
        wrong(w, rollout(w, "running", 1), "has 1 of 2");
        fine(w, sign(w, "r1/1", 'b'));
        w->now += 4 * DAY_MS;
        wrong(w, rollout(w, "running", 1), "it has expired");
        world_free(w);
}

/* The documents of its beginning count: steps are not taken away under way. */
static void other_steps_come_later(void **state)
{
        json_t *later = model();

        WORLD;
        json_array_clear(json_object_get(json_object_get(later, "rollout"), "steps"));
        fine(w, apply(w, later));
        wrong(w, rollout(w, "running", 1), "has 0 of 2");
        world_free(w);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_step_by_its_approvals),
                cmocka_unit_test(too_few),
                cmocka_unit_test(live_past_a_step),
                cmocka_unit_test(live_without_a_rollout),
                cmocka_unit_test(who_made_or_asked_for_it),
                cmocka_unit_test(a_rejection),
                cmocka_unit_test(signed_for_something_else),
                cmocka_unit_test(void_and_late),
                cmocka_unit_test(other_steps_come_later),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
