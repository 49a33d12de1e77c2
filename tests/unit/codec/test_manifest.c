/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/cleanup.h"
#include "codec/json.h"
#include "codec/manifest.h"
#include "crypto/hash.h"

#define D1                                                                                         \
        "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03" /* "hello\n"     \
                                                                                   */

struct fixture {
        struct mlc_arena a;
        struct mlc_str config, manifest;
        struct mlc_err err;
};

static int setup(void **state)
{
        struct fixture *f = calloc(1, sizeof(*f));

        mlc_arena_init(&f->a, 1u << 20);
        mlc_str_init(&f->config, 1u << 20);
        mlc_str_init(&f->manifest, 4u << 20);
        *state = f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        mlc_arena_done(&f->a);
        mlc_str_done(&f->config);
        mlc_str_done(&f->manifest);
        free(f);
        return 0;
}

static struct mlc_layer_in layer(const char *path, const char *content)
{
        struct mlc_layer_in l = {.path = path, .size = strlen(content)};

        mlc_sha256(content, strlen(content), &l.digest);
        l.kind = path != NULL ? mlc_layer_kind_of(path) : MLC_LAYER_WEIGHT;
        return l;
}

static void test_build_is_exact(void **state)
{
        struct fixture *f = *state;
        const char *datasets[] = {"b@opaque:1", "a@opaque:1", "b@opaque:1"};
        struct mlc_lineage l = {datasets, 3, "https://git.example/f@abc", "run-1", NULL};
        struct mlc_layer_in in[] = {layer(NULL, "tar"), layer("w.onnx", "hello\n"),
                                    layer("README.md", "# x\n")};
        char text[MLC_DIGEST_STR];
        struct mlc_digest d;

        assert_int_equal(mlc_manifest_build(in, 3, &l, &f->config, &f->manifest, &f->err), 0);
        /* digests computed by python3's json and hashlib over the documented form */
        mlc_sha256(f->config.data, f->config.len, &d);
        mlc_digest_format(&d, text);
        assert_string_equal(
                text, "sha256:4efe47e861809b194a31bd50c32ff082de87eecb7ac02615922566c57eb431d6");
        mlc_sha256(f->manifest.data, f->manifest.len, &d);
        mlc_digest_format(&d, text);
        assert_string_equal(
                text, "sha256:b54b34b91632442ce128217c7b073a295e25fe4d999c914f108e04fb5cf827b6");
}

/* oras needs titles to name files; a manifest of many files has no room for every path twice */
static void test_titles_up_to_a_number(void **state)
{
        struct fixture *f = *state;
        static struct mlc_layer_in in[MLC_MANIFEST_TITLES_MAX + 1];
        static char path[MLC_MANIFEST_TITLES_MAX + 1][16];
        const struct mlc_lineage none = {0};

        for (size_t i = 0; i <= MLC_MANIFEST_TITLES_MAX; i++) {
                (void)snprintf(path[i], sizeof(path[i]), "d/%zu", i);
                in[i] = layer(path[i], "x");
        }
        for (size_t n = MLC_MANIFEST_TITLES_MAX; n <= MLC_MANIFEST_TITLES_MAX + 1; n++) {
                mlc_str_reset(&f->config);
                mlc_str_reset(&f->manifest);
                assert_int_equal(
                        mlc_manifest_build(in, n, &none, &f->config, &f->manifest, &f->err), 0);
                assert_int_equal(strstr(mlc_str_cstr(&f->manifest),
                                        "\"org.opencontainers.image.title\":\"d/7\"") != NULL,
                                 n <= MLC_MANIFEST_TITLES_MAX);
        }
}

static void test_same_whatever_the_order(void **state)
{
        struct fixture *f = *state;
        const char *d1[] = {"a@opaque:1", "b@opaque:1"}, *d2[] = {"b@opaque:1", "a@opaque:1"};
        struct mlc_lineage l1 = {d1, 2, NULL, NULL, NULL}, l2 = {d2, 2, NULL, NULL, NULL};
        struct mlc_layer_in a[] = {layer("a", "1"), layer("b/c", "2"), layer("d", "3")};
        struct mlc_layer_in b[] = {a[2], a[0], a[1]};
        struct mlc_str config2, manifest2;

        mlc_str_init(&config2, 1u << 20);
        mlc_str_init(&manifest2, 1u << 20);
        assert_int_equal(mlc_manifest_build(a, 3, &l1, &f->config, &f->manifest, &f->err), 0);
        assert_int_equal(mlc_manifest_build(b, 3, &l2, &config2, &manifest2, &f->err), 0);
        assert_string_equal(f->config.data, config2.data);
        assert_string_equal(f->manifest.data, manifest2.data);
        mlc_str_done(&config2);
        mlc_str_done(&manifest2);
}

