/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "unit/policy/support.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/clock.h"
#include "codec/base64.h"
#include "crypto/hash.h"
#include "crypto/sshsig.h"
#include "policy/custody.h"
#include "policy/policy.h"
#include "policy/statement.h"

/*
 * A log made by hand: whoever writes it has everything but other people's keys. People have ids of
 * their letter ("ud"): d and e own the environment, a and b approve, m pushes, x is the
 * administrator's creature.
 */
#define ORIGIN "host/log-12345678"
#define FILLER "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define DAY_MS ((int64_t)86400000)

struct world {
        struct mlc_custody *c;
        uint64_t index;
        int64_t now;
        struct mlc_err err;
        struct mlc_signer keys[26];
        json_t *docs; /* "Kind/name" -> document as last said; promotion -> what it rolls back */
        unsigned n; /* of nonces and approvals */
        int64_t version_of[64]; /* by promotion */
};

static inline struct mlc_signer *key_of(struct world *w, char who)
{
        struct mlc_err err = {0};
        struct mlc_signer *k = &w->keys[who - 'a'];
        unsigned char seed[32] = {(unsigned char)who};

        if (mlc_signer_from_seed(seed, k, &err) < 0)
                abort();
        return k;
}

static inline void ssh_of(struct world *w, char who, struct mlc_sshkey *ret)
{
        mlc_sshkey_from_ed25519(key_of(w, who)->pub, ret);
}

static inline char *public_of(struct world *w, char who)
{
        struct mlc_sshkey k;
        struct mlc_str text;

        ssh_of(w, who, &k);
        mlc_str_init(&text, 4096);
        mlc_base64_encode(MLC_BASE64_STD, k.blob, k.len, &text);
        return mlc_str_take(&text);
}

/* One leaf; takes state and detail. What custody says of it. */
static inline int leaf(struct world *w, const char *action, const char *id, json_t *state,
                       json_t *detail)
{
        char kind[32];
        struct mlc_leaf_in in = {.origin = ORIGIN,
                                 .actor = "ux",
                                 .action = action,
                                 .kind = kind,
                                 .id = id,
                                 .time_ms = w->now,
                                 .after = state,
                                 .detail = detail};
        struct mlc_leaf l = {0};
        struct mlc_str text;
        int r;

        (void)snprintf(kind, sizeof(kind), "%.*s", (int)strcspn(action, "."), action);
        if (strcmp(action, "environment.protect") == 0)
                (void)snprintf(kind, sizeof(kind), "document");
        mlc_str_init(&text, 65535);
        mlc_err_clear(&w->err);
        if (mlc_leaf_build(&in, &text, &w->err) < 0 ||
            mlc_leaf_parse(text.data, text.len, &l, &w->err) < 0)
                fail_msg("%s: %s", action, w->err.msg);
        r = mlc_custody_leaf(w->c, w->index++, &l, &w->err);
        w->now += 1000;
        mlc_leaf_done(&l);
        mlc_str_done(&text);
        json_decref(state);
        json_decref(detail);
        return r;
}

#define fine(w, what)                                                                              \
        do {                                                                                       \
                if ((what) != 0)                                                                   \
                        fail_msg("%s", (w)->err.msg);                                              \
        } while (0)
#define wrong(w, what, words)                                                                      \
        do {                                                                                       \
                assert_int_equal((what), MLC_E_VERIFY);                                            \
                if (strstr((w)->err.msg, (words)) == NULL)                                         \
                        fail_msg("'%s' does not say '%s'", (w)->err.msg, (words));                 \
        } while (0)

static inline const char *uid(char who)
{
        static char ids[26][4];
        char *id = ids[who - 'a'];

        (void)snprintf(id, 4, "u%c%c", who, who);
        return id;
}

static inline json_t *user_state(char who, const char *status, const char *owner)
{
        (void)who;
        json_t *out;

        out = json_pack("{s:s, s:s?, s:s, s:s}", "kind", owner != NULL ? "service" : "person",
                        "owner", owner, "name_commitment", FILLER, "status", status);

        return out;
}

