/* SPDX-License-Identifier: Apache-2.0 */
#include "policy/csv.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define BUF_SIZE ((size_t)256 << 10)
#define END (-1)

void csv_init(struct csv *c, const struct mlc_examples_in *in)
{
        memset(c, 0, sizeof(*c));
        c->in = in;
        c->line = 1;
        mlc_sha256_init(&c->hash);
        c->buf = malloc(BUF_SIZE);
        if (c->buf == NULL)
                abort();
}

void csv_done(struct csv *c)
{
        free(c->buf);
        free(c->row);
        c->buf = NULL;
        c->row = NULL;
}

int csv_fail(const struct csv *c, struct mlc_err *err, const char *fmt, ...)
{
        char msg[400];
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(msg, sizeof(msg), fmt, ap);
        va_end(ap);
        return mlc_fail_field(err, MLC_E_INVALID, "/examples", "line %llu: %s", c->row_line, msg);
}

static int fill(struct csv *c, struct mlc_err *err)
{
        size_t n = 0;
        int r;

        if (c->end)
                return 0;
        r = c->in->read(c->in->userdata, c->buf, BUF_SIZE, &n, err);
        if (r < 0)
                return r;
        c->at = 0;
        c->len = n;
        c->end = n == 0;
        c->n_bytes += n;
        mlc_sha256_update(&c->hash, c->buf, n);
        if (c->n_bytes > MLC_EXAMPLES_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, "/examples",
                                      "the examples have more than %llu bytes",
                                      (unsigned long long)MLC_EXAMPLES_MAX);
        return 0;
}

/* The next byte without taking it, or END. */
static int peek(struct csv *c, int *ret, struct mlc_err *err)
{
        if (c->at == c->len) {
                int r = fill(c, err);

                if (r < 0)
                        return r;
        }
        *ret = c->at < c->len ? c->buf[c->at] : END;
        return 0;
}

static void append(struct csv *c, const void *data, size_t len)
{
        if (c->row_len + len + 1 > c->row_size) {
                c->row_size = (c->row_len + len + 1) * 2 + 256;
                c->row = realloc(c->row, c->row_size);
                if (c->row == NULL)
                        abort();
        }
        memcpy(c->row + c->row_len, data, len);
        c->row_len += len;
}

static int add(struct csv *c, const void *data, size_t len, struct mlc_err *err)
{
        if (c->row_len - c->starts[c->n_fields] + len > MLC_EXAMPLES_CELL_MAX)
                return mlc_fail_field(err, MLC_E_LIMIT, "/examples",
                                      "line %llu: a field has more than %zu bytes", c->row_line,
                                      MLC_EXAMPLES_CELL_MAX);
        append(c, data, len);
        return 0;
}

/* How many bytes from here belong to a bare field. */
static size_t bare_run(const struct csv *c)
{
        size_t i = c->at;

        while (i < c->len && c->buf[i] != ',' && c->buf[i] != '\n' && c->buf[i] != '\r' &&
               c->buf[i] != '"' && c->buf[i] != '\0')
                i++;
        return i - c->at;
}

static int bare(struct csv *c, struct mlc_err *err)
{
        while (true) {
                int next, r = peek(c, &next, err);
                size_t n;

                if (r < 0)
                        return r;
                if (next == END || next == ',' || next == '\n' || next == '\r')
                        return 0;
                if (next == '"' || next == '\0')
                        return csv_fail(c, err, "a field that holds %s must be in quotes%s",
                                        next == '"' ? "a quote" : "NUL",
                                        next == '"' ? ", the quote doubled" : "; NUL is refused");
                n = bare_run(c);
                r = add(c, c->buf + c->at, n, err);
                if (r < 0)
                        return r;
                c->at += n;
        }
}

static int quoted(struct csv *c, struct mlc_err *err)
{
        c->at++; /* the quote */
        while (true) {
                int next, r = peek(c, &next, err);
                unsigned char byte;

                if (r < 0)
                        return r;
                if (next == END)
                        return csv_fail(c, err, "a quote is not closed");
                if (next == '\0')
                        return csv_fail(c, err, "NUL is refused");
                c->at++;
                if (next == '"') {
                        r = peek(c, &next, err);
                        if (r < 0)
                                return r;
                        if (next == ',' || next == '\n' || next == '\r' || next == END)
                                return 0;
                        if (next != '"')
                                return csv_fail(c, err,
                                                "text stands behind a closing quote (quotes in "
                                                "quotes are doubled)");
                        c->at++;
                }
                c->line += next == '\n';
                byte = (unsigned char)next;
                r = add(c, &byte, 1, err);
                if (r < 0)
                        return r;
        }
}

static int field(struct csv *c, struct mlc_err *err)
{
        int next, r = peek(c, &next, err);

        if (r < 0)
                return r;
        if (c->n_fields == CSV_FIELDS_MAX)
                return csv_fail(c, err, "more than %d fields", CSV_FIELDS_MAX);
        c->starts[c->n_fields] = c->row_len;
        r = next == '"' ? quoted(c, err) : bare(c, err);
        if (r < 0)
                return r;
        c->lens[c->n_fields] = c->row_len - c->starts[c->n_fields];
        append(c, "", 1);
        c->n_fields++;
        return 0;
}

/* Behind a field: takes the comma or the line end. */
static int separator(struct csv *c, bool *ret_more, struct mlc_err *err)
{
        int next, r = peek(c, &next, err);

        *ret_more = next == ',';
        if (r < 0 || next == END)
                return r;
        c->at++;
        if (next == '\r') {
                r = peek(c, &next, err);
                if (r < 0)
                        return r;
                if (next == '\n')
                        c->at++;
        }
        if (!*ret_more)
                c->line++;
        return 0;
}

static int read_row(struct csv *c, struct mlc_err *err)
{
        bool more = true;
        int r = 0;

        c->row_len = 0;
        c->n_fields = 0;
        c->row_line = c->line;
        while (r == 0 && more) {
                r = field(c, err);
                if (r == 0)
                        r = separator(c, &more, err);
        }
        return r;
}

int csv_row(struct csv *c, bool *ret_end, struct mlc_err *err)
{
        do {
                int next, r = peek(c, &next, err);

                if (r < 0)
                        return r;
                *ret_end = next == END;
                if (next == END)
                        return 0;
                r = read_row(c, err);
                if (r < 0)
                        return r;
        } while (c->n_fields == 1 && c->lens[0] == 0);
        for (unsigned i = 0; i < c->n_fields; i++)
                c->fields[i] = (struct csv_field){c->row + c->starts[i], c->lens[i]};
        if (!mlc_utf8_valid(c->row, c->row_len))
                return csv_fail(c, err, "the text is not UTF-8");
        return 0;
}
