/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole verdicts by simulation, with fixed seeds: a version that is worse by exactly the margin
 * passes non-inferiority at rate alpha, an equal one at the power that `apply` announces, within
 * three standard errors. Counts are whole numbers, so the size is not alpha exactly: at these sizes
 * it is within BEYOND of it, which the exact sum over all outcomes shows.
 */
#include "unit/policy/support.h"
#include "unit/simulate.h"

#include <sys/mman.h>

#include "crypto/hash.h"
#include "policy/evaluation.h"
#include "policy/policy.h"
#include "stats/stats.h"

#define NOW "2026-11-24T10:00:00.000Z"
#define MINE "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define THEIRS "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define D "d@sha256:3333333333333333333333333333333333333333333333333333333333333333"
#define ALPHA 0.05
#define BEYOND 0.006
#define ROWS_MAX 5000

static const struct scenario {
        int64_t n;
        double margin;
        double share; /* the champion's accuracy */
        double discordant; /* pairs that the two answer differently */
        int unpaired_runs, paired_runs; /* examples cost more */
} scenarios[] = {
        {50, 0.10, 0.9, 0.15, 4000, 3000},   {200, 0.05, 0.9, 0.10, 4000, 2000},
        {1000, 0.02, 0.9, 0.06, 3000, 1000}, {5000, 0.01, 0.9, 0.10, 2000, 400},
        {5000, 0.02, 0.8, 0.06, 2000, 400},
};

static char *file[2];

struct shown {
        struct mlc_counts mine, theirs; /* as declared */
        const char *digest[2]; /* of examples; NULL: none */
};

static json_t *record(const char *manifest, const char *examples, struct mlc_counts c)
{
        struct mlc_digest m, x, id;
        char text[MLC_DIGEST_STR];
        struct mlc_err err = {0};

        assert_int_equal(mlc_digest_parse(manifest, &m, &err), 0);
        if (examples != NULL)
                assert_int_equal(mlc_digest_parse(examples, &x, &err), 0);
        mlc_evaluation_id(&m, &m, examples != NULL ? &x : NULL, &id);
        mlc_digest_format(&id, text);
        return json_pack("{s:s, s:s, s:s, s:s?, s:b, s:s, s:[], s:{s:s, s:s, s:s, s:[{s:s, s:f, "
                         "s:I}]}}",
                         "id", text, "manifest", manifest, "submitted", manifest, "examples",
                         examples, "withdrawn", 0, "at", NOW, "recomputed", "document", "schema",
                         "evaluation/v1", "dataset", D, "evaluated_at", "2026-11-24T10:00:00Z",
                         "metrics", "name", "accuracy", "value", (double)c.k / (double)c.n, "n",
                         (json_int_t)c.n);
}

/* As normalised documents have it. */
static json_t *check_of(const struct scenario *s)
{
        char margin[32];

        (void)snprintf(margin, sizeof(margin), "%.10f", s->margin);
        return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:{}, s:s, s:s, s:s, s:s, s:i}", "id",
                         "not-worse", "layer", "Policy/p", "mode", "enforce", "type", "compare",
                         "metric", "accuracy", "dataset", "d", "slice", "against", "champion",
                         "test", "non-inferiority", "margin", margin, "alpha", "0.0500000000",
                         "minimum_n", 1);
}

/* ret_policy_digest as bundles have it. */
static json_t *policy_of(const struct scenario *s, char ret_digest[MLC_DIGEST_STR])
{
        json_t *policy = json_pack("{s:[o], s:[]}", "checks", check_of(s), "approvals");
        struct mlc_digest d;
        struct mlc_err err = {0};

        assert_int_equal(mlc_policy_digest(policy, &d, &err), 0);
        mlc_digest_format(&d, ret_digest);
        return policy;
}

static int open_file(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        const struct shown *s = userdata;

        for (int i = 0; i < 2; i++) {
                if (strcmp(s->digest[i], digest) != 0)
                        continue;
                *ret_fd = memfd_create("examples", 0);
                assert_true(write(*ret_fd, file[i], strlen(file[i])) > 0);
                assert_int_equal(lseek(*ret_fd, 0, SEEK_SET), 0);
                return 0;
        }
        return mlc_fail(err, MLC_E_NOT_FOUND, "there is no such blob");
}

