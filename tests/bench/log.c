/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench-log make DIR N: writes a log of N entries (its founding, then an alias that moves) with the
 * code of lib/tlog, unsynced; prints its verifier key.
 * bench-log verify DIR VKEY: leaf hashes, tiles, root and signature. bench-log replay DIR VKEY: the
 * same, and every leaf parsed and folded into the state. bench-log hash DIR N: the floor, SHA-256
 * over the bytes of the entry bundles. The last three print {"entries","bytes","seconds"}; seconds
 * are those of the processor.
 */
#include <stdlib.h>
#include <time.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "crypto/hash.h"
#include "tlog/replay.h"

#define ORIGIN "bench/log"
#define START_MS 1764000000000
#define ALIASES 1000

static void die(const struct mlc_err *err)
{
        (void)fprintf(stderr, "bench-log: %s\n", err->msg);
        exit(1);
}

static double cpu_seconds(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int print_result(uint64_t entries, uint64_t bytes, double start)
{
        (void)printf("{\"entries\":%llu,\"bytes\":%llu,\"seconds\":%.6f}\n",
                     (unsigned long long)entries, (unsigned long long)bytes, cpu_seconds() - start);
        return 0;
}

struct writer {
        const char *dir;
        struct mlc_tiler tiler;
        struct mlc_str bundle;
};

static int put_file(const char *dir, const char *name, const struct mlc_str *data,
                    struct mlc_err *err)
{
        char path[4096], *slash;
        FILE *f;

        (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
        slash = strrchr(path, '/');
        *slash = '\0';
        if (mlc_mkdirs(path, 0700, err) < 0)
                return err->code;
        *slash = '/';
        f = fopen(path, "we");
        if (f == NULL || fwrite(data->data, 1, data->len, f) != data->len || fclose(f) != 0)
                return mlc_fail_errno(err, "write", path);
        return 0;
}

static int emit(void *userdata, const struct mlc_tile *t, const struct mlc_digest *hashes,
                struct mlc_err *err)
{
        struct mlc_tile entries = {MLC_TILE_ENTRIES, t->index, t->width};
        _cleanup_(mlc_str_done) struct mlc_str tile;
        struct writer *w = userdata;
        char path[MLC_TILE_PATH_MAX];
        int r;

        mlc_str_init(&tile, MLC_TILE_BYTES);
        for (unsigned i = 0; i < t->width; i++)
                mlc_str_addn(&tile, hashes[i].b, sizeof(hashes[i].b));
        mlc_tile_path(t, path);
        r = put_file(w->dir, path, &tile, err);
        if (r < 0 || t->level > 0)
                return r;
        mlc_tile_path(&entries, path);
        r = put_file(w->dir, path, &w->bundle, err);
        mlc_str_reset(&w->bundle);
        return r;
}

static void append(struct writer *w, const struct mlc_leaf_in *in)
{
        _cleanup_(mlc_str_done) struct mlc_str leaf;
        struct mlc_digest hash;
        struct mlc_err err = {0};

        mlc_str_init(&leaf, MLC_ENTRY_MAX);
        if (mlc_leaf_build(in, &leaf, &err) < 0 ||
            mlc_bundle_add(&w->bundle, leaf.data, leaf.len, &err) < 0)
                die(&err);
        mlc_merkle_leaf(leaf.data, leaf.len, &hash);
        if (mlc_tiler_append(&w->tiler, &hash, &err) < 0)
                die(&err);
}

static void append_founding(struct writer *w, const char *vkey)
{
        _cleanup_(json_decref_p) json_t *state =
                json_pack("{s:[s], s:n}", "keys", vkey, "predecessor");
        const struct mlc_leaf_in in = {.origin = ORIGIN,
                                       .actor = "system",
                                       .action = "log.create",
                                       .kind = MLC_REPLAY_KIND_LOG,
                                       .id = ORIGIN,
                                       .time_ms = START_MS,
                                       .after = state};

        append(w, &in);
}

static json_t *alias_state(uint64_t alias, uint64_t version)
{
        static const char digest[] =
                "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";
        char name[32];

        if (version == 0)
                return NULL;
        (void)snprintf(name, sizeof(name), "a%llu", (unsigned long long)alias);
        return json_pack("{s:s, s:s, s:I, s:s}", "model", "bench/model", "alias", name, "version",
                         (json_int_t)version, "digest", digest);
}

static void append_move(struct writer *w, uint64_t i)
{
        uint64_t alias = i % ALIASES, version = 1 + i / ALIASES;
        _cleanup_(json_decref_p) json_t *before = alias_state(alias, version - 1);
        _cleanup_(json_decref_p) json_t *after = alias_state(alias, version);
        _cleanup_(json_decref_p) json_t *detail =
                json_pack("{s:s, s:s}", "at", "2026-11-24T06:47:36.123Z", "token", "t0123456789ab");
        char id[64];
        const struct mlc_leaf_in in = {.origin = ORIGIN,
                                       .actor = "u0123456789ab",
                                       .action = "alias.set",
                                       .kind = "alias",
                                       .id = id,
                                       .time_ms = START_MS + (int64_t)i,
                                       .before = before,
                                       .after = after,
                                       .detail = detail};

        (void)snprintf(id, sizeof(id), "bench/model:a%llu", (unsigned long long)alias);
        append(w, &in);
}

static int make(const char *dir, uint64_t n)
{
        _cleanup_(mlc_str_done) struct mlc_str vkey, text, note;
        _cleanup_(mlc_signer_done) struct mlc_signer key = {0};
        struct mlc_note_signer by = {ORIGIN, &key};
        struct mlc_checkpoint cp = {.origin = ORIGIN, .size = n};
        struct writer *w = calloc(1, sizeof(*w));
        struct mlc_vkey v;
        struct mlc_err err = {0};

        mlc_str_init(&vkey, 4096);
        mlc_str_init(&text, 4096);
        mlc_str_init(&note, MLC_NOTE_MAX);
        if (w == NULL || mlc_signer_generate(&key, &err) < 0 ||
            mlc_vkey_make(ORIGIN, key.pub, &v, &err) < 0)
                die(&err);
        mlc_vkey_format(&v, &vkey);
        w->dir = dir;
        w->tiler.emit = emit;
        w->tiler.userdata = w;
        mlc_str_init(&w->bundle, MLC_BUNDLE_MAX);
        append_founding(w, mlc_str_cstr(&vkey));
        for (uint64_t i = 0; i + 1 < n; i++)
                append_move(w, i);
        if (mlc_tiler_flush(&w->tiler, &err) < 0)
                die(&err);
        mlc_tiler_root(&w->tiler, &cp.root);
        mlc_checkpoint_format(&cp, &text);
        if (mlc_note_sign(mlc_str_cstr(&text), &by, 1, &note, &err) < 0 ||
            put_file(dir, "checkpoint", &note, &err) < 0)
                die(&err);
        mlc_str_done(&w->bundle);
        free(w);
        (void)puts(mlc_str_cstr(&vkey));
        return 0;
}

struct reader {
        struct mlc_replay *replay;
        uint64_t bytes;
};

static int on_leaf(void *userdata, uint64_t index, const struct mlc_tlog_row *row,
                   struct mlc_err *err)
{
        struct reader *r = userdata;

        r->bytes += row->len;
        return r->replay == NULL ? 0 : mlc_replay_leaf(r->replay, index, row->leaf, row->len, err);
}

static int verify(const char *dir, const char *vkey, bool replay)
{
        _cleanup_(mlc_replay_free) struct mlc_replay *fold = replay ? mlc_replay_new() : NULL;
        struct reader reader = {.replay = fold};
        struct mlc_tlog_verify v = {
                .src = mlc_tlog_source_dir(dir), .leaf = on_leaf, .userdata = &reader};
        struct mlc_tlog_finding finding;
        double start = cpu_seconds();
        struct mlc_checkpoint cp;
        struct mlc_err err = {0};
        struct mlc_vkey key;

        if (mlc_vkey_parse(vkey, &key, &err) < 0)
                die(&err);
        v.keys = (struct mlc_vkeys){&key, 1};
        if (mlc_tlog_verify(&v, &cp, &finding, &err) < 0)
                die(&err);
        return print_result(cp.size, reader.bytes, start);
}

static int hash_bundles(const char *dir, uint64_t n)
{
        char path[4096], name[MLC_TILE_PATH_MAX];
        double start = cpu_seconds();
        struct mlc_sha256 hash;
        struct mlc_digest digest;
        struct mlc_err err = {0};
        uint64_t bytes = 0;

        mlc_sha256_init(&hash);
        for (uint64_t i = 0; i * MLC_TILE_WIDTH < n; i++) {
                struct mlc_tile t = {MLC_TILE_ENTRIES, i, mlc_tile_width(0, i, n)};
                _cleanup_(free_p) char *data = NULL;
                size_t len;

                mlc_tile_path(&t, name);
                (void)snprintf(path, sizeof(path), "%s/%s", dir, name);
                if (mlc_read_file(path, MLC_BUNDLE_MAX, &data, &len, &err) < 0)
                        die(&err);
                mlc_sha256_update(&hash, data, len);
                bytes += len;
        }
        mlc_sha256_final(&hash, &digest);
        return print_result(n, bytes, start);
}

int main(int argc, char **argv)
{
        unsigned long long n = 0;

        if (argc != 4)
                return 2;
        if (strcmp(argv[1], "verify") == 0)
                return verify(argv[2], argv[3], false);
        if (strcmp(argv[1], "replay") == 0)
                return verify(argv[2], argv[3], true);
        if (!mlc_parse_u64(argv[3], &n) || n == 0)
                return 2;
        if (strcmp(argv[1], "make") == 0)
                return make(argv[2], n);
        return strcmp(argv[1], "hash") == 0 ? hash_bundles(argv[2], n) : 2;
}
