/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>

#include "base/log.h"
#include "http/problem.h"
#include "http/request.h"

#define RETRY_AFTER_S "1"

static bool is_oci(const struct http_request *r)
{
        if (r->op != NULL)
                return r->op->oci;
        return strncmp(r->uri, "/v2/", 4) == 0; /* as sent: it may not even decode */
}

/* The member that says which part of the request is at fault. */
static void add_errors(json_t *doc, const struct mlc_err *err)
{
        const char *field = err->field, *name = "parameter";
        json_t *e;

        if (field[0] == '\0' || strncmp(field, "oci:", 4) == 0)
                return;
        if (field[0] == '/') {
                name = "pointer";
        } else if (strncmp(field, "header:", 7) == 0) {
                name = "header";
                field += 7;
        } else if (strncmp(field, "query:", 6) != 0 && strncmp(field, "path:", 5) != 0) {
                return; /* a constraint's name, for instance, is nothing for the client */
        }
        e = json_pack("{s:s, s:s}", name, field, "detail", err->msg);
        if (e != NULL)
                (void)json_object_set_new(doc, "errors", json_pack("[o]", e));
}

/* What failed inside is for the log; the client gets the trace id to quote. */
static const char *detail_of(const struct mlc_err *err)
{
        if (err->code == MLC_E_INTERNAL || err->code == MLC_E_IO)
                return "the server failed; its log has the details under this trace id";
        return err->msg;
}

json_t *problem_json(const struct mlc_err *err, const char *trace)
{
        char type[80];
        json_t *doc;

        (void)snprintf(type, sizeof(type), "urn:mlctl:error:%s", mlc_error_slug(err->code));
        doc = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", type, "title",
                        mlc_error_title(err->code), "status", mlc_error_status(err->code), "detail",
                        detail_of(err), "instance", trace);
        if (doc == NULL) /* a message that is not UTF-8 */
                doc = json_pack("{s:s, s:s, s:i, s:s, s:s}", "type", type, "title",
                                mlc_error_title(err->code), "status", mlc_error_status(err->code),
                                "detail", "the request is not valid UTF-8", "instance", trace);
        assert(doc != NULL);
        add_errors(doc, err);
        return doc;
}

/* Without "oci:CODE" from the handler, the code follows from the status and from what the path is
 * about. */
const char *problem_oci_code(const struct mlc_err *err, const char *path)
{
        bool upload = strstr(path, "/blobs/uploads/") != NULL;
        bool manifest = strstr(path, "/manifests/") != NULL;

        if (strncmp(err->field, "oci:", 4) == 0)
                return err->field + 4;
        if (strcmp(err->field, "path:namespace") == 0 || strcmp(err->field, "path:model") == 0)
                return "NAME_INVALID";
        switch (mlc_error_status(err->code)) {
        case 400:
                return upload     ? "BLOB_UPLOAD_INVALID"
                       : manifest ? "MANIFEST_INVALID"
                                  : "DIGEST_INVALID";
        case 401:
                return "UNAUTHORIZED";
        case 403:
                return "DENIED";
        case 404:
                return "NAME_UNKNOWN";
        case 409:
        case 416:
                return upload ? "BLOB_UPLOAD_INVALID" : "MANIFEST_INVALID";
        case 413:
                return "SIZE_INVALID";
        case 429:
        case 503:
                return "TOOMANYREQUESTS";
        default:
                return "UNSUPPORTED";
        }
}

json_t *problem_oci_json(const struct mlc_err *err, const char *path, const char *trace)
{
        const char *code = problem_oci_code(err, path);
        json_t *doc = json_pack("{s:[{s:s, s:s, s:{s:s}}]}", "errors", "code", code, "message",
                                detail_of(err), "detail", "trace", trace);

        if (doc == NULL)
                doc = json_pack("{s:[{s:s, s:{s:s}}]}", "errors", "code", code, "detail", "trace",
                                trace);
        assert(doc != NULL);
        return doc;
}

void problem_reply(struct http_request *r)
{
        const struct mlc_err *err = &r->ctx.err;
        int status = mlc_error_status(err->code);

        assert(err->code < 0);
        if (status >= 500)
                mlc_log_err(err->code == MLC_E_INTERNAL || err->code == MLC_E_IO ? MLC_LOG_ERROR
                                                                                 : MLC_LOG_WARN,
                            r->ctx.trace, "http.failed", err);
        if (is_oci(r)) {
                http_reply_json(&r->reply, status, problem_oci_json(err, r->uri, r->ctx.trace));
        } else {
                http_reply_json(&r->reply, status, problem_json(err, r->ctx.trace));
                r->reply.content_type = "application/problem+json";
        }
        if (status == 401)
                http_reply_header(&r->reply, "WWW-Authenticate",
                                  is_oci(r) ? "Basic realm=\"mlctl\"" : "Bearer realm=\"mlctl\"");
        if (err->code == MLC_E_METHOD && r->match.allow[0] != '\0')
                http_reply_header(&r->reply, "Allow", r->match.allow);
        if (err->code == MLC_E_UNAVAILABLE || err->code == MLC_E_TOO_MANY)
                http_reply_header(&r->reply, "Retry-After", RETRY_AFTER_S);
}
