/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/cleanup.h"
#include "gateway/core/validate.h"

#define X "\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2,2],"
#define N "\"name\":\"n\",\"datatype\":\"INT64\",\"shape\":[1],"

static const struct gw_input INPUTS[] = {
        {.name = "x",
         .datatype = "FP32",
         .n_dims = 2,
         .shape = {-1, 2},
         .ranged = true,
         .lo = 0,
         .hi = 10},
        {.name = "n", .datatype = "INT64", .n_dims = 1, .shape = {1}},
};

static bool fits(const char *body)
{
        char why[GW_WHY_MAX] = "";
        bool r = gw_validate(INPUTS, 2, body, strlen(body), why);

        if (!r)
                for (const char *s = why; *s != '\0'; s++)
                        assert_true(*s >= ' ' && *s <= '~');
        return r;
}

static void accepted(void **state)
{
        static const char *const bodies[] = {
                "{\"inputs\":[{" X "\"data\":[1,2,3,4]},{" N "\"data\":[7]}]}",
                "{\"id\":\"a\",\"inputs\":[{" N "\"data\":[-7]},{" X "\"data\":[[0,10],[2.5,1]]}]}",
                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[0,2],\"data\":[]},"
                "{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"parameters\":{\"binary_data_size\":16}},{" N
                "\"data\":[7]}]}",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
                if (!fits(bodies[i]))
                        fail_msg("refused: %s", bodies[i]);
}

static void refused(void **state)
{
        static const char *const bodies[] = {
                "",
                "[]",
                "{}",
                "{\"inputs\":{}}",
                "{\"inputs\":[]}",
                "{\"inputs\":[1,2]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,4]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,4]},{" N "\"data\":[7]},{\"name\":\"y\"}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,4]},{" X "\"data\":[1,2,3,4]},{" N
                "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,4,5]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,10.5]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,-1]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,null]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,NaN]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":\"1234\"},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,4]},{" N "\"data\":[7.5]}]}",
                "{\"inputs\":[{" X "\"data\":[1,2,3,4]},{" N "\"data\":[\"7\"]}]}",
                "{\"inputs\":[{" X "\"x\":1},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP64\",\"shape\":[2,2],\"data\":[1,2,"
                "3,4]"
                "},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2,3],\"data\":[1,2,"
                "3,4,5"
                ",6]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[4],\"data\":[1,2,3,"
                "4]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[2147483647,2],"
                "\"data\":"
                "[1]},{" N "\"data\":[7]}]}",
                "{\"inputs\":[{\"name\":\"x\",\"datatype\":\"FP32\",\"shape\":[-1,2],\"data\":[]},"
                "{" N "\"data\":[7]}]}",
                "{\"inputs\":[{" X "\"data\":[[[[[[[[[1,2,3,4]]]]]]]]]},{" N "\"data\":[7]}]}",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(bodies); i++)
                if (fits(bodies[i]))
                        fail_msg("accepted: %s", bodies[i]);
}

static void other_types(void **state)
{
        static const struct gw_input inputs[] = {
                {.name = "b", .datatype = "BOOL", .n_dims = 1, .shape = {2}},
                {.name = "\x1b[31m", .datatype = "BYTES", .n_dims = 1, .shape = {1}},
        };
        static const char good[] = "{\"inputs\":[{\"name\":\"b\",\"datatype\":\"BOOL\",\"shape\":["
                                   "2],\"data\":[true,0]},"
                                   "{\"name\":\"\\u001b[31m\",\"datatype\":\"BYTES\",\"shape\":[1],"
                                   "\"data\":[\"a\"]}]}";
        static const char wrong[] =
                "{\"inputs\":[{\"name\":\"b\",\"datatype\":\"BOOL\",\"shape\":[2],\"data\":[true,0]"
                "},"
                "{\"name\":\"\\u001b[31m\",\"datatype\":\"BYTES\",\"shape\":[1],\"data\":[1]}]}";
        char why[GW_WHY_MAX];

        (void)state;
        assert_true(gw_validate(inputs, 2, good, strlen(good), why));
        assert_false(gw_validate(inputs, 2, wrong, strlen(wrong), why));
        assert_string_equal(why, "input \"?[31m\": a text is needed");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(accepted),
                cmocka_unit_test(refused),
                cmocka_unit_test(other_types),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
