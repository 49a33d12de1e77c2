/* SPDX-License-Identifier: Apache-2.0 */
/* What an export says about itself. */
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "export.h"

#define TEXT_MAX ((size_t)256 << 10)

/* Run by `sh`, in the directory; needs OpenSSH 9.1 and git 2.34, and sha256sum. */
static const char SCRIPT[] =
        "#!/bin/sh\n"
        "# Checks this export with ssh-keygen, git and sha256sum; says what fails, exit 1.\n"
        "set -eu\n"
        "cd \"$(dirname \"$0\")\"\n"
        "\n"
        "verdict=none\n"
        "if [ -f statement.json ]; then\n"
        "    verdict=sha256:$(sha256sum <statement.json | cut -d ' ' -f 1)\n"
        "fi\n"
        "sha256sum --check --quiet --ignore-missing SHA256SUMS\n"
        "for statement in approvals/*.json; do\n"
        "    [ -f \"$statement\" ] || continue\n"
        "    who=$(basename \"$statement\" .json)\n"
        "    # as of when it was signed: keys may have been revoked since\n"
        "    at=$(sed 's/.*\"time\":\"\\([^\".]*\\).*/\\1/; s/[-T:Z]//g' \"$statement\")Z\n"
        "    ssh-keygen -Y verify -f allowed_signers -I \"$who\" -n approval@mlctl \\\n"
        "        -O verify-time=\"$at\" -s \"approvals/$who.sig\" <\"$statement\"\n"
        "    grep -q \"\\\"signer\\\":\\\"$who\\\"\" \"$statement\" ||\n"
        "        { echo \"$statement is of somebody else\" >&2; exit 1; }\n"
        "    case $verdict in none) continue ;; esac\n"
        "    grep -q \"\\\"verdict_digest\\\":\\\"$verdict\\\"\" \"$statement\" ||\n"
        "        { echo \"$statement was signed for another verdict\" >&2; exit 1; }\n"
        "done\n"
        "git --git-dir=version.git fsck --strict\n"
        "git --git-dir=version.git -c gpg.format=ssh \\\n"
        "    -c gpg.ssh.allowedSignersFile=\"$PWD/allowed_signers\" verify-commit refs/heads/main\n"
        "echo \"all signatures hold\"\n";

/* "2026-11-24T10:00:00.123Z" as ssh-keygen takes it: "20261124100000Z". */
static void verify_time(const char *time, char ret[24])
{
        size_t n = 0;

        for (; time != NULL && *time != '\0' && *time != '.' && n < 20; time++)
                if (*time >= '0' && *time <= '9')
                        ret[n++] = *time;
        (void)snprintf(ret + n, 24 - n, "Z");
}

static void add_text(const struct export *e, struct mlc_str *s)
{
        const json_t *p = e->promotion, *a;
        char at[24];
        size_t i;

        mlc_str_addf(
                s,
                "# Promotion %s\n\n"
                "`%s:%lld` to `%s`: %s. This directory can be checked without mlctl, "
                "offline.\n\n"
                "| | |\n|---|---|\n"
                "| `statement.json` | the verdict; its SHA-256 is `verdict_digest` in what "
                "was signed |\n"
                "| `bundle.json` | the evidence that the verdict was computed from |\n"
                "| `documents/`, `evaluations/`, `examples/` | what that was made of: policies, "
                "what was submitted, and (with `--examples`) results |\n"
                "| `approvals/ID.json`, `.sig` | exactly what that person signed, and the "
                "signature |\n"
                "| `allowed_signers` | their keys, and the server's |\n"
                "| `proofs/NAME.leaf`, `.tlog-proof` | entries of the audit log, and the "
                "proof that they are in it |\n"
                "| `version.git` | the version's signed commit: manifest, card, lineage |\n"
                "| `names.json` | the people behind the ids; may be deleted, nothing else "
                "names them |\n\n",
                json_string_value(json_object_get(p, "id")),
                json_string_value(json_object_get(p, "model")),
                (long long)json_integer_value(json_object_get(p, "version")),
                json_string_value(json_object_get(p, "environment")),
                json_string_value(json_object_get(p, "state")));
        if (!json_is_true(json_object_get(p, "protected")))
                mlc_str_add(s, "**unprotected**: the environment has no owners, so an "
                               "administrator could have changed its rules alone.\n\n");
        mlc_str_add(s, "## Check it\n`sh verify.sh` runs these commands, and exits 1 when one "
                       "fails:\n```\n");
        json_array_foreach (e->approvals, i, a) {
                const char *who =
                        json_string_value(json_object_get(json_object_get(a, "signer"), "id"));

                if (json_is_true(json_object_get(a, "void")))
                        continue;
                verify_time(json_string_value(json_object_get(a, "time")), at);
                mlc_str_addf(s,
                             "ssh-keygen -Y verify -f allowed_signers -I %s -n approval@mlctl "
                             "-O verify-time=%s -s approvals/%s.sig <approvals/%s.json\n",
                             who, at, who, who);
        }
        mlc_str_add(s,
                    "git --git-dir=version.git -c gpg.format=ssh -c "
                    "gpg.ssh.allowedSignersFile=$PWD/allowed_signers verify-commit "
                    "refs/heads/main\n"
                    "sha256sum statement.json        # verdict_digest in approvals/*.json\n"
                    "```\n"
                    "`verify-time` is when it was signed: a key may have been revoked since, and "
                    "has `valid-before` then.\n\n"
                    "These commands take the keys of `allowed_signers` as they are. "
                    "`mlctl audit verify DIR --trust FILE` checks besides\n"
                    "that they and all entries are in the log whose key the file has (C2SP "
                    "tlog-proof; other tools read it too),\n"
                    "computes the verdict again, and counts who approved.\n");
}

int export_texts(struct export *e)
{
        _cleanup_(mlc_str_done) struct mlc_str text;
        int r;

        mlc_str_init(&text, TEXT_MAX);
        add_text(e, &text);
        r = mlc_str_check(&text, &e->cli->err);
        if (r == 0)
                r = export_put(e, "README.md", text.data, text.len);
        return r < 0 ? r : export_put(e, "verify.sh", SCRIPT, strlen(SCRIPT));
}
