/* SPDX-License-Identifier: Apache-2.0 */
/* kind: Model, with its routes; the plan of a rollout is in rollout.c. */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/ref.h"
#include "policy/document.h"
#include "policy/read.h"

static int model_name(const char *s, struct mlc_err *err)
{
        struct mlc_ref ref;

        return mlc_ref_parse_model(s, &ref, err);
}

/* A token of HTTP, as names of headers and cookies are. */
static bool token(const char *s)
{
        return *s != '\0' && strlen(s) <= 128 && strpbrk(s, " :;,()<>@\\\"/[]?={}") == NULL;
}

static int route_key(const char *s, struct mlc_err *err)
{
        if (mlc_streq(s, "address") || mlc_streq(s, "random") ||
            (mlc_starts_with(s, "header:") && token(s + 7)) ||
            (mlc_starts_with(s, "cookie:") && token(s + 7)))
                return 0;
        return mlc_fail(err, MLC_E_INVALID,
                        "header:NAME, cookie:NAME, address or random is expected");
}

static int route(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"route",    "environments", "key",
                                           "protocol", "validate",     NULL};
        static const char *const protocols[] = {"oip", NULL};
        static const char *const modes[] = {"off", "flag", "reject", NULL};
        int r = pol_only(in, keys, NULL, err);

        for (size_t i = 0; r == 0 && i < 2; i++)
                r = pol_need(in, keys[i], err);
        if (r == 0)
                r = pol_text(in, "route", pol_id, err);
        if (r == 0)
                r = pol_text(in, "key", route_key, err);
        if (r == 0)
                r = pol_enum(in, "protocol", protocols, "oip", err);
        if (r == 0 && pol_has(in, "validate")) /* came later: older documents keep their digest */
                r = pol_enum(in, "validate", modes, NULL, err);
        return r < 0 ? r : pol_texts(in, "environments", pol_name, 64, err);
}

int pol_read_model(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"apiVersion", "kind",   "name",    "owners", "labels",
                                           "policy",     "routes", "rollout", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_text(in, "name", model_name, err);
        if (r == 0)
                r = pol_texts(in, "owners", pol_owner, 64, err);
        if (r == 0)
                r = pol_labels(in, "labels", 64, err);
        if (r == 0)
                r = pol_text(in, "policy", pol_name, err);
        if (r == 0)
                r = pol_items(in, "routes", route, 64, err);
        if (r == 0)
                r = pol_distinct(in, "routes", "route", err);
        return r < 0 ? r : pol_object(in, "rollout", pol_read_rollout, err);
}
