/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "client/commit.h"

/* version.git of an export: a function of the commit, the manifest and the card. */
struct version_git {
        struct mlc_bytes commit, manifest, card; /* card.data NULL: none */
        long long number; /* of the version: tag vN */
        struct mlc_vkeys keys; /* one of them signed the commit */
        /* Takes a file; names begin with "version.git/". */
        int (*put)(void *userdata, const char *name, const void *data, size_t len);
        void *userdata;
};

/*
 * Checks the commit's signature, that its tree is that of manifest, card and lineage, and hands
 * over every file. MLC_E_VERIFY when something does not fit, errors of put. ret->message borrows
 * from the commit. export_git.c
 */
int version_git_write(const struct version_git *g, struct mlc_commit *ret,
                      struct mlc_err *err) MLC_CHECK;
