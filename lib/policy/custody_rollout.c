/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a promotion may go live: approvals for what owners stand behind, or a rollback. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "policy/approval.h"
#include "policy/custody_internal.h"
#include "policy/policy.h"

#define PEOPLE_MAX MLC_APPROVAL_PEOPLE_MAX

struct rollout {
        struct mlc_custody *c;
        const struct custody_env *e;
        const struct custody_promotion *p;
        const struct custody_step *step; /* NULL: it begins, or goes live */
        const json_t *rules; /* who must approve; borrowed */
        const char *verdict, *evidence; /* evidence: of a step */
        const json_t *state; /* of the leaf; NULL for a step */
        char ns[MLC_LEAF_ID_MAX + 1];
        json_t *policy; /* effective; owned */
        char policy_digest[MLC_DIGEST_STR], environment_digest[MLC_DIGEST_STR];
        const char *people[PEOPLE_MAX];
        size_t n_people;
        char why[240]; /* why some do not count */
        size_t why_len;
};

static void rollout_done(struct rollout *o)
{
        json_decref(o->policy);
}

__attribute__((format(printf, 2, 3))) static void add_why(struct rollout *o, const char *fmt, ...)
{
        size_t room = sizeof(o->why) - o->why_len;
        va_list ap;
        int n;

        if (room < 60)
                return; /* the first ones are enough */
        va_start(ap, fmt);
        n = vsnprintf(o->why + o->why_len, room, fmt, ap);
        va_end(ap);
        o->why_len += n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static int deny(struct rollout *o, const char *what, struct mlc_err *err)
{
        if (o->e->last != NULL)
                add_why(o, "; %s is not signed by enough owners", o->e->last);
        if (o->step != NULL)
                return mlc_fail(err, MLC_E_VERIFY,
                                "rollout '%s' of %s:%" PRId64 " in '%s' goes on from step %zu %s%s",
                                o->step->rollout, o->p->model, o->p->version, o->e->name,
                                o->step->step + 1, what, o->why);
        return mlc_fail(err, MLC_E_VERIFY,
                        "%s:%" PRId64 " goes live in '%s' by promotion '%s' %s%s", o->p->model,
                        o->p->version, o->e->name, o->p->id, what, o->why);
}

/* --- what must have been approved --- */

/* A document that is named but not in the leaves leaves nothing to compare with. */
static int document_of(struct rollout *o, const char *kind, const char *name, const json_t **ret,
                       struct mlc_err *err)
{
        const json_t *doc = custody_document(o->e, kind, name);

        if (name != NULL && doc == NULL) {
                add_why(o, ": %s '%s' is not in the log", kind, name);
                return deny(o, "under rules that nobody can see", err);
        }
        *ret = doc;
        return 0;
}

static int effective(struct rollout *o, struct mlc_err *err)
{
        char key[MLC_LEAF_ID_MAX + 16];
        struct mlc_policy_layers l = {0};
        struct mlc_err why = {0};
        struct mlc_digest d;
        int r;

        (void)snprintf(key, sizeof(key), "Model/%s", o->p->model);
        r = document_of(o, "Environment", o->e->name, &l.environment, err);
        if (r == 0)
                r = document_of(o, "Policy",
                                json_string_value(json_object_get(l.environment, "policy")),
                                &l.environment_policy, err);
        if (r == 0 && mlc_map_get(&o->e->documents, key) != NULL)
                r = document_of(o, "Model", o->p->model, &l.model, err);
        if (r == 0)
                r = document_of(o, "Policy", json_string_value(json_object_get(l.model, "policy")),
                                &l.model_policy, err);
        if (r < 0)
                return r;
        if (mlc_policy_effective(&l, &o->policy, &why) < 0 ||
            mlc_policy_digest(o->policy, &d, &why) < 0) {
                add_why(o, ": %.120s", why.msg);
                return deny(o, "under rules that do not fit together", err);
        }
        mlc_digest_format(&d, o->policy_digest);
        r = mlc_environment_digest(l.environment, o->policy, l.model, &d, err);
        if (r == 0)
                mlc_digest_format(&d, o->environment_digest);
        return r;
}

/* --- approvals --- */

/* What the statement is about is what goes live, under the rules that owners stand behind. */
static const char *differs(const struct rollout *o, const struct mlc_statement *s)
{
        const struct {
                const char *a, *b, *what;
        } texts[] = {
                {s->model, o->p->model, "it is for another model"},
                {s->artifact, o->p->digest, "it is for another artifact"},
                {s->environment, o->e->name, "it is for another environment"},
                {s->policy_digest, o->policy_digest, "it is for other rules than the owners'"},
                {s->environment_digest, o->environment_digest,
                 "it is for another environment than the owners'"},
                {s->verdict_digest, o->verdict, "it is for another verdict"},
                {s->role, "approver", "it was not signed as approver"},
        };

        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                if (!mlc_streq(texts[i].a, texts[i].b))
                        return texts[i].what;
        if (o->step != NULL && !mlc_streq(s->plan_digest, o->step->plan))
                return "it is for another plan";
        return s->version == o->p->version ? NULL : "it is for another version";
}

/* Who may decide here; whether active or not. */
static bool asked(const struct rollout *o, const char *user)
{
        const json_t *rule, *from;
        size_t i, k;

        if (o->step == NULL)
                return custody_stands(o->c, o->e, user);
        json_array_foreach (o->rules, i, rule)
                json_array_foreach (json_object_get(rule, "from"), k, from)
                        if (json_is_string(from) &&
                            custody_holds(o->c, o->e, user, json_string_value(from), o->ns))
                                return true;
        return false;
}

/* Who made the artifact and who asked, and the owners of those that are services. */
static size_t excluded(const struct rollout *o, const char *ret[4])
{
        char key[MLC_LEAF_ID_MAX + 32];
        const struct custody_version *v;
        const char *who[2] = {o->p->requested_by, NULL};
        size_t n = 0;

        (void)snprintf(key, sizeof(key), "%s:%" PRId64, o->p->model, o->p->version);
        v = mlc_map_get(&o->c->versions, key);
        who[1] = v != NULL ? v->author : NULL;
        for (size_t i = 0; i < 2; i++) {
                const struct custody_user *u =
                        who[i] != NULL ? mlc_map_get(&o->c->users, who[i]) : NULL;

                if (who[i] != NULL)
                        ret[n++] = who[i];
                if (u != NULL && u->owner != NULL)
                        ret[n++] = u->owner;
        }
        return n;
}

static int holds(void *userdata, const char *person, const char *from, bool *ret,
                 struct mlc_err *err)
{
        struct rollout *o = userdata;

        (void)err;
        *ret = custody_holds(o->c, o->e, person, from, o->ns);
        return 0;
}

/* Those whose approval holds; false when somebody who may decide rejected. */
static bool collect(struct rollout *o, const struct custody_signed *s)
{
        bool rejected = false;

        for (; s != NULL; s = s->next) {
                const char *wrong = custody_signed_wrong(o->c, o->e, s);

                if (mlc_streq(s->s.decision, "rollback"))
                        continue;
                if (wrong == NULL)
                        wrong = differs(o, &s->s);
                if (wrong == NULL && o->step != NULL && !mlc_streq(s->evidence, o->evidence))
                        wrong = "it is for other evidence";
                if (wrong == NULL && mlc_streq(s->s.decision, "reject"))
                        rejected = rejected || asked(o, s->s.signer);
                if (wrong != NULL)
                        add_why(o, "; approval '%s' by '%s' (leaf %llu): %s", s->id, s->s.signer,
                                (unsigned long long)s->index, wrong);
                else if (mlc_streq(s->s.decision, "approve") && o->n_people < PEOPLE_MAX)
                        o->people[o->n_people++] = s->s.signer;
        }
        return !rejected;
}

static bool listed(const char *const *list, size_t n, const char *text)
{
        for (size_t i = 0; i < n; i++)
                if (mlc_streq(list[i], text))
                        return true;
        return false;
}

/* Why those who signed well fill no place. */
static void explain(struct rollout *o, const struct mlc_approval_in *in,
                    const struct mlc_approval_count *count)
{
        for (size_t i = 0; i < o->n_people; i++) {
                const char *who = o->people[i];
                const struct custody_user *u = mlc_map_get(&o->c->users, who);
                const struct custody_role *r = u != NULL ? u->roles : NULL;

                if (count->placed[i] >= 0 || listed(o->people, i, who))
                        continue;
                if (listed(in->excluded, in->n_excluded, who)) {
                        add_why(o, "; '%s' made or asked for it", who);
                        continue;
                }
                while (r != NULL && (r->accepted & UINT64_C(1) << o->e->bit) != 0)
                        r = r->next;
                if (r != NULL)
                        add_why(o, "; no owners signed for role '%s' of leaf %llu", r->id,
                                (unsigned long long)r->index);
                else
                        add_why(o, "; no rule asks for '%s'", who);
        }
}

static int count(struct rollout *o, struct mlc_err *err)
{
        _cleanup_(mlc_arena_done) struct mlc_arena scratch;
        const char *out[4];
        struct mlc_approval_in in = {.rules = o->rules,
                                     .people = o->people,
                                     .n_people = o->n_people,
                                     .excluded = out,
                                     .holds = holds,
                                     .userdata = o};
        struct mlc_approval_count got;
        char what[160] = "without the approvals that it needs";
        int r;

        mlc_arena_init(&scratch, (size_t)16 << 20);
        in.n_excluded = excluded(o, out);
        r = mlc_approval_count(&in, &scratch, &got, err);
        if (r < 0 || got.satisfied)
                return r;
        for (size_t i = 0; i < got.n_rules; i++)
                if (got.rules[i].have < got.rules[i].need) {
                        (void)snprintf(what, sizeof(what),
                                       "without the approvals that it needs: rule '%.63s' has %u "
                                       "of %u",
                                       got.rules[i].name, got.rules[i].have, got.rules[i].need);
                        break;
                }
        explain(o, &in, &got);
        return deny(o, what, err);
}

static int begin(struct rollout *o, struct mlc_err *err)
{
        const char *slash = strchr(o->p->model, '/');
        char key[MLC_LEAF_ID_MAX + 32];
        const struct custody_version *v;

        (void)snprintf(o->ns, sizeof(o->ns), "%.*s", slash != NULL ? (int)(slash - o->p->model) : 0,
                       o->p->model);
        (void)snprintf(key, sizeof(key), "%s:%" PRId64, o->p->model, o->p->version);
        v = mlc_map_get(&o->c->versions, key);
        if (v == NULL || !mlc_streq(v->digest, o->p->digest))
                return deny(o, "though the version is not in the log, or another artifact", err);
        return 0;
}

int custody_may_go_live(struct mlc_custody *c, const struct custody_env *e,
                        const struct custody_promotion *p, const struct mlc_leaf *leaf,
                        struct mlc_err *err)
{
        _cleanup_(rollout_done) struct rollout o = {.c = c, .e = e, .p = p, .state = leaf->state};
        int r = begin(&o, err);

        if (r == 0)
                r = effective(&o, err);
        if (r < 0)
                return r;
        if (!mlc_streq(custody_member(o.state, "policy"), o.policy_digest) ||
            !mlc_streq(custody_member(o.state, "environment_digest"), o.environment_digest))
                return deny(&o, "under other rules than those that the owners signed", err);
        o.rules = json_object_get(o.policy, "approvals");
        o.verdict = custody_member(o.state, "verdict");
        if (!collect(&o, custody_decisions(c, "promotion", p->id)))
                return deny(&o, "though it was rejected", err);
        return count(&o, err);
}

/* --- steps --- */

int custody_may_go_on(struct mlc_custody *c, const struct custody_env *e,
                      const struct custody_promotion *p, const struct custody_step *step,
                      struct mlc_err *err)
{
        struct rollout o = {.c = c,
                            .e = e,
                            .p = p,
                            .step = step,
                            .rules = json_array_get(p->steps, step->step),
                            .verdict = p->verdict_digest};
        char id[MLC_LEAF_ID_MAX + 24];
        int r;

        if (json_array_size(o.rules) == 0)
                return 0;
        r = begin(&o, err);
        if (r < 0)
                return r;
        (void)snprintf(o.policy_digest, sizeof(o.policy_digest), "%s", p->policy_digest);
        (void)snprintf(o.environment_digest, sizeof(o.environment_digest), "%s",
                       p->environment_digest);
        (void)snprintf(id, sizeof(id), "%s/%zu", step->rollout, step->step + 1);
        o.evidence = mlc_map_get(&c->requests, id);
        if (!collect(&o, custody_decisions(c, "rollout", id)))
                return deny(&o, "though it was rejected", err);
        return count(&o, err);
}

/* --- rollback --- */

static bool later(const struct custody_live *a, const struct custody_live *b)
{
        return b == NULL || a->since_ms > b->since_ms;
}

/* When the version was live last; the list has the newest leaf first. */
static const struct custody_live *last_of(const struct custody_live *list, int64_t version)
{
        const struct custody_live *last = NULL;

        for (const struct custody_live *l = list; l != NULL; l = l->before)
                if (l->version == version && later(l, last))
                        last = l;
        return last;
}

static bool is_withdrawn(const struct rollout *o, int64_t version)
{
        char key[MLC_LEAF_ID_MAX + 32];
        const struct custody_version *v;

        (void)snprintf(key, sizeof(key), "%s:%" PRId64, o->p->model, version);
        v = mlc_map_get(&o->c->versions, key);
        return v == NULL || v->withdrawn;
}

/* What a rollback goes back to by itself: of the versions that were live there before, the one that
 * was last, is not withdrawn, and whose last time did not end in a rollback. */
static int64_t usual_target(const struct rollout *o, const struct custody_live *now)
{
        const struct custody_live *best = NULL;

        for (const struct custody_live *l = now->before; l != NULL; l = l->before)
                if (l->version != now->version && last_of(now, l->version) == l &&
                    (l->promotion == NULL || l->promotion->ended != CUSTODY_ROLLED_BACK) &&
                    !is_withdrawn(o, l->version) && later(l, best))
                        best = l;
        return best != NULL ? best->version : 0;
}

/* Somebody's signature, with an accepted key, under this very way back. */
static bool signed_for(struct rollout *o, const struct custody_live *now)
{
        struct custody_signed *s = custody_decisions(o->c, "promotion", now->promotion->id);

        for (; s != NULL; s = s->next) {
                const char *wrong = custody_signed_wrong(o->c, o->e, s);

                if (!mlc_streq(s->s.decision, "rollback"))
                        continue;
                if (wrong == NULL && s->used)
                        wrong = "it was used before";
                if (wrong == NULL &&
                    !(mlc_streq(s->s.model, o->p->model) && s->s.version == o->p->version &&
                      mlc_streq(s->s.artifact, o->p->digest) &&
                      mlc_streq(s->s.environment, o->e->name) && mlc_streq(s->s.from, now->digest)))
                        wrong = "it is for another rollback";
                if (wrong == NULL &&
                    !custody_holds(o->c, o->e, s->s.signer, "role:operator", o->ns))
                        wrong = "its signer is no operator";
                if (wrong == NULL) {
                        s->used = true;
                        return true;
                }
                add_why(o, "; signature '%s' by '%s' (leaf %llu): %s", s->id, s->s.signer,
                        (unsigned long long)s->index, wrong);
        }
        return false;
}

int custody_may_roll_back(struct mlc_custody *c, const struct custody_env *e,
                          const struct custody_promotion *p, const struct mlc_leaf *leaf,
                          struct mlc_err *err)
{
        struct rollout o = {.c = c, .e = e, .p = p, .state = leaf->state};
        const struct custody_live *now = custody_live(e, p->model), *target;
        int r = begin(&o, err);

        if (r < 0)
                return r;
        if (now == NULL || now->promotion == NULL ||
            !mlc_streq(now->promotion->id, p->rollback_of) || now->version == p->version)
                return deny(&o, "as a rollback of what is not live there", err);
        target = last_of(now, p->version);
        if (target == NULL || !mlc_streq(target->digest, p->digest))
                return deny(&o, "as a rollback, but it was never live there", err);
        if (is_withdrawn(&o, p->version))
                return deny(&o, "as a rollback, but it is withdrawn", err);
        if (usual_target(&o, now) == p->version || signed_for(&o, now))
                return 0;
        return deny(&o, "as a rollback to another version than the one before, which nobody signed",
                    err);
}
