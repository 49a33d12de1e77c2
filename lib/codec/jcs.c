/* SPDX-License-Identifier: Apache-2.0 */
#include "codec/jcs.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/cleanup.h"
#include "codec/utf8.h"

struct out {
        struct mlc_str *s;
        bool reals; /* numbers that are not integers may appear */
        struct mlc_err *err;
};

static void emit_string(struct out *o, const char *s, size_t len)
{
        static const char short_form[32] = {
                ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};

        mlc_str_addc(o->s, '"');
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)s[i];

                if (c == '"' || c == '\\')
                        mlc_str_addc(o->s, '\\');
                if (c >= 0x20)
                        mlc_str_addc(o->s, (char)c);
                else if (short_form[c] != 0)
                        mlc_str_addf(o->s, "\\%c", short_form[c]);
                else
                        mlc_str_addf(o->s, "\\u%04x", c);
        }
        mlc_str_addc(o->s, '"');
}

/* The shortest digits that read back as v, without a point, and the decimal exponent: the value is
 * 0.DIGITS times 10^exponent. v is finite and positive. */
static void shortest_digits(double v, char digits[20], int *ret_exponent)
{
        char text[40], *e;
        size_t n = 0;

        for (int precision = 1; precision <= 17; precision++) {
                (void)snprintf(text, sizeof(text), "%.*e", precision - 1, v);
                if (strtod(text, NULL) == v)
                        break;
        }
        e = strchr(text, 'e');
        assert(e != NULL);
        *ret_exponent = (int)strtol(e + 1, NULL, 10) + 1;
        for (const char *p = text; p < e; p++)
                if (*p >= '0' && *p <= '9')
                        digits[n++] = *p;
        while (n > 1 && digits[n - 1] == '0')
                n--;
        digits[n] = '\0';
}

/* ECMAScript's Number::toString, section 6.1.6.1.20. */
static int emit_real(struct out *o, double v)
{
        char d[20];
        int k, n;

        if (!isfinite(v))
                return mlc_fail(o->err, MLC_E_INVALID, "number is not finite");
        if (v == 0) {
                mlc_str_addc(o->s, '0'); /* minus zero too */
                return 0;
        }
        if (v < 0)
                mlc_str_addc(o->s, '-');
        shortest_digits(fabs(v), d, &n);
        k = (int)strlen(d);
        if (n >= k && n <= 21)
                mlc_str_addf(o->s, "%s%.*s", d, n - k, "000000000000000000000");
        else if (n > 0 && n <= 21)
                mlc_str_addf(o->s, "%.*s.%s", n, d, d + n);
        else if (n > -6 && n <= 0)
                mlc_str_addf(o->s, "0.%.*s%s", -n, "000000", d);
        else
                mlc_str_addf(o->s, "%c%s%se%+d", d[0], k > 1 ? "." : "", d + 1, n - 1);
        return 0;
}

static int emit_integer(struct out *o, json_int_t v)
{
        if (v > MLC_JCS_INT_MAX || v < -MLC_JCS_INT_MAX)
                return mlc_fail(o->err, MLC_E_INVALID,
                                "integer %lld is beyond 2^53 - 1: write it as a string",
                                (long long)v);
        mlc_str_addf(o->s, "%lld", (long long)v);
        return 0;
}

/* UTF-16 puts surrogates (characters from U+10000) below U+E000..U+FFFF; otherwise the order of
 * code points is that of code units. */
static int compare_keys(const void *a, const void *b)
{
        const char *s = *(const char *const *)a, *t = *(const char *const *)b;
        size_t n = strlen(s), m = strlen(t);

        while (n > 0 && m > 0) {
                uint32_t c = 0, d = 0;
                size_t i = mlc_utf8_next(s, n, &c), j = mlc_utf8_next(t, m, &d);

                assert(i > 0 && j > 0); /* jansson holds valid UTF-8 only */
                if (c != d) {
                        if ((c >= 0x10000) != (d >= 0x10000)) {
                                uint32_t c1 = c >= 0x10000 ? 0xd800 : c;
                                uint32_t d1 = d >= 0x10000 ? 0xd800 : d;

                                return c1 < d1 ? -1 : 1;
                        }
                        return c < d ? -1 : 1;
                }
                s += i, n -= i;
                t += j, m -= j;
        }
        return (n > 0) - (m > 0);
}

static int emit(struct out *o, const json_t *j, unsigned depth);

static int emit_array(struct out *o, const json_t *j, unsigned depth)
{
        size_t n = json_array_size(j);

        mlc_str_addc(o->s, '[');
        for (size_t i = 0; i < n; i++) {
                int r;

                if (i > 0)
                        mlc_str_addc(o->s, ',');
                r = emit(o, json_array_get(j, i), depth + 1);
                if (r < 0)
                        return r;
        }
        mlc_str_addc(o->s, ']');
        return 0;
}

static int emit_object(struct out *o, const json_t *j, unsigned depth)
{
        _cleanup_(free_p) const char **keys = NULL;
        size_t n = json_object_size(j), i = 0;
        const char *key;
        json_t *v;

        keys = calloc(n + 1, sizeof(*keys));
        if (keys == NULL)
                abort();
        json_object_foreach ((json_t *)(uintptr_t)j, key, v)
                keys[i++] = key;
        assert(i == n);
        qsort(keys, n, sizeof(*keys), compare_keys);
        mlc_str_addc(o->s, '{');
        for (i = 0; i < n; i++) {
                int r;

                if (i > 0)
                        mlc_str_addc(o->s, ',');
                emit_string(o, keys[i], strlen(keys[i]));
                mlc_str_addc(o->s, ':');
                r = emit(o, json_object_get(j, keys[i]), depth + 1);
                if (r < 0)
                        return r;
        }
        mlc_str_addc(o->s, '}');
        return 0;
}

static int emit(struct out *o, const json_t *j, unsigned depth)
{
        if (depth > MLC_JCS_DEPTH_MAX)
                return mlc_fail(o->err, MLC_E_LIMIT, "JSON is nested deeper than %d",
                                MLC_JCS_DEPTH_MAX);
        switch (json_typeof(j)) {
        case JSON_OBJECT:
                return emit_object(o, j, depth);
        case JSON_ARRAY:
                return emit_array(o, j, depth);
        case JSON_STRING:
                emit_string(o, json_string_value(j), json_string_length(j));
                return 0;
        case JSON_INTEGER:
                return emit_integer(o, json_integer_value(j));
        case JSON_REAL:
                if (!o->reals)
                        return mlc_fail(o->err, MLC_E_INVALID,
                                        "number %g is no integer: write it as a decimal string",
                                        json_real_value(j));
                return emit_real(o, json_real_value(j));
        case JSON_TRUE:
                mlc_str_add(o->s, "true");
                return 0;
        case JSON_FALSE:
                mlc_str_add(o->s, "false");
                return 0;
        case JSON_NULL:
                mlc_str_add(o->s, "null");
                return 0;
        }
        return mlc_fail(o->err, MLC_E_INTERNAL, "unknown JSON type");
}

int mlc_jcs(const json_t *j, struct mlc_str *ret, struct mlc_err *err)
{
        struct out o = {.s = ret, .reals = true, .err = err};
        int r = emit(&o, j, 0);

        return r < 0 ? r : mlc_str_check(ret, err);
}

int mlc_jcs_signed(const json_t *j, struct mlc_str *ret, struct mlc_err *err)
{
        struct out o = {.s = ret, .reals = false, .err = err};
        int r = emit(&o, j, 0);

        return r < 0 ? r : mlc_str_check(ret, err);
}
