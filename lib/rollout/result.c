/* SPDX-License-Identifier: Apache-2.0 */
/* What each check says of the statistics. */
#include "rollout/result.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/num.h"
#include "rollout/stats.h"
#include "stats/special.h"

#define FLOOR 30 /* of each arm, before a check says anything */
#define T_OPT 1000 /* confidence sequences are narrowest there */

static const struct result NOTHING = {.statistic = "none",
                                      .value = NAN,
                                      .estimate = NAN,
                                      .limit = NAN,
                                      .interval = {NAN, NAN},
                                      .confidence = NAN,
                                      .p = NAN,
                                      .threshold = NAN};

static void rule(struct result *r, enum verdict v, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));

static void rule(struct result *r, enum verdict v, const char *fmt, ...)
{
        va_list ap;

        r->verdict = v;
        va_start(ap, fmt);
        (void)vsnprintf(r->rule, sizeof(r->rule), fmt, ap);
        va_end(ap);
}

static int64_t floor_of(const struct result_in *in)
{
        int64_t wanted = int_get(in->step, "requests");

        return wanted > 0 && wanted < FLOOR ? wanted : FLOOR;
}

/* error-rate, slower-than, labels */
static int rate(const struct result_in *in, struct result *r, struct mlc_err *err)
{
        const json_t *json =
                json_object_get(json_object_get(in->stats, "rates"), text_get(in->check, "id"));
        double alpha = num_get(in->check, "alpha", 0.05),
               harm = num_get(in->check, "alpha_harm", 0.05),
               margin = num_get(in->check, "margin", 0.0);
        int64_t least = floor_of(in);
        struct track t;
        int e = track_load(json, &t, err);

        if (e < 0)
                return e;
        r->limit = margin;
        r->n_candidate = t.candidate.n + t.pairs;
        r->n_stable = t.stable.n + t.pairs;
        r->threshold = 1.0 / harm;
        if (r->n_candidate < least || r->n_stable < least || !track_known(&t)) {
                rule(r, INCONCLUSIVE,
                     "too few: %lld of the candidate and %lld of stable beside it, %lld of each "
                     "are needed",
                     (long long)r->n_candidate, (long long)r->n_stable, (long long)least);
                return 0;
        }
        r->statistic = t.mixture ? "mixture likelihood ratio" : "exact e-value";
        r->value = exp(track_ln(&t));
        r->p = fmin(1.0, exp(-t.max_ln));
        r->estimate = track_estimate(&t);
        r->interval = track_interval(&t, alpha, margin);
        r->confidence = 1.0 - alpha;
        if (t.max_ln >= log(r->threshold) && r->estimate > margin)
                rule(r, HARM, "worse: M passed %.4g, and the difference is above the margin %.4g",
                     r->threshold, margin);
        else if (r->interval.hi < margin)
                rule(r, PROVEN, "not worse by %.4g or more: the upper bound is below the margin",
                     margin);
        else if (t.max_ln >= log(r->threshold))
                rule(r, OK, "worse, but by less than the margin %.4g", margin);
        else
                rule(r, OK, "no harm proven: M stayed below %.4g", r->threshold);
        return 0;
}

/* --- quantiles of the latency --- */

/* The place of order statistic k (from 1) in the histogram: its bucket; 0 beyond the last. */
static unsigned bucket_of(const struct mlc_latency *h, int64_t k)
{
        int64_t seen = 0;

        for (unsigned i = 0; i < MLC_LATENCY_BUCKETS; i++) {
                seen += (int64_t)h->n[i];
                if (seen >= k)
                        return MLC_LATENCY_FIRST + i;
        }
        return 0;
}

/* How many of n may be at or below the true quantile: the least or the greatest k that the
 * confidence sequence does not refute. */
static int64_t rank_end(int64_t n, double q, double alpha, int side)
{
        int64_t in = llround(q * (double)n), out = side < 0 ? -1 : n + 1;

        while (llabs(out - in) > 1) {
                int64_t middle = (in + out) / 2;

                if (mlc_bernoulli_holds((struct mlc_counts){middle, n}, q, alpha, T_OPT))
                        in = middle;
                else
                        out = middle;
        }
        return in;
}

/* An interval for the quantile that holds at all looks; NaN where the data do not bound it. */
static struct mlc_interval quantile_sequence(const struct mlc_latency *h, double q, double alpha)
{
        int64_t n = (int64_t)mlc_latency_count(h), lo = rank_end(n, q, alpha, -1),
                hi = rank_end(n, q, alpha, 1);
        struct mlc_interval i = {NAN, NAN};

