/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/manifest.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/map.h"
#include "base/path.h"
#include "codec/json.h"
#include "codec/ref.h"
#include "codec/utf8.h"

#define ANNOTATION_UNPACK "io.deis.oras.content.unpack"
#define MODEL_TYPE_PREFIX "application/vnd.cncf.model."
#define MEDIA_TYPE_LEN_MAX 255

static bool media_type_ok(const char *s)
{
        size_t len = strlen(s);

        return len > 0 && len <= MEDIA_TYPE_LEN_MAX && strchr(s, '/') != NULL &&
               strspn(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                         "!#$&-^_.+/;= \"") == len;
}

/* An archive whose entries are the files? oras calls plain files layers too, but gives them a
 * title. */
static bool is_tar(const char *media_type, const json_t *annotations)
{
        if (mlc_starts_with(media_type, MODEL_TYPE_PREFIX))
                return mlc_ends_with(media_type, ".tar") ||
                       mlc_ends_with(media_type, ".tar+gzip") ||
                       mlc_ends_with(media_type, ".tar+zstd");
        if (!mlc_starts_with(media_type, "application/vnd.oci.image.layer."))
                return false;
        return json_object_get(annotations, MLC_ANNOTATION_TITLE) == NULL ||
               mlc_streq(json_string_value(json_object_get(annotations, ANNOTATION_UNPACK)),
                         "true");
}

static bool is_executable(const json_t *annotations)
{
        const char *s =
                json_string_value(json_object_get(annotations, MLC_ANNOTATION_FILE_METADATA));
        _cleanup_(json_decref_p) json_t *meta = NULL;

        /* hints of others: what is no JSON says nothing */
        meta = s != NULL ? json_loads(s, MLC_JSON_FLAGS, NULL) : NULL;
        return (json_integer_value(json_object_get(meta, "mode")) & 0100) != 0;
}

static int get_annotations(const json_t *obj, const char *at, json_t **ret, struct mlc_err *err)
{
        json_t *a = NULL, *v;
        char where[MLC_JSON_POINTER_MAX];
        const char *k;
        int r;

        r = mlc_json_opt_obj(obj, at, "annotations", &a, err);
        if (r < 0)
                return r;
        mlc_json_pointer(where, at, "annotations");
        json_object_foreach (a, k, v)
                if (!json_is_string(v))
                        return mlc_fail_field(err, MLC_E_INVALID, where,
                                              "annotations must be strings");
        *ret = a;
        return 0;
}

static int read_descriptor(const json_t *obj, const char *at, struct mlc_arena *a,
                           struct mlc_descriptor *ret, struct mlc_err *err)
{
        struct mlc_descriptor d = {.tar = false};
        const char *media_type, *digest, *artifact_type = NULL;
        char where[MLC_JSON_POINTER_MAX];
        struct mlc_err ignored = {0};
        struct mlc_digest parsed;
        int64_t size;
        int r;

        if (!json_is_object(obj))
                return mlc_fail_field(err, MLC_E_INVALID, at, "must be a descriptor");
        r = mlc_json_get_str(obj, at, "mediaType", &media_type, err);
        if (r < 0)
                return r;
        r = mlc_json_get_str(obj, at, "digest", &digest, err);
        if (r < 0)
                return r;
        r = mlc_json_get_i64(obj, at, "size", &size, err);
        if (r < 0)
                return r;
        r = mlc_json_opt_str(obj, at, "artifactType", &artifact_type, err);
        if (r < 0)
                return r;
        if (!media_type_ok(media_type) || (artifact_type != NULL && !media_type_ok(artifact_type)))
                return mlc_fail_field(err, MLC_E_INVALID, at, "the media type is not valid");
        mlc_json_pointer(where, at, "digest");
        if (mlc_digest_parse(digest, &parsed, &ignored) < 0)
                return mlc_fail_field(err, MLC_E_INVALID, where,
                                      "must be sha256: and 64 lower-case hex digits");
        mlc_json_pointer(where, at, "size");
        if (size < 0 || size > (1LL << 50))
                return mlc_fail_field(err, MLC_E_INVALID, where, "must be from 0 to 2^50");
        mlc_digest_format(&parsed, d.digest);
        d.size = (uint64_t)size;
        d.media_type = mlc_arena_strdup(a, media_type, err);
        if (d.media_type == NULL)
                return err->code;
        if (artifact_type != NULL) {
                d.artifact_type = mlc_arena_strdup(a, artifact_type, err);
                if (d.artifact_type == NULL)
                        return err->code;
        }
        *ret = d;
        return 0;
}

