/* SPDX-License-Identifier: Apache-2.0 */
#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "db/conn.h"

void db_rows_done(struct db_rows *rows)
{
        PQclear(rows->res);
        *rows = (struct db_rows){0};
}

static const char *value(const struct db_rows *rows, int row, int col)
{
        assert(row >= 0 && row < rows->n && col >= 0 && col < PQnfields(rows->res));
        return PQgetvalue(rows->res, row, col);
}

bool db_is_null(const struct db_rows *rows, int row, int col)
{
        (void)value(rows, row, col);
        return PQgetisnull(rows->res, row, col) != 0;
}

const char *db_text(const struct db_rows *rows, int row, int col)
{
        return value(rows, row, col);
}

int64_t db_int(const struct db_rows *rows, int row, int col)
{
        const char *s = value(rows, row, col);
        char *end;
        long long n;

        errno = 0;
        n = strtoll(s, &end, 10);
        assert(*s != '\0' && *end == '\0' && errno == 0);
        return n;
}

bool db_bool(const struct db_rows *rows, int row, int col)
{
        const char *s = value(rows, row, col);

        assert((s[0] == 't' || s[0] == 'f') && s[1] == '\0');
        return s[0] == 't';
}

static int hex_digit(char c)
{
        if (c >= '0' && c <= '9')
                return c - '0';
        assert(c >= 'a' && c <= 'f'); /* bytea_output = hex writes lower case */
        return c - 'a' + 10;
}

int db_bytes(struct mlc_ctx *ctx, const struct db_rows *rows, int row, int col, const void **ret,
             size_t *ret_len)
{
        const char *s = value(rows, row, col);
        size_t len = (size_t)PQgetlength(rows->res, row, col);
        unsigned char *out;

        if (PQgetisnull(rows->res, row, col)) {
                *ret = NULL;
                *ret_len = 0;
                return 0;
        }
        assert(len >= 2 && len % 2 == 0 && s[0] == '\\' && s[1] == 'x');
        len = len / 2 - 1;
        out = ctx_alloc(ctx, len);
        if (out == NULL)
                return ctx->err.code;
        for (size_t i = 0; i < len; i++)
                out[i] = (unsigned char)(hex_digit(s[2 + 2 * i]) << 4 | hex_digit(s[3 + 2 * i]));
        *ret = out;
        *ret_len = len;
        return 0;
}

char *db_text_dup(struct mlc_ctx *ctx, const struct db_rows *rows, int row, int col)
{
        if (db_is_null(rows, row, col))
                return NULL;
        return ctx_strdup(ctx, PQgetvalue(rows->res, row, col));
}