        if (lo >= 1)
                i.lo = mlc_latency_upper(bucket_of(h, lo) - 1);
        if (hi + 1 <= n)
                i.hi = mlc_latency_upper(bucket_of(h, hi + 1));
        return i;
}

static int latency(const struct result_in *in, struct result *r, struct mlc_err *err)
{
        const json_t *of = json_object_get(in->stats, "latency");
        double q = num_get(in->check, "quantile", 0.99), margin = num_get(in->check, "margin", 0.0),
               k = in->index + 1.0, harm = num_get(in->check, "alpha_harm", 0.05) / (k * (k + 1.0)),
               alpha = num_get(in->check, "alpha", 0.05);
        struct mlc_latency c = {{0}}, s = {{0}};
        struct mlc_interval ci, si, pc, ps;
        int e = stats_latency_add(json_object_get(of, "candidate"), "/latency", &c, err);

        if (e == 0)
                e = stats_latency_add(json_object_get(of, "stable"), "/latency", &s, err);
        if (e < 0)
                return e;
        r->limit = margin;
        if (of != NULL && int_get(of, "step") == (int64_t)in->index) {
                r->n_candidate = (int64_t)mlc_latency_count(&c);
                r->n_stable = (int64_t)mlc_latency_count(&s);
        }
        if (r->n_candidate < FLOOR || r->n_stable < FLOOR) {
                rule(r, INCONCLUSIVE,
                     "too few in this step: %lld of the candidate and %lld of stable, %d of each "
                     "are needed",
                     (long long)r->n_candidate, (long long)r->n_stable, FLOOR);
                return 0;
        }
        ci = quantile_sequence(&c, q, harm / 2.0);
        si = quantile_sequence(&s, q, harm / 2.0);
        pc = quantile_sequence(&c, q, alpha / 2.0);
        ps = quantile_sequence(&s, q, alpha / 2.0);
        r->statistic = "quantile confidence sequences";
        r->value = mlc_latency_quantile(&c, q);
        r->estimate = r->value / mlc_latency_quantile(&s, q) - 1.0;
        r->interval = (struct mlc_interval){pc.lo / ps.hi - 1.0, pc.hi / ps.lo - 1.0};
        r->confidence = 1.0 - alpha;
        if (ci.lo > si.hi * (1.0 + margin))
                rule(r, HARM,
                     "slower: the lower bound is above stable's upper bound by more than "
                     "the margin %.4g",
                     margin);
        else if (r->interval.hi < margin)
                rule(r, PROVEN, "not slower by a share of %.4g or more", margin);
        else
                rule(r, OK, "no harm proven: the intervals are not apart by more than the margin");
        return 0;
}

/* --- outputs --- */

static void distribution(const struct result_in *in, struct result *r)
{
        const json_t *looks = json_object_get(json_object_get(in->stats, "looks"),
                                              text_get(in->check, "id")),
                     *harm = json_object_get(looks, "harm"),
                     *look = harm != NULL ? harm : json_object_get(looks, "result");
        const char *method = text_get(look, "method");
        double floor = num_get(in->check, "floor", 0.1), alpha = num_get(look, "alpha", 0.05);

        r->limit = floor;
        if (look == NULL) {
                rule(r, INCONCLUSIVE, "fewer than %d outputs of each to look at", STATS_LOOK_FIRST);
                return;
        }
        r->statistic = strcmp(method, "psi") == 0          ? "population stability index"
                       : strcmp(method, "ks") == 0         ? "Kolmogorov-Smirnov"
                       : strcmp(method, "chi-square") == 0 ? "chi-square"
                                                           : "none";
        r->n_candidate = int_get(look, "candidate");
        r->n_stable = int_get(look, "stable");
        r->value = num_get(look, "statistic", NAN);
        r->estimate = num_get(look, "effect", NAN);
        r->p = num_get(look, "p", NAN);
        r->threshold = 1.0 / alpha;
        if (harm != NULL)
                rule(r, HARM, "outputs differ: p below %.4g at this look, effect at least %.4g",
                     alpha, floor);
        else if (*text_get(look, "reason") != '\0')
                rule(r, INCONCLUSIVE, "%s", text_get(look, "reason"));
        else if (r->p < alpha)
                rule(r, OK, "outputs differ, but by an effect below %.4g", floor);
        else
                rule(r, OK, "no difference proven: p not below %.4g at this look", alpha);
}

