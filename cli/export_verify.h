/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdio.h>

#include "base/arena.h"
#include "cli.h"
#include "crypto/note.h"
#include "policy/statement.h"
#include "tlog/leaf.h"

/* Inside `audit verify EXPORT-DIR`. What is wrong is MLC_E_VERIFY, the file's name first. */
#define EXPORT_FILE_MAX ((size_t)64 << 20)
#define EXPORT_LEAVES_MAX 5000

/* An entry of the log, proven. */
struct proven {
        char name[128]; /* "proofs/a7" */
        uint64_t index;
        struct mlc_leaf leaf;
};

struct verifying {
        struct cli *cli;
        const char *dir;
        struct mlc_vkey key;
        struct mlc_arena arena;
        struct proven *proven; /* by index */
        size_t n_proven;
        const struct mlc_leaf *version, *promotion; /* their newest; borrowed */
        const char *artifact; /* digest of the version */
        json_t *bundle, *verdict; /* NULL for a rollback without them */
        char verdict_digest[MLC_DIGEST_STR]; /* "" without a verdict */
        json_t *people; /* ids of those whose approval holds */
        size_t approvals; /* signatures that hold, rejections and rollbacks included */
        size_t evaluations, recomputed;
        json_t *not_recomputed, *not_proven; /* sentences */
};

int export_wrong(struct verifying *v, const char *name, const char *what) MLC_CHECK;
/* A file, NUL-terminated; MLC_E_VERIFY when it is not there. */
int export_slurp(struct verifying *v, const char *name, char **ret, size_t *ret_len) MLC_CHECK;
/* The digest of a file's bytes. */
const char *export_text(const json_t *j, const char *key); /* "" when it is no string */
void export_unproven(struct verifying *v, const char *fmt, ...)
        __attribute__((format(printf, 2, 3)));

/* SHA256SUMS: every file is there as it says, and no other. export_sums.c */
int export_check_sums(struct verifying *v) MLC_CHECK;
/* Loads proofs/, each entry under a checkpoint of the log's key. export_log.c */
int export_load_proofs(struct verifying *v) MLC_CHECK;
/* The newest entry about an object below this index; NULL when there is none. */
const struct mlc_leaf *export_entry(const struct verifying *v, const char *kind, const char *id,
                                    uint64_t below);
/* bundle.json and statement.json: recomputed, and what version and promotion say in the log.
 * export_judge.c */
int export_check_verdict(struct verifying *v, bool fetch) MLC_CHECK;
/* approvals/ and allowed_signers. export_people.c */
int export_check_approvals(struct verifying *v) MLC_CHECK;
int export_check_signers(struct verifying *v) MLC_CHECK;
int export_count_approvals(struct verifying *v) MLC_CHECK;
/* version.git. export_commit.c */
int export_check_commit(struct verifying *v) MLC_CHECK;
/* Files of a folder that end so, in the order of their names: name without the ending. */
int export_each(struct verifying *v, const char *folder, const char *suffix,
                int (*check)(struct verifying *v, const char *name)) MLC_CHECK;
