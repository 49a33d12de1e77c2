/* SPDX-License-Identifier: Apache-2.0 */
/*
 * approval STATEMENT SIGNATURE RUNS: what checking one approval takes once its rows are read: the
 * statement parsed and compared, the signature verified, people counted against three rules. Prints
 * one JSON line: median and 99th percentile in microseconds of CPU time, which other processes do
 * not change.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/cleanup.h"
#include "base/io.h"
#include "crypto/sshsig.h"
#include "policy/approval.h"
#include "policy/statement.h"

#define FILE_MAX 65536
#define PEOPLE 20

static double micros(void)
{
        struct timespec t;

        (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int holds(void *userdata, const char *person, const char *from, bool *ret,
                 struct mlc_err *err)
{
        (void)userdata;
        (void)err;
        *ret = person[1] % 3 == from[5] % 3 || from[5] == 'x';
        return 0;
}

static int count(struct mlc_arena *a, struct mlc_err *err)
{
        _cleanup_(json_decref_p) json_t *rules =
                json_pack("[{s:s, s:[s], s:i}, {s:s, s:[s], s:i}, {s:s, s:[s], s:i}]", "name", "a",
                          "from", "role:a", "count", 2, "name", "b", "from", "role:b", "count", 2,
                          "name", "x", "from", "role:x", "count", 3);
        char ids[PEOPLE][8];
        const char *people[PEOPLE];
        struct mlc_approval_in in = {.rules = rules, .holds = holds};
        struct mlc_approval_count ret;

        for (int i = 0; i < PEOPLE; i++) {
                (void)snprintf(ids[i], sizeof(ids[i]), "u%d", i);
                people[i] = ids[i];
        }
        in.people = people;
        in.n_people = PEOPLE;
        return mlc_approval_count(&in, a, &ret, err);
}

static int check(const char *statement, size_t len, const char *signature, struct mlc_err *err)
{
        struct mlc_sshsig_message m = {MLC_STATEMENT_NAMESPACE, statement, len};
        struct mlc_statement s, expect;
        struct mlc_sshsig_result sig;
        struct mlc_arena a;
        int r;

        mlc_arena_init(&a, 4u << 20);
        r = mlc_statement_parse(statement, len, &a, &s, err);
        expect = s;
        if (r == 0 && mlc_statement_differs(&expect, &s) != NULL)
                r = mlc_fail(err, MLC_E_VERIFY, "the statement differs from itself");
        if (r == 0)
                r = mlc_sshsig_verify(signature, strlen(signature), &m, &sig, err);
        if (r == 0)
                r = count(&a, err);
        mlc_arena_done(&a);
        return r;
}

static int by_value(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
        _cleanup_(free_p) char *statement = NULL, *signature = NULL;
        _cleanup_(free_p) double *took = NULL;
        struct mlc_err err = {0};
        size_t len, sig_len, runs = argc > 3 ? strtoul(argv[3], NULL, 10) : 1000;

        if (argc < 3 || runs == 0 || mlc_read_file(argv[1], FILE_MAX, &statement, &len, &err) < 0 ||
            mlc_read_file(argv[2], FILE_MAX, &signature, &sig_len, &err) < 0) {
                (void)fprintf(stderr, "approval STATEMENT SIGNATURE RUNS: %s\n", err.msg);
                return 2;
        }
        took = calloc(runs, sizeof(*took));
        if (took == NULL)
                abort();
        for (size_t i = 0; i < runs; i++) {
                double start = micros();

                if (check(statement, len, signature, &err) < 0) {
                        (void)fprintf(stderr, "%s\n", err.msg);
                        return 1;
                }
                took[i] = micros() - start;
        }
        qsort(took, runs, sizeof(*took), by_value);
        (void)printf("{\"p50_us\":%.1f,\"p99_us\":%.1f}\n", took[runs / 2], took[runs * 99 / 100]);
        return 0;
}
