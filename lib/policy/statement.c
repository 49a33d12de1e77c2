/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/statement.h"

#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "codec/digest.h"
#include "codec/jcs.h"
#include "codec/ref.h"
#include "policy/read.h"

#define TYPE "urn:mlctl:approval:v1"
#define VERSION_MAX INT64_C(9007199254740991)

static int bad(const char *member, struct mlc_err *err, const char *what)
{
        char field[MLC_JSON_POINTER_MAX];

        mlc_json_pointer(field, "", member);
        return mlc_fail_field(err, MLC_E_INVALID, field, "'%s' %s", member, what);
}

static bool one_of(const char *s, const char *const *list)
{
        for (; s != NULL && *list != NULL; list++)
                if (strcmp(*list, s) == 0)
                        return true;
        return false;
}

static bool only_of(const char *s, const char *set, size_t min, size_t max)
{
        return s != NULL && strlen(s) >= min && strlen(s) <= max && strspn(s, set) == strlen(s);
}

/* What one signs under, word for word. */
static const struct {
        const char *subject, *kind, *decision, *text; /* kind: of a change; "": every other */
} MEANINGS[] = {
        {"promotion", "", "approve",
         "I have seen the evidence and approve that this version goes live in this environment"},
        {"promotion", "", "reject",
         "I have seen the evidence and reject that this version goes live in this environment"},
        {"promotion", "", "rollback", "I bring this environment back to this version"},
        {"rollout", "", "approve",
         "I have seen the evidence and approve that this rollout goes on from this step"},
        {"rollout", "", "reject",
         "I have seen the evidence and reject that this rollout goes on: it is taken back"},
        {"change", "Role/", "approve",
         "I approve that this person gets this role, with the keys that are listed with it"},
        {"change", "Role/", "reject", "I reject that this person gets this role"},
        {"change", "Key/", "approve", "I approve that signatures with this key are this person's"},
        {"change", "Key/", "reject", "I reject that signatures with this key are this person's"},
        {"change", "", "approve", "I approve that this document takes effect"},
        {"change", "", "reject", "I reject that this document takes effect"},
};

const char *mlc_statement_meaning(const char *subject_kind, const char *document,
                                  const char *decision)
{
        for (size_t i = 0; i < ARRAY_LEN(MEANINGS); i++)
                if (mlc_streq(MEANINGS[i].subject, subject_kind) &&
                    strncmp(MEANINGS[i].kind, document != NULL ? document : "",
                            strlen(MEANINGS[i].kind)) == 0 &&
                    mlc_streq(MEANINGS[i].decision, decision))
                        return MEANINGS[i].text;
        return NULL;
}

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

static int visible(const char *member, const char *s, size_t max, struct mlc_err *err)
{
        struct mlc_err why = {0};

        if (s == NULL || strlen(s) > max || pol_plain(s, &why) < 0)
                return bad(member, err, "must be visible text of bounded length");
        return 0;
}

static int digest(const char *member, const char *s, bool may_lack, struct mlc_err *err)
{
        struct mlc_digest d;
        struct mlc_err why = {0};

        if (s == NULL)
                return may_lack ? 0 : bad(member, err, "is missing");
        return mlc_digest_parse(s, &d, &why) < 0 ? bad(member, err, "must be sha256:HEX") : 0;
}

/* Exactly as mlc_time_format writes it. */
static int moment(const char *member, const char *s, int64_t *ret, struct mlc_err *err)
{
        char text[MLC_TIME_MAX];

        if (s == NULL || !mlc_time_parse(s, ret))
                return bad(member, err, "must be a time");
        mlc_time_format(*ret, text);
        return strcmp(text, s) == 0 ? 0 : bad(member, err, "must be UTC with milliseconds");
}

static int check_evidence(const struct mlc_statement *s, struct mlc_err *err)
{
        if (s->n_evidence > MLC_STATEMENT_EVIDENCE_MAX)
                return bad("evidence", err, "has too many items");
        for (size_t i = 0; i < s->n_evidence; i++) {
                int r = digest("evidence", s->evidence[i], false, err);

                if (r < 0)
                        return r;
                if (i > 0 && strcmp(s->evidence[i - 1], s->evidence[i]) >= 0)
                        return bad("evidence", err, "must be sorted, each once");
        }
        return 0;
}

