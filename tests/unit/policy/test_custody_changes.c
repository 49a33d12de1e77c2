/* SPDX-License-Identifier: Apache-2.0 */
/* Documents, roles and keys around an environment that owners protect; and who founded it. */
#include "unit/policy/custody_world.h"

#define WORLD                                                                                      \
        struct world *w = world_new();                                                             \
        (void)state

/* x, whom only the administrator vouches for, and a approve. */
static int x_goes_live(struct world *w, const char *id)
{
        fine(w, approve(w, id, 1, 'x'));
        fine(w, approve(w, id, 1, 'a'));
        return promotion(w, id, 1, "live");
}

/* --- documents --- */

static void unsigned_policy(void **state)
{
        WORLD;
        fine(w, apply(w, policy("production", "user:uxx", 1)));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"),
              "Policy/production of leaf 22 is not signed by enough owners");
        world_free(w);
}

static void unsigned_environment(void **state)
{
        WORLD;
        fine(w, apply(w, policy("lax", "user:uxx", 1)));
        fine(w, apply(w, environment("lax", OWNERS, 2)));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "Environment/production of leaf 23");
        world_free(w);
}

/* Taking the owners away does not help either, and owners can repair what was done. */
static void unprotecting(void **state)
{
        json_t *again;

        WORLD;
        fine(w, apply(w, environment("production", "[]", 0)));
        fine(w, apply(w, policy("production", "user:uxx", 1)));
        fine(w, role(w, 'x', "approver", "*", true));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "under other rules");
        again = policy("production", "role:approver", 2);
        both_sign(w, "c1", again);
        fine(w, apply(w, again));
        again = environment("production", OWNERS, 2);
        both_sign(w, "c2", again);
        fine(w, apply(w, again));
        goes_live(w, "p2", 2, NULL, 0);
        world_free(w);
}

static void signed_policy(void **state)
{
        json_t *now;

        WORLD;
        now = policy("production", "role:approver", 1);
        both_sign(w, "c1", now);
        fine(w, apply(w, now));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, promotion(w, "p1", 1, "live"));
        fine(w, live(w, "p1", 1));
        world_ends(w);
        world_free(w);
}

static void one_owner_is_not_enough(void **state)
{
        json_t *now;

        WORLD;
        now = policy("production", "user:uxx", 1);
        fine(w, sign_change(w, "c1", now, 'd'));
        fine(w, sign_change(w, "c1", now, 'd'));
        fine(w, sign_change(w, "c1", now, 'a')); /* no owner */
        fine(w, sign_change(w, "c1", now, 'x'));
        fine(w, sign_change(w, "c2", now, 'e')); /* of another change */
        fine(w, apply(w, now));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        world_free(w);
}

/* A to B was signed, then back to A; the signatures under "A to B" do not serve again. */
static void replayed_signatures(void **state)
{
        json_t *a, *b;

        WORLD;
        b = policy("production", "user:uxx", 1);
        both_sign(w, "c1", b);
        fine(w, apply(w, json_deep_copy(b)));
        a = policy("production", "role:approver", 2);
        both_sign(w, "c2", a);
        fine(w, apply(w, a));
        fine(w, apply(w, b));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        world_free(w);
}

static void what_ended_has_no_effect(void **state)
{
        static const char *const ends[] = {"rejected", "cancelled", "superseded", "expired"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
                struct world *w = world_new();
                json_t *now = policy("production", "user:uxx", 1);

                both_sign(w, "c1", now);
                fine(w, leaf(w, "change.end", "c1", json_pack("{s:s}", "state", ends[i]), NULL));
                fine(w, leaf(w, "change.end", "c1", json_pack("{s:s}", "state", "applied"), NULL));
                fine(w, apply(w, now));
                fine(w, approve(w, "p1", 1, 'x'));
                wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
                world_free(w);
        }
}

