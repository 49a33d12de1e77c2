/* SPDX-License-Identifier: Apache-2.0 */
/* Versions that go live: with everything but the owners' keys it cannot be done unseen. */
#include "unit/policy/custody_world.h"

#define WORLD                                                                                      \
        struct world *w = world_new();                                                             \
        (void)state

static void approved_versions_go_live(void **state)
{
        json_t *list;

        WORLD;
        goes_live(w, "p1", 1, NULL, 0);
        goes_live(w, "p2", 2, "p1", 1);
        world_ends(w);
        list = mlc_custody_environments(w->c);
        assert_int_equal(json_array_size(list), 1);
        assert_true(json_is_true(json_object_get(json_array_get(list, 0), "protected")));
        json_decref(list);
        world_free(w);
}

static void nobody_approved(void **state)
{
        WORLD;
        fine(w, promotion(w, "p1", 1, "approved"));
        wrong(w, promotion(w, "p1", 1, "live"), "rule 'risk' has 0 of 2");
        world_free(w);
}

static void rolling_out_counts_as_live(void **state)
{
        WORLD;
        wrong(w, promotion(w, "p1", 1, "rolling_out"), "rule 'risk' has 0 of 2");
        world_free(w);
}

static void one_person_twice(void **state)
{
        WORLD;
        fine(w, promotion(w, "p1", 1, "approved"));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'a'));
        wrong(w, promotion(w, "p1", 1, "live"), "has 1 of 2");
        world_free(w);
}

static void author_and_requester(void **state)
{
        WORLD;
        fine(w, role(w, 'm', "contributor", "*", true));
        world_free(w);

        w = world_empty();
        fine(w, role(w, 'm', "approver", "*", true));
        fine(w, role(w, 'r', "approver", "*", true));
        fine(w, apply(w, policy("production", "role:approver", 2)));
        fine(w, apply(w, environment("production", OWNERS, 2)));
        fine(w, protect(w, "de", 2));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'm'));
        wrong(w, promotion(w, "p1", 1, "live"), "'umm' made or asked for it");
        fine(w, approve(w, "p2", 1, 'a'));
        fine(w, approve(w, "p2", 1, 'r'));
        wrong(w, promotion(w, "p2", 1, "live"), "'urr' made or asked for it");
        fine(w, approve(w, "p3", 1, 'b'));
        fine(w, approve(w, "p3", 1, 'a'));
        fine(w, promotion(w, "p3", 1, "live"));
        world_free(w);
}

static void a_service_counts_as_its_owner(void **state)
{
        struct world *w = world_empty();

        (void)state;
        /* a's service made the version; to say later that it is b's does not help a */
        fine(w, leaf(w, "user.create", uid('s'), user_state('s', "active", uid('a')), NULL));
        fine(w, leaf(w, "user.create", uid('s'), user_state('s', "active", uid('x')), NULL));
        fine(w, leaf(w, "user.create", uid('s'), user_state('s', "active", NULL), NULL));
        fine(w, key(w, 's', 's', false));
        fine(w, role(w, 's', "approver", "*", true));
        fine(w, version(w, 4, 's', "ready"));
        fine(w, apply(w, policy("production", "role:approver", 1)));
        fine(w, apply(w, environment("production", OWNERS, 2)));
        fine(w, protect(w, "de", 2));
        fine(w, approve(w, "p1", 4, 'a'));
        wrong(w, promotion(w, "p1", 4, "live"), "'uaa' made or asked for it");
        fine(w, approve(w, "p2", 1, 's'));
        wrong(w, promotion(w, "p2", 1, "live"), "its signer is no active person");
        world_free(w);
}

static void unsigned_role(void **state)
{
        WORLD;
        fine(w, role(w, 'x', "approver", "*", true));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "no owners signed for role 'uxx/approver@*'");
        world_free(w);
}

static void another_namespace(void **state)
{
        struct world *w = world_empty();

        (void)state;
        fine(w, role(w, 'x', "approver", "other", true));
        fine(w, apply(w, policy("production", "role:approver", 2)));
        fine(w, apply(w, environment("production", OWNERS, 2)));
        fine(w, protect(w, "de", 2));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "no rule asks for 'uxx'");
        world_free(w);
}

static void unsigned_key(void **state)
{
        WORLD;
        fine(w, key(w, 'b', 'z', false));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, decide(w, approval_of(w, "p1", 1), 'b', 'z'));
        wrong(w, promotion(w, "p1", 1, "live"), "no owners signed for its key");
        world_free(w);
}

