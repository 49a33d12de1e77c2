/* SPDX-License-Identifier: Apache-2.0 */
/* Increments of a rollout's statistics, a JSON list, folded and decided upon: refused with a
 * pointer, or taken; and what is stored says the same when read again. */
#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "policy/document.h"
#include "rollout/analysis.h"
#include "rollout/plan.h"

static const char MODEL[] =
        "{\"apiVersion\":\"mlctl/v1\",\"kind\":\"Model\",\"name\":\"a/b\",\"rollout\":{"
        "\"strategy\":\"ab\",\"steps\":[{\"weight\":\"50%\",\"requests\":10},{\"weight\":\"80%\","
        "\"advance\":\"proven\"}],\"exposure\":\"1%\",\"checks\":["
        "{\"id\":\"errors\",\"type\":\"error-rate\",\"margin\":\"1%\"},"
        "{\"id\":\"slow\",\"type\":\"slower-than\",\"limit\":\"50ms\",\"margin\":0},"
        "{\"id\":\"tail\",\"type\":\"latency\",\"margin\":\"10%\"},"
        "{\"id\":\"chi\",\"type\":\"prediction-distribution\"},"
        "{\"id\":\"psi\",\"type\":\"prediction-distribution\",\"method\":\"psi\"},"
        "{\"id\":\"agreement\",\"type\":\"shadow-agreement\",\"at_least\":\"97%\"},"
        "{\"id\":\"truth\",\"type\":\"labels\",\"margin\":\"1%\"},"
        "{\"id\":\"q\",\"type\":\"promql\",\"query\":\"up\",\"at_most\":1,"
        "\"source\":\"http://x\"}],"
        "\"ab\":{\"metric\":\"truth\",\"margin\":\"1%\",\"horizon\":100}}}";

static json_t *plan_of(void)
{
        _cleanup_(json_decref_p) json_t *written = json_loads(MODEL, 0, NULL), *model = NULL;
        _cleanup_(json_decref_p) json_t *environment = json_pack("{s:s}", "name", "production");
        struct mlc_rollout_docs docs = {.environment = environment};
        struct mlc_err err = {0};
        json_t *plan = NULL;
        int r = mlc_document_normalise(written, &model, &err);

        assert(r == 0);
        docs.model = model;
        r = mlc_rollout_plan(&docs, &plan, &err);
        assert(r == 0);
        return plan;
}

static void decided(const json_t *plan, const json_t *stats, unsigned step)
{
        struct mlc_rollout_now now = {.step = step, .step_ms = 1000};
        _cleanup_(json_decref_p) json_t *one = NULL, *other = NULL, *read = NULL;
        _cleanup_(free_p) char *stored = json_dumps(stats, JSON_COMPACT);
        struct mlc_err err = {0};
        int r = mlc_rollout_decide(plan, stats, &now, &one, &err);

        assert(r == 0);
        read = json_loads(stored, 0, NULL);
        assert(read != NULL);
        r = mlc_rollout_decide(plan, read, &now, &other, &err);
        assert(r == 0 && json_equal(one, other));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(json_decref_p) json_t *plan = plan_of(), *stats = mlc_rollout_stats_new(),
                                        *list = NULL;
        struct mlc_err err = {0};
        const json_t *increment;
        size_t i;

        if (size > 20000 || mlc_json_parse((const char *)data, size, &list, &err) < 0)
                return 0;
        json_array_foreach (list, i, increment) {
                struct mlc_err why = {0};
                json_t *next = NULL;

                if (i == 50)
                        break;
                if (mlc_rollout_fold(plan, stats, increment, &next, &why) < 0) {
                        assert(why.code < 0 && why.field[0] == '/' && next == NULL);
                        continue;
                }
                json_decref(stats);
                stats = next;
        }
        for (unsigned step = 0; step < 3; step++)
                decided(plan, stats, step);
        return 0;
}