static void an_owner_rejected(void **state)
{
        char before[MLC_DIGEST_STR], after[MLC_DIGEST_STR];
        json_t *now;

        WORLD;
        now = policy("production", "user:uxx", 1);
        both_sign(w, "c1", now);
        digest_of(now, after);
        fine(w, decide(w,
                       (struct mlc_statement){.subject_kind = "change",
                                              .subject_id = "c1",
                                              .decision = "reject",
                                              .document = "Policy/production",
                                              .before = digest_now(w, "Policy/production", before),
                                              .after = after,
                                              .role = "owner"},
                       'e', 'e'));
        fine(w, apply(w, now));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        world_free(w);
}

static void expired_change(void **state)
{
        json_t *now;

        WORLD;
        now = policy("production", "user:uxx", 1);
        both_sign(w, "c1", now);
        w->now += 4 * DAY_MS;
        fine(w, apply(w, now));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        world_free(w);
}

/* Signatures that come after what they should carry. */
static void forged_order(void **state)
{
        json_t *now;

        WORLD;
        now = policy("production", "user:uxx", 1);
        fine(w, apply(w, json_deep_copy(now)));
        both_sign(w, "c1", now); /* before = after now: for another change */
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        json_decref(now);
        world_free(w);
}

/* The leaf says one digest and holds another document. */
static void another_document_than_signed(void **state)
{
        json_t *signed_doc, *evil, *held;

        WORLD;
        signed_doc = policy("production", "role:approver", 1);
        evil = policy("production", "user:uxx", 1);
        both_sign(w, "c1", signed_doc);
        held = doc_state(signed_doc);
        fine(w, leaf(w, "document.apply", "Policy/production", held,
                     json_pack("{s:O}", "document", evil)));
        json_object_set_new(w->docs, "Policy/production", evil);
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "Policy 'production' is not in the log");
        json_decref(signed_doc);
        world_free(w);
}

/* --- groups --- */

static struct world *grouped(void)
{
        struct world *w = world_empty();

        fine(w, apply(w, group("board", "[\"user:udd\", \"user:uee\"]")));
        fine(w, apply(w, group("risk", "[\"user:uaa\", \"user:ubb\"]")));
        fine(w, apply(w, policy("production", "group:risk", 2)));
        fine(w, apply(w, environment("production", "[\"group:board\"]", 2)));
        fine(w, protect(w, "de", 2));
        return w;
}

static void groups_are_owners_and_approvers(void **state)
{
        struct world *w = grouped();
        json_t *now;

        (void)state;
        goes_live(w, "p1", 1, NULL, 0);
        now = group("risk", "[\"user:uaa\", \"user:uxx\"]");
        both_sign(w, "c1", now);
        fine(w, apply(w, now));
        fine(w, approve(w, "p2", 2, 'a'));
        fine(w, approve(w, "p2", 2, 'x'));
        fine(w, promotion(w, "p2", 2, "live"));
        world_free(w);
}

static void unsigned_groups(void **state)
{
        struct world *w = grouped();
        json_t *now;

        (void)state;
        fine(w, apply(w, group("risk", "[\"user:uaa\", \"user:uxx\"]")));
        wrong(w, x_goes_live(w, "p1"), "Group/risk of leaf 24 is not signed by enough owners");
        fine(w, apply(w, group("board", "[\"user:udd\", \"user:uxx\"]")));
        now = policy("production", "user:uxx", 1);
        fine(w, sign_change(w, "c1", now, 'd'));
        fine(w, sign_change(w, "c1", now, 'x')); /* an owner by the unsigned group only */
        fine(w, apply(w, now));
        fine(w, approve(w, "p2", 1, 'x'));
        wrong(w, promotion(w, "p2", 1, "live"), "not signed by enough owners");
        world_free(w);
}

