/* SPDX-License-Identifier: Apache-2.0 */
/* What the model files say about themselves, as the JSON that is stored with a version. */
#include <inttypes.h>
#include <string.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/path.h"
#include "codec/utf8.h"
#include "format/format.h"
#include "registry/registry_internal.h"
#include "store/store.h"

#define FILES_KEPT 200 /* entries of metadata.files; all are read and judged */
#define IMPORTS_KEPT 200 /* per file and for the version */
#define TENSORS_KEPT 32 /* shown per file */
#define META_KEPT 32
#define ENTRY_MAX (16u << 20) /* bytes of a file inside an archive that is read */
#define SCRATCH_MAX (64u << 20)

/* Sums over all files of a version. */
struct summary {
        json_t *files, *imports; /* owned by the metadata object */
        const char *format, *precision, *architecture; /* in ctx's arena */
        bool several_formats, several_precisions, overflow;
        uint64_t parameters;
        unsigned n_judged, n_unsafe, n_not_verified, n_allowed;
};

/* Text of a file's header: what is not UTF-8 is shown escaped. */
static json_t *text(const char *s)
{
        char buf[1024];

        if (s == NULL)
                return json_null();
        if (mlc_utf8_valid(s, strlen(s)))
                return json_string(s);
        mlc_text_escape(s, strlen(s), buf, sizeof(buf));
        return json_string(buf);
}

static void set_text(json_t *obj, const char *key, const char *s)
{
        if (s != NULL)
                json_object_set_new(obj, key, text(s));
}

/* A number of a file's header: beyond what JSON clients hold exactly it is not shown. */
static json_t *number(uint64_t n)
{
        return n <= MLC_VERSION_MAX ? json_integer((json_int_t)n) : json_null();
}

static json_t *tensors_json(const struct mlc_format_tensor *t, size_t n)
{
        json_t *list = json_array();

        for (size_t i = 0; i < n && i < TENSORS_KEPT; i++) {
                json_t *shape = json_array();

                for (size_t k = 0; k < t[i].n_dims; k++)
                        json_array_append_new(shape, t[i].dims[k] < 0
                                                             ? json_integer(-1)
                                                             : number((uint64_t)t[i].dims[k]));
                json_array_append_new(list, json_pack("{s:o, s:o, s:o}", "name", text(t[i].name),
                                                      "dtype", text(t[i].dtype), "shape", shape));
        }
        return list;
}

static json_t *dtypes_json(const struct mlc_format_info *info)
{
        json_t *counts = json_object();

        for (size_t i = 0; i < info->n_tensors_kept; i++) {
                const char *dtype = info->tensors[i].dtype;

                if (dtype == NULL || !mlc_utf8_valid(dtype, strlen(dtype)))
                        continue;
                json_object_set_new(
                        counts, dtype,
                        json_integer(json_integer_value(json_object_get(counts, dtype)) + 1));
        }
        return counts;
}

static json_t *import_json(const struct mlc_format_import *im)
{
        _cleanup_(mlc_str_done) struct mlc_str name;

        mlc_str_init(&name, 8192);
        mlc_str_addf(&name, "%s.%s", im->module, im->name);
        return json_pack("{s:o, s:b}", "name", text(mlc_str_cstr(&name)), "allowed", im->allowed);
}

static bool holds(const json_t *list, const json_t *item)
{
        json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (json_equal(v, item))
                        return true;
        return false;
}

static json_t *imports_json(const struct mlc_format_info *info, struct summary *sum)
{
        json_t *list = json_array();

        for (size_t i = 0; i < info->n_imports && i < IMPORTS_KEPT; i++) {
                json_t *im = import_json(&info->imports[i]);

                if (json_array_size(sum->imports) < IMPORTS_KEPT && !holds(sum->imports, im))
                        json_array_append(sum->imports, im);
                json_array_append_new(list, im);
        }
        return list;
}

