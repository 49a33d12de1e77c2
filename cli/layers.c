/* SPDX-License-Identifier: Apache-2.0 */
#include "layers.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/hash.h"
#include "policy/policy.h"
#include "resource.h"

#define OLDER_MAX                                                                                  \
        20 /* versions of a document that are looked through for the one of the evidence */
#define DOCUMENTS_IN_BUNDLE 8

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

static int lie(struct cli *cli, const char *what)
{
        return mlc_fail(&cli->err, MLC_E_VERIFY,
                        "the evidence contradicts itself: '%s' is not what its documents give",
                        what);
}

static int has_digest(struct cli *cli, const json_t *document, const char *digest, bool *ret)
{
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;
        int r = mlc_sha256_json(document, &d, &cli->err);

        if (r < 0)
                return r;
        mlc_digest_format(&d, text);
        *ret = mlc_streq(text, digest);
        return 0;
}

/* version 0: the newest; *ret_version is the one that came. */
static int get(struct cli *cli, const json_t *named, json_int_t version, json_t **ret,
               json_int_t *ret_version)
{
        _cleanup_(json_decref_p) json_t *whole = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        char number[24];
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_addf(&path, "/api/v1/documents/%s/%s", text_of(named, "kind"),
                     text_of(named, "name"));
        (void)snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, version);
        resource_query(&path, "version", version > 0 ? number : NULL);
        r = mlc_str_check(&path, &cli->err);
        if (r == 0)
                r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &whole,
                                    &cli->err);
        if (r < 0)
                return r;
        *ret = json_incref(json_object_get(whole, "document"));
        *ret_version = json_integer_value(json_object_get(whole, "version"));
        return 0;
}

/* The newest, or the one before it that has the digest. */
static int fetch(struct cli *cli, const json_t *named, json_t **ret)
{
        json_int_t version = 0;

        for (int i = 0; i < OLDER_MAX; i++) {
                _cleanup_(json_decref_p) json_t *document = NULL;
                bool same = false;
                int r = get(cli, named, version, &document, &version);

                if (r == 0)
                        r = has_digest(cli, document, text_of(named, "digest"), &same);
                if (r < 0)
                        return r;
                if (same) {
                        *ret = TAKE_PTR(document);
                        return 0;
                }
                if (--version <= 0)
                        break;
        }
        return mlc_fail(&cli->err, MLC_E_VERIFY,
                        "the server's document '%s/%s' is not the one of its evidence",
                        text_of(named, "kind"), text_of(named, "name"));
}

int layers_fetch(struct cli *cli, const json_t *bundle, json_t **ret)
{
        const json_t *list = json_object_get(bundle, "documents"), *named;
        _cleanup_(json_decref_p) json_t *documents = json_array();
        size_t i;

        if (json_array_size(list) > DOCUMENTS_IN_BUNDLE)
                return mlc_fail(&cli->err, MLC_E_VERIFY, "the evidence names too many documents");
        json_array_foreach (list, i, named) {
                json_t *one = NULL;
                int r;

                if (text_of(named, "kind") == NULL || text_of(named, "name") == NULL)
                        return lie(cli, "documents");
                r = fetch(cli, named, &one);
                if (r < 0)
                        return r;
                (void)json_array_append_new(documents, one);
        }
        *ret = TAKE_PTR(documents);
        return 0;
}

/* The document of that kind and name; NULL without a name, or when there is none. */
static const json_t *pick(const json_t *bundle, const json_t *documents, const char *kind,
                          const char *name)
{
        const json_t *named;
        size_t i;

        if (name == NULL)
                return NULL;
        json_array_foreach (json_object_get(bundle, "documents"), i, named)
                if (mlc_streq(text_of(named, "kind"), kind) &&
                    mlc_streq(text_of(named, "name"), name))
                        return json_array_get(documents, i);
        return NULL;
}

/* What is named as policy is there. */
static int pick_policy(struct cli *cli, const json_t *bundle, const json_t *documents,
                       const json_t *of, const json_t **ret)
{
        const char *name = text_of(of, "policy");

        *ret = pick(bundle, documents, "Policy", name);
        return name == NULL || *ret != NULL ? 0 : lie(cli, "documents");
}

static int check_digests(struct cli *cli, const json_t *bundle, const json_t *documents)
{
        const json_t *list = json_object_get(bundle, "documents"), *named;
        size_t i;

        if (json_array_size(list) != json_array_size(documents))
                return lie(cli, "documents");
        json_array_foreach (list, i, named) {
                const json_t *document = json_array_get(documents, i);
                bool same = false;
                int r = has_digest(cli, document, text_of(named, "digest"), &same);

                if (r < 0)
                        return r;
                if (!same || !mlc_streq(text_of(named, "kind"), text_of(document, "kind")) ||
                    !mlc_streq(text_of(named, "name"), text_of(document, "name")))
                        return mlc_fail(&cli->err, MLC_E_VERIFY,
                                        "the document '%.200s/%.200s' is not the one of the "
                                        "evidence",
                                        text_of(named, "kind"), text_of(named, "name"));
        }
        return 0;
}

static int check_one(struct cli *cli, const json_t *bundle, const char *key,
                     const struct mlc_digest *d)
{
        char text[MLC_DIGEST_STR];

        mlc_digest_format(d, text);
        return mlc_streq(text, text_of(bundle, key)) ? 0 : lie(cli, key);
}

int layers_check(struct cli *cli, const json_t *bundle, const json_t *documents)
{
        const json_t *environment = json_object_get(bundle, "environment");
        struct mlc_policy_layers in = {0};
        _cleanup_(json_decref_p) json_t *policy = NULL;
        struct mlc_digest p, e;
        int r = check_digests(cli, bundle, documents);

        if (r < 0)
                return r;
        in.environment = pick(bundle, documents, "Environment", text_of(environment, "name"));
        in.model = pick(bundle, documents, "Model",
                        text_of(json_object_get(bundle, "version"), "model"));
        if (in.environment == NULL || !json_equal(in.environment, environment))
                return lie(cli, "environment");
        r = pick_policy(cli, bundle, documents, in.environment, &in.environment_policy);
        if (r == 0)
                r = pick_policy(cli, bundle, documents, in.model, &in.model_policy);
        if (r == 0)
                r = mlc_policy_effective(&in, &policy, &cli->err);
        if (r == 0 && !json_equal(policy, json_object_get(bundle, "policy")))
                r = lie(cli, "policy");
        if (r == 0)
                r = mlc_policy_digest(policy, &p, &cli->err);
        if (r == 0)
                r = check_one(cli, bundle, "policy_digest", &p);
        if (r == 0)
                r = mlc_environment_digest(in.environment, policy, in.model, &e, &cli->err);
        return r < 0 ? r : check_one(cli, bundle, "environment_digest", &e);
}