static inline int user(struct world *w, char who, const char *status)
{
        return leaf(w, "user.create", uid(who), user_state(who, status, NULL), NULL);
}

static inline json_t *key_state(struct world *w, char owner, char key, bool revoked)
{
        _cleanup_(free_p) char *public = public_of(w, key);
        char fp[MLC_SSHKEY_FP];
        struct mlc_sshkey k;

        ssh_of(w, key, &k);
        mlc_sshkey_fingerprint(&k, fp);
        json_t *out;

        out = json_pack("{s:s, s:s, s:s, s:s, s:b}", "user", uid(owner), "type", "ssh-ed25519",
                        "public", public, "fingerprint", fp, "revoked", revoked);

        return out;
}

/* The key named by a letter, registered for a person; its id is "k" and both letters. */
static inline int key(struct world *w, char owner, char which, bool revoked)
{
        char id[8];

        (void)snprintf(id, sizeof(id), "k%c%c", owner, which);
        return leaf(w, revoked ? "key.revoke" : "key.add", id, key_state(w, owner, which, revoked),
                    NULL);
}

static inline json_t *role_state(char who, const char *role, const char *ns)
{
        json_t *out = json_pack("{s:s, s:s, s:s}", "user", uid(who), "role", role, "namespace", ns);

        return out;
}

static inline int role(struct world *w, char who, const char *name, const char *ns, bool held)
{
        char id[64];

        (void)snprintf(id, sizeof(id), "%s/%s@%s", uid(who), name, ns);
        return leaf(w, held ? "role.grant" : "role.revoke", id,
                    held ? role_state(who, name, ns) : NULL, NULL);
}

static inline void digest_of(const json_t *j, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d;
        struct mlc_err err = {0};

        if (mlc_sha256_json(j, &d, &err) < 0)
                abort();
        mlc_digest_format(&d, ret);
}

/* The digest that a document has now; NULL before it is there. */
static inline const char *digest_now(struct world *w, const char *id, char ret[MLC_DIGEST_STR])
{
        const json_t *doc = json_object_get(w->docs, id);

        if (doc == NULL)
                return NULL;
        digest_of(doc, ret);
        return ret;
}

/* --- documents --- */

static inline json_t *environment(const char *policy, const char *owners, int threshold)
{
        json_error_t e;
        json_t *list = json_loads(owners, 0, &e);

        assert_non_null(list);
        json_t *out;

        out = json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:i, s:[], s:[], s:{s:[], s:[]}}",
                        "apiVersion", "mlctl/v1", "kind", "Environment", "name", "production",
                        "policy", policy, "alias", "champion", "owners", list, "threshold",
                        threshold, "after", "targets", "windows", "allow", "deny");

        return out;
}

static inline json_t *policy(const char *name, const char *from, int count)
{
        json_t *out = json_pack("{s:s, s:s, s:s, s:[], s:[{s:s, s:[s], s:i, s:n}]}", "apiVersion",
                                "mlctl/v1", "kind", "Policy", "name", name, "checks", "approvals",
                                "name", "risk", "from", from, "count", count, "request_ttl_ms");

        return out;
}

static inline json_t *group(const char *name, const char *members)
{
        json_error_t e;
        json_t *list = json_loads(members, 0, &e);

        assert_non_null(list);
        json_t *out = json_pack("{s:s, s:s, s:s, s:o}", "apiVersion", "mlctl/v1", "kind", "Group",
                                "name", name, "members", list);

        return out;
}

static inline void id_of(const json_t *doc, char ret[160])
{
        (void)snprintf(ret, 160, "%s/%s", json_string_value(json_object_get(doc, "kind")),
                       json_string_value(json_object_get(doc, "name")));
}