static void somebody_elses_key(void **state)
{
        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, decide(w, approval_of(w, "p1", 1), 'b', 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "its key is none of that person");
        /* the leaf of x' key now says that it is b's */
        fine(w, leaf(w, "key.add", "kxx", key_state(w, 'b', 'x', false), NULL));
        wrong(w, promotion(w, "p1", 1, "live"), "its key is none of that person");
        /* b's own id comes to mean another key */
        fine(w, leaf(w, "key.add", "kbb", key_state(w, 'b', 'z', false), NULL));
        fine(w, decide(w, approval_of(w, "p2", 1), 'b', 'z'));
        fine(w, approve(w, "p2", 1, 'a'));
        wrong(w, promotion(w, "p2", 1, "live"), "no owners signed for its key");
        world_free(w);
}

static void revoked_keys_stay_revoked(void **state)
{
        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'b'));
        fine(w, key(w, 'b', 'b', true));
        w->now += DAY_MS / 24;
        wrong(w, promotion(w, "p1", 1, "live"), "its key was revoked");
        fine(w, key(w, 'b', 'b', false)); /* as if it had never been */
        wrong(w, promotion(w, "p1", 1, "live"), "its key was revoked");
        fine(w, leaf(w, "key.add", "knew", key_state(w, 'b', 'b', false), NULL));
        wrong(w, promotion(w, "p1", 1, "live"), "its key was revoked");
        world_free(w);
}

/* The transactions of a revocation and of what goes live overlapped. */
static void a_moment_before_does_not_count(void **state)
{
        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'b'));
        fine(w, key(w, 'b', 'b', true));
        fine(w, role(w, 'a', "approver", "*", false));
        fine(w, promotion(w, "p1", 1, "live"));
        world_free(w);
}

static void revocations_count_without_signatures(void **state)
{
        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'b'));
        fine(w, role(w, 'b', "approver", "fraud", false));
        w->now += DAY_MS / 24;
        wrong(w, promotion(w, "p1", 1, "live"), "has 1 of 2");
        fine(w, role(w, 'b', "approver", "fraud", true)); /* granting again is not revoking */
        wrong(w, promotion(w, "p1", 1, "live"), "no owners signed for role");
        fine(w, user(w, 'a', "disabled"));
        w->now += DAY_MS / 24;
        wrong(w, promotion(w, "p1", 1, "live"), "its signer is no active person");
        world_free(w);
}

static void void_and_expired(void **state)
{
        json_t *voided;

        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'b'));
        w->now += 4 * DAY_MS;
        wrong(w, promotion(w, "p1", 1, "live"), "it has expired");
        fine(w, approve(w, "p2", 1, 'a'));
        fine(w, approve(w, "p2", 1, 'b'));
        voided = json_pack("{s:s, s:b}", "subject", "promotion:p2", "void", 1);
        fine(w, leaf(w, "approval.void", "a3", json_deep_copy(voided), NULL));
        wrong(w, promotion(w, "p2", 1, "live"), "it is void");
        json_object_set_new(voided, "void", json_false());
        fine(w, leaf(w, "approval.create", "a3", voided, NULL));
        wrong(w, promotion(w, "p2", 1, "live"), "it is void");
        world_free(w);
}

static void signatures_for_something_else(void **state)
{
        static const struct {
                const char *words;
                int what;
        } cases[] = {{"for another version", 0},
                     {"for another artifact", 1},
                     {"for another environment", 2},
                     {"for other rules", 3},
                     {"environment than the owners'", 4},
                     {"for another log", 5},
                     {"for another model", 6},
                     {"for another verdict", 7},
                     {"not signed as approver", 8}};

        WORLD;
        for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
                char id[16];
                struct mlc_statement s;

                (void)snprintf(id, sizeof(id), "p%zu", i);
                s = approval_of(w, id, 1);
                switch (cases[i].what) {
                case 0:
                        s.version = 2;
                        break;
                case 1:
                        s.artifact = FILLER;
                        break;
                case 2:
                        s.environment = "staging";
                        break;
                case 3:
                        s.policy_digest = FILLER;
                        break;
                case 4:
                        s.environment_digest = FILLER;
                        break;
                case 5:
                        s.log = "host/log-87654321";
                        break;
                case 6:
                        s.model = "fraud/other";
                        break;
                case 7:
                        s.verdict_digest = s.artifact;
                        break;
                default:
                        s.role = "owner";
                }
                fine(w, decide(w, s, 'b', 'b'));
                fine(w, approve(w, id, 1, 'a'));
                wrong(w, promotion(w, id, 1, "live"), cases[i].words);
        }
        world_free(w);
}

