/* SPDX-License-Identifier: Apache-2.0 */
#include "client/push.h"

#include <assert.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "archive/archive.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/map.h"
#include "client/parallel.h"
#include "client/upload.h"
#include "crypto/hash.h"
#include "crypto/random.h"

#define READ_SIZE ((size_t)1 << 20)

struct push {
        const struct mlc_push *in;
        struct mlc_plan plan;
        char repository[2 * MLC_NAME_MAX + 2];
        struct mlc_client *clients[MLC_PARALLEL_MAX]; /* one for each worker; [0] is borrowed */
        _Atomic uint64_t sent;
        struct mlc_str config, manifest;
};

static void push_done(struct push *p)
{
        mlc_plan_done(&p->plan);
        for (size_t i = 1; i < MLC_PARALLEL_MAX; i++)
                mlc_client_free(p->clients[i]);
        mlc_str_done(&p->config);
        mlc_str_done(&p->manifest);
}

static void begin(const struct push *p, const char *what, uint64_t total)
{
        if (p->in->meter.phase != NULL)
                p->in->meter.phase(p->in->meter.userdata, what, total);
}

static void moved(void *userdata, int64_t bytes)
{
        const struct push *p = userdata;

        if (p->in->meter.add != NULL)
                p->in->meter.add(p->in->meter.userdata, bytes);
}

static int run_parallel(struct push *p, size_t n,
                        int (*run)(void *, size_t, unsigned, struct mlc_err *), struct mlc_err *err)
{
        const struct mlc_parallel work = {
                .run = run, .userdata = p, .n = n, .threads = p->in->jobs};

        return mlc_parallel_run(&work, err);
}

/* Hashing */

static int open_source(const struct mlc_file *f, int *ret, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = open(f->source, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        struct stat st;

        if (fd < 0 || fstat(fd, &st) < 0)
                return mlc_fail_errno(err, "open", f->source);
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size)
                return mlc_fail(err, MLC_E_CONFLICT, "'%s' changed while it was pushed", f->source);
        *ret = TAKE_FD(fd);
        return 0;
}

static int hash_file(struct push *p, const struct mlc_file *f, struct mlc_sha256 *h,
                     struct mlc_err *err)
{
        _cleanup_(free_p) char *buf = malloc(READ_SIZE);
        _cleanup_(close_fd) int fd = -1;
        int r = open_source(f, &fd, err);

        if (r < 0)
                return r;
        if (buf == NULL)
                abort();
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
        for (uint64_t at = 0; at < f->size;) {
                size_t n = f->size - at < READ_SIZE ? (size_t)(f->size - at) : READ_SIZE;

                r = mlc_pread_exact(fd, buf, n, at, err);
                if (r < 0)
                        return mlc_wrap(err, "'%s'", f->source);
                mlc_sha256_update(h, buf, n);
                at += n;
                moved(p, (int64_t)n);
        }
        return 0;
}

static struct mlc_archive_file *archive_files(const struct mlc_layer_plan *l)
{
        struct mlc_archive_file *files = calloc(l->n, sizeof(*files));

        if (files == NULL)
                abort();
        for (size_t i = 0; i < l->n; i++)
                files[i] = (struct mlc_archive_file){
                        .path = l->files[i]->path,
                        .fd = -1,
                        .source = l->files[i]->source,
                        .size = l->files[i]->size,
                        .executable = l->files[i]->executable,
                };
        return files;
}

static int to_hash(void *userdata, const void *buf, size_t len, struct mlc_err *err)
{
        (void)err;
        mlc_sha256_update(userdata, buf, len);
        return 0;
}

static int hash_layer(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        struct push *p = userdata;
        struct mlc_layer_plan *l = &p->plan.layers[i];
        struct mlc_sha256 h;
        int r;

        (void)worker;
        mlc_sha256_init(&h);
        if (l->tar) {
                _cleanup_(free_p) struct mlc_archive_file *files = archive_files(l);
                const struct mlc_archive_sink sink = {to_hash, &h};

                r = mlc_archive_write(files, l->n, &sink, err);
                moved(p, (int64_t)l->size);
        } else {
                r = hash_file(p, l->files[0], &h, err);
        }
        if (r < 0)
                return r;
        mlc_sha256_final(&h, &l->digest);
        return 0;
}

static int build_manifest(struct push *p, struct mlc_err *err)
{
        _cleanup_(free_p) struct mlc_layer_in *layers = calloc(p->plan.n, sizeof(*layers));

        if (layers == NULL)
                abort();
        for (size_t i = 0; i < p->plan.n; i++) {
                const struct mlc_layer_plan *l = &p->plan.layers[i];

                layers[i] = (struct mlc_layer_in){
                        .path = l->tar ? NULL : l->files[0]->path,
                        .digest = l->digest,
                        .size = l->size,
                        .kind = l->tar ? MLC_LAYER_WEIGHT : mlc_layer_kind_of(l->files[0]->path),
                        .executable = !l->tar && l->files[0]->executable,
                };
        }
        return mlc_manifest_build(layers, p->plan.n, &p->in->lineage, &p->config, &p->manifest,
                                  err);
}

