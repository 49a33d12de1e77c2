/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* Private to lib/policy/custody*.c. Texts are in custody.arena. */
#include <stdbool.h>

#include "base/arena.h"
#include "base/map.h"
#include "policy/custody.h"
#include "policy/statement.h"

/* When something was taken away. */
struct custody_end {
        bool set;
        uint64_t index;
        int64_t ms;
};

struct custody_user {
        const char *id, *owner; /* owner of a service, as it was first said */
        bool known, service, active;
        struct custody_end off; /* when it was last disabled or erased */
        struct custody_role *roles;
        struct custody_key *keys;
        bool stood; /* for the time of one change: decided something before it */
};

struct custody_role {
        const char *id, *role, *ns;
        bool held;
        uint64_t accepted; /* bit per environment */
        uint64_t index; /* of the last grant */
        struct custody_end off;
        struct custody_role *next; /* of the user */
};

/* One public key, for ever the person's who registered it first. */
struct custody_key {
        const char *id, *user, *public;
        uint64_t accepted;
        uint64_t index;
        struct custody_end off; /* revoked: for ever */
        struct custody_key *next; /* of the user */
};

struct custody_version {
        const char *model, *digest, *author;
        int64_t number;
        bool withdrawn;
};

struct custody_document {
        const char *kind, *name;
        char digest[MLC_DIGEST_STR]; /* "": removed */
        json_t *json; /* NULL: not in the leaf */
        uint64_t index;
};

/* A decision that somebody signed; one for each approval leaf. */
struct custody_signed {
        const char *id, *subject; /* a7, "promotion:p1" */
        const char *wrong; /* why it counts for nothing; NULL when signature and form hold */
        uint64_t index;
        bool voided, used;
        const char *public; /* the key that signed */
        struct mlc_statement s; /* without evidence */
        const char *evidence; /* the first, or NULL */
        int64_t expires_ms;
        struct custody_signed *next; /* same subject */
        struct custody_signed *next_document;
};

enum custody_ended { CUSTODY_OPEN, CUSTODY_ENDED, CUSTODY_ROLLED_BACK };

struct custody_promotion {
        const char *id, *model, *digest, *environment, *requested_by, *rollback_of;
        int64_t version;
        bool live; /* its last leaf says so */
        bool passed; /* it may be live: approved, or a rollback that may be */
        bool served; /* its live leaf has come */
        enum custody_ended ended; /* the first end counts */
        /* While it rolls out by steps of which some ask for approvals; else NULL. The promotion's
         * digests are those that it began with. */
        json_t *steps; /* the rules of each; owned */
        size_t left; /* steps that were left behind, with their approvals */
        const char *policy_digest, *environment_digest, *verdict_digest;
};

struct custody_live {
        int64_t version, since_ms;
        const char *digest;
        const struct custody_promotion *promotion;
        struct custody_live *before;
};

/* What is known of one environment of the trust file. */
struct custody_env {
        const char *name;
        size_t bit;
        unsigned threshold;
        const struct mlc_sshkey *keys;
        size_t n_keys;
        bool founded;
        bool other; /* a leaf names other founding owners */
        uint64_t other_index;
        struct mlc_map documents; /* "Kind/name" -> struct custody_document, accepted */
        struct mlc_map live; /* model -> struct custody_live, the newest */
        struct mlc_map nothing; /* models of which nothing is live any more */
        const char *last; /* "Policy/production of leaf 31": what was last not accepted */
};

struct custody_alias {
        int64_t version;
        const char *digest;
        uint64_t index;
};

struct custody_change {
        bool used, dead;
        uint64_t since; /* leaf of the first signature that counted */
};

struct mlc_custody {
        struct mlc_arena arena;
        const char *origin;
        struct custody_env *envs;
        size_t n_envs;
        uint64_t index; /* of this leaf */
        int64_t now_ms; /* of this leaf */
        struct mlc_map users; /* id -> struct custody_user */
        struct mlc_map roles; /* "u/role@ns" */
        struct mlc_map keys; /* public -> struct custody_key */
        struct mlc_map key_ids; /* id -> the same */
        struct mlc_map versions; /* "ns/name:N" */
        struct mlc_map digests; /* "ns/name@sha256:…" -> struct custody_version */
        struct mlc_map documents; /* "Kind/name" -> struct custody_document, as last said */
        struct mlc_map promotions;
        struct mlc_map signatures; /* approval id -> struct custody_signed */
        struct mlc_map statements; /* digest -> the first of that text */
        struct mlc_map subjects; /* "promotion:p1" -> struct custody_signed */
        struct mlc_map changed; /* "Policy/production" -> struct custody_signed */
        struct mlc_map changes; /* change id -> struct custody_change */
        struct mlc_map requests; /* "r17/2" -> digest of the evidence that was shown */
        struct mlc_map aliases; /* "ns/name:alias" -> struct custody_alias; those that stand */
};