/* An approval's leaf whose detail was exchanged, left out, or copied from another promotion. */
static void tampered_leaves(void **state)
{
        struct mlc_statement s;

        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, leaf(w, "approval.create", "a90",
                     json_pack("{s:s, s:s, s:s, s:s, s:b}", "subject", "promotion:p1", "decision",
                               "approve", "signer", uid('b'), "statement", FILLER, "void", 0),
                     NULL));
        wrong(w, promotion(w, "p1", 1, "live"), "does not hold what was signed");
        fine(w, leaf(w, "approval.create", "a91",
                     json_pack("{s:s, s:s, s:s, s:s, s:b}", "subject", "promotion:p2", "decision",
                               "approve", "signer", uid('b'), "statement", FILLER, "void", 0),
                     json_pack("{s:s, s:s}", "statement", "{}", "signature", "x")));
        wrong(w, promotion(w, "p2", 1, "live"), "holds another statement than it says");
        s = approval_of(w, "p4", 1);
        s.decision = "reject";
        fine(w, approve(w, "p4", 1, 'a'));
        fine(w, approve(w, "p4", 1, 'b'));
        fine(w, decide(w, s, 'b', 'b'));
        wrong(w, promotion(w, "p4", 1, "live"), "though it was rejected");
        world_free(w);
}

static void live_without_its_promotion(void **state)
{
        WORLD;
        wrong(w, live(w, "p1", 1), "no promotion of that version");
        fine(w, promotion(w, "p1", 1, "approved"));
        wrong(w, live(w, "p1", 1), "its promotion is not live");
        world_free(w);

        w = world_new();
        goes_live(w, "p1", 1, NULL, 0);
        goes_live(w, "p2", 2, "p1", 1);
        wrong(w, live(w, "p1", 1), "its promotion is not live");
        wrong(w, promotion(w, "p1", 1, "live"), "which had ended before");
        wrong(w, live(w, "p2", 3), "no promotion of that version");
        wrong(w, live(w, "p2", 2), "made it live before");
        world_free(w);
}

static void a_promotion_stays_what_it_is(void **state)
{
        json_t *other;

        WORLD;
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, approve(w, "p1", 1, 'b'));
        fine(w, promotion(w, "p1", 1, "approved"));
        wrong(w, promotion(w, "p1", 2, "live"), "suddenly about something else");
        other = promotion_state(w, "p7", 1, "approved");
        json_object_set_new(other, "environment", json_string("staging"));
        fine(w, leaf(w, "promotion.create", "p7", other, NULL));
        wrong(w, promotion(w, "p7", 1, "live"), "suddenly about something else");
        world_free(w);
}

static void versions_stay_what_they_are(void **state)
{
        json_t *evil;

        WORLD;
        evil = version_state(1, 'm', "ready");
        json_object_set_new(evil, "digest", json_string(FILLER));
        wrong(w, leaf(w, "version.status", "fraud/scorer:1", evil, NULL), "changes its digest");
        wrong(w, version(w, 1, 'x', "ready"), "changes its digest or its author");
        evil = version_state(1, 'x', "ready");
        json_object_set_new(evil, "version", json_integer(9));
        wrong(w, leaf(w, "version.create", "fraud/scorer:9", evil, NULL),
              "another version already");
        fine(w, version(w, 1, 'm', "deprecated"));
        world_free(w);
}

static void the_alias_follows(void **state)
{
        WORLD;
        wrong(w, alias(w, 1), "moves to what is not live in 'production'");
        goes_live(w, "p1", 1, NULL, 0);
        wrong(w, alias(w, 2), "moves to what is not live in 'production'");
        wrong(w, leaf(w, "alias.delete", "fraud/scorer:champion", NULL, NULL), "moves to what");
        fine(w, leaf(w, "alias.delete", "fraud/scorer:other", NULL, NULL));
        fine(w, alias(w, 1));
        world_free(w);
}

/* It was set by hand before the environment took its name. */
static void an_alias_that_was_there(void **state)
{
        (void)state;
        for (int removed = 0; removed < 2; removed++) {
                struct world *w = world_empty();
                uint64_t index = 0, at = w->index;

                fine(w, alias(w, 1));
                fine(w, apply(w, policy("production", "role:approver", 2)));
                fine(w, apply(w, environment("production", OWNERS, 2)));
                fine(w, protect(w, "de", 2));
                if (removed != 0) {
                        fine(w, leaf(w, "alias.delete", "fraud/scorer:champion", NULL, NULL));
                } else {
                        wrong(w, mlc_custody_finish(w->c, &index, &w->err), "was never live there");
                        assert_int_equal(index, at);
                        goes_live(w, "p1", 1, NULL, 0);
                }
                world_ends(w);
                world_free(w);
        }
}

/* --- rollback --- */

