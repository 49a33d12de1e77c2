/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Leaves about people, documents and promotions, one a line, in any order and with anything in
 * them: custody says yes or why not. The leaves are put together again, so that their digests hold.
 * The founding owners of `production` have the keys of the unit tests.
 */
#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/cleanup.h"
#include "policy/custody.h"

#define ORIGIN "host/log-12345678"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mlc_custody *begin(void)
{
        static const unsigned char seeds[2][32] = {{'d'}, {'e'}};
        struct mlc_custody_environment env = {.name = "production", .threshold = 2, .n_keys = 2};
        struct mlc_sshkey keys[2];
        struct mlc_err err = {0};

        for (int i = 0; i < 2; i++) {
                struct mlc_signer s;
                int r = mlc_signer_from_seed(seeds[i], &s, &err);

                assert(r == 0);
                mlc_sshkey_from_ed25519(s.pub, &keys[i]);
        }
        env.keys = keys;
        return mlc_custody_new(ORIGIN, &env, 1);
}

static const char *text_of(const json_t *j, const char *key)
{
        const char *s = json_string_value(json_object_get(j, key));

        return s != NULL ? s : "";
}

static void one(struct mlc_custody *c, uint64_t index, const char *line, size_t len)
{
        _cleanup_(json_decref_p) json_t *j = NULL;
        _cleanup_(mlc_leaf_done) struct mlc_leaf l = {0};
        _cleanup_(mlc_str_done) struct mlc_str text;
        struct mlc_err err = {0};
        struct mlc_leaf_in in = {.origin = ORIGIN,
                                 .time_ms = INT64_C(1764000000000) + (int64_t)index * 1000};

        mlc_str_init(&text, 1 << 17);
        if (mlc_json_parse(line, len, &j, &err) < 0)
                return;
        in.actor = text_of(j, "actor");
        in.action = text_of(j, "action");
        in.kind = text_of(j, "kind");
        in.id = text_of(j, "id");
        if (json_is_object(json_object_get(j, "state")))
                in.after = json_object_get(j, "state");
        if (json_is_object(json_object_get(j, "detail")))
                in.detail = json_object_get(j, "detail");
        if (mlc_leaf_build(&in, &text, &err) < 0 ||
            mlc_leaf_parse(text.data, text.len, &l, &err) < 0)
                return;
        mlc_err_clear(&err);
        if (mlc_custody_leaf(c, index, &l, &err) < 0)
                assert(err.code < 0 && err.msg[0] != '\0');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(mlc_custody_free) struct mlc_custody *c = begin();
        _cleanup_(json_decref_p) json_t *list = NULL;
        struct mlc_err err = {0};
        uint64_t n = 0, at;

        for (size_t from = 0; from < size && n < 200; n++) {
                const uint8_t *nl = memchr(data + from, '\n', size - from);
                size_t end = nl != NULL ? (size_t)(nl - data) : size;

                one(c, n, (const char *)data + from, end - from);
                from = end + 1;
        }
        if (mlc_custody_finish(c, &at, &err) < 0)
                assert(err.msg[0] != '\0' && (at <= n || n == 0));
        list = mlc_custody_environments(c);
        assert(json_is_array(list));
        return 0;
}
