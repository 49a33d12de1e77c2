/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/cleanup.h"
#include "codec/ref.h"

#define HEX "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define A100                                                                                       \
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" \
        "aaaaaaaaaaaa"

static void refs_are_read(void **state)
{
        static const struct {
                const char *text, *canonical, *alias;
                enum mlc_ref_kind kind;
                uint64_t version;
        } v[] = {
                {"fraud/scorer", "fraud/scorer", "", MLC_REF_LATEST, 0},
                {"fraud/scorer:latest", "fraud/scorer", "", MLC_REF_LATEST, 0},
                {"fraud/scorer:3", "fraud/scorer:3", "", MLC_REF_VERSION, 3},
                {"fraud/scorer:v3", "fraud/scorer:3", "", MLC_REF_VERSION, 3},
                {"fraud/scorer:9007199254740991", "fraud/scorer:9007199254740991", "",
                 MLC_REF_VERSION, MLC_VERSION_MAX},
                {"fraud/scorer:champion", "fraud/scorer:champion", "champion", MLC_REF_ALIAS, 0},
                {"fraud/scorer:V3", "fraud/scorer:V3", "V3", MLC_REF_ALIAS, 0},
                {"a/b:1.2", "a/b:1.2", "1.2", MLC_REF_ALIAS, 0},
                {"a.b_c__d---e/0", "a.b_c__d---e/0", "", MLC_REF_LATEST, 0},
                {"fraud/scorer@sha256:" HEX, "fraud/scorer@sha256:" HEX, "", MLC_REF_DIGEST, 0},
                {A100 "/" A100, A100 "/" A100, "", MLC_REF_LATEST, 0},
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_err err = {0};
                struct mlc_ref ref;
                char back[MLC_REF_STR];

                if (mlc_ref_parse(v[i].text, &ref, &err) < 0)
                        fail_msg("%s", err.msg);
                assert_int_equal(ref.kind, v[i].kind);
                assert_string_equal(ref.alias, v[i].alias);
                assert_true(ref.version == v[i].version);
                mlc_ref_format(&ref, back);
                assert_string_equal(back, v[i].canonical);
        }
}

static void refs_are_refused(void **state)
{
        static const char *const v[] = {
                "",
                "/",
                "a",
                "a/",
                "/a",
                "a/b/c",
                "a//b",
                "A/b",
                "a/B",
                "a/b:",
                "a/b@",
                "a/b:0",
                "a/b:v0",
                "a/b:01",
                "a/b:9007199254740992",
                "a/b:99999999999999999999999",
                "a/b:.x",
                "a/b:-x",
                "a/b:x/y",
                "a/b:x y",
                "a/b:x:y",
                "a/b@sha256:00",
                "a/b@sha512:" HEX,
                "a/b:1@sha256:" HEX,
                "a/b@sha256:" HEX "0",
                "-a/b",
                "a-/b",
                "a..b/c",
                "a___b/c",
                "a._b/c",
                "a_-b/c",
                "../b",
                "a/..",
                "a/.",
                "a b/c",
                "a/b\n",
                "\xc3\xa4/b",
                "api/x",
                "v2/x",
                "log/x",
                "keys/x",
                "ui/x",
                "static/x",
                "download/x",
                "schema/x",
                "metrics/x",
                "healthz/x",
                "readyz/x",
                "a" A100 "/b",
                "a/b" A100,
                "a/b:x" A100 "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_err err = {0};
                struct mlc_ref ref;

                if (mlc_ref_parse(v[i], &ref, &err) != MLC_E_INVALID)
                        fail_msg("'%s' was taken", v[i]);
                assert_true(err.msg[0] != '\0');
        }
}

static void models_and_aliases(void **state)
{
        struct mlc_err err = {0};
        struct mlc_ref ref;

        (void)state;
        assert_int_equal(mlc_ref_parse_model("fraud/scorer", &ref, &err), 0);
        assert_string_equal(ref.ns, "fraud");
        assert_string_equal(ref.model, "scorer");
        assert_int_equal(mlc_ref_parse_model("fraud/scorer:1", &ref, &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_alias_check("champion", &err), 0);
        assert_int_equal(mlc_alias_check("v1.0", &err), 0);
        assert_int_equal(mlc_alias_check("latest", &err), MLC_E_INVALID);
        assert_int_equal(mlc_alias_check("12", &err), MLC_E_INVALID);
        assert_int_equal(mlc_alias_check("v12", &err), MLC_E_INVALID);
        assert_int_equal(mlc_alias_check("", &err), MLC_E_INVALID);
        mlc_err_clear(&err);
        assert_int_equal(mlc_model_check("api", &err), 0);
        assert_int_equal(mlc_namespace_check("apis", &err), 0);
}

static void datasets_are_read(void **state)
{
        static const struct {
                const char *text, *name, *value;
                enum mlc_dataset_scheme scheme;
        } v[] = {
                {"fraud/train@sha256:" HEX, "fraud/train", HEX, MLC_DATASET_SHA256},
                {"s3://user@host/b@dvc:abc.dir", "s3://user@host/b", "abc.dir", MLC_DATASET_DVC},
                {"db.t@iceberg:3821550127947089009", "db.t", "3821550127947089009",
                 MLC_DATASET_ICEBERG},
                {"/data/t@delta:12", "/data/t", "12", MLC_DATASET_DELTA},
                {"repo@lakefs:main:c7a6", "repo", "main:c7a6", MLC_DATASET_LAKEFS},
                {"x@mlflow:8f3", "x", "8f3", MLC_DATASET_MLFLOW},
                {"my file.csv@opaque:as of monday", "my file.csv", "as of monday",
                 MLC_DATASET_OPAQUE},
        };
        static const char *const bad[] = {
                "",          "x",           "x@",           "@sha256:" HEX,
                "x@sha256",  "x@sha256:",   "x@sha256:abc", "x@SHA256:" HEX,
                "x@md5:abc", "x@dvc:",      "x\n@dvc:1",    " x@dvc:1",
                "x@dvc:1 ",  "x\xff@dvc:1", "x:dvc@1",      "x@sha256 :" HEX,
        };

        (void)state;
        for (size_t i = 0; i < ARRAY_LEN(v); i++) {
                struct mlc_err err = {0};
                struct mlc_dataset d;

                if (mlc_dataset_parse(v[i].text, &d, &err) < 0)
                        fail_msg("%s", err.msg);
                assert_string_equal(d.name, v[i].name);
                assert_string_equal(d.value, v[i].value);
                assert_int_equal(d.scheme, v[i].scheme);
                assert_non_null(strstr(v[i].text, mlc_dataset_scheme_name(d.scheme)));
        }
        for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
                struct mlc_err err = {0};
                struct mlc_dataset d;

                if (mlc_dataset_parse(bad[i], &d, &err) != MLC_E_INVALID)
                        fail_msg("'%s' was taken", bad[i]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(refs_are_read),
                cmocka_unit_test(refs_are_refused),
                cmocka_unit_test(models_and_aliases),
                cmocka_unit_test(datasets_are_read),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
