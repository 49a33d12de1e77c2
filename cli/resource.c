/* SPDX-License-Identifier: Apache-2.0 */
#include "resource.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static void add_model(const struct mlc_ref *ref, struct mlc_str *ret)
{
        mlc_str_add(ret, "/api/v1/models/");
        mlc_url_encode(ret, ref->ns);
        mlc_str_addc(ret, '/');
        mlc_url_encode(ret, ref->model);
}

int resource_model(struct cli *cli, const char *model, struct mlc_str *ret)
{
        struct mlc_ref ref;
        int r = mlc_ref_parse_model(model, &ref, &cli->err);

        if (r < 0)
                return r;
        add_model(&ref, ret);
        return 0;
}

int resource_version(struct cli *cli, const char *text, struct mlc_str *ret)
{
        char digest[MLC_DIGEST_STR];
        struct mlc_ref ref;
        int r = mlc_ref_parse(text, &ref, &cli->err);

        if (r < 0)
                return r;
        add_model(&ref, ret);
        mlc_str_add(ret, "/versions/");
        if (ref.kind == MLC_REF_VERSION) {
                mlc_str_addf(ret, "%" PRIu64, ref.version);
        } else if (ref.kind == MLC_REF_ALIAS) {
                mlc_url_encode(ret, ref.alias);
        } else if (ref.kind == MLC_REF_DIGEST) {
                mlc_digest_format(&ref.digest, digest);
                mlc_url_encode(ret, digest);
        } else {
                mlc_str_add(ret, "latest");
        }
        return 0;
}

void resource_version_name(const struct mlc_ref *ref, char ret[MLC_ALIAS_MAX + 1])
{
        char digest[MLC_DIGEST_STR];

        if (ref->kind == MLC_REF_VERSION)
                (void)snprintf(ret, MLC_ALIAS_MAX + 1, "%" PRIu64, ref->version);
        else if (ref->kind == MLC_REF_ALIAS)
                (void)snprintf(ret, MLC_ALIAS_MAX + 1, "%s", ref->alias);
        else if (ref->kind == MLC_REF_DIGEST) {
                mlc_digest_format(&ref->digest, digest);
                (void)snprintf(ret, MLC_ALIAS_MAX + 1, "%s", digest);
        } else
                (void)snprintf(ret, MLC_ALIAS_MAX + 1, "latest");
}

int resource_alias(struct cli *cli, const char *text, struct mlc_str *ret)
{
        struct mlc_ref ref;
        int r = mlc_ref_parse(text, &ref, &cli->err);

        if (r < 0)
                return r;
        if (ref.kind != MLC_REF_ALIAS)
                return mlc_fail(&cli->err, MLC_E_USAGE,
                                "'%s' names no alias; write NS/MODEL:ALIAS, where ALIAS is no "
                                "number and not 'latest'",
                                text);
        add_model(&ref, ret);
        mlc_str_add(ret, "/aliases/");
        mlc_url_encode(ret, ref.alias);
        return 0;
}

void resource_query(struct mlc_str *path, const char *name, const char *value)
{
        if (value == NULL)
                return;
        mlc_str_addc(path, strchr(mlc_str_cstr(path), '?') != NULL ? '&' : '?');
        mlc_str_add(path, name);
        mlc_str_addc(path, '=');
        mlc_url_encode(path, value);
}
