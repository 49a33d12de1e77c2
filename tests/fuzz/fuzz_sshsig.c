/* SPDX-License-Identifier: Apache-2.0 */
/* SSH keys and signatures: as text, and as the bytes inside the armour. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/base64.h"
#include "crypto/sshkey.h"
#include "crypto/sshsig.h"

#define MESSAGE "This is a test, this is only a test"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void verify(const char *armour, size_t len)
{
        struct mlc_sshsig_message m = {.ns = "unittest", .data = MESSAGE, .len = strlen(MESSAGE)};
        struct mlc_sshsig_result res;
        struct mlc_err err = {0};

        if (mlc_sshsig_verify(armour, len, &m, &res, &err) < 0)
                assert(err.code == MLC_E_INVALID || err.code == MLC_E_VERIFY);
        else
                assert(!res.is_sk || (res.flags & MLC_SSHSIG_FLAG_UP) != 0);
}

static void blob(const uint8_t *data, size_t size)
{
        _cleanup_(mlc_str_done) struct mlc_str s;
        struct mlc_sshkey k;
        struct mlc_err err = {0};

        mlc_str_init(&s, 1u << 16);
        mlc_str_add(&s, "-----BEGIN SSH SIGNATURE-----\n");
        mlc_base64_encode(MLC_BASE64_STD, data, size, &s);
        mlc_str_add(&s, "\n-----END SSH SIGNATURE-----\n");
        verify(s.data, s.len);
        (void)!mlc_sshkey_from_blob(data, size, &k, &err);
}

static void line(const char *text, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str back;
        _cleanup_(free_p) char *s = strndup(text, len);
        struct mlc_sshkey k, again;
        struct mlc_err err = {0};

        mlc_str_init(&back, MLC_SSHKEY_LINE_MAX);
        assert(s != NULL);
        if (mlc_sshkey_parse(s, &k, &err) < 0)
                return;
        mlc_sshkey_format(&k, &back);
        if (mlc_sshkey_parse(mlc_str_cstr(&back), &again, &err) < 0)
                abort();
        assert(mlc_sshkey_equal(&k, &again));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = size > 0 ? (const char *)data : "";

        verify(text, size);
        line(text, size);
        if (size < 1u << 14)
                blob((const uint8_t *)text, size);
        return 0;
}
