/* SPDX-License-Identifier: Apache-2.0 */
#include "format/internal.h"

#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/utf8.h"

#define HEADER_MAX                                                                                 \
        ((uint64_t)16 << 20) /* the reference allows 100 MB; real ones are below 2 MB              \
                              */
#define DEPTH_MAX 16

/*
 * The header is scanned, not made into a tree: a tree of a hostile one takes a hundred times its
 * size. Strings are decoded in place.
 */
struct scan {
        struct fmt *f;
        char *text;
        size_t at, len;
};

struct slice {
        const char *s;
        size_t len;
};

struct tensor_row {
        uint64_t begin, end;
};

struct header {
        struct scan s;
        struct fmt_names names;
        struct tensor_row *rows;
        size_t n, size;
};

static const struct {
        const char *name;
        unsigned bits;
        enum fmt_precision precision;
} DTYPES[] = {
        {"F4", 4, FMT_PRECISION_NONE},
        {"F6_E2M3", 6, FMT_PRECISION_NONE},
        {"F6_E3M2", 6, FMT_PRECISION_NONE},
        {"BOOL", 8, FMT_BOOL},
        {"U8", 8, FMT_UINT8},
        {"I8", 8, FMT_INT8},
        {"F8_E5M2", 8, FMT_FLOAT8_E5M2},
        {"F8_E4M3", 8, FMT_FLOAT8_E4M3},
        {"F8_E8M0", 8, FMT_PRECISION_NONE},
        {"F8_E4M3FNUZ", 8, FMT_PRECISION_NONE},
        {"F8_E5M2FNUZ", 8, FMT_PRECISION_NONE},
        {"I16", 16, FMT_INT16},
        {"U16", 16, FMT_UINT16},
        {"F16", 16, FMT_FLOAT16},
        {"BF16", 16, FMT_BFLOAT16},
        {"I32", 32, FMT_INT32},
        {"U32", 32, FMT_UINT32},
        {"F32", 32, FMT_FLOAT32},
        {"I64", 64, FMT_INT64},
        {"U64", 64, FMT_UINT64},
        {"F64", 64, FMT_FLOAT64},
        {"C64", 64, FMT_COMPLEX64},
};

static int bad(struct scan *s, const char *what)
{
        return fmt_malformed(s->f, 8 + s->at, "header: %s", what);
}

static char peek(struct scan *s)
{
        while (s->at < s->len && strchr(" \t\r\n", s->text[s->at]) != NULL && s->text[s->at] != 0)
                s->at++;
        return s->at < s->len ? s->text[s->at] : '\0';
}

static int expect(struct scan *s, char c)
{
        char text[] = "'?' expected";

        text[1] = c;
        if (peek(s) != c)
                return bad(s, text);
        s->at++;
        return 0;
}

static int hex4(struct scan *s, unsigned *ret)
{
        unsigned v = 0;

        for (int i = 0; i < 4; i++, s->at++) {
                char c = s->at < s->len ? s->text[s->at] : '\0';

                if (c >= '0' && c <= '9')
                        v = v * 16 + (unsigned)(c - '0');
                else if (c >= 'a' && c <= 'f')
                        v = v * 16 + (unsigned)(c - 'a') + 10;
                else if (c >= 'A' && c <= 'F')
                        v = v * 16 + (unsigned)(c - 'A') + 10;
                else
                        return bad(s, "four hexadecimal digits expected after \\u");
        }
        *ret = v;
        return 0;
}

