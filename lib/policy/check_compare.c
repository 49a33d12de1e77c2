/* SPDX-License-Identifier: Apache-2.0 */
/* compare: candidate minus champion, paired where the examples allow it. */
#include <math.h>
#include <string.h>

#include "base/str.h"
#include "policy/judge.h"
#include "stats/dist.h"

#define EXACT_BELOW 25 /* discordant pairs */
#define POWER 0.8
#define N_MAX 1e12

struct test {
        bool superiority, lower_is_better;
        double from; /* the difference that must be exceeded: -margin, or margin of superiority */
        double alpha;
        int64_t minimum_n;
        const char *metric;
        const json_t *slice;
};

int64_t needed_compare(double gap, double variance, double alpha)
{
        double z = mlc_normal_quantile(1.0 - alpha) + mlc_normal_quantile(POWER), n;

        if (gap <= 0)
                return 0;
        n = ceil(z * z * variance / (gap * gap));
        return n < 1 ? 1 : n > N_MAX ? 0 : (int64_t)n;
}

static void by_interval(struct judge *j, const struct test *t, struct outcome *o)
{
        if (o->interval.lo > t->from) {
                o->verdict = PASS;
                o->reason = t->superiority ? "proven better than the champion"
                                           : "proven not worse than the margin allows";
        } else if (o->interval.hi < t->from) {
                o->verdict = FAIL;
                o->reason = t->superiority ? "proven not better than the champion"
                                           : "proven worse than the margin allows";
        } else {
                o->verdict = INCONCLUSIVE;
                o->reason = o->n_needed > 0
                                    ? judge_text(j,
                                                 "not proven either way: %lld examples would be "
                                                 "needed",
                                                 (long long)o->n_needed)
                                    : "not proven either way, and more examples like these would "
                                      "not prove it";
        }
}

/* Few discordant pairs: the exact binomial test instead of the interval. */
static void by_exact(struct judge *j, const struct test *t, struct mlc_paired d, struct outcome *o)
{
        struct mlc_paired turned = {d.c, d.b, d.n};

        o->statistic = "mcnemar-exact";
        if (mlc_mcnemar_superiority(d) <= t->alpha) {
                o->verdict = PASS;
                o->reason = "proven better than the champion";
        } else if (mlc_mcnemar_superiority(turned) <= t->alpha) {
                o->verdict = FAIL;
                o->reason = "proven worse than the champion";
        } else {
                o->verdict = INCONCLUSIVE;
                o->reason = judge_text(j,
                                       "not proven either way: %lld right only here, %lld only "
                                       "in the champion",
                                       (long long)d.b, (long long)d.c);
        }
}

static void paired(struct judge *j, const struct test *t, struct mlc_paired d, struct outcome *o)
{
        double diff = (double)(d.b - d.c) / (double)d.n;
        double discordant = fmax((double)(d.b + d.c), 1.0) / (double)d.n;

        o->observed = judge_decimal(j, diff);
        o->worse = -diff;
        o->n = d.n;
        o->has_interval = true;
        o->interval = mlc_tango(d, 1.0 - 2.0 * t->alpha);
        o->statistic = "tango";
        o->n_needed = needed_compare(diff - t->from, discordant - diff * diff, t->alpha);
        if (t->superiority && t->from == 0 && d.b + d.c < EXACT_BELOW)
                by_exact(j, t, d, o);
        else
                by_interval(j, t, o);
}

/* How many of n are right, the value turned round when lower is better. */
static struct mlc_counts counts(const struct mlc_metric *m, bool lower_is_better)
{
        double share = lower_is_better ? 1.0 - m->value : m->value;

        return (struct mlc_counts){llround(share * (double)m->n), m->n};
}

static void unpaired(struct judge *j, const struct test *t, const struct mlc_metric m[2],
                     struct outcome *o)
{
        struct mlc_counts one = counts(&m[0], t->lower_is_better);
        struct mlc_counts two = counts(&m[1], t->lower_is_better);
        double p = (double)one.k / (double)one.n, q = (double)two.k / (double)two.n;
        double variance = fmax(p * (1 - p) + q * (1 - q), 1.0 / (double)one.n);

        o->observed = judge_decimal(j, p - q);
        o->worse = q - p;
        o->n = one.n < two.n ? one.n : two.n;
        o->has_interval = true;
        o->interval = mlc_newcombe(one, two, 1.0 - 2.0 * t->alpha);
        o->statistic = "newcombe";
        o->n_needed = needed_compare(p - q - t->from, variance, t->alpha);
        by_interval(j, t, o);
}

static void error(struct outcome *o, const char *reason)
{
        o->verdict = ERROR;
        o->reason = reason;
}

/* Pairs the examples of both; false when they cannot be paired and each share must do. */
static bool try_paired(struct judge *j, const struct test *t, const struct record *const r[2],
                       struct outcome *o, const char **ret_note)
{
        const struct mlc_examples *x[2];
        struct mlc_paired d;
        const char *why = NULL;