static void members_that_nobody_signed(void **state)
{
        struct world *w = grouped();
        json_t *now = group("risk", "[\"user:uaa\", \"user:ubb\", \"user:umm\"]"), *held;

        (void)state;
        both_sign(w, "c1", now);
        held = doc_state(now);
        json_object_set_new(held, "members", json_pack("[s, s]", "user:uaa", "user:uxx"));
        fine(w, leaf(w, "document.apply", "Group/risk", held, NULL));
        json_object_set_new(w->docs, "Group/risk", now);
        wrong(w, x_goes_live(w, "p1"), "no rule asks for 'uxx'");
        world_free(w);
}

/* Who comes in by a signed change comes with the keys that owners could have seen. */
static void keys_between_two_signatures(void **state)
{
        struct world *w = grouped();
        json_t *now = group("risk", "[\"user:uaa\", \"user:ubb\", \"user:umm\"]");

        (void)state;
        fine(w, sign_change(w, "c1", now, 'd'));
        fine(w, key(w, 'm', 'z', false));
        fine(w, sign_change(w, "c1", now, 'e'));
        fine(w, apply(w, now));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, decide(w, approval_of(w, "p1", 1), 'm', 'z'));
        wrong(w, promotion(w, "p1", 1, "live"), "no owners signed for its key");
        world_free(w);
}

/* --- roles and keys --- */

static void role_document(struct world *w, char who, const char *role_name, const char *change,
                          const char *keys)
{
        _cleanup_(json_decref_p) json_t *signed_state = role_state(who, role_name, "*");
        char *public[4];
        char document[64], after[MLC_DIGEST_STR];
        size_t n = 0;

        for (const char *k = keys; *k != '\0'; k++)
        public[n++] = public_of(w, *k);
        fine(w,
             mlc_custody_role_digest(signed_state, (const char *const *)public, n, after, &w->err));
        (void)snprintf(document, sizeof(document), "Role/%s/%s@*", uid(who), role_name);
        fine(w, sign_other(w, change, document, after, 'd'));
        fine(w, sign_other(w, change, document, after, 'e'));
        while (n > 0)
                free(public[--n]);
}

static void signed_role(void **state)
{
        WORLD;
        role_document(w, 'x', "approver", "c1", "x");
        fine(w, role(w, 'x', "approver", "*", true));
        fine(w, x_goes_live(w, "p1"));
        world_free(w);
}

static void signed_role_with_other_keys(void **state)
{
        WORLD;
        role_document(w, 'x', "approver", "c1", "x");
        fine(w, key(w, 'x', 'z', false)); /* added meanwhile */
        fine(w, role(w, 'x', "approver", "*", true));
        wrong(w, x_goes_live(w, "p1"), "no owners signed for role");
        world_free(w);

        w = world_new();
        role_document(w, 'x', "operator", "c1", "x"); /* signed for another role */
        fine(w, role(w, 'x', "approver", "*", true));
        wrong(w, x_goes_live(w, "p1"), "no owners signed for role");
        world_free(w);
}

/* A signed grant serves once: after revoking, granting again needs signatures again. */
static void a_grant_serves_once(void **state)
{
        WORLD;
        role_document(w, 'x', "approver", "c1", "x");
        fine(w, role(w, 'x', "approver", "*", true));
        fine(w, role(w, 'x', "approver", "*", false));
        fine(w, role(w, 'x', "approver", "*", true));
        wrong(w, x_goes_live(w, "p1"), "no owners signed for role");
        world_free(w);
}

static void a_role_of_another(void **state)
{
        WORLD;
        wrong(w, leaf(w, "role.grant", "umm/approver@*", role_state('x', "approver", "*"), NULL),
              "is of another");
        world_free(w);
}

static void sign_key(struct world *w, char who, char key_name, const char *change)
{
        _cleanup_(json_decref_p) json_t *signed_state = key_state(w, who, key_name, false);
        char document[128], after[MLC_DIGEST_STR];

        fine(w, mlc_custody_key_digest(signed_state, after, &w->err));
        (void)snprintf(document, sizeof(document), "Key/%s/%s", uid(who),
                       json_string_value(json_object_get(signed_state, "fingerprint")));
        fine(w, sign_other(w, change, document, after, 'd'));
        fine(w, sign_other(w, change, document, after, 'e'));
}

