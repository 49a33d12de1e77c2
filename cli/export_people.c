/* SPDX-License-Identifier: Apache-2.0 */
/* approvals/ and allowed_signers of an export: who signed what, with which key, and who counts. */
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "crypto/hash.h"
#include "crypto/sshsig.h"
#include "export_verify.h"
#include "policy/approval.h"

static const char *base_of(const char *name)
{
        return strrchr(name, '/') + 1;
}

static void digest_text(const char *data, size_t len, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d;

        mlc_sha256(data, len, &d);
        mlc_digest_format(&d, ret);
}

/* The approval's entry: that of this very statement. */
static const struct proven *entry_of(const struct verifying *v, const char *digest)
{
        for (size_t i = 0; i < v->n_proven; i++)
                if (strcmp(v->proven[i].leaf.kind, "approval") == 0 &&
                    strcmp(export_text(v->proven[i].leaf.state, "statement"), digest) == 0)
                        return &v->proven[i];
        return NULL;
}

/* The key was the signer's, and not revoked, when the log took the approval. */
static int check_key(struct verifying *v, const char *name, const struct proven *entry,
                     const struct mlc_sshkey *key)
{
        const struct mlc_leaf *leaf =
                export_entry(v, "key", export_text(entry->leaf.state, "key"), entry->index);
        const char *type, *public;
        char line[MLC_SSHKEY_LINE_MAX];
        struct mlc_sshkey listed;
        struct mlc_err none = {0};

        if (leaf == NULL || leaf->state == NULL)
                return export_wrong(v, name, "the log has no entry of the key that signed");
        type = export_text(leaf->state, "type");
        public = export_text(leaf->state, "public");
        if (snprintf(line, sizeof(line), "%s %s", type, public) >= (int)sizeof(line) ||
            mlc_sshkey_parse(line, &listed, &none) < 0 || !mlc_sshkey_equal(&listed, key))
                return export_wrong(v, name, "signed with another key than the log says");
        if (strcmp(export_text(leaf->state, "user"), base_of(name)) != 0)
                return export_wrong(v, name, "the key that signed is somebody else's");
        if (json_is_true(json_object_get(leaf->state, "revoked")))
                return export_wrong(v, name, "the key that signed was revoked before");
        return 0;
}

/* The entry says of the statement what it says itself. */
static int check_entry(struct verifying *v, const char *name, const struct mlc_statement *s,
                       const struct proven *entry)
{
        const json_t *state = entry->leaf.state;
        const char *subject = export_text(state, "subject");
        const struct {
                const char *one, *two;
        } same[] = {
                {s->decision, export_text(state, "decision")},
                {s->signer, export_text(state, "signer")},
                {s->role, export_text(state, "role")},
                {s->expires, export_text(state, "expires")},
        };

        for (size_t i = 0; i < ARRAY_LEN(same); i++)
                if (strcmp(same[i].one, same[i].two) != 0)
                        return export_wrong(v, name, "its entry of the log says something else");
        if (!mlc_starts_with(subject, "promotion:") ||
            strcmp(subject + strlen("promotion:"), s->subject_id) != 0)
                return export_wrong(v, name, "its entry of the log is about something else");
        return json_is_true(json_object_get(state, "void"))
                       ? export_wrong(v, name, "it was void when it was logged")
                       : 0;
}

static int evidence_of(struct verifying *v, struct mlc_statement *ret)
{
        const json_t *ids = json_object_get(v->verdict, "evidence");
        const char **list =
                mlc_arena_array(&v->arena, json_array_size(ids) + 1, sizeof(*list), &v->cli->err);

        if (list == NULL)
                return v->cli->err.code;
        for (size_t i = 0; i < json_array_size(ids); i++)
                list[i] = json_string_value(json_array_get(ids, i));
        ret->evidence = list;
        ret->n_evidence = json_array_size(ids);
        return 0;
}

/* What everybody who decided about this promotion had to say. A rollback's decision is about the
 * promotion that it takes down: only where it leads to is known here. */
