/* SPDX-License-Identifier: Apache-2.0 */
/* From CSV to columns. */
#include "policy/examples.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "policy/csv.h"
#include "policy/read.h"
#include "policy/table.h"

struct columns {
        int id, label, prediction, score;
        unsigned n;
        int slice[CSV_FIELDS_MAX]; /* of each column, into slice_names, or -1 */
};

static int read_fd(void *userdata, void *buf, size_t len, size_t *ret_n, struct mlc_err *err)
{
        ssize_t n;

        do {
                n = read(*(int *)userdata, buf, len);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return mlc_fail(err, MLC_E_IO, "cannot read the examples: %s", strerror(errno));
        *ret_n = (size_t)n;
        return 0;
}

void mlc_examples_in_fd(struct mlc_examples_in *ret, int *fd)
{
        *ret = (struct mlc_examples_in){read_fd, fd};
}

void mlc_examples_free(struct mlc_examples *x)
{
        if (x == NULL)
                return;
        for (size_t i = 0; i < x->n_texts; i++)
                free(x->texts[i]);
        for (unsigned i = 0; i < x->n_slice_names; i++)
                free(x->slice_names[i]);
        for (unsigned i = 0; i < x->n_slice_values; i++)
                free(x->slice_values[i].value);
        mlc_map_done(&x->text_index, NULL);
        free(x->texts);
        free(x->ids);
        free(x->labels);
        free(x->predictions);
        free(x->scores);
        free(x->slices);
        free(x->label_class);
        free(x->prediction_class);
        free(x->index);
        free(x);
}

int64_t mlc_examples_rows(const struct mlc_examples *x)
{
        return (int64_t)x->n;
}

static char *copy(const char *s)
{
        char *c = strdup(s);

        if (c == NULL)
                abort();
        return c;
}

static int take_column(const struct csv *c, unsigned i, struct mlc_examples *x,
                       struct columns *cols, struct mlc_err *err)
{
        const char *name = c->fields[i].text;
        int *place = mlc_streq(name, "id")           ? &cols->id
                     : mlc_streq(name, "label")      ? &cols->label
                     : mlc_streq(name, "prediction") ? &cols->prediction
                     : mlc_streq(name, "score")      ? &cols->score
                                                     : NULL;
        struct mlc_err why = {0};

        cols->slice[i] = -1;
        if (place != NULL) {
                if (*place >= 0)
                        return csv_fail(c, err, "column '%s' stands in the header twice", name);
                *place = (int)i;
                return 0;
        }
        if (!mlc_starts_with(name, "slice:") || pol_plain(name + 6, &why) < 0 ||
            strlen(name + 6) > MLC_METRIC_NAME_MAX)
                return csv_fail(c, err,
                                "column '%.60s' is not known: id, label, prediction, score and "
                                "slice:NAME are",
                                name);
        for (unsigned k = 0; k < x->n_slice_names; k++)
                if (strcmp(x->slice_names[k], name + 6) == 0)
                        return csv_fail(c, err, "column '%.60s' stands in the header twice", name);
        cols->slice[i] = (int)x->n_slice_names;
        x->slice_names[x->n_slice_names++] = copy(name + 6);
        return 0;
}

static int header(struct csv *c, struct mlc_examples *x, struct columns *cols, struct mlc_err *err)
{
        bool end;
        int r = csv_row(c, &end, err);

        *cols = (struct columns){-1, -1, -1, -1, 0, {0}};
        if (r < 0)
                return r;
        c->row_line = end ? 1 : c->row_line;
        if (end)
                return csv_fail(c, err, "the header is missing: id,label,prediction");
        if (strncmp(c->fields[0].text, "\xef\xbb\xbf", 3) == 0)
                c->fields[0].text += 3; /* a byte order mark */
        cols->n = c->n_fields;
        for (unsigned i = 0; i < c->n_fields; i++) {
                r = take_column(c, i, x, cols, err);
                if (r < 0)
                        return r;
        }
        if (cols->id < 0 || cols->label < 0 || cols->prediction < 0)
                return csv_fail(c, err, "the header needs the columns id, label and prediction");
        if (cols->score >= 0) {
                x->scores = malloc(sizeof(*x->scores)); /* grows with the rows */
                if (x->scores == NULL)
                        abort();
        }
        return 0;
}

static bool number(const char *s, double *ret)
{
        char *end;

        if (*s == '\0' || s[strspn(s, "+-.0123456789eE")] != '\0')
                return false;
        *ret = strtod(s, &end);
        return end != s && *end == '\0' && isfinite(*ret);
}

static int take_cell(const struct csv *c, int column, struct mlc_examples *x,
                     struct table_cell *ret, struct mlc_err *err)
{
        const char *s = c->fields[column].text;
        uintptr_t known;

        *ret = (struct table_cell){0};
        if (*s == '\0')
                return csv_fail(c, err, "a label or prediction is empty");
        if (number(s, &ret->number))
                return 0;
        known = (uintptr_t)mlc_map_get(&x->text_index, s);
        if (known == 0) {
                if (x->n_texts == MLC_EXAMPLES_TEXTS_MAX)
                        return mlc_fail_field(err, MLC_E_LIMIT, "/examples",
                                              "line %llu: more than %d different labels and "
                                              "predictions that are no numbers",
                                              c->row_line, MLC_EXAMPLES_TEXTS_MAX);
                x->texts = reallocarray(x->texts, x->n_texts + 1, sizeof(*x->texts));
                if (x->texts == NULL)
                        abort();
                x->texts[x->n_texts++] = copy(s);
                known = x->n_texts;
                (void)mlc_map_set(&x->text_index, s, (void *)known);
        }
        ret->number = 0;
        ret->text = (uint32_t)known;
        return 0;
}

static int take_slice(const struct csv *c, unsigned field, unsigned column, struct mlc_examples *x,
                      struct mlc_err *err)
{
        const char *s = c->fields[field].text;
        uint16_t *place = &x->slices[(x->n - 1) * x->n_slice_names + column];
        unsigned i;

        /* mostly as in the row before */
        if (x->n > 1) {
                *place = x->slices[(x->n - 2) * x->n_slice_names + column];
                if (strcmp(x->slice_values[*place].value, s) == 0)
                        return 0;
        }
        for (i = 0; i < x->n_slice_values; i++)
                if (x->slice_values[i].column == column && strcmp(x->slice_values[i].value, s) == 0)
                        break;
        if (i == MLC_EXAMPLES_SLICES_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, "/examples",
                                      "line %llu: more than %d different values in slice columns",
                                      c->row_line, MLC_EXAMPLES_SLICES_MAX);
        if (c->fields[field].len > MLC_METRIC_NAME_MAX)
                return csv_fail(c, err, "a slice's value has more than %d bytes",
                                MLC_METRIC_NAME_MAX);
        if (i == x->n_slice_values)
                x->slice_values[x->n_slice_values++] = (struct table_slice){column, copy(s)};
        *place = (uint16_t)i;
        return 0;
}

static int take_row(const struct csv *c, const struct columns *cols, struct mlc_examples *x,
                    struct mlc_err *err)
{
        const struct csv_field *id = &c->fields[cols->id];
        int r;

        if (c->n_fields != cols->n)
                return csv_fail(c, err, "%u fields, but the header has %u", c->n_fields, cols->n);
        if (id->len == 0)
                return csv_fail(c, err, "the id is empty");
        if (x->n == MLC_EXAMPLES_ROWS_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, "/examples", "more than %d examples",
                                      MLC_EXAMPLES_ROWS_MAX);
        if (!table_add(x, id->text, id->len))
                return csv_fail(c, err, "id '%.60s' stands there twice", id->text);
        r = take_cell(c, cols->label, x, &x->labels[x->n - 1], err);
        if (r == 0)
                r = take_cell(c, cols->prediction, x, &x->predictions[x->n - 1], err);
        if (r == 0 && cols->score >= 0 &&
            !number(c->fields[cols->score].text, &x->scores[x->n - 1]))
                return csv_fail(c, err, "score '%.40s' is no finite number",
                                c->fields[cols->score].text);
        for (unsigned i = 0; r == 0 && i < cols->n; i++)
                if (cols->slice[i] >= 0)
                        r = take_slice(c, i, (unsigned)cols->slice[i], x, err);
        return r;
}

int mlc_examples_load(const struct mlc_examples_in *in, struct mlc_examples **ret,
                      struct mlc_digest *ret_digest, struct mlc_err *err)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = calloc(1, sizeof(*x));
        _cleanup_(csv_done) struct csv c;
        struct columns cols;
        bool end = false;
        int r;

        csv_init(&c, in);
        if (x == NULL)
                abort();
        r = header(&c, x, &cols, err);
        while (r == 0) {
                r = csv_row(&c, &end, err);
                if (r < 0 || end)
                        break;
                r = take_row(&c, &cols, x, err);
        }
        if (r < 0)
                return r;
        if (x->n == 0)
                return csv_fail(&c, err, "there is no example below the header");
        table_finish(x);
        if (ret_digest != NULL)
                mlc_sha256_final(&c.hash, ret_digest);
        *ret = TAKE_PTR(x);
        return 0;
}
