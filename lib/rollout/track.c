/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/track.h"

#include <assert.h>
#include <math.h>
#include <string.h>

#include "rollout/num.h"

#define OPEN_MAX 8 /* batches that gather at once */
#define BATCHED "gathering"

static bool counts_load(const json_t *obj, struct mlc_counts *ret)
{
        *ret = (struct mlc_counts){int_get(obj, "bad"), int_get(obj, "n")};
        return ret->k >= 0 && ret->n >= 0 && ret->k <= INT64_C(1) << 50 &&
               ret->n <= INT64_C(1) << 50;
}

static json_t *counts_store(struct mlc_counts c)
{
        return json_pack("{s:I, s:I}", "n", (json_int_t)c.n, "bad", (json_int_t)c.k);
}

int track_load(const json_t *json, struct track *ret, struct mlc_err *err)
{
        const json_t *odds = json_object_get(json, "odds"),
                     *mixture = json_object_get(json, "mixture"),
                     *pairs = json_object_get(json, "pairs");
        struct track t = {.score = num_get(json, "score", 0.0),
                          .weight = num_get(json, "weight", 0.0),
                          .v_stable = num_get(json, "v_stable", 0.0),
                          .v_candidate = num_get(json, "v_candidate", 0.0),
                          .max_ln = num_get(json, "max_ln", 0.0),
                          .chosen = json_is_true(json_object_get(json, "chosen")),
                          .mixture = json_is_object(mixture),
                          .pairs = int_get(pairs, "n"),
                          .only_stable = int_get(pairs, "only_stable"),
                          .only_candidate = int_get(pairs, "only_candidate")};
        bool good = counts_load(json_object_get(json, "candidate"), &t.candidate) &&
                    counts_load(json_object_get(json, "stable"), &t.stable);

        if (json_object_size(json) == 0) {
                *ret = t;
                return 0;
        }
        for (unsigned i = 0; i < MLC_ODDS_N; i++) {
                t.odds.ln[i] = num_of(json_array_get(odds, i));
                good = good && isfinite(t.odds.ln[i]);
        }
        if (t.mixture) {
                t.from = num_get(mixture, "from", 0.0);
                t.s = num_get(mixture, "s", 0.0);
                t.v = num_get(mixture, "v", 0.0);
                t.rho = num_get(mixture, "rho", 0.0);
                good = good && t.rho > 0 && t.v >= 0;
        }
        if (!good || t.weight < 0 || t.v_stable < 0 || t.v_candidate < 0 || t.only_stable < 0 ||
            t.only_candidate < 0 || t.pairs < t.only_stable + t.only_candidate)
                return mlc_fail(err, MLC_E_INVALID, "these are no statistics of a rate");
        *ret = t;
        return 0;
}

void track_store(const struct track *t, json_t *json)
{
        json_t *odds = json_array();

        for (unsigned i = 0; i < MLC_ODDS_N; i++)
                json_array_append_new(odds, num_json(t->odds.ln[i]));
        json_object_set_new(json, "odds", odds);
        json_object_set_new(json, "candidate", counts_store(t->candidate));
        json_object_set_new(json, "stable", counts_store(t->stable));
        json_object_set_new(json, "max_ln", num_json(t->max_ln));
        json_object_set_new(json, "score", num_json(t->score));
        json_object_set_new(json, "weight", num_json(t->weight));
        json_object_set_new(json, "v_stable", num_json(t->v_stable));
        json_object_set_new(json, "v_candidate", num_json(t->v_candidate));
        json_object_set_new(json, "chosen", json_boolean(t->chosen));
        json_object_set_new(json, "mixture",
                            !t->mixture ? json_null()
                                        : json_pack("{s:o, s:o, s:o, s:o}", "from",
                                                    num_json(t->from), "s", num_json(t->s), "v",
                                                    num_json(t->v), "rho", num_json(t->rho)));
        json_object_set_new(json, "pairs",
                            json_pack("{s:I, s:I, s:I}", "n", (json_int_t)t->pairs, "only_stable",
                                      (json_int_t)t->only_stable, "only_candidate",
                                      (json_int_t)t->only_candidate));
}

