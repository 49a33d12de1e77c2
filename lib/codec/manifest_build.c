/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/cleanup.h"
#include "base/path.h"
#include "codec/jcs.h"
#include "codec/json.h"
#include "codec/manifest.h"
#include "codec/ref.h"
#include "codec/utf8.h"
#include "crypto/hash.h"

static const char *const kind_names[] = {
        [MLC_LAYER_WEIGHT] = "weight",   [MLC_LAYER_WEIGHT_CONFIG] = "weight.config",
        [MLC_LAYER_DOC] = "doc",         [MLC_LAYER_CODE] = "code",
        [MLC_LAYER_DATASET] = "dataset",
};

enum mlc_layer_kind mlc_layer_kind_of(const char *path)
{
        static const struct {
                const char *suffix;
                enum mlc_layer_kind kind;
        } by_suffix[] = {
                {".md", MLC_LAYER_DOC},
                {".rst", MLC_LAYER_DOC},
                {".pdf", MLC_LAYER_DOC},
                {".html", MLC_LAYER_DOC},
                {".py", MLC_LAYER_CODE},
                {".ipynb", MLC_LAYER_CODE},
                {".sh", MLC_LAYER_CODE},
                {".r", MLC_LAYER_CODE},
                {".json", MLC_LAYER_WEIGHT_CONFIG},
                {".yaml", MLC_LAYER_WEIGHT_CONFIG},
                {".yml", MLC_LAYER_WEIGHT_CONFIG},
                {".toml", MLC_LAYER_WEIGHT_CONFIG},
                {".txt", MLC_LAYER_WEIGHT_CONFIG},
                {"/mlmodel", MLC_LAYER_WEIGHT_CONFIG},
                {".csv", MLC_LAYER_DATASET},
                {".parquet", MLC_LAYER_DATASET},
                {".arrow", MLC_LAYER_DATASET},
        };
        const char *slash = strrchr(path, '/'), *base = slash != NULL ? slash + 1 : path;
        size_t len = strlen(path);

        if (strncasecmp(base, "license", 7) == 0 || strncasecmp(base, "readme", 6) == 0)
                return MLC_LAYER_DOC;
        if (strcmp(base, "MLmodel") == 0)
                return MLC_LAYER_WEIGHT_CONFIG;
        for (size_t i = 0; i < ARRAY_LEN(by_suffix); i++) {
                size_t n = strlen(by_suffix[i].suffix);

                if (len > n && strcasecmp(path + len - n, by_suffix[i].suffix) == 0)
                        return by_suffix[i].kind;
        }
        return MLC_LAYER_WEIGHT;
}

struct sorted {
        const struct mlc_layer_in *layer;
        size_t pos; /* in the order given: tar layers keep it */
};

static int by_path(const void *a, const void *b)
{
        const struct sorted *x = a, *y = b;

        if (x->layer->path != NULL && y->layer->path != NULL)
                return strcmp(x->layer->path, y->layer->path);
        if (x->layer->path == NULL && y->layer->path == NULL)
                return x->pos < y->pos ? -1 : 1;
        return x->layer->path != NULL ? -1 : 1;
}

static json_t *descriptor(const char *media_type, const struct mlc_digest *digest, uint64_t size)
{
        char text[MLC_DIGEST_STR];

        mlc_digest_format(digest, text);
        return json_pack("{s:s, s:s, s:I}", "mediaType", media_type, "digest", text, "size",
                         (json_int_t)size);
}