static inline json_t *doc_state(const json_t *doc)
{
        char digest[MLC_DIGEST_STR];

        digest_of(doc, digest);
        json_t *out = json_pack("{s:O, s:O, s:i, s:s, s:s, s:s, s:O?, s:O?, s:O?}", "kind",
                                json_object_get(doc, "kind"), "name", json_object_get(doc, "name"),
                                "version", 1, "digest", digest, "commit", "c", "author", "ux",
                                "owners", json_object_get(doc, "owners"), "threshold",
                                json_object_get(doc, "threshold"), "members",
                                json_object_get(doc, "members"));

        return out;
}

/* Takes the document. */
static inline int apply(struct world *w, json_t *doc)
{
        char id[160];
        int r;

        id_of(doc, id);
        json_t *arg = json_pack("{s:O}", "document", doc);

        r = leaf(w, "document.apply", id, doc_state(doc), arg);
        json_object_set_new(w->docs, id, doc);
        return r;
}

/* --- signatures --- */

/* The decision of a person, by the key of a letter; the approval's leaf. */
static inline int decide(struct world *w, struct mlc_statement s, char who, char by)
{
        char nonce[40], id[16], time[MLC_TIME_MAX], expires[MLC_TIME_MAX], subject[64];
        char statement_digest[MLC_DIGEST_STR];
        struct mlc_str text, armour;
        struct mlc_digest d;
        json_t *state;
        int r;

        mlc_str_init(&text, MLC_STATEMENT_MAX);
        mlc_str_init(&armour, MLC_SSHSIG_MAX);
        (void)snprintf(nonce, sizeof(nonce), "nonce%016u", ++w->n);
        (void)snprintf(id, sizeof(id), "a%u", w->n);
        mlc_time_format(w->now, time);
        mlc_time_format(w->now + 3 * DAY_MS, expires);
        s.decision = s.decision != NULL ? s.decision : "approve";
        s.meaning = "I mean it";
        s.signer = uid(who);
        s.signer_name_commitment = s.reason_commitment = FILLER;
        s.time = time;
        s.expires = s.expires != NULL ? s.expires : expires;
        s.nonce = nonce;
        s.log = s.log != NULL ? s.log : ORIGIN;
        if (mlc_statement_build(&s, &text, &w->err) < 0 ||
            mlc_sshsig_sign(
                    key_of(w, by),
                    &(struct mlc_sshsig_message){MLC_STATEMENT_NAMESPACE, text.data, text.len},
                    &armour, &w->err) < 0)
                fail_msg("%s: %s", w->err.field, w->err.msg);
        mlc_sha256(text.data, text.len, &d);
        mlc_digest_format(&d, statement_digest);
        (void)snprintf(subject, sizeof(subject), "%s:%s", s.subject_kind, s.subject_id);
        state = json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:b}", "subject", subject,
                          "decision", s.decision, "signer", s.signer, "key", "k1", "role", s.role,
                          "statement", statement_digest, "signature", FILLER, "expires", s.expires,
                          "void", 0);
        json_t *arg = json_pack("{s:s, s:s, s:s}", "reason", FILLER, "statement",
                                mlc_str_cstr(&text), "signature", mlc_str_cstr(&armour));

        r = leaf(w, "approval.create", id, state, arg);
        mlc_str_done(&text);
        mlc_str_done(&armour);
        return r;
}

/* An owner's signature under a change of a document (as it will be). */
static inline int sign_change(struct world *w, const char *change, const json_t *doc, char who)
{
        char id[160], before[MLC_DIGEST_STR], after[MLC_DIGEST_STR];

        id_of(doc, id);
        digest_of(doc, after);
        return decide(w,
                      (struct mlc_statement){.subject_kind = "change",
                                             .subject_id = change,
                                             .document = id,
                                             .before = digest_now(w, id, before),
                                             .after = after,
                                             .role = "owner"},
                      who, who);
}

static inline void both_sign(struct world *w, const char *change, const json_t *doc)
{
        fine(w, sign_change(w, change, doc, 'd'));
        fine(w, sign_change(w, change, doc, 'e'));
}

static inline int sign_other(struct world *w, const char *change, const char *document,
                             const char *after, char who)
{
        return decide(w,
                      (struct mlc_statement){.subject_kind = "change",
                                             .subject_id = change,
                                             .document = document,
                                             .after = after,
                                             .role = "owner"},
                      who, who);
}