void *custody_alloc(struct mlc_custody *c, size_t size);
const char *custody_text(struct mlc_custody *c, const char *s); /* NULL gives NULL */
const char *custody_member(const json_t *j, const char *key); /* "" when it is no text */
struct custody_user *custody_user(struct mlc_custody *c, const char *id);
void custody_take(struct mlc_custody *c, struct custody_end *end);
bool custody_over(const struct mlc_custody *c, const struct custody_end *end);

/* custody_people.c: what leaves say of people */
void custody_user_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf);
int custody_role_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
int custody_key_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
/* A person who is active. */
bool custody_person(struct mlc_custody *c, const char *user);
/* Why the key is no accepted key of the person; NULL when it is. */
const char *custody_key_wrong(struct mlc_custody *c, const struct custody_env *e, const char *user,
                              const char *public);
/*
 * Around a change of documents that owners signed: they may name people (or roles) who decided
 * nothing before. Those come with the keys and roles that the first owner could have seen: what was
 * added between that signature and the change is not accepted.
 */
void custody_before_change(struct mlc_custody *c, const struct custody_env *e);
void custody_after_change(struct mlc_custody *c, const struct custody_env *e, uint64_t since);
/* Whether the person falls under "user:U", "group:G" or, in the namespace (NULL: any), "role:R". */
bool custody_holds(struct mlc_custody *c, const struct custody_env *e, const char *user,
                   const char *from, const char *ns);

/* custody_documents.c */
int custody_document_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
const json_t *custody_document(const struct custody_env *e, const char *kind, const char *name);
const json_t *custody_environment(const struct custody_env *e);
const json_t *custody_policy(const struct custody_env *e);
bool custody_protected(const struct custody_env *e); /* now */
bool custody_owner(struct mlc_custody *c, const struct custody_env *e, const char *user);
/* An owner, or somebody whom the approval rules ask for; whether active or not. */
bool custody_stands(struct mlc_custody *c, const struct custody_env *e, const char *user);
bool custody_rules_name(const struct custody_env *e, const char *subject);
bool custody_has(const json_t *list, const char *text);

/* custody_signed.c */
int custody_approval_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
void custody_change_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf);
struct custody_want {
        const char *document, *before, *after; /* NULL: null */
};
/* The change whose signatures are enough owners' of the environment, or NULL. */
struct custody_change *custody_change_signed(struct mlc_custody *c, const struct custody_env *e,
                                             const struct custody_want *want);
/* For each environment that `concerns` (a mask) names: whether the change is signed; uses it up.
 * The mask of those that do not accept it. ret_since: the first signature that counted. */
uint64_t custody_refused(struct mlc_custody *c, uint64_t concerns, const struct custody_want *want,
                         uint64_t *ret_since);
struct custody_signed *custody_decisions(const struct mlc_custody *c, const char *kind,
                                         const char *id);
/* Why it is no valid decision of an accepted person now; NULL when it is. */
const char *custody_signed_wrong(struct mlc_custody *c, const struct custody_env *e,
                                 const struct custody_signed *s);

/* custody_live.c */
int custody_version_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
int custody_promotion_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
int custody_live_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
int custody_alias_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
void custody_live_founded(struct mlc_custody *c, const struct custody_env *e);
/* After the last leaf: the environment's alias must not stand on what was never live there. */
int custody_alias_end(const struct mlc_custody *c, const struct custody_env *e, uint64_t *ret_index,
                      struct mlc_err *err);
/* What is live of the model, or NULL. */
struct custody_live *custody_live(const struct custody_env *e, const char *model);

/* custody_steps.c: rollouts whose steps ask for approvals */
int custody_steps_begin(struct mlc_custody *c, const struct custody_env *e,
                        struct custody_promotion *p, const struct mlc_leaf *leaf,
                        struct mlc_err *err);
void custody_request_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf);
int custody_rollout_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err);
void custody_promotions_done(struct mlc_custody *c);

/* custody_rollout.c: whether a promotion may go live */
int custody_may_go_live(struct mlc_custody *c, const struct custody_env *e,
                        const struct custody_promotion *p, const struct mlc_leaf *leaf,
                        struct mlc_err *err);
struct custody_step {
        const char *rollout, *plan; /* id, digest */
        size_t step; /* from 0 */
};
int custody_may_go_on(struct mlc_custody *c, const struct custody_env *e,
                      const struct custody_promotion *p, const struct custody_step *step,
                      struct mlc_err *err);
int custody_may_roll_back(struct mlc_custody *c, const struct custody_env *e,
                          const struct custody_promotion *p, const struct mlc_leaf *leaf,
                          struct mlc_err *err);
