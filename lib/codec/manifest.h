/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/str.h"
#include "codec/digest.h"
#include "codec/json.h"
#include "mlctl/error.h"

/*
 * The OCI manifest of a version, as the CNCF ModelPack specification wants it, with lineage as
 * annotations (docs/manifest.md). Built from files, paths and lineage alone: no clock, no user, so
 * that the same artifact has the same digest whoever pushes it.
 */
#define MLC_MANIFEST_MAX (4u << 20) /* bytes; OCI's usual limit */
#define MLC_MANIFEST_LAYERS_MAX 10000
#define MLC_MANIFEST_BUILT_MAX (3u << 20) /* what mlc_manifest_build makes stays under this */

#define MLC_MT_OCI_MANIFEST "application/vnd.oci.image.manifest.v1+json"
#define MLC_MT_OCI_INDEX "application/vnd.oci.image.index.v1+json"
#define MLC_MT_MODEL_ARTIFACT "application/vnd.cncf.model.manifest.v1+json"
#define MLC_MT_MODEL_CONFIG "application/vnd.cncf.model.config.v1+json"

#define MLC_ANNOTATION_FILEPATH "org.cncf.model.filepath"
/* The path once more, where `oras pull` looks for the name of a file. Not with more layers than
 * this: the text of the manifest has a limit. */
#define MLC_ANNOTATION_TITLE "org.opencontainers.image.title"
#define MLC_MANIFEST_TITLES_MAX 500
#define MLC_ANNOTATION_FILE_METADATA "org.cncf.model.file.metadata+json"
#define MLC_ANNOTATION_DATASET "org.mlctl.dataset" /* references, sorted, joined by LF */
#define MLC_ANNOTATION_CODE "org.mlctl.code" /* URL@COMMIT */
#define MLC_ANNOTATION_RUN "org.mlctl.run"
#define MLC_ANNOTATION_BASE                                                                        \
        "org.mlctl.base" /* NS/MODEL@sha256:… of the version it was made from                    \
                          */

#define MLC_LINEAGE_DATASETS_MAX 64
#define MLC_LINEAGE_TEXT_MAX 2048 /* bytes of code, run and base each */

struct mlc_lineage {
        const char *const *datasets; /* NAME@SCHEME:VALUE, any order, equal ones count once */
        size_t n_datasets;
        const char *code, *run, *base; /* NULL: not known */
};

enum mlc_layer_kind {
        MLC_LAYER_WEIGHT,
        MLC_LAYER_WEIGHT_CONFIG,
        MLC_LAYER_DOC,
        MLC_LAYER_CODE,
        MLC_LAYER_DATASET,
};
/* By name: README.md is a doc, train.py code, config.json a weight config; in doubt a weight. */
enum mlc_layer_kind mlc_layer_kind_of(const char *path);

struct mlc_layer_in {
        const char *path; /* of the file; of a tar layer NULL: its entries have their own */
        struct mlc_digest digest;
        uint64_t size;
        enum mlc_layer_kind kind; /* for a tar layer: MLC_LAYER_WEIGHT */
        bool executable; /* kept in MLC_ANNOTATION_FILE_METADATA */
};

/*
 * Layers in any order: they are written sorted by path, tar layers last in the order given. The
 * README.md (card) and model.yaml of an artifact must be layers of their own, never in a tar.
 * Appends the config's and the manifest's bytes. MLC_E_INVALID for bad or colliding paths or
 * lineage, MLC_E_LIMIT over MLC_MANIFEST_BUILT_MAX.
 */
int mlc_manifest_build(const struct mlc_layer_in *layers, size_t n,
                       const struct mlc_lineage *lineage, struct mlc_str *ret_config,
                       struct mlc_str *ret_manifest, struct mlc_err *err) MLC_CHECK;

struct mlc_descriptor {
        char digest[MLC_DIGEST_STR];
        uint64_t size;
        const char *media_type;
        const char *path; /* layers: where it goes; NULL when it does not say, and for tar layers */
        const char *artifact_type; /* manifests of an index: may be NULL */
        bool tar; /* an archive whose entries are the files */
        bool executable;
};

struct mlc_manifest {
        const char *media_type;
        const char
                *artifact_type; /* the config's media type when absent; NULL for an index without */
        bool is_index;
        const char *subject; /* digest, or NULL */
        struct mlc_descriptor config; /* not of an index */
        struct mlc_descriptor *layers; /* the manifests of an index */
        size_t n_layers;
        uint64_t size; /* of all layers together */
        struct mlc_lineage lineage; /* sorted; members that are malformed are refused */
};

/*
 * Reads an OCI image manifest or index. `content_type` is what the sender called it, or NULL; it
 * must agree with mediaType when both are there. Layers of any media type are accepted. A path is
 * taken from MLC_ANNOTATION_FILEPATH, which must be a good and unique path, or else from
 * org.opencontainers.image.title when that is one. Everything lives in the arena. MLC_E_INVALID
 * with a JSON pointer, MLC_E_LIMIT for too many layers or bytes.
 */
int mlc_manifest_parse(const void *bytes, size_t len, const char *content_type, struct mlc_arena *a,
                       struct mlc_manifest *ret, struct mlc_err *err) MLC_CHECK;
/* {"dataset":[…],"code","run","base"} of a parsed lineage; a new object, absent members null. */
json_t *mlc_lineage_json(const struct mlc_lineage *l);
/* The lineage record of a version, lineage.json in its commit: that in RFC 8785 form, and LF. */
int mlc_lineage_format(const struct mlc_lineage *l, struct mlc_str *ret,
                       struct mlc_err *err) MLC_CHECK;