/* After "\u": writes the character at *w, which never passes the place read. */
static int unicode(struct scan *s, size_t *w)
{
        unsigned c, low;
        int r = hex4(s, &c);

        if (r < 0)
                return r;
        if (c == 0)
                return bad(s, "a string holds NUL");
        if (c >= 0xdc00 && c <= 0xdfff)
                return bad(s, "lone surrogate");
        if (c >= 0xd800 && c <= 0xdbff) {
                if (s->len - s->at < 6 || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u')
                        return bad(s, "lone surrogate");
                s->at += 2;
                r = hex4(s, &low);
                if (r < 0)
                        return r;
                if (low < 0xdc00 || low > 0xdfff)
                        return bad(s, "lone surrogate");
                c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
        }
        if (c >= 0x10000) {
                s->text[(*w)++] = (char)(0xf0 | c >> 18);
                s->text[(*w)++] = (char)(0x80 | (c >> 12 & 0x3f));
        } else if (c >= 0x800) {
                s->text[(*w)++] = (char)(0xe0 | c >> 12);
        }
        if (c >= 0x800)
                s->text[(*w)++] = (char)(0x80 | (c >> 6 & 0x3f));
        else if (c >= 0x80)
                s->text[(*w)++] = (char)(0xc0 | c >> 6);
        s->text[(*w)++] = (char)(c >= 0x80 ? 0x80 | (c & 0x3f) : c);
        return 0;
}

static int string(struct scan *s, struct slice *ret)
{
        static const char FROM[] = "\"\\/bfnrt", TO[] = "\"\\/\b\f\n\r\t";
        size_t start, w;
        int r = expect(s, '"');

        if (r < 0)
                return r;
        start = w = s->at;
        for (;;) {
                char c;
                const char *p;

                if (s->at == s->len)
                        return bad(s, "string without end");
                c = s->text[s->at++];
                if (c == '"')
                        break;
                if ((unsigned char)c < 0x20)
                        return bad(s, "control character in a string");
                if (c != '\\') {
                        s->text[w++] = c;
                        continue;
                }
                c = s->at < s->len ? s->text[s->at++] : '\0';
                p = c != '\0' ? strchr(FROM, c) : NULL;
                if (p != NULL) {
                        s->text[w++] = TO[p - FROM];
                        continue;
                }
                if (c != 'u')
                        return bad(s, "unknown escape");
                r = unicode(s, &w);
                if (r < 0)
                        return r;
        }
        *ret = (struct slice){.s = s->text + start, .len = w - start};
        return 0;
}

static int integer(struct scan *s, uint64_t *ret)
{
        uint64_t v = 0;
        size_t start;

        (void)peek(s);
        start = s->at;
        while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9') {
                if (__builtin_mul_overflow(v, (uint64_t)10, &v) ||
                    __builtin_add_overflow(v, (uint64_t)(s->text[s->at] - '0'), &v))
                        return bad(s, "number too large");
                s->at++;
        }
        if (s->at == start || (s->text[start] == '0' && s->at - start > 1) ||
            (s->at < s->len && strchr(".eE", s->text[s->at]) != NULL))
                return bad(s, "whole number expected");
        if (v > INT64_MAX)
                return bad(s, "number too large");
        *ret = v;
        return 0;
}

static bool is(struct slice a, const char *b)
{
        return a.len == strlen(b) && memcmp(a.s, b, a.len) == 0;
}

static int skip_scalar(struct scan *s)
{
        static const char *const WORDS[] = {"true", "false", "null"};
        struct slice ignored;
        size_t start;

        if (peek(s) == '"')
                return string(s, &ignored);
        start = s->at;
        for (size_t i = 0; i < ARRAY_LEN(WORDS); i++) {
                size_t n = strlen(WORDS[i]);

                if (s->len - s->at >= n && memcmp(s->text + s->at, WORDS[i], n) == 0) {
                        s->at += n;
                        return 0;
                }
        }
        while (s->at < s->len && s->text[s->at] != 0 &&
               strchr("+-.0123456789eE", s->text[s->at]) != NULL)
                s->at++;
        return s->at > start ? 0 : bad(s, "value expected");
}

/* A member that the format does not know; the reference reader ignores it too. */
static int skip_value(struct scan *s, int depth)
{
        char open = peek(s), close = open == '{' ? '}' : ']';
        struct slice key;
        int r = 0;

        if (open != '{' && open != '[')
                return skip_scalar(s);
        if (depth == DEPTH_MAX)
                return bad(s, "nested too deeply");
        s->at++;
        for (bool first = true; peek(s) != close; first = false) {
                if (!first)
                        r = expect(s, ',');
                if (r == 0 && open == '{') {
                        r = string(s, &key);
                        if (r == 0)
                                r = expect(s, ':');
                }
                if (r == 0)
                        r = skip_value(s, depth + 1);
                if (r < 0)
                        return r;
        }
        s->at++;
        return 0;
}

static int numbers(struct scan *s, int64_t *ret, size_t max, size_t *ret_n)
{
        size_t n = 0;
        int r = expect(s, '[');

        while (r == 0 && peek(s) != ']') {
                uint64_t v = 0;

                if (n == max)
                        return bad(s, "list too long");
                if (n > 0)
                        r = expect(s, ',');
                if (r == 0)
                        r = integer(s, &v);
                if (r == 0)
                        ret[n++] = (int64_t)v;
        }
        if (r == 0) {
                s->at++;
                *ret_n = n;
        }
        return r;
}

