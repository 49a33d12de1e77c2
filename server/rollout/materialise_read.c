/* SPDX-License-Identifier: Apache-2.0 */
/* What a version's folder must hold: manifest, blobs, and what the driver adds. */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/path.h"
#include "codec/hex.h"
#include "codec/json.h"
#include "codec/yaml.h"
#include "materialise_internal.h"

void mat_entries_done(struct mat_entries *e)
{
        free(e->items);
        e->items = NULL;
        e->n = e->room = 0;
}

int mat_entries_add(struct mat_entries *e, const char *prefix, const struct mat_entry *entry,
                    struct mlc_err *err)
{
        struct mat_entry copy = *entry;

        if (e->n == MAT_FILES_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "more than %d files", MAT_FILES_MAX);
        if (__builtin_add_overflow(e->bytes, entry->size, &e->bytes) || e->bytes > MAT_BYTES_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "more than 1 TiB of files");
        copy.path = *prefix != '\0' ? mlc_arena_printf(e->arena, err, "%s/%s", prefix, entry->path)
                                    : mlc_arena_strdup(e->arena, entry->path, err);
        if (copy.path == NULL)
                return err->code;
        if (e->n == e->room) {
                size_t room = e->room == 0 ? 64 : 2 * e->room;
                struct mat_entry *items = reallocarray(e->items, room, sizeof(*items));

                if (items == NULL)
                        abort();
                e->items = items;
                e->room = room;
        }
        e->items[e->n++] = copy;
        return 0;
}

static int by_path(const void *a, const void *b)
{
        const struct mat_entry *x = a, *y = b;

        return strcmp(x->path, y->path);
}

int mat_entries_sort(struct mat_entries *e, struct mlc_err *err)
{
        if (e->n > 0)
                qsort(e->items, e->n, sizeof(*e->items), by_path);
        for (size_t i = 1; i < e->n; i++)
                if (strcmp(e->items[i - 1].path, e->items[i].path) == 0)
                        return mlc_fail(err, MLC_E_INVALID, "the artifact has '%s' twice",
                                        e->items[i].path);
        return 0;
}

void mat_entries_tree(const struct mat_entries *e, struct mlc_digest *ret)
{
        struct mlc_sha256 h;

        mlc_sha256_init(&h);
        for (size_t i = 0; i < e->n; i++) {
                char rest[128], hex[65];
                int n;

                mlc_hex_encode(e->items[i].digest.b, sizeof(e->items[i].digest.b), hex);
                mlc_sha256_update(&h, e->items[i].path, strlen(e->items[i].path) + 1);
                n = snprintf(rest, sizeof(rest), "%llu", (unsigned long long)e->items[i].size);
                mlc_sha256_update(&h, rest, (size_t)n + 1);
                mlc_sha256_update(&h, hex, 64);
                if (e->items[i].executable)
                        mlc_sha256_update(&h, "\0x\n", 3);
                else
                        mlc_sha256_update(&h, "\n", 1);
        }
        mlc_sha256_final(&h, ret);
}

/* --- reading blobs --- */

struct blob {
        int fd;
        struct mlc_sha256 hash;
        uint64_t size;
};

