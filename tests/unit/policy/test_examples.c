/* SPDX-License-Identifier: Apache-2.0 */
#include "unit/policy/support.h"

#include <math.h>

#include "crypto/hash.h"
#include "policy/examples.h"

struct bytes {
        const char *text;
        size_t len, at, step;
};

/* A few bytes at a time, so that every boundary is met. */
static int read_bytes(void *userdata, void *buf, size_t len, size_t *ret_n, struct mlc_err *err)
{
        struct bytes *b = userdata;
        size_t n = b->len - b->at;

        (void)err;
        n = n < b->step ? n : b->step;
        n = n < len ? n : len;
        memcpy(buf, b->text + b->at, n);
        b->at += n;
        *ret_n = n;
        return 0;
}

static int load_n(const char *text, size_t step, struct mlc_examples **ret, struct mlc_err *err)
{
        struct bytes b = {text, strlen(text), 0, step};
        struct mlc_examples_in in = {read_bytes, &b};
        struct mlc_digest got, want;
        int r = mlc_examples_load(&in, ret, &got, err);

        if (r == 0) {
                mlc_sha256(text, strlen(text), &want);
                assert_true(mlc_digest_equal(&got, &want));
        }
        return r;
}

static struct mlc_examples *load(const char *text)
{
        struct mlc_examples *x = NULL;
        struct mlc_err err = {0};

        if (load_n(text, 7, &x, &err) < 0)
                fail_msg("%s", err.msg);
        return x;
}

static void quoting_is_read(void **state)
{
        static const char text[] = "\xef\xbb\xbfid,label,prediction,\"slice:a,b\"\r\n"
                                   "\"1\n2\",\"say \"\"hi\"\"\",\"say \"\"hi\"\"\",x\r\n"
                                   "\n"
                                   "2,a,b,\"y\nz\"";

        (void)state;
        for (size_t step = 1; step < 80; step++) {
                _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
                _cleanup_(json_decref_p) json_t *slice = json_pack("{s:s}", "a,b", "y\nz");
                struct mlc_err err = {0};
                double v;
                int64_t n;

                if (load_n(text, step, &x, &err) < 0)
                        fail_msg("step %zu: %s", step, err.msg);
                assert_int_equal(mlc_examples_rows(x), 2);
                assert_true(mlc_examples_metric(x, "accuracy", NULL, &v, &n));
                assert_true(v == 0.5 && n == 2);
                assert_true(mlc_examples_metric(x, "accuracy", slice, &v, &n));
                assert_true(v == 0 && n == 1);
                assert_true(mlc_examples_metric(x, "recall:say \"hi\"", NULL, &v, &n));
                assert_true(v == 1 && n == 1);
        }
}

static const struct {
        const char *text, *what;
} BAD[] = {
        {"", "line 1: the header is missing"},
        {"id,label\n1,2\n", "line 1: the header needs"},
        {"id,label,prediction\n", "no example below"},
        {"id,label,prediction,id\n", "line 1: column 'id' stands"},
        {"id,label,prediction,color\n", "line 1: column 'color' is not known"},
        {"id,label,prediction,slice:\n", "line 1: column 'slice:' is not known"},
        {"id,label,prediction,slice:a,slice:a\n", "line 1: column 'slice:a' stands"},
        {"id,label,prediction\n1,a\n", "line 2: 2 fields, but the header has 3"},
        {"id,label,prediction\n1,a,a,a\n", "line 2: 4 fields, but the header has 3"},
        {"id,label,prediction\n1,a,a\n1,a,b\n", "line 3: id '1' stands there twice"},
        {"id,label,prediction\n,a,a\n", "line 2: the id is empty"},
        {"id,label,prediction\n1,,a\n", "line 2: a label or prediction is empty"},
        {"id,label,prediction\n1,\"a,a\n", "line 2: a quote is not closed"},
        {"id,label,prediction\n1,\"a\"b,a\n", "line 2: text stands behind a closing quote"},
        {"id,label,prediction\n1,a\"b,a\n", "line 2: a field that holds a quote"},
        {"id,label,prediction\n\"1\n\n2\",a,a\nx,y\n", "line 5: 2 fields"},
        {"id,label,prediction\n1,\xff,a\n", "line 2: the text is not UTF-8"},
        {"id,label,prediction,score\n1,a,a,\n", "line 2: score '' is no finite number"},
        {"id,label,prediction,score\n1,a,a,nan\n", "line 2: score 'nan' is no finite number"},
        {"id,label,prediction,score\n1,a,a,1e999\n", "line 2: score '1e999' is no finite number"},
        {"id,label,prediction,score\n1,a,a,0x10\n", "line 2: score '0x10' is no finite number"},
};