static int check_promotion(const struct mlc_statement *s, struct mlc_err *err)
{
        bool rollback = strcmp(s->decision, "rollback") == 0;
        struct mlc_err why = {0};
        struct mlc_ref ref;
        int r;

        if (s->document != NULL || s->before != NULL || s->after != NULL)
                return bad("document", err, "does not belong to a promotion");
        if (s->plan_digest != NULL && strcmp(s->subject_kind, "rollout") != 0)
                return bad("plan_digest", err, "does not belong to a promotion");
        if (s->model == NULL || mlc_ref_parse_model(s->model, &ref, &why) < 0)
                return bad("model", err, "must be namespace/model");
        if (s->version < 1 || s->version > VERSION_MAX)
                return bad("version", err, "must be a version");
        if (s->environment == NULL || pol_name(s->environment, &why) < 0)
                return bad("environment", err, "must be the name of an environment");
        r = digest("artifact", s->artifact, false, err);
        if (r == 0)
                r = digest("environment_digest", s->environment_digest, false, err);
        if (r == 0)
                r = digest("policy_digest", s->policy_digest, false, err);
        if (r == 0)
                r = digest("verdict_digest", s->verdict_digest, rollback, err);
        if (r == 0)
                r = digest("from", s->from, true, err);
        return r < 0 ? r : check_evidence(s, err);
}

/* A step of a rollout: what its promotion's statement says, the plan, and one decision. */
static int check_rollout(const struct mlc_statement *s, struct mlc_err *err)
{
        int r;

        if (strcmp(s->decision, "rollback") == 0)
                return bad("decision", err, "must be approve or reject");
        r = check_promotion(s, err);
        if (r == 0 && s->n_evidence != 1)
                r = bad("evidence", err, "must be one decision");
        return r < 0 ? r : digest("plan_digest", s->plan_digest, false, err);
}

static int check_change(const struct mlc_statement *s, struct mlc_err *err)
{
        int r = visible("document", s->document, 300, err);

        if (r < 0)
                return r;
        if (s->model != NULL || s->version != 0 || s->artifact != NULL || s->environment != NULL ||
            s->environment_digest != NULL || s->policy_digest != NULL ||
            s->verdict_digest != NULL || s->n_evidence != 0 || s->from != NULL ||
            s->plan_digest != NULL)
                return bad("model", err, "does not belong to a change");
        if (strcmp(s->decision, "rollback") == 0)
                return bad("decision", err, "must be approve or reject");
        if (s->before == NULL && s->after == NULL)
                return bad("after", err, "and 'before' cannot both be null");
        r = digest("before", s->before, true, err);
        return r < 0 ? r : digest("after", s->after, true, err);
}

static int check_signer(const struct mlc_statement *s, struct mlc_err *err)
{
        static const char *const roles[] = {"approver", "owner", "operator", NULL};
        int64_t from, to;
        int r;

        if (!one_of(s->role, roles))
                return bad("role", err, "must be approver, owner or operator");
        if (!only_of(s->signer, LOWER DIGITS, 2, 64) || s->signer[0] != 'u')
                return bad("signer", err, "must be the id of a person");
        if (!only_of(s->nonce, LOWER "ABCDEFGHIJKLMNOPQRSTUVWXYZ" DIGITS "_-", 16, 64))
                return bad("nonce", err, "must be 16 to 64 letters and digits");
        r = digest("signer_name_commitment", s->signer_name_commitment, false, err);
        if (r == 0)
                r = digest("reason_commitment", s->reason_commitment, false, err);
        if (r == 0)
                r = moment("time", s->time, &from, err);
        if (r == 0)
                r = moment("expires", s->expires, &to, err);
        if (r == 0 && to <= from)
                r = bad("expires", err, "must be later than 'time'");
        return r < 0 ? r : visible("log", s->log, 256, err);
}

/* r17/2: numbers without leading zeros, so that a step has one name. */
static bool step_id(const char *s)
{
        size_t id, step;

        if (s == NULL || strlen(s) > 64 || s[0] != 'r' || s[1] == '0')
                return false;
        id = strspn(s + 1, DIGITS);
        if (id == 0 || s[1 + id] != '/' || s[2 + id] == '0')
                return false;
        step = strspn(s + 2 + id, DIGITS);
        return step > 0 && s[2 + id + step] == '\0';
}

static const struct subject {
        const char *kind;
        char letter;
        int (*check)(const struct mlc_statement *s, struct mlc_err *err);
} SUBJECTS[] = {
        {"promotion", 'p', check_promotion},
        {"change", 'c', check_change},
        {"rollout", 'r', check_rollout},
};

