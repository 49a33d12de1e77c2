/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/ref.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/utf8.h"

static bool lower_alnum(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* [a-z0-9]+((\.|_|__|-+)[a-z0-9]+)* */
static bool component(const char *s)
{
        if (!lower_alnum(*s))
                return false;
        while (*s != '\0') {
                while (lower_alnum(*s))
                        s++;
                if (*s == '\0')
                        return true;
                if (*s == '.')
                        s++;
                else if (*s == '_')
                        s += s[1] == '_' ? 2 : 1;
                else
                        s += strspn(s, "-");
                if (!lower_alnum(*s))
                        return false;
        }
        return true;
}

static int component_check(const char *what, const char *s, struct mlc_err *err)
{
        if (*s == '\0')
                return mlc_fail(err, MLC_E_INVALID, "%s is empty", what);
        if (strlen(s) > MLC_NAME_MAX)
                return mlc_fail(err, MLC_E_INVALID, "%s '%.40s…' is longer than %d characters",
                                what, s, MLC_NAME_MAX);
        if (!component(s))
                return mlc_fail(err, MLC_E_INVALID,
                                "%s '%s' is not lower-case letters and digits joined by '.', '_', "
                                "'__' or dashes",
                                what, s);
        return 0;
}

int mlc_namespace_check(const char *s, struct mlc_err *err)
{
        static const char *const reserved[] = {"api",     "v2",      "log",      "keys",
                                               "ui",      "static",  "download", "schema",
                                               "metrics", "healthz", "readyz"};
        int r = component_check("namespace", s, err);

        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_LEN(reserved); i++)
                if (strcmp(s, reserved[i]) == 0)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "namespace '%s' is reserved: choose another name", s);
        return 0;
}

int mlc_model_check(const char *s, struct mlc_err *err)
{
        return component_check("model", s, err);
}

/* ^v?[0-9]+$ */
static bool looks_like_version(const char *s)
{
        if (*s == 'v')
                s++;
        return *s != '\0' && strspn(s, "0123456789") == strlen(s);
}

static bool oci_tag(const char *s)
{
        static const char rest[] =
                "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-";
        size_t n = strlen(s);

        return n >= 1 && n <= MLC_ALIAS_MAX && strspn(s, rest) == n && *s != '.' && *s != '-';
}

int mlc_alias_check(const char *s, struct mlc_err *err)
{
        if (!oci_tag(s))
                return mlc_fail(err, MLC_E_INVALID,
                                "alias '%.140s' is not letters, digits, '_', '.' and '-' (at most "
                                "%d, the first a letter, digit or '_')",
                                s, MLC_ALIAS_MAX);
        if (strcmp(s, "latest") == 0)
                return mlc_fail(err, MLC_E_INVALID,
                                "alias 'latest' always means the newest version: choose another");
        if (looks_like_version(s))
                return mlc_fail(err, MLC_E_INVALID,
                                "alias '%.140s' looks like a version number: choose another", s);
        return 0;
}

/* Reads "ns/model" from the first len bytes of s. */
static int parse_model(const char *s, size_t len, struct mlc_ref *ret, struct mlc_err *err)
{
        char name[2 * MLC_NAME_MAX + 2], *slash;
        int r;

        if (len >= sizeof(name))
                return mlc_fail(err, MLC_E_INVALID,
                                "model name '%.40s…' is longer than %d/%d characters", s,
                                MLC_NAME_MAX, MLC_NAME_MAX);
        memcpy(name, s, len);
        name[len] = '\0';
        slash = strchr(name, '/');
        if (slash == NULL || strchr(slash + 1, '/') != NULL)
                return mlc_fail(err, MLC_E_INVALID, "model '%s' is not of the form namespace/model",
                                name);
        *slash = '\0';
        r = mlc_namespace_check(name, err);
        if (r < 0)
                return r;
        r = mlc_model_check(slash + 1, err);
        if (r < 0)
                return r;
        memset(ret, 0, sizeof(*ret));
        memcpy(ret->ns, name, strlen(name));
        memcpy(ret->model, slash + 1, strlen(slash + 1));
        ret->kind = MLC_REF_LATEST;
        return 0;
}

static int parse_tag(const char *s, struct mlc_ref *ret, struct mlc_err *err)
{
        unsigned long long n;
        int r;

        if (strcmp(s, "latest") == 0)
                return 0;
        if (looks_like_version(s)) {
                if (!mlc_parse_u64(s + (*s == 'v'), &n) || n == 0 || n > MLC_VERSION_MAX)
                        return mlc_fail(err, MLC_E_INVALID,
                                        "'%.40s' is no version: they are 1, 2, 3 …", s);
                ret->version = n;
                ret->kind = MLC_REF_VERSION;
                return 0;
        }
        r = mlc_alias_check(s, err);
        if (r < 0)
                return r;
        memcpy(ret->alias, s, strlen(s));
        ret->kind = MLC_REF_ALIAS;
        return 0;
}

