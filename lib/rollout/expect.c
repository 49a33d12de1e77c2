/* SPDX-License-Identifier: Apache-2.0 */
/* How long a plan will take, and what each step waits for. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/num.h"
#include "rollout/plan.h"
#include "stats/sequential.h"

struct forecast {
        const json_t *plan;
        const struct mlc_rollout_rate *rate;
        double weight; /* concurrent information so far: sum of n_c n_s / n */
};

struct demand {
        const char *by, *check; /* check NULL: none */
        double samples, ms; /* samples NaN: it is no number of samples; ms NaN: not known */
};

static const json_t *check_of(const json_t *plan, const char *id)
{
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(plan, "checks"), i, v)
                if (strcmp(text_get(v, "id"), id) == 0)
                        return v;
        return NULL;
}

/* z^2 that a one-sided test which may be looked at at any time takes to tell a difference. */
static double information(double alpha)
{
        double v = 8.0, b = mlc_mixture_one_sided_bound(v, alpha, mlc_mixture_rho(v, 2.0 * alpha));

        return b * b / v;
}

static double share_of(const struct forecast *f, const char *type)
{
        double p = strcmp(type, "slower-than") == 0 ? f->rate->slow : f->rate->errors;

        if (p <= 0 || p >= 1)
                p = strcmp(type, "slower-than") == 0 ? 0.05 : 0.01;
        return p;
}

/* Samples of the candidate until an equally good one has the upper bound below `far`, half of the
 * time; NaN when more of them never suffice. */
static double samples_for(const struct forecast *f, const json_t *check, double far, double unit)
{
        double p = share_of(f, text_get(check, "type"));
        double weight = information(num_get(check, "alpha", 0.05)) * p * (1.0 - p) / (far * far);

        if (far <= 0 || unit <= 0)
                return NAN;
        return fmax(0.0, weight - f->weight) / unit;
}

static double samples_agreement(const json_t *check)
{
        double least = num_get(check, "at_least", 1.0), p = (1.0 + least) / 2.0, gap = p - least;

        return gap > 0 ? information(num_get(check, "alpha", 0.05)) * p * (1.0 - p) / (gap * gap)
                       : NAN;
}

static void worse(struct demand *most, struct demand d)
{
        if (isnan(d.ms) || (!isnan(most->ms) && d.ms > most->ms))
                *most = d;
}

static double ms_of(double samples, double a_second)
{
        return samples == 0 ? 0.0 : a_second > 0 ? samples / a_second * 1000.0 : NAN;
}

static void by_checks(const struct forecast *f, const json_t *step, const json_t *next,
                      double a_second, struct demand *most)
{
        double share = (double)int_get(step, "weight") / MLC_ROLLOUT_ALL,
               unit = int_get(step, "mirror") > 0 ? 0.5 : 1.0 - share,
               exposure = num_get(f->plan, "exposure", NAN),
               to = (double)int_get(next, "weight") / MLC_ROLLOUT_ALL;
        bool proven = mlc_streq(text_get(step, "advance"), "proven");
        const json_t *id;
        size_t i;

        json_array_foreach (json_object_get(step, "needs"), i, id) {
                const json_t *check = check_of(f->plan, json_string_value(id));
                const char *type = text_get(check, "type");
                double margin = num_get(check, "margin", 0.0), n = 0.0;

                if (strcmp(type, "error-rate") == 0 || strcmp(type, "slower-than") == 0) {
                        if (proven)
                                n = samples_for(f, check, margin, unit);
                        if (!isnan(exposure) && to > share)
                                n = fmax(n, samples_for(f, check, exposure / to, unit));
                } else if (proven && strcmp(type, "shadow-agreement") == 0) {
                        n = samples_agreement(check);
                }
                if (!(n == 0.0))
                        worse(most, (struct demand){"check", json_string_value(id), n,
                                                    ms_of(n, a_second)});
        }
}