static int check(const struct mlc_statement *s, struct mlc_err *err)
{
        static const char *const decisions[] = {"approve", "reject", "rollback", NULL};
        const struct subject *of = NULL;
        bool fits;
        int r;

        if (!one_of(s->decision, decisions))
                return bad("decision", err, "must be approve, reject or rollback");
        for (size_t i = 0; i < ARRAY_LEN(SUBJECTS); i++)
                if (mlc_streq(SUBJECTS[i].kind, s->subject_kind))
                        of = &SUBJECTS[i];
        if (of == NULL)
                return bad("subject", err, "must be a promotion, a change or a rollout");
        fits = of->letter == 'r' ? step_id(s->subject_id)
                                 : only_of(s->subject_id, LOWER DIGITS, 2, 64) &&
                                           s->subject_id[0] == of->letter;
        if (!fits)
                return bad("subject", err, "has an id that is none of its kind");
        r = visible("meaning", s->meaning, 300, err);
        if (r == 0)
                r = of->check(s, err);
        return r < 0 ? r : check_signer(s, err);
}

static json_t *text_or_null(const char *s)
{
        return s != NULL ? json_string(s) : json_null();
}

static void add_subject(const struct mlc_statement *s, json_t *out)
{
        json_t *evidence;

        if (strcmp(s->subject_kind, "change") == 0) {
                json_object_set_new(out, "document", json_string(s->document));
                json_object_set_new(out, "before", text_or_null(s->before));
                json_object_set_new(out, "after", text_or_null(s->after));
                return;
        }
        evidence = json_array();
        for (size_t i = 0; i < s->n_evidence; i++)
                json_array_append_new(evidence, json_string(s->evidence[i]));
        json_object_set_new(out, "model", json_string(s->model));
        json_object_set_new(out, "version", json_integer(s->version));
        json_object_set_new(out, "artifact", json_string(s->artifact));
        json_object_set_new(out, "environment", json_string(s->environment));
        json_object_set_new(out, "environment_digest", json_string(s->environment_digest));
        json_object_set_new(out, "policy_digest", json_string(s->policy_digest));
        json_object_set_new(out, "verdict_digest", text_or_null(s->verdict_digest));
        json_object_set_new(out, "evidence", evidence);
        json_object_set_new(out, "from", text_or_null(s->from));
        if (s->plan_digest != NULL)
                json_object_set_new(out, "plan_digest", json_string(s->plan_digest));
}

int mlc_statement_build(const struct mlc_statement *s, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *out = NULL;
        int r = check(s, err);

        if (r < 0)
                return r;
        out = json_pack("{s:s, s:s, s:s, s:{s:s, s:s}, s:s, s:s, s:s, s:s, s:[], s:s, s:s, s:s, "
                        "s:s}",
                        "type", TYPE, "decision", s->decision, "meaning", s->meaning, "subject",
                        "kind", s->subject_kind, "id", s->subject_id, "role", s->role, "signer",
                        s->signer, "signer_name_commitment", s->signer_name_commitment,
                        "reason_commitment", s->reason_commitment, "conditions", "time", s->time,
                        "expires", s->expires, "nonce", s->nonce, "log", s->log);
        if (out == NULL)
                return mlc_fail(err, MLC_E_INVALID, "the statement holds what is not text");
        add_subject(s, out);
        r = mlc_jcs_signed(out, ret, err);
        return r < 0 ? r : mlc_str_check(ret, err);
}

/* A text into the arena; absent and null are alike here: the bytes are compared afterwards. */
static int take(const json_t *doc, const char *key, struct mlc_arena *a, const char **ret,
                struct mlc_err *err)
{
        const json_t *v = json_object_get(doc, key);

        *ret = NULL;
        if (v == NULL || json_is_null(v))
                return 0;
        if (!json_is_string(v))
                return bad(key, err, "must be text");
        *ret = mlc_arena_strdup(a, json_string_value(v), err);
        return *ret != NULL ? 0 : MLC_E_LIMIT;
}

static int take_evidence(const json_t *doc, struct mlc_arena *a, struct mlc_statement *ret,
                         struct mlc_err *err)
{
        const json_t *list = json_object_get(doc, "evidence");
        const char **ids;

        if (list == NULL)
                return 0;
        if (!json_is_array(list) || json_array_size(list) > MLC_STATEMENT_EVIDENCE_MAX)
                return bad("evidence", err, "must be a list of bounded length");
        ids = mlc_arena_array(a, json_array_size(list), sizeof(*ids), err);
        if (ids == NULL)
                return MLC_E_LIMIT;
        for (size_t i = 0; i < json_array_size(list); i++) {
                const char *id = json_string_value(json_array_get(list, i));

                if (id == NULL)
                        return bad("evidence", err, "must hold ids");
                ids[i] = mlc_arena_strdup(a, id, err);
                if (ids[i] == NULL)
                        return MLC_E_LIMIT;
        }
        ret->evidence = ids;
        ret->n_evidence = json_array_size(list);
        return 0;
}