static void bad_files_are_refused(void **state)
{
        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(BAD); i++) {
                struct mlc_examples *x = NULL;
                struct mlc_err err = {0};

                if (load_n(BAD[i].text, 3, &x, &err) == 0)
                        fail_msg("accepted: %s", BAD[i].text);
                if (strstr(err.msg, BAD[i].what) == NULL)
                        fail_msg("%s: %s, wanted %s", BAD[i].text, err.msg, BAD[i].what);
                assert_string_equal(err.field, "/examples");
        }
}

static int load_bytes(const char *text, size_t len, size_t step, struct mlc_err *err)
{
        struct bytes b = {text, len, 0, step};
        struct mlc_examples_in in = {read_bytes, &b};
        struct mlc_examples *x = NULL;
        int r = mlc_examples_load(&in, &x, NULL, err);

        mlc_examples_free(x);
        return r;
}

/* NUL would end a text early, for those who read it as C does; UTF-16 has them too. */
static void nul_is_refused(void **state)
{
        static const struct {
                const char *text;
                size_t len;
                const char *what;
        } v[] = {
#define NUL(t, what) {t, sizeof(t) - 1, what}
                NUL("id,label,prediction\n1\0,a,a\n", "line 2"),
                NUL("id,label,prediction\n\0001,a,a\n", "line 2"),
                NUL("id,label,prediction\n1,\"a\0b\",a\n", "line 2"),
                NUL("id,label,prediction\n1,a,a\0", "line 2"),
                NUL("id,la\0bel,prediction\n1,a,a\n", "line 1"),
                NUL("\xff\xfei\0d\0,\0l\0", "line 1"),
                NUL("\0", "line 1"),
#undef NUL
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++)
                for (size_t step = 1; step < 32; step += 6) {
                        struct mlc_err err = {0};

                        assert_int_equal(load_bytes(v[i].text, v[i].len, step, &err),
                                         MLC_E_INVALID);
                        if (strstr(err.msg, v[i].what) == NULL)
                                fail_msg("case %zu: %s, wanted %s", i, err.msg, v[i].what);
                        assert_string_equal(err.field, "/examples");
                }
}

/* A stream that never ends, of one byte that is repeated behind a header. */
struct endless {
        const char *head;
        size_t at;
        char byte;
        uint64_t given;
};

static int read_endless(void *userdata, void *buf, size_t len, size_t *ret_n, struct mlc_err *err)
{
        struct endless *e = userdata;
        size_t n = strlen(e->head) - e->at;

        (void)err;
        n = n < len ? n : len;
        memcpy(buf, e->head + e->at, n);
        e->at += n;
        if (n == 0) {
                memset(buf, e->byte, len);
                n = len;
        }
        e->given += n;
        *ret_n = n;
        return 0;
}