static void agreement(const struct result_in *in, struct result *r)
{
        const json_t *a =
                json_object_get(json_object_get(in->stats, "agreement"), text_get(in->check, "id"));
        double least = num_get(in->check, "at_least", 1.0),
               alpha = num_get(in->check, "alpha", 0.05),
               harm = num_get(in->check, "alpha_harm", 0.05);
        struct mlc_counts c = {int_get(a, "agree"), int_get(a, "n")},
                          noise = {int_get(a, "noise_n") - int_get(a, "noise_agree"),
                                   int_get(a, "noise_n")};
        struct mlc_interval i, n = {0.0, 0.0}, hi, hn = {0.0, 0.0};
        double floor = noise.n > 0 ? (double)noise.k / (double)noise.n : 0.0;

        r->limit = least;
        r->n_candidate = r->n_stable = c.n;
        if (c.n < FLOOR || c.k < 0 || c.k > c.n || noise.k < 0 || noise.n < 0) {
                rule(r, INCONCLUSIVE, "too few compared requests: %lld, %d are needed",
                     (long long)c.n, FLOOR);
                return;
        }
        i = mlc_bernoulli_sequence(c, alpha, T_OPT);
        hi = mlc_bernoulli_sequence(c, harm, T_OPT);
        if (noise.n > 0) { /* what stable itself does not repeat is no disagreement */
                n = mlc_bernoulli_sequence(noise, alpha, T_OPT);
                hn = mlc_bernoulli_sequence(noise, harm, T_OPT);
        }
        r->statistic = "Bernoulli confidence sequence";
        r->value = (double)c.k / (double)c.n;
        r->estimate = fmin(1.0, r->value + floor);
        r->interval = (struct mlc_interval){fmin(1.0, i.lo + n.lo), fmin(1.0, i.hi + n.hi)};
        r->confidence = 1.0 - alpha;
        if (hi.hi + hn.hi < least)
                rule(r, HARM, "fewer agree than %.4g: the upper bound is below", least);
        else if (r->interval.lo >= least)
                rule(r, PROVEN, "at least %.4g agree: the lower bound is not below", least);
        else
                rule(r, OK, "not proven that fewer than %.4g agree", least);
}

static void promql(const struct result_in *in, struct result *r)
{
        const json_t *p =
                json_object_get(json_object_get(in->stats, "promql"), text_get(in->check, "id"));
        int64_t beyond = int_get(p, "beyond"), limit = int_get(in->check, "consecutive");

        r->limit = num_get(in->check, "at_most", num_get(in->check, "at_least", NAN));
        r->n_candidate = int_get(p, "n");
        r->value = r->estimate = num_get(p, "value", NAN);
        r->statistic = "value";
        limit = limit > 0 ? limit : 1;
        if (beyond >= limit)
                rule(r, HARM, "beyond the bound %lld times in a row", (long long)limit);
        else if (p == NULL)
                rule(r, INCONCLUSIVE, "not queried yet");
        else if (isnan(r->value))
                rule(r, INCONCLUSIVE, "no value: %.150s", text_get(p, "error"));
        else if (int_get(p, "step") != (int64_t)in->index)
                rule(r, INCONCLUSIVE, "no value in this step yet");
        else if (beyond > 0)
                rule(r, INCONCLUSIVE, "beyond the bound, not yet %lld times in a row",
                     (long long)limit);
        else
                rule(r, OK, "within the bound");
}

int result_of(const struct result_in *in, struct result *ret, struct mlc_err *err)
{
        const char *type = text_get(in->check, "type");

        *ret = NOTHING;
        if (strcmp(type, "prediction-distribution") == 0)
                distribution(in, ret);
        else if (strcmp(type, "shadow-agreement") == 0)
                agreement(in, ret);
        else if (strcmp(type, "promql") == 0)
                promql(in, ret);
        else if (strcmp(type, "latency") == 0)
                return latency(in, ret, err);
        else
                return rate(in, ret, err);
        return 0;
}

/* --- a/b --- */

