/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/cleanup.h"
#include "doors/oci/oci_internal.h"
#include "gen/api.h"
#include "http/http.h"
#include "store/store.h"

/* The body of one request on its way into an upload; in the request's arena. */
struct sink {
        struct store_upload *u; /* NULL: the request has no use for a body */
        bool begun;
        bool keep; /* the client knows where to go on after a broken connection */
        uint64_t first, left; /* of the chunk, when `ranged` */
        bool ranged;
};

static int name_upload_error(struct mlc_ctx *ctx)
{
        switch (ctx->err.code) {
        case MLC_E_NOT_FOUND:
                return oci_name_error(ctx, "BLOB_UPLOAD_UNKNOWN");
        case MLC_E_INVALID:
                return oci_name_error(ctx, "DIGEST_INVALID");
        case MLC_E_TOO_MANY:
        case MLC_E_UNAVAILABLE:
                return oci_name_error(ctx, "TOOMANYREQUESTS");
        case MLC_E_RANGE:
        case MLC_E_CONFLICT:
                return oci_name_error(ctx, "BLOB_UPLOAD_INVALID");
        default:
                return ctx->err.code;
        }
}

/* Content-Range, when it is there, must begin where the upload stands and be as long as the body.
 */
static int check_chunk(struct mlc_ctx *ctx, struct sink *s)
{
        const char *header = http_header(ctx, "Content-Range");
        int64_t length = http_body_length(ctx);
        uint64_t first, last;

        if (header == NULL)
                return 0;
        if (!oci_chunk_range(header, &first, &last))
                return oci_fail(ctx, MLC_E_INVALID, "BLOB_UPLOAD_INVALID",
                                "Content-Range must be FIRST-LAST, two numbers of bytes");
        if (first != store_upload_offset(s->u))
                return oci_fail(ctx, MLC_E_RANGE, "BLOB_UPLOAD_INVALID",
                                "the chunk begins at %" PRIu64
                                ", but the upload stands at %" PRIu64,
                                first, store_upload_offset(s->u));
        if (length >= 0 && (uint64_t)length != last - first + 1)
                return oci_fail(ctx, MLC_E_INVALID, "SIZE_INVALID",
                                "Content-Range and Content-Length differ");
        s->ranged = true;
        s->first = first;
        s->left = last - first + 1;
        return 0;
}

static int sink_begin(struct mlc_ctx *ctx, struct sink *s)
{
        int r = store_upload_begin(ctx, s->u, http_body_length(ctx));

        if (r < 0)
                return name_upload_error(ctx);
        s->begun = true;
        return 0;
}

static void sink_drop(struct mlc_ctx *ctx, struct sink *s)
{
        struct store_upload *u = TAKE_PTR(s->u);

        if (s->keep)
                store_upload_abort(ctx, u);
        else
                store_upload_cancel(u);
}

static int sink_new(struct mlc_ctx *ctx, struct sink **ret)
{
        struct sink *s = ctx_alloc(ctx, sizeof(*s));

        if (s == NULL)
                return ctx->err.code;
        *ret = s;
        return 0;
}

static int sink_write(struct mlc_ctx *ctx, void *sink, const void *data, size_t len)
{
        struct sink *s = sink;
        int r = 0;

        if (s->u == NULL)
                return oci_fail(ctx, MLC_E_INVALID, "SIZE_INVALID",
                                "a body needs the digest in the query, or PATCH");
        if (s->ranged && len > s->left)
                return oci_fail(ctx, MLC_E_INVALID, "SIZE_INVALID",
                                "the body is longer than Content-Range says");
        if (s->ranged)
                s->left -= len;
        if (!s->begun)
                r = sink_begin(ctx, s);
        if (r == 0) {
                r = store_upload_write(ctx, s->u, data, len);
                if (r < 0)
                        r = name_upload_error(ctx);
        }
        return r;
}

