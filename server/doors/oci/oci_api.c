/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "codec/json.h"
#include "doors/oci/oci_internal.h"
#include "gen/api.h"
#include "http/http.h"
#include "registry/registry.h"
#include "store/store.h"

#define TAGS_MAX 1000 /* in one reply; Link leads on */
#define ANNOTATED_MAX (64u << 10) /* annotations of longer manifests are not copied */

int api_oci_ping(struct mlc_ctx *ctx, const struct api_oci_ping_req *req, struct http_reply *reply)
{
        (void)ctx;
        (void)req;
        http_reply_header(reply, "Docker-Distribution-API-Version", "registry/2.0");
        http_reply_json(reply, 200, json_object());
        return 0;
}

static int fail_blob_unknown(struct mlc_ctx *ctx, const char *digest)
{
        return oci_fail(ctx, MLC_E_NOT_FOUND, "BLOB_UNKNOWN", "there is no blob '%s' here", digest);
}

int api_oci_blob_get(struct mlc_ctx *ctx, const struct api_oci_blob_get_req *req,
                     struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        const char *digest = req->path.digest;
        uint64_t size;
        int64_t present;
        int fd, r;

        if (repo == NULL)
                return ctx->err.code;
        switch (oci_digest_kind(digest)) {
        case OCI_DIGEST_MALFORMED:
                return oci_digest_need(ctx, digest);
        case OCI_DIGEST_OTHER:
                return fail_blob_unknown(ctx, digest);
        default:
                break;
        }
        r = store_has(ctx, NULL, repo, digest, &present);
        if (r < 0)
                return r;
        if (present < 0)
                return fail_blob_unknown(ctx, digest);
        r = store_open_blob(ctx, digest, &fd, &size);
        if (r < 0) {
                if (ctx->err.code ==
                    MLC_E_NOT_FOUND) /* it has a row: the disk lost it, not the client */
                        ctx->err.code = MLC_E_IO;
                return ctx->err.code;
        }
        http_reply_header(reply, "Docker-Content-Digest", digest);
        http_reply_etag(reply, digest);
        return http_reply_file_ranged(ctx, reply, "application/octet-stream", fd, size);
}

int api_oci_blob_delete(struct mlc_ctx *ctx, const struct api_oci_blob_delete_req *req,
                        struct http_reply *reply)
{
        (void)req;
        (void)reply;
        return oci_fail(ctx, MLC_E_METHOD, "UNSUPPORTED", "blobs are not deleted");
}

/* One more than asked for tells whether there is a next page; *n is then cut off. */
static int add_next(struct mlc_ctx *ctx, const struct api_oci_tags_list_req *req, json_t *tags,
                    int64_t n, struct http_reply *reply)
{
        const char *link;

        if (n == 0 || (int64_t)json_array_size(tags) <= n)
                return 0;
        (void)json_array_remove(tags, (size_t)n);
        link = ctx_printf(ctx, "</v2/%s/%s/tags/list?n=%" PRId64 "&last=%s>; rel=\"next\"",
                          req->path.namespace, req->path.model, n,
                          json_string_value(json_array_get(tags, (size_t)n - 1)));
        if (link == NULL)
                return ctx->err.code;
        http_reply_header(reply, "Link", link);
        return 0;
}

int api_oci_tags_list(struct mlc_ctx *ctx, const struct api_oci_tags_list_req *req,
                      struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        _cleanup_(json_decref_p) json_t *tags = NULL;
        int64_t n = req->query.has_n && req->query.n < TAGS_MAX ? req->query.n : TAGS_MAX;
        int r;

        if (repo == NULL)
                return ctx->err.code;
        r = registry_tags(ctx, req->path.namespace, req->path.model, req->query.last, n + 1, &tags);
        if (r < 0)
                return r == MLC_E_NOT_FOUND ? oci_name_error(ctx, "NAME_UNKNOWN") : r;
        if (n == 0)
                (void)json_array_clear(tags);
        r = add_next(ctx, req, tags, n, reply);
        if (r < 0)
                return r;
        http_reply_json(reply, 200, json_pack("{s:s,s:O}", "name", repo, "tags", tags));
        return 0;
}

/* A descriptor carries the annotations of its manifest (distribution-spec, "Listing Referrers"). */
static int add_annotations(struct mlc_ctx *ctx, json_t *descriptor)
{
        const char *digest = json_string_value(json_object_get(descriptor, "digest"));
        _cleanup_(json_decref_p) json_t *manifest = NULL;
        _cleanup_(close_fd) int fd = -1;
        _cleanup_(free_p) char *buf = NULL;
        json_t *annotations;
        uint64_t size;
        int r = store_open_blob(ctx, digest, &fd, &size);

        if (r < 0 || size > ANNOTATED_MAX)
                return r;
        buf = malloc((size_t)size + 1);
        if (buf == NULL)
                abort();
        r = mlc_pread_exact(fd, buf, (size_t)size, 0, &ctx->err);
        if (r < 0)
                return r;
        manifest = json_loadb(buf, (size_t)size, MLC_JSON_FLAGS, NULL);
        annotations = json_object_get(manifest, "annotations");
        if (json_object_size(annotations) > 0)
                (void)json_object_set(descriptor, "annotations", annotations);
        return 0;
}

int api_oci_referrers(struct mlc_ctx *ctx, const struct api_oci_referrers_req *req,
                      struct http_reply *reply)
{
        static const char index_type[] = "application/vnd.oci.image.index.v1+json";
        _cleanup_(json_decref_p) json_t *list = NULL;
        _cleanup_(json_decref_p) json_t *index = NULL;
        _cleanup_(free_p) char *text = NULL;
        enum oci_digest kind = oci_digest_kind(req->path.digest);
        int r = 0;

        if (kind == OCI_DIGEST_MALFORMED)
                return oci_digest_need(ctx, req->path.digest);
        if (kind == OCI_DIGEST_SHA256)
                r = registry_referrers(ctx, req->path.namespace, req->path.model, req->path.digest,
                                       req->query.artifactType, &list);
        else
                list = json_array(); /* nothing can refer to what is not stored */
        for (size_t i = 0; r == 0 && i < json_array_size(list); i++)
                r = add_annotations(ctx, json_array_get(list, i));
        if (r < 0)
                return r;
        index = json_pack("{s:i,s:s,s:O}", "schemaVersion", 2, "mediaType", index_type, "manifests",
                          list);
        text = json_dumps(index, JSON_COMPACT);
        if (text == NULL)
                return ctx_fail(ctx, MLC_E_INTERNAL, "cannot write the index of referrers");
        if (req->query.artifactType != NULL)
                http_reply_header(reply, "OCI-Filters-Applied", "artifactType");
        http_reply_bytes(reply, 200, index_type, text, strlen(text));
        return 0;
}
