/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/rollout/support.h"

#include "rollout/latency.h"
#include "stats/sketch.h"

#define ONE(check)                                                                                 \
        ROLLOUT("{'strategy':'canary','steps':[{'weight':'50%'},{'weight':'100%'}],'checks':"      \
                "[" check "]}")
#define ERRORS "{'id':'errors','type':'error-rate','margin':'0.5%'}"

struct run {
        json_t *plan, *stats, *decision;
        struct mlc_rollout_now now;
};

static struct run run_of(const char *model)
{
        return (struct run){plan_of(model), mlc_rollout_stats_new(), NULL, {.step_ms = 1}};
}

static void run_done(struct run *r)
{
        json_decref(r->plan);
        json_decref(r->stats);
        json_decref(r->decision);
}

static void fold(struct run *r, json_t *increment)
{
        struct mlc_err err = {0};
        json_t *next = NULL;

        assert_non_null(increment);
        if (mlc_rollout_fold(r->plan, r->stats, increment, &next, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        json_decref(r->stats);
        r->stats = next;
        json_decref(increment);
}

static const char *decide(struct run *r)
{
        struct mlc_err err = {0};

        json_decref(r->decision);
        r->decision = NULL;
        if (mlc_rollout_decide(r->plan, r->stats, &r->now, &r->decision, &err) < 0)
                fail_msg("%s", err.msg);
        return text(r->decision, "decision");
}

static const json_t *result(const struct run *r, size_t i)
{
        return json_array_get(json_object_get(r->decision, "checks"), i);
}

/* n requests and k errors of candidate and stable in step `step`, split as `weight` says. */
static json_t *live(int step, int weight, const int n[2], const int k[2])
{
        return json_pack("{s:i, s:i, s:i, s:{s:{s:i, s:i}, s:{s:i, s:i}}}", "generation", step + 1,
                         "step", step, "weight", weight, "arms", "candidate", "requests", n[0],
                         "errors", k[0], "stable", "requests", n[1], "errors", k[1]);
}

#define LIVE(c, kc, s, ks) live(0, 5000, (int[]){c, s}, (int[]){kc, ks})

static void no_data_is_no_pass(void **state)
{
        struct run r = run_of(ONE(ERRORS));

        (void)state;
        r.now.step_ms = INT64_C(86400000);
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(r.decision, "reason"), "check 'errors' is inconclusive");
        assert_string_equal(text(result(&r, 0), "verdict"), "inconclusive");
        assert_true(json_is_null(json_object_get(result(&r, 0), "interval")));
        fold(&r, LIVE(20, 0, 20, 0));
        assert_string_equal(decide(&r), "hold");
        fold(&r, LIVE(20, 0, 20, 0));
        assert_string_equal(decide(&r), "advance");
        run_done(&r);
}

/* Data of an earlier step do not stand in for this one's. */
static void each_step_has_requests_of_its_own(void **state)
{
        struct run r = run_of(
                ROLLOUT("{'strategy':'canary','steps':[{'weight':'5%','requests':100}"
                        ",{'weight':'50%','for':'10m'},{'weight':'100%'}],'checks':[" ERRORS "]}"));

        (void)state;
        fold(&r, live(0, 500, (int[]){99, 1901}, (int[]){0, 3}));
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(r.decision, "reason"), "too few requests");
        fold(&r, live(0, 500, (int[]){1, 19}, (int[]){0, 0}));
        assert_string_equal(decide(&r), "advance");
        r.now.step = 1;
        r.now.step_ms = 600000;
        assert_string_equal(decide(&r), "hold");
        fold(&r, live(1, 5000, (int[]){10, 10}, (int[]){0, 0}));
        assert_string_equal(decide(&r), "advance");
        r.now.step_ms = 599999;
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(r.decision, "reason"), "the step's time is not over");
        r.now.step = 2; /* all traffic: nothing to compare with */
        r.now.step_ms = 0;
        assert_string_equal(decide(&r), "advance");
        run_done(&r);
}