/* --- versions and promotions --- */

static inline void artifact(int64_t n, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d = {{(unsigned char)n}};

        mlc_digest_format(&d, ret);
}

static inline json_t *version_state(int64_t n, char author, const char *status)
{
        char digest[MLC_DIGEST_STR];

        artifact(n, digest);
        json_t *out;

        out = json_pack("{s:s, s:I, s:s, s:s, s:s}", "model", "fraud/scorer", "version",
                        (json_int_t)n, "digest", digest, "author", uid(author), "status", status);

        return out;
}

static inline int version(struct world *w, int64_t n, char author, const char *status)
{
        char id[64];

        (void)snprintf(id, sizeof(id), "fraud/scorer:%" PRId64, n);
        return leaf(w, "version.create", id, version_state(n, author, status), NULL);
}

/* The digests that the server would bind, by the documents as they were last said. */
static inline void bound(struct world *w, char policy_digest[MLC_DIGEST_STR],
                         char environment_digest[MLC_DIGEST_STR])
{
        const json_t *env = json_object_get(w->docs, "Environment/production");
        char id[160];
        struct mlc_policy_layers l = {.environment = env};
        json_t *effective = NULL;
        struct mlc_digest d;
        struct mlc_err err = {0};

        (void)snprintf(id, sizeof(id), "Policy/%s",
                       json_string_value(json_object_get(env, "policy")));
        l.environment_policy = json_object_get(w->docs, id);
        l.model = json_object_get(w->docs, "Model/fraud/scorer");
        if (mlc_policy_effective(&l, &effective, &err) < 0 ||
            mlc_policy_digest(effective, &d, &err) < 0)
                fail_msg("%s", err.msg);
        mlc_digest_format(&d, policy_digest);
        if (mlc_environment_digest(env, effective, l.model, &d, &err) < 0)
                fail_msg("%s", err.msg);
        mlc_digest_format(&d, environment_digest);
        json_decref(effective);
}

static inline json_t *promotion_state(struct world *w, const char *id, int64_t n, const char *state)
{
        char p[MLC_DIGEST_STR], e[MLC_DIGEST_STR], a[MLC_DIGEST_STR];
        const char *of = json_string_value(json_object_get(w->docs, id));

        bound(w, p, e);
        artifact(n, a);
        json_t *out = json_pack(
                "{s:s, s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:n, s:s, s:s, s:s?, s:n}", "model",
                "fraud/scorer", "version", (json_int_t)n, "digest", a, "environment", "production",
                "state", state, "verdict", FILLER, "policy", p, "environment_digest", e, "from",
                "requested_by", uid('r'), "reason", FILLER, "rollback_of", of, "superseded_by");

        return out;
}

static inline int promotion(struct world *w, const char *id, int64_t n, const char *state)
{
        return leaf(w, "promotion.change", id, promotion_state(w, id, n, state), NULL);
}

static inline struct mlc_statement approval_of(struct world *w, const char *id, int64_t n)
{
        static char p[MLC_DIGEST_STR], e[MLC_DIGEST_STR], a[MLC_DIGEST_STR];

        bound(w, p, e);
        artifact(n, a);
        return (struct mlc_statement){.subject_kind = "promotion",
                                      .subject_id = id,
                                      .model = "fraud/scorer",
                                      .version = n,
                                      .artifact = a,
                                      .environment = "production",
                                      .environment_digest = e,
                                      .policy_digest = p,
                                      .verdict_digest = FILLER,
                                      .role = "approver"};
}

static inline int approve(struct world *w, const char *id, int64_t n, char who)
{
        return decide(w, approval_of(w, id, n), who, who);
}

static inline int live(struct world *w, const char *id, int64_t n)
{
        char a[MLC_DIGEST_STR], since[MLC_TIME_MAX];

        artifact(n, a);
        mlc_time_format(w->now, since);
        json_t *arg = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s}", "environment", "production",
                                "model", "fraud/scorer", "version", (json_int_t)n, "digest", a,
                                "promotion", id, "since", since);

        return leaf(w, "live.set", "production/fraud/scorer", arg, NULL);
}

