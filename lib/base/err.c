/* SPDX-License-Identifier: Apache-2.0 */
#include "mlctl/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

struct error_row {
        int status, exit;
        const char *slug, *title;
};

static const struct error_row ROWS[] = {
#define X(name, status, exit, slug, title) {status, exit, slug, title},
        MLC_ERRORS(X)
#undef X
};

static const struct error_row *row(int code)
{
        if (code < 0 && -code <= MLC_EI_COUNT)
                return &ROWS[-code - 1];
        return &ROWS[MLC_EI_INTERNAL];
}

/*
 * Messages quote what others sent, cut anywhere: bytes that are not UTF-8 and characters that a
 * terminal or a log must not see become "?" (line ends and tabs a blank), so that every message can
 * be printed and put into JSON.
 */
static void clean(char *s)
{
        size_t len = strlen(s), n;
        uint32_t c;

        for (size_t i = 0; i < len; i += n) {
                n = mlc_utf8_next(s + i, len - i, &c);
                if (n != 0 && !mlc_utf8_unsafe(c))
                        continue;
                if (n == 0)
                        n = 1;
                memset(s + i, s[i] == '\n' || s[i] == '\t' ? ' ' : '?', n);
        }
}

int mlc_err_set(struct mlc_err *err, int code, const char *field, const char *file, int line,
                const char *fmt, ...)
{
        va_list ap;

        if (err == NULL || err->code != 0)
                return code;
        err->code = code;
        err->file = file;
        err->line = line;
        if (field != NULL)
                (void)snprintf(err->field, sizeof(err->field), "%s", field);
        va_start(ap, fmt);
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        clean(err->field);
        clean(err->msg);
        return code;
}

int mlc_wrap(struct mlc_err *err, const char *fmt, ...)
{
        char old[sizeof(err->msg)];
        va_list ap;
        size_t n;

        if (err == NULL || err->code == 0)
                return MLC_E_INTERNAL;
        memcpy(old, err->msg, sizeof(old));
        va_start(ap, fmt);
        (void)vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
        va_end(ap);
        n = strlen(err->msg);
        (void)snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", old);
        clean(err->msg);
        return err->code;
}

void mlc_err_clear(struct mlc_err *err)
{
        memset(err, 0, sizeof(*err));
}

int mlc_error_status(int code)
{
        return row(code)->status;
}

int mlc_error_exit(int code)
{
        return row(code)->exit;
}

const char *mlc_error_slug(int code)
{
        return row(code)->slug;
}

const char *mlc_error_title(int code)
{
        return row(code)->title;
}

int mlc_error_from_slug(const char *slug)
{
        for (int i = 0; i < MLC_EI_COUNT; i++)
                if (strcmp(ROWS[i].slug, slug) == 0)
                        return -(i + 1);
        return MLC_E_INTERNAL;
}
