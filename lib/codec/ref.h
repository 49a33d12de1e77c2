/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "base/str.h"
#include "codec/digest.h"

#define MLC_NAME_MAX 100 /* characters of a namespace and of a model */
#define MLC_ALIAS_MAX 128
#define MLC_VERSION_MAX 9007199254740991ULL /* what JSON clients can hold exactly */
#define MLC_REF_STR (MLC_NAME_MAX + 1 + MLC_NAME_MAX + 1 + MLC_ALIAS_MAX + 1)

enum mlc_ref_kind {
        MLC_REF_LATEST, /* "ns/model" or "ns/model:latest" */
        MLC_REF_VERSION, /* "ns/model:3" or, as git tags are written, "ns/model:v3" */
        MLC_REF_ALIAS, /* "ns/model:champion" */
        MLC_REF_DIGEST, /* "ns/model@sha256:…" */
};

struct mlc_ref {
        char ns[MLC_NAME_MAX + 1];
        char model[MLC_NAME_MAX + 1];
        char alias[MLC_ALIAS_MAX + 1]; /* only MLC_REF_ALIAS, else "" */
        uint64_t version; /* only MLC_REF_VERSION, else 0; versions start at 1 */
        struct mlc_digest digest; /* only MLC_REF_DIGEST */
        enum mlc_ref_kind kind;
};

/* All return 0 or MLC_E_INVALID with a message that says what is expected. */
int mlc_ref_parse(const char *s, struct mlc_ref *ret, struct mlc_err *err) MLC_CHECK;
/* "ns/model" alone; alias, version and digest empty, kind MLC_REF_LATEST. */
int mlc_ref_parse_model(const char *s, struct mlc_ref *ret, struct mlc_err *err) MLC_CHECK;
/* The canonical text: MLC_REF_LATEST is written bare. */
void mlc_ref_format(const struct mlc_ref *ref, char ret[MLC_REF_STR]);
/*
 * A namespace or model is one path component of an OCI repository name: [a-z0-9]+ in groups joined
 * by ".", "_", "__" or dashes, at most MLC_NAME_MAX. A namespace is none of the reserved first path
 * segments of the server (api, v2, log, …).
 */
int mlc_namespace_check(const char *s, struct mlc_err *err) MLC_CHECK;
int mlc_model_check(const char *s, struct mlc_err *err) MLC_CHECK;
/* An OCI tag that is neither "latest" nor a version number (^v?[0-9]+$). */
int mlc_alias_check(const char *s, struct mlc_err *err) MLC_CHECK;

#define MLC_DATASET_NAME_MAX 512
#define MLC_DATASET_VALUE_MAX 512

enum mlc_dataset_scheme {
        MLC_DATASET_SHA256,
        MLC_DATASET_DVC,
        MLC_DATASET_ICEBERG,
        MLC_DATASET_DELTA,
        MLC_DATASET_LAKEFS,
        MLC_DATASET_MLFLOW,
        MLC_DATASET_OPAQUE,
};

/* A dataset reference NAME@SCHEME:VALUE, split at the last "@". */
struct mlc_dataset {
        char name[MLC_DATASET_NAME_MAX + 1]; /* as the source calls it: "fraud/holdout", an URL */
        char value[MLC_DATASET_VALUE_MAX + 1]; /* sha256: 64 hex digits; else kept as given */
        enum mlc_dataset_scheme scheme;
};

/* UTF-8 without control characters and blanks at the ends; MLC_E_INVALID otherwise. */
int mlc_dataset_parse(const char *s, struct mlc_dataset *ret, struct mlc_err *err) MLC_CHECK;
const char *mlc_dataset_scheme_name(enum mlc_dataset_scheme scheme); /* static */
