/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <math.h>
#include <stdlib.h>

#include "base/str.h"
#include "policy/document.h"
#include "rollout/analysis.h"
#include "rollout/plan.h"
#include "stats/sketch.h"
#include "unit/policy/support.h"

#define NO_ENV                                                                                     \
        "{'apiVersion':'mlctl/v1','kind':'Environment','name':'production','targets':[{'name':"    \
        "'eu','serving':{'driver':'oip','instances':[{'url':'http://x','repository':{'dir':'/a'}"  \
        "}]}}],'metrics':{'prometheus':'http://127.0.0.1:9090'}}"
#define ROLLOUT(text) "{'apiVersion':'mlctl/v1','kind':'Model','name':'a/b','rollout':" text "}"

/* The normalised form of a document in single quotes; NULL for NULL. */
static inline json_t *document(const char *text)
{
        json_t *written, *ret = NULL;
        struct mlc_err err = {0};

        if (text == NULL)
                return NULL;
        written = json_of(text);
        if (mlc_document_normalise(written, &ret, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        json_decref(written);
        return ret;
}

static inline json_t *plan_in(const char *environment, const char *model, bool first)
{
        _cleanup_(json_decref_p) json_t *env = document(environment), *m = document(model);
        struct mlc_rollout_docs docs = {.model = m, .environment = env, .first = first};
        struct mlc_err err = {0};
        json_t *plan = NULL;

        if (mlc_rollout_plan(&docs, &plan, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        return plan;
}

static inline json_t *plan_of(const char *model)
{
        return plan_in(NO_ENV, model, false);
}

static inline const char *text(const json_t *obj, const char *key)
{
        const char *s = json_string_value(json_object_get(obj, key));

        return s != NULL ? s : "";
}

static inline int64_t number(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

static inline double decimal(const json_t *v)
{
        return json_is_string(v) ? strtod(json_string_value(v), NULL) : NAN;
}

/* Cells as increments have them: by magnitude. */
static inline json_t *values_of(const int64_t *cells)
{
        json_t *positive = json_array(), *negative = json_array(), *ret = json_object();

        for (int i = 0; i < MLC_SKETCH_SIDE; i++) {
                int bucket = MLC_SKETCH_FIRST + i;
                int64_t up = cells[MLC_SKETCH_SIDE + 1 + i], down = cells[MLC_SKETCH_SIDE - 1 - i];

                if (up > 0)
                        json_array_append_new(positive,
                                              json_pack("[i, I]", bucket, (json_int_t)up));
                if (down > 0)
                        json_array_append_new(negative,
                                              json_pack("[i, I]", bucket, (json_int_t)down));
        }
        json_object_set_new(ret, "zero", json_integer(cells[MLC_SKETCH_SIDE]));
        json_object_set_new(ret, "positive", positive);
        json_object_set_new(ret, "negative", negative);
        return ret;
}
