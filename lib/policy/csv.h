/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "crypto/hash.h"
#include "policy/examples.h"

/*
 * RFC 4180, read as a stream: LF or CRLF, fields in double quotes may hold commas, line ends and
 * doubled quotes. A quote inside a bare field, text behind a closing quote and NUL are refused.
 */
#define CSV_FIELDS_MAX 64

struct csv_field {
        const char *text; /* NUL-terminated, until the next csv_row */
        size_t len;
};

struct csv {
        const struct mlc_examples_in *in;
        struct mlc_sha256 hash; /* of all bytes read */
        uint64_t n_bytes;
        unsigned char *buf;
        size_t at, len;
        bool end;
        char *row; /* the fields of the row, one after the other */
        size_t row_len, row_size;
        size_t starts[CSV_FIELDS_MAX], lens[CSV_FIELDS_MAX];
        unsigned n_fields;
        struct csv_field fields[CSV_FIELDS_MAX];
        unsigned long long line, row_line; /* of what is read next; where the row began */
};

void csv_init(struct csv *c, const struct mlc_examples_in *in);
void csv_done(struct csv *c); /* for _cleanup_ */
/* The next row in c->fields, c->n_fields; *ret_end instead when there is none. Empty lines are
 * passed over. */
int csv_row(struct csv *c, bool *ret_end, struct mlc_err *err) MLC_CHECK;
/* MLC_E_INVALID "line N: …", field /examples. */
int csv_fail(const struct csv *c, struct mlc_err *err, const char *fmt, ...)
        __attribute__((format(printf, 3, 4)));