/* Paths taken so far, and whether each came from a title, which may be ignored. */
struct paths {
        struct mlc_map seen; /* path -> the struct mlc_descriptor */
};

static void paths_done(struct paths *p)
{
        mlc_map_done(&p->seen, NULL);
}

static bool parent_taken(const struct paths *p, const char *path)
{
        char dir[MLC_PATH_MAX + 1];

        for (const char *s = strchr(path, '/'); s != NULL; s = strchr(s + 1, '/')) {
                size_t len = (size_t)(s - path);

                memcpy(dir, path, len);
                dir[len] = '\0';
                if (mlc_map_get(&p->seen, dir) != NULL)
                        return true;
        }
        return false;
}

static int take_path(const json_t *annotations, const char *at, struct paths *paths,
                     struct mlc_arena *a, struct mlc_descriptor *d, struct mlc_err *err)
{
        const char *given =
                json_string_value(json_object_get(annotations, MLC_ANNOTATION_FILEPATH));
        const char *path =
                given != NULL
                        ? given
                        : json_string_value(json_object_get(annotations, MLC_ANNOTATION_TITLE));
        struct mlc_err ignored = {0};

        if (d->tar || path == NULL)
                return 0;
        if (mlc_path_check(path, &ignored) < 0) {
                if (given == NULL)
                        return 0;
                return mlc_fail_field(err, MLC_E_INVALID, at, "%s", ignored.msg);
        }
        if (mlc_map_get(&paths->seen, path) != NULL) {
                if (given == NULL)
                        return 0;
                return mlc_fail_field(err, MLC_E_INVALID, at, "path '%s' is there twice", path);
        }
        d->path = mlc_arena_strdup(a, path, err);
        if (d->path == NULL)
                return err->code;
        (void)mlc_map_set(&paths->seen, path, d);
        return 0;
}

/* A layer is a pointer to an object: its path is a file and cannot be a directory of others. */
static int check_parents(struct mlc_manifest *m, const struct paths *paths, struct mlc_err *err)
{
        char at[MLC_JSON_POINTER_MAX];

        for (size_t i = 0; i < m->n_layers; i++) {
                struct mlc_descriptor *d = &m->layers[i];

                if (d->path == NULL || !parent_taken(paths, d->path))
                        continue;
                (void)snprintf(at, sizeof(at), "/layers/%zu", i);
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "a directory of path '%s' is a file too", d->path);
        }
        return 0;
}

static int read_layers(const json_t *list, const char *name, struct mlc_arena *a,
                       struct mlc_manifest *m, struct mlc_err *err)
{
        _cleanup_(paths_done) struct paths paths;
        char at[MLC_JSON_POINTER_MAX];
        size_t n = json_array_size(list);
        json_t *annotations, *v;
        size_t i;
        int r;

        mlc_map_init(&paths.seen);
        if (n > MLC_MANIFEST_LAYERS_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the manifest has more than %d layers",
                                MLC_MANIFEST_LAYERS_MAX);
        m->layers = mlc_arena_array(a, n, sizeof(*m->layers), err);
        if (m->layers == NULL)
                return err->code;
        json_array_foreach (list, i, v) {
                struct mlc_descriptor *d = &m->layers[i];

                (void)snprintf(at, sizeof(at), "/%s/%zu", name, i);
                r = read_descriptor(v, at, a, d, err);
                if (r < 0)
                        return r;
                r = get_annotations(v, at, &annotations, err);
                if (r < 0)
                        return r;
                if (m->is_index)
                        continue;
                d->tar = is_tar(d->media_type, annotations);
                d->executable = is_executable(annotations);
                r = take_path(annotations, at, &paths, a, d, err);
                if (r < 0)
                        return r;
                m->size += d->size;
        }
        m->n_layers = n;
        return check_parents(m, &paths, err);
}

/* The type of the document: what it says itself and what its sender said must agree. */
static int read_media_type(const json_t *doc, const char *content_type, struct mlc_manifest *m,
                           struct mlc_err *err)
{
        const char *own = NULL, *type;
        size_t len = content_type != NULL ? strcspn(content_type, "; ") : 0;
        int r;

