/* SPDX-License-Identifier: Apache-2.0 */
/* What gateways counted since the last look, as increments of lib/rollout/analysis.h. */
#include <inttypes.h>
#include <stdlib.h>

#include "rollout/latency.h"
#include "rollout/rollout_internal.h"

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static int64_t int_of(const json_t *obj, const char *key)
{
        return json_integer_value(json_object_get(obj, key));
}

/* obj[key], made when it is not there. */
static json_t *child(json_t *obj, const char *key)
{
        json_t *c = json_object_get(obj, key);

        if (c == NULL) {
                c = json_object();
                (void)json_object_set_new(obj, key, c);
        }
        return c;
}

/* --- one bank: what is counted of a variant in a generation --- */

/* Requests that have ended: they are counted as chosen before they are counted as failed. Without
 * those that no server was asked: no data is not good data. */
static int64_t ended(const json_t *bank)
{
        static const char *const classes[] = {"2xx", "3xx", "4xx", "5xx"};
        const json_t *status = json_object_get(bank, "status");
        int64_t n = -int_of(bank, "rejected");

        for (size_t i = 0; i < ARRAY_LEN(classes); i++)
                n += int_of(status, classes[i]);
        return n;
}

static int64_t bucket_count(const json_t *latency, int64_t i)
{
        const json_t *b;
        size_t k;

        json_array_foreach (json_object_get(latency, "buckets"), k, b)
                if (json_integer_value(json_array_get(b, 0)) == i)
                        return json_integer_value(json_array_get(b, 1));
        return 0;
}

/* now - then, bucket by bucket; then may be NULL. Buckets only ever grow. */
static json_t *latency_since(const json_t *now, const json_t *then)
{
        json_t *buckets = json_array();
        const json_t *b;
        size_t k;

        json_array_foreach (json_object_get(now, "buckets"), k, b) {
                int64_t i = json_integer_value(json_array_get(b, 0));
                int64_t n = json_integer_value(json_array_get(b, 1)) - bucket_count(then, i);

                if (n > 0)
                        (void)json_array_append_new(
                                buckets, json_pack("[I, I]", (json_int_t)i, (json_int_t)n));
        }
        return json_pack("{s:s, s:i, s:o}", "gamma", MLC_LATENCY_GAMMA_TEXT, "min_us",
                         MLC_LATENCY_MIN_US, "buckets", buckets);
}

/* Sums of two ascending lists of [bucket, count]; a new list. */
static json_t *buckets_sum(const json_t *a, const json_t *b)
{
        json_t *sum = json_array();
        size_t i = 0, j = 0;

        while (i < json_array_size(a) || j < json_array_size(b)) {
                const json_t *x = json_array_get(a, i), *y = json_array_get(b, j);
                int64_t bx = x != NULL ? json_integer_value(json_array_get(x, 0)) : INT64_MAX;
                int64_t by = y != NULL ? json_integer_value(json_array_get(y, 0)) : INT64_MAX;
                int64_t n = 0;

                if (bx <= by) {
                        n += json_integer_value(json_array_get(x, 1));
                        i++;
                }
                if (by <= bx) {
                        n += json_integer_value(json_array_get(y, 1));
                        j++;
                }
                (void)json_array_append_new(
                        sum, json_pack("[I, I]", (json_int_t)(bx < by ? bx : by), (json_int_t)n));
        }
        return sum;
}

/* Adds what is new in a bank to an arm {"requests","errors","latency"}. */
static void arm_add(json_t *arm, const json_t *now, const json_t *then)
{
        _cleanup_(json_decref_p) json_t *since =
                latency_since(json_object_get(now, "latency"), json_object_get(then, "latency"));
        json_t *latency = json_object_get(arm, "latency");
        int64_t errors = int_of(now, "errors") - int_of(then, "errors");
        int64_t requests = ended(now) - ended(then);

        if (requests < errors)
                requests = errors; /* clients that went away had an error, but no status */
        (void)json_object_set_new(arm, "requests",
                                  json_integer(int_of(arm, "requests") + requests));
        (void)json_object_set_new(arm, "errors", json_integer(int_of(arm, "errors") + errors));
        if (latency == NULL)
                (void)json_object_set(arm, "latency", since);
        else
                (void)json_object_set_new(latency, "buckets",
                                          buckets_sum(json_object_get(latency, "buckets"),
                                                      json_object_get(since, "buckets")));
}

/* --- a gateway --- */