static int check_binding(struct verifying *v, const char *name, const struct mlc_statement *s)
{
        const json_t *p = v->promotion->state;
        const char *from = json_string_value(json_object_get(p, "from"));
        struct mlc_statement want = {
                .subject_kind = "promotion",
                .subject_id = v->promotion->id,
                .model = export_text(p, "model"),
                .version = json_integer_value(json_object_get(p, "version")),
                .artifact = v->artifact,
                .environment = export_text(p, "environment"),
                .environment_digest = export_text(p, "environment_digest"),
                .policy_digest = export_text(p, "policy"),
                .verdict_digest = v->verdict_digest[0] != '\0' ? v->verdict_digest : NULL,
                .from = from,
                .log = v->key.name};
        char what[96];
        const char *member;
        int r = evidence_of(v, &want);

        if (r < 0)
                return r;
        if (strcmp(s->decision, "rollback") == 0) {
                want.subject_id = s->subject_id;
                want.environment_digest = s->environment_digest;
                want.policy_digest = s->policy_digest;
                want.verdict_digest = s->verdict_digest;
                want.evidence = s->evidence;
                want.n_evidence = s->n_evidence;
                want.from = s->from;
        }
        member = mlc_statement_differs(s, &want);
        if (member == NULL && strcmp(s->signer, base_of(name)) != 0)
                member = "signer";
        if (member == NULL &&
            !mlc_streq(s->meaning,
                       mlc_statement_meaning(s->subject_kind, s->document, s->decision)))
                member = "meaning";
        if (member == NULL)
                return 0;
        (void)snprintf(what, sizeof(what), "its '%s' is not that of this promotion", member);
        return export_wrong(v, name, what);
}

static int check_approval(struct verifying *v, const char *name)
{
        _cleanup_(free_p) char *text = NULL, *armour = NULL;
        _cleanup_(free_p) struct mlc_sshsig_result *sig = calloc(1, sizeof(*sig));
        struct mlc_sshsig_message message = {.ns = MLC_STATEMENT_NAMESPACE};
        char file[160], digest[MLC_DIGEST_STR];
        const struct proven *entry;
        struct mlc_statement s;
        size_t len, armour_len;
        int r;

        if (sig == NULL)
                abort();
        (void)snprintf(file, sizeof(file), "%s.json", name);
        r = export_slurp(v, file, &text, &len);
        (void)snprintf(file, sizeof(file), "%s.sig", name);
        if (r == 0)
                r = export_slurp(v, file, &armour, &armour_len);
        if (r < 0)
                return r;
        message.data = text;
        message.len = len;
        r = mlc_sshsig_verify(armour, armour_len, &message, sig, &v->cli->err);
        if (r == 0)
                r = mlc_statement_parse(text, len, &v->arena, &s, &v->cli->err);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'%s'", name);
        digest_text(text, len, digest);
        entry = entry_of(v, digest);
        if (entry == NULL)
                return export_wrong(v, name, "the log has no entry of it here");
        digest_text(armour, armour_len, digest);
        if (strcmp(export_text(entry->leaf.state, "signature"), digest) != 0)
                return export_wrong(v, name, "the log has another signature of it");
        r = check_binding(v, name, &s);
        if (r == 0)
                r = check_entry(v, name, &s, entry);
        if (r == 0)
                r = check_key(v, name, entry, &sig->key);
        if (r < 0)
                return r;
        v->approvals++;
        if (strcmp(s.decision, "approve") == 0)
                (void)json_object_set_new(v->people, s.signer,
                                          json_integer((json_int_t)entry->index));
        return 0;
}

int export_check_approvals(struct verifying *v)
{
        size_t entries = 0;
        int r = export_each(v, "approvals", ".json", check_approval);

        for (size_t i = 0; i < v->n_proven; i++)
                entries += strcmp(v->proven[i].leaf.kind, "approval") == 0;
        if (r == 0 && entries != v->approvals)
                return export_wrong(v, "approvals", "one that the log has is not here");
        return r;
}

/* allowed_signers */

/* The line that /keys/allowed_signers has for this key, by its newest entry. */
static bool is_line(const struct mlc_leaf *leaf, const char *line)
{
        char want[MLC_SSHKEY_LINE_MAX + 128], end[64] = "";
        const json_t *state = leaf->state;

        if (json_is_true(json_object_get(state, "revoked"))) {
                char t[MLC_TIME_MAX];
                int n = 0;

                for (const char *p = leaf->time; *p != '\0' && *p != '.' && n < 20; p++)
                        if (*p >= '0' && *p <= '9')
                                t[n++] = *p;
                t[n] = '\0';
                (void)snprintf(end, sizeof(end), ",valid-before=\"%sZ\"", t);
        }
        (void)snprintf(want, sizeof(want), "%s namespaces=\"" MLC_STATEMENT_NAMESPACE "\"%s %s %s",
                       export_text(state, "user"), end, export_text(state, "type"),
                       export_text(state, "public"));
        return strcmp(want, line) == 0;
}

/* PRINCIPAL namespaces="git" TYPE BASE64 */
static int check_git_line(struct verifying *v, const char *line)
{
        static const char option[] = " namespaces=\"git\" ";
        const char *at = strstr(line, option);
        struct mlc_sshkey key, ours;
        struct mlc_err none = {0};
        char text[256];

        if (at == NULL || at == line || mlc_sshkey_parse(at + strlen(option), &key, &none) < 0)
                return export_wrong(v, "allowed_signers", "a line is no key of this export");
        mlc_sshkey_from_ed25519(v->key.pub, &ours);
        if (mlc_sshkey_equal(&key, &ours))
                return 0;
        (void)snprintf(text, sizeof(text), "%.*s", (int)(at - line), line);
        export_unproven(v, "allowed_signers: that '%.100s' is a key of the log", text);
        return 0;
}

