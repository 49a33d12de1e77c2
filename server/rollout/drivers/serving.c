/* SPDX-License-Identifier: Apache-2.0 */
/* What holds for all drivers: names, bringing up, taking down. */
#include "mlctl/serving.h"

#include <assert.h>
#include <stdio.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/str.h"
#include "client/call.h"
#include "codec/ref.h"
#include "serving_internal.h"

#define POLL_MS 100
#define POLL_MS_MAX 500
#define STEADY 3 /* times that a model must be ready in a row: readiness may flap */
#define TRIES 3 /* of what failed in a way that may pass */
#define CLEAN_UP_MS 10000

const struct mlc_serving_ops *mlc_serving_find(const char *driver)
{
        static const struct mlc_serving_ops *const all[] = {&serving_oip, &serving_triton,
                                                            &serving_webhook};

        for (size_t i = 0; driver != NULL && i < ARRAY_LEN(all); i++)
                if (mlc_streq(all[i]->name, driver))
                        return all[i];
        return NULL;
}

const char *mlc_serving_outcome_name(enum mlc_serving_outcome o)
{
        static const char *const names[] = {
                [MLC_SERVING_OK] = "ok",
                [MLC_SERVING_NOT_READY] = "not_ready",
                [MLC_SERVING_NOT_FOUND] = "not_found",
                [MLC_SERVING_REFUSED] = "refused",
                [MLC_SERVING_TRANSIENT] = "transient",
                [MLC_SERVING_UNREACHABLE] = "unreachable",
        };

        assert((size_t)o < ARRAY_LEN(names));
        return names[o];
}

int mlc_serving_name(const char *model, unsigned long long version, char ret[MLC_SERVING_NAME_MAX],
                     struct mlc_err *err)
{
        struct mlc_ref ref;
        int r = mlc_ref_parse_model(model, &ref, err);

        if (r < 0)
                return r;
        if (version < 1 || version > MLC_VERSION_MAX)
                return mlc_fail(err, MLC_E_INVALID, "%llu is no version number", version);
        if (strstr(ref.ns, "--") != NULL || strstr(ref.model, "--") != NULL)
                return mlc_fail(err, MLC_E_INVALID,
                                "'%s' cannot be served: \"--\" in a name is what separates "
                                "namespace, model and version on inference servers",
                                model);
        (void)snprintf(ret, MLC_SERVING_NAME_MAX, "%s--%s--%llu", ref.ns, ref.model, version);
        return 0;
}

bool mlc_serving_name_parse(const char *name, char ret_model[MLC_SERVING_NAME_MAX],
                            unsigned long long *ret_version)
{
        const char *first = strstr(name, "--");
        const char *second = first != NULL ? strstr(first + 2, "--") : NULL;
        char model[MLC_SERVING_NAME_MAX], again[MLC_SERVING_NAME_MAX];
        struct mlc_err ignored = {0};
        unsigned long long version;

        if (second == NULL || strlen(name) >= sizeof(model) || !mlc_parse_u64(second + 2, &version))
                return false;
        (void)snprintf(model, sizeof(model), "%.*s/%.*s", (int)(first - name), name,
                       (int)(second - first - 2), first + 2);
        if (mlc_serving_name(model, version, again, &ignored) < 0 || !mlc_streq(name, again))
                return false;
        memcpy(ret_model, model, sizeof(model));
        *ret_version = version;
        return true;
}

static bool time_left(const struct mlc_serving_call *c)
{
        return mlc_monotonic_ms() < c->deadline_ms &&
               (c->cancelled == NULL || !c->cancelled(c->userdata));
}

/* Sleeps, but not past the deadline; false when nothing is left. */
static bool nap(const struct mlc_serving_call *c, int64_t ms)
{
        int64_t left = c->deadline_ms - mlc_monotonic_ms();

        if (left <= 0)
                return false;
        mlc_sleep_ms(ms < left ? ms : left);
        return time_left(c);
}

static bool may_pass(enum mlc_serving_outcome o)
{
        return o == MLC_SERVING_TRANSIENT || o == MLC_SERVING_UNREACHABLE;
}

static void load(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                 const struct mlc_serving_model *m, struct mlc_serving_result *ret)
{
        for (int i = 1;; i++) {
                ops->load(c, m, ret);
                if (!may_pass(ret->outcome) || i == TRIES || !nap(c, POLL_MS << i))
                        return;
        }
}