        r = mlc_json_opt_str(doc, "", "mediaType", &own, err);
        if (r < 0)
                return r;
        if (own != NULL && len > 0 && (strlen(own) != len || strncmp(own, content_type, len) != 0))
                return mlc_fail_field(err, MLC_E_INVALID, "/mediaType",
                                      "it differs from the Content-Type");
        type = own;
        if (type == NULL && len > 0)
                type = strncmp(content_type, MLC_MT_OCI_INDEX, len) == 0 &&
                                       len == strlen(MLC_MT_OCI_INDEX)
                               ? MLC_MT_OCI_INDEX
                       : strncmp(content_type, MLC_MT_OCI_MANIFEST, len) == 0 &&
                                       len == strlen(MLC_MT_OCI_MANIFEST)
                               ? MLC_MT_OCI_MANIFEST
                               : "";
        if (type == NULL)
                type = json_object_get(doc, "manifests") != NULL ? MLC_MT_OCI_INDEX
                                                                 : MLC_MT_OCI_MANIFEST;
        m->is_index = mlc_streq(type, MLC_MT_OCI_INDEX);
        if (!m->is_index && !mlc_streq(type, MLC_MT_OCI_MANIFEST))
                return mlc_fail_field(err, MLC_E_INVALID, "/mediaType",
                                      "only OCI image manifests and indexes are accepted");
        m->media_type = m->is_index ? MLC_MT_OCI_INDEX : MLC_MT_OCI_MANIFEST;
        return 0;
}

static bool text_ok(const char *s)
{
        size_t len = strlen(s);

        if (len == 0 || len > MLC_LINEAGE_TEXT_MAX || !mlc_utf8_valid(s, len))
                return false;
        for (const unsigned char *p = (const unsigned char *)s; *p != '\0'; p++)
                if (*p < 0x20 || *p == 0x7f)
                        return false;
        return true;
}