/* A cell, a row, a quoted cell without end are given up at once. */
static void what_never_ends_is_given_up(void **state)
{
        static const struct {
                const char *head;
                char byte;
        } v[] = {
                {"id,label,prediction\n", 'x'},     {"id,label,prediction\n", ','},
                {"id,label,prediction\n", '"'},     {"id,label,prediction\n1,\"", '\n'},
                {"id,label,prediction\n1,\"", ' '}, {"", 'x'},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct endless e = {.head = v[i].head, .byte = v[i].byte};
                struct mlc_examples_in in = {read_endless, &e};
                struct mlc_examples *x = NULL;
                struct mlc_err err = {0};
                int r = mlc_examples_load(&in, &x, NULL, &err);

                if (r != MLC_E_LIMIT && r != MLC_E_INVALID)
                        fail_msg("case %zu: %d", i, r);
                if (e.given > 1u << 20)
                        fail_msg("case %zu: read %llu bytes", i, (unsigned long long)e.given);
        }
}

/* What a spreadsheet would run is a text like any other. */
static void formulas_are_texts(void **state)
{
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x =
                load("id,label,prediction,slice:=1+1\n=cmd|' /C calc'!A0,=1,=1,@SUM(A1)\n"
                     "+1,-x,=1,@SUM(A1)\n");
        _cleanup_(json_decref_p) json_t *slice = json_pack("{s:s}", "=1+1", "@SUM(A1)");
        double v;
        int64_t n;

        (void)state;
        assert_true(mlc_examples_metric(x, "accuracy", slice, &v, &n));
        assert_true(v == 0.5 && n == 2);
        assert_true(mlc_examples_metric(x, "recall:=1", NULL, &v, &n));
        assert_true(v == 1 && n == 1);
}

static void limits_hold(void **state)
{
        char *cell = malloc(200000);
        struct mlc_examples *x = NULL;
        struct mlc_err err = {0};
        size_t n;

        (void)state;
        n = (size_t)snprintf(cell, 100, "id,label,prediction\n");
        memset(cell + n, 'a', 70000);
        memcpy(cell + n + 70000, ",b,c\n", 6);
        assert_int_equal(load_n(cell, 4096, &x, &err), MLC_E_LIMIT);
        mlc_err_clear(&err);
        n = (size_t)snprintf(cell, 100, "id,label,prediction,slice:k\n");
        for (int i = 0; i < MLC_EXAMPLES_SLICES_MAX + 1; i++)
                n += (size_t)snprintf(cell + n, 100, "%d,a,a,v%d\n", i, i);
        assert_int_equal(load_n(cell, 4096, &x, &err), MLC_E_LIMIT);
        mlc_err_clear(&err);
        n = (size_t)snprintf(cell, 100, "id,label,prediction\n");
        for (int i = 0; i < MLC_EXAMPLES_TEXTS_MAX + 1; i++)
                n += (size_t)snprintf(cell + n, 100, "%d,t%d,1\n", i, i);
        assert_int_equal(load_n(cell, 4096, &x, &err), MLC_E_LIMIT);
        free(cell);
}

/* The two classifiers of DeLong's fixture in statistics handbooks: AUC .890625 and .6953125. */
static void auc_has_midranks(void **state)
{
        static const double s[2][16] = {
                {.1, .2, .15, .3, .35, .4, .55, .6, .38, .45, .5, .65, .7, .8, .85, .9},
                {.2, .25, .5, .3, .6, .4, .55, .7, .35, .45, .5, .3, .7, .65, .85, .8}};
        static const double want[2] = {.890625, .6953125};

        (void)state;
        for (int k = 0; k < 2; k++) {
                _cleanup_(mlc_examples_free_p) struct mlc_examples *x = NULL;
                char text[1000];
                size_t n = (size_t)snprintf(text, sizeof(text), "id,label,prediction,score\n");
                double v;
                int64_t rows;

                for (int i = 0; i < 16; i++)
                        n += (size_t)snprintf(text + n, sizeof(text) - n, "r%d,%d,%d,%g\n", i,
                                              i >= 8, s[k][i] >= .5, s[k][i]);
                x = load(text);
                assert_true(mlc_examples_metric(x, "auc", NULL, &v, &rows));
                assert_true(fabs(v - want[k]) < 1e-12);
                assert_int_equal(rows, 16);
        }
}

