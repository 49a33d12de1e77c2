/* SPDX-License-Identifier: Apache-2.0 */
/* kind: Model, with routes and the plan of a rollout (kept and bound; nothing moves traffic yet).
 */
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/ref.h"
#include "policy/document.h"
#include "policy/read.h"

#define STEPS_MAX 50

static const struct pol_range PERCENT = {0, 1, true, false};
static const struct pol_range SHARE = {0, 1, false, false};
static const struct pol_range MARGIN = {0, 1, false, true};
static const struct pol_range ALPHAS = {0, 0.5, true, true};

static int model_name(const char *s, struct mlc_err *err)
{
        struct mlc_ref ref;

        return mlc_ref_parse_model(s, &ref, err);
}

static int route_key(const char *s, struct mlc_err *err)
{
        size_t n = strcspn(s, ":");

        if (!mlc_starts_with(s, "header:") || s[n + 1] == '\0' ||
            strpbrk(s + n + 1, " :;,()<>@\\\"/[]?={}") != NULL)
                return mlc_fail(err, MLC_E_INVALID, "header:NAME is expected");
        return 0;
}

static int route(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"route", "environments", "key", "protocol", NULL};
        static const char *const protocols[] = {"oip", NULL};
        int r = pol_only(in, keys, NULL, err);

        for (size_t i = 0; r == 0 && i < 2; i++)
                r = pol_need(in, keys[i], err);
        if (r == 0)
                r = pol_text(in, "route", pol_id, err);
        if (r == 0)
                r = pol_text(in, "key", route_key, err);
        if (r == 0)
                r = pol_enum(in, "protocol", protocols, "oip", err);
        return r < 0 ? r : pol_texts(in, "environments", pol_name, 64, err);
}

static int step(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"mirror", "weight", "requests", "for", "advance", NULL};
        static const char *const advance[] = {"no-harm", "proven", NULL};
        static const int64_t range[2] = {0, 1000000000};
        int r = pol_only(in, keys, NULL, err);

        if (r < 0)
                return r;
        if (pol_has(in, "mirror") == pol_has(in, "weight"))
                return pol_fail(in, NULL, err, "a step has either 'mirror' or 'weight'");
        r = pol_number(in, "mirror", &PERCENT, NULL, err);
        if (r == 0)
                r = pol_number(in, "weight", &PERCENT, NULL, err);
        if (r == 0)
                r = pol_int(in, "requests", range, 0, err);
        if (r == 0)
                r = pol_duration(in, "for", err);
        return r < 0 ? r : pol_enum(in, "advance", advance, "no-harm", err);
}

static int error_rate(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "margin", err);

        if (r == 0)
                r = pol_number(in, "margin", &MARGIN, NULL, err);
        return r < 0 ? r : pol_number(in, "alpha", &ALPHAS, "0.0500000000", err);
}

static int slower_than(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "limit", err);

        if (r == 0)
                r = pol_duration(in, "limit", err);
        return r < 0 ? r : error_rate(in, err);
}

static int distribution(const struct pol_in *in, struct mlc_err *err)
{
        return pol_number(in, "alpha", &ALPHAS, "0.0500000000", err);
}

static int agreement(const struct pol_in *in, struct mlc_err *err)
{
        int r = pol_need(in, "at_least", err);

        return r < 0 ? r : pol_number(in, "at_least", &SHARE, NULL, err);
}

static const struct {
        const char *name;
        pol_item *read;
        const char *keys[8];
} TYPES[] = {
        {"error-rate", error_rate, {"id", "type", "mode", "margin", "alpha", NULL}},
        {"slower-than", slower_than, {"id", "type", "mode", "limit", "margin", "alpha", NULL}},
        {"prediction-distribution", distribution, {"id", "type", "mode", "alpha", NULL}},
        {"shadow-agreement", agreement, {"id", "type", "mode", "at_least", NULL}},
};

static int rollout_check(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const modes[] = {"enforce", "warn", "observe", NULL};
        static const char *const types[] = {"error-rate", "slower-than", "prediction-distribution",
                                            "shadow-agreement", NULL};
        const char *type;
        int r;

        if (!json_is_object(in->obj))
                return pol_fail(in, NULL, err, "a check is {id: …, type: …, …}");
        r = pol_enum(in, "type", types, NULL, err);
        if (r == 0)
                r = pol_need(in, "id", err);
        if (r == 0)
                r = pol_text(in, "id", pol_id, err);
        if (r == 0)
                r = pol_enum(in, "mode", modes, "enforce", err);
        if (r < 0)
                return r;
        type = json_string_value(json_object_get(in->out, "type"));
        for (size_t i = 0; i < ARRAY_LEN(TYPES); i++) {
                if (strcmp(TYPES[i].name, type) != 0)
                        continue;
                r = pol_only(in, TYPES[i].keys, NULL, err);
                return r < 0 ? r : TYPES[i].read(in, err);
        }
        return pol_fail(in, "type", err, "is not known");
}

static int rollout(const struct pol_in *in, struct mlc_err *err)
{
        static const char *const keys[] = {"strategy",   "steps",    "checks",          "on_harm",
                                           "on_silence", "deadline", "on_lost_control", NULL};
        static const char *const strategies[] = {"shadow", "canary", "blue-green",
                                                 "ab",     "none",   NULL};
        static const char *const harm[] = {"rollback", "pause", NULL};
        static const char *const silence[] = {"hold", "pause", NULL};
        static const char *const lost[] = {"stable", "hold", NULL};
        int r = pol_only(in, keys, NULL, err);

        if (r == 0)
                r = pol_enum(in, "strategy", strategies, NULL, err);
        if (r == 0)
                r = pol_items(in, "steps", step, STEPS_MAX, err);
        if (r == 0)
                r = pol_items(in, "checks", rollout_check, MLC_CHECKS_MAX, err);
        if (r == 0)
                r = pol_distinct(in, "checks", "id", err);
        if (r == 0)
                r = pol_enum(in, "on_harm", harm, "rollback", err);
        if (r == 0)
                r = pol_enum(in, "on_silence", silence, "hold", err);
        if (r == 0)
                r = pol_duration(in, "deadline", err);
        return r < 0 ? r : pol_enum(in, "on_lost_control", lost, "stable", err);
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
        return r < 0 ? r : pol_object(in, "rollout", rollout, err);
}