static double pooled(const struct track *t)
{
        double n = (double)(t->candidate.n + t->stable.n);
        double p = n > 0 ? (double)(t->candidate.k + t->stable.k) / n : 0.0;

        return fmin(fmax(p, 0.0), 1.0);
}

/* Where mixtures are narrowest: a difference of `far` can be told from 0 with some 8 units of
 * information (z = 2.8), the variance per unit of weight being pq. */
static double rho_for(double pq, double far, double alpha)
{
        double v = 8.0 * pq * pq / (far * far);

        return mlc_mixture_rho(fmax(v, 1e-12), fmin(2.0 * alpha, 0.5));
}

/* Which difference matters: the margin, or what the rate itself lets one see. */
static double far_of(double margin, double p)
{
        return fmax(margin, fmax(0.1 * p, 1e-4));
}

static void choose(struct track *t, struct track_test test)
{
        double p = pooled(t), far = fmax(test.margin, 0.25 * p);

        if (t->chosen || t->candidate.n < TRACK_FLOOR || t->stable.n < TRACK_FLOOR)
                return;
        t->chosen = true;
        if (p < TRACK_RARE || p > 1.0 - 1e-6)
                return;
        t->mixture = true;
        t->from = mlc_odds_ln(&t->odds);
        t->rho = rho_for(p * (1.0 - p), far, test.alpha);
}

double track_ln(const struct track *t)
{
        return t->mixture ? t->from + mlc_mixture_one_sided_ln(t->s, t->v, t->rho)
                          : mlc_odds_ln(&t->odds);
}

static void close_batch(struct track *t, struct mlc_batch b, struct track_test test)
{
        double c = (double)b.n_candidate, s = (double)b.n_stable, n = c + s;
        double kc = (double)b.k_candidate, ks = (double)b.k_stable, k = kc + ks;

        t->score += (kc * s - ks * c) / n;
        t->weight += c * s / n;
        t->v_stable += c * s * s / (n * n);
        t->v_candidate += c * c * s / (n * n);
        if (t->mixture) {
                t->s += kc - k * c / n;
                t->v += k * (n - k) * c * s / (n * n * (n - 1.0));
        } else {
                mlc_odds_add(&t->odds, b);
        }
        choose(t, test);
        t->max_ln = fmax(t->max_ln, track_ln(t));
}

/* The place in `open` of this stratum; made when it is not there, the oldest one then goes. */
static json_t *open_of(json_t *open, struct track_stratum at)
{
        json_t *o;
        size_t i;

        json_array_foreach (open, i, o)
                if (int_get(o, "generation") == at.generation &&
                    json_is_true(json_object_get(o, "shadow")) == at.shadow)
                        return o;
        if (json_array_size(open) == OPEN_MAX)
                json_array_remove(open, 0);
        o = json_pack("{s:I, s:b}", "generation", (json_int_t)at.generation, "shadow", at.shadow);
        json_array_append_new(open, o);
        return o;
}

void track_add(struct track *t, json_t *json, struct track_stratum at, struct mlc_batch b,
               struct track_test test)
{
        json_t *open = json_object_get(json, BATCHED), *o;