static void harm_is_found_and_recomputed(void **state)
{
        struct run r = run_of(ONE(ERRORS));
        const json_t *c;
        json_t *first;

        (void)state;
        for (int i = 0; i < 12; i++)
                fold(&r, LIVE(100, 6, 100, 1));
        assert_string_equal(decide(&r), "harm");
        assert_string_equal(text(r.decision, "action"), "rollback");
        assert_string_equal(text(r.decision, "reason"), "check 'errors' proved harm");
        c = result(&r, 0);
        assert_string_equal(text(c, "verdict"), "harm");
        assert_string_equal(text(c, "statistic"), "exact e-value");
        assert_true(decimal(json_object_get(c, "value")) >= 20);
        assert_true(decimal(json_object_get(c, "p")) <= 0.05);
        assert_int_equal(number(json_object_get(c, "n"), "candidate"), 1200);
        assert_string_equal(text(c, "estimate"), "0.0500000000");
        assert_true(decimal(json_array_get(json_object_get(c, "interval"), 0)) > 0);
        /* from what was stored, as text, comes the same decision */
        first = json_incref(r.decision);
        {
                char *stored = json_dumps(r.stats, JSON_SORT_KEYS);

                json_decref(r.stats);
                r.stats = json_loads(stored, 0, NULL);
                free(stored);
        }
        (void)decide(&r);
        assert_true(json_equal(first, r.decision));
        json_decref(first);
        run_done(&r);
}

/* Worse for certain, but by less than matters. */
static void less_than_the_margin_is_no_harm(void **state)
{
        struct run r = run_of(ONE("{'id':'errors','type':'error-rate','margin':'5%'}"));

        (void)state;
        for (int i = 0; i < 40; i++)
                fold(&r, LIVE(500, 10, 500, 1));
        assert_string_equal(decide(&r), "advance");
        assert_string_equal(text(result(&r, 0), "verdict"), "proven");
        run_done(&r);
}

static void what_only_warns_ends_nothing(void **state)
{
        struct run r = run_of(ONE("{'id':'errors','type':'error-rate','margin':0,'mode':'warn'}"));

        (void)state;
        fold(&r, LIVE(1000, 200, 1000, 0));
        assert_string_equal(decide(&r), "advance");
        assert_string_equal(text(result(&r, 0), "verdict"), "harm");
        assert_true(json_is_false(json_object_get(result(&r, 0), "decides")));
        run_done(&r);
}

static void proof_takes_non_inferiority(void **state)
{
        struct run r = run_of(ROLLOUT("{'strategy':'canary','steps':[{'weight':'50%','advance':"
                                      "'proven'}],'checks':[" ERRORS "]}"));
        int n = 0;

        (void)state;
        do {
                fold(&r, LIVE(500, 5, 500, 5));
                n += 500;
        } while (strcmp(decide(&r), "hold") == 0 && n < 50000);
        assert_string_equal(text(r.decision, "decision"), "advance");
        assert_string_equal(text(result(&r, 0), "verdict"), "proven");
        /* z^2 of 7.65 units of 2 pq / margin^2 */
        assert_in_range(n, 5500, 7500);
        assert_true(decimal(json_array_get(json_object_get(result(&r, 0), "interval"), 1)) < .005);
        run_done(&r);
}

static void exposure_bounds_the_next_weight(void **state)
{
        struct run r = run_of(
                ROLLOUT("{'strategy':'canary','steps':[{'weight':'5%'},{'weight':"
                        "'50%'},{'weight':'100%'}],'exposure':'0.5%','checks':[" ERRORS "]}"));
        int n = 0;

        (void)state;
        do {
                fold(&r, live(0, 500, (int[]){50, 950}, (int[]){0, 5}));
                n += 50;
        } while (strcmp(decide(&r), "hold") == 0 && n < 20000);
        assert_string_equal(text(r.decision, "decision"), "advance");
        assert_in_range(n, 300, 1500);
        assert_true(decimal(json_object_get(json_object_get(r.decision, "exposure"), "bound")) <=
                    0.005);
        assert_int_equal(number(json_object_get(r.decision, "exposure"), "next_weight"), 5000);
        r.now.step = 1; /* twice the weight: half the harm is bearable */
        fold(&r, live(1, 5000, (int[]){500, 500}, (int[]){3, 3}));
        assert_string_equal(decide(&r), "hold");
        assert_non_null(strstr(text(r.decision, "reason"), "next weight"));
        run_done(&r);
}