/* Ready STEADY times in a row, by the deadline. Only `refused` ends it before. */
static void wait_ready(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                       const struct mlc_serving_model *m, struct mlc_serving_result *ret)
{
        int64_t pause = POLL_MS;
        int steady = 0;

        for (;;) {
                ops->ready(c, m, ret);
                if (ret->outcome == MLC_SERVING_REFUSED)
                        return;
                steady = ret->outcome == MLC_SERVING_OK ? steady + 1 : 0;
                if (steady == STEADY)
                        return;
                pause = steady > 0 ? POLL_MS : pause + pause / 4;
                pause = pause < POLL_MS_MAX ? pause : POLL_MS_MAX;
                if (!nap(c, pause))
                        break;
        }
        if (ret->outcome == MLC_SERVING_OK)
                srv_set(ret, MLC_SERVING_NOT_READY, ret->status,
                        "was ready, but not for long enough before the time was up");
}

static void answer_example(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                           const struct mlc_serving_model *m, struct mlc_serving_result *ret)
{
        for (int i = 1;; i++) {
                struct mlc_str reply;

                ops->infer(c, m, m->example, &reply, ret);
                mlc_str_done(&reply);
                if (!may_pass(ret->outcome) || i == TRIES || !nap(c, POLL_MS << i))
                        break;
        }
        if (ret->outcome != MLC_SERVING_OK) {
                struct mlc_serving_result was = *ret;

                srv_set(ret, was.outcome, was.status, "the recorded example failed: %s", was.text);
        }
}

/* Whatever happened: the version is not to stay there half loaded. */
static void clean_up(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                     const struct mlc_serving_model *m, struct mlc_serving_result *ret)
{
        struct mlc_serving_call again = *c;
        struct mlc_serving_result after, why = *ret;

        again.cancelled = NULL;
        again.deadline_ms = mlc_monotonic_ms() + CLEAN_UP_MS;
        mlc_serving_take_down(ops, &again, m, &after);
        if (after.outcome != MLC_SERVING_OK)
                srv_set(ret, why.outcome, why.status, "%s; and unloading it failed: %s", why.text,
                        after.text);
}

void mlc_serving_bring_up(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                          const struct mlc_serving_model *m, struct mlc_serving_result *ret)
{
        bool asked = false;

        ops->ready(c, m, ret);
        if (ret->outcome != MLC_SERVING_OK && ret->outcome != MLC_SERVING_REFUSED && time_left(c)) {
                asked = true;
                load(ops, c, m, ret);
                /* without an answer it may be loading all the same: readiness decides */
                if (ret->outcome == MLC_SERVING_UNREACHABLE && time_left(c))
                        ret->outcome = MLC_SERVING_OK;
        }
        if (ret->outcome == MLC_SERVING_OK)
                wait_ready(ops, c, m, ret);
        if (ret->outcome == MLC_SERVING_OK && m->example != NULL && ops->infer != NULL)
                answer_example(ops, c, m, ret);
        /* who is told to give up leaves the rest to whoever goes on */
        if (ret->outcome != MLC_SERVING_OK && asked &&
            (c->cancelled == NULL || !c->cancelled(c->userdata)))
                clean_up(ops, c, m, ret);
}

void mlc_serving_take_down(const struct mlc_serving_ops *ops, const struct mlc_serving_call *c,
                           const struct mlc_serving_model *m, struct mlc_serving_result *ret)
{
        struct mlc_serving_result state;
        int gone = 0;

        do {
                ops->unload(c, m, ret);
        } while (may_pass(ret->outcome) && nap(c, POLL_MS_MAX));
        if (ret->outcome != MLC_SERVING_OK)
                return;
        for (;;) {
                ops->ready(c, m, &state);
                gone = state.outcome == MLC_SERVING_NOT_FOUND ||
                                       state.outcome == MLC_SERVING_NOT_READY
                               ? gone + 1
                               : 0;
                if (gone == 2)
                        return;
                if (!nap(c, POLL_MS))
                        break;
        }
        if (state.outcome == MLC_SERVING_OK)
                srv_set(ret, MLC_SERVING_TRANSIENT, state.status,
                        "is still ready, though unloading was accepted");
        else
                *ret = state;
}
