/* SPDX-License-Identifier: Apache-2.0 */
/* Metrics of a table, and pairs of two. Sums run in the order of the rows. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "policy/decimal.h"
#include "policy/table.h"

#define SLICE_CLASSES_MAX 10

struct class_counts {
        int64_t labelled, predicted, both;
};

struct tally {
        int64_t n, right;
        struct class_counts classes[MLC_EXAMPLES_LABELS_MAX];
        double squares, absolutes;
};

static void count_rows(const struct mlc_examples *x, const struct table_filter *f,
                       struct tally *ret)
{
        memset(ret, 0, sizeof(*ret));
        for (size_t i = 0; i < x->n; i++) {
                uint8_t label = x->label_class[i], prediction = x->prediction_class[i];

                if (!table_in(x, f, i))
                        continue;
                ret->n++;
                ret->right += table_equal(x->labels[i], x->predictions[i]);
                if (label != TABLE_NO_CLASS) {
                        ret->classes[label].labelled++;
                        ret->classes[label].both += label == prediction;
                }
                if (prediction != TABLE_NO_CLASS)
                        ret->classes[prediction].predicted++;
                if (x->numeric) {
                        double d = x->predictions[i].number - x->labels[i].number;

                        ret->squares += d * d;
                        ret->absolutes += fabs(d);
                }
        }
}

struct scored {
        double score;
        bool positive;
};

static int by_score(const void *a, const void *b)
{
        const struct scored *one = a, *two = b;

        return (one->score > two->score) - (one->score < two->score);
}

/* Mann-Whitney by midranks; false without both classes. */
static bool auc(const struct mlc_examples *x, const struct table_filter *f, double *ret)
{
        _cleanup_(free_p) struct scored *list = calloc(x->n, sizeof(*list));
        double ranks = 0, m, k;
        size_t n = 0, positives = 0;

        if (list == NULL)
                abort();
        for (size_t i = 0; i < x->n; i++)
                if (table_in(x, f, i)) {
                        list[n] = (struct scored){x->scores[i], x->label_class[i] == x->positive};
                        positives += list[n++].positive;
                }
        if (positives == 0 || positives == n)
                return false;
        qsort(list, n, sizeof(*list), by_score);
        for (size_t i = 0, j; i < n; i = j) {
                size_t among = 0;

                for (j = i; j < n && list[j].score == list[i].score; j++)
                        among += list[j].positive;
                ranks += (double)among * ((double)(i + 1 + j) / 2.0);
        }
        m = (double)positives;
        k = (double)(n - positives);
        *ret = (ranks - m * (m + 1.0) / 2.0) / (m * k);
        return true;
}

static bool share(int64_t k, int64_t n, double *ret_value, int64_t *ret_n)
{
        if (n == 0)
                return false;
        *ret_value = (double)k / (double)n;
        *ret_n = n;
        return true;
}

/* "recall:LABEL", or "recall" for the positive class; -1 when it is another metric. */
static int class_named(const struct mlc_examples *x, const char *name, const char *metric)
{
        char buf[32];

        if (!mlc_starts_with(name, metric))
                return -1;
        name += strlen(metric);
        if (*name == '\0')
                return x->positive;
        for (unsigned i = 0; *name == ':' && i < x->n_classes; i++)
                if (strcmp(table_class_name(x, i, buf), name + 1) == 0)
                        return (int)i;
        return -1;
}

static bool from_tally(const struct mlc_examples *x, const struct tally *t, const char *name,
                       double *ret_value, int64_t *ret_n)
{
        int c;

        if (strcmp(name, "accuracy") == 0)
                return share(t->right, t->n, ret_value, ret_n);
        c = class_named(x, name, "recall");
        if (c >= 0)
                return share(t->classes[c].both, t->classes[c].labelled, ret_value, ret_n);
        c = class_named(x, name, "precision");
        if (c >= 0)
                return share(t->classes[c].both, t->classes[c].predicted, ret_value, ret_n);
        if (!x->numeric || t->n == 0 || !isfinite(t->squares) || !isfinite(t->absolutes))
                return false;
        *ret_n = t->n;
        *ret_value = strcmp(name, "rmse") == 0 ? sqrt(t->squares / (double)t->n)
                                               : t->absolutes / (double)t->n;
        return strcmp(name, "rmse") == 0 || strcmp(name, "mae") == 0;
}

