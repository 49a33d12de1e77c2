/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "codec/json.h"
#include "crypto/sign.h"
#include "ctx.h"
#include "db/db.h"

/*
 * The transparency log. Rules append entries inside their transaction; the leader sequences, signs
 * and publishes. docs/architecture.md has the leaf.
 */
struct audit_entry {
        const char *action; /* noun.verb, static: "alias.set" */
        const char *kind; /* governed object's kind, static: "alias" */
        const char *id; /* its id */
        const json_t *before; /* state object before; NULL when it did not exist */
        const json_t *after; /* state object after; NULL when it is gone */
        const json_t *detail; /* what is not state; NULL for {} */
        const char *actor; /* NULL: ctx->principal, or "system" without one */
        const char *model; /* "ns/name" for the filter of `audit log --model`, or NULL */
};

/*
 * Adds the leaf to the outbox of this transaction and to the projection that `audit log` searches.
 * The receipt is the leaf hash, hex. MLC_E_READ_ONLY when the log refuses writes (database or log
 * older than its signing state), MLC_E_LIMIT when the leaf would pass 65,535 bytes.
 */
int audit_append(struct mlc_ctx *ctx, struct db_tx *tx, const struct audit_entry *e,
                 char ret_leaf_hash[65]) MLC_CHECK; /* ret_leaf_hash may be NULL */

/*
 * Stores a personal value (name, e-mail address, free text) under a fresh salt and gives its
 * commitment "sha256:<hex of SHA256(salt32 || value)>". `subject` is the person (u...) whose
 * erasure deletes it.
 */
int audit_commit_pii(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject, const char *value,
                     char ret_commitment[72]) MLC_CHECK;
/* The value behind a commitment in ctx's arena; NULL (and 0) when it was erased. */
int audit_reveal_pii(struct mlc_ctx *ctx, struct db_tx *tx, const char *commitment,
                     const char **ret_value) MLC_CHECK;
/* Deletes the salts and values of a person; the caller appends the leaf. */
int audit_erase_pii(struct mlc_ctx *ctx, struct db_tx *tx, const char *subject) MLC_CHECK;

/*
 * How replay learns the present state of a kind. `list` returns rows (id text, state json text,
 * ordered by nothing): the same objects that the rules give to audit_append. Registered in app.c,
 * one per kind.
 */
struct audit_source {
        const char *kind;
        const struct db_stmt *list; /* no parameters */
};

/*
 * The module, after db_migrate. audit_open makes or loads key and origin, founds the log at first
 * start, and compares database, signing state, files and anchors: what does not fit makes the log
 * read-only with the reason, which is no error. Sets app->audit; after it rules may append.
 * audit_start begins sequencing (the leader's thread).
 */
struct audit;
int audit_open(struct app *app, struct mlc_err *err) MLC_CHECK;
/* For the other subcommands: the log of the database with its keys, nothing changed. */
int audit_attach(struct app *app, struct mlc_err *err) MLC_CHECK;
int audit_start(struct app *app, struct mlc_err *err) MLC_CHECK;
void audit_stop(struct app *app); /* ends the thread; reading goes on */
void audit_close(struct app *app); /* NULL-safe */

/* The log's name; constant from audit_open on. */
const char *audit_origin(const struct app *app);
/* The server's key: signs checkpoints and commits. Constant from audit_open on (rotation needs a
 * restart). */
const struct mlc_signer *audit_signer(const struct app *app);
/* For app->hooks.ready: MLC_E_READ_ONLY with the reason. */
int audit_ready(struct mlc_ctx *ctx) MLC_CHECK;

/* Adds sources to those of the log's own kinds; between audit_open (or audit_attach) and what uses
 * them. */
#define AUDIT_SOURCES_MAX 32
void audit_add_sources(struct app *app, const struct audit_source *sources, size_t n);

/*
 * `mlctld check`: the log with its rows, files and anchors, the replay against all sources, and
 * then the parts of other modules, each of which calls report() with one sentence for each thing
 * wrong. *ret is the verdict to print:
 * {"ok":true,…} or {"ok":false,"index":N,"what":…}, the first thing found. Negative only when it
 * could not look. Works beside a running server; ctx needs a deadline of hours and 64 MiB.
 */
struct audit_check_part {
        const char *name;
        int (*run)(struct mlc_ctx *ctx, void (*report)(void *userdata, const char *what),
                   void *userdata);
};
int audit_check(struct mlc_ctx *ctx, const struct audit_check_part *parts, size_t n,
                json_t **ret) MLC_CHECK;

/*
 * `mlctld log rotate`: a new key, signed over by the present one; from the next start on both sign
 * checkpoints, the new one signs commits. `mlctld log succeed`: when database, log and signing
 * state cannot be brought together again (or keys are lost), a new log under a new name and key
 * goes on from the database's state; its first leaf names the old checkpoint, the old key, what was
 * carried over and what was lost, and the old files go to log/archive/N. Both print one line of
 * JSON. No server may run: the caller has asked app_alone.
 */
int audit_rotate(struct mlc_ctx *ctx) MLC_CHECK;
int audit_succeed(struct mlc_ctx *ctx, const char *reason) MLC_CHECK;

/*
 * For backups: until tx ends no state change commits, and until *ret_lock (a descriptor, the
 * caller's) is closed nothing is published. audit_export opens a snapshot in tx (of another ctx)
 * and names it for pg_dump.
 */
int audit_quiesce(struct mlc_ctx *ctx, struct db_tx *tx, int *ret_lock) MLC_CHECK;
int audit_export(struct mlc_ctx *ctx, struct db_tx *tx, char ret_snapshot[64]) MLC_CHECK;
/* Size of the signing state below a DIR; 0 when there is none, MLC_E_VERIFY when it is damaged. */
int audit_signed_size(const char *data, uint64_t *ret, struct mlc_err *err) MLC_CHECK;

/* 0, or MLC_E_READ_ONLY with the reason that /readyz and problem documents show. Cheap; any thread.
 */
int audit_writable(struct mlc_ctx *ctx) MLC_CHECK;

/* The log's name, fixed at first start; lives as long as the module. */
const char *audit_origin(const struct app *app);

/* Size and time of the published checkpoint, for ETag-like waits; any thread. */
int64_t audit_published_size(struct app *app);