static void a_wrong_split_holds(void **state)
{
        static const struct {
                const char *key, *decision;
                int candidate;
        } v[] = {
                {"random", "advance", 500}, {"random", "hold", 700},  {"random", "hold", 0},
                {"sticky", "advance", 700}, {"sticky", "hold", 2000},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct run r = run_of(ONE("{'id':'q','type':'promql','query':'up','at_least':1,"
                                          "'mode':'warn'}"));
                json_t *inc = live(0, 500, (int[]){v[i].candidate, 10000 - v[i].candidate},
                                   (int[]){0, 0});

                json_object_set_new(inc, "key", json_string(v[i].key));
                fold(&r, inc);
                assert_string_equal(decide(&r), v[i].decision);
                assert_int_equal(json_is_true(json_object_get(json_object_get(r.decision, "split"),
                                                              "fault")),
                                 strcmp(v[i].decision, "hold") == 0);
                run_done(&r);
        }
}

static void silence_holds_until_the_deadline(void **state)
{
#define SILENT(more)                                                                               \
        ROLLOUT("{'strategy':'canary','steps':[{'weight':'50%','requests':1000}],'checks':"        \
                "[" ERRORS "]" more "}")
        struct run r = run_of(SILENT(",'deadline':'1h'"));

        (void)state;
        fold(&r, LIVE(100, 0, 100, 0));
        r.now.fault = "the gateway does not answer";
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(r.decision, "reason"), "no data: the gateway does not answer");
        r.now.fault = NULL;
        r.now.silent_ms = 61000;
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(r.decision, "reason"), "no data: no requests");
        r.now.step_ms = 3600000;
        assert_string_equal(decide(&r), "deadline");
        assert_string_equal(text(r.decision, "action"), "pause");
        assert_string_equal(text(r.decision, "reason"),
                            "the deadline of the step is over: no data: no requests");
        run_done(&r);
        r = run_of(SILENT(",'deadline':'1h','on_deadline':'rollback'"));
        r.now.step_ms = 3600000;
        assert_string_equal(decide(&r), "deadline");
        assert_string_equal(text(r.decision, "action"), "rollback");
        run_done(&r);
        r = run_of(SILENT(",'on_silence':'pause'"));
        r.now.fault = "the gateway does not answer";
        r.now.silent_ms = 59000;
        assert_string_equal(decide(&r), "hold");
        r.now.hasty = true;
        assert_string_equal(decide(&r), "silence");
        r.now = (struct mlc_rollout_now){.silent_ms = 61000};
        assert_string_equal(decide(&r), "silence");
        assert_string_equal(text(r.decision, "action"), "pause");
        run_done(&r);
        /* harm is not undone by silence, nor by the clock */
        r = run_of(SILENT(",'deadline':'1h','on_harm':'pause'"));
        fold(&r, LIVE(1000, 200, 1000, 1));
        r.now.fault = "the gateway does not answer";
        r.now.step_ms = 3600000;
        assert_string_equal(decide(&r), "harm");
        assert_string_equal(text(r.decision, "action"), "pause");
        run_done(&r);
}

static void people_are_waited_for(void **state)
{
        static const char *const waits[] = {
                "'wait':'person'", "'approvals':[{'name':'risk','from':['role:approver']}]",
                "'wait':'person','approvals':[{'name':'risk','from':['role:approver']}]"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(waits); i++) {
                char model[512];
                struct run r;

                (void)snprintf(model, sizeof(model),
                               ROLLOUT("{'strategy':'none','steps':[{'weight':'5%%',%s}]}"),
                               waits[i]);
                r = run_of(model);
                assert_string_equal(decide(&r), "wait");
                assert_string_equal(
                        text(json_array_get(json_object_get(r.decision, "waiting_for"), 0), "what"),
                        i == 0 ? "person" : "approval");
                r.now.approved = true; /* an operator's word is no signature */
                assert_string_equal(decide(&r), i == 0 ? "advance" : "wait");
                r.now.approved = i == 0;
                r.now.signed_off = true;
                assert_string_equal(decide(&r), i == 2 ? "wait" : "advance");
                r.now.approved = true;
                assert_string_equal(decide(&r), "advance");
                run_done(&r);
        }
}