int mlc_ref_parse_model(const char *s, struct mlc_ref *ret, struct mlc_err *err)
{
        return parse_model(s, strlen(s), ret, err);
}

int mlc_ref_parse(const char *s, struct mlc_ref *ret, struct mlc_err *err)
{
        size_t n = strcspn(s, ":@");
        struct mlc_ref ref;
        int r = parse_model(s, n, &ref, err);

        if (r < 0)
                return r;
        if (s[n] == '@') {
                ref.kind = MLC_REF_DIGEST;
                r = mlc_digest_parse(s + n + 1, &ref.digest, err);
        } else if (s[n] == ':') {
                r = parse_tag(s + n + 1, &ref, err);
        }
        if (r < 0)
                return r;
        *ret = ref;
        return 0;
}

void mlc_ref_format(const struct mlc_ref *ref, char ret[MLC_REF_STR])
{
        char digest[MLC_DIGEST_STR];

        switch (ref->kind) {
        case MLC_REF_LATEST:
                (void)snprintf(ret, MLC_REF_STR, "%s/%s", ref->ns, ref->model);
                break;
        case MLC_REF_VERSION:
                (void)snprintf(ret, MLC_REF_STR, "%s/%s:%llu", ref->ns, ref->model,
                               (unsigned long long)ref->version);
                break;
        case MLC_REF_ALIAS:
                (void)snprintf(ret, MLC_REF_STR, "%s/%s:%s", ref->ns, ref->model, ref->alias);
                break;
        case MLC_REF_DIGEST:
                mlc_digest_format(&ref->digest, digest);
                (void)snprintf(ret, MLC_REF_STR, "%s/%s@%s", ref->ns, ref->model, digest);
                break;
        }
}

static const char *const SCHEMES[] = {
        [MLC_DATASET_SHA256] = "sha256",   [MLC_DATASET_DVC] = "dvc",
        [MLC_DATASET_ICEBERG] = "iceberg", [MLC_DATASET_DELTA] = "delta",
        [MLC_DATASET_LAKEFS] = "lakefs",   [MLC_DATASET_MLFLOW] = "mlflow",
        [MLC_DATASET_OPAQUE] = "opaque",
};

const char *mlc_dataset_scheme_name(enum mlc_dataset_scheme scheme)
{
        assert((size_t)scheme < ARRAY_LEN(SCHEMES));
        return SCHEMES[scheme];
}

static int scheme_parse(const char *s, size_t len, enum mlc_dataset_scheme *ret,
                        struct mlc_err *err)
{
        for (size_t i = 0; i < ARRAY_LEN(SCHEMES); i++) {
                if (strlen(SCHEMES[i]) == len && memcmp(SCHEMES[i], s, len) == 0) {
                        *ret = (enum mlc_dataset_scheme)i;
                        return 0;
                }
        }
        return mlc_fail(err, MLC_E_INVALID,
                        "dataset scheme '%.*s' is unknown: sha256, dvc, iceberg, delta, lakefs, "
                        "mlflow or opaque",
                        (int)(len < 40 ? len : 40), s);
}

/* Printable text of 1 to max bytes without blanks at the ends. */
static bool plain_text(const char *s, size_t len, size_t max)
{
        if (len == 0 || len > max || s[0] == ' ' || s[len - 1] == ' ' || !mlc_utf8_valid(s, len))
                return false;
        for (size_t i = 0; i < len; i++)
                if ((unsigned char)s[i] < 0x20 || s[i] == 0x7f)
                        return false;
        return true;
}

int mlc_dataset_parse(const char *s, struct mlc_dataset *ret, struct mlc_err *err)
{
        const char *at = strrchr(s, '@'), *colon = at != NULL ? strchr(at, ':') : NULL;
        struct mlc_dataset d = {0};
        struct mlc_digest digest;
        size_t n_name, n_value;
        int r;

        if (colon == NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "dataset '%.80s' is not of the form NAME@SCHEME:VALUE, as in "
                                "fraud/train@sha256:…",
                                s);
        r = scheme_parse(at + 1, (size_t)(colon - at - 1), &d.scheme, err);
        if (r < 0)
                return r;
        n_name = (size_t)(at - s);
        n_value = strlen(colon + 1);
        if (!plain_text(s, n_name, MLC_DATASET_NAME_MAX) ||
            !plain_text(colon + 1, n_value, MLC_DATASET_VALUE_MAX))
                return mlc_fail(err, MLC_E_INVALID,
                                "dataset '%.80s': name and value are 1 to %d bytes of plain text",
                                s, MLC_DATASET_NAME_MAX);
        if (d.scheme == MLC_DATASET_SHA256) {
                r = mlc_digest_parse(at + 1, &digest, err);
                if (r < 0)
                        return r;
        }
        memcpy(d.name, s, n_name);
        memcpy(d.value, colon + 1, n_value);
        *ret = d;
        return 0;
}