static void test_round_trip(void **state)
{
        struct fixture *f = *state;
        const char *datasets[] = {"z@opaque:1", "fraud/train@opaque:9"};
        struct mlc_lineage l = {datasets, 2, "https://git.example/f@abc", "r", "fraud/base@" D1};
        struct mlc_layer_in in[] = {layer("bin/run.sh", "x"), layer(NULL, "tar"),
                                    layer("m.safetensors", "hello\n")};
        _cleanup_(mlc_str_done) struct mlc_str lineage;
        struct mlc_manifest m;

        in[0].executable = true;
        mlc_str_init(&lineage, 4096);
        assert_int_equal(mlc_manifest_build(in, 3, &l, &f->config, &f->manifest, &f->err), 0);
        assert_int_equal(mlc_manifest_parse(f->manifest.data, f->manifest.len, MLC_MT_OCI_MANIFEST,
                                            &f->a, &m, &f->err),
                         0);
        assert_false(m.is_index);
        assert_string_equal(m.artifact_type, MLC_MT_MODEL_ARTIFACT);
        assert_string_equal(m.config.media_type, MLC_MT_MODEL_CONFIG);
        assert_int_equal(m.config.size, f->config.len);
        assert_int_equal(m.n_layers, 3);
        assert_int_equal(m.size, 1 + 3 + 6);
        assert_string_equal(m.layers[0].path, "bin/run.sh");
        assert_true(m.layers[0].executable);
        assert_string_equal(m.layers[0].media_type, "application/vnd.cncf.model.code.v1.raw");
        assert_string_equal(m.layers[1].path, "m.safetensors");
        assert_string_equal(m.layers[1].digest, D1);
        assert_false(m.layers[1].executable);
        assert_null(m.layers[2].path);
        assert_true(m.layers[2].tar);
        assert_int_equal(mlc_lineage_format(&m.lineage, &lineage, &f->err), 0);
        assert_string_equal(
                lineage.data,
                "{\"base\":\"fraud/base@" D1 "\",\"code\":\"https://git.example/f@abc\","
                "\"dataset\":[\"fraud/train@opaque:9\",\"z@opaque:1\"],\"run\":\"r\"}\n");
}

static void test_build_refuses(void **state)
{
        static const char *const bad_paths[] = {"", "/abs", "a/../b", "a//b", "a\nb", "\xff"};
        struct mlc_lineage none = {0};
        struct mlc_layer_in two[2] = {layer("a", "1"), layer("a", "2")};
        struct fixture *f = *state;

        assert_int_equal(mlc_manifest_build(two, 0, &none, &f->config, &f->manifest, &f->err),
                         MLC_E_INVALID);
        mlc_err_clear(&f->err);
        assert_int_equal(mlc_manifest_build(two, 2, &none, &f->config, &f->manifest, &f->err),
                         MLC_E_INVALID);
        mlc_err_clear(&f->err);
        two[1].path = "a/b";
        assert_int_equal(mlc_manifest_build(two, 2, &none, &f->config, &f->manifest, &f->err),
                         MLC_E_INVALID);
        for (size_t i = 0; i < sizeof(bad_paths) / sizeof(bad_paths[0]); i++) {
                mlc_err_clear(&f->err);
                two[0].path = bad_paths[i];
                assert_int_equal(
                        mlc_manifest_build(two, 1, &none, &f->config, &f->manifest, &f->err),
                        MLC_E_INVALID);
        }
}

#define CONFIG                                                                                     \
        "\"config\":{\"mediaType\":\"application/vnd.oci.empty.v1+json\",\"digest\":\"" D1         \
        "\",\"size\":2}"
#define LAYER(annotations)                                                                         \
        "{\"mediaType\":\"application/x-y\",\"digest\":\"" D1                                      \
        "\",\"size\":6,\"annotations\":{" annotations "}}"
#define DOC(rest) "{\"schemaVersion\":2," CONFIG "," rest "}"
#define FP "\"org.cncf.model.filepath\":"
#define TITLE "\"org.opencontainers.image.title\":"