/* --- latency --- */

static json_t *with_latency(int us_candidate, int us_stable, int n)
{
        json_t *inc = LIVE(n, 0, n, 0), *arms = json_object_get(inc, "arms");
        static const char *const names[] = {"candidate", "stable"};

        for (int i = 0; i < 2; i++) {
                int us = i == 0 ? us_candidate : us_stable;

                json_object_set_new(json_object_get(arms, names[i]), "latency",
                                    json_pack("{s:s, s:i, s:[[i, i], [i, i]]}", "gamma",
                                              MLC_LATENCY_GAMMA_TEXT, "min_us", 10, "buckets",
                                              (int)mlc_latency_bucket(1000), n * 9 / 10,
                                              (int)mlc_latency_bucket((uint64_t)us), n / 10));
        }
        return inc;
}

static void slow_requests_are_counted(void **state)
{
        struct run r =
                run_of(ONE("{'id':'slow','type':'slower-than','limit':'50ms','margin':'1%'}"));

        (void)state;
        for (int i = 0; i < 20; i++)
                fold(&r, with_latency(49000, 49000, 100));
        assert_string_equal(decide(&r), "advance");
        for (int i = 0; i < 20; i++)
                fold(&r, with_latency(60000, 49000, 100));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
        /* copies are answered off the path of requests: nothing is known of their latency */
        r = run_of(ONE("{'id':'slow','type':'slower-than','limit':'50ms','margin':'1%'}"));
        {
                json_t *copies = with_latency(60000, 49000, 1000);

                json_object_set_new(copies, "source", json_string("shadow"));
                fold(&r, copies);
        }
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(result(&r, 0), "verdict"), "inconclusive");
        run_done(&r);
        /* frequent ones are judged by the mixture */
        r = run_of(ONE("{'id':'slow','type':'slower-than','limit':'50ms','margin':'1%'}"));
        for (int i = 0; i < 200; i++)
                fold(&r, with_latency(60000, 60000, 100));
        assert_string_equal(decide(&r), "advance");
        assert_string_equal(text(result(&r, 0), "statistic"), "mixture likelihood ratio");
        run_done(&r);
}

static void quantiles_are_compared(void **state)
{
        struct run r = run_of(ONE("{'id':'tail','type':'latency','quantile':0.95,'margin':'20%'}"));

        (void)state;
        fold(&r, with_latency(30000, 30000, 1000));
        assert_string_equal(decide(&r), "advance");
        assert_string_equal(text(result(&r, 0), "estimate"), "0.00000000");
        fold(&r, with_latency(30000, 30000, 4000));
        (void)decide(&r);
        assert_string_equal(text(result(&r, 0), "verdict"), "proven");
        run_done(&r);
        r = run_of(ONE("{'id':'tail','type':'latency','quantile':0.95,'margin':'20%'}"));
        fold(&r, with_latency(60000, 30000, 2000));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
        r = run_of(ONE("{'id':'tail','type':'latency','quantile':0.95,'margin':'150%'}"));
        fold(&r, with_latency(60000, 30000, 2000)); /* twice as slow is allowed */
        assert_string_equal(decide(&r), "advance");
        run_done(&r);
}

/* --- outputs --- */

static json_t *with_outputs(int a, int b)
{
        json_t *inc = LIVE(1000, 0, 1000, 0), *arms = json_object_get(inc, "arms");

        json_object_set_new(json_object_get(arms, "candidate"), "outputs",
                            json_pack("{s:i, s:i}", "yes", a, "no", 1000 - a));
        json_object_set_new(json_object_get(arms, "stable"), "outputs",
                            json_pack("{s:i, s:i}", "no", 1000 - b, "yes", b));
        return inc;
}

#define OUTPUTS(more) ONE("{'id':'outputs','type':'prediction-distribution'" more "}")