static json_t *info_json(const struct mlc_format_info *info, const char *path, struct summary *sum)
{
        json_t *f = json_pack("{s:o, s:s, s:s}", "path", text(path), "format", info->format,
                              "safety", mlc_format_safety_name(info->safety));

        set_text(f, "malformed", info->malformed);
        set_text(f, "unverified", info->unverified);
        set_text(f, "mismatch", info->mismatch);
        set_text(f, "precision", info->precision);
        set_text(f, "architecture", info->architecture);
        set_text(f, "name", info->name);
        set_text(f, "version", info->version);
        set_text(f, "license", info->license);
        if (info->n_tensors > 0) {
                json_object_set_new(f, "tensors", number(info->n_tensors));
                json_object_set_new(f, "parameters", number(info->n_parameters));
                json_object_set_new(f, "dtypes", dtypes_json(info));
                json_object_set_new(f, "first_tensors",
                                    tensors_json(info->tensors, info->n_tensors_kept));
        }
        if (info->n_inputs > 0 || info->n_outputs > 0) {
                json_object_set_new(f, "inputs", tensors_json(info->inputs, info->n_inputs));
                json_object_set_new(f, "outputs", tensors_json(info->outputs, info->n_outputs));
        }
        if (info->n_imports > 0)
                json_object_set_new(f, "imports", imports_json(info, sum));
        if (info->n_meta > 0) {
                json_t *meta = json_object();

                for (size_t i = 0; i < info->n_meta && i < META_KEPT; i++)
                        if (mlc_utf8_valid(info->meta[i].key, strlen(info->meta[i].key)))
                                json_object_set_new(meta, info->meta[i].key,
                                                    text(info->meta[i].value));
                json_object_set_new(f, "meta", meta);
        }
        if (info->n_notes > 0) {
                json_t *notes = json_array();

                for (size_t i = 0; i < info->n_notes && i < META_KEPT; i++)
                        json_array_append_new(notes, text(info->notes[i]));
                json_object_set_new(f, "notes", notes);
        }
        return f;
}

static int keep(struct mlc_ctx *ctx, const char **slot, bool *several, const char *value)
{
        if (value == NULL || *several)
                return 0;
        if (*slot != NULL && strcmp(*slot, value) != 0) {
                *several = true;
                return 0;
        }
        if (*slot == NULL)
                *slot = ctx_strdup(ctx, value);
        return *slot != NULL ? 0 : ctx->err.code;
}

/* A file counts when its content is of a model format, or when it is kept as a weight. */
static bool counts(const struct mlc_format_info *info, const char *path)
{
        return strcmp(info->format, "unknown") != 0 || mlc_layer_kind_of(path) == MLC_LAYER_WEIGHT;
}

static int add_info(struct mlc_ctx *ctx, const struct mlc_format_info *info, const char *path,
                    struct summary *sum)
{
        bool several_architectures = false;
        json_t *f;
        int r;

        if (!counts(info, path))
                return 0;
        f = info_json(info, path, sum);
        if (json_array_size(sum->files) < FILES_KEPT)
                json_array_append(sum->files, f);
        json_decref(f);
        sum->n_judged++;
        sum->n_unsafe += info->safety == MLC_SAFETY_UNSAFE;
        sum->n_not_verified += info->safety == MLC_SAFETY_NOT_VERIFIED;
        sum->n_allowed += info->safety == MLC_SAFETY_ALLOWED;
        if (__builtin_add_overflow(sum->parameters, info->n_parameters, &sum->parameters) ||
            sum->parameters > MLC_VERSION_MAX)
                sum->overflow = true;
        if (strcmp(info->format, "unknown") != 0) {
                r = keep(ctx, &sum->format, &sum->several_formats, info->format);
                if (r < 0)
                        return r;
        }
        r = keep(ctx, &sum->precision, &sum->several_precisions, info->precision);
        if (r < 0)
                return r;
        return keep(ctx, &sum->architecture, &several_architectures,
                    sum->architecture == NULL ? info->architecture : NULL);
}

static int inspect(struct mlc_ctx *ctx, const struct mlc_reader *reader, const char *path,
                   struct summary *sum)
{
        struct mlc_format_info info;
        struct mlc_err err = {0};
        struct mlc_arena scratch;
        int r;

        mlc_arena_init(&scratch, SCRATCH_MAX);
        r = mlc_format_inspect(reader, path, &scratch, &info, &err);
        if (r == MLC_E_LIMIT) {
                info = (struct mlc_format_info){.format = "unknown",
                                                .unverified = "its description is too large"};
                r = 0;
        }
        if (r < 0)
                ctx->err = err;
        else
                r = add_info(ctx, &info, path, sum);
        mlc_arena_done(&scratch);
        return r;
}

