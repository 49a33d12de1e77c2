/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include "base/arena.h"
#include "codec/json.h"
#include "policy/evaluation.h"
#include "policy/examples.h"
#include "policy/policy.h"
#include "stats/stats.h"

/* Shared by judge.c and the files of the check types. */
enum verdict { PASS, INCONCLUSIVE, FAIL, ERROR }; /* the greater decides */

/* One evaluation that counts. */
struct record {
        const char *id;
        const char *examples; /* digest, or NULL */
        int64_t received_ms;
        const json_t *recomputed; /* list; may be empty */
        struct mlc_evaluation e;
};

struct side {
        const char *digest;
        struct record *records; /* not withdrawn ones, by id */
        size_t n;
};

#define CACHE_SIZE 4

struct judge {
        const json_t *bundle;
        const struct mlc_policy_examples *examples;
        struct mlc_arena arena;
        int64_t now_ms;
        struct side version, champion;
        bool has_champion;
        struct cached {
                const char *digest; /* NULL: free */
                struct mlc_examples *x; /* NULL: could not be read */
                char why[200];
                unsigned long long used;
        } cache[CACHE_SIZE];
        unsigned long long clock;
};

/* What came out of one check, or of one pair of evaluations in it. Texts are in judge.arena. */
struct outcome {
        enum verdict verdict;
        const char *observed, *required; /* NULL: null */
        const char *reason;
        const char *statistic; /* value, wilson, newcombe, tango, mcnemar-exact …; NULL */
        bool has_interval;
        struct mlc_interval interval;
        int64_t n, n_needed; /* 0: null */
        double worse; /* among equal verdicts the greater decides */
        bool conflict;
        const char *dataset; /* NAME@SCHEME:VALUE that decided, or NULL */
};

/* A text in the arena; the judge's arena is large enough by construction, else asserts. */
const char *judge_text(struct judge *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
const char *judge_decimal(struct judge *j, double d);
/* a when it is worse than b. */
bool outcome_worse(const struct outcome *a, const struct outcome *b);

/* A check's "metric", "slice" and "dataset" in one evaluation. */
bool judge_wants(const json_t *check, const struct record *r);
bool judge_metric(const json_t *check, const struct record *r, struct mlc_metric *ret);
/* As accuracy counts: the value is in [0, 1] and has no unit. */
bool judge_is_share(const struct mlc_metric *m);
/* The examples with this digest, or NULL with the reason. */
const struct mlc_examples *judge_examples(struct judge *j, const char *digest,
                                          const char **ret_why);
double judge_number(const json_t *check, const char *key);

typedef void judge_check(struct judge *j, const json_t *check, struct outcome *ret);
judge_check check_threshold, check_compare, check_freshness, check_imports, check_card,
        check_lineage, check_after;

/* How long the environment of an `after` check must still be live; 0 when it is fulfilled or not
 * live, or the check is another. */
int64_t after_left_ms(const json_t *bundle, const json_t *check);

/* Examples needed so that Wilson's lower end (upper: of n - k) reaches the bound; 0: never. */
int64_t needed_wilson(double share, double bound, double level);
/* For an interval of the difference d with variance per example v to clear `from`; 0: never. */
int64_t needed_compare(double gap, double variance, double alpha);