static void classes_are_compared(void **state)
{
        struct run r = run_of(OUTPUTS(""));
        const json_t *look;

        (void)state;
        fold(&r, with_outputs(500, 490));
        assert_string_equal(decide(&r), "advance");
        assert_string_equal(text(result(&r, 0), "verdict"), "ok");
        look = json_object_get(json_object_get(r.stats, "looks"), "outputs");
        assert_int_equal(number(look, "look"), 1);
        assert_int_equal(number(look, "next"), 1600);
        fold(&r, with_outputs(900, 490));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
        r = run_of(OUTPUTS(",'floor':0.5")); /* different, but not by enough */
        fold(&r, with_outputs(600, 490));
        assert_string_equal(decide(&r), "advance");
        assert_non_null(strstr(text(result(&r, 0), "rule"), "effect below"));
        run_done(&r);
        r = run_of(OUTPUTS(",'method':'psi'"));
        fold(&r, with_outputs(900, 490));
        assert_string_equal(decide(&r), "harm");
        assert_string_equal(text(result(&r, 0), "statistic"), "population stability index");
        run_done(&r);
        r = run_of(OUTPUTS(",'method':'ks'"));
        fold(&r, with_outputs(900, 490));
        assert_string_equal(decide(&r), "hold"); /* classes have no order */
        run_done(&r);
}

static json_t *with_values(double shift)
{
        json_t *inc = LIVE(1000, 0, 1000, 0), *arms = json_object_get(inc, "arms");
        int64_t c[MLC_SKETCH_CELLS] = {0}, s[MLC_SKETCH_CELLS] = {0};

        for (int i = -500; i < 500; i++) {
                c[mlc_sketch_cell(i / 100. + shift)]++;
                s[mlc_sketch_cell(i / 100.)]++;
        }
        json_object_set_new(json_object_get(arms, "candidate"), "values", values_of(c));
        json_object_set_new(json_object_get(arms, "stable"), "values", values_of(s));
        return inc;
}

static void numbers_are_compared(void **state)
{
        static const char *const methods[] = {"", ",'method':'psi'", ",'method':'chi-square'"};

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(methods); i++)
                for (int shifted = 0; shifted < 2; shifted++) {
                        char model[512];
                        struct run r;

                        (void)snprintf(model, sizeof(model),
                                       "{'apiVersion':'mlctl/v1','kind':'Model','name':'a/b',"
                                       "'rollout':{'strategy':'canary','steps':[{'weight':'50%%'}],"
                                       "'checks':[{'id':'o','type':'prediction-distribution'%s}]}}",
                                       methods[i]);
                        r = run_of(model);
                        fold(&r, with_values(shifted ? 2.0 : 0.0));
                        assert_string_equal(decide(&r), shifted ? "harm" : "advance");
                        run_done(&r);
                }
}

/* --- agreement, labels --- */

static json_t *with_pairs(int n, int agree, int noise_n, int noise_agree)
{
        return json_pack("{s:i, s:i, s:i, s:s, s:{s:{s:i}, s:{s:i}}, s:{s:i, s:{s:i}, s:[[s, s, "
                         "i]]}, s:{s:i, s:{s:i}}}",
                         "generation", 1, "step", 0, "weight", 0, "source", "shadow", "arms",
                         "candidate", "requests", n, "stable", "requests", n, "pairs", "n", n,
                         "agree", "agreement", agree, "classes", "yes", "no", n - agree, "noise",
                         "n", noise_n, "agree", "agreement", noise_agree);
}

static void agreement_is_bounded(void **state)
{
#define AGREE                                                                                      \
        ROLLOUT("{'strategy':'shadow','steps':[{'mirror':'10%','advance':'proven'}],'checks':[{"   \
                "'id':'agreement','type':'shadow-agreement','at_least':'97%'}]}")
        struct run r = run_of(AGREE);

        (void)state;
        fold(&r, with_pairs(200, 199, 0, 0));
        assert_string_equal(decide(&r), "hold");
        fold(&r, with_pairs(2000, 1990, 0, 0));
        assert_string_equal(decide(&r), "advance");
        assert_int_equal(json_integer_value(json_array_get(
                                 json_array_get(json_object_get(r.stats, "classes"), 0), 2)),
                         11);
        run_done(&r);
        r = run_of(AGREE);
        fold(&r, with_pairs(2000, 1800, 0, 0));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
        r = run_of(AGREE); /* stable does not agree with itself any better */
        fold(&r, with_pairs(2000, 1800, 2000, 1800));
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(result(&r, 0), "estimate"), "1.00000000");
        run_done(&r);
}