static void the_usual_way_back(void **state)
{
        WORLD;
        goes_live(w, "p1", 1, NULL, 0);
        goes_live(w, "p2", 2, "p1", 1);
        goes_live(w, "p3", 3, "p2", 2);
        fine(w, promotion(w, "p3", 3, "rolled_back"));
        fine(w, back(w, "p4", 2, "p3"));
        fine(w, live(w, "p4", 2));
        fine(w, alias(w, 2));
        fine(w, promotion(w, "p4", 2, "rolled_back")); /* and further */
        fine(w, back(w, "p5", 1, "p4"));
        fine(w, live(w, "p5", 1));
        world_ends(w);
        world_free(w);
}

static void other_ways_back(void **state)
{
        WORLD;
        goes_live(w, "p1", 1, NULL, 0);
        wrong(w, back(w, "p8", 2, "p1"), "was never live there");
        world_free(w);

        w = world_new();
        goes_live(w, "p1", 1, NULL, 0);
        goes_live(w, "p2", 2, "p1", 1);
        goes_live(w, "p3", 3, "p2", 2);
        wrong(w, back(w, "p4", 1, "p3"), "which nobody signed");
        wrong(w, back(w, "p6", 2, "p2"), "of what is not live there");
        fine(w, version(w, 2, 'm', "withdrawn"));
        wrong(w, back(w, "p7", 2, "p3"), "it is withdrawn");
        fine(w, back(w, "p9", 1, "p3")); /* the one before, then */
        world_free(w);
}

/* How a version ended is not rewritten to make it the usual target. */
static void ends_are_final(void **state)
{
        WORLD;
        goes_live(w, "p1", 1, NULL, 0);
        goes_live(w, "p2", 2, "p1", 1);
        fine(w, promotion(w, "p2", 2, "rolled_back"));
        fine(w, back(w, "p3", 1, "p2"));
        fine(w, live(w, "p3", 1));
        goes_live(w, "p4", 3, "p3", 1);
        fine(w, promotion(w, "p2", 2, "replaced"));
        fine(w, promotion(w, "p3", 1, "rolled_back"));
        wrong(w, back(w, "p5", 2, "p4"), "which nobody signed");
        fine(w, back(w, "p6", 1, "p4"));
        world_free(w);
}

static void signed_ways_back(void **state)
{
        struct mlc_statement s;
        char from[MLC_DIGEST_STR];
        struct world *w = world_empty();

        (void)state;
        fine(w, role(w, 'r', "operator", "fraud", true));
        fine(w, apply(w, policy("production", "role:approver", 2)));
        fine(w, apply(w, environment("production", OWNERS, 2)));
        fine(w, protect(w, "de", 2));
        goes_live(w, "p1", 1, NULL, 0);
        goes_live(w, "p2", 2, "p1", 1);
        goes_live(w, "p3", 3, "p2", 2);
        artifact(3, from);
        s = approval_of(w, "p3", 1);
        s.decision = "rollback";
        s.verdict_digest = NULL;
        s.role = "operator";
        s.from = from;
        fine(w, decide(w, s, 'a', 'a'));
        wrong(w, back(w, "p4", 1, "p3"), "its signer is no operator");
        s.from = FILLER;
        fine(w, decide(w, s, 'r', 'r'));
        wrong(w, back(w, "p5", 1, "p3"), "it is for another rollback");
        s.from = from;
        fine(w, decide(w, s, 'r', 'r'));
        fine(w, promotion(w, "p3", 3, "rolled_back"));
        fine(w, back(w, "p6", 1, "p3"));
        fine(w, live(w, "p6", 1));
        world_free(w);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(approved_versions_go_live),
                cmocka_unit_test(nobody_approved),
                cmocka_unit_test(rolling_out_counts_as_live),
                cmocka_unit_test(one_person_twice),
                cmocka_unit_test(author_and_requester),
                cmocka_unit_test(a_service_counts_as_its_owner),
                cmocka_unit_test(unsigned_role),
                cmocka_unit_test(another_namespace),
                cmocka_unit_test(unsigned_key),
                cmocka_unit_test(somebody_elses_key),
                cmocka_unit_test(revoked_keys_stay_revoked),
                cmocka_unit_test(a_moment_before_does_not_count),
                cmocka_unit_test(revocations_count_without_signatures),
                cmocka_unit_test(void_and_expired),
                cmocka_unit_test(signatures_for_something_else),
                cmocka_unit_test(tampered_leaves),
                cmocka_unit_test(live_without_its_promotion),
                cmocka_unit_test(a_promotion_stays_what_it_is),
                cmocka_unit_test(versions_stay_what_they_are),
                cmocka_unit_test(the_alias_follows),
                cmocka_unit_test(an_alias_that_was_there),
                cmocka_unit_test(the_usual_way_back),
                cmocka_unit_test(other_ways_back),
                cmocka_unit_test(ends_are_final),
                cmocka_unit_test(signed_ways_back),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