/* Opens the upload of a PATCH or PUT, and takes its space when the length is known. */
static int sink_open(struct mlc_ctx *ctx, const char *repo, const char *id, void **ret_sink)
{
        struct sink *s;
        int r = repo == NULL ? ctx->err.code : sink_new(ctx, &s);

        if (r < 0)
                return r;
        s->keep = true;
        r = store_upload_open(ctx, repo, id, &s->u);
        if (r < 0)
                return name_upload_error(ctx);
        r = check_chunk(ctx, s);
        if (r == 0 && http_body_length(ctx) > 0)
                r = sink_begin(ctx, s);
        if (r < 0) {
                sink_drop(ctx, s);
                return r;
        }
        *ret_sink = s;
        return 0;
}

static int reply_going(struct mlc_ctx *ctx, struct http_reply *reply, int status, const char *repo,
                       const char *id, uint64_t offset)
{
        const char *location = ctx_printf(ctx, "/v2/%s/blobs/uploads/%s", repo, id);
        const char *range = ctx_printf(ctx, "0-%" PRIu64, offset > 0 ? offset - 1 : 0);
        const char *exact = ctx_printf(ctx, "%" PRIu64, offset);

        if (location == NULL || range == NULL || exact == NULL)
                return ctx->err.code;
        http_reply_header(reply, "Location", location);
        http_reply_header(reply, "Range", range);
        /* Range says 0-0 for none and for one byte; this says which */
        http_reply_header(reply, "Upload-Offset", exact);
        http_reply_header(reply, "Docker-Upload-UUID", id);
        http_reply_empty(reply, status);
        return 0;
}

static int reply_stored(struct mlc_ctx *ctx, struct http_reply *reply, const char *repo,
                        const char *digest)
{
        const char *location = ctx_printf(ctx, "/v2/%s/blobs/%s", repo, digest);

        if (location == NULL)
                return ctx->err.code;
        http_reply_header(reply, "Location", location);
        http_reply_header(reply, "Docker-Content-Digest", digest);
        http_reply_empty(reply, 201);
        return 0;
}

/* --- POST --- */

int api_oci_upload_start_open(struct mlc_ctx *ctx, const struct api_oci_upload_start_req *req,
                              void **ret_sink)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct sink *s;
        int r = repo == NULL ? ctx->err.code : sink_new(ctx, &s);

        if (r < 0)
                return r;
        if (req->query.digest != NULL && req->query.mount == NULL) {
                r = oci_digest_need(ctx, req->query.digest);
                if (r < 0)
                        return r;
                r = store_upload_create(ctx, repo, &s->u);
                if (r < 0)
                        return name_upload_error(ctx);
                r = sink_begin(ctx, s);
                if (r < 0) {
                        sink_drop(ctx, s);
                        return r;
                }
        }
        *ret_sink = s;
        return 0;
}

int api_oci_upload_start_write(struct mlc_ctx *ctx, void *sink, const void *data, size_t len)
{
        return sink_write(ctx, sink, data, len);
}

void api_oci_upload_start_abort(struct mlc_ctx *ctx, void *sink)
{
        sink_drop(ctx, sink);
}

/* What cannot be mounted, whatever the reason, is uploaded instead. */
static int try_mount(struct mlc_ctx *ctx, const struct api_oci_upload_start_req *req,
                     const char *repo, bool *ret)
{
        *ret = false;
        if (oci_digest_kind(req->query.mount) != OCI_DIGEST_SHA256)
                return 0;
        return store_mount(ctx, repo, req->query.from, req->query.mount, ret);
}

int api_oci_upload_start(struct mlc_ctx *ctx, const struct api_oci_upload_start_req *req,
                         void *sink, struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct sink *s = sink;
        char id[STORE_UPLOAD_ID_MAX];
        bool mounted;
        int r;

        if (s->u != NULL) {
                r = store_upload_finish(ctx, TAKE_PTR(s->u), req->query.digest);
                if (r < 0)
                        return name_upload_error(ctx);
                return repo == NULL ? ctx->err.code
                                    : reply_stored(ctx, reply, repo, req->query.digest);
        }
        if (repo == NULL)
                return ctx->err.code;
        if (req->query.mount != NULL) {
                r = try_mount(ctx, req, repo, &mounted);
                if (r < 0)
                        return r;
                if (mounted)
                        return reply_stored(ctx, reply, repo, req->query.mount);
        }
        r = store_upload_create(ctx, repo, &s->u);
        if (r < 0)
                return name_upload_error(ctx);
        (void)snprintf(id, sizeof(id), "%s", store_upload_id(s->u));
        store_upload_abort(ctx, TAKE_PTR(s->u));
        return reply_going(ctx, reply, 202, repo, id, 0);
}