static struct demand slowest(const struct forecast *f, const json_t *step, const json_t *next,
                             bool is_ab)
{
        double share = (double)(int_get(step, "weight") + int_get(step, "mirror")) /
                       MLC_ROLLOUT_ALL,
               a_second = f->rate->requests * share, labels = f->rate->labels * share,
               n = (double)int_get(step, "requests");
        struct demand most = {"nothing", NULL, NAN, 0.0};
        const json_t *ab = json_object_get(f->plan, "ab");

        if (json_array_size(json_object_get(step, "needs")) > 0)
                n = fmax(n, 1.0);
        worse(&most, (struct demand){"for", NULL, NAN, (double)int_get(step, "for_ms")});
        if (n > 0)
                worse(&most, (struct demand){"requests", NULL, n, ms_of(n, a_second)});
        n = (double)int_get(step, "labels");
        if (n > 0)
                worse(&most, (struct demand){"labels", NULL, n, ms_of(n, labels)});
        by_checks(f, step, next, a_second, &most);
        if (is_ab && json_is_object(ab)) {
                const json_t *check = check_of(f->plan, text_get(ab, "metric"));
                bool late = mlc_streq(text_get(check, "type"), "labels");

                n = (double)int_get(ab, "horizon");
                worse(&most, (struct demand){"horizon", text_get(ab, "metric"), n > 0 ? n : NAN,
                                             n > 0 ? ms_of(n, late ? labels : a_second)
                                                   : (double)int_get(ab, "horizon_ms")});
        }
        return most;
}

static void span(double ms, char ret[48])
{
        double s = ms / 1000.0;

        if (isnan(ms))
                (void)snprintf(ret, 48, "no telling how long");
        else if (s < 120)
                (void)snprintf(ret, 48, "about %.0f s", s);
        else if (s < 7200)
                (void)snprintf(ret, 48, "about %.0f min", s / 60);
        else if (s < 172800)
                (void)snprintf(ret, 48, "about %.1f h", s / 3600);
        else
                (void)snprintf(ret, 48, "about %.1f days", s / 86400);
}

static json_t *sentence(const json_t *step, const struct demand *d, bool person)
{
        double percent = (double)(int_get(step, "weight") + int_get(step, "mirror")) / 100.0;
        char time[48], what[160] = "";

        span(d->ms, time);
        if (strcmp(d->by, "check") == 0)
                (void)snprintf(what, sizeof(what), ", until check '%s' has about %.0f samples",
                               d->check, d->samples);
        else if (strcmp(d->by, "horizon") == 0)
                (void)snprintf(what, sizeof(what), ", the horizon of '%s'", d->check);
        else if (strcmp(d->by, "requests") == 0 || strcmp(d->by, "labels") == 0)
                (void)snprintf(what, sizeof(what), ", for %.0f %s", d->samples, d->by);
        return json_sprintf("%s %.4g %%: %s%s%s",
                            int_get(step, "mirror") > 0 ? "copies of" : "traffic", percent,
                            strcmp(d->by, "nothing") == 0 ? "at once" : time, what,
                            person ? ", then a person" : "");
}

static json_t *forecast_of(const json_t *step, const struct demand *d)
{
        bool person = json_is_true(json_object_get(step, "wait")) ||
                      json_array_size(json_object_get(step, "approvals")) > 0;

        return json_pack("{s:O, s:O, s:O, s:o, s:s, s:o, s:o, s:b, s:o}", "kind",
                         json_object_get(step, "kind"), "weight", json_object_get(step, "weight"),
                         "mirror", json_object_get(step, "mirror"), "expected_ms",
                         isnan(d->ms) ? json_null() : json_integer(llround(fmin(d->ms, 1e15))),
                         "decided_by", d->by, "check",
                         d->check != NULL ? json_string(d->check) : json_null(), "samples",
                         isnan(d->samples) ? json_null()
                                           : json_integer(llround(fmin(ceil(d->samples), 1e15))),
                         "person", person, "text", sentence(step, d, person));
}

int mlc_rollout_expect(const json_t *plan, const struct mlc_rollout_rate *rate, json_t **ret,
                       struct mlc_err *err)
{
        const json_t *steps = json_object_get(plan, "steps"), *step;
        struct forecast f = {.plan = plan, .rate = rate};
        json_t *list;
        size_t i;

        if (!json_is_array(steps))
                return mlc_fail(err, MLC_E_INVALID, "this is no plan of a rollout");
        list = json_array();
        json_array_foreach (steps, i, step) {
                struct demand d = slowest(&f, step, json_array_get(steps, i + 1), i == 0);
                double share = (double)int_get(step, "weight") / MLC_ROLLOUT_ALL,
                       seen = isnan(d.ms) || rate->requests <= 0 ? 0.0
                                                                 : d.ms / 1000.0 * rate->requests;

                json_array_append_new(list, forecast_of(step, &d));
                /* n_c n_s / n of the requests that this step brings, which later ones build upon */
                if (int_get(step, "mirror") > 0)
                        f.weight += seen * (double)int_get(step, "mirror") / MLC_ROLLOUT_ALL / 2.0;
                else
                        f.weight += seen * share * (1.0 - share);
        }
        *ret = list;
        return 0;
}