        if (b.n_candidate + b.n_stable + b.k_candidate + b.k_stable == 0)
                return;
        if (open == NULL) {
                open = json_array();
                json_object_set_new(json, BATCHED, open);
        }
        o = open_of(open, at);
        t->candidate.n += b.n_candidate;
        t->candidate.k += b.k_candidate;
        t->stable.n += b.n_stable;
        t->stable.k += b.k_stable;
        b.n_candidate += int_get(o, "n_candidate");
        b.k_candidate += int_get(o, "k_candidate");
        b.n_stable += int_get(o, "n_stable");
        b.k_stable += int_get(o, "k_stable");
        /* what ends may be counted later than what began: the batch then waits */
        if (b.n_candidate + b.n_stable >= TRACK_BATCH && b.k_candidate <= b.n_candidate &&
            b.k_stable <= b.n_stable) {
                close_batch(t, b, test);
                b = (struct mlc_batch){0};
        }
        json_object_set_new(o, "n_candidate", json_integer(b.n_candidate));
        json_object_set_new(o, "k_candidate", json_integer(b.k_candidate));
        json_object_set_new(o, "n_stable", json_integer(b.n_stable));
        json_object_set_new(o, "k_stable", json_integer(b.k_stable));
}

void track_add_pairs(struct track *t, int64_t n, int64_t only_stable, int64_t only_candidate)
{
        t->pairs += n;
        t->only_stable += only_stable;
        t->only_candidate += only_candidate;
        if (t->mixture) {
                t->s += (double)(only_stable - only_candidate) / 2.0;
                t->v += (double)(only_stable + only_candidate) / 4.0;
        } else {
                mlc_odds_add_pairs(&t->odds, only_stable, only_stable + only_candidate);
        }
        t->max_ln = fmax(t->max_ln, track_ln(t));
}

bool track_known(const struct track *t)
{
        return t->pairs > 0 || t->weight > 0;
}

double track_estimate(const struct track *t)
{
        if (t->pairs > 0)
                return (double)(t->only_stable - t->only_candidate) / (double)t->pairs;
        return t->weight > 0 ? t->score / t->weight : 0.0;
}

/* Variance of the score if the difference were d, with the pooled rate kept. */
static double variance(const struct track *t, double d)
{
        double c = (double)t->candidate.n, s = (double)t->stable.n, share = c / (c + s);
        double ps = pooled(t) - share * d, pc;

        ps = fmin(fmax(ps, fmax(0.0, -d)), fmin(1.0, 1.0 - d));
        pc = fmin(fmax(ps + d, 0.0), 1.0);
        return t->v_stable * pc * (1.0 - pc) + t->v_candidate * ps * (1.0 - ps);
}

struct side {
        double alpha, far;
        int sign; /* 1: upper end, -1: lower end */
};

/* ln M against "the difference is beyond d" on that side. */
static double refuted(const struct track *t, double d, struct side side)
{
        double v = fmax(variance(t, d), 1e-12);
        double rho = rho_for(v / t->weight, side.far, side.alpha);

        return mlc_mixture_one_sided_ln(side.sign * (d * t->weight - t->score), v, rho);
}

static double end_of(const struct track *t, struct side side)
{
        double in = fmin(fmax(track_estimate(t), -1.0), 1.0), out = side.sign,
               level = log(1.0 / side.alpha);

        if (refuted(t, out, side) < level)
                return out;
        for (int i = 0; i < 60; i++) {
                double middle = (in + out) / 2.0;

                if (refuted(t, middle, side) < level)
                        in = middle;
                else
                        out = middle;
        }
        return out;
}

/* Paired: the sum of differences has as variance the number of pairs that differ. */
static struct mlc_interval paired(const struct track *t, double alpha, double margin)
{
        double n = (double)t->pairs, v = (double)(t->only_stable + t->only_candidate) + 1.0;
        double rho = rho_for(v / n, far_of(margin, v / n), alpha), d = track_estimate(t);
        double half = mlc_mixture_one_sided_bound(v, alpha, rho) / n;

        return (struct mlc_interval){fmax(d - half, -1.0), fmin(d + half, 1.0)};
}

struct mlc_interval track_interval(const struct track *t, double alpha, double margin)
{
        double far = far_of(margin, pooled(t));

        assert(track_known(t));
        if (t->pairs > 0)
                return paired(t, alpha, margin);
        return (struct mlc_interval){end_of(t, (struct side){alpha, far, -1}),
                                     end_of(t, (struct side){alpha, far, 1})};
}