static int blob_read(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        struct blob *b = userdata;
        ssize_t n;

        do {
                n = read(b->fd, buf, len);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return mlc_fail_errno(err, "read", "a blob");
        mlc_sha256_update(&b->hash, buf, (size_t)n);
        b->size += (uint64_t)n;
        *ret_len = (size_t)n;
        return 0;
}

static int blob_open(const struct mat_in *in, const struct mlc_descriptor *d, struct blob *ret,
                     struct mlc_err *err)
{
        struct blob b = {.fd = -1};
        int r = in->source->open(in->source->userdata, d->digest, &b.fd, err);

        if (r < 0)
                return mlc_wrap(err, "'%s'", d->path != NULL ? d->path : d->digest);
        mlc_sha256_init(&b.hash);
        *ret = b;
        return 0;
}

/* After the last byte. */
static int blob_check(struct blob *b, const struct mlc_descriptor *d, struct mlc_err *err)
{
        struct mlc_digest is;
        char text[MLC_DIGEST_STR];

        mlc_sha256_final(&b->hash, &is);
        mlc_digest_format(&is, text);
        if (strcmp(text, d->digest) != 0 || b->size != d->size)
                return mlc_fail(err, MLC_E_VERIFY, "the stored bytes of '%s' are not those of %s",
                                d->path != NULL ? d->path : "an archive", d->digest);
        return 0;
}

static int pass_on(const struct mat_sink *sink, const char *path, bool executable,
                   const struct mlc_archive_source *from, struct mlc_err *err)
{
        _cleanup_(free_p) char *buf = malloc(MAT_BUF);
        int r = sink->begin(sink->userdata, path, executable, err);

        if (buf == NULL)
                abort();
        while (r == 0) {
                size_t n;

                r = from->read(from->userdata, buf, MAT_BUF, &n, err);
                if (r == 0 && n == 0)
                        break;
                if (r == 0)
                        r = sink->write(sink->userdata, buf, n, err);
        }
        return r < 0 ? r : sink->end(sink->userdata, err);
}

static int plain_layer(const struct mat_in *in, const struct mlc_descriptor *d,
                       const struct mat_sink *sink, struct mat_entries *ret, struct mlc_err *err)
{
        struct mat_entry entry = {.path = d->path, .size = d->size, .executable = d->executable};
        struct blob b = {.fd = -1};
        struct mlc_archive_source from = {.read = blob_read, .userdata = &b};
        int r;

        if (d->path == NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "a layer of the artifact says no path, so it cannot be served");
        r = mlc_path_check(d->path, err);
        if (r == 0)
                r = mlc_digest_parse(d->digest, &entry.digest, err);
        if (r == 0)
                r = mat_entries_add(ret, "", &entry, err);
        if (r < 0 || sink == NULL)
                return r;
        r = blob_open(in, d, &b, err);
        if (r < 0)
                return r;
        r = pass_on(sink, d->path, d->executable, &from, err);
        (void)close(b.fd);
        return r < 0 ? r : blob_check(&b, d, err);
}

/* One file of an archive: hashed on its way. */
struct member {
        struct mlc_archive *ar;
        struct mlc_sha256 hash;
        uint64_t size;
};

static int member_read(void *userdata, void *buf, size_t len, size_t *ret_len, struct mlc_err *err)
{
        struct member *m = userdata;
        int r = mlc_archive_read(m->ar, buf, len, ret_len, err);

        if (r == 0) {
                mlc_sha256_update(&m->hash, buf, *ret_len);
                m->size += *ret_len;
        }
        return r;
}

static int nothing_begin(void *u, const char *path, bool executable, struct mlc_err *err)
{
        (void)u, (void)path, (void)executable, (void)err;
        return 0;
}

static int nothing_write(void *u, const void *data, size_t len, struct mlc_err *err)
{
        (void)u, (void)data, (void)len, (void)err;
        return 0;
}

static int nothing_end(void *u, struct mlc_err *err)
{
        (void)u, (void)err;
        return 0;
}

static int members(struct mlc_archive *ar, const struct mat_sink *sink, struct mat_entries *ret,
                   struct mlc_err *err)
{
        struct mlc_archive_item item;
        bool more;

        for (;;) {
                struct member m = {.ar = ar};
                struct mlc_archive_source from = {.read = member_read, .userdata = &m};
                struct mat_entry entry;
                int r = mlc_archive_next(ar, &item, &more, err);

                if (r < 0 || !more)
                        return r;
                if (item.directory)
                        continue;
                mlc_sha256_init(&m.hash);
                entry = (struct mat_entry){.path = mlc_arena_strdup(ret->arena, item.path, err),
                                           .executable = item.executable};
                if (entry.path == NULL)
                        return err->code;
                r = pass_on(sink, entry.path, entry.executable, &from, err);
                if (r < 0)
                        return r;
                entry.size = m.size;
                mlc_sha256_final(&m.hash, &entry.digest);
                r = mat_entries_add(ret, "", &entry, err);
                if (r < 0)
                        return r;
        }
}

static int tar_layer(const struct mat_in *in, const struct mlc_descriptor *d,
                     const struct mat_sink *sink, struct mat_entries *ret, struct mlc_err *err)
{
        static const struct mat_sink nothing = {nothing_begin, nothing_write, nothing_end, NULL};
        const struct mlc_archive_limits limits = {.entries = 2 * MAT_FILES_MAX,
                                                  .bytes = MAT_BYTES_MAX};
        _cleanup_(mlc_archive_freep) struct mlc_archive *ar = NULL;
        _cleanup_(free_p) char *buf = malloc(MAT_BUF);
        struct blob b = {.fd = -1};
        const struct mlc_archive_source from = {.read = blob_read, .userdata = &b};
        struct mlc_err found = {0}, rest = {0};
        size_t n = 1;
        int r = blob_open(in, d, &b, err);

        if (buf == NULL)
                abort();
        if (r < 0)
                return r;
        r = mlc_archive_open(&from, &limits, &ar, &found);
        if (r == 0)
                r = members(ar, sink != NULL ? sink : &nothing, ret, &found);
        /* what follows the archive's end is part of the blob, too; and a blob that is damaged is
         * not the fault of whoever made the archive */
        while (n > 0 && blob_read(&b, buf, MAT_BUF, &n, &rest) == 0)
                continue;
        (void)close(b.fd);
        if (r < 0 && found.code != MLC_E_INVALID) {
                *err = found;
                return r;
        }
        if (blob_check(&b, d, err) < 0)
                return err->code;
        if (r < 0)
                *err = found;
        return r;
}

int mat_artifact(const struct mat_in *in, const struct mlc_manifest *m, const struct mat_sink *sink,
                 struct mat_entries *ret, struct mlc_err *err)
{
        for (size_t i = 0; i < m->n_layers; i++) {
                const struct mlc_descriptor *d = &m->layers[i];
                const struct mat_source *s = in->source;
                int r;

                if (s->cancelled != NULL && s->cancelled(s->userdata))
                        return mlc_fail(err, MLC_E_CONFLICT, "cancelled");
                r = d->tar ? tar_layer(in, d, sink, ret, err) : plain_layer(in, d, sink, ret, err);
                if (r < 0)
                        return r;
        }
        return mat_entries_sort(ret, err);
}

/* --- what the driver adds --- */

static const struct mlc_descriptor *find_layer(const struct mlc_manifest *m, const char *path)
{
        for (size_t i = 0; i < m->n_layers; i++)
                if (!m->layers[i].tar && mlc_streq(m->layers[i].path, path))
                        return &m->layers[i];
        return NULL;
}

static int keep(void *userdata, const void *data, size_t len, struct mlc_err *err)
{
        mlc_str_addn(userdata, data, len);
        return mlc_str_check(userdata, err);
}

/* model.yaml as JSON, the caller's; NULL when the artifact has none. */
static int read_model_yaml(const struct mat_in *in, const struct mlc_manifest *m, json_t **ret,
                           struct mlc_err *err)
{
        const struct mlc_descriptor *d = find_layer(m, "model.yaml");
        _cleanup_(mlc_str_done) struct mlc_str text = {0};
        _cleanup_(mlc_arena_done) struct mlc_arena a = {0};
        _cleanup_(mlc_yaml_done) struct mlc_yaml yaml = {0};
        const struct mat_sink sink = {nothing_begin, keep, nothing_end, &text};
        struct mat_entries unused = {.arena = &a};
        int r;

        *ret = NULL;
        if (d == NULL)
                return 0;
        mlc_str_init(&text, MLC_YAML_MAX);
        mlc_arena_init(&a, (size_t)64 << 20);
        r = plain_layer(in, d, &sink, &unused, err);
        mat_entries_done(&unused);
        if (r == 0)
                r = mlc_yaml_parse(mlc_str_cstr(&text), text.len, &a, &yaml, err);
        if (r < 0)
                return mlc_wrap(err, "model.yaml");
        if (yaml.n_docs == 1)
                *ret = json_deep_copy(yaml.docs[0].json);
        return 0;
}

int mat_layout(const struct mat_in *in, const struct mlc_manifest *m,
               const struct mat_entries *files, struct mlc_serving_layout *ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *yaml = NULL;
        struct mlc_serving_artifact artifact = {.model = in->model, .settings = in->settings};
        struct mlc_serving_layout layout = {.files_under = ""};
        const char **paths;
        int r;

        if (in->ops->layout == NULL) {
                *ret = layout;
                return 0;
        }
        paths = mlc_arena_array(files->arena, files->n, sizeof(*paths), err);
        if (paths == NULL)
                return err->code;
        for (size_t i = 0; i < files->n; i++)
                paths[i] = files->items[i].path;
        r = read_model_yaml(in, m, &yaml, err);
        if (r < 0)
                return r;
        artifact.model_yaml = yaml;
        artifact.paths = paths;
        artifact.n_paths = files->n;
        r = in->ops->layout(&artifact, files->arena, &layout, err);
        if (r < 0)
                return r;
        assert(*layout.files_under != '\0' && strchr(layout.files_under, '/') == NULL);
        assert(layout.n_extra <= ARRAY_LEN(layout.extra));
        *ret = layout;
        return 0;
}

int mat_begin(const struct mat_in *in, struct mlc_arena *a, struct mlc_manifest *ret,
              struct mlc_err *err)
{
        const struct mlc_serving_model *model = in->model;
        struct mlc_digest is;
        char text[MLC_DIGEST_STR], name[MLC_SERVING_NAME_MAX];
        int r = mlc_serving_name(model->model, model->version, name, err);

        if (r < 0)
                return r;
        assert(strcmp(name, model->name) == 0);
        mlc_sha256(in->manifest, in->manifest_len, &is);
        mlc_digest_format(&is, text);
        if (strcmp(text, model->digest) != 0)
                return mlc_fail(err, MLC_E_VERIFY, "the manifest of %s:%llu is not that of %s",
                                model->model, model->version, model->digest);
        r = in->source->included(in->source->userdata, model->model, model->version, model->digest,
                                 err);
        if (r < 0)
                return r;
        r = mlc_manifest_parse(in->manifest, in->manifest_len, NULL, a, ret, err);
        if (r == 0 && ret->is_index)
                return mlc_fail(err, MLC_E_INVALID, "an index cannot be served");
        if (r == 0 && ret->size > MAT_BYTES_MAX)
                return mlc_fail(err, MLC_E_LIMIT, "more than 1 TiB of files");
        return r;
}

int mat_expected(const struct mat_in *in, struct mlc_digest *ret_tree, struct mlc_err *err)
{
        _cleanup_(mlc_arena_done) struct mlc_arena a = {0};
        _cleanup_(mat_entries_done) struct mat_entries files = {.arena = &a};
        _cleanup_(mat_entries_done) struct mat_entries all = {.arena = &a};
        struct mlc_manifest m;
        struct mlc_serving_layout layout;
        int r;

        mlc_arena_init(&a, MAT_ARENA);
        r = mat_begin(in, &a, &m, err);
        if (r == 0)
                r = mat_artifact(in, &m, NULL, &files, err);
        if (r == 0)
                r = mat_layout(in, &m, &files, &layout, err);
        for (size_t i = 0; r == 0 && i < files.n; i++)
                r = mat_entries_add(&all, layout.files_under, &files.items[i], err);
        for (size_t i = 0; r == 0 && i < layout.n_extra; i++) {
                struct mat_entry e = {.path = layout.extra[i].path, .size = layout.extra[i].len};

                mlc_sha256(layout.extra[i].data, layout.extra[i].len, &e.digest);
                r = mat_entries_add(&all, "", &e, err);
        }
        if (r == 0)
                r = mat_entries_sort(&all, err);
        if (r == 0)
                mat_entries_tree(&all, ret_tree);
        return r;
}
