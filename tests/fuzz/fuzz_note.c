/* SPDX-License-Identifier: Apache-2.0 */
/* Signed notes, checkpoints and verifier keys: whatever opens must be what was once signed. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "crypto/note.h"

/* The example of C2SP's signed-note.md: the only text that this key is known to have signed. */
#define VKEY "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
#define TEXT "This is an example message.\n"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void note(const char *text, size_t len)
{
        struct mlc_vkey key;
        struct mlc_vkeys known = {.keys = &key, .n = 1};
        struct mlc_note n;
        struct mlc_err err = {0};
        int r = mlc_vkey_parse(VKEY, &key, &err);

        assert(r == 0);
        if (mlc_note_open(text, len, &known, &n, &err) == 0)
                assert(n.text_len == strlen(TEXT) && memcmp(n.text, TEXT, n.text_len) == 0);
        else
                assert(err.code != 0 && err.msg[0] != '\0');
}

static void checkpoint(const char *text, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str back;
        struct mlc_checkpoint c;
        struct mlc_err err = {0};

        mlc_str_init(&back, 1024);
        if (mlc_checkpoint_parse(text, len, &c, &err) < 0)
                return;
        mlc_checkpoint_format(&c, &back);
        assert(back.len <= len && memcmp(back.data, text, back.len) == 0);
}

static void vkey(const char *text, size_t len)
{
        _cleanup_(mlc_str_done) struct mlc_str back;
        _cleanup_(free_p) char *s = strndup(text, len);
        struct mlc_vkey k;
        struct mlc_err err = {0};

        mlc_str_init(&back, 1024);
        assert(s != NULL);
        if (mlc_vkey_parse(s, &k, &err) < 0)
                return;
        mlc_vkey_format(&k, &back);
        assert(strcmp(mlc_str_cstr(&back), s) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const char *text = size > 0 ? (const char *)data : "";

        note(text, size);
        checkpoint(text, size);
        vkey(text, size);
        return 0;
}
