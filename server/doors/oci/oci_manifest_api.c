/* SPDX-License-Identifier: Apache-2.0 */
#include "base/cleanup.h"
#include "base/str.h"
#include "doors/oci/oci_internal.h"
#include "gen/api.h"
#include "http/http.h"
#include "registry/registry.h"
#include "store/store.h"

static int fail_unknown(struct mlc_ctx *ctx, const char *reference)
{
        mlc_err_clear(&ctx->err);
        return oci_fail(ctx, MLC_E_NOT_FOUND, "MANIFEST_UNKNOWN", "there is no manifest '%s' here",
                        reference);
}

int api_oci_manifest_get(struct mlc_ctx *ctx, const struct api_oci_manifest_get_req *req,
                         struct http_reply *reply)
{
        const char *reference = req->path.reference;
        struct registry_manifest m;
        uint64_t size;
        int fd, r;

        if (!oci_tag_valid(reference) && oci_digest_kind(reference) != OCI_DIGEST_SHA256)
                return fail_unknown(ctx, reference);
        r = registry_manifest_resolve(ctx, req->path.namespace, req->path.model, reference, &m);
        if (r == MLC_E_NOT_FOUND)
                return fail_unknown(ctx, reference);
        if (r < 0)
                return r;
        r = store_open_blob(ctx, m.digest, &fd, &size);
        if (r < 0) {
                if (ctx->err.code ==
                    MLC_E_NOT_FOUND) /* it has a row: the disk lost it, not the client */
                        ctx->err.code = MLC_E_IO;
                return ctx->err.code;
        }
        if (m.warning != NULL) {
                const char *text = ctx_printf(ctx, "299 - \"%s\"", m.warning);

                if (text == NULL) {
                        (void)close(fd);
                        return ctx->err.code;
                }
                http_reply_header(reply, "Warning", text);
        }
        http_reply_header(reply, "Docker-Content-Digest", m.digest);
        http_reply_etag(reply, m.digest);
        http_reply_file(reply, 200, m.media_type, &(struct http_file){.fd = fd, .len = size});
        return 0;
}

/* The registry says in err.field what was wrong with the manifest. */
static int name_put_error(struct mlc_ctx *ctx)
{
        const char *field = ctx->err.field;

        switch (ctx->err.code) {
        case MLC_E_NOT_FOUND:
                return oci_name_error(ctx, mlc_streq(field, "blob") ? "MANIFEST_BLOB_UNKNOWN"
                                                                    : "NAME_UNKNOWN");
        case MLC_E_INVALID:
                return oci_name_error(ctx, mlc_streq(field, "digest") ? "DIGEST_INVALID"
                                                                      : "MANIFEST_INVALID");
        case MLC_E_LIMIT:
                return oci_name_error(ctx, "SIZE_INVALID");
        case MLC_E_CONFLICT:
        case MLC_E_FORBIDDEN:
                return oci_name_error(ctx, "DENIED");
        default:
                return ctx->err.code;
        }
}

static int reply_put(struct mlc_ctx *ctx, struct http_reply *reply, const char *repo,
                     const struct registry_manifest_out *out)
{
        const char *location = ctx_printf(ctx, "/v2/%s/manifests/%s", repo, out->manifest.digest);

        if (location == NULL)
                return ctx->err.code;
        http_reply_header(reply, "Location", location);
        http_reply_header(reply, "Docker-Content-Digest", out->manifest.digest);
        if (out->subject != NULL)
                http_reply_header(reply, "OCI-Subject", out->subject);
        http_reply_empty(reply, 201);
        return 0;
}

int api_oci_manifest_put(struct mlc_ctx *ctx, const struct api_oci_manifest_put_req *req,
                         struct http_reply *reply)
{
        const char *repo = oci_repo(ctx, req->path.namespace, req->path.model);
        struct registry_manifest_in in = {
                .ns = req->path.namespace,
                .model = req->path.model,
                .reference = req->path.reference,
                .media_type = oci_media_type(ctx, http_header(ctx, "Content-Type")),
                .bytes = req->body.data,
                .len = req->body.len,
        };
        struct registry_manifest_out out;
        int r;

        if (repo == NULL || ctx->err.code != 0)
                return ctx->err.code;
        if (!oci_tag_valid(in.reference)) {
                r = oci_digest_need(ctx, in.reference);
                if (r < 0)
                        return r;
        }
        r = registry_manifest_put(ctx, &in, &out);
        if (r < 0)
                return name_put_error(ctx);
        return reply_put(ctx, reply, repo, &out);
}

int api_oci_manifest_delete(struct mlc_ctx *ctx, const struct api_oci_manifest_delete_req *req,
                            struct http_reply *reply)
{
        (void)req;
        (void)reply;
        return oci_fail(ctx, MLC_E_METHOD, "UNSUPPORTED",
                        "versions are not deleted: deprecate or withdraw the version");
}
