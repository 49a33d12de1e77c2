/* SPDX-License-Identifier: Apache-2.0 */
#include "records.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "policy/evaluation.h"
#include "policy/examples.h"
#include "resource.h"

#define ARENA_MAX ((size_t)64 << 20)

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static int wrong(struct records *r, const json_t *record, const char *what)
{
        const char *id = text_of(record, "id");

        mlc_err_clear(&r->cli->err);
        return mlc_fail(&r->cli->err, MLC_E_VERIFY, "evaluation '%.80s': %s", id != NULL ? id : "?",
                        what);
}

/* The id is that of what it names, and it is of this manifest. */
static int check_id(struct records *r, const json_t *record, const char *manifest)
{
        const char *examples = text_of(record, "examples"), *id = text_of(record, "id");
        struct mlc_digest m, s, x, want;
        struct mlc_err *err = &r->cli->err;
        char text[MLC_DIGEST_STR];

        if (!mlc_streq(text_of(record, "manifest"), manifest) || id == NULL ||
            text_of(record, "submitted") == NULL)
                return wrong(r, record, "it is of another version");
        if (mlc_digest_parse(manifest, &m, err) < 0 ||
            mlc_digest_parse(text_of(record, "submitted"), &s, err) < 0 ||
            (examples != NULL && mlc_digest_parse(examples, &x, err) < 0))
                return err->code;
        mlc_evaluation_id(&m, &s, examples != NULL ? &x : NULL, &want);
        mlc_digest_format(&want, text);
        return strcmp(text, id) == 0 ? 0 : wrong(r, record, "its id is not that of its content");
}

struct submitted {
        struct mlc_evaluation e;
        json_t *doc; /* owned; e borrows from it */
};

static void submitted_done(struct submitted *s)
{
        json_decref(s->doc);
}

/* The bytes have the digest, and `document` is what they say. */
static int check_bytes(struct records *r, const json_t *record, const struct mlc_str *bytes,
                       struct mlc_arena *a, struct submitted *ret)
{
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;
        int rc;

        mlc_sha256(bytes->data, bytes->len, &d);
        mlc_digest_format(&d, text);
        if (!mlc_streq(text, text_of(record, "submitted")))
                return wrong(r, record, "the bytes are not those that were submitted");
        rc = mlc_evaluation_parse(mlc_str_cstr(bytes), bytes->len, a, &ret->doc, &ret->e,
                                  &r->cli->err);
        if (rc < 0)
                return wrong(r, record, "what was submitted is no evaluation");
        if (!json_equal(ret->doc, json_object_get(record, "document")))
                return wrong(r, record, "'document' is not what was submitted");
        return 0;
}

/* *ret stays NULL when they are not there and need not be. */
static int load(struct records *r, const json_t *record, struct mlc_examples **ret)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
        const char *digest = text_of(record, "examples");
        _cleanup_(close_fd) int fd = -1;
        struct mlc_examples_in in;
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;
        int rc = examples_open(r->examples, digest, &fd, &r->cli->err);

        if (rc == MLC_E_LIMIT || (rc == MLC_E_NOT_FOUND && r->may_lack)) {
                out_note(r->cli, "not recomputed: %s", r->cli->err.msg);
                mlc_err_clear(&r->cli->err);
                r->left_out++;
                return 0;
        }
        if (rc < 0)
                return mlc_wrap(&r->cli->err, "the examples '%s'", digest);
        mlc_examples_in_fd(&in, &fd);
        rc = mlc_examples_load(&in, &x, &d, &r->cli->err);
        if (rc < 0)
                return mlc_wrap(&r->cli->err, "the examples '%s'", digest);
        mlc_digest_format(&d, text);
        if (strcmp(text, digest) != 0)
                return wrong(r, record, "the examples have another digest");
        *ret = TAKE_PTR(x);
        return 0;
}

static int check_recomputed(struct records *r, const json_t *record, const struct mlc_evaluation *e)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
        _cleanup_(json_decref_p) json_t *list = NULL;
        const json_t *served = json_object_get(record, "recomputed");
        struct mlc_err why = {0};
        int rc;

        if (text_of(record, "examples") == NULL)
                return json_array_size(served) == 0
                               ? 0
                               : wrong(r, record, "'recomputed' without examples");
        rc = load(r, record, &x);
        if (rc < 0 || x == NULL)
                return rc;
        if (mlc_examples_compare(x, e, &why) < 0)
                return wrong(r, record, "the examples contradict what was submitted");
        rc = mlc_examples_recompute(x, e, &list, &r->cli->err);
        if (rc < 0)
                return rc;
        if (!json_equal(list, served))
                return wrong(r, record, "'recomputed' is not what the examples give");
        r->recomputed++;
        return 0;
}

static int check_one(struct records *r, const json_t *record, const char *version,
                     const char *manifest)
{
        _cleanup_(mlc_arena_done) struct mlc_arena arena;
        _cleanup_(submitted_done) struct submitted s = {0};
        _cleanup_(mlc_str_done) struct mlc_str bytes;
        int rc = check_id(r, record, manifest);

        mlc_arena_init(&arena, ARENA_MAX);
        mlc_str_init(&bytes, MLC_EVALUATION_MAX + 1);
        if (rc == 0) {
                rc = r->document(r, version, text_of(record, "id"), &bytes, &r->cli->err);
                if (rc == MLC_E_NOT_FOUND)
                        return wrong(r, record, "there are no bytes that were submitted");
        }
        if (rc == 0)
                rc = check_bytes(r, record, &bytes, &arena, &s);
        if (rc == 0 && !json_is_true(json_object_get(record, "withdrawn")))
                rc = check_recomputed(r, record, &s.e);
        r->checked += rc == 0;
        return rc;
}

/* side: {"version","digest","evaluations"} */
static int check_side(struct records *r, const json_t *side, const json_t *list)
{
        const json_t *record;
        char version[24];
        size_t i;

        (void)snprintf(version, sizeof(version), "%" JSON_INTEGER_FORMAT,
                       json_integer_value(json_object_get(side, "version")));
        json_array_foreach (list, i, record) {
                int rc = check_one(r, record, version, text_of(side, "digest"));

                if (rc < 0)
                        return rc;
        }
        return 0;
}

int records_check(struct records *r, const json_t *bundle)
{
        const json_t *champion = json_object_get(bundle, "champion");
        int rc = check_side(r, json_object_get(bundle, "version"),
                            json_object_get(bundle, "evaluations"));

        if (rc < 0 || !json_is_object(champion))
                return rc;
        rc = check_side(r, champion, json_object_get(champion, "evaluations"));
        return rc < 0 ? mlc_wrap(&r->cli->err, "the champion") : 0;
}

int records_fetch(struct records *r, const char *version, const char *id, struct mlc_str *ret,
                  struct mlc_err *err)
{
        _cleanup_(mlc_response_done) struct mlc_response reply = {0};
        _cleanup_(mlc_str_done) struct mlc_str path;
        struct mlc_request request = {.method = "GET", .reply_max = MLC_EVALUATION_MAX};
        int rc;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_addf(&path, "/api/v1/models/%s/versions/%s/evaluations/", (const char *)r->userdata,
                     version);
        mlc_url_encode(&path, id);
        mlc_str_add(&path, "/document");
        rc = mlc_str_check(&path, err);
        if (rc < 0)
                return rc;
        request.path = mlc_str_cstr(&path);
        rc = mlc_client_do(r->cli->client, &request, &reply, err);
        if (rc < 0)
                return rc;
        mlc_str_addn(ret, reply.body.data, reply.body.len);
        return mlc_str_check(ret, err);
}
