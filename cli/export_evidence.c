/* SPDX-License-Identifier: Apache-2.0 */
/* documents/, evaluations/ and examples/ of an export: what the bundle was made of. */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "crypto/hash.h"
#include "examples.h"
#include "export.h"
#include "layers.h"
#include "policy/evaluation.h"
#include "records.h"

#define CHUNK ((size_t)1 << 16)

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static int put_documents(struct export *e)
{
        _cleanup_(json_decref_p) json_t *documents = NULL;
        const json_t *one;
        size_t i;
        int r = layers_fetch(e->cli, e->bundle, &documents);

        json_array_foreach (documents, i, one) {
                char name[64];

                (void)snprintf(name, sizeof(name), "documents/%zu.json", i + 1);
                if (r == 0)
                        r = export_put_json(e, name, one);
        }
        return r;
}

static int copy(struct export *e, int from, const char *name)
{
        _cleanup_(close_fd) int to = -1;
        struct mlc_sha256 h;
        struct mlc_digest d;
        char path[PATH_MAX], buf[CHUNK];
        size_t n = 1;
        int r = export_path(e, name, path);

        if (r < 0)
                return r;
        to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
        if (to < 0)
                return mlc_fail_errno(&e->cli->err, "write", path);
        mlc_sha256_init(&h);
        while (r == 0 && n > 0) {
                r = mlc_read_full(from, buf, sizeof(buf), &n, &e->cli->err);
                if (r == 0 && n > 0)
                        r = mlc_write_full(to, buf, n, &e->cli->err);
                if (r == 0)
                        mlc_sha256_update(&h, buf, n);
        }
        if (r < 0)
                return r;
        mlc_sha256_final(&h, &d);
        export_sum(e, name, &d);
        return 0;
}

static int put_examples(struct export *e, struct examples *x, const char *digest)
{
        _cleanup_(close_fd) int fd = -1;
        char name[96];
        int r;

        (void)snprintf(name, sizeof(name), "examples/%.64s.csv", digest + strlen("sha256:"));
        if (json_object_get(e->sums, name) != NULL)
                return 0;
        r = examples_open(x, digest, &fd, &e->cli->err);
        return r < 0 ? r : copy(e, fd, name);
}

static int put_record(struct export *e, struct records *records, const char *version,
                      const json_t *record)
{
        const char *id = text_of(record, "id"), *examples = text_of(record, "examples");
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        struct mlc_digest d;
        char name[96];
        int r = mlc_digest_parse(id != NULL ? id : "", &d, &e->cli->err);

        mlc_str_init(&bytes, MLC_EVALUATION_MAX + 1);
        if (r == 0 && examples != NULL)
                r = mlc_digest_parse(examples, &d, &e->cli->err);
        if (r == 0)
                r = records_fetch(records, version, id, &bytes, &e->cli->err);
        if (r < 0)
                return r;
        (void)snprintf(name, sizeof(name), "evaluations/%.64s.json", id + strlen("sha256:"));
        r = export_put(e, name, bytes.data, bytes.len);
        if (r == 0 && examples != NULL && cli_opt(e->cli, "examples") != NULL)
                r = put_examples(e, records->examples, examples);
        return r;
}

static int put_side(struct export *e, struct records *records, const json_t *side,
                    const json_t *list)
{
        const json_t *record;
        char version[24];
        size_t i;

        (void)snprintf(version, sizeof(version), "%lld",
                       (long long)json_integer_value(json_object_get(side, "version")));
        json_array_foreach (list, i, record) {
                int r = put_record(e, records, version, record);

                if (r < 0)
                        return r;
        }
        return 0;
}

int export_evidence(struct export *e)
{
        const char *model = text_of(e->promotion, "model");
        _cleanup_(examples_done) struct examples x = {.cli = e->cli, .model = model};
        struct records records = {.cli = e->cli, .examples = &x};
        const json_t *champion = json_object_get(e->bundle, "champion");
        int r;

        if (e->bundle == NULL) /* a rollback */
                return 0;
        records.userdata = (void *)(uintptr_t)model;
        r = put_documents(e);
        if (r == 0)
                r = put_side(e, &records, json_object_get(e->bundle, "version"),
                             json_object_get(e->bundle, "evaluations"));
        if (r == 0 && json_is_object(champion))
                r = put_side(e, &records, champion, json_object_get(champion, "evaluations"));
        return r;
}