static int check_line(struct verifying *v, const char *line)
{
        for (size_t i = 0; i < v->n_proven; i++) {
                const struct mlc_leaf *leaf = &v->proven[i].leaf;

                if (strcmp(leaf->kind, "key") == 0 &&
                    leaf == export_entry(v, "key", leaf->id, UINT64_MAX) && is_line(leaf, line))
                        return 0;
        }
        return check_git_line(v, line);
}

int export_check_signers(struct verifying *v)
{
        _cleanup_(free_p) char *text = NULL;
        char *save = NULL;
        size_t len;
        int r = export_slurp(v, "allowed_signers", &text, &len);

        if (r == 0 && (len == 0 || strlen(text) != len))
                return export_wrong(v, "allowed_signers", "it is not a list of keys");
        for (char *line = r == 0 ? strtok_r(text, "\n", &save) : NULL; r == 0 && line != NULL;
             line = strtok_r(NULL, "\n", &save))
                r = check_line(v, line);
        return r;
}

/* Counting */

static bool has_role(const struct verifying *v, const char *person, const char *role,
                     const char *ns, uint64_t below)
{
        const struct mlc_leaf *leaf;
        char id[512];

        (void)snprintf(id, sizeof(id), "%s/%s@%s", person, role, ns);
        leaf = export_entry(v, "role", id, below);
        return leaf != NULL && leaf->state != NULL;
}

static int holds(void *userdata, const char *person, const char *from, bool *ret,
                 struct mlc_err *err)
{
        struct verifying *v = userdata;
        const char *model = export_text(v->promotion->state, "model");
        uint64_t below = (uint64_t)json_integer_value(json_object_get(v->people, person));
        char ns[256];

        (void)err;
        (void)snprintf(ns, sizeof(ns), "%.*s", (int)strcspn(model, "/"), model);
        *ret = false;
        if (mlc_starts_with(from, "role:"))
                *ret = has_role(v, person, from + strlen("role:"), ns, below) ||
                       has_role(v, person, from + strlen("role:"), "*", below);
        else if (mlc_starts_with(from, "user:"))
                *ret = strcmp(from + strlen("user:"), person) == 0;
        else if (mlc_starts_with(from, "group:")) {
                export_unproven(v, "that '%s' was a member of '%s'", person, from);
                *ret = true;
        }
        return 0;
}

/* States that nothing reaches without the approvals that its rules ask for. */
static bool was_approved(const struct verifying *v)
{
        static const char *const states[] = {"approved", "queued",   "scheduled",  "rolling_out",
                                             "live",     "replaced", "rolled_back"};
        const char *now = export_text(v->promotion->state, "state");

        for (size_t i = 0; i < ARRAY_LEN(states); i++)
                if (strcmp(states[i], now) == 0)
                        return true;
        return false;
}

int export_count_approvals(struct verifying *v)
{
        const char *excluded[] = {export_text(v->version->state, "author"),
                                  export_text(v->promotion->state, "requested_by")};
        size_t n = json_object_size(v->people), i = 0;
        const char **people;
        struct mlc_approval_in in = {
                .rules = json_object_get(json_object_get(v->bundle, "policy"), "approvals"),
                .n_people = n,
                .excluded = excluded,
                .n_excluded = ARRAY_LEN(excluded),
                .holds = holds,
                .userdata = v};
        struct mlc_approval_count count;
        const char *id;
        json_t *value;
        char what[200];
        int r;

        if (v->bundle == NULL || !was_approved(v))
                return 0;
        people = mlc_arena_array(&v->arena, n + 1, sizeof(*people), &v->cli->err);
        if (people == NULL)
                return v->cli->err.code;
        json_object_foreach (v->people, id, value)
                people[i++] = id;
        in.people = people;
        if (n > 0)
                export_unproven(v, "that author and requester are no services of who approved");
        r = mlc_approval_count(&in, &v->arena, &count, &v->cli->err);
        if (r < 0)
                return mlc_wrap(&v->cli->err, "'bundle.json'");
        for (size_t k = 0; k < count.n_rules; k++)
                if (count.rules[k].have < count.rules[k].need) {
                        (void)snprintf(what, sizeof(what),
                                       "rule '%.64s' asks for %u, and %u of those here count",
                                       count.rules[k].name, count.rules[k].need,
                                       count.rules[k].have);
                        return export_wrong(v, "approvals", what);
                }
        return 0;
}
