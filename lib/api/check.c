/* SPDX-License-Identifier: Apache-2.0 */
#include "api/check.h"

#include <assert.h>
#include <math.h>

#include "base/clock.h"
#include "base/str.h"
#include "codec/digest.h"
#include "codec/ref.h"

#define USER_NAME_MAX 64

int api_patterns_init(struct api_patterns *p, const char *const *text, unsigned n,
                      struct mlc_err *err)
{
        struct api_patterns made = {.text = text, .re = calloc(n + 1, sizeof(regex_t))};

        assert(made.re != NULL);
        for (; made.n < n; made.n++) {
                const char *pattern = text[made.n];
                int r = regcomp(&made.re[made.n], pattern, REG_EXTENDED | REG_NOSUB);

                if (r != 0) {
                        char why[128];

                        (void)regerror(r, &made.re[made.n], why, sizeof(why));
                        api_patterns_done(&made);
                        return mlc_fail(err, MLC_E_INTERNAL, "pattern '%s': %s", pattern, why);
                }
        }
        *p = made;
        return 0;
}

void api_patterns_done(struct api_patterns *p)
{
        for (unsigned i = 0; i < p->n; i++)
                regfree(&p->re[i]);
        free(p->re);
        *p = (struct api_patterns){0};
}

static int invalid(const struct api_at *at, const char *message)
{
        return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "%s", message);
}

int api_check_len(const struct api_at *at, const struct api_schema *s, size_t n, const char *what)
{
        if (n < s->min_len)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field,
                                      "has %zu %s, at least %u are needed", n, what, s->min_len);
        if (n > s->max_len)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field,
                                      "has %zu %s, at most %u are allowed", n, what, s->max_len);
        return 0;
}

static size_t characters(const char *text)
{
        size_t n = 0;

        for (; *text != '\0'; text++)
                n += ((unsigned char)*text & 0xc0) != 0x80;
        return n;
}

static bool is_user_name(const char *s)
{
        size_t n = strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789._@+-");

        return n > 0 && n <= USER_NAME_MAX && s[n] == '\0' && strchr("._@+-", s[0]) == NULL &&
               strchr("._@+-", s[n - 1]) == NULL;
}

static bool is_uuid(const char *s)
{
        static const char SHAPE[] = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
        size_t i;

        for (i = 0; SHAPE[i] != '\0'; i++)
                if (s[i] == '\0' ||
                    (SHAPE[i] == '-' ? s[i] != '-' : strchr("0123456789abcdef", s[i]) == NULL))
                        return false;
        return s[i] == '\0';
}

/* The names' own rules, with their messages. */
static int check_named(const struct api_at *at, enum api_format format, const char *text)
{
        struct mlc_err why = {0};
        struct mlc_digest digest;
        int r;

        if (format == API_FORMAT_NAMESPACE)
                r = mlc_namespace_check(text, &why);
        else if (format == API_FORMAT_MODEL_NAME)
                r = mlc_model_check(text, &why);
        else if (format == API_FORMAT_ALIAS)
                r = mlc_alias_check(text, &why);
        else
                r = mlc_digest_parse(text, &digest, &why);
        return r < 0 ? invalid(at, why.msg) : 0;
}

static int check_format(const struct api_at *at, enum api_format format, const char *text)
{
        int64_t ms;

        switch (format) {
        case API_FORMAT_NONE:
                return 0;
        case API_FORMAT_DATE_TIME:
                return strchr(text, 'T') != NULL && mlc_time_parse(text, &ms)
                               ? 0
                               : invalid(at, "must be an RFC 3339 time like 2026-11-24T10:00:00Z");
        case API_FORMAT_USER_NAME:
                return is_user_name(text) ? 0
                                          : invalid(at, "must be lower-case letters, digits and "
                                                        "._@+- between them");
        case API_FORMAT_UUID:
                return is_uuid(text) ? 0 : invalid(at, "must be a UUID in lower case");
        case API_FORMAT_SHA256_DIGEST:
        case API_FORMAT_NAMESPACE:
        case API_FORMAT_MODEL_NAME:
        case API_FORMAT_ALIAS:
                return check_named(at, format, text);
        }
        return 0;
}

static int check_enum(const struct api_at *at, const struct api_schema *s, const char *text)
{
        struct mlc_str list;
        int r;

        for (const char *const *e = s->enums; *e != NULL; e++)
                if (strcmp(*e, text) == 0)
                        return 0;
        mlc_str_init(&list, 400);
        for (const char *const *e = s->enums; *e != NULL; e++)
                mlc_str_addf(&list, "%s%s", e == s->enums ? "" : ", ", *e);
        r = mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be one of: %s",
                           mlc_str_cstr(&list));
        mlc_str_done(&list);
        return r;
}

int api_check_string(const struct api_at *at, const struct api_schema *s, const char *text)
{
        int r = api_check_len(at, s, characters(text), "characters");

        if (r < 0)
                return r;
        if (s->enums != NULL)
                return check_enum(at, s, text);
        if (s->pattern >= 0) {
                assert((unsigned)s->pattern < at->d->patterns->n);
                if (regexec(&at->d->patterns->re[s->pattern], text, 0, NULL, 0) != 0)
                        return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must match %s",
                                              at->d->patterns->text[s->pattern]);
        }
        return check_format(at, s->format, text);
}

int api_check_int(const struct api_at *at, const struct api_schema *s, int64_t n)
{
        if (n < s->int_min)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be at least %lld",
                                      (long long)s->int_min);
        if (n > s->int_max)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be at most %lld",
                                      (long long)s->int_max);
        return 0;
}

int api_check_number(const struct api_at *at, const struct api_schema *s, double n)
{
        if (!isfinite(n))
                return invalid(at, "must be a finite number");
        if (n < s->min)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be at least %.9g",
                                      s->min);
        if (n > s->max)
                return mlc_fail_field(at->d->err, MLC_E_INVALID, at->field, "must be at most %.9g",
                                      s->max);
        return 0;
}
