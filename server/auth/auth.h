/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "audit/audit.h"
#include "codec/json.h"
#include "ctx.h"
#include "db/db.h"

/* Roles are bits, so that a permission is a mask. None implies another. Names as in the contract,
 * lower case. */
enum auth_role {
        AUTH_CONTRIBUTOR = 1 << 0,
        AUTH_EVALUATOR = 1 << 1,
        AUTH_APPROVER = 1 << 2,
        AUTH_OPERATOR = 1 << 3,
        AUTH_AUDITOR = 1 << 4,
        AUTH_ADMIN = 1 << 5,
        AUTH_ANY_ROLE = (1 << 6) - 1,
};

/* One namespace in which the principal holds roles; "*" is everywhere. */
struct auth_grant {
        const char *ns;
        unsigned roles;
};

/* Who asks. Lives as long as the request. */
struct auth_principal {
        char user[16]; /* u... */
        char token[16]; /* t... that was used */
        char owner[16]; /* for a service its owner's id, else empty */
        bool service;
        int64_t token_expires; /* ms since 1970; 0 = never */
        const struct auth_grant
                *grants; /* what the token may: the user's roles cut by the token's scope */
        unsigned n_grants;
};

/* Roles held in this namespace, those held everywhere included. "*": only those held everywhere. */
unsigned auth_roles(const struct auth_principal *p, const char *ns);
/* True when the principal holds any role in the namespace: then it may read there. */
bool auth_may_read(const struct auth_principal *p, const char *ns);
/* True when the principal holds one of the roles in some namespace. */
bool auth_holds_somewhere(const struct auth_principal *p, unsigned roles);

/*
 * The principal of a bearer token, or of the password of HTTP Basic (any user name), from the
 * Authorization header's value. MLC_E_UNAUTHENTICATED with a reason when missing, unknown, expired
 * or revoked.
 */
int auth_identify(struct mlc_ctx *ctx, const char *authorization,
                  const struct auth_principal **ret) MLC_CHECK;

/* "contributor" -> AUTH_CONTRIBUTOR; 0 when unknown. */
unsigned auth_role_parse(const char *name);
const char *auth_role_name(unsigned role); /* one bit */

/* --- roles and keys that owners of protected environments must sign for --- */

/* A role or key that would become somebody's. */
struct auth_award {
        const char *kind; /* "Role" | "Key" */
        const char *user; /* id */
        const char *name; /* of the change: "UID/ROLE@NS" | "UID/SHA256:…" */
        const json_t *document; /* what takes effect; the digest of its RFC 8785 form is signed */
};
/* Set by app.c before requests. NULL: nobody ever needs to sign. */
struct auth_hooks {
        /*
         * In the caller's transaction, which holds the person's row: whether owners must sign, and
         * that it stays so until COMMIT. *ret is the pending change {"id","kind","name","digest",
         * "before","need"}, NULL when nobody needs to sign. The caller's.
         */
        int (*ask)(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a, json_t **ret);
        /* The person has another key: roles of theirs that wait for owners name it as well. What
         * took the place of a change is appended to `pending`. */
        int (*renew)(struct mlc_ctx *ctx, struct db_tx *tx, const char *user, json_t *pending);
};
/* `hooks` is borrowed and lives as long as app. */
void auth_set_hooks(struct app *app, const struct auth_hooks *hooks);

/* An award by its document, parsed; strings live as long as the document, or in ctx's arena. */
int auth_award_read(struct mlc_ctx *ctx, const json_t *document, struct auth_award *ret) MLC_CHECK;
/* The person's row is held until COMMIT. Before rows of changes are. */
int auth_award_hold(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a) MLC_CHECK;
/* The same award as it would be asked for now; the caller's. */
int auth_award_renew(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                     json_t **ret) MLC_CHECK;
/* MLC_E_CONFLICT with the reason when it cannot take effect any more. */
int auth_award_fits(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a) MLC_CHECK;
/* It takes effect, with its leaf, whose detail names the change. auth_changed() after COMMIT. */
int auth_award_apply(struct mlc_ctx *ctx, struct db_tx *tx, const struct auth_award *a,
                     const char *change) MLC_CHECK;
/* After COMMIT of anything that changes what tokens may: forgets what is remembered, here and in
 * servers that share DIR. */
void auth_changed(struct app *app);

/* For audit_check: names are those that were committed to. */
int auth_check(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
               void *userdata) MLC_CHECK;

/* Module life. Start needs app->db; bootstrap needs the audit module and is run by every start. */
int auth_start(struct app *app, struct mlc_err *err) MLC_CHECK;
void auth_stop(struct app *app);
/*
 * On an empty database: the person `admin` with role admin everywhere, whose token is written to
 * DIR/admin-token (0600) before COMMIT. Sets *ret_created. The caller logs the path, never the
 * token.
 */
int auth_bootstrap(struct mlc_ctx *ctx, bool *ret_created) MLC_CHECK;
/* `mlctld admin-token`: a further token for the first admin, in ctx's arena; also written to
 * DIR/admin-token. */
int auth_admin_token(struct mlc_ctx *ctx, const char **ret_token) MLC_CHECK;

/* Appends the lines of /keys/allowed_signers for people's keys, namespace approval@mlctl; revoked
 * ones with valid-before="YYYYMMDDHHMMSSZ". */
struct mlc_str;
int auth_allowed_signers(struct mlc_ctx *ctx, struct mlc_str *ret) MLC_CHECK;

/* The present state of kinds user, role, token and key, for replay. */
#define AUTH_N_SOURCES 4
extern const struct audit_source AUTH_SOURCES[AUTH_N_SOURCES];
