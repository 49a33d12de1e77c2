/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <assert.h>

#include "base/map.h"
#include "tlog/source.h"

/* A log in memory for the tests: path -> file. */
struct memlog {
        struct mlc_map files;
        struct mlc_tiler tiler;
        struct mlc_str bundle; /* entries since the last full one */
        struct mlc_signer key;
        struct mlc_vkey vkey;
};

struct memfile {
        size_t len;
        char data[];
};

static inline void memlog_put(struct memlog *m, const char *path, const void *data, size_t len)
{
        struct memfile *f = malloc(sizeof(*f) + len + 1);

        assert(f != NULL);
        f->len = len;
        memcpy(f->data, data, len);
        f->data[len] = '\0';
        free(mlc_map_set(&m->files, path, f));
}

static inline int memlog_emit(void *userdata, const struct mlc_tile *t,
                              const struct mlc_digest *hashes, struct mlc_err *err)
{
        char path[MLC_TILE_PATH_MAX];

        (void)err;
        mlc_tile_path(t, path);
        memlog_put(userdata, path, hashes, t->width * 32u);
        return 0;
}

static inline int memlog_read(void *userdata, const char *path, size_t max,
                              struct mlc_tlog_file *ret, struct mlc_err *err)
{
        struct memlog *m = userdata;
        struct memfile *f = mlc_map_get(&m->files, path);

        if (f == NULL)
                return mlc_fail(err, MLC_E_NOT_FOUND, "no '%s'", path);
        if (f->len > max)
                return mlc_fail(err, MLC_E_LIMIT, "'%s' is too long", path);
        ret->data = malloc(f->len + 1);
        assert(ret->data != NULL);
        memcpy(ret->data, f->data, f->len + 1);
        ret->len = f->len;
        return 0;
}

static inline struct mlc_tlog_source memlog_source(struct memlog *m)
{
        return (struct mlc_tlog_source){.read = memlog_read, .userdata = m};
}

static inline struct memlog *memlog_new(const char *origin)
{
        struct memlog *m = calloc(1, sizeof(*m));
        struct mlc_err err = {0};

        assert(m != NULL);
        mlc_map_init(&m->files);
        mlc_str_init(&m->bundle, MLC_BUNDLE_MAX);
        m->tiler.emit = memlog_emit;
        m->tiler.userdata = m;
        if (mlc_signer_generate(&m->key, &err) < 0 ||
            mlc_vkey_make(origin, m->key.pub, &m->vkey, &err) < 0)
                abort();
        return m;
}

static inline void memlog_free(struct memlog *m)
{
        mlc_map_done(&m->files, free);
        mlc_str_done(&m->bundle);
        mlc_signer_done(&m->key);
        free(m);
}

static inline void memlog_add(struct memlog *m, const void *entry, size_t len)
{
        struct mlc_tile t = {MLC_TILE_ENTRIES, m->tiler.size / 256, 256};
        char path[MLC_TILE_PATH_MAX];
        struct mlc_digest hash;
        struct mlc_err err = {0};

        mlc_merkle_leaf(entry, len, &hash);
        if (mlc_bundle_add(&m->bundle, entry, len, &err) < 0 ||
            mlc_tiler_append(&m->tiler, &hash, &err) < 0)
                abort();
        if (m->tiler.size % 256 == 0) {
                mlc_tile_path(&t, path);
                memlog_put(m, path, m->bundle.data, m->bundle.len);
                mlc_str_reset(&m->bundle);
        }
}

/* Partial tiles and a signed checkpoint. */
static inline void memlog_publish(struct memlog *m)
{
        struct mlc_tile t = {MLC_TILE_ENTRIES, m->tiler.size / 256,
                             (unsigned)(m->tiler.size % 256)};
        const struct mlc_note_signer signer = {m->vkey.name, &m->key};
        struct mlc_checkpoint cp = {.size = m->tiler.size};
        char path[MLC_TILE_PATH_MAX];
        struct mlc_str text, note;
        struct mlc_err err = {0};

        mlc_str_init(&text, 4096);
        mlc_str_init(&note, 4096);
        if (mlc_tiler_flush(&m->tiler, &err) < 0)
                abort();
        if (t.width > 0) {
                mlc_tile_path(&t, path);
                memlog_put(m, path, m->bundle.data, m->bundle.len);
        }
        (void)snprintf(cp.origin, sizeof(cp.origin), "%s", m->vkey.name);
        mlc_tiler_root(&m->tiler, &cp.root);
        mlc_checkpoint_format(&cp, &text);
        if (mlc_note_sign(text.data, &signer, 1, &note, &err) < 0)
                abort();
        memlog_put(m, "checkpoint", note.data, note.len);
        mlc_str_done(&text);
        mlc_str_done(&note);
}
