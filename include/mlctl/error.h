/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

/*
 * The closed list of error codes: NAME, HTTP status, CLI exit code, slug, title.
 * The slug is the last part of the problem document's "type" (urn:mlctl:error:SLUG) and never
 * changes. Exit codes: 0 done, 1 denied or verification failed, 2 usage or authorization, 3 timed
 * out while pending, 4 held, 5 server unreachable or failing (retry).
 */
#define MLC_ERRORS(X)                                                                              \
        X(INVALID, 400, 2, "invalid", "the request is not valid")                                  \
        X(UNAUTHENTICATED, 401, 2, "unauthenticated", "a valid token is needed")                   \
        X(FORBIDDEN, 403, 2, "forbidden", "the caller lacks the role for this")                    \
        X(NOT_FOUND, 404, 1, "not-found", "no such thing, or it is not visible to the caller")     \
        X(METHOD, 405, 2, "method-not-allowed", "the resource has no such method")                 \
        X(NOT_ACCEPTABLE, 406, 2, "not-acceptable", "no representation matches Accept")            \
        X(TIMEOUT, 408, 5, "timeout", "the request took too long to arrive")                       \
        X(CONFLICT, 409, 1, "conflict", "the state does not allow this")                           \
        X(GONE, 410, 1, "gone", "it was erased or has expired")                                    \
        X(PRECONDITION, 412, 1, "precondition-failed", "it changed since it was read")             \
        X(LIMIT, 413, 2, "too-large", "a limit was exceeded")                                      \
        X(MEDIA_TYPE, 415, 2, "unsupported-media-type", "the content type is not accepted")        \
        X(RANGE, 416, 1, "range-not-satisfiable", "the range does not fit")                        \
        X(PRECONDITION_REQUIRED, 428, 2, "precondition-required", "If-Match is needed")            \
        X(TOO_MANY, 429, 5, "too-many-requests", "too many requests")                              \
        X(HEADER_LIMIT, 431, 2, "header-too-large", "the request head is too large")               \
        X(INTERNAL, 500, 5, "internal", "the server failed")                                       \
        X(NOT_SUPPORTED, 501, 2, "not-supported", "not supported yet")                             \
        X(UNAVAILABLE, 503, 5, "unavailable", "the server cannot do this now")                     \
        X(READ_ONLY, 503, 1, "read-only", "the log is not safe to write; reads go on")             \
        X(NO_SPACE, 507, 5, "insufficient-storage", "not enough free disk space")                  \
        X(IO, 500, 5, "io", "reading or writing a file failed")                                    \
        X(UNREACHABLE, 502, 5, "unreachable", "the server cannot be reached")                      \
        X(VERIFY, 422, 1, "verification-failed", "verification failed")                            \
        X(USAGE, 400, 2, "usage", "the command line is not valid")

enum mlc_error_index {
#define X(name, status, exit, slug, title) MLC_EI_##name,
        MLC_ERRORS(X)
#undef X
                MLC_EI_COUNT
};

/* Error codes are negative; 0 is success. */
enum mlc_error_code {
        MLC_OK = 0,
#define X(name, status, exit, slug, title) MLC_E_##name = -(MLC_EI_##name + 1),
        MLC_ERRORS(X)
#undef X
};

#define MLC_CHECK __attribute__((warn_unused_result))

/*
 * What went wrong. Filled in place, never allocated; the first writer wins. `field` is a JSON
 * pointer
 * ("/labels/tier"), a header ("header:If-Match") or a parameter ("query:limit"), empty when none
 * applies.
 */
struct mlc_err {
        int code; /* MLC_E_..., 0 when no error */
        const char *file; /* where it was first set */
        int line;
        char field[128];
        char sqlstate[6]; /* set by server/db */
        /* lower case, no full stop; what failed first, the subject in quotes. Always printable
         * UTF-8: what the arguments hold beyond that becomes "?" */
        char msg[512];
};

/* Fills *err unless it already holds an error. Returns `code`, so that callers can `return
 * mlc_fail(...)`. */
#define mlc_fail(err, code, ...) mlc_err_set((err), (code), NULL, __FILE__, __LINE__, __VA_ARGS__)
/* The same with the field (see struct mlc_err) at fault. */
#define mlc_fail_field(err, code, field, ...)                                                      \
        mlc_err_set((err), (code), (field), __FILE__, __LINE__, __VA_ARGS__)

#ifdef __clang_analyzer__
/* clang-tidy sees one file at a time: tell it that a failure is never 0. */
static inline int mlc_analyzed(int code)
{
        if (code >= 0)
                __builtin_unreachable();
        return code;
}
#undef mlc_fail
#undef mlc_fail_field
#define mlc_fail(err, code, ...)                                                                   \
        mlc_analyzed(mlc_err_set((err), (code), NULL, __FILE__, __LINE__, __VA_ARGS__))
#define mlc_fail_field(err, code, field, ...)                                                      \
        mlc_analyzed(mlc_err_set((err), (code), (field), __FILE__, __LINE__, __VA_ARGS__))
#endif

int mlc_err_set(struct mlc_err *err, int code, const char *field, const char *file, int line,
                const char *fmt, ...) __attribute__((format(printf, 6, 7)));
/* Prefixes the message of an error that is set: "PREFIX: old message". Returns the error's code. */
int mlc_wrap(struct mlc_err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void mlc_err_clear(struct mlc_err *err);

int mlc_error_status(int code); /* HTTP status; 500 for an unknown code */
int mlc_error_exit(int code); /* CLI exit code */
const char *mlc_error_slug(int code); /* static, never NULL */
const char *mlc_error_title(int code);
/* The code with this slug, or MLC_E_INTERNAL when there is none. */
int mlc_error_from_slug(const char *slug);
