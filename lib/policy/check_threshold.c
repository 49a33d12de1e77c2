/* SPDX-License-Identifier: Apache-2.0 */
/* threshold: the value, or an interval around it, against a bound. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/str.h"
#include "policy/judge.h"

#define N_MAX INT64_C(1000000000)

struct bound {
        bool at_least, interval;
        double at, confidence;
        int64_t minimum_n;
};

static bool meets(const struct bound *b, double v)
{
        return b->at_least ? v >= b->at : v <= b->at;
}

/* Lower end of Wilson's interval for a share of n. */
static double lower(double share, int64_t n, double level)
{
        return mlc_wilson((int64_t)floor(share * (double)n + 1e-9), n, level).lo;
}

int64_t needed_wilson(double share, double bound, double level)
{
        int64_t lo = 1, hi = 1;

        if (share <= bound)
                return 0;
        while (lower(share, hi, level) < bound) {
                lo = hi;
                hi *= 2;
                if (hi > N_MAX)
                        return 0;
        }
        while (hi - lo > 1) {
                int64_t middle = lo + (hi - lo) / 2;

                if (lower(share, middle, level) < bound)
                        lo = middle;
                else
                        hi = middle;
        }
        return hi;
}

/* The interval around the value: Wilson's for shares, else the declared one; false without. */
static bool interval_of(const struct mlc_metric *m, const struct bound *b, struct outcome *o)
{
        if (judge_is_share(m)) {
                int64_t k = llround(m->value * (double)m->n);

                o->interval = mlc_wilson(k, m->n, b->confidence);
                o->statistic = "wilson";
        } else if (m->has_interval && m->confidence >= b->confidence) {
                o->interval = (struct mlc_interval){m->lo, m->hi};
                o->statistic = "declared interval";
        } else {
                return false;
        }
        o->has_interval = true;
        return true;
}

static void by_interval(struct judge *j, const struct mlc_metric *m, const struct bound *b,
                        struct outcome *o)
{
        if (!interval_of(m, b, o)) {
                o->verdict = INCONCLUSIVE;
                o->reason = judge_text(j,
                                       "'%.60s' is no share and no interval of confidence %s "
                                       "is given with it",
                                       m->name, judge_decimal(j, b->confidence));
        } else if (meets(b, b->at_least ? o->interval.lo : o->interval.hi)) {
                o->verdict = PASS;
                o->reason = "the whole interval meets the bound";
        } else if (!meets(b, m->value)) {
                o->verdict = FAIL;
                o->reason = "the value does not meet the bound";
        } else {
                o->verdict = INCONCLUSIVE;
                o->n_needed =
                        !judge_is_share(m)
                                ? 0
                                : needed_wilson(b->at_least ? m->value : 1.0 - m->value,
                                                b->at_least ? b->at : 1.0 - b->at, b->confidence);
                o->reason = o->n_needed > 0
                                    ? judge_text(j,
                                                 "the value meets the bound, the interval does "
                                                 "not: %lld examples would be needed",
                                                 (long long)o->n_needed)
                                    : "the value meets the bound, the interval does not";
        }
}

static void judge_one(struct judge *j, const struct mlc_metric *m, const struct bound *b,
                      struct outcome *o)
{
        o->observed = judge_decimal(j, m->value);
        o->n = m->n;
        o->worse = b->at_least ? -m->value : m->value;
        if (m->n < b->minimum_n) {
                o->verdict = INCONCLUSIVE;
                o->n_needed = b->minimum_n;
                o->reason = judge_text(j, "too few examples: %lld of %lld", (long long)m->n,
                                       (long long)b->minimum_n);
        } else if (b->interval) {
                by_interval(j, m, b, o);
        } else {
                o->statistic = "value";
                o->verdict = meets(b, m->value) ? PASS : FAIL;
                o->reason = o->verdict == PASS ? "the value meets the bound"
                                               : "the value does not meet the bound";
        }
}

static void missing(struct judge *j, const json_t *check, struct outcome *ret)
{
        const char *dataset = json_string_value(json_object_get(check, "dataset"));
        const char *unit = json_string_value(json_object_get(check, "unit"));

        ret->verdict = INCONCLUSIVE;
        ret->reason = judge_text(
                j, "no evaluation%s%.200s has the metric '%.100s'%s%s%.60s",
                dataset != NULL ? " on " : "", dataset != NULL ? dataset : "",
                json_string_value(json_object_get(check, "metric")),
                json_object_size(json_object_get(check, "slice")) > 0 ? " in this slice" : "",
                unit != NULL ? " in " : "", unit != NULL ? unit : "");
}

/* Whether evaluations on one dataset digest give different values. */
static bool conflict(struct judge *j, const json_t *check)
{
        for (size_t i = 0; i < j->version.n; i++) {
                const struct record *a = &j->version.records[i];
                struct mlc_metric one, two;

                if (!judge_wants(check, a) || !judge_metric(check, a, &one))
                        continue;
                for (size_t k = 0; k < i; k++) {
                        const struct record *b = &j->version.records[k];

                        if (strcmp(a->e.dataset_ref, b->e.dataset_ref) == 0 &&
                            judge_metric(check, b, &two) &&
                            strcmp(judge_decimal(j, one.value), judge_decimal(j, two.value)) != 0)
                                return true;
                }
        }
        return false;
}

void check_threshold(struct judge *j, const json_t *check, struct outcome *ret)
{
        struct bound b = {.at_least = json_is_string(json_object_get(check, "at_least")),
                          .confidence = judge_number(check, "confidence"),
                          .minimum_n = json_integer_value(json_object_get(check, "minimum_n"))};
        bool found = false;

        b.interval = mlc_streq(json_string_value(json_object_get(check, "bound")), "interval");
        b.at = judge_number(check, b.at_least ? "at_least" : "at_most");
        for (size_t i = 0; i < j->version.n; i++) {
                const struct record *r = &j->version.records[i];
                struct outcome o = {.dataset = r->e.dataset_ref};
                struct mlc_metric m;

                if (!judge_wants(check, r) || !judge_metric(check, r, &m))
                        continue;
                judge_one(j, &m, &b, &o);
                if (!found || outcome_worse(&o, ret))
                        *ret = o;
                found = true;
        }
        if (!found)
                missing(j, check, ret);
        ret->required = judge_text(j, "%s %s", b.at_least ? ">=" : "<=", judge_decimal(j, b.at));
        ret->conflict = found && conflict(j, check);
}
