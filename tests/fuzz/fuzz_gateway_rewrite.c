/* SPDX-License-Identifier: Apache-2.0 */
/* Answers of an inference server: what passes names the route and the version, as JSON reads it,
 * and pieces of any size give the same. Requests and records of the tap beside it. */
#include <assert.h>
#include <stdint.h>

#include "base/cleanup.h"
#include "base/str.h"
#include "codec/json.h"
#include "gateway/core/rewrite.h"
#include "gateway/core/validate.h"
#include "rollout/tap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct gw_rewrite_rule RULE = {.name_key = "model_name",
                                            .name_from = "m",
                                            .name_to = "fraud",
                                            .version_key = "model_version",
                                            .version_to = "\"3\"",
                                            .name_needed = true,
                                            .version_added = true};

static void emit(void *userdata, const char *data, size_t len)
{
        mlc_str_addn(userdata, data, len);
}

static enum gw_rewrite_result run(const char *text, size_t len, size_t step, struct mlc_str *out)
{
        struct gw_rewrite w;

        gw_rewrite_init(&w, &RULE);
        for (size_t at = 0; at < len; at += step)
                gw_rewrite_feed(&w, text + at, len - at < step ? len - at : step, emit, out);
        return gw_rewrite_end(&w);
}

static void rewrite(const char *text, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str whole, pieces;
        _cleanup_(json_decref_p) json_t *root = NULL;
        struct mlc_err err = {0};
        enum gw_rewrite_result r;

        mlc_str_init(&whole, 1 << 24);
        mlc_str_init(&pieces, 1 << 24);
        r = run(text, len, len + 1, &whole);
        assert(run(text, len, 1 + len % 7, &pieces) == r);
        if (r != GW_REWRITE_OK)
                return;
        assert(whole.len == pieces.len && memcmp(whole.data, pieces.data, whole.len) == 0);
        if (mlc_json_parse(whole.data, whole.len, &root, &err) < 0)
                return; /* numbers and characters are the client's to read */
        assert(mlc_streq(json_string_value(json_object_get(root, "model_name")), "fraud"));
        assert(mlc_streq(json_string_value(json_object_get(root, "model_version")), "3"));
}

static void validate(const char *text, size_t len)
{
        static const struct gw_input inputs[] = {
                {.name = "x", .datatype = "FP32", .n_dims = 2, .shape = {-1, 2}, .ranged = true},
                {.name = "y", .datatype = "BYTES", .n_dims = 1, .shape = {1}}};
        char why[GW_WHY_MAX] = "";

        if (!gw_validate(inputs, 2, text, len, why))
                assert(why[0] != '\0' && strlen(why) < GW_WHY_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = size > 0 ? (const char *)data : "";
        struct mlc_err err = {0};
        struct mlc_tap tap;

        rewrite(text, size);
        validate(text, size);
        if (mlc_tap_parse(text, size, &tap, &err) == 0)
                assert(tap.reply + tap.reply_len == text + size);
        return 0;
}
