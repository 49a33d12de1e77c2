/* SPDX-License-Identifier: Apache-2.0 */
/* What people signed, and whether that is enough owners for a change. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "codec/base64.h"
#include "crypto/hash.h"
#include "crypto/sshsig.h"
#include "policy/custody_internal.h"

#define PEOPLE_MAX 64 /* owners that are counted for one change */

/* --- leaves of approvals --- */

static struct mlc_statement copied(struct mlc_custody *c, const struct mlc_statement *s)
{
        const char *const *from[] = {&s->decision,
                                     &s->subject_kind,
                                     &s->subject_id,
                                     &s->model,
                                     &s->artifact,
                                     &s->environment,
                                     &s->environment_digest,
                                     &s->policy_digest,
                                     &s->verdict_digest,
                                     &s->from,
                                     &s->plan_digest,
                                     &s->document,
                                     &s->before,
                                     &s->after,
                                     &s->role,
                                     &s->signer};
        struct mlc_statement out = {.version = s->version};
        const char **to[] = {&out.decision,
                             &out.subject_kind,
                             &out.subject_id,
                             &out.model,
                             &out.artifact,
                             &out.environment,
                             &out.environment_digest,
                             &out.policy_digest,
                             &out.verdict_digest,
                             &out.from,
                             &out.plan_digest,
                             &out.document,
                             &out.before,
                             &out.after,
                             &out.role,
                             &out.signer};

        for (size_t i = 0; i < ARRAY_LEN(to); i++)
                *to[i] = custody_text(c, *from[i]);
        return out;
}

static const char *check_signature(struct mlc_custody *c, const char *text, const char *armour,
                                   const char **ret_public)
{
        const struct mlc_sshsig_message m = {MLC_STATEMENT_NAMESPACE, text, strlen(text)};
        _cleanup_(free_p) struct mlc_sshsig_result *sig = calloc(1, sizeof(*sig));
        _cleanup_(mlc_str_done) struct mlc_str public;
        struct mlc_err none = {0};

        mlc_str_init(&public, (size_t)2 * MLC_SSHKEY_BLOB_MAX);
        if (sig == NULL)
                abort();
        if (mlc_sshsig_verify(armour, strlen(armour), &m, sig, &none) < 0)
                return "its signature does not hold";
        if (sig->is_webauthn)
                return "it was signed in a browser, which is not accepted";
        mlc_base64_encode(MLC_BASE64_STD, sig->key.blob, sig->key.len, &public);
        *ret_public = custody_text(c, mlc_str_cstr(&public));
        return NULL;
}

/* Fills *s with what was signed; a reason when that counts for nothing whatever else is known. */
static const char *check_statement(struct mlc_custody *c, const struct mlc_leaf *leaf,
                                   struct custody_signed *s)
{
        const char *text = json_string_value(json_object_get(leaf->detail, "statement"));
        const char *armour = json_string_value(json_object_get(leaf->detail, "signature"));
        _cleanup_(mlc_arena_done) struct mlc_arena scratch;
        char digest[MLC_DIGEST_STR], subject[128];
        struct mlc_statement parsed;
        struct mlc_err none = {0};
        struct mlc_digest d;

        mlc_arena_init(&scratch, (size_t)1 << 20);
        if (text == NULL || armour == NULL)
                return "its leaf does not hold what was signed";
        mlc_sha256(text, strlen(text), &d);
        mlc_digest_format(&d, digest);
        if (!mlc_streq(digest, custody_member(leaf->state, "statement")))
                return "its leaf holds another statement than it says";
        if (mlc_map_get(&c->statements, digest) != NULL)
                return "its statement was used before";
        if (mlc_statement_parse(text, strlen(text), &scratch, &parsed, &none) < 0)
                return "its statement is none";
        (void)snprintf(subject, sizeof(subject), "%s:%s", parsed.subject_kind, parsed.subject_id);
        if (!mlc_streq(subject, s->subject))
                return "its statement is about something else";
        if (!mlc_streq(parsed.log, c->origin))
                return "its statement is for another log";
        if (!mlc_time_parse(parsed.expires, &s->expires_ms))
                return "its statement has no end";
        s->s = copied(c, &parsed);
        s->evidence = parsed.n_evidence > 0 ? custody_text(c, parsed.evidence[0]) : NULL;
        (void)mlc_map_set(&c->statements, digest, s);
        return check_signature(c, text, armour, &s->public);
}

static void link_document(struct mlc_custody *c, struct custody_signed *s)
{
        if (s->wrong != NULL || s->s.document == NULL)
                return;
        s->next_document = mlc_map_get(&c->changed, s->s.document);
        (void)mlc_map_set(&c->changed, s->s.document, s);
}

static void add(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        struct custody_signed *s = custody_alloc(c, sizeof(*s));

        s->id = custody_text(c, leaf->id);
        s->subject = custody_text(c, custody_member(leaf->state, "subject"));
        s->index = c->index;
        s->s.signer = custody_text(c, custody_member(leaf->state, "signer"));
        s->wrong = check_statement(c, leaf, s);
        if (s->s.signer == NULL)
                s->s.signer = "";
        s->next = mlc_map_get(&c->subjects, s->subject);
        (void)mlc_map_set(&c->subjects, s->subject, s);
        (void)mlc_map_set(&c->signatures, s->id, s);
        link_document(c, s);
}

