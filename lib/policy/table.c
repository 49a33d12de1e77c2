/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/table.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include "base/siphash.h"

bool table_equal(struct table_cell a, struct table_cell b)
{
        return a.text == b.text && (a.text != 0 || a.number == b.number);
}

const char *table_class_name(const struct mlc_examples *x, unsigned i, char buf[32])
{
        if (x->classes[i].text != 0)
                return x->texts[x->classes[i].text - 1];
        (void)snprintf(buf, 32, "%.15g", x->classes[i].number == 0 ? 0.0 : x->classes[i].number);
        return buf;
}

static size_t slot_of(const struct mlc_examples *x, const uint64_t id[2])
{
        size_t i = mlc_siphash(x->seed, id, 2 * sizeof(id[0])) & (x->n_index - 1);

        while (x->index[i] != 0 && memcmp(x->ids[x->index[i] - 1], id, 2 * sizeof(id[0])) != 0)
                i = (i + 1) & (x->n_index - 1);
        return i;
}

int64_t table_find(const struct mlc_examples *x, const uint64_t id[2])
{
        return x->n_index == 0 ? -1 : (int64_t)x->index[slot_of(x, id)] - 1;
}

static void *grown(void *list, size_t n, size_t size)
{
        void *p = reallocarray(list, n, size);

        if (p == NULL)
                abort();
        return p;
}

static void grow_index(struct mlc_examples *x)
{
        if (x->n_index == 0 && getrandom(x->seed, sizeof(x->seed), 0) != (ssize_t)sizeof(x->seed))
                abort();
        free(x->index);
        x->n_index = x->n_index == 0 ? 1024 : x->n_index * 2;
        x->index = calloc(x->n_index, sizeof(*x->index));
        if (x->index == NULL)
                abort();
        for (size_t i = 0; i < x->n; i++)
                x->index[slot_of(x, x->ids[i])] = (uint32_t)i + 1;
}

static void grow(struct mlc_examples *x)
{
        size_t n = x->size == 0 ? 1024 : x->size + x->size / 2;

        x->ids = grown(x->ids, n, sizeof(*x->ids));
        x->labels = grown(x->labels, n, sizeof(*x->labels));
        x->predictions = grown(x->predictions, n, sizeof(*x->predictions));
        if (x->scores != NULL)
                x->scores = grown(x->scores, n, sizeof(*x->scores));
        if (x->n_slice_names > 0)
                x->slices = grown(x->slices, n * x->n_slice_names, sizeof(*x->slices));
        x->size = n;
}

bool table_add(struct mlc_examples *x, const char *id, size_t len)
{
        /* nothing up the sleeve: digits of pi. Two files are paired by these, so the keys are
         * fixed; the index has a random one */
        static const uint64_t keys[2][2] = {{0x243f6a8885a308d3, 0x13198a2e03707344},
                                            {0xa4093822299f31d0, 0x082efa98ec4e6c89}};
        uint64_t hash[2] = {mlc_siphash(keys[0], id, len), mlc_siphash(keys[1], id, len)};
        size_t slot;

        if (x->n == x->size)
                grow(x);
        if (x->n * 2 >= x->n_index)
                grow_index(x);
        slot = slot_of(x, hash);
        if (x->index[slot] != 0)
                return false;
        memcpy(x->ids[x->n], hash, sizeof(hash));
        x->index[slot] = (uint32_t)++x->n;
        return true;
}

static uint8_t class_of(const struct mlc_examples *x, struct table_cell cell)
{
        for (unsigned i = 0; i < x->n_classes; i++)
                if (table_equal(x->classes[i], cell))
                        return (uint8_t)i;
        return TABLE_NO_CLASS;
}

/* Numbers by size, then texts by bytes. */
static int class_order(const void *a, const void *b, void *userdata)
{
        const struct table_cell *one = a, *two = b;
        const struct mlc_examples *x = userdata;

        if (one->text == 0 && two->text == 0)
                return (one->number > two->number) - (one->number < two->number);
        if (one->text == 0 || two->text == 0)
                return one->text == 0 ? -1 : 1;
        return strcmp(x->texts[one->text - 1], x->texts[two->text - 1]);
}

static bool positive_word(const char *s)
{
        return strcasecmp(s, "1") == 0 || strcasecmp(s, "true") == 0 || strcasecmp(s, "yes") == 0 ||
               strcasecmp(s, "positive") == 0;
}

static void find_classes(struct mlc_examples *x)
{
        for (size_t i = 0; i < x->n && !x->too_many_classes; i++) {
                if (class_of(x, x->labels[i]) != TABLE_NO_CLASS)
                        continue;
                x->too_many_classes = x->n_classes == MLC_EXAMPLES_LABELS_MAX;
                if (!x->too_many_classes)
                        x->classes[x->n_classes++] = x->labels[i];
        }
        if (x->too_many_classes)
                x->n_classes = 0;
        qsort_r(x->classes, x->n_classes, sizeof(x->classes[0]), class_order, x);
}

void table_finish(struct mlc_examples *x)
{
        char buf[32];

        find_classes(x);
        x->positive = x->n_classes == 2 ? 1 : -1;
        if (x->n_classes == 2 && positive_word(table_class_name(x, 0, buf)) &&
            !positive_word(table_class_name(x, 1, buf)))
                x->positive = 0;
        x->label_class = grown(NULL, x->n > 0 ? x->n : 1, 1);
        x->prediction_class = grown(NULL, x->n > 0 ? x->n : 1, 1);
        x->numeric = x->n > 0;
        for (size_t i = 0; i < x->n; i++) {
                x->label_class[i] = class_of(x, x->labels[i]);
                x->prediction_class[i] = class_of(x, x->predictions[i]);
                x->numeric = x->numeric && x->labels[i].text == 0 && x->predictions[i].text == 0;
        }
}

static bool filter_one(const struct mlc_examples *x, const char *name, const char *value,
                       struct table_filter *ret)
{
        for (unsigned i = 0; i < x->n_slice_values; i++) {
                const struct table_slice *s = &x->slice_values[i];

                if (strcmp(x->slice_names[s->column], name) != 0 || strcmp(s->value, value) != 0)
                        continue;
                ret->column[ret->n] = s->column;
                ret->value[ret->n] = (uint16_t)i;
                ret->n++;
                return true;
        }
        return false;
}

bool table_filter_of(const struct mlc_examples *x, const json_t *slice, struct table_filter *ret)
{
        const char *name;
        json_t *value;

        ret->n = 0;
        if (slice == NULL)
                return true;
        if (json_object_size(slice) > MLC_SLICE_KEYS_MAX)
                return false;
        json_object_foreach ((json_t *)(uintptr_t)slice, name, value)
                if (!json_is_string(value) || !filter_one(x, name, json_string_value(value), ret))
                        return false;
        return true;
}
