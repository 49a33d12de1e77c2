/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"

#define HEADER_MAX 65536 /* structured types are long; numpy itself stops at 10,000 by default */
#define DEPTH_MAX 16

static const struct {
        char kind;
        unsigned size;
        enum fmt_precision precision;
} KINDS[] = {
        {'b', 1, FMT_BOOL},
        {'i', 1, FMT_INT8},
        {'i', 2, FMT_INT16},
        {'i', 4, FMT_INT32},
        {'i', 8, FMT_INT64},
        {'u', 1, FMT_UINT8},
        {'u', 2, FMT_UINT16},
        {'u', 4, FMT_UINT32},
        {'u', 8, FMT_UINT64},
        {'f', 2, FMT_FLOAT16},
        {'f', 4, FMT_FLOAT32},
        {'f', 8, FMT_FLOAT64},
        {'f', 16, FMT_PRECISION_NONE},
        {'c', 8, FMT_COMPLEX64},
        {'c', 16, FMT_COMPLEX128},
        {'c', 32, FMT_PRECISION_NONE},
        {'m', 8, FMT_PRECISION_NONE},
        {'M', 8, FMT_PRECISION_NONE},
};

uint64_t fmt_npy_item(const char *descr, bool *ret_object, enum fmt_precision *ret_precision)
{
        uint64_t n = 0;
        char kind;

        *ret_object = false;
        *ret_precision = FMT_PRECISION_NONE;
        if (descr[0] != '\0' && strchr("<>|=", descr[0]) != NULL)
                descr++;
        kind = *descr;
        if (kind == '\0')
                return 0;
        for (descr++; *descr >= '0' && *descr <= '9'; descr++)
                if ((n = n * 10 + (uint64_t)(*descr - '0')) > UINT32_MAX)
                        return 0;
        if (kind == 'O' && *descr == '\0') {
                *ret_object = true;
                return 8;
        }
        if ((kind == 'm' || kind == 'M') && *descr == '[')
                return n == 8 ? 8 : 0; /* datetime with its unit */
        if (*descr != '\0')
                return 0;
        if (kind == 'U')
                return n * 4;
        if (kind == 'S' || kind == 'V' || kind == 'a')
                return n;
        for (size_t i = 0; i < ARRAY_LEN(KINDS); i++) {
                if (KINDS[i].kind == kind && KINDS[i].size == n) {
                        *ret_precision = KINDS[i].precision;
                        return n;
                }
        }
        return 0;
}

/* A Python literal of the few kinds that a header holds. */
struct lit {
        struct fmt *f;
        const char *text;
        size_t at, len;
        uint64_t base; /* offset in the file, for messages */
};

static int bad(struct lit *l, const char *what)
{
        return fmt_malformed(l->f, l->base + l->at, "npy header: %s", what);
}

static char peek(struct lit *l)
{
        while (l->at < l->len && (l->text[l->at] == ' ' || l->text[l->at] == '\n'))
                l->at++;
        return l->at < l->len ? l->text[l->at] : '\0';
}

static int expect(struct lit *l, char c)
{
        char text[] = "'?' expected";

        text[1] = c;
        if (peek(l) != c)
                return bad(l, text);
        l->at++;
        return 0;
}

static int string(struct lit *l, char *buf, size_t size)
{
        char quote = peek(l);
        size_t n = 0;

        if (quote != '\'' && quote != '"')
                return bad(l, "string expected");
        for (l->at++;; l->at++) {
                char c = l->at < l->len ? l->text[l->at] : '\0';

                if (c == quote)
                        break;
                if (c == '\0' || c == '\\' || c == '\n' || n + 1 >= size)
                        return bad(l, "string without end, with escapes or too long");
                buf[n++] = c;
        }
        l->at++;
        buf[n] = '\0';
        return 0;
}