struct tensor_in {
        struct slice dtype;
        int64_t dims[MLC_FORMAT_RANK_MAX], offsets[2];
        size_t n_dims, n_offsets;
        bool has_dtype, has_shape, has_offsets;
};

static int tensor_member(struct scan *s, struct tensor_in *t)
{
        struct slice key;
        bool *seen;
        int r = string(s, &key);

        if (r < 0)
                return r;
        r = expect(s, ':');
        if (r < 0)
                return r;
        seen = is(key, "dtype")          ? &t->has_dtype
               : is(key, "shape")        ? &t->has_shape
               : is(key, "data_offsets") ? &t->has_offsets
                                         : NULL;
        if (seen == NULL)
                return skip_value(s, 0);
        if (*seen)
                return bad(s, "duplicate key");
        *seen = true;
        if (seen == &t->has_dtype)
                return string(s, &t->dtype);
        if (seen == &t->has_shape)
                return numbers(s, t->dims, MLC_FORMAT_RANK_MAX, &t->n_dims);
        r = numbers(s, t->offsets, 2, &t->n_offsets);
        return r == 0 && t->n_offsets != 2 ? bad(s, "data_offsets needs two numbers") : r;
}

static int check_size(struct header *h, const struct tensor_in *t, const char **ret_dtype)
{
        uint64_t elements, bits;
        size_t i = 0;

        while (i < ARRAY_LEN(DTYPES) && !is(t->dtype, DTYPES[i].name))
                i++;
        if (i == ARRAY_LEN(DTYPES))
                return bad(&h->s, "unknown dtype");
        if (!fmt_product(t->dims, t->n_dims, &elements) ||
            __builtin_mul_overflow(elements, (uint64_t)DTYPES[i].bits, &bits))
                return bad(&h->s, "shape overflows");
        if (bits % 8 != 0)
                return bad(&h->s, "tensor does not end at a byte");
        if (t->offsets[1] < t->offsets[0])
                return bad(&h->s, "data_offsets run backwards");
        if ((uint64_t)(t->offsets[1] - t->offsets[0]) != bits / 8)
                return bad(&h->s, "data_offsets do not match dtype and shape");
        fmt_add_precision(h->s.f, DTYPES[i].precision);
        *ret_dtype = DTYPES[i].name;
        return 0;
}

static int add_row(struct header *h, const struct tensor_in *t)
{
        if (h->n == h->size) {
                struct tensor_row *p;

                h->size = h->size == 0 ? 64 : h->size * 2;
                p = realloc(h->rows, h->size * sizeof(*p));
                if (p == NULL)
                        abort();
                h->rows = p;
        }
        h->rows[h->n++] = (struct tensor_row){.begin = (uint64_t)t->offsets[0],
                                              .end = (uint64_t)t->offsets[1]};
        return 0;
}

static int tensor(struct header *h, struct slice name)
{
        struct mlc_format_tensor out = {0};
        struct tensor_in t = {0};
        size_t at = h->s.at;
        const char *shown;
        int r = expect(&h->s, '{');

        for (bool first = true; r == 0 && peek(&h->s) != '}'; first = false) {
                if (!first)
                        r = expect(&h->s, ',');
                if (r == 0)
                        r = tensor_member(&h->s, &t);
        }
        if (r < 0)
                return r;
        h->s.at++;
        if (!t.has_dtype || !t.has_shape || !t.has_offsets)
                return bad(&h->s, "a tensor needs dtype, shape and data_offsets");
        r = check_size(h, &t, &out.dtype);
        if (r < 0)
                return r;
        shown = h->s.f->info->n_tensors_kept < MLC_FORMAT_TENSORS_KEPT
                        ? fmt_text(h->s.f, name.s, name.len)
                        : "";
        if (shown == NULL)
                return h->s.f->err->code;
        out.name = shown;
        out.dims = t.dims;
        out.n_dims = t.n_dims;
        r = fmt_tensor(h->s.f, &out, 8 + at);
        return r < 0 ? r : add_row(h, &t);
}