static int take_all(const json_t *doc, struct mlc_arena *a, struct mlc_statement *ret,
                    struct mlc_err *err)
{
        const struct {
                const char *key;
                const char **place;
        } texts[] = {
                {"decision", &ret->decision},
                {"meaning", &ret->meaning},
                {"model", &ret->model},
                {"artifact", &ret->artifact},
                {"environment", &ret->environment},
                {"environment_digest", &ret->environment_digest},
                {"policy_digest", &ret->policy_digest},
                {"verdict_digest", &ret->verdict_digest},
                {"from", &ret->from},
                {"plan_digest", &ret->plan_digest},
                {"document", &ret->document},
                {"before", &ret->before},
                {"after", &ret->after},
                {"role", &ret->role},
                {"signer", &ret->signer},
                {"signer_name_commitment", &ret->signer_name_commitment},
                {"reason_commitment", &ret->reason_commitment},
                {"time", &ret->time},
                {"expires", &ret->expires},
                {"nonce", &ret->nonce},
                {"log", &ret->log},
        };
        const json_t *subject = json_object_get(doc, "subject");
        const json_t *version = json_object_get(doc, "version");
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_LEN(texts); i++)
                r = take(doc, texts[i].key, a, texts[i].place, err);
        if (r == 0)
                r = take(subject, "kind", a, &ret->subject_kind, err);
        if (r == 0)
                r = take(subject, "id", a, &ret->subject_id, err);
        if (r == 0 && version != NULL && !json_is_integer(version))
                r = bad("version", err, "must be a whole number");
        if (r == 0)
                ret->version = json_integer_value(version);
        return r < 0 ? r : take_evidence(doc, a, ret, err);
}

int mlc_statement_parse(const void *text, size_t len, struct mlc_arena *a,
                        struct mlc_statement *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        _cleanup_(mlc_str_done) struct mlc_str again;
        struct mlc_statement s = {0};
        const json_t *conditions;
        int r;

        mlc_str_init(&again, MLC_STATEMENT_MAX);
        if (len > MLC_STATEMENT_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the statement has more than %zu bytes",
                                MLC_STATEMENT_MAX);
        r = mlc_json_parse(text, len, &doc, err);
        if (r < 0)
                return r;
        if (!json_is_object(doc))
                return mlc_fail(err, MLC_E_INVALID, "a statement is an object");
        conditions = json_object_get(doc, "conditions");
        if (json_array_size(conditions) > 0)
                return mlc_fail_field(err, MLC_E_NOT_SUPPORTED, "/conditions",
                                      "conditions are not supported yet");
        r = take_all(doc, a, &s, err);
        if (r == 0)
                r = mlc_statement_build(&s, &again, err);
        if (r < 0)
                return r;
        /* one spelling only: whatever else the bytes say, it was not built from these members */
        if (again.len != len || memcmp(again.data, text, len) != 0)
                return mlc_fail(err, MLC_E_INVALID,
                                "the statement is not in its one canonical form: it has other "
                                "members, another order or another spelling");
        *ret = s;
        return 0;
}

static bool same(const char *a, const char *b)
{
        return (a == NULL && b == NULL) || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_evidence(const struct mlc_statement *a, const struct mlc_statement *b)
{
        if (a->n_evidence != b->n_evidence)
                return false;
        for (size_t i = 0; i < a->n_evidence; i++)
                if (!same(a->evidence[i], b->evidence[i]))
                        return false;
        return true;
}

const char *mlc_statement_differs(const struct mlc_statement *a, const struct mlc_statement *b)
{
        const struct {
                const char *name, *one, *two;
        } texts[] = {
                {"subject", a->subject_kind, b->subject_kind},
                {"subject", a->subject_id, b->subject_id},
                {"model", a->model, b->model},
                {"artifact", a->artifact, b->artifact},
                {"environment", a->environment, b->environment},
                {"environment_digest", a->environment_digest, b->environment_digest},
                {"policy_digest", a->policy_digest, b->policy_digest},
                {"verdict_digest", a->verdict_digest, b->verdict_digest},
                {"from", a->from, b->from},
                {"plan_digest", a->plan_digest, b->plan_digest},
                {"document", a->document, b->document},
                {"before", a->before, b->before},
                {"after", a->after, b->after},
                {"log", a->log, b->log},
        };

        for (size_t i = 0; i < ARRAY_LEN(texts); i++)
                if (!same(texts[i].one, texts[i].two))
                        return texts[i].name;
        if (a->version != b->version)
                return "version";
        return same_evidence(a, b) ? NULL : "evidence";
}
