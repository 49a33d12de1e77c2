/* SPDX-License-Identifier: Apache-2.0 */
/* What copies of requests and replies say, as increments of lib/rollout/analysis.h. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "rollout/analysis.h"
#include "rollout/mirror_internal.h"

json_t *mirror_child(json_t *object, const char *key)
{
        json_t *c = json_object_get(object, key);

        if (c == NULL) {
                c = json_object();
                (void)json_object_set_new(object, key, c);
        }
        return c;
}

void mirror_add(json_t *object, const char *key, json_int_t n)
{
        (void)json_object_set_new(
                object, key, json_integer(json_integer_value(json_object_get(object, key)) + n));
}

json_t *mirror_increment(struct mirror *t, const struct mirror_watched *w, uint64_t generation,
                         const char *source)
{
        json_t *of = mirror_child(t->counts, w->owner), *increment;
        char key[MIRROR_TEXT + 64];

        (void)snprintf(key, sizeof(key), "%s %" PRIu64 " %s", w->control, generation, source);
        increment = json_object_get(of, key);
        if (increment != NULL)
                return increment;
        increment = json_pack("{s:s, s:I, s:{s:s, s:{s:{}, s:{}}}}", "control", w->control,
                              "generation", (json_int_t)generation, "increment", "source", source,
                              "arms", "candidate", "stable");
        (void)json_object_set_new(of, key, increment);
        return increment;
}

/* [[i, n]…] ascending, with one more in bucket i. */
static void bucket_add(json_t *buckets, json_int_t i)
{
        size_t at;
        json_t *b;

        json_array_foreach (buckets, at, b) {
                json_int_t have = json_integer_value(json_array_get(b, 0));

                if (have == i) {
                        (void)json_array_set_new(
                                b, 1, json_integer(json_integer_value(json_array_get(b, 1)) + 1));
                        return;
                }
                if (have > i)
                        break;
        }
        (void)json_array_insert_new(buckets, at, json_pack("[I, i]", i, 1));
}

static json_t *list(json_t *object, const char *key)
{
        json_t *l = json_object_get(object, key);

        if (l == NULL) {
                l = json_array();
                (void)json_object_set_new(object, key, l);
        }
        return l;
}

/* Cells of a sketch: negative ones from the largest magnitude, zero, positive ones. */
static void count_number(json_t *arm, double x)
{
        json_t *values = mirror_child(arm, "values");
        json_int_t cell = mlc_sketch_cell(x), zero = MLC_SKETCH_SIDE;

        if (cell == zero)
                mirror_add(values, "zero", 1);
        else if (cell > zero)
                bucket_add(list(values, "positive"), MLC_SKETCH_FIRST + (cell - zero - 1));
        else
                bucket_add(list(values, "negative"), MLC_SKETCH_FIRST + (zero - 1 - cell));
        if (json_object_get(values, "zero") == NULL)
                mirror_add(values, "zero", 0);
        (void)list(values, "positive");
        (void)list(values, "negative");
}

void mirror_count_reply(json_t *increment, const char *variant, const json_t *reply)
{
        json_t *arms = json_object_get(json_object_get(increment, "increment"), "arms");
        json_t *arm = json_object_get(arms, variant);
        char class[MLC_ROLLOUT_CLASS_MAX];
        double x;

        if (arm == NULL)
                return;
        if (mlc_rollout_number(reply, &x))
                count_number(arm, x);
        else if (mlc_rollout_class(reply, class))
                mirror_add(mirror_child(arm, "outputs"), class, 1);
}

json_t *mirror_take(struct mirror *t, const char *owner)
{
        json_t *taken = json_array(), *of, *increment;
        const char *key;

        (void)pthread_mutex_lock(&t->lock);
        of = json_object_get(t->counts, owner);
        json_object_foreach (of, key, increment)
                (void)json_array_append(taken, increment);
        (void)json_object_del(t->counts, owner);
        (void)pthread_mutex_unlock(&t->lock);
        return taken;
}

json_t *mirror_totals(struct mirror *t)
{
        json_t *totals;

        (void)pthread_mutex_lock(&t->lock);
        totals =
                json_pack("{s:I, s:I, s:I, s:I, s:I}", "received", (json_int_t)t->received,
                          "dropped", (json_int_t)t->dropped, "asked", (json_int_t)t->asked,
                          "failed", (json_int_t)t->failed, "unanswered", (json_int_t)t->unanswered);
        (void)pthread_mutex_unlock(&t->lock);
        return totals;
}
