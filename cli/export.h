/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "cli.h"
#include "client/proof.h"
#include "trust.h"

/*
 * An export of a promotion, a directory that can be checked without us:
 *   approvals/u7f3a.json, .sig   exactly what that person signed, and the sshsig
 *   allowed_signers              their keys, and the log's (for the commit)
 *   statement.json               the verdict; its SHA-256 is verdict_digest in what was signed
 *   bundle.json                  the evidence that the verdict was computed from
 *   proofs/NAME.tlog-proof, .leaf  entries of the log, and that they are in it
 *   version.git                  bare repository with the version's commit as tag vN
 *   names.json                   names of the ids; the only file with personal data
 *   README.md, verify.sh         the commands to type, and a script that runs them
 */
struct export
{
        struct cli *cli;
        const char *dir;
        json_t *promotion, *approvals, *version; /* REST resources */
        struct mlc_log log;
};

void export_done(struct export *e); /* for _cleanup_ */
/* Writes a file of the export. */
int export_put(struct export *e, const char *name, const void *data, size_t len) MLC_CHECK;
/* version.git: the commit with its tree and blobs, as the tag v<N>. export_git.c */
int export_repository(struct export *e) MLC_CHECK;
/* README.md and verify.sh. export_text.c */
int export_texts(struct export *e) MLC_CHECK;

/* The command, `audit export`. */
int export_run(struct cli *cli);
/* `audit verify EXPORT-DIR`: prints {"ok":…} as verifying a log does. trust: no key means that the
 * pin of the log that the export names is used. */
int export_verify(struct cli *cli, const char *dir, struct trust *trust) MLC_CHECK;
