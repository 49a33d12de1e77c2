/* SPDX-License-Identifier: Apache-2.0 */
/* Whether candidate and stable predict alike: one look at the outputs of a step. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/str.h"
#include "rollout/analysis.h"
#include "rollout/num.h"
#include "rollout/stats.h"
#include "stats/special.h"

#define BINS 10

struct table {
        int64_t current[MLC_ROLLOUT_CLASSES_MAX * 2 + 2],
                reference[MLC_ROLLOUT_CLASSES_MAX * 2 + 2];
        unsigned k;
        double n, m;
};

static double sum(const int64_t *n, unsigned k)
{
        int64_t all = 0;

        for (unsigned i = 0; i < k; i++)
                all += n[i];
        return (double)all;
}

/* The classes of both, in the order of their names. */
static void classes(const json_t *outputs, struct table *t)
{
        json_t *c = json_object_get(outputs, "candidate"), *s = json_object_get(outputs, "stable"),
               *all = json_object(), *v;
        const char *names[MLC_ROLLOUT_CLASSES_MAX * 2 + 2], *name;

        (void)json_object_update(all, c);
        (void)json_object_update(all, s);
        json_object_foreach (all, name, v) {
                unsigned i = t->k;

                if (t->k == MLC_ROLLOUT_CLASSES_MAX * 2 + 2)
                        break;
                for (; i > 0 && strcmp(names[i - 1], name) > 0; i--)
                        names[i] = names[i - 1];
                names[i] = name;
                t->k++;
        }
        for (unsigned i = 0; i < t->k; i++) {
                t->current[i] = int_get(c, names[i]);
                t->reference[i] = int_get(s, names[i]);
        }
        json_decref(all);
}

struct numbers {
        int64_t current[MLC_SKETCH_CELLS], reference[MLC_SKETCH_CELLS];
};

static bool numbers_of(const json_t *outputs, struct numbers *ret)
{
        struct mlc_err ignored = {0};

        *ret = (struct numbers){0};
        return stats_cells_add(json_object_get(outputs, "candidate_values"), "",
                               (struct stats_cells){ret->current, 0, MLC_SKETCH_CELLS},
                               &ignored) == 0 &&
               stats_cells_add(json_object_get(outputs, "stable_values"), "",
                               (struct stats_cells){ret->reference, 0, MLC_SKETCH_CELLS},
                               &ignored) == 0;
}

struct found {
        const char *method, *reason;
        double statistic, p, effect, n, m;
};

static struct found psi(const struct table *t)
{
        struct mlc_categories c = {t->current, t->reference, t->k};
        double scale = 1.0 / t->n + 1.0 / t->m, few = INFINITY;
        struct found f = {.method = "psi", .p = 1.0, .n = t->n, .m = t->m};

        if (t->k < 2) {
                f.reason = "all outputs are alike";
                return f;
        }
        for (unsigned i = 0; i < t->k; i++)
                few = fmin(few, (double)(t->current[i] + t->reference[i]) / (t->n + t->m) *
                                        fmin(t->n, t->m));
        f.statistic = f.effect = mlc_psi(c);
        if (few < MLC_PSI_PER_BIN) {
                f.reason = "fewer than 25 are expected in a bin";
                return f;
        }
        f.p = mlc_chi2_tail(f.statistic / scale, t->k - 1); /* that whose critical value it is */
        return f;
}

static struct found chi_square(const struct table *t)
{
        struct mlc_chi2 c =
                mlc_contingency((struct mlc_categories){t->current, t->reference, t->k});

        return (struct found){
                "chi-square", c.df == 0 ? "all outputs are alike, or too few of each" : NULL,
                c.statistic,  c.p,
                c.effect,     t->n,
                t->m};
}

static struct found ks(const struct numbers *all, const struct table *t)
{
        struct mlc_ks k = mlc_ks_bins(
                (struct mlc_categories){all->current, all->reference, MLC_SKETCH_CELLS});

        return (struct found){"ks", NULL, k.d, k.p, k.d, t->n, t->m};
}

static struct found compare(const char *method, const json_t *outputs)
{
        bool by_class = json_object_size(json_object_get(outputs, "candidate")) > 0;
        struct table t = {.k = 0};
        struct numbers all;

        if (by_class) {
                classes(outputs, &t);
        } else if (numbers_of(outputs, &all)) {
                t.k = mlc_rebin(
                        (struct mlc_rebin){all.current, all.reference, MLC_SKETCH_CELLS, BINS},
                        t.current, t.reference);
        }
        t.n = sum(t.current, t.k);
        t.m = sum(t.reference, t.k);
        if (t.n < 1 || t.m < 1)
                return (struct found){.method = "none", .p = 1.0, .reason = "there are no outputs"};
        if (mlc_streq(method, "psi"))
                return psi(&t);
        if (by_class || mlc_streq(method, "chi-square")) {
                if (mlc_streq(method, "ks"))
                        return (struct found){"ks", "outputs are classes, which have no order",
                                              0.0,  1.0,
                                              0.0,  t.n,
                                              t.m};
                return chi_square(&t);
        }
        return ks(&all, &t);
}

json_t *stats_look_at(struct stats_look in)
{
        struct found f =
                compare(json_string_value(json_object_get(in.check, "method")), in.outputs);

        return json_pack("{s:s, s:o, s:o, s:o, s:I, s:I, s:o}", "method", f.method, "statistic",
                         num_json(f.statistic), "p", num_json(f.p), "effect", num_json(f.effect),
                         "candidate", (json_int_t)f.n, "stable", (json_int_t)f.m, "reason",
                         f.reason != NULL ? json_string(f.reason) : json_null());
}