static void signed_key(void **state)
{
        WORLD;
        sign_key(w, 'b', 'z', "c1");
        fine(w, key(w, 'b', 'z', false));
        fine(w, approve(w, "p1", 1, 'a'));
        fine(w, decide(w, approval_of(w, "p1", 1), 'b', 'z'));
        fine(w, promotion(w, "p1", 1, "live"));
        world_free(w);
}

/* Owners' own new keys need signatures as well. */
static void an_owners_new_key(void **state)
{
        json_t *now;

        WORLD;
        now = policy("production", "user:uxx", 1);
        fine(w, key(w, 'e', 'z', false));
        fine(w, sign_change(w, "c1", now, 'd'));
        {
                char before[MLC_DIGEST_STR], after[MLC_DIGEST_STR];

                digest_of(now, after);
                fine(w, decide(w,
                               (struct mlc_statement){
                                       .subject_kind = "change",
                                       .subject_id = "c1",
                                       .document = "Policy/production",
                                       .before = digest_now(w, "Policy/production", before),
                                       .after = after,
                                       .role = "owner"},
                               'e', 'z'));
        }
        fine(w, apply(w, now));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        world_free(w);
}

/* --- the founding --- */

static void other_owners(void **state)
{
        struct world *w = world_empty();
        uint64_t at = 0;

        (void)state;
        fine(w, apply(w, policy("production", "role:approver", 1)));
        fine(w, apply(w, environment("production", "[\"user:uxx\", \"user:urr\"]", 2)));
        fine(w, protect(w, "xr", 2));
        wrong(w, mlc_custody_finish(w->c, &at, &w->err), "has other founding owners");
        assert_int_equal(at, 21);
        world_free(w);
}

/* The leaf claims d and e, the document says others; or the threshold is lower. */
static void a_founding_that_is_none(void **state)
{
        struct world *w = world_empty();
        uint64_t at = 0;

        (void)state;
        fine(w, apply(w, policy("production", "role:approver", 1)));
        fine(w, apply(w, environment("production", "[\"user:uxx\", \"user:urr\"]", 2)));
        fine(w, protect(w, "de", 2));
        wrong(w, mlc_custody_finish(w->c, &at, &w->err), "has other founding owners");
        world_free(w);

        w = world_empty();
        fine(w, apply(w, policy("production", "role:approver", 1)));
        fine(w, apply(w, environment("production", OWNERS, 1)));
        fine(w, protect(w, "de", 1));
        wrong(w, mlc_custody_finish(w->c, &at, &w->err), "has other founding owners");
        world_free(w);
}

static void never_protected(void **state)
{
        struct world *w = world_empty();
        uint64_t at = 0;
        json_t *list;

        (void)state;
        fine(w, apply(w, environment("production", "[]", 0)));
        wrong(w, mlc_custody_finish(w->c, &at, &w->err), "was never protected in this log");
        assert_int_equal(at, w->index);
        list = mlc_custody_environments(w->c);
        assert_true(json_is_false(json_object_get(json_array_get(list, 0), "protected")));
        json_decref(list);
        world_free(w);
}

/* Somebody else founds it again, after the owners did. */
static void founded_once(void **state)
{
        WORLD;
        fine(w, apply(w, environment("production", "[]", 0)));
        fine(w, apply(w, environment("production", "[\"user:uxx\", \"user:urr\"]", 2)));
        fine(w, protect(w, "xr", 2));
        fine(w, apply(w, policy("production", "user:uxx", 1)));
        fine(w, approve(w, "p1", 1, 'x'));
        wrong(w, promotion(w, "p1", 1, "live"), "not signed by enough owners");
        world_free(w);
}

