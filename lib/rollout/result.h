/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>

#include "codec/json.h"
#include "stats/stats.h"

/* Inside lib/rollout: what one check says. */
enum verdict { INCONCLUSIVE, OK, PROVEN, HARM };

struct result {
        enum verdict verdict;
        const char *statistic; /* static */
        double value, estimate, limit; /* NaN: there is none */
        struct mlc_interval interval; /* ends may be NaN: not known */
        double confidence; /* of one end; NaN */
        double p, threshold; /* NaN */
        int64_t n_candidate, n_stable;
        char rule[256];
};

struct result_in {
        const json_t *check, *stats, *step;
        unsigned index; /* of the step */
};
int result_of(const struct result_in *in, struct result *ret, struct mlc_err *err) MLC_CHECK;
json_t *result_json(const struct result *r, const json_t *check, bool decides);
/* The A/B test of the plan; verdict INCONCLUSIVE with `ended` false before its horizon. */
struct result_ab {
        struct result r;
        bool ended;
        int64_t have, need; /* of the horizon, requests, labels or ms; need 0: not known */
};
int result_ab(const json_t *plan, const json_t *stats, struct result_ab *ret,
              struct mlc_err *err) MLC_CHECK;
