/* SPDX-License-Identifier: Apache-2.0 */
#include "mlctl/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

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
