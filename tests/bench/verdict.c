/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verdict ROWS CHECKS: generates two examples files of ROWS rows and judges CHECKS paired
 * comparisons on them. Prints one JSON line: seconds of a verdict, seconds of hashing the same
 * bytes (the floor), and the peak memory.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/clock.h"
#include "crypto/hash.h"
#include "policy/evaluation.h"
#include "policy/policy.h"

#define MINE "sha256:1111111111111111111111111111111111111111111111111111111111111111"
#define THEIRS "sha256:2222222222222222222222222222222222222222222222222222222222222222"
#define DATASET "d@sha256:3333333333333333333333333333333333333333333333333333333333333333"

struct files {
        int fd[2];
        char digest[2][MLC_DIGEST_STR];
};

static double seconds(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void generate(struct files *f, int which, long rows)
{
        uint64_t seed = 1 + (uint64_t)which;
        FILE *out;

        f->fd[which] = memfd_create("examples", 0);
        out = fdopen(dup(f->fd[which]), "w");
        if (out == NULL)
                abort();
        (void)fprintf(out, "id,label,prediction,score,slice:age\n");
        for (long i = 0; i < rows; i++) {
                bool wrong;

                seed = seed * 6364136223846793005u + 1442695040888963407u;
                wrong = (seed >> 40) % 100 < 8;
                (void)fprintf(out, "example-%08ld,%ld,%ld,0.%03d,a%ld\n", i, i & 1, (i & 1) ^ wrong,
                              (int)((seed >> 50) % 1000), i % 7);
        }
        (void)fclose(out);
}

static double hash(struct files *f, int which)
{
        static char buf[1 << 16];
        struct mlc_sha256 h;
        struct mlc_digest d;
        double start = seconds();
        ssize_t n;

        (void)lseek(f->fd[which], 0, SEEK_SET);
        mlc_sha256_init(&h);
        while ((n = read(f->fd[which], buf, sizeof(buf))) > 0)
                mlc_sha256_update(&h, buf, (size_t)n);
        mlc_sha256_final(&h, &d);
        mlc_digest_format(&d, f->digest[which]);
        return seconds() - start;
}

static int open_examples(void *userdata, const char *digest, int *ret_fd, struct mlc_err *err)
{
        struct files *f = userdata;

        for (int i = 0; i < 2; i++) {
                if (strcmp(f->digest[i], digest) != 0)
                        continue;
                *ret_fd = dup(f->fd[i]);
                (void)lseek(*ret_fd, 0, SEEK_SET);
                return 0;
        }
        return mlc_fail(err, MLC_E_NOT_FOUND, "no such examples");
}

static json_t *record(const char *manifest, const char *examples, long rows)
{
        struct mlc_digest m, x, id;
        char text[MLC_DIGEST_STR];
        struct mlc_err err = {0};

        if (mlc_digest_parse(manifest, &m, &err) < 0 || mlc_digest_parse(examples, &x, &err) < 0)
                abort();
        mlc_evaluation_id(&m, &m, &x, &id);
        mlc_digest_format(&id, text);
        return json_pack("{s:s, s:s, s:s, s:s, s:b, s:s, s:[], s:{s:s, s:s, s:s, s:[{s:s, s:f, "
                         "s:I}]}}",
                         "id", text, "manifest", manifest, "submitted", manifest, "examples",
                         examples, "withdrawn", 0, "at", "2026-11-24T10:00:00Z", "recomputed",
                         "document", "schema", "evaluation/v1", "dataset", DATASET, "evaluated_at",
                         "2026-11-24T10:00:00Z", "metrics", "name", "accuracy", "value", 0.92, "n",
                         (json_int_t)rows);
}

static json_t *bundle(const struct files *f, long rows, long n_checks)
{
        json_t *checks = json_array(), *policy;
        char digest[MLC_DIGEST_STR];
        struct mlc_digest d;
        struct mlc_err err = {0};

        for (long i = 0; i < n_checks; i++)
                json_array_append_new(
                        checks,
                        json_pack("{s:o, s:s, s:s, s:s, s:s, s:n, s:{}, s:s, s:s, s:s, s:s, s:i}",
                                  "id", json_sprintf("c%ld", i), "layer", "Policy/p", "mode",
                                  "enforce", "type", "compare", "metric", "accuracy", "dataset",
                                  "slice", "against", "champion", "test", "non-inferiority",
                                  "margin", "0.0200000000", "alpha", "0.0500000000", "minimum_n",
                                  1));
        policy = json_pack("{s:o, s:[]}", "checks", checks, "approvals");
        if (mlc_policy_digest(policy, &d, &err) < 0)
                abort();
        mlc_digest_format(&d, digest);
        return json_pack("{s:s, s:s, s:{s:s, s:i, s:s}, s:{s:s}, s:s, s:o, s:s, s:[o], s:{s:s, "
                         "s:[o]}}",
                         "schema", "bundle/v1", "now", "2026-11-24T10:00:00Z", "version", "model",
                         "a/b", "version", 2, "digest", MINE, "environment", "name", "production",
                         "environment_digest", MINE, "policy", policy, "policy_digest", digest,
                         "evaluations", record(MINE, f->digest[0], rows), "champion", "digest",
                         THEIRS, "evaluations", record(THEIRS, f->digest[1], rows));
}

int main(int argc, char **argv)
{
        long rows = argc > 1 ? strtol(argv[1], NULL, 10) : 100000;
        long n_checks = argc > 2 ? strtol(argv[2], NULL, 10) : 20;
        struct files f;
        struct mlc_policy_examples x = {open_examples, &f};
        _cleanup_(json_decref_p) json_t *b = NULL, *v = NULL;
        struct mlc_err err = {0};
        struct rusage usage;
        double floor_s = 0, start;

        for (int i = 0; i < 2; i++) {
                generate(&f, i, rows);
                floor_s += hash(&f, i);
        }
        b = bundle(&f, rows, n_checks);
        start = seconds();
        if (b == NULL || mlc_policy_judge(b, &x, &v, &err) < 0) {
                (void)fprintf(stderr, "%s\n", err.msg);
                return 1;
        }
        start = seconds() - start;
        (void)getrusage(RUSAGE_SELF, &usage);
        (void)printf("{\"rows\":%ld,\"checks\":%ld,\"verdict\":\"%s\",\"seconds\":%.4f,"
                     "\"hash_seconds\":%.4f,\"peak_mib\":%.1f}\n",
                     rows, n_checks, json_string_value(json_object_get(v, "verdict")), start,
                     floor_s, (double)usage.ru_maxrss / 1024.0);
        return 0;
}