#define SMALL                                                                                      \
        "id,label,prediction,score,slice:age,slice:sex\n"                                          \
        "a,1,1,0.9,young,f\n"                                                                      \
        "b,1,0,0.4,young,m\n"                                                                      \
        "c,0,0,0.1,old,f\n"                                                                        \
        "d,0,1.0,0.6,old,m\n"                                                                      \
        "e,1,1,0.8,old,m\n"

static void metrics_are_recomputed(void **state)
{
        static const struct {
                const char *name, *slice;
                double value;
                int64_t n; /* 0: cannot be computed */
        } v[] = {
                {"accuracy", "{}", 0.6, 5},
                {"recall", "{}", 2.0 / 3, 3},
                {"recall:1", "{}", 2.0 / 3, 3},
                {"recall:0", "{}", 0.5, 2},
                {"precision", "{}", 2.0 / 3, 3},
                {"precision:0", "{}", 0.5, 2},
                {"auc", "{}", 5.0 / 6, 5},
                {"mae", "{}", 0.4, 5},
                {"rmse", "{}", 0.63245553203367587, 5},
                {"accuracy", "{'age':'old'}", 2.0 / 3, 3},
                {"accuracy", "{'age':'old','sex':'m'}", 0.5, 2},
                {"recall", "{'sex':'f'}", 1, 1},
                {"recall:0", "{'age':'young'}", 0, 0},
                {"auc", "{'age':'young'}", 0, 0},
                {"accuracy", "{'age':'middle'}", 0, 0},
                {"accuracy", "{'city':'x'}", 0, 0},
                {"f1", "{}", 0, 0},
                {"recall:2", "{}", 0, 0},
                {"recallx", "{}", 0, 0},
        };
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = load(SMALL);

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *slice = json_of(v[i].slice);
                double value = 0;
                int64_t n = 0;

                if (mlc_examples_metric(x, v[i].name, slice, &value, &n) != (v[i].n > 0))
                        fail_msg("%s %s", v[i].name, v[i].slice);
                if (fabs(value - v[i].value) > 1e-12 || n != v[i].n)
                        fail_msg("%s %s: %.15g of %lld", v[i].name, v[i].slice, value,
                                 (long long)n);
        }
}

static void evaluations_must_agree(void **state)
{
        static const struct {
                const char *metric, *field;
        } v[] = {
                {"{'name':'accuracy','value':0.6,'n':5}", ""},
                {"{'name':'recall','value':0.667,'n':3}", ""},
                {"{'name':'recall','value':0.66667,'n':3}", ""},
                {"{'name':'recall','value':0.6666666666666666,'n':3}", ""},
                {"{'name':'recall','value':0.67,'n':3}", "/metrics/0/value"},
                {"{'name':'recall','value':0.668,'n':3}", "/metrics/0/value"},
                {"{'name':'recall','value':1,'n':3}", "/metrics/0/value"},
                {"{'name':'accuracy','value':0.6,'n':6}", "/metrics/0/n"},
                {"{'name':'accuracy','value':0.61,'n':5}", "/metrics/0/value"},
                {"{'name':'accuracy','value':60,'n':5,'unit':'%'}", ""},
                {"{'name':'secret','value':0.61,'n':7}", ""},
                {"{'name':'accuracy','value':0.5,'n':2,'slice':{'age':'old','sex':'m'}}", ""},
                {"{'name':'accuracy','value':0.7,'n':2,'slice':{'age':'old','sex':'m'}}",
                 "/metrics/0/value"},
        };
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = load(SMALL);

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                char text[400];
                _cleanup_(json_decref_p) json_t *doc = NULL, *list = NULL;
                struct mlc_evaluation e;
                struct mlc_err err = {0};
                struct mlc_arena a;
                int r;

                (void)snprintf(text, sizeof(text),
                               "{'schema':'evaluation/v1','dataset':'d@dvc:1','evaluated_at':"
                               "'2026-11-23T10:00:00Z','metrics':[%s]}",
                               v[i].metric);
                doc = json_of(text);
                mlc_arena_init(&a, 1u << 20);
                assert_int_equal(mlc_evaluation_read(doc, &a, &e, &err), 0);
                r = mlc_examples_compare(x, &e, &err);
                if ((r == 0) != (v[i].field[0] == '\0') || strcmp(err.field, v[i].field) != 0)
                        fail_msg("%s: '%s' %s", v[i].metric, err.field, err.msg);
                assert_int_equal(mlc_examples_recompute(x, &e, &list, NULL), 0);
                assert_true(json_array_size(list) > 20);
                mlc_arena_done(&a);
        }
}

