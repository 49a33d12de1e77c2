/* SPDX-License-Identifier: Apache-2.0 */
/* References, digests, base64 and text for terminals: reading back gives the same. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "codec/ref.h"
#include "codec/utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void ref(const char *s)
{
        struct mlc_ref a, b;
        struct mlc_err err = {0};
        char text[MLC_REF_STR], text2[MLC_REF_STR];

        if (mlc_ref_parse(s, &a, &err) < 0)
                return;
        mlc_ref_format(&a, text);
        if (mlc_ref_parse(text, &b, &err) < 0)
                abort();
        mlc_ref_format(&b, text2);
        assert(strcmp(text, text2) == 0 && a.kind == b.kind && a.version == b.version);
        assert(strlen(a.ns) <= MLC_NAME_MAX && strlen(a.model) <= MLC_NAME_MAX);
}

static void dataset(const char *s)
{
        _cleanup_(mlc_str_done) struct mlc_str back;
        struct mlc_dataset d;
        struct mlc_err err = {0};

        mlc_str_init(&back, 2048);
        if (mlc_dataset_parse(s, &d, &err) < 0)
                return;
        mlc_str_addf(&back, "%s@%s:%s", d.name, mlc_dataset_scheme_name(d.scheme), d.value);
        assert(strcmp(mlc_str_cstr(&back), s) == 0);
}

static void base64(enum mlc_base64 kind, const char *s)
{
        _cleanup_(mlc_str_done) struct mlc_str bytes, back;
        struct mlc_err err = {0};

        mlc_str_init(&bytes, 1u << 20);
        mlc_str_init(&back, 1u << 21);
        if (mlc_base64_decode(kind, s, strlen(s), &bytes, &err) < 0)
                return;
        mlc_base64_encode(kind, bytes.data, bytes.len, &back);
        assert(strcmp(mlc_str_cstr(&back), s) == 0);
}

static void display(const char *s, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str out;

        mlc_str_init(&out, 1u << 24);
        mlc_utf8_escape_display(s, len, &out);
        assert(mlc_utf8_valid(mlc_str_cstr(&out), out.len));
        for (size_t i = 0; i < out.len; i++)
                assert((unsigned char)out.data[i] >= 0x20 && out.data[i] != 0x7f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_(free_p) char *s = size > 0 ? strndup((const char *)data, size) : strdup("");

        assert(s != NULL);
        ref(s);
        dataset(s);
        base64(MLC_BASE64_STD, s);
        base64(MLC_BASE64_URL, s);
        display(size > 0 ? (const char *)data : "", size);
        return 0;
}