static void late_labels_are_paired(void **state)
{
        struct run r = run_of(ROLLOUT("{'strategy':'canary','steps':[{'weight':'50%','labels':300}]"
                                      ",'checks':[{'id':'truth','type':'labels','margin':'1%'}]}"));
        json_t *inc;

        (void)state;
        inc = json_pack("{s:i, s:i, s:i, s:{s:{s:i, s:{s:i, s:i}}, s:{s:i, s:{s:i, s:i}}}}",
                        "generation", 1, "step", 0, "weight", 5000, "arms", "candidate", "requests",
                        200, "labels", "n", 200, "wrong", 10, "stable", "requests", 200, "labels",
                        "n", 200, "wrong", 10);
        fold(&r, inc);
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(r.decision, "reason"), "too few labels");
        fold(&r, json_pack("{s:i, s:i, s:{s:i, s:i, s:i}}", "generation", 1, "step", 0,
                           "paired_labels", "n", 100, "only_stable", 2, "only_candidate", 2));
        assert_string_equal(decide(&r), "advance");
        fold(&r, json_pack("{s:i, s:i, s:{s:i, s:i, s:i}}", "generation", 1, "step", 0,
                           "paired_labels", "n", 300, "only_stable", 40, "only_candidate", 5));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
}

/* --- queries --- */

static void query(struct run *r, json_t *value)
{
        fold(r, json_pack("{s:i, s:i, s:{s:{s:o, s:s}}}", "generation", 1, "step", 0, "promql", "q",
                          "value", value, "error", "the source is gone"));
}

static void queries_decide_by_runs(void **state)
{
        struct run r = run_of(ROLLOUT(
                "{'strategy':'blue-green','steps':[{'weight':'100%'}],'checks':[{'id':'q','type':"
                "'promql','query':'x','at_most':5,'consecutive':2}]}"));

        (void)state;
        assert_string_equal(decide(&r), "hold");
        query(&r, json_null());
        assert_string_equal(decide(&r), "hold");
        assert_non_null(strstr(text(result(&r, 0), "rule"), "the source is gone"));
        query(&r, json_string("NaN"));
        assert_string_equal(decide(&r), "hold");
        query(&r, json_real(6));
        assert_string_equal(decide(&r), "hold");
        query(&r, json_string("5"));
        fold(&r, live(0, 10000, (int[]){50, 0}, (int[]){0, 0}));
        assert_string_equal(decide(&r), "advance");
        query(&r, json_real(6));
        query(&r, json_null()); /* neither good nor bad */
        assert_string_equal(decide(&r), "hold");
        query(&r, json_real(6));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
}

/* --- a/b --- */

static void ab_looks_change_nothing(void **state)
{
#define AB                                                                                         \
        ROLLOUT("{'strategy':'ab','checks':[" ERRORS "],'ab':{'metric':'errors','margin':'1%',"    \
                "'horizon':2000}}")
        struct run r = run_of(AB);
        json_t *verdict;

        (void)state;
        fold(&r, LIVE(1000, 10, 1000, 10));
        assert_string_equal(decide(&r), "hold");
        assert_string_equal(text(json_object_get(r.decision, "ab"), "verdict"), "inconclusive");
        fold(&r, LIVE(1000, 10, 1000, 10));
        assert_string_equal(decide(&r), "advance");
        assert_string_equal(text(json_object_get(r.decision, "ab"), "verdict"), "proven");
        verdict = json_incref(json_object_get(r.decision, "ab"));
        fold(&r, LIVE(1000, 15, 1000, 5)); /* too late */
        (void)decide(&r);
        assert_true(json_equal(verdict, json_object_get(r.decision, "ab")));
        json_decref(verdict);
        run_done(&r);
        r = run_of(AB);
        fold(&r, LIVE(2000, 50, 2000, 30)); /* neither worse by 1 % nor not */
        assert_string_equal(decide(&r), "wait");
        assert_non_null(strstr(text(r.decision, "reason"), "undecided"));
        run_done(&r);
        r = run_of(AB);
        fold(&r, LIVE(2000, 120, 2000, 20));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
}