/* Sending */

static int presence(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        struct push *p = userdata;
        struct mlc_layer_plan *l = &p->plan.layers[i];
        bool present = false;
        int r;

        if (!l->missing) /* another layer has the same bytes */
                return 0;
        r = mlc_blob_present(p->clients[worker], p->repository, &l->digest, &present, err);
        if (r < 0)
                return r;
        l->missing = !present;
        return 0;
}

/* Each digest once. */
static void mark_distinct(struct push *p)
{
        char text[MLC_DIGEST_STR];
        struct mlc_map seen;

        mlc_map_init(&seen);
        for (size_t i = 0; i < p->plan.n; i++) {
                mlc_digest_format(&p->plan.layers[i].digest, text);
                p->plan.layers[i].missing = mlc_map_set(&seen, text, &p->plan.layers[i]) == NULL;
        }
        mlc_map_done(&seen, NULL);
}

static int to_fd(void *userdata, const void *buf, size_t len, struct mlc_err *err)
{
        return mlc_write_full(*(int *)userdata, buf, len, err);
}

/* The archive in an unnamed file, so that an upload can go on from any offset. */
static int open_tar(const struct mlc_layer_plan *l, int *ret, struct mlc_err *err)
{
        _cleanup_(free_p) struct mlc_archive_file *files = archive_files(l);
        const char *dir = getenv("TMPDIR");
        _cleanup_(close_fd) int fd = -1;
        int r;

        if (dir == NULL || dir[0] != '/')
                dir = "/tmp";
        fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0)
                fd = memfd_create("layer", MFD_CLOEXEC);
        if (fd < 0)
                return mlc_fail_errno(err, "make a file in", dir);
        r = mlc_archive_write(files, l->n, &(struct mlc_archive_sink){to_fd, &fd}, err);
        if (r < 0)
                return r;
        *ret = TAKE_FD(fd);
        return 0;
}

static int send_layer(void *userdata, size_t i, unsigned worker, struct mlc_err *err)
{
        struct push *p = userdata;
        const struct mlc_layer_plan *l = &p->plan.layers[i];
        _cleanup_(close_fd) int fd = -1;
        struct mlc_upload u = {
                .repository = p->repository,
                .digest = l->digest,
                .size = l->size,
                .state_dir = p->in->state_dir,
                .progress = moved,
                .userdata = p,
        };
        uint64_t sent;
        int r;

        if (!l->missing)
                return 0;
        r = l->tar ? open_tar(l, &fd, err) : open_source(l->files[0], &fd, err);
        if (r < 0)
                return r;
        u.fd = fd;
        r = mlc_upload_blob(p->clients[worker], &u, &sent, err);
        if (r < 0)
                return mlc_wrap(err, "'%s'", l->files[0]->path);
        atomic_fetch_add(&p->sent, sent);
        return 0;
}

static int send_config(struct push *p, struct mlc_err *err)
{
        _cleanup_(close_fd) int fd = memfd_create("config", MFD_CLOEXEC);
        struct mlc_upload u = {.repository = p->repository, .size = p->config.len, .fd = fd};
        bool present = false;
        uint64_t sent;
        int r;

        if (fd < 0)
                return mlc_fail_errno(err, "make", "memory file");
        mlc_sha256(p->config.data, p->config.len, &u.digest);
        r = mlc_blob_present(p->clients[0], p->repository, &u.digest, &present, err);
        if (r < 0 || present)
                return r;
        r = mlc_write_full(fd, p->config.data, p->config.len, err);
        if (r < 0)
                return r;
        return mlc_upload_blob(p->clients[0], &u, &sent, err);
}

static int manifest_present(struct push *p, const char *digest, bool *ret, struct mlc_err *err)
{
        char path[512];
        struct mlc_request req = {.method = "HEAD", .path = path, .allow_error = true};
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        int r;

        (void)snprintf(path, sizeof(path), "/v2/%s/manifests/%s", p->repository, digest);
        r = mlc_client_do(p->clients[0], &req, &res, err);
        if (r < 0)
                return r;
        *ret = res.status == 200;
        return 0;
}

/* A key of this run: a repeated request is answered again, a later push is a request of its own
 * (and learns that the version exists). */
static void make_key(const char *digest, char ret[128])
{
        char uuid[MLC_UUID_STR];

        mlc_uuid4(uuid);
        (void)snprintf(ret, 128, "Idempotency-Key: push-%.16s-%s", digest + strlen("sha256:"),
                       uuid);
}