static void test_parse_table(void **state)
{
        static const struct {
                const char *text, *content_type;
                int code;
                const char *field;
        } cases[] = {
                {DOC("\"layers\":[]"), NULL, 0, ""},
                {DOC("\"layers\":[" LAYER(FP "\"a\"") "]"), MLC_MT_OCI_MANIFEST "; charset=utf-8",
                 0, ""},
                {DOC("\"layers\":[" LAYER(TITLE "\"../x\"") "," LAYER(TITLE "\"a\"") "," LAYER(
                         TITLE "\"a\"") "]"),
                 NULL, 0, ""},
                {"{\"schemaVersion\":2,\"manifests\":[]}", NULL, 0, ""},
                {DOC("\"layers\":[]"), "application/json", MLC_E_INVALID, "/mediaType"},
                {DOC("\"layers\":[],\"mediaType\":\"" MLC_MT_OCI_MANIFEST "\""), MLC_MT_OCI_INDEX,
                 MLC_E_INVALID, "/mediaType"},
                {"[]", NULL, MLC_E_INVALID, ""},
                {"{", NULL, MLC_E_INVALID, ""},
                {"{\"schemaVersion\":1}", NULL, MLC_E_INVALID, "/schemaVersion"},
                {"{\"schemaVersion\":2,\"layers\":[]}", NULL, MLC_E_INVALID, "/config"},
                {DOC("\"layers\":{}"), NULL, MLC_E_INVALID, "/layers"},
                {DOC("\"layers\":[1]"), NULL, MLC_E_INVALID, "/layers/0"},
                {DOC("\"layers\":[" LAYER(FP "\"../a\"") "]"), NULL, MLC_E_INVALID, "/layers/0"},
                {DOC("\"layers\":[" LAYER(FP "\"a\"") "," LAYER(FP "\"a\"") "]"), NULL,
                 MLC_E_INVALID, "/layers/1"},
                {DOC("\"layers\":[" LAYER(FP "\"a/b\"") "," LAYER(FP "\"a\"") "]"), NULL,
                 MLC_E_INVALID, "/layers/0"},
                {DOC("\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"sha256:00\",\"size\":1}]"),
                 NULL, MLC_E_INVALID, "/layers/0/digest"},
                {DOC("\"layers\":[{\"mediaType\":\"a/b\",\"digest\":\"" D1 "\",\"size\":-1}]"),
                 NULL, MLC_E_INVALID, "/layers/0/size"},
                {DOC("\"layers\":[{\"mediaType\":\"\",\"digest\":\"" D1 "\",\"size\":1}]"), NULL,
                 MLC_E_INVALID, "/layers/0"},
                {DOC("\"layers\":[],\"annotations\":{\"x\":1}"), NULL, MLC_E_INVALID,
                 "/annotations"},
                {DOC("\"layers\":[],\"annotations\":{\"org.mlctl.dataset\":\"nothing\"}"), NULL,
                 MLC_E_INVALID, "/annotations/org.mlctl.dataset"},
                {DOC("\"layers\":[],\"annotations\":{\"org.mlctl.run\":\"\"}"), NULL, MLC_E_INVALID,
                 "/annotations/org.mlctl.run"},
                {DOC("\"layers\":[],\"annotations\":{\"org.mlctl.base\":\"a/b:3\"}"), NULL,
                 MLC_E_INVALID, "/annotations/org.mlctl.base"},
                {DOC("\"layers\":[],\"subject\":{}"), NULL, MLC_E_INVALID, "/subject/mediaType"},
        };
        struct fixture *f = *state;

        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
                struct mlc_manifest m;

                mlc_err_clear(&f->err);
                assert_int_equal(mlc_manifest_parse(cases[i].text, strlen(cases[i].text),
                                                    cases[i].content_type, &f->a, &m, &f->err),
                                 cases[i].code);
                assert_string_equal(f->err.field, cases[i].field);
        }
}

static void test_titles(void **state)
{
        static const char text[] = DOC("\"layers\":[" LAYER(TITLE "\"../x\"") "," LAYER(
                TITLE "\"a\"") "," LAYER(TITLE "\"a\"") "]");
        struct fixture *f = *state;
        struct mlc_manifest m;

        assert_int_equal(mlc_manifest_parse(text, strlen(text), NULL, &f->a, &m, &f->err), 0);
        assert_null(m.layers[0].path);
        assert_string_equal(m.layers[1].path, "a");
        assert_null(m.layers[2].path);
        assert_string_equal(m.artifact_type, "application/vnd.oci.empty.v1+json");
}

static void test_kinds(void **state)
{
        (void)state;
        assert_int_equal(mlc_layer_kind_of("README.md"), MLC_LAYER_DOC);
        assert_int_equal(mlc_layer_kind_of("a/LICENSE"), MLC_LAYER_DOC);
        assert_int_equal(mlc_layer_kind_of("train.PY"), MLC_LAYER_CODE);
        assert_int_equal(mlc_layer_kind_of("a/config.json"), MLC_LAYER_WEIGHT_CONFIG);
        assert_int_equal(mlc_layer_kind_of("MLmodel"), MLC_LAYER_WEIGHT_CONFIG);
        assert_int_equal(mlc_layer_kind_of("x.csv"), MLC_LAYER_DATASET);
        assert_int_equal(mlc_layer_kind_of("model.bin"), MLC_LAYER_WEIGHT);
        assert_int_equal(mlc_layer_kind_of(".r"), MLC_LAYER_WEIGHT);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_build_is_exact, setup, teardown),
                cmocka_unit_test_setup_teardown(test_titles_up_to_a_number, setup, teardown),
                cmocka_unit_test_setup_teardown(test_same_whatever_the_order, setup, teardown),
                cmocka_unit_test_setup_teardown(test_round_trip, setup, teardown),
                cmocka_unit_test_setup_teardown(test_build_refuses, setup, teardown),
                cmocka_unit_test_setup_teardown(test_parse_table, setup, teardown),
                cmocka_unit_test_setup_teardown(test_titles, setup, teardown),
                cmocka_unit_test(test_kinds),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