/* --- PATCH --- */

int api_oci_upload_patch_open(struct mlc_ctx *ctx, const struct api_oci_upload_patch_req *req,
                              void **ret_sink)
{
        return sink_open(ctx, oci_repo(ctx, req->path.namespace, req->path.model), req->path.upload,
                         ret_sink);
}

int api_oci_upload_patch_write(struct mlc_ctx *ctx, void *sink, const void *data, size_t len)
{
        return sink_write(ctx, sink, data, len);
}

void api_oci_upload_patch_abort(struct mlc_ctx *ctx, void *sink)
{
        sink_drop(ctx, sink);
}

int api_oci_upload_patch(struct mlc_ctx *ctx, const struct api_oci_upload_patch_req *req,
                         void *sink, struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct sink *s = sink;
        uint64_t offset = store_upload_offset(s->u);
        int r = store_upload_pause(ctx, TAKE_PTR(s->u));

        if (r < 0)
                return name_upload_error(ctx);
        if (repo == NULL)
                return ctx->err.code;
        if (s->ranged && s->left > 0)
                return oci_fail(ctx, MLC_E_INVALID, "SIZE_INVALID",
                                "the body is shorter than Content-Range says");
        return reply_going(ctx, reply, 202, repo, req->path.upload, offset);
}

/* --- PUT --- */

int api_oci_upload_finish_open(struct mlc_ctx *ctx, const struct api_oci_upload_finish_req *req,
                               void **ret_sink)
{
        int r = oci_digest_need(ctx, req->query.digest);

        if (r < 0)
                return r;
        return sink_open(ctx, oci_repo(ctx, req->path.namespace, req->path.model), req->path.upload,
                         ret_sink);
}

int api_oci_upload_finish_write(struct mlc_ctx *ctx, void *sink, const void *data, size_t len)
{
        return sink_write(ctx, sink, data, len);
}

void api_oci_upload_finish_abort(struct mlc_ctx *ctx, void *sink)
{
        sink_drop(ctx, sink);
}

int api_oci_upload_finish(struct mlc_ctx *ctx, const struct api_oci_upload_finish_req *req,
                          void *sink, struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct sink *s = sink;
        int r;

        if (repo == NULL || (s->ranged && s->left > 0)) {
                sink_drop(ctx, s);
                return repo == NULL ? ctx->err.code
                                    : oci_fail(ctx, MLC_E_INVALID, "SIZE_INVALID",
                                               "the body is shorter than Content-Range says");
        }
        r = store_upload_finish(ctx, TAKE_PTR(s->u), req->query.digest);
        if (r < 0)
                return name_upload_error(ctx);
        return reply_stored(ctx, reply, repo, req->query.digest);
}

/* --- GET, DELETE --- */

int api_oci_upload_status(struct mlc_ctx *ctx, const struct api_oci_upload_status_req *req,
                          struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct store_upload *u;
        uint64_t offset;
        int r;

        if (repo == NULL)
                return ctx->err.code;
        r = store_upload_open(ctx, repo, req->path.upload, &u);
        if (r < 0)
                return name_upload_error(ctx);
        offset = store_upload_offset(u);
        store_upload_abort(ctx, u);
        return reply_going(ctx, reply, 204, repo, req->path.upload, offset);
}

int api_oci_upload_cancel(struct mlc_ctx *ctx, const struct api_oci_upload_cancel_req *req,
                          struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct store_upload *u;
        int r;

        if (repo == NULL)
                return ctx->err.code;
        r = store_upload_open(ctx, repo, req->path.upload, &u);
        if (r < 0)
                return name_upload_error(ctx);
        store_upload_cancel(u);
        http_reply_empty(reply, 204);
        return 0;
}
