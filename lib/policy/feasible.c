/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a check can pass at the number of examples that there are. */
#include <math.h>
#include <stdio.h>

#include "base/str.h"
#include "policy/judge.h"
#include "stats/dist.h"

#define EXACT_MAX 5000 /* examples up to which the power is summed exactly */
#define POWER 0.8

static void threshold(const json_t *check, const struct mlc_feasible_in *in,
                      struct mlc_feasible *ret)
{
        bool least = json_is_string(json_object_get(check, "at_least"));
        double at = judge_number(check, least ? "at_least" : "at_most");
        double level = judge_number(check, "confidence"), bound = least ? at : 1.0 - at;
        int64_t n = in->n > 0 ? in->n : 1;

        if (!mlc_streq(json_string_value(json_object_get(check, "bound")), "interval") || at < 0 ||
            at > 1)
                return;
        if (in->n > 0 && mlc_wilson(n, n, level).lo >= bound)
                return;
        ret->possible = false;
        ret->n_needed = bound < 1.0 ? needed_wilson(1.0, bound, level) : 0;
        (void)snprintf(ret->reason, sizeof(ret->reason),
                       "with %lld examples not even a flawless version's interval meets the bound: "
                       "%lld are needed",
                       (long long)in->n, (long long)ret->n_needed);
}

/* Variance per example of the difference between two equally good versions. */
static double variance(const struct mlc_feasible_in *in)
{
        double p = in->share >= 0 && in->share <= 1 ? in->share : 0.9;
        double discordant = in->discordant >= 0 && in->discordant <= 1 ? in->discordant : 0.06;

        return in->paired ? discordant : 2.0 * p * (1.0 - p);
}

static double power_of(const struct mlc_feasible_in *in, double margin, double alpha)
{
        struct mlc_non_inferiority t = {in->n, margin, alpha, 0.0};
        double v = variance(in), p = in->share >= 0 && in->share <= 1 ? in->share : 0.9;

        if (in->n <= EXACT_MAX)
                return in->paired ? mlc_power_paired(t, v) : mlc_power_unpaired(t, p);
        if (v <= 0)
                return margin > 0 ? 1.0 : 0.0;
        return mlc_normal_cdf(margin / sqrt(v / (double)in->n) - mlc_normal_quantile(1.0 - alpha));
}

static void compare(const json_t *check, const struct mlc_feasible_in *in, struct mlc_feasible *ret)
{
        double margin = judge_number(check, "margin"), alpha = judge_number(check, "alpha");
        bool superiority =
                mlc_streq(json_string_value(json_object_get(check, "test")), "superiority");
        struct mlc_paired best = {in->n, 0, in->n};

        if (in->n <= 0)
                return;
        if (superiority) { /* the best that can be: right where the champion is wrong, always */
                ret->possible = mlc_tango(best, 1.0 - 2.0 * alpha).lo > margin;
                if (!ret->possible)
                        (void)snprintf(ret->reason, sizeof(ret->reason),
                                       "with %lld examples no version can be proven better",
                                       (long long)in->n);
                return;
        }
        ret->power = power_of(in, margin, alpha);
        ret->possible = ret->power > 0 && margin > 0;
        if (ret->power >= POWER)
                return;
        ret->n_needed = needed_compare(margin, fmax(variance(in), 1e-9), alpha);
        (void)snprintf(ret->reason, sizeof(ret->reason),
                       "with %lld %s an equally good version passes with a probability of %.0f %%: "
                       "%lld examples are needed for 80 %%",
                       (long long)in->n, in->paired ? "paired examples" : "examples",
                       100.0 * ret->power, (long long)ret->n_needed);
}

void mlc_policy_feasible(const json_t *check, const struct mlc_feasible_in *in,
                         struct mlc_feasible *ret)
{
        const char *type = json_string_value(json_object_get(check, "type"));
        int64_t minimum = json_integer_value(json_object_get(check, "minimum_n"));

        *ret = (struct mlc_feasible){.possible = true, .power = -1.0};
        if (in->n < minimum) {
                ret->possible = false;
                ret->n_needed = minimum;
                (void)snprintf(ret->reason, sizeof(ret->reason),
                               "%lld examples are fewer than minimum_n: %lld", (long long)in->n,
                               (long long)minimum);
        } else if (mlc_streq(type, "threshold")) {
                threshold(check, in, ret);
        } else if (mlc_streq(type, "compare")) {
                compare(check, in, ret);
        }
}
