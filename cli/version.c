/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "base/cleanup.h"
#include "cli.h"
#include "codec/ref.h"

static void add_reference(struct mlc_str *path, const struct mlc_ref *ref)
{
        char text[MLC_DIGEST_STR];

        switch (ref->kind) {
        case MLC_REF_VERSION:
                mlc_str_addf(path, "%llu", (unsigned long long)ref->version);
                break;
        case MLC_REF_ALIAS:
                mlc_url_encode(path, ref->alias);
                break;
        case MLC_REF_DIGEST:
                mlc_digest_format(&ref->digest, text);
                mlc_str_add(path, text);
                break;
        case MLC_REF_LATEST:
                mlc_str_add(path, "latest");
                break;
        }
}

int cli_version_get(struct cli *cli, const struct mlc_ref *ref, json_t **ret)
{
        _cleanup_(mlc_str_done) struct mlc_str path;

        mlc_str_init(&path, 4096);
        mlc_str_addf(&path, "/api/v1/models/%s/%s/versions/", ref->ns, ref->model);
        add_reference(&path, ref);
        return mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, ret, &cli->err);
}