int custody_approval_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf, struct mlc_err *err)
{
        struct custody_signed *s = mlc_map_get(&c->signatures, leaf->id);

        (void)err;
        if (s == NULL && leaf->state != NULL) {
                add(c, leaf);
                s = mlc_map_get(&c->signatures, leaf->id);
        }
        if (s != NULL &&
            (leaf->state == NULL || json_is_true(json_object_get(leaf->state, "void"))))
                s->voided = true;
        return 0;
}

static struct custody_change *change_of(struct mlc_custody *c, const char *id)
{
        struct custody_change *change = mlc_map_get(&c->changes, id);

        if (change == NULL) {
                change = custody_alloc(c, sizeof(*change));
                (void)mlc_map_set(&c->changes, id, change);
        }
        return change;
}

void custody_change_leaf(struct mlc_custody *c, const struct mlc_leaf *leaf)
{
        const char *state = custody_member(leaf->state, "state");

        /* what ended without effect never has one */
        if (!mlc_streq(state, "pending") && !mlc_streq(state, "applied"))
                change_of(c, leaf->id)->dead = true;
}

struct custody_signed *custody_decisions(const struct mlc_custody *c, const char *kind,
                                         const char *id)
{
        char subject[MLC_LEAF_ID_MAX + 32];

        (void)snprintf(subject, sizeof(subject), "%s:%s", kind, id);
        return mlc_map_get(&c->subjects, subject);
}

const char *custody_signed_wrong(struct mlc_custody *c, const struct custody_env *e,
                                 const struct custody_signed *s)
{
        if (s->wrong != NULL)
                return s->wrong;
        if (s->voided)
                return "it is void";
        if (s->expires_ms <= c->now_ms)
                return "it has expired";
        if (!custody_person(c, s->s.signer))
                return "its signer is no active person";
        return custody_key_wrong(c, e, s->s.signer, s->public);
}

/* --- enough owners --- */

static bool same(const char *a, const char *b)
{
        return (a == NULL && b == NULL) || mlc_streq(a, b);
}

/* An owner's valid signature under this very change. */
static bool counts(struct mlc_custody *c, const struct custody_env *e,
                   const struct custody_signed *s, const struct custody_want *want)
{
        return same(s->s.before, want->before) && same(s->s.after, want->after) &&
               mlc_streq(s->s.role, "owner") && custody_owner(c, e, s->s.signer) &&
               custody_signed_wrong(c, e, s) == NULL;
}

static bool enough(struct mlc_custody *c, const struct custody_env *e, const char *change,
                   const struct custody_want *want)
{
        const struct custody_signed *s = mlc_map_get(&c->changed, want->document);
        json_int_t need = json_integer_value(json_object_get(custody_environment(e), "threshold"));
        struct custody_change *of = change_of(c, change);
        const char *people[PEOPLE_MAX];
        size_t n = 0;

        for (; s != NULL; s = s->next_document) { /* the newest first */
                bool again = false;

                if (!mlc_streq(s->s.subject_id, change) || !counts(c, e, s, want))
                        continue;
                if (!mlc_streq(s->s.decision, "approve"))
                        return false;
                for (size_t i = 0; i < n; i++)
                        again = again || mlc_streq(people[i], s->s.signer);
                if (!again && n < PEOPLE_MAX)
                        people[n++] = s->s.signer;
                of->since = s->index;
        }
        return need > 0 && (json_int_t)n >= need;
}

struct custody_change *custody_change_signed(struct mlc_custody *c, const struct custody_env *e,
                                             const struct custody_want *want)
{
        const struct custody_signed *s = mlc_map_get(&c->changed, want->document);

        for (; s != NULL; s = s->next_document) {
                struct custody_change *change;

                if (!counts(c, e, s, want))
                        continue;
                change = change_of(c, s->s.subject_id);
                if (!change->used && !change->dead && enough(c, e, s->s.subject_id, want))
                        return change;
        }
        return NULL;
}

uint64_t custody_refused(struct mlc_custody *c, uint64_t concerns, const struct custody_want *want,
                         uint64_t *ret_since)
{
        struct custody_change *by[MLC_CUSTODY_ENVIRONMENTS_MAX] = {NULL};
        uint64_t refused = 0;

        *ret_since = c->index;
        for (size_t i = 0; i < c->n_envs; i++) {
                if ((concerns & UINT64_C(1) << i) == 0)
                        continue;
                by[i] = custody_change_signed(c, &c->envs[i], want);
                if (by[i] == NULL)
                        refused |= UINT64_C(1) << i;
        }
        for (size_t i = 0; i < c->n_envs; i++) {
                if (by[i] == NULL)
                        continue;
                by[i]->used = true;
                if (by[i]->since < *ret_since)
                        *ret_since = by[i]->since;
        }
        return refused;
}