static void ab_verdict(struct result *r, double margin)
{
        if (r->interval.lo > margin)
                rule(r, HARM, "worse by more than the margin %.4g", margin);
        else if (r->interval.hi < 0)
                rule(r, PROVEN, "better: the whole interval is below 0");
        else if (r->interval.hi < margin)
                rule(r, PROVEN, "not worse by %.4g or more: the interval is below the margin",
                     margin);
        else
                rule(r, INCONCLUSIVE, "undecided at the horizon: the interval holds the margin");
}

int result_ab(const json_t *plan, const json_t *stats, struct result_ab *ret, struct mlc_err *err)
{
        const json_t *ab = json_object_get(plan, "ab"), *state = json_object_get(stats, "ab"),
                     *frozen = json_object_get(state, "frozen"),
                     *rate = json_object_get(json_object_get(stats, "rates"),
                                             text_get(ab, "metric")),
                     *counts = json_is_object(frozen) ? frozen : rate;
        double alpha = num_get(ab, "alpha", 0.05), margin = num_get(ab, "margin", 0.0);
        struct mlc_counts c = {int_get(json_object_get(counts, "candidate"), "bad"),
                               int_get(json_object_get(counts, "candidate"), "n")},
                          s = {int_get(json_object_get(counts, "stable"), "bad"),
                               int_get(json_object_get(counts, "stable"), "n")};
        const json_t *p = json_object_get(counts, "pairs");
        struct mlc_paired d = {int_get(p, "only_stable"), int_get(p, "only_candidate"),
                               int_get(p, "n")};
        struct result *r = &ret->r;

        *ret = (struct result_ab){.r = NOTHING, .ended = json_is_object(frozen)};
        ret->need = int_get(ab, "horizon");
        ret->have = d.n > 0 ? d.n : c.n < s.n ? c.n : s.n;
        r->limit = margin;
        r->n_candidate = d.n > 0 ? d.n : c.n;
        r->n_stable = d.n > 0 ? d.n : s.n;
        r->confidence = 1.0 - alpha;
        if (c.k < 0 || c.n < 0 || s.k < 0 || s.n < 0 || d.b < 0 || d.c < 0 || d.n < d.b + d.c)
                return mlc_fail(err, MLC_E_INVALID, "these are no statistics of an A/B test");
        if (d.n == 0 && (c.n == 0 || s.n == 0)) {
                rule(r, INCONCLUSIVE, "there are no data");
                return 0;
        }
        c.k = c.k < c.n ? c.k : c.n;
        s.k = s.k < s.n ? s.k : s.n;
        if (!ret->ended) { /* looking is free: an interval that holds at all looks, no verdict */
                struct track t;
                int e = track_load(rate, &t, err);

                if (e < 0)
                        return e;
                if (track_known(&t)) {
                        r->statistic = "confidence sequence";
                        r->estimate = track_estimate(&t);
                        r->interval = track_interval(&t, alpha, margin);
                }
                rule(r, INCONCLUSIVE, "the horizon is not reached");
                return 0;
        }
        if (d.n > 0) {
                r->statistic = "Tango's interval, at the horizon";
                r->interval = mlc_tango(d, 1.0 - 2.0 * alpha);
                r->estimate = (double)(d.b - d.c) / (double)d.n;
        } else {
                r->statistic = "Newcombe's interval, at the horizon";
                r->interval = mlc_newcombe(c, s, 1.0 - 2.0 * alpha);
                r->estimate = (double)c.k / (double)c.n - (double)s.k / (double)s.n;
        }
        ab_verdict(r, margin);
        return 0;
}

/* --- JSON --- */

json_t *result_json(const struct result *r, const json_t *check, bool decides)
{
        static const char *const names[] = {"inconclusive", "ok", "proven", "harm"};
        json_t *interval =
                isnan(r->interval.lo) && isnan(r->interval.hi)
                        ? json_null()
                        : json_pack("[o, o]", num_json(r->interval.lo), num_json(r->interval.hi));

        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:{s:I, s:I}, s:o, "
                         "s:o, s:b, s:s}",
                         "id", text_get(check, "id"), "type", text_get(check, "type"), "mode",
                         text_get(check, "mode"), "verdict", names[r->verdict], "statistic",
                         r->statistic, "value", num_json(r->value), "estimate",
                         num_json(r->estimate), "interval", interval, "confidence",
                         num_json(r->confidence), "limit", num_json(r->limit), "n", "candidate",
                         (json_int_t)r->n_candidate, "stable", (json_int_t)r->n_stable, "p",
                         num_json(r->p), "threshold", num_json(r->threshold), "decides", decides,
                         "rule", r->rule);
}