static int inspect_entry(struct mlc_ctx *ctx, struct mlc_archive *ar,
                         const struct mlc_archive_item *item, struct summary *sum)
{
        _cleanup_(free_p) char *path = strdup(item->path), *data = NULL;
        struct mlc_format_info skipped = {.format = "unknown",
                                          .unverified = "too long inside an archive"};
        struct mlc_reader reader;
        size_t have = 0, n = 1;

        if (path == NULL)
                abort();
        if (item->size > ENTRY_MAX)
                return add_info(ctx, &skipped, path, sum);
        data = malloc(item->size + 1);
        if (data == NULL)
                abort();
        while (have < item->size && n > 0) {
                int r = mlc_archive_read(ar, data + have, item->size - have, &n, &ctx->err);

                if (r < 0)
                        return r;
                have += n;
        }
        mlc_reader_mem(&reader, data, have);
        return inspect(ctx, &reader, path, sum);
}

static int walk_archive(struct mlc_ctx *ctx, int fd, struct summary *sum)
{
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = NULL;
        struct mlc_archive_item item;
        bool more = true;
        int r;

        r = mlc_archive_open_fd(fd, NULL, &ar, &ctx->err);
        if (r < 0)
                return r;
        for (;;) {
                r = mlc_archive_next(ar, &item, &more, &ctx->err);
                if (r < 0)
                        return r;
                if (!more)
                        return 0;
                if (item.directory)
                        continue;
                r = inspect_entry(ctx, ar, &item, sum);
                if (r < 0)
                        return r;
        }
}

static int inspect_layer(struct mlc_ctx *ctx, const struct mlc_descriptor *d, struct summary *sum)
{
        const char *path = d->path != NULL ? d->path : d->digest;
        _cleanup_(close_fd) int fd = -1;
        struct mlc_format_info bad = {.format = "tar"};
        struct mlc_reader reader;
        uint64_t size;
        int r;

        if (registry_may_be_absent(d))
                return 0;
        r = store_open_blob(ctx, d->digest, &fd, &size);
        if (r < 0)
                return r;
        if (!d->tar) {
                r = mlc_reader_fd(&reader, &fd, &ctx->err);
                if (r < 0)
                        return r;
                return inspect(ctx, &reader, path, sum);
        }
        r = walk_archive(ctx, fd, sum);
        if (r != MLC_E_INVALID && r != MLC_E_LIMIT)
                return r;
        /* an archive that cannot be walked says nothing about what is in it */
        bad.malformed = ctx_strdup(ctx, ctx->err.msg);
        mlc_err_clear(&ctx->err);
        return add_info(ctx, &bad, path, sum);
}

static const char *overall(const struct summary *sum)
{
        if (sum->n_unsafe > 0)
                return mlc_format_safety_name(MLC_SAFETY_UNSAFE);
        if (sum->n_not_verified > 0 || sum->n_judged == 0)
                return mlc_format_safety_name(MLC_SAFETY_NOT_VERIFIED);
        return mlc_format_safety_name(sum->n_allowed > 0 ? MLC_SAFETY_ALLOWED : MLC_SAFETY_NO_CODE);
}

int registry_draft_inspect(struct mlc_ctx *ctx, struct registry_draft *d)
{
        _cleanup_(json_decref_p) json_t *files = json_array(), *imports = json_array();
        struct summary sum = {.files = files, .imports = imports};
        int r;

        for (size_t i = 0; i < d->manifest.n_layers; i++) {
                r = inspect_layer(ctx, &d->manifest.layers[i], &sum);
                if (r < 0)
                        return r;
        }
        json_decref(d->metadata);
        d->metadata = json_pack(
                "{s:s?, s:o, s:s?, s:s?, s:s, s:O, s:O}", "format",
                sum.several_formats ? NULL : sum.format, "parameters",
                sum.parameters > 0 && !sum.overflow ? json_integer((json_int_t)sum.parameters)
                                                    : json_null(),
                "precision", sum.several_precisions ? NULL : sum.precision, "architecture",
                sum.architecture, "safety", overall(&sum), "imports", imports, "files", files);
        if (d->metadata == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "cannot describe '%s'", d->digest);
        return 0;
}