#define TWO "id,label,prediction\n4,b,b\n3,b,b\n2,a,b\n1,a,b\n"

static void pairs_are_counted(void **state)
{
        static const char one[] =
                "id,label,prediction,slice:g\n1,a,a,x\n2,a,b,x\n3,b,b,y\n4,b,a,y\n";
        static const struct {
                const char *two, *metric, *slice;
                enum mlc_pairing how;
                struct mlc_paired d;
        } v[] = {
                {TWO, "accuracy", "{}", MLC_PAIRED, {1, 1, 4}},
                {TWO, "accuracy", "{'g':'y'}", MLC_PAIRED, {0, 1, 2}},
                {TWO, "recall:a", "{}", MLC_PAIRED, {1, 0, 2}},
                {TWO, "precision:a", "{}", MLC_PAIR_NO_METRIC, {0, 0, 0}},
                {TWO, "accuracy", "{'g':'z'}", MLC_PAIR_EMPTY, {0, 0, 0}},
                {"id,label,prediction\n5,b,b\n3,b,b\n2,a,b\n1,a,b\n",
                 "accuracy",
                 "{}",
                 MLC_PAIR_OTHER_IDS,
                 {0, 0, 0}},
                {"id,label,prediction\n3,b,b\n2,a,b\n1,a,b\n",
                 "accuracy",
                 "{}",
                 MLC_PAIR_OTHER_IDS,
                 {0, 0, 0}},
                {"id,label,prediction\n4,a,b\n3,b,b\n2,a,b\n1,a,b\n",
                 "accuracy",
                 "{}",
                 MLC_PAIR_OTHER_LABELS,
                 {0, 0, 0}},
                {"id,label,prediction\n4,c,b\n3,b,b\n2,a,b\n1,a,b\n",
                 "accuracy",
                 "{}",
                 MLC_PAIR_OTHER_LABELS,
                 {0, 0, 0}},
                {"id,label,prediction,slice:g\n4,b,b,x\n3,b,b,y\n2,a,b,x\n1,a,b,x\n",
                 "accuracy",
                 "{'g':'y'}",
                 MLC_PAIR_OTHER_LABELS,
                 {0, 0, 0}},
        };
        _cleanup_(mlc_examples_free_p) struct mlc_examples *x = load(one);

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(mlc_examples_free_p) struct mlc_examples *y = load(v[i].two);
                _cleanup_(json_decref_p) json_t *slice = json_of(v[i].slice);
                struct mlc_paired d = {0};

                if (mlc_examples_pair(x, y, v[i].metric, slice, &d) != v[i].how)
                        fail_msg("pair %zu", i);
                assert_memory_equal(&d, &v[i].d, sizeof(d));
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(quoting_is_read),
                cmocka_unit_test(bad_files_are_refused),
                cmocka_unit_test(limits_hold),
                cmocka_unit_test(nul_is_refused),
                cmocka_unit_test(what_never_ends_is_given_up),
                cmocka_unit_test(formulas_are_texts),
                cmocka_unit_test(auc_has_midranks),
                cmocka_unit_test(metrics_are_recomputed),
                cmocka_unit_test(evaluations_must_agree),
                cmocka_unit_test(pairs_are_counted),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