/* --- robustness --- */

static void increments_are_checked(void **state)
{
        static const char *const bad[][2] = {
                {"{}", "/generation"},
                {"{'generation':1,'weight':20000}", "/weight"},
                {"{'generation':1,'arms':{'candidate':{'requests':-1}}}",
                 "/arms/candidate/requests"},
                {"{'generation':1,'arms':{'stable':{'labels':{'n':1,'wrong':2}}}}",
                 "/arms/stable/labels"},
                {"{'generation':1,'arms':{'stable':{'latency':{'gamma':'1.5'}}}}",
                 "/arms/stable/latency"},
                {"{'generation':1,'arms':{'stable':{'latency':{'buckets':[[1,-1]]}}}}", "/arms"},
                {"{'generation':1,'pairs':{'n':1,'agree':{'agreement':2}}}", "/pairs"},
                {"{'generation':1,'pairs':{'classes':[['a',1]]}}", "/pairs/classes"},
                {"{'generation':1,'paired_labels':{'n':1,'only_stable':2}}", "/paired_labels"},
        };
        _cleanup_(json_decref_p) json_t *stats = mlc_rollout_stats_new();
        _cleanup_(json_decref_p) json_t *plan = plan_of(ONE(
                "{'id':'slow','type':'slower-than','limit':'50ms','margin':'1%'},{'id':'agreement',"
                "'type':'shadow-agreement','at_least':'97%'},{'id':'truth','type':'labels',"
                "'margin':0}"));

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                _cleanup_(json_decref_p) json_t *inc = json_of(bad[i][0]);
                struct mlc_err err = {0};
                json_t *next = NULL;

                assert_int_equal(mlc_rollout_fold(plan, stats, inc, &next, &err), MLC_E_INVALID);
                assert_null(next);
                assert_string_equal(err.field, bad[i][1]);
        }
}

/* Stable answered what was copied: a mirror step has both sides without saying so twice. */
static void copies_are_compared(void **state)
{
        struct run r = run_of(ROLLOUT("{'strategy':'shadow','steps':[{'mirror':'10%','requests':"
                                      "100}],'checks':[" ERRORS "]}"));

        (void)state;
        fold(&r, json_pack("{s:i, s:s, s:{s:{s:i, s:i}, s:{}}}", "generation", 1, "source",
                           "shadow", "arms", "candidate", "requests", 200, "errors", 0, "stable"));
        assert_string_equal(decide(&r), "advance");
        fold(&r, json_pack("{s:i, s:s, s:{s:{s:i, s:i}, s:{}}}", "generation", 1, "source",
                           "shadow", "arms", "candidate", "requests", 200, "errors", 30, "stable"));
        assert_string_equal(decide(&r), "harm");
        run_done(&r);
}

/* Errors that are counted after their requests wait for them; nothing is lost. */
static void late_errors_wait(void **state)
{
        struct run r = run_of(ONE(ERRORS));

        (void)state;
        fold(&r, LIVE(5, 9, 5, 0));
        for (int i = 0; i < 10; i++)
                fold(&r, LIVE(100, 10, 100, 0));
        assert_string_equal(decide(&r), "harm");
        assert_int_equal(
                number(json_object_get(json_object_get(r.stats, "totals"), "candidate"), "errors"),
                109);
        run_done(&r);
}

