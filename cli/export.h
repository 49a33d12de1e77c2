/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <limits.h>

#include "cli.h"
#include "client/proof.h"
#include "trust.h"

/*
 * An export of a promotion, a directory that can be checked without us:
 *   approvals/u7f3a.json, .sig   exactly what that person signed, and the sshsig
 *   allowed_signers              their keys, and the log's (for the commit)
 *   statement.json               the verdict; its SHA-256 is verdict_digest in what was signed
 *   bundle.json                  the evidence that the verdict was computed from
 *   documents/N.json             what the bundle names as documents, in its order, normalised
 *   evaluations/HEX.json         what was submitted, by the evaluation's id
 *   examples/HEX.csv             examples by their digest, with --examples
 *   proofs/NAME.tlog-proof, .leaf  entries of the log, and that they are in it
 *   version.git                  bare repository with the version's commit as tag vN
 *   names.json                   names of the ids; the only file with personal data
 *   README.md, verify.sh         the commands to type, and a script that runs them
 *   SHA256SUMS                   of all others
 */
struct export
{
        struct cli *cli;
        const char *dir;
        json_t *promotion, *approvals, *version; /* REST resources */
        json_t *bundle; /* NULL: a rollback */
        json_t *keys; /* public halves (base64) of the keys that have entries here */
        json_t *sums; /* SHA-256 (hex) by file name */
        size_t entries; /* of the log written so far, for their names */
        struct mlc_log log;
};

void export_done(struct export *e); /* for _cleanup_ */
/* Writes a file of the export. */
int export_put(struct export *e, const char *name, const void *data, size_t len) MLC_CHECK;
int export_put_json(struct export *e, const char *name, const json_t *j) MLC_CHECK; /* RFC 8785 */
/* For files that are written otherwise: the path, its folder made; and then the digest. */
int export_path(struct export *e, const char *name, char ret[PATH_MAX]) MLC_CHECK;
void export_sum(struct export *e, const char *name, const struct mlc_digest *d);
/* An id becomes a file name only when it looks like one of ours. */
int export_check_id(struct export *e, const char *id) MLC_CHECK;
/* proofs/: version, promotion, approvals, and who could sign with which key; then allowed_signers
 * with those keys. export_proofs.c */
int export_proofs(struct export *e) MLC_CHECK;
int export_signers(struct export *e) MLC_CHECK;
/* documents/, evaluations/ and, when asked for, examples/. export_evidence.c */
int export_evidence(struct export *e) MLC_CHECK;
/* version.git: the commit with its tree and blobs, as the tag v<N>. export_git.c */
int export_repository(struct export *e) MLC_CHECK;
/* README.md and verify.sh. export_text.c */
int export_texts(struct export *e) MLC_CHECK;

/* The command, `audit export`. */
int export_run(struct cli *cli);
/* `audit verify EXPORT-DIR`: prints {"ok":…} as verifying a log does. trust: no key means that the
 * pin of the log that the export names is used. */
int export_verify(struct cli *cli, const char *dir, struct trust *trust) MLC_CHECK;