static int metadata(struct header *h)
{
        struct fmt *f = h->s.f;
        struct fmt_names keys;
        struct slice k, v;
        int r = expect(&h->s, '{');

        fmt_names_init(&keys);
        for (bool first = true; r == 0 && peek(&h->s) != '}'; first = false) {
                if (!first)
                        r = expect(&h->s, ',');
                if (r == 0)
                        r = string(&h->s, &k);
                if (r == 0)
                        r = expect(&h->s, ':');
                if (r == 0)
                        r = string(&h->s, &v);
                if (r == 0)
                        r = fmt_names_add(f, &keys, k.s, k.len);
                if (r == 0)
                        r = fmt_meta(f, k.s, k.len, v.s, v.len);
        }
        if (r == 0) {
                h->s.at++;
                if (fmt_names_twin(&keys) != NULL)
                        r = bad(&h->s, "duplicate key in __metadata__");
        }
        fmt_names_done(&keys);
        return r;
}

static int parse_header(struct header *h)
{
        int r = expect(&h->s, '{');

        for (bool first = true; r == 0 && peek(&h->s) != '}'; first = false) {
                struct slice name;

                if (!first)
                        r = expect(&h->s, ',');
                if (r == 0)
                        r = string(&h->s, &name);
                if (r == 0)
                        r = expect(&h->s, ':');
                if (r == 0)
                        r = fmt_names_add(h->s.f, &h->names, name.s, name.len);
                if (r == 0)
                        r = is(name, "__metadata__") ? metadata(h) : tensor(h, name);
        }
        if (r < 0)
                return r;
        h->s.at++;
        while (h->s.at < h->s.len && h->s.text[h->s.at] == ' ')
                h->s.at++;
        if (h->s.at != h->s.len)
                return bad(&h->s, "data after the JSON object");
        if (fmt_names_twin(&h->names) != NULL)
                return bad(&h->s, "duplicate key");
        return 0;
}

static int by_begin(const void *a, const void *b)
{
        const struct tensor_row *x = a, *y = b;

        if (x->begin != y->begin)
                return x->begin < y->begin ? -1 : 1;
        return x->end < y->end ? -1 : x->end > y->end;
}

/* No holes, no overlap, nothing after the last one. */
static int check_layout(struct header *h, uint64_t file_size)
{
        uint64_t at = 0, start = 8 + h->s.len;

        if (h->n > 1)
                qsort(h->rows, h->n, sizeof(*h->rows), by_begin);
        for (size_t i = 0; i < h->n; i++) {
                if (h->rows[i].begin != at)
                        return fmt_malformed(h->s.f, start + at, "tensors %s",
                                             h->rows[i].begin > at ? "leave a hole" : "overlap");
                at = h->rows[i].end;
        }
        if (at != file_size - start)
                return fmt_malformed(h->s.f, start, "tensors end at byte %llu of %llu",
                                     (unsigned long long)at,
                                     (unsigned long long)(file_size - start));
        return 0;
}

int fmt_safetensors(struct fmt *f, const struct mlc_reader *r)
{
        struct header h = {.s = {.f = f}};
        _cleanup_(free_p) char *text = NULL;
        unsigned char b[8];
        uint64_t n;
        int rc;

        if (r->size < 8)
                return fmt_malformed(f, 0, "file is shorter than 8 bytes");
        rc = fmt_pread(f, r, b, sizeof(b), 0);
        if (rc < 0)
                return rc;
        n = fmt_le(b, 8);
        if (n > 100000000 || n > r->size - 8)
                return fmt_malformed(f, 0, "header of %llu bytes does not fit",
                                     (unsigned long long)n);
        if (n > HEADER_MAX)
                return fmt_stop(f, "header of %llu bytes is too large to look into",
                                (unsigned long long)n);
        text = malloc((size_t)n + 1);
        if (text == NULL)
                abort();
        rc = fmt_pread(f, r, text, (size_t)n, 8);
        if (rc < 0)
                return rc;
        text[n] = '\0';
        if (!mlc_utf8_valid(text, (size_t)n))
                return fmt_malformed(f, 8, "header is not valid UTF-8");
        if (text[0] != '{')
                return fmt_malformed(f, 8, "header does not begin with '{'");
        h.s.text = text;
        h.s.len = (size_t)n;
        f->info->data_offset = 8 + n;
        fmt_names_init(&h.names);
        rc = parse_header(&h);
        if (rc == 0)
                rc = check_layout(&h, r->size);
        fmt_names_done(&h.names);
        free(h.rows);
        return rc;
}