static void replies_have_classes(void **state)
{
        static const char *const v[][2] = {
                {"{'outputs':[{'name':'y','shape':[2,1],'data':[7,3]}]}", "7"},
                {"{'outputs':[{'name':'y','shape':[1],'data':['cat']}]}", "cat"},
                {"{'outputs':[{'name':'y','shape':[1],'data':[true]}]}", "true"},
                {"{'outputs':[{'name':'p','shape':[1,3],'data':[0.2,0.5,0.3]}]}", "1"},
                {"{'outputs':[{'name':'p','shape':[1,3],'data':[[0.2,0.1,0.3]]}]}", "2"},
                {"{'outputs':[{'name':'p','shape':[3],'data':[0.25,0.5,0.3]}]}", "0.25"},
        };
        static const char *const none[] = {"{}", "{'outputs':[]}", "{'outputs':[{'data':[]}]}",
                                           "{'outputs':[{'data':[{}]}]}", "[]"};
        char got[MLC_ROLLOUT_CLASS_MAX];

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *reply = json_of(v[i][0]);

                assert_true(mlc_rollout_class(reply, got));
                assert_string_equal(got, v[i][1]);
        }
        {
                _cleanup_(json_decref_p) json_t *number =
                        json_of("{'outputs':[{'name':'y','shape':[1,1],'data':[[0.25]]}]}");
                double x = 0;

                assert_true(mlc_rollout_number(number, &x));
                assert_true(x == 0.25);
        }
        for (size_t i = 0; i < 5; i++) { /* classes, texts, rows of scores are no numbers */
                _cleanup_(json_decref_p) json_t *reply = json_of(v[i][0]);
                double x = 0;

                assert_false(mlc_rollout_number(reply, &x));
        }
        for (size_t i = 0; i < ARRAY_LEN(none); i++) {
                _cleanup_(json_decref_p) json_t *reply = json_of(none[i]);

                assert_false(mlc_rollout_class(reply, got));
        }
}

static void replies_agree_within_tolerance(void **state)
{
        static const struct {
                const char *check, *one, *other;
                bool agree;
        } v[] = {
                {"{}", "1.0", "1.0", true},
                {"{}", "1.0", "1.0001", false},
                {"{'tolerance':'0.001'}", "1.0", "1.0001", true},
                {"{'relative_tolerance':'0.01'}", "100", "100.9", true},
                {"{'relative_tolerance':'0.01'}", "100", "102", false},
                {"{}", "'a'", "'a'", true},
                {"{'tolerance':'9'}", "'a'", "'b'", false},
                {"{}", "[1,2]", "[1,2]", true},
                {"{}", "[1,2]", "[1]", false},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                char a[128], b[128];
                _cleanup_(json_decref_p) json_t *check = json_of(v[i].check), *one = NULL,
                                                *other = NULL;

                (void)snprintf(a, sizeof(a), "{'outputs':[{'name':'y','shape':[1],'data':[%s]}]}",
                               v[i].one);
                (void)snprintf(b, sizeof(b), "{'outputs':[{'name':'y','shape':[1],'data':[%s]}]}",
                               v[i].other);
                one = json_of(a);
                other = json_of(b);
                assert_int_equal(mlc_rollout_agree(check, one, other), v[i].agree);
        }
        {
                _cleanup_(json_decref_p) json_t *check = json_object(),
                                                *one = json_of("{'error':'no'}");

                assert_false(mlc_rollout_agree(check, one, one));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(no_data_is_no_pass),
                cmocka_unit_test(each_step_has_requests_of_its_own),
                cmocka_unit_test(harm_is_found_and_recomputed),
                cmocka_unit_test(less_than_the_margin_is_no_harm),
                cmocka_unit_test(what_only_warns_ends_nothing),
                cmocka_unit_test(proof_takes_non_inferiority),
                cmocka_unit_test(exposure_bounds_the_next_weight),
                cmocka_unit_test(a_wrong_split_holds),
                cmocka_unit_test(silence_holds_until_the_deadline),
                cmocka_unit_test(people_are_waited_for),
                cmocka_unit_test(slow_requests_are_counted),
                cmocka_unit_test(quantiles_are_compared),
                cmocka_unit_test(classes_are_compared),
                cmocka_unit_test(numbers_are_compared),
                cmocka_unit_test(agreement_is_bounded),
                cmocka_unit_test(late_labels_are_paired),
                cmocka_unit_test(queries_decide_by_runs),
                cmocka_unit_test(ab_looks_change_nothing),
                cmocka_unit_test(increments_are_checked),
                cmocka_unit_test(late_errors_wait),
                cmocka_unit_test(copies_are_compared),
                cmocka_unit_test(replies_have_classes),
                cmocka_unit_test(replies_agree_within_tolerance),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
