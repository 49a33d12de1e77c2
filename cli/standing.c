/* SPDX-License-Identifier: Apache-2.0 */
#include "standing.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "client/proof.h"
#include "codec/ref.h"
#include "resource.h"

#define SETTLE_MS 3000 /* until what went live just now is in the log */
#define RETRY_MS 200

static const char *text_of(const json_t *j, const char *key)
{
        return json_string_value(json_object_get(j, key));
}

/* The newest entry about an object, proven; *ret_found false when the server shows none. */
static int newest(struct cli *cli, const char *kind, const char *id, struct mlc_proven *ret,
                  bool *ret_found)
{
        _cleanup_(json_decref_p) json_t *page = NULL;
        _cleanup_(mlc_str_done) struct mlc_str path;
        const char *hash;
        int r;

        mlc_str_init(&path, RESOURCE_PATH_MAX);
        mlc_str_addf(&path, "/api/v1/audit/entries?limit=1&kind=%s", kind);
        resource_query(&path, "id", id);
        r = mlc_client_json(cli->client, "GET", mlc_str_cstr(&path), NULL, &page, &cli->err);
        if (r < 0)
                return r;
        hash = text_of(json_array_get(json_object_get(page, "items"), 0), "leaf_hash");
        *ret_found = hash != NULL;
        if (hash == NULL)
                return 0;
        r = mlc_log_prove(cli->log, hash, ret, &cli->err);
        if (r == 0 && (strcmp(ret->leaf.kind, kind) != 0 || strcmp(ret->leaf.id, id) != 0))
                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                "the server gives the entry of %s '%s' for that of %s '%s'",
                                ret->leaf.kind, ret->leaf.id, kind, id);
        return r;
}

static int check_version(struct cli *cli, const char *what, const char *model, const json_t *side)
{
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        char id[MLC_REF_STR];
        bool found;
        int r;

        (void)snprintf(id, sizeof(id), "%s:%" JSON_INTEGER_FORMAT, model,
                       json_integer_value(json_object_get(side, "version")));
        r = newest(cli, "version", id, &p, &found);
        if (r < 0)
                return r;
        if (!found || !mlc_streq(text_of(p.leaf.state, "digest"), text_of(side, "digest")))
                return mlc_fail(&cli->err, MLC_E_VERIFY,
                                "the server's evidence has another %s than the log: '%s' is not "
                                "'%.80s' there",
                                what, id, text_of(side, "digest"));
        return 0;
}

static int is_live(struct cli *cli, const char *model, const json_t *bundle, bool *ret)
{
        const json_t *champion = json_object_get(bundle, "champion");
        const char *environment = text_of(json_object_get(bundle, "environment"), "name");
        _cleanup_(mlc_proven_done) struct mlc_proven p = {0};
        char id[MLC_REF_STR + 128];
        bool found;
        int r;

        (void)snprintf(id, sizeof(id), "%.100s/%s", environment, model);
        r = newest(cli, "live", id, &p, &found);
        if (r < 0)
                return r;
        *ret = !found ? !json_is_object(champion)
                      : json_is_object(champion) &&
                                mlc_streq(text_of(p.leaf.state, "digest"),
                                          text_of(champion, "digest")) &&
                                json_equal(json_object_get(p.leaf.state, "version"),
                                           json_object_get(champion, "version"));
        return 0;
}

int standing_check(struct cli *cli, const json_t *bundle)
{
        const json_t *champion = json_object_get(bundle, "champion");
        int64_t until = mlc_monotonic_ms() + SETTLE_MS;
        const char *model;
        bool live = false;
        int r = mlc_json_get_str(json_object_get(bundle, "version"), "/bundle/version", "model",
                                 &model, &cli->err);

        if (r < 0 || cli->log == NULL)
                return r;
        r = check_version(cli, "version", model, json_object_get(bundle, "version"));
        if (r == 0 && json_is_object(champion))
                r = check_version(cli, "champion", model, champion);
        while (r == 0 && !live) {
                r = is_live(cli, model, bundle, &live);
                if (r < 0 || live)
                        break;
                if (mlc_monotonic_ms() >= until)
                        return mlc_fail(&cli->err, MLC_E_VERIFY,
                                        "the server's evidence has another champion than what the "
                                        "log says is live; if that changed just now, try again");
                mlc_sleep_ms(RETRY_MS);
        }
        return r;
}