static inline int alias(struct world *w, int64_t n)
{
        char a[MLC_DIGEST_STR];

        artifact(n, a);
        json_t *arg = json_pack("{s:s, s:s, s:I, s:s}", "model", "fraud/scorer", "alias",
                                "champion", "version", (json_int_t)n, "digest", a);

        return leaf(w, "alias.set", "fraud/scorer:champion", arg, NULL);
}

/* All that brings a version live, approved by a and b. */
static inline void goes_live(struct world *w, const char *id, int64_t n, const char *old,
                             int64_t old_n)
{
        fine(w, promotion(w, id, n, "evaluating"));
        fine(w, promotion(w, id, n, "awaiting_approval"));
        fine(w, approve(w, id, n, 'a'));
        fine(w, approve(w, id, n, 'b'));
        fine(w, promotion(w, id, n, "approved"));
        if (old != NULL)
                fine(w, promotion(w, old, old_n, "replaced"));
        fine(w, promotion(w, id, n, "live"));
        fine(w, live(w, id, n));
        fine(w, alias(w, n));
}

/* A rollback's promotion. */
static inline int back(struct world *w, const char *id, int64_t n, const char *of)
{
        json_t *state;

        json_object_set_new(w->docs, id, json_string(of));
        state = promotion_state(w, id, n, "live");
        json_object_set_new(state, "verdict", json_null());
        return leaf(w, "promotion.rollback", id, state, NULL);
}

/* --- the world --- */

#define OWNERS "[\"user:udd\", \"user:uee\"]"

static inline int protect(struct world *w, const char *owners, int threshold)
{
        const json_t *env = json_object_get(w->docs, "Environment/production");
        json_t *list = json_array();

        for (const char *p = owners; *p != '\0'; p++) {
                _cleanup_(free_p) char *public = public_of(w, *p);

                json_array_append_new(list,
                                      json_pack("{s:s, s:[s]}", "user", uid(*p), "keys", public));
        }
        json_t *arg = json_pack("{s:o, s:i}", "owners", list, "threshold", threshold);

        return leaf(w, "environment.protect", "Environment/production", doc_state(env), arg);
}

/* People and roles, before there is an environment; the trust file names d and e, threshold 2. */
static inline struct world *world_empty(void)
{
        struct world *w = calloc(1, sizeof(*w));
        struct mlc_custody_environment env = {.name = "production", .threshold = 2, .n_keys = 2};
        struct mlc_sshkey keys[2];

        assert_non_null(w);
        w->docs = json_object();
        w->now = INT64_C(1764000000000);
        ssh_of(w, 'e', &keys[0]);
        ssh_of(w, 'd', &keys[1]);
        env.keys = keys;
        w->c = mlc_custody_new(ORIGIN, &env, 1);
        for (const char *p = "abdemrx"; *p != '\0'; p++) {
                fine(w, user(w, *p, "active"));
                fine(w, key(w, *p, *p, false));
        }
        fine(w, role(w, 'a', "approver", "*", true));
        fine(w, role(w, 'b', "approver", "fraud", true));
        fine(w, version(w, 1, 'm', "ready"));
        fine(w, version(w, 2, 'm', "ready"));
        fine(w, version(w, 3, 'm', "ready"));
        return w;
}

/* Founded by d and e; two approvers are asked for. */
static inline struct world *world_new(void)
{
        struct world *w = world_empty();

        fine(w, apply(w, policy("production", "role:approver", 2)));
        fine(w, apply(w, environment("production", OWNERS, 2)));
        fine(w, protect(w, "de", 2));
        return w;
}

/* finish() passes. */
static inline void world_ends(struct world *w)
{
        uint64_t at = 0;

        fine(w, mlc_custody_finish(w->c, &at, &w->err));
}

static inline void world_free(struct world *w)
{
        mlc_custody_free(&w->c);
        json_decref(w->docs);
        free(w);
}