static bool in_filter(const struct mlc_examples *x, const struct table_filter *f,
                      const struct tally *t, const char *name, struct mlc_metric *ret)
{
        if (strcmp(name, "auc") != 0)
                return from_tally(x, t, name, &ret->value, &ret->n);
        ret->n = t->n;
        return x->scores != NULL && x->positive >= 0 && auc(x, f, &ret->value);
}

bool mlc_examples_metric(const struct mlc_examples *x, const char *name, const json_t *slice,
                         double *ret_value, int64_t *ret_n)
{
        struct table_filter f;
        struct mlc_metric m;
        struct tally t;

        if (!table_filter_of(x, slice, &f))
                return false;
        count_rows(x, &f, &t);
        if (!in_filter(x, &f, &t, name, &m))
                return false;
        *ret_value = m.value;
        *ret_n = m.n;
        return true;
}

/* What is known of one slice. */
struct view {
        const struct mlc_examples *x;
        const json_t *slice; /* NULL: all */
        struct table_filter f;
        struct tally t;
        json_t *list;
};

static void put(const struct view *v, const char *name)
{
        char value[MLC_DECIMAL_MAX];
        struct mlc_metric m;

        if (!in_filter(v->x, &v->f, &v->t, name, &m))
                return;
        mlc_decimal(m.value, value);
        json_array_append_new(v->list, json_pack("{s:s, s:O?, s:s, s:I}", "name", name, "slice",
                                                 v->slice, "value", value, "n", (json_int_t)m.n));
}

static void put_all(struct view *v)
{
        static const char *const names[] = {"accuracy", "precision", "recall",
                                            "auc",      "rmse",      "mae"};
        char buf[32], name[MLC_METRIC_NAME_MAX + 1];

        count_rows(v->x, &v->f, &v->t);
        for (size_t i = 0; i < ARRAY_LEN(names); i++)
                put(v, names[i]);
        if (v->slice != NULL && v->x->n_classes > SLICE_CLASSES_MAX)
                return;
        for (unsigned i = 0; i < 2 * v->x->n_classes; i++) {
                int n = snprintf(name, sizeof(name), "%s:%s", i % 2 == 0 ? "precision" : "recall",
                                 table_class_name(v->x, i / 2, buf));

                if (n > 0 && (size_t)n < sizeof(name))
                        put(v, name);
        }
}

static bool has(const json_t *list, const char *name, const json_t *slice)
{
        json_t *v;
        size_t i;

        json_array_foreach (list, i, v) {
                json_t *other = json_object_get(v, "slice");

                if (strcmp(json_string_value(json_object_get(v, "name")), name) == 0 &&
                    mlc_slice_equal(json_is_null(other) ? NULL : other, slice))
                        return true;
        }
        return false;
}

int mlc_examples_recompute(const struct mlc_examples *x, const struct mlc_evaluation *e,
                           json_t **ret, struct mlc_err *err)
{
        struct view v = {.x = x, .list = json_array()};

        (void)err;
        put_all(&v);
        for (unsigned i = 0; i < x->n_slice_values; i++) {
                const struct table_slice *s = &x->slice_values[i];
                _cleanup_(json_decref_p) json_t *slice =
                        json_pack("{s:s}", x->slice_names[s->column], s->value);

                v.slice = slice;
                if (table_filter_of(x, slice, &v.f))
                        put_all(&v);
        }
        for (size_t i = 0; e != NULL && i < e->n_metrics; i++) {
                const struct mlc_metric *m = &e->metrics[i];

                v.slice = m->slice;
                if (m->unit != NULL || has(v.list, m->name, m->slice) ||
                    !table_filter_of(x, m->slice, &v.f))
                        continue;
                count_rows(x, &v.f, &v.t);
                put(&v, m->name);
        }
        *ret = v.list;
        return 0;
}

/* How far the value may be from the true one when it was rounded to the digits it has. */
static double tolerance(double value, double truth)
{
        double scale = fmax(1.0, fabs(truth)), half;
        char text[40];
        const char *dot;
        int digits = 1;

        do
                (void)snprintf(text, sizeof(text), "%.*g", digits, value);
        while (strtod(text, NULL) != value && ++digits <= 17);
        if (strchr(text, 'e') != NULL)
                return 1e-9 * scale;
        dot = strchr(text, '.');
        half = 0.5 * pow(10.0, dot != NULL ? -(double)strlen(dot + 1) : 0.0);
        return fmin(half, 0.0005 * scale) * (1.0 + 1e-9) + 1e-12 * scale;
}

