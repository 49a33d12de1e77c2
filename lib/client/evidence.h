/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "client/commit.h"
#include "client/proof.h"
#include "codec/manifest.h"

/*
 * What can be checked of a version before its files are used: the log's entry about it names the
 * manifest and the commit, the commit is signed by the log's key and holds this manifest, and the
 * alias it was asked by names it. Nothing of it is believed because the server says so.
 */
struct mlc_evidence {
        const char *ns, *model;
        const json_t *version; /* the REST resource */
        const char *alias; /* the alias it was asked for by, or NULL */
        struct mlc_bytes manifest; /* its SHA-256 was compared with the version's digest */
        const struct mlc_manifest *parsed;
        struct mlc_bytes card; /* README.md, compared with its digest; data NULL without one */
};

/*
 * MLC_E_VERIFY names what does not hold. On success a new object:
 * {"log","key","size","root","checks":[{"what","proof"}],"not_proven":["…"]}.
 */
int mlc_evidence_check(struct mlc_log *l, const struct mlc_evidence *e, json_t **ret,
                       struct mlc_err *err) MLC_CHECK;