static int by_text(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int read_datasets(const char *text, struct mlc_arena *a, struct mlc_lineage *l,
                         struct mlc_err *err)
{
        const char *at = "/annotations/" MLC_ANNOTATION_DATASET;
        char *copy = mlc_arena_strdup(a, text, err), *next = copy;
        const char **list;
        size_t n = 1, kept = 0;

        if (copy == NULL)
                return err->code;
        for (const char *p = text; *p != '\0'; p++)
                n += *p == '\n';
        if (n > MLC_LINEAGE_DATASETS_MAX)
                return mlc_fail_field(err, MLC_E_INVALID, at, "more than %d datasets",
                                      MLC_LINEAGE_DATASETS_MAX);
        list = mlc_arena_array(a, n, sizeof(*list), err);
        if (list == NULL)
                return err->code;
        for (size_t i = 0; i < n; i++) {
                struct mlc_dataset d;
                struct mlc_err why = {0};

                list[i] = strsep(&next, "\n");
                if (mlc_dataset_parse(list[i], &d, &why) < 0)
                        return mlc_fail_field(err, MLC_E_INVALID, at, "%s", why.msg);
        }
        qsort(list, n, sizeof(*list), by_text);
        for (size_t i = 0; i < n; i++)
                if (kept == 0 || strcmp(list[kept - 1], list[i]) != 0)
                        list[kept++] = list[i];
        l->datasets = list;
        l->n_datasets = kept;
        return 0;
}

static int read_text(const json_t *annotations, const char *key, struct mlc_arena *a,
                     const char **ret, struct mlc_err *err)
{
        const char *s = json_string_value(json_object_get(annotations, key));
        char at[MLC_JSON_POINTER_MAX];

        if (s == NULL)
                return 0;
        mlc_json_pointer(at, "/annotations", key);
        if (!text_ok(s))
                return mlc_fail_field(err, MLC_E_INVALID, at,
                                      "must be 1 to %d bytes without control characters",
                                      MLC_LINEAGE_TEXT_MAX);
        *ret = mlc_arena_strdup(a, s, err);
        return *ret != NULL ? 0 : err->code;
}

static int check_base(const char *base, struct mlc_err *err)
{
        struct mlc_err why = {0};
        struct mlc_ref ref;

        if (base == NULL)
                return 0;
        if (mlc_ref_parse(base, &ref, &why) < 0 || ref.kind != MLC_REF_DIGEST)
                return mlc_fail_field(err, MLC_E_INVALID, "/annotations/" MLC_ANNOTATION_BASE,
                                      "must be NAMESPACE/MODEL@sha256:…");
        return 0;
}

static int read_lineage(const json_t *annotations, struct mlc_arena *a, struct mlc_lineage *l,
                        struct mlc_err *err)
{
        const char *data = json_string_value(json_object_get(annotations, MLC_ANNOTATION_DATASET));
        int r;

        if (data != NULL) {
                r = read_datasets(data, a, l, err);
                if (r < 0)
                        return r;
        }
        r = read_text(annotations, MLC_ANNOTATION_CODE, a, &l->code, err);
        if (r < 0)
                return r;
        r = read_text(annotations, MLC_ANNOTATION_RUN, a, &l->run, err);
        if (r < 0)
                return r;
        r = read_text(annotations, MLC_ANNOTATION_BASE, a, &l->base, err);
        if (r < 0)
                return r;
        return check_base(l->base, err);
}

static int read_subject(const json_t *doc, struct mlc_arena *a, struct mlc_manifest *m,
                        struct mlc_err *err)
{
        struct mlc_descriptor subject;
        json_t *obj = NULL;
        int r;

        r = mlc_json_opt_obj(doc, "", "subject", &obj, err);
        if (r < 0 || obj == NULL)
                return r;
        r = read_descriptor(obj, "/subject", a, &subject, err);
        if (r < 0)
                return r;
        m->subject = mlc_arena_strdup(a, subject.digest, err);
        return m->subject != NULL ? 0 : err->code;
}

static int read_artifact_type(const json_t *doc, struct mlc_arena *a, struct mlc_manifest *m,
                              struct mlc_err *err)
{
        const char *type = NULL;
        int r;

        r = mlc_json_opt_str(doc, "", "artifactType", &type, err);
        if (r < 0)
                return r;
        if (type == NULL)
                type = m->is_index ? NULL : m->config.media_type;
        if (type == NULL)
                return 0;
        if (!media_type_ok(type))
                return mlc_fail_field(err, MLC_E_INVALID, "/artifactType",
                                      "the media type is not valid");
        m->artifact_type = mlc_arena_strdup(a, type, err);
        return m->artifact_type != NULL ? 0 : err->code;
}

static int read_document(const json_t *doc, struct mlc_arena *a, struct mlc_manifest *m,
                         struct mlc_err *err)
{
        const char *list_name = m->is_index ? "manifests" : "layers";
        json_t *config = NULL, *list, *annotations;
        int64_t schema;
        int r;

        r = mlc_json_get_i64(doc, "", "schemaVersion", &schema, err);
        if (r < 0)
                return r;
        if (schema != 2)
                return mlc_fail_field(err, MLC_E_INVALID, "/schemaVersion", "must be 2");
        if (!m->is_index) {
                r = mlc_json_get_obj(doc, "", "config", &config, err);
                if (r < 0)
                        return r;
                r = read_descriptor(config, "/config", a, &m->config, err);
                if (r < 0)
                        return r;
        }
        r = mlc_json_get_arr(doc, "", list_name, &list, err);
        if (r < 0)
                return r;
        r = read_layers(list, list_name, a, m, err);
        if (r < 0)
                return r;
        r = read_subject(doc, a, m, err);
        if (r < 0)
                return r;
        r = read_artifact_type(doc, a, m, err);
        if (r < 0)
                return r;
        r = get_annotations(doc, "", &annotations, err);
        if (r < 0)
                return r;
        return read_lineage(annotations, a, &m->lineage, err);
}

int mlc_manifest_parse(const void *bytes, size_t len, const char *content_type, struct mlc_arena *a,
                       struct mlc_manifest *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *doc = NULL;
        struct mlc_manifest m = {.is_index = false};
        int r;

        if (len > MLC_MANIFEST_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "the manifest is longer than %u bytes",
                                MLC_MANIFEST_MAX);
        r = mlc_json_parse(bytes, len, &doc, err);
        if (r < 0)
                return mlc_wrap(err, "the manifest");
        if (!json_is_object(doc))
                return mlc_fail(err, MLC_E_INVALID, "the manifest is no JSON object");
        r = read_media_type(doc, content_type, &m, err);
        if (r < 0)
                return r;
        r = read_document(doc, a, &m, err);
        if (r < 0)
                return r;
        *ret = m;
        return 0;
}
