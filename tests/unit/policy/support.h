/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/json.h"

/* A file of tests/unit/policy/samples; free() it. */
static inline char *sample(const char *name, size_t *ret_len)
{
        char path[512], *text = malloc(1u << 20);
        FILE *f;

        (void)snprintf(path, sizeof(path), MLC_SOURCE_DIR "/tests/unit/policy/samples/%s", name);
        f = fopen(path, "rb");
        assert_non_null(f);
        assert_non_null(text);
        *ret_len = fread(text, 1, (1u << 20) - 1, f);
        text[*ret_len] = '\0';
        (void)fclose(f);
        return text;
}

/* Single quotes for double ones: JSON that can be read in C. */
static inline json_t *json_of(const char *text)
{
        char *copy = strdup(text);
        struct mlc_err err = {0};
        json_t *j = NULL;

        for (char *p = copy; *p != '\0'; p++)
                if (*p == '\'')
                        *p = '"';
        if (mlc_json_parse(copy, strlen(copy), &j, &err) < 0)
                fail_msg("%s in %s", err.msg, copy);
        free(copy);
        return j;
}