/* What was there before the founding stands; what only was begun does not. */
static void before_the_founding(void **state)
{
        struct world *w = world_empty();

        (void)state;
        fine(w, apply(w, policy("production", "role:approver", 2)));
        fine(w, apply(w, environment("production", "[]", 0)));
        fine(w, promotion(w, "p1", 1, "live"));
        fine(w, live(w, "p1", 1));
        fine(w, alias(w, 1));
        fine(w, promotion(w, "p2", 2, "live"));
        fine(w, apply(w, environment("production", OWNERS, 2)));
        fine(w, protect(w, "de", 2));
        wrong(w, live(w, "p2", 2), "made it live before");
        fine(w, alias(w, 1));
        goes_live(w, "p3", 3, "p1", 1);
        fine(w, promotion(w, "p3", 3, "rolled_back"));
        fine(w, back(w, "p4", 1, "p3"));
        world_free(w);
}

/* Owners may take the protection away; the listing says so. */
static void owners_may_go(void **state)
{
        json_t *now, *list;

        WORLD;
        now = environment("production", "[]", 0);
        both_sign(w, "c1", now);
        fine(w, apply(w, now));
        fine(w, apply(w, policy("production", "user:uxx", 1)));
        fine(w, approve(w, "p1", 1, 'x'));
        fine(w, promotion(w, "p1", 1, "live"));
        world_ends(w);
        list = mlc_custody_environments(w->c);
        assert_true(json_is_false(json_object_get(json_array_get(list, 0), "protected")));
        json_decref(list);
        world_free(w);
}

/* Whatever shape leaves have, nothing crashes. */
static void odd_leaves(void **state)
{
        static const char *const actions[] = {
                "document.apply",     "role.grant", "key.add",   "version.create", "approval.new",
                "promotion.new",      "live.set",   "alias.set", "user.create",    "change.new",
                "environment.protect"};
        static const char *const ids[] = {"x", "Environment/production", "production/fraud/scorer",
                                          "fraud/scorer:champion", "uaa/approver@*"};

        WORLD;
        for (size_t i = 0; i < ARRAY_LEN(actions); i++)
                for (size_t k = 0; k < ARRAY_LEN(ids); k++) {
                        (void)leaf(w, actions[i], ids[k], NULL, NULL);
                        (void)leaf(w, actions[i], ids[k], json_object(), NULL);
                        (void)leaf(w, actions[i], ids[k],
                                   json_pack("{s:i, s:i, s:[], s:b}", "kind", 1, "user", 2, "owner",
                                             "status", 1),
                                   json_pack("{s:i, s:[i]}", "document", 1, "owners", 1));
                }
        world_free(w);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
                cmocka_unit_test(unsigned_policy),
                cmocka_unit_test(unsigned_environment),
                cmocka_unit_test(unprotecting),
                cmocka_unit_test(signed_policy),
                cmocka_unit_test(one_owner_is_not_enough),
                cmocka_unit_test(replayed_signatures),
                cmocka_unit_test(what_ended_has_no_effect),
                cmocka_unit_test(an_owner_rejected),
                cmocka_unit_test(expired_change),
                cmocka_unit_test(forged_order),
                cmocka_unit_test(another_document_than_signed),
                cmocka_unit_test(groups_are_owners_and_approvers),
                cmocka_unit_test(unsigned_groups),
                cmocka_unit_test(members_that_nobody_signed),
                cmocka_unit_test(keys_between_two_signatures),
                cmocka_unit_test(signed_role),
                cmocka_unit_test(signed_role_with_other_keys),
                cmocka_unit_test(a_grant_serves_once),
                cmocka_unit_test(a_role_of_another),
                cmocka_unit_test(signed_key),
                cmocka_unit_test(an_owners_new_key),
                cmocka_unit_test(other_owners),
                cmocka_unit_test(a_founding_that_is_none),
                cmocka_unit_test(never_protected),
                cmocka_unit_test(founded_once),
                cmocka_unit_test(before_the_founding),
                cmocka_unit_test(owners_may_go),
                cmocka_unit_test(odd_leaves),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