static int integer(struct lit *l, int64_t *ret)
{
        uint64_t v = 0;
        size_t start;

        (void)peek(l);
        for (start = l->at; l->at < l->len && l->text[l->at] >= '0' && l->text[l->at] <= '9';
             l->at++)
                if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
                    __builtin_add_overflow(v, (uint64_t)(l->text[l->at] - '0'), &v) ||
                    v > INT64_MAX)
                        return bad(l, "number too large");
        if (l->at == start)
                return bad(l, "whole number expected");
        if (l->at < l->len && l->text[l->at] == 'L')
                l->at++; /* written by Python 2 */
        *ret = (int64_t)v;
        return 0;
}

static int shape(struct lit *l, int64_t *dims, size_t *ret_n)
{
        size_t n = 0;
        int r = expect(l, '(');

        while (r == 0 && peek(l) != ')') {
                if (n == MLC_FORMAT_RANK_MAX)
                        return bad(l, "too many dimensions");
                r = integer(l, &dims[n++]);
                if (r == 0 && peek(l) != ')')
                        r = expect(l, ',');
        }
        if (r == 0) {
                l->at++;
                *ret_n = n;
        }
        return r;
}

/* What a type adds up to. */
struct descr {
        uint64_t size;
        bool object;
        enum fmt_precision precision;
};

static int descr(struct lit *l, struct descr *d, int depth);

/* One field of a structured type: (name, type[, shape]); name may be (title, name). */
static int field(struct lit *l, struct descr *total, int depth)
{
        struct descr d = {0};
        int64_t dims[MLC_FORMAT_RANK_MAX];
        char name[512];
        uint64_t times = 1, bytes;
        size_t n;
        int r = expect(l, '(');

        if (r == 0 && peek(l) == '(') {
                l->at++;
                r = string(l, name, sizeof(name));
                if (r == 0)
                        r = expect(l, ',');
                if (r == 0)
                        r = string(l, name, sizeof(name));
                if (r == 0)
                        r = expect(l, ')');
        } else if (r == 0) {
                r = string(l, name, sizeof(name));
        }
        if (r == 0)
                r = expect(l, ',');
        if (r == 0)
                r = descr(l, &d, depth + 1);
        if (r == 0 && peek(l) == ',') {
                l->at++;
                if (peek(l) == '(') {
                        r = shape(l, dims, &n);
                        if (r == 0 && !fmt_product(dims, n, &times))
                                return bad(l, "shape overflows");
                }
        }
        if (r == 0)
                r = expect(l, ')');
        if (r < 0)
                return r;
        if (__builtin_mul_overflow(d.size, times, &bytes) ||
            __builtin_add_overflow(total->size, bytes, &total->size))
                return bad(l, "type too large");
        total->object = total->object || d.object;
        return 0;
}

static int descr(struct lit *l, struct descr *d, int depth)
{
        char text[64];
        int r;

        if (depth > DEPTH_MAX)
                return bad(l, "nested too deeply");
        if (peek(l) != '[') {
                r = string(l, text, sizeof(text));
                if (r < 0)
                        return r;
                d->size = fmt_npy_item(text, &d->object, &d->precision);
                if (d->size == 0 && strcmp(text, "|S0") != 0 && strcmp(text, "|V0") != 0 &&
                    strcmp(text, "<U0") != 0 && strcmp(text, ">U0") != 0)
                        return bad(l, "unknown type");
                return 0;
        }
        l->at++;
        d->precision = FMT_PRECISION_NONE;
        for (r = 0; r == 0 && peek(l) != ']';) {
                r = field(l, d, depth);
                if (r == 0 && peek(l) != ']')
                        r = expect(l, ',');
        }
        if (r == 0)
                l->at++;
        return r;
}

struct header {
        struct descr d;
        char dtype[256];
        int64_t dims[MLC_FORMAT_RANK_MAX];
        size_t n_dims;
        unsigned seen; /* bits: descr, fortran_order, shape */
};