        if (r[0]->examples == NULL || r[1]->examples == NULL || t->lower_is_better)
                return false;
        for (int i = 0; i < 2; i++) {
                x[i] = judge_examples(j, r[i]->examples, &why);
                if (x[i] == NULL) {
                        error(o, why);
                        return true;
                }
        }
        switch (mlc_examples_pair(x[0], x[1], t->metric, t->slice, &d)) {
        case MLC_PAIRED:
                paired(j, t, d, o);
                return true;
        case MLC_PAIR_OTHER_LABELS:
                error(o, "the examples of both versions disagree about labels or slices of the "
                         "same dataset");
                return true;
        case MLC_PAIR_OTHER_IDS:
                *ret_note = "; unpaired: the ids of the examples differ";
                return false;
        default:
                return false;
        }
}

static void enough(struct judge *j, const struct test *t, struct outcome *o)
{
        if (o->n >= t->minimum_n || o->verdict == ERROR)
                return;
        o->verdict = INCONCLUSIVE;
        o->n_needed = o->n_needed > t->minimum_n ? o->n_needed : t->minimum_n;
        o->reason = judge_text(j, "too few examples: %lld of %lld", (long long)o->n,
                               (long long)t->minimum_n);
}

/* One evaluation of each side on the same dataset digest. */
static void judge_pair(struct judge *j, struct test *t, const struct record *const r[2],
                       const struct mlc_metric m[2], struct outcome *o)
{
        const char *note = "";

        o->dataset = r[0]->e.dataset_ref;
        t->lower_is_better = m[0].lower_is_better;
        if (m[0].lower_is_better != m[1].lower_is_better)
                return error(o, "the two evaluations disagree about which direction is better");
        if (!try_paired(j, t, r, o, &note)) {
                if (!judge_is_share(&m[0]) || !judge_is_share(&m[1]))
                        return error(o, judge_text(j,
                                                   "'%.60s' is no share of right answers, which "
                                                   "is what compare is for",
                                                   t->metric));
                unpaired(j, t, m, o);
                if (*note != '\0')
                        o->reason = judge_text(j, "%s%s", o->reason, note);
        }
        enough(j, t, o);
}

static bool differs(struct judge *j, const json_t *check, const struct side *s)
{
        for (size_t i = 0; i < s->n; i++)
                for (size_t k = 0; k < i; k++) {
                        const struct record *a = &s->records[i], *b = &s->records[k];
                        struct mlc_metric one, two;

                        if (strcmp(a->e.dataset_ref, b->e.dataset_ref) == 0 &&
                            judge_wants(check, a) && judge_metric(check, a, &one) &&
                            judge_metric(check, b, &two) &&
                            strcmp(judge_decimal(j, one.value), judge_decimal(j, two.value)) != 0)
                                return true;
                }
        return false;
}

struct search {
        struct outcome *worst; /* so far */
        bool any;
};

static void found_one(struct search *s, const struct outcome *o)
{
        if (!s->any || outcome_worse(o, s->worst))
                *s->worst = *o;
        s->any = true;
}

/* All evaluations of the champion on the dataset digest of `mine`. */
static bool against(struct judge *j, const json_t *check, struct test *t, const struct record *mine,
                    struct search *s)
{
        struct mlc_metric m[2];
        bool found = false;

        if (!judge_wants(check, mine) || !judge_metric(check, mine, &m[0]))
                return false;
        for (size_t k = 0; k < j->champion.n; k++) {
                const struct record *pair[2] = {mine, &j->champion.records[k]};
                struct outcome o = {0};

                if (strcmp(mine->e.dataset_ref, pair[1]->e.dataset_ref) != 0 ||
                    !judge_metric(check, pair[1], &m[1]))
                        continue;
                judge_pair(j, t, pair, m, &o);
                found_one(s, &o);
                found = true;
        }
        if (!found) { /* each dataset needs its counterpart */
                struct outcome o = {.verdict = INCONCLUSIVE, .dataset = mine->e.dataset_ref};

                o.reason = judge_text(j, "the champion has no evaluation of '%.60s' on %.300s",
                                      t->metric, mine->e.dataset_ref);
                found_one(s, &o);
        }
        return true;
}

void check_compare(struct judge *j, const json_t *check, struct outcome *ret)
{
        double margin = judge_number(check, "margin");
        struct test t = {.metric = json_string_value(json_object_get(check, "metric")),
                         .slice = json_object_get(check, "slice"),
                         .alpha = judge_number(check, "alpha"),
                         .minimum_n = json_integer_value(json_object_get(check, "minimum_n"))};
        struct search s = {ret, false};
        bool mine = false;
        const char *required;

        t.superiority = mlc_streq(json_string_value(json_object_get(check, "test")), "superiority");
        t.from = t.superiority ? margin : -margin;
        required = judge_text(j, "> %s", judge_decimal(j, t.from));
        if (!j->has_champion) {
                *ret = (struct outcome){.verdict = PASS,
                                        .required = required,
                                        .reason = "there is no champion to compare with"};
                return;
        }
        for (size_t i = 0; i < j->version.n; i++)
                mine = against(j, check, &t, &j->version.records[i], &s) || mine;
        if (!mine) {
                ret->verdict = INCONCLUSIVE;
                ret->reason = judge_text(j,
                                         "no evaluation of this version has the metric '%.60s' "
                                         "on that dataset",
                                         t.metric);
        }
        ret->required = required;
        ret->conflict = mine && (differs(j, check, &j->version) || differs(j, check, &j->champion));
}
