/* SPDX-License-Identifier: Apache-2.0 */
/* The layers of policies, laid over one another, and the digests that approvals bind. */
#include <assert.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "crypto/hash.h"
#include "policy/document.h"
#include "policy/policy.h"

static const char *layer_of(const json_t *doc, char ret[MLC_DOCUMENT_NAME_MAX + 32])
{
        const char *kind = json_string_value(json_object_get(doc, "kind"));
        const char *name = json_string_value(json_object_get(doc, "name"));

        (void)snprintf(ret, MLC_DOCUMENT_NAME_MAX + 32, "%s/%s", kind != NULL ? kind : "?",
                       name != NULL ? name : "?");
        return ret;
}

static const json_t *with_value(const json_t *list, const char *key, const char *value)
{
        json_t *v;
        size_t i;

        json_array_foreach (list, i, v)
                if (mlc_streq(json_string_value(json_object_get(v, key)), value))
                        return v;
        return NULL;
}

/* Appends doc[key] to out, each with its layer; `id` must be new. */
static int add_layer(json_t *out, const json_t *doc, const char *key, const char *id,
                     struct mlc_err *err)
{
        char layer[MLC_DOCUMENT_NAME_MAX + 32];
        json_t *v;
        size_t i;

        json_array_foreach (json_object_get(doc, key), i, v) {
                const char *name = json_string_value(json_object_get(v, id));
                const json_t *there = with_value(out, id, name);
                json_t *mine;

                if (there != NULL)
                        return mlc_fail(err, MLC_E_CONFLICT,
                                        "%s '%s' of %s is defined by %s already: a model's policy "
                                        "adds, it never redefines; choose another name",
                                        mlc_streq(key, "checks") ? "check" : "approval rule", name,
                                        layer_of(doc, layer),
                                        json_string_value(json_object_get(there, "layer")));
                mine = json_copy(v);
                json_object_set_new(mine, "layer", json_string(layer_of(doc, layer)));
                json_array_append_new(out, mine);
        }
        return 0;
}

static void add_after(json_t *out, const json_t *environment)
{
        char layer[MLC_DOCUMENT_NAME_MAX + 32];
        json_t *v;
        size_t i;

        json_array_foreach (json_object_get(environment, "after"), i, v) {
                const char *name = json_string_value(json_object_get(v, "environment"));

                json_array_append_new(out,
                                      json_pack("{s:o, s:s, s:s, s:s, s:O, s:s}", "id",
                                                json_sprintf("after:%s", name), "type", "after",
                                                "mode", "enforce", "environment", name,
                                                "live_for_ms", json_object_get(v, "live_for_ms"),
                                                "layer", layer_of(environment, layer)));
        }
}

/* A model may name the policy that the environment has: then it adds nothing. */
static bool same_document(const json_t *a, const json_t *b)
{
        return a != NULL && mlc_streq(json_string_value(json_object_get(a, "name")),
                                      json_string_value(json_object_get(b, "name")));
}

int mlc_policy_effective(const struct mlc_policy_layers *l, json_t **ret, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *checks = json_array(), *approvals = json_array();
        const json_t *policies[] = {l->environment_policy, l->model_policy};

        assert(l->environment != NULL);
        for (size_t i = 0; i < ARRAY_LEN(policies); i++) {
                int r;

                if (policies[i] == NULL || (i == 1 && same_document(policies[0], policies[1])))
                        continue;
                r = add_layer(checks, policies[i], "checks", "id", err);
                if (r == 0)
                        r = add_layer(approvals, policies[i], "approvals", "name", err);
                if (r < 0)
                        return r;
        }
        add_after(checks, l->environment);
        *ret = json_pack("{s:O, s:O}", "checks", checks, "approvals", approvals);
        return 0;
}

int mlc_policy_digest(const json_t *policy, struct mlc_digest *ret, struct mlc_err *err)
{
        return mlc_sha256_json(policy, ret, err);
}

int mlc_environment_digest(const json_t *environment, const json_t *policy, const json_t *model,
                           struct mlc_digest *ret, struct mlc_err *err)
{
        json_t *rollout = json_object_get(model, "rollout");
        _cleanup_(json_decref_p) json_t *bound =
                json_pack("{s:O, s:O, s:O, s:O?}", "name", json_object_get(environment, "name"),
                          "alias", json_object_get(environment, "alias"), "approvals",
                          json_object_get(policy, "approvals"), "rollout", rollout);

        if (bound == NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "an environment has a name and an alias, a policy has approvals");
        return mlc_sha256_json(bound, ret, err);
}