struct fold {
        const struct rollout *r;
        json_t *weights; /* generation → {"epoch","weight","step"} of this gateway */
        const json_t *then; /* banks as they were last; NULL after a restart of their counters */
        json_t *now; /* banks as they are, for the next look */
        json_t *increments; /* epoch → increment */
};

static json_t *increment_of(struct fold *f, const json_t *epoch, const char *key)
{
        char name[24];
        json_t *inc;

        (void)snprintf(name, sizeof(name), "%" PRId64, int_of(epoch, "epoch"));
        inc = json_object_get(f->increments, name);
        if (inc != NULL)
                return inc;
        inc = json_pack("{s:I, s:I, s:I, s:s, s:{s:{}, s:{}}}", "generation",
                        (json_int_t)int_of(epoch, "epoch"), "step",
                        (json_int_t)int_of(epoch, "step"), "weight",
                        (json_int_t)int_of(epoch, "weight"), "key",
                        key == NULL || mlc_streq(key, "random") ? "random" : "sticky", "arms",
                        "candidate", "stable");
        (void)json_object_set_new(f->increments, name, inc);
        return inc;
}

/* Requests that did not fit the declared inputs: shown, and no statistic. */
static void count_invalid(const struct fold *f, const char *variant, const json_t *bank,
                          const json_t *then)
{
        int64_t n = int_of(bank, "invalid") - int_of(then, "invalid");
        json_t *of = json_object_get(f->r->seen, "invalid");

        if (n <= 0 || variant == NULL)
                return;
        if (of == NULL) {
                of = json_pack("{s:i, s:i}", "candidate", 0, "stable", 0);
                (void)json_object_set_new(f->r->seen, "invalid", of);
        }
        if (json_object_get(of, variant) != NULL)
                (void)json_object_set_new(of, variant, json_integer(int_of(of, variant) + n));
}

const json_t *counters_epoch(json_t *weights, int64_t generation)
{
        const json_t *epoch = NULL;
        int64_t newest = -1;
        const char *key;
        json_t *e;

        json_object_foreach (weights, key, e) {
                int64_t of = strtoll(key, NULL, 10);

                if (of <= generation && of > newest) {
                        newest = of;
                        epoch = e;
                }
        }
        return epoch;
}

static void fold_bank(struct fold *f, const char *route, const char *key, json_t *bank)
{
        const char *variant = text_of(bank, "variant");
        int64_t generation = int_of(bank, "generation");
        const json_t *epoch = counters_epoch(f->weights, generation), *then;
        char name[300];

        (void)snprintf(name, sizeof(name), "%s/%s/%" PRId64, route, variant, generation);
        if (epoch == NULL)
                return; /* of before the rollout */
        if (int_of(epoch, "step") < 0)
                return; /* of a target whose wave is still to come */
        then = json_object_get(f->then, name);
        (void)json_object_set(f->now, name, bank);
        count_invalid(f, variant, bank, then);
        if (ended(bank) == ended(then) && int_of(bank, "errors") == int_of(then, "errors"))
                return;
        arm_add(child(json_object_get(increment_of(f, epoch, key), "arms"), variant), bank, then);
}

/* seen.counters[control] = {"boot", "banks"} */
int counters_fold(struct mlc_ctx *ctx, struct rollout *r, const struct counters_in *in,
                  json_t *increments)
{
        json_t *counters = child(r->seen, "counters");
        const json_t *last = json_object_get(counters, in->control);
        const char *boot = text_of(in->stats, "boot");
        struct fold f = {.r = r,
                         .weights =
                                 json_object_get(json_object_get(r->seen, "weights"), in->control),
                         .now = json_object(),
                         .increments = increments};
        const json_t *route;
        json_t *bank;
        size_t i, j;

        if (boot == NULL) {
                json_decref(f.now);
                return ctx_fail(ctx, MLC_E_UNAVAILABLE,
                                "gateway '%s' does not say since when it counts", in->control);
        }
        if (mlc_streq(boot, text_of(last, "boot")))
                f.then = json_object_get(last, "banks");
        json_array_foreach (json_object_get(in->stats, "routes"), i, route) {
                const char *name = text_of(route, "route");
                const char *key = text_of(json_object_get(in->routes, name), "key");

                if (json_object_get(in->routes, name) == NULL)
                        continue; /* of another model */
                json_array_foreach (json_object_get(route, "variants"), j, bank)
                        fold_bank(&f, name, key, bank);
        }
        (void)json_object_set_new(counters, in->control,
                                  json_pack("{s:s, s:o}", "boot", boot, "banks", f.now));
        return 0;
}