/* Takes the records. */
static json_t *bundle_of(json_t *policy, const char *digest, json_t *mine, json_t *theirs)
{
        return json_pack("{s:s, s:s, s:{s:s, s:i, s:s}, s:{s:s}, s:s, s:O, s:s, s:[o], s:{s:s, "
                         "s:[o]}}",
                         "schema", "bundle/v1", "now", NOW, "version", "model", "a/b", "version", 2,
                         "digest", MINE, "environment", "name", "production", "environment_digest",
                         MINE, "policy", policy, "policy_digest", digest, "evaluations", mine,
                         "champion", "digest", THEIRS, "evaluations", theirs);
}

/* Judges it; whether it passed, by the statistic that is expected. */
static bool passes(const struct scenario *s, const struct shown *shown, const char *statistic)
{
        char digest[MLC_DIGEST_STR];
        _cleanup_(json_decref_p) json_t *policy = policy_of(s, digest), *b = NULL, *v = NULL;
        struct mlc_policy_examples x = {open_file, (void *)(uintptr_t)shown};
        struct mlc_err err = {0};
        const json_t *check;

        b = bundle_of(policy, digest, record(MINE, shown->digest[0], shown->mine),
                      record(THEIRS, shown->digest[1], shown->theirs));
        if (mlc_policy_judge(b, &x, &v, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        check = json_array_get(json_object_get(v, "checks"), 0);
        assert_string_equal(json_string_value(json_object_get(check, "statistic")), statistic);
        return strcmp(json_string_value(json_object_get(v, "verdict")), "pass") == 0;
}

static bool unpaired(uint64_t *seed, const struct scenario *s, double difference)
{
        struct shown shown = {{binomial(seed, s->n, s->share + difference), s->n},
                              {binomial(seed, s->n, s->share), s->n},
                              {NULL, NULL}};

        return passes(s, &shown, "newcombe");
}

/* The first b rows only this version has right, the next c only the champion. */
static void write_examples(int which, int64_t n, int64_t b, int64_t c, char ret[MLC_DIGEST_STR])
{
        struct mlc_digest d;
        size_t at = (size_t)snprintf(file[which], 64, "id,label,prediction\n");

        for (int64_t i = 0; i < n; i++) {
                bool right = i >= b + c || (which == 0 ? i < b : i >= b);

                at += (size_t)snprintf(file[which] + at, 64, "r%lld,1,%d\n", (long long)i, right);
        }
        mlc_sha256(file[which], at, &d);
        mlc_digest_format(&d, ret);
}

static bool paired(uint64_t *seed, const struct scenario *s, double difference)
{
        int64_t m = binomial(seed, s->n, s->discordant);
        int64_t b = binomial(seed, m, 0.5 + difference / (2.0 * s->discordant));
        char digest[2][MLC_DIGEST_STR];
        struct shown shown = {{s->n - (m - b), s->n}, {s->n - b, s->n}, {digest[0], digest[1]}};

        for (int i = 0; i < 2; i++)
                write_examples(i, s->n, b, m - b, digest[i]);
        return passes(s, &shown, "tango");
}

typedef bool draw(uint64_t *seed, const struct scenario *s, double difference);

static void simulate(draw *one, bool in_pairs)
{
        uint64_t seed = 20261124;

        for (size_t i = 0; i < ARRAY_LEN(scenarios); i++) {
                const struct scenario *s = &scenarios[i];
                int runs = (in_pairs ? s->paired_runs : s->unpaired_runs) / SIMULATE_LESS;
                _cleanup_(json_decref_p) json_t *check = check_of(s);
                struct mlc_feasible_in in = {s->n, s->share, s->discordant, in_pairs};
                struct mlc_non_inferiority worse = {s->n, s->margin, ALPHA, -s->margin};
                struct mlc_feasible f;
                int equal_passed = 0, worse_passed = 0;
                double size = in_pairs ? mlc_power_paired(worse, s->discordant)
                                       : mlc_power_unpaired(worse, s->share);
                char what[128];

                for (int j = 0; j < runs; j++) {
                        equal_passed += one(&seed, s, 0.0);
                        worse_passed += one(&seed, s, -s->margin);
                }
                mlc_policy_feasible(check, &in, &f);
                assert_true(f.power > 0);
                (void)snprintf(what, sizeof(what), "%s, n %lld, margin %.2f",
                               in_pairs ? "paired" : "unpaired", (long long)s->n, s->margin);
                share_is(what, equal_passed, runs, f.power, 0);
                share_is(what, worse_passed, runs, size, 0);
                share_is(what, worse_passed, runs, ALPHA, BEYOND);
                assert_true(fabs(size - ALPHA) <= BEYOND);
        }
}

static void unpaired_verdicts(void **state)
{
        (void)state;
        simulate(unpaired, false);
}

static void paired_verdicts(void **state)
{
        (void)state;
        simulate(paired, true);
}

/* --- several checks --- */

#define SLICES 5

static json_t *sliced_record(const char *manifest, const int64_t right[SLICES], int64_t n)
{
        json_t *r = record(manifest, NULL, (struct mlc_counts){n, n});
        json_t *metrics = json_object_get(json_object_get(r, "document"), "metrics");

        json_array_clear(metrics);
        for (int i = 0; i < SLICES; i++)
                json_array_append_new(
                        metrics, json_pack("{s:s, s:f, s:I, s:{s:o}}", "name", "accuracy", "value",
                                           (double)right[i] / (double)n, "n", (json_int_t)n,
                                           "slice", "part", json_sprintf("%d", i)));
        return r;
}

static json_t *slices_policy(const struct scenario *s, char ret_digest[MLC_DIGEST_STR])
{
        json_t *checks = json_array(), *policy;
        struct mlc_digest d;
        struct mlc_err err = {0};

        for (int i = 0; i < SLICES; i++) {
                json_t *check = check_of(s);

                json_object_set_new(check, "id", json_sprintf("c%d", i));
                json_object_set_new(check, "slice",
                                    json_pack("{s:o}", "part", json_sprintf("%d", i)));
                json_array_append_new(checks, check);
        }
        policy = json_pack("{s:o, s:[]}", "checks", checks, "approvals");
        assert_int_equal(mlc_policy_digest(policy, &d, &err), 0);
        mlc_digest_format(&d, ret_digest);
        return policy;
}

/* One comparison for each slice; whether the verdict over all is `want`. */
static bool slices_are(const struct scenario *s, const int64_t mine[SLICES],
                       const int64_t theirs[SLICES], const char *want)
{
        char digest[MLC_DIGEST_STR];
        _cleanup_(json_decref_p) json_t *policy = slices_policy(s, digest), *b = NULL, *v = NULL;
        struct mlc_err err = {0};

        b = bundle_of(policy, digest, sliced_record(MINE, mine, s->n),
                      sliced_record(THEIRS, theirs, s->n));
        if (mlc_policy_judge(b, NULL, &v, &err) < 0)
                fail_msg("%s: %s", err.field, err.msg);
        return strcmp(json_string_value(json_object_get(v, "verdict")), want) == 0;
}

/*
 * All checks must pass, so nothing needs correction for their number: a version that is worse by
 * exactly the margin in one slice of five passes as a whole at most at rate alpha. What is as good
 * is not found to be worse in any of them.
 */
static void several_checks_hold_alpha(void **state)
{
        static const struct scenario s = {1000, 0.04, 0.9, 0, 0, 0};
        const int runs = 2000 / SIMULATE_LESS;
        uint64_t seed = 20261124;
        int worse_passed = 0;

        (void)state;
        for (int j = 0; j < runs; j++) {
                int64_t mine[SLICES], theirs[SLICES];

                for (int i = 0; i < SLICES; i++) {
                        mine[i] = binomial(&seed, s.n, s.share);
                        theirs[i] = binomial(&seed, s.n, s.share);
                }
                assert_false(slices_are(&s, mine, theirs, "fail"));
                mine[0] = binomial(&seed, s.n, s.share - s.margin);
                worse_passed += slices_are(&s, mine, theirs, "pass");
        }
        assert_true(worse_passed > 0);
        assert_true((double)worse_passed / runs <=
                    ALPHA + 3.0 * sqrt(ALPHA * (1.0 - ALPHA) / runs));
}

static int setup(void **state)
{
        (void)state;
        for (int i = 0; i < 2; i++)
                file[i] = malloc(128 + 16 * ROWS_MAX);
        return file[0] == NULL || file[1] == NULL;
}

static int teardown(void **state)
{
        (void)state;
        for (int i = 0; i < 2; i++)
                free(file[i]);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(unpaired_verdicts),
                cmocka_unit_test(paired_verdicts),
                cmocka_unit_test(several_checks_hold_alpha),
        };

        return cmocka_run_group_tests(tests, setup, teardown);
}
