/* SPDX-License-Identifier: Apache-2.0 */
/* Roles and keys as changes: whose signatures they need, and what is opened for them. */
#include <assert.h>

#include "approval/approval_internal.h"
#include "codec/jcs.h"
#include "crypto/hash.h"
#include "gen/approval.sql.h"

#define NORMAL_MAX ((size_t)1 << 20)

bool change_is_award(const struct change *c)
{
        return mlc_streq(c->kind, "Role") || mlc_streq(c->kind, "Key");
}

/* --- whose signatures it needs --- */

static bool has_environment(const json_t *list, const char *name)
{
        size_t i;
        const json_t *p;

        json_array_foreach (list, i, p)
                if (mlc_streq(json_string_value(json_object_get(p, "environment")), name))
                        return true;
        return false;
}

/* Environments that name the role, or in which the person is an owner or an approver. */
static int protection_of(struct mlc_ctx *ctx, struct db_tx *tx, const char *kind, const char *name,
                         json_t **ret)
{
        _cleanup_(json_decref_p) json_t *list = NULL, *more = NULL;
        const char *slash = strchr(name, '/');
        const char *user, *subject;
        size_t i;
        json_t *p;
        int r;

        assert(slash != NULL);
        user = ctx_printf(ctx, "%.*s", (int)(slash - name), name);
        subject = ctx_printf(ctx, "role:%.*s", (int)strcspn(slash + 1, "@"), slash + 1);
        if (user == NULL || subject == NULL)
                return ctx->err.code;
        r = gate_protection_of_person(ctx, tx, user, &list);
        if (r == 0 && mlc_streq(kind, "Role"))
                r = gate_protection_of_subject(ctx, tx, subject, &more);
        if (r < 0)
                return r;
        json_array_foreach (more, i, p)
                if (!has_environment(list, json_string_value(json_object_get(p, "environment"))))
                        (void)json_array_append(list, p);
        *ret = TAKE_PTR(list);
        return 0;
}

int change_award_protection(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c,
                            json_t **ret)
{
        return protection_of(ctx, tx, c->kind, c->name, ret);
}

/* --- opening --- */

static int open_award(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                      const char *author, json_t **ret)
{
        _cleanup_(json_decref_p) json_t *protection = NULL;
        _cleanup_(mlc_str_done) struct mlc_str normal;
        struct gate_change c = {.kind = a->kind, .name = a->name, .author = author};
        char digest[MLC_DIGEST_STR];
        int r = gate_documents_hold(ctx, tx, false);

        mlc_str_init(&normal, NORMAL_MAX);
        if (r == 0)
                r = protection_of(ctx, tx, a->kind, a->name, &protection);
        if (r < 0 || json_array_size(protection) == 0)
                return r;
        r = mlc_jcs(a->document, &normal, &ctx->err);
        if (r == 0)
                r = gate_json_digest(ctx, a->document, digest);
        if (r < 0)
                return r;
        c.after = digest;
        c.normal = mlc_str_cstr(&normal);
        c.yaml = c.normal; /* JSON is YAML */
        return approval_change_open(ctx, tx, &c, protection, ret);
}

int approval_award_ask(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                       json_t **ret)
{
        json_t *item = NULL;
        int r = open_award(ctx, tx, a, ctx->principal != NULL ? ctx->principal->user : NULL, &item);

        if (r == 0)
                *ret = item;
        return r;
}

static int renew_one(struct mlc_ctx *ctx, struct db_tx *tx, const char *id, json_t *pending)
{
        _cleanup_(json_decref_p) json_t *old = NULL, *document = NULL;
        struct auth_award a;
        struct change c;
        json_t *item = NULL;
        int r = change_load(ctx, tx, id, true, &c);

        if (r == 0)
                r = change_award(ctx, &c, &old, &a);
        if (r == 0)
                r = auth_award_renew(ctx, tx, &a, &document);
        if (r < 0)
                return r;
        a.document = document;
        r = open_award(ctx, tx, &a, c.requested_by, &item);
        if (r == 0 && item != NULL)
                (void)json_array_append_new(pending, item);
        return r;
}

int approval_award_renew(struct mlc_ctx *ctx, struct db_tx *tx, const char *user, json_t *pending)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = gate_documents_hold(ctx, tx, false);

        if (r == 0)
                r = db_run(tx, SQL_CHANGE_ROLES_OF, &rows, DB_TEXT(user));
        for (int i = 0; r == 0 && i < rows.n; i++)
                r = renew_one(ctx, tx, db_text(&rows, i, 0), pending);
        return r;
}

/* --- deciding --- */

int change_award(struct mlc_ctx *ctx, const struct change *c, json_t **ret_document,
                 struct auth_award *ret)
{
        _cleanup_(json_decref_p) json_t *document = NULL;
        struct auth_award a;
        int r = approval_parse(ctx, c->normal, &document);

        if (r == 0)
                r = auth_award_read(ctx, document, &a);
        if (r < 0)
                return r;
        if (!mlc_streq(a.kind, c->kind) || !mlc_streq(a.name, c->name))
                return ctx_fail(ctx, MLC_E_VERIFY, "change '%s' is not what was asked for", c->id);
        *ret_document = TAKE_PTR(document);
        *ret = a;
        return 0;
}

/* Rows are held in one order everywhere: people, documents, changes. */
int change_hold(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c)
{
        _cleanup_(json_decref_p) json_t *document = NULL;
        struct auth_award a;
        int r = db_run(tx, SQL_CHANGE_SIGNERS_HOLD, NULL, DB_TEXT(c->id),
                       DB_TEXT(ctx->principal->user));

        if (r < 0)
                return r;
        if (!change_is_award(c))
                return gate_documents_hold(ctx, tx, true);
        r = change_award(ctx, c, &document, &a);
        if (r == 0)
                r = auth_award_hold(ctx, tx, &a);
        return r < 0 ? r : gate_documents_hold(ctx, tx, false);
}

int change_fits(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c)
{
        _cleanup_(json_decref_p) json_t *document = NULL;
        struct auth_award a;
        int r;

        if (!change_is_award(c))
                return 0;
        r = change_award(ctx, c, &document, &a);
        return r < 0 ? r : auth_award_fits(ctx, tx, &a);
}

int change_apply_award(struct mlc_ctx *ctx, struct db_tx *tx, const struct change *c)
{
        _cleanup_(json_decref_p) json_t *document = NULL;
        char digest[MLC_DIGEST_STR];
        struct auth_award a;
        int r = change_award(ctx, c, &document, &a);

        if (r == 0)
                r = gate_json_digest(ctx, document, digest);
        if (r < 0)
                return r;
        if (!mlc_streq(digest, c->after))
                return ctx_fail(ctx, MLC_E_VERIFY, "change '%s' is not what was signed", c->id);
        return auth_award_apply(ctx, tx, &a, c->id);
}