int mlc_examples_compare(const struct mlc_examples *x, const struct mlc_evaluation *e,
                         struct mlc_err *err)
{
        char field[MLC_JSON_POINTER_MAX], truth[MLC_DECIMAL_MAX];

        for (size_t i = 0; i < e->n_metrics; i++) {
                const struct mlc_metric *m = &e->metrics[i];
                double value;
                int64_t n;

                if (m->unit != NULL || !mlc_examples_metric(x, m->name, m->slice, &value, &n))
                        continue;
                if (n != m->n) {
                        (void)snprintf(field, sizeof(field), "/metrics/%zu/n", i);
                        return mlc_fail_field(err, MLC_E_INVALID, field,
                                              "'%.60s' is over %lld examples, not %lld", m->name,
                                              (long long)n, (long long)m->n);
                }
                if (fabs(value - m->value) <= tolerance(m->value, value))
                        continue;
                mlc_decimal(value, truth);
                (void)snprintf(field, sizeof(field), "/metrics/%zu/value", i);
                return mlc_fail_field(err, MLC_E_INVALID, field,
                                      "'%.60s' is %s by the examples (rounded values need at least "
                                      "three decimals)",
                                      m->name, truth);
        }
        return 0;
}

/* The same slices, by name and value, in row `i` of one and `j` of two. */
static bool same_slice(const struct table_filter *f, const struct mlc_examples *one, size_t i,
                       const struct mlc_examples *two, size_t j)
{
        for (unsigned k = 0; k < f->n; k++) {
                const char *name = one->slice_names[f->column[k]];
                const char *value = one->slice_values[f->value[k]].value;
                bool inside = one->slices[i * one->n_slice_names + f->column[k]] == f->value[k];

                for (unsigned c = 0; c < two->n_slice_names; c++)
                        if (strcmp(two->slice_names[c], name) == 0 &&
                            inside != (strcmp(two->slice_values[two->slices[j * two->n_slice_names +
                                                                            c]]
                                                      .value,
                                              value) == 0))
                                return false;
        }
        return true;
}

static struct table_cell cell_in(const struct mlc_examples *x, const struct mlc_examples *other,
                                 struct table_cell cell)
{
        if (cell.text != 0)
                cell.text = (uint32_t)(uintptr_t)mlc_map_get(&x->text_index,
                                                             other->texts[cell.text - 1]);
        return cell;
}

enum mlc_pairing mlc_examples_pair(const struct mlc_examples *one, const struct mlc_examples *two,
                                   const char *metric, const json_t *slice, struct mlc_paired *ret)
{
        int class = strcmp(metric, "accuracy") == 0 ? -1 : class_named(one, metric, "recall");
        struct mlc_paired d = {0};
        struct table_filter f;

        if (class < 0 && strcmp(metric, "accuracy") != 0)
                return MLC_PAIR_NO_METRIC;
        if (one->n != two->n)
                return MLC_PAIR_OTHER_IDS;
        if (!table_filter_of(one, slice, &f))
                return MLC_PAIR_EMPTY;
        for (size_t i = 0; i < one->n; i++) {
                /* mostly both are in the same order, and the index costs a miss of the cache */
                bool same = memcmp(one->ids[i], two->ids[i], sizeof(one->ids[i])) == 0;
                int64_t j = same ? (int64_t)i : table_find(two, one->ids[i]);
                struct table_cell label;
                bool first, second;

                if (j < 0)
                        return MLC_PAIR_OTHER_IDS;
                label = cell_in(one, two, two->labels[j]);
                if ((two->labels[j].text != 0 && label.text == 0) ||
                    !table_equal(label, one->labels[i]) || !same_slice(&f, one, i, two, (size_t)j))
                        return MLC_PAIR_OTHER_LABELS;
                if (!table_in(one, &f, i) || (class >= 0 && one->label_class[i] != class))
                        continue;
                first = table_equal(one->labels[i], one->predictions[i]);
                second = table_equal(two->labels[j], two->predictions[j]);
                d.n++;
                d.b += first && !second;
                d.c += second && !first;
        }
        if (d.n == 0)
                return MLC_PAIR_EMPTY;
        *ret = d;
        return MLC_PAIRED;
}
