/* SPDX-License-Identifier: Apache-2.0 */
#include "rollout/inputs.h"
#include "unit/rollout/support.h"

static void reads(void **state)
{
        static const struct {
                const char *yaml, *want; /* NULL: none */
        } v[] = {
                {"{}", NULL},
                {"{'inputs':null}", NULL},
                {"{'inputs':[]}", NULL},
                {"{'format':'onnx','inputs':[{'name':'x','datatype':'FP32','shape':[-1,30]}]}",
                 "[{'name':'x','datatype':'FP32','shape':[-1,30],'range':null}]"},
                {"{'inputs':[{'name':'x','datatype':'BYTES','shape':[null],'range':null,'doc':'y'},"
                 "{'name':'y z','datatype':'INT64','shape':[],'range':[0,1.5]}]}",
                 "[{'name':'x','datatype':'BYTES','shape':[-1],'range':null},"
                 "{'name':'y z','datatype':'INT64','shape':[],'range':[0,1.5]}]"},
        };
        json_t *inputs = NULL;
        struct mlc_err err = {0};

        (void)state;
        assert_int_equal(mlc_inputs_read(NULL, &inputs, &err), 0);
        assert_null(inputs);
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *yaml = json_of(v[i].yaml), *got = NULL,
                                                *want = NULL;

                assert_int_equal(mlc_inputs_read(yaml, &got, &err), 0);
                assert_int_equal(got == NULL, v[i].want == NULL);
                if (got == NULL)
                        continue;
                want = json_of(v[i].want);
                assert_true(json_equal(got, want));
        }
}

static void refuses(void **state)
{
        static const struct {
                const char *yaml, *field;
        } v[] = {
                {"{'inputs':{}}", "/inputs"},
                {"{'inputs':[5]}", "/inputs/0/name"},
                {"{'inputs':[{'name':'','datatype':'FP32','shape':[]}]}", "/inputs/0/name"},
                {"{'inputs':[{'name':'x','datatype':'float32','shape':[]}]}", "/inputs/0/datatype"},
                {"{'inputs':[{'name':'x','datatype':'FP32'}]}", "/inputs/0/shape"},
                {"{'inputs':[{'name':'x','datatype':'FP32','shape':['n']}]}", "/inputs/0/shape"},
                {"{'inputs':[{'name':'x','datatype':'FP32','shape':[-2]}]}", "/inputs/0/shape"},
                {"{'inputs':[{'name':'x','datatype':'FP32','shape':[1,1,1,1,1,1,1,1,1]}]}",
                 "/inputs/0/shape"},
                {"{'inputs':[{'name':'x','datatype':'FP32','shape':[],'range':[2,1]}]}",
                 "/inputs/0/range"},
                {"{'inputs':[{'name':'x','datatype':'FP32','shape':[],'range':[1]}]}",
                 "/inputs/0/range"},
                {"{'inputs':[{'name':'x','datatype':'FP32','shape':[]},"
                 "{'name':'x','datatype':'FP32','shape':[]}]}",
                 "/inputs/1/name"},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                _cleanup_(json_decref_p) json_t *yaml = json_of(v[i].yaml);
                struct mlc_err err = {0};
                json_t *got = NULL;

                assert_int_equal(mlc_inputs_read(yaml, &got, &err), MLC_E_INVALID);
                assert_null(got);
                assert_string_equal(err.field, v[i].field);
        }
}

static void has_a_limit(void **state)
{
        _cleanup_(json_decref_p) json_t *yaml = json_pack("{s:[]}", "inputs");
        struct mlc_err err = {0};
        json_t *got = NULL;

        (void)state;
        for (int i = 0; i <= MLC_INPUTS_MAX; i++)
                (void)json_array_append_new(json_object_get(yaml, "inputs"), json_object());
        assert_int_equal(mlc_inputs_read(yaml, &got, &err), MLC_E_LIMIT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(reads),
                cmocka_unit_test(refuses),
                cmocka_unit_test(has_a_limit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