static int entry(struct lit *l, struct header *h)
{
        static const char *const KEYS[] = {"descr", "fortran_order", "shape"};
        char key[32];
        size_t k = 0, start, n;
        int r = string(l, key, sizeof(key));

        if (r == 0)
                r = expect(l, ':');
        if (r < 0)
                return r;
        while (k < ARRAY_LEN(KEYS) && strcmp(KEYS[k], key) != 0)
                k++;
        if (k == ARRAY_LEN(KEYS) || (h->seen & 1u << k) != 0)
                return bad(l, "unknown or duplicate key");
        h->seen |= 1u << k;
        if (k == 2)
                return shape(l, h->dims, &h->n_dims);
        (void)peek(l);
        start = l->at;
        if (k == 0) {
                r = descr(l, &h->d, 0);
                n = l->at - start;
                if (r == 0 && n >= 2 && l->text[start] != '[') {
                        start++; /* without the quotes */
                        n -= 2;
                }
                if (r == 0)
                        (void)snprintf(h->dtype, sizeof(h->dtype), "%.*s", (int)n, l->text + start);
                return r;
        }
        if (l->len - l->at >= 4 && memcmp(l->text + l->at, "True", 4) == 0)
                l->at += 4;
        else if (l->len - l->at >= 5 && memcmp(l->text + l->at, "False", 5) == 0)
                l->at += 5;
        else
                return bad(l, "True or False expected");
        return 0;
}

static int parse(struct lit *l, struct header *h)
{
        int r;

        if (l->len == 0 || l->text[l->len - 1] != '\n')
                return bad(l, "does not end in a line feed");
        r = expect(l, '{');
        while (r == 0 && peek(l) != '}') {
                r = entry(l, h);
                if (r == 0 && peek(l) != '}')
                        r = expect(l, ',');
        }
        if (r < 0)
                return r;
        l->at++;
        if (peek(l) != '\0' || l->at != l->len)
                return bad(l, "data after the dict");
        return h->seen == 7 ? 0 : bad(l, "descr, fortran_order and shape are needed");
}

static int payload(struct fmt *f, const struct mlc_reader *r, uint64_t off, const struct header *h)
{
        uint64_t elements, bytes;

        if (!fmt_product(h->dims, h->n_dims, &elements) ||
            __builtin_mul_overflow(elements, h->d.size, &bytes))
                return fmt_malformed(f, off, "shape overflows");
        if (h->d.object)
                return fmt_pickle(f, r, off, FMT_PICKLE_MEMBER);
        if (bytes != r->size - off)
                return fmt_malformed(f, off, "array needs %llu bytes, %llu are there",
                                     (unsigned long long)bytes,
                                     (unsigned long long)(r->size - off));
        return 0;
}

int fmt_npy(struct fmt *f, const struct mlc_reader *r, const char *name)
{
        _cleanup_(free_p) char *text = NULL;
        _cleanup_(free_p) struct header *h = calloc(1, sizeof(*h));
        struct mlc_format_tensor t = {.name = name};
        struct lit l = {.f = f};
        unsigned char head[12] = {0};
        uint64_t at, len;
        int rc;

        if (h == NULL)
                abort();
        if (r->size < 10)
                return fmt_malformed(f, 0, "npy header is cut");
        rc = fmt_pread(f, r, head, r->size < 12 ? 10 : 12, 0);
        if (rc < 0)
                return rc;
        if (memcmp(head, "\x93NUMPY", 6) != 0 || head[6] < 1 || head[6] > 3 || head[7] != 0)
                return fmt_malformed(f, 6, "npy version %u.%u", head[6], head[7]);
        at = head[6] == 1 ? 10 : 12;
        len = fmt_le(head + 8, head[6] == 1 ? 2 : 4);
        if (len > HEADER_MAX || r->size < at || len > r->size - at)
                return fmt_malformed(f, 8, "npy header of %llu bytes does not fit",
                                     (unsigned long long)len);
        text = malloc((size_t)len + 1);
        if (text == NULL)
                abort();
        rc = fmt_pread(f, r, text, (size_t)len, at);
        if (rc < 0)
                return rc;
        l.text = text;
        l.len = (size_t)len;
        l.base = at;
        rc = parse(&l, h);
        if (rc < 0)
                return rc;
        t.dtype = h->dtype;
        t.dims = h->dims;
        t.n_dims = h->n_dims;
        fmt_add_precision(f, h->d.precision);
        if (f->member[0] == '\0')
                f->info->data_offset = at + len;
        rc = fmt_tensor(f, &t, at);
        return rc < 0 ? rc : payload(f, r, at + len, h);
}
