/* SPDX-License-Identifier: Apache-2.0 */
#include "base/path.h"

#include <assert.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static size_t encode(uint32_t c, char *ret)
{
        if (c < 0x80) {
                ret[0] = (char)c;
                return 1;
        }
        assert(c < 0x800);
        ret[0] = (char)(0xc0 | c >> 6);
        ret[1] = (char)(0x80 | (c & 0x3f));
        return 2;
}

void mlc_text_escape(const char *s, size_t len, char *ret, size_t size)
{
        size_t at = 0;

        assert(size > 0);
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)s[i];
                bool plain = c >= 0x20 && c < 0x7f && c != '\\';

                if (at + (plain ? 1 : 4) >= size)
                        break;
                if (plain)
                        ret[at++] = (char)c;
                else
                        at += (size_t)snprintf(ret + at, size - at, "\\x%02x", c);
        }
        ret[at] = '\0';
}

static int refuse(const char *path, const char *what, struct mlc_err *err)
{
        char shown[128];
        size_t len = strlen(path);

        mlc_text_escape(path, len, shown, sizeof(shown));
        return mlc_fail(err, MLC_E_INVALID, "path '%s'%s %s", shown,
                        len >= sizeof(shown) ? " (cut)" : "", what);
}

static const char *component_fault(const char *s, size_t len)
{
        if (len == 0)
                return "has an empty component";
        if ((len == 1 && s[0] == '.') || (len == 2 && s[0] == '.' && s[1] == '.'))
                return "has a component '.' or '..'";
        if (len > MLC_PATH_COMPONENT_MAX)
                return "has a component longer than 255 bytes";
        return NULL;
}

static const char *character_fault(const char *path, size_t len)
{
        for (size_t i = 0, n; i < len; i += n) {
                uint32_t c;

                n = mlc_utf8_next(path + i, len - i, &c);
                if (n == 0)
                        return "is not valid UTF-8";
                if (c < 0x20 || (c >= 0x7f && c <= 0x9f))
                        return "has a control character";
                if (c == '\\')
                        return "has a backslash; separate folders with '/'";
        }
        return NULL;
}

int mlc_path_check(const char *path, struct mlc_err *err)
{
        size_t len = strlen(path), depth = 0;
        const char *fault;

        if (len == 0)
                return mlc_fail(err, MLC_E_INVALID, "path is empty");
        if (len > MLC_PATH_MAX)
                return refuse(path, "is longer than 4096 bytes", err);
        if (path[0] == '/')
                return refuse(path, "is absolute", err);
        fault = character_fault(path, len);
        if (fault != NULL)
                return refuse(path, fault, err);
        for (const char *p = path; p != NULL; depth++) {
                const char *slash = strchr(p, '/');

                fault = component_fault(p, slash != NULL ? (size_t)(slash - p) : strlen(p));
                if (fault != NULL)
                        return refuse(path, fault, err);
                p = slash != NULL ? slash + 1 : NULL;
        }
        if (depth > MLC_PATH_DEPTH_MAX)
                return refuse(path, "is more than 64 folders deep", err);
        return 0;
}

static uint32_t lower_latin(uint32_t c)
{
        if (c >= 0xc0 && c <= 0xde && c != 0xd7)
                return c + 0x20;
        if (c == 0x178)
                return 0xff;
        if (c == 0x17f)
                return 's';
        if ((c >= 0x139 && c <= 0x148) || (c >= 0x179 && c <= 0x17e))
                return c + (c & 1);
        if (c >= 0x100 && c <= 0x177 && c != 0x130 && c != 0x131 && c != 0x138 && c != 0x149)
                return c | 1;
        return c;
}

static uint32_t lower(uint32_t c)
{
        if (c < 0x80)
                return c >= 'A' && c <= 'Z' ? c + 0x20 : c;
        if (c < 0x180)
                return lower_latin(c);
        if (c == 0x386)
                return 0x3ac;
        if (c >= 0x388 && c <= 0x38a)
                return c + 37;
        if (c == 0x38c)
                return 0x3cc;
        if (c == 0x38e || c == 0x38f)
                return c + 63;
        if ((c >= 0x391 && c <= 0x3ab && c != 0x3a2) || (c >= 0x410 && c <= 0x42f))
                return c + 0x20;
        if (c == 0x3c2)
                return 0x3c3;
        if (c >= 0x400 && c <= 0x40f)
                return c + 0x50;
        return c;
}

void mlc_path_fold(const char *path, char *ret)
{
        size_t len = strlen(path), at = 0;

        for (size_t i = 0, n; i < len; i += n) {
                uint32_t c, folded;

                n = mlc_utf8_next(path + i, len - i, &c);
                assert(n > 0);
                folded = lower(c);
                if (folded != c) {
                        at += encode(folded, ret + at);
                } else {
                        memcpy(ret + at, path + i, n);
                        at += n;
                }
        }
        ret[at] = '\0';
}