static json_t *layer_json(const struct mlc_layer_in *l, bool titled)
{
        char media_type[100], meta[128];
        json_t *d, *annotations;

        (void)snprintf(media_type, sizeof(media_type), "application/vnd.cncf.model.%s.v1.%s",
                       kind_names[l->kind], l->path != NULL ? "raw" : "tar");
        d = descriptor(media_type, &l->digest, l->size);
        if (l->path == NULL)
                return d;
        annotations = json_pack("{s:s}", MLC_ANNOTATION_FILEPATH, l->path);
        if (titled)
                json_object_set_new(annotations, MLC_ANNOTATION_TITLE, json_string(l->path));
        if (l->executable) {
                (void)snprintf(meta, sizeof(meta), "{\"mode\":493,\"size\":%llu,\"typeflag\":48}",
                               (unsigned long long)l->size);
                json_object_set_new(annotations, MLC_ANNOTATION_FILE_METADATA, json_string(meta));
        }
        json_object_set_new(d, "annotations", annotations);
        return d;
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted, each once; a new array of strings, NULL with the error set. */
static json_t *datasets_json(const struct mlc_lineage *l, struct mlc_err *err)
{
        _cleanup_(free_p) const char **list = calloc(l->n_datasets + 1, sizeof(*list));
        json_t *ret;

        if (list == NULL)
                abort();
        if (l->n_datasets > MLC_LINEAGE_DATASETS_MAX) {
                (void)mlc_fail(err, MLC_E_LIMIT, "more than %d datasets", MLC_LINEAGE_DATASETS_MAX);
                return NULL;
        }
        for (size_t i = 0; i < l->n_datasets; i++) {
                struct mlc_dataset parsed;

                if (mlc_dataset_parse(l->datasets[i], &parsed, err) < 0)
                        return NULL;
                list[i] = l->datasets[i];
        }
        qsort(list, l->n_datasets, sizeof(*list), by_text);
        ret = json_array();
        for (size_t i = 0; i < l->n_datasets; i++)
                if (i == 0 || strcmp(list[i - 1], list[i]) != 0)
                        json_array_append_new(ret, json_string(list[i]));
        return ret;
}

static int add_text(json_t *out, const char *key, const char *text, struct mlc_err *err)
{
        if (text == NULL)
                return 0;
        if (!mlc_utf8_valid(text, strlen(text)))
                return mlc_fail_field(err, MLC_E_INVALID, key, "it is not valid UTF-8");
        json_object_set_new(out, key, json_string(text));
        return 0;
}

static int lineage_annotations(const struct mlc_lineage *l, json_t **ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *datasets = datasets_json(l, err);
        _cleanup_(json_decref_p) json_t *out = json_object();
        _cleanup_(mlc_str_done) struct mlc_str joined;
        size_t i;
        json_t *v;
        int r;

        mlc_str_init(&joined, MLC_LINEAGE_DATASETS_MAX * 1100);
        if (datasets == NULL)
                return err->code;
        json_array_foreach (datasets, i, v)
                mlc_str_addf(&joined, "%s%s", i > 0 ? "\n" : "", json_string_value(v));
        r = mlc_str_check(&joined, err);
        if (r < 0)
                return r;
        if (joined.len > 0)
                json_object_set_new(out, MLC_ANNOTATION_DATASET, json_string(joined.data));
        r = add_text(out, MLC_ANNOTATION_CODE, l->code, err);
        if (r < 0)
                return r;
        r = add_text(out, MLC_ANNOTATION_RUN, l->run, err);
        if (r < 0)
                return r;
        r = add_text(out, MLC_ANNOTATION_BASE, l->base, err);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(out);
        return 0;
}

/* What was built must be what mlc_manifest_parse accepts: one place for the rules. */
static int check_built(const struct mlc_str *manifest, size_t start, struct mlc_err *err)
{
        struct mlc_manifest parsed;
        struct mlc_arena a;
        int r;

        mlc_arena_init(&a, 64u << 20);
        r = mlc_manifest_parse(manifest->data + start, manifest->len - start, MLC_MT_OCI_MANIFEST,
                               &a, &parsed, err);
        mlc_arena_done(&a);
        return r;
}

static int add_manifest(const struct mlc_str *config, size_t config_start, json_t *layers,
                        json_t *annotations, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        size_t config_len = config->len - config_start;
        struct mlc_digest d;

        mlc_sha256(config->data + config_start, config_len, &d);
        doc = json_pack("{s:i, s:s, s:s, s:o, s:O}", "schemaVersion", 2, "mediaType",
                        MLC_MT_OCI_MANIFEST, "artifactType", MLC_MT_MODEL_ARTIFACT, "config",
                        descriptor(MLC_MT_MODEL_CONFIG, &d, config_len), "layers", layers);
        if (json_object_size(annotations) > 0)
                json_object_set(doc, "annotations", annotations);
        return mlc_jcs(doc, ret, err);
}

int mlc_manifest_build(const struct mlc_layer_in *layers, size_t n,
                       const struct mlc_lineage *lineage, struct mlc_str *ret_config,
                       struct mlc_str *ret_manifest, struct mlc_err *err)
{
        _cleanup_(free_p) struct sorted *sorted = calloc(n + 1, sizeof(*sorted));
        _cleanup_(json_decref_p) json_t *list = json_array(), *ids = json_array();
        _cleanup_(json_decref_p) json_t *config = NULL, *annotations = NULL;
        size_t config_start = ret_config->len, start = ret_manifest->len;
        int r;

        if (sorted == NULL)
                abort();
        if (n == 0)
                return mlc_fail(err, MLC_E_INVALID, "an artifact needs at least one file");
        for (size_t i = 0; i < n; i++) {
                sorted[i] = (struct sorted){&layers[i], i};
                if (layers[i].path == NULL)
                        continue;
                r = mlc_path_check(layers[i].path, err);
                if (r < 0)
                        return r;
        }
        qsort(sorted, n, sizeof(*sorted), by_path);
        for (size_t i = 0; i < n; i++) {
                char text[MLC_DIGEST_STR];

                mlc_digest_format(&sorted[i].layer->digest, text);
                json_array_append_new(list,
                                      layer_json(sorted[i].layer, n <= MLC_MANIFEST_TITLES_MAX));
                json_array_append_new(ids, json_string(text));
        }
        r = lineage_annotations(lineage, &annotations, err);
        if (r < 0)
                return r;
        config = json_pack("{s:{}, s:{}, s:{s:s, s:O}}", "descriptor", "config", "modelfs", "type",
                           "layers", "diffIds", ids);
        r = mlc_jcs(config, ret_config, err);
        if (r < 0)
                return r;
        r = add_manifest(ret_config, config_start, list, annotations, ret_manifest, err);
        if (r < 0)
                return r;
        if (ret_manifest->len - start > MLC_MANIFEST_BUILT_MAX)
                return mlc_fail(err, MLC_E_LIMIT,
                                "the manifest would pass %u bytes: fewer or shorter paths",
                                MLC_MANIFEST_BUILT_MAX);
        return check_built(ret_manifest, start, err);
}

json_t *mlc_lineage_json(const struct mlc_lineage *l)
{
        json_t *datasets = json_array();

        for (size_t i = 0; i < l->n_datasets; i++)
                json_array_append_new(datasets, json_string(l->datasets[i]));
        return json_pack("{s:o, s:s?, s:s?, s:s?}", "dataset", datasets, "code", l->code, "run",
                         l->run, "base", l->base);
}

int mlc_lineage_format(const struct mlc_lineage *l, struct mlc_str *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *j = mlc_lineage_json(l);
        int r;

        r = mlc_jcs(j, ret, err);
        if (r < 0)
                return r;
        mlc_str_addc(ret, '\n');
        return mlc_str_check(ret, err);
}