static int send_manifest(struct push *p, const char *digest, struct mlc_err *err)
{
        char path[512], key[128];
        /* the key lets the request be repeated after a broken connection; a PUT by digest may */
        const char *headers[] = {key, NULL};
        struct mlc_request req = {
                .method = "PUT",
                .path = path,
                .headers = headers,
                .body = p->manifest.data,
                .body_len = p->manifest.len,
                .content_type = MLC_MT_OCI_MANIFEST,
        };
        _cleanup_(mlc_response_done) struct mlc_response res = {0};

        make_key(digest, key);
        (void)snprintf(path, sizeof(path), "/v2/%s/manifests/%s", p->repository, digest);
        return mlc_client_do(p->clients[0], &req, &res, err);
}

static int make_version(struct push *p, const char *digest, json_t **ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *body = json_pack("{s:s}", "digest", digest);
        _cleanup_(mlc_response_done) struct mlc_response res = {0};
        _cleanup_(free_p) char *text = NULL;
        char path[512], key[128];
        const char *headers[] = {key, NULL};
        struct mlc_request req = {.method = "POST", .path = path, .headers = headers};
        int r;

        if (json_object_size(p->in->labels) > 0)
                (void)json_object_set(body, "labels", (json_t *)(uintptr_t)p->in->labels);
        if (json_object_size(p->in->metrics) > 0)
                (void)json_object_set(body, "metrics", (json_t *)(uintptr_t)p->in->metrics);
        if (p->in->alias != NULL)
                (void)json_object_set_new(body, "alias", json_string(p->in->alias));
        text = json_dumps(body, JSON_COMPACT);
        if (text == NULL)
                return mlc_fail(err, MLC_E_INVALID, "labels and alias must be valid UTF-8");
        req.body = text;
        req.body_len = strlen(text);
        make_key(digest, key);
        (void)snprintf(path, sizeof(path), "/api/v1/models/%s/%s/versions", p->in->ns,
                       p->in->model);
        r = mlc_client_do(p->clients[0], &req, &res, err);
        if (r < 0)
                return r;
        return mlc_json_parse(mlc_str_cstr(&res.body), res.body.len, ret, err);
}

static int clone_clients(struct push *p, struct mlc_client *c, struct mlc_err *err)
{
        p->clients[0] = c;
        for (unsigned i = 1; i < p->in->jobs; i++) {
                int r = mlc_client_clone(c, &p->clients[i], err);

                if (r < 0)
                        return r;
        }
        return 0;
}

/* Marks what is missing and returns how much that is. */
static int find_missing(struct push *p, uint64_t *ret, struct mlc_err *err)
{
        uint64_t bytes = 0;
        int r;

        mark_distinct(p);
        r = run_parallel(p, p->plan.n, presence, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < p->plan.n; i++)
                if (p->plan.layers[i].missing)
                        bytes += p->plan.layers[i].size;
        *ret = bytes;
        return 0;
}

static int send_all(struct push *p, struct mlc_push_result *out, struct mlc_err *err)
{
        bool known = false;
        uint64_t missing = 0;
        int r = manifest_present(p, out->digest, &known, err);

        if (r < 0)
                return r;
        if (!known) {
                r = find_missing(p, &missing, err);
                if (r < 0)
                        return r;
        }
        out->bytes_sent = missing;
        if (p->in->dry_run)
                return 0;
        if (!known) {
                begin(p, "pushing", missing);
                r = run_parallel(p, p->plan.n, send_layer, err);
                if (r < 0)
                        return r;
                r = send_config(p, err);
                if (r < 0)
                        return r;
                r = send_manifest(p, out->digest, err);
                if (r < 0)
                        return r;
        }
        out->bytes_sent = atomic_load(&p->sent);
        return make_version(p, out->digest, &out->version, err);
}

int mlc_push_run(struct mlc_client *c, const struct mlc_push *in, struct mlc_push_result *ret,
                 struct mlc_err *err)
{
        _cleanup_(push_done) struct push p = {.in = in};
        struct mlc_push_result out = {0};
        struct mlc_digest digest;
        int r;

        mlc_str_init(&p.config, MLC_MANIFEST_MAX);
        mlc_str_init(&p.manifest, MLC_MANIFEST_MAX);
        (void)snprintf(p.repository, sizeof(p.repository), "%s/%s", in->ns, in->model);
        r = clone_clients(&p, c, err);
        if (r < 0)
                return r;
        r = mlc_plan_layers(in->files, &p.plan, err);
        if (r < 0)
                return r;
        for (size_t i = 0; i < p.plan.n; i++)
                out.bytes += p.plan.layers[i].size;
        out.n_layers = p.plan.n;
        begin(&p, "hashing", out.bytes);
        r = run_parallel(&p, p.plan.n, hash_layer, err);
        if (r < 0)
                return r;
        r = build_manifest(&p, err);
        if (r < 0)
                return r;
        mlc_sha256(p.manifest.data, p.manifest.len, &digest);
        mlc_digest_format(&digest, out.digest);
        r = send_all(&p, &out, err);
        if (r < 0)
                return r;
        *ret = out;
        return 0;
}
