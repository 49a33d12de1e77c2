/* SPDX-License-Identifier: Apache-2.0 */
/* What Prometheus answers to a query. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/utf8.h"
#include "rollout/measure.h"

static const char *text_of(const json_t *obj, const char *key)
{
        const char *s = json_string_value(json_object_get(obj, key));

        return s != NULL ? s : "";
}

/* What came from elsewhere is shown to people: one line, nothing that moves the cursor. */
__attribute__((format(printf, 3, 4))) static void
set(struct measure_value *ret, enum measure_outcome outcome, const char *fmt, ...)
{
        char text[4 * MEASURE_TEXT_MAX];
        const char *s = text;
        size_t n = 0, len;
        va_list ap;

        va_start(ap, fmt);
        (void)vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        len = strlen(text);
        ret->outcome = outcome;
        while (len > 0) {
                uint32_t c = 0;
                size_t k = mlc_utf8_next(s, len, &c);
                bool odd = k == 0 || mlc_utf8_unsafe(c);

                if (n + (odd ? 1 : k) >= sizeof(ret->problem))
                        break;
                if (odd)
                        ret->problem[n++] = '?';
                else
                        memcpy(ret->problem + n, s, k), n += k;
                k = k == 0 ? 1 : k;
                s += k;
                len -= k;
        }
        ret->problem[n] = '\0';
}

/* [time, "value"] */
static void read_sample(const json_t *sample, int64_t now_ms, struct measure_value *ret)
{
        const char *s = json_string_value(json_array_get(sample, 1));
        const json_t *time = json_array_get(sample, 0);
        double d, away = json_number_value(time) - (double)now_ms / 1000.0;
        char *end = NULL;

        if (json_array_size(sample) != 2 || !json_is_number(time) || s == NULL || *s == '\0') {
                set(ret, MEASURE_GARBAGE, "the reply has no sample");
                return;
        }
        errno = 0;
        d = strtod(s, &end);
        if (*end != '\0' || strspn(s, " \t\n") > 0) {
                set(ret, MEASURE_GARBAGE, "the sample '%.40s' is no number", s);
        } else if (fabs(away) > MEASURE_AWAY_MS / 1000.0) {
                set(ret, MEASURE_OLD, "the value is of %.0f s %s", fabs(away),
                    away < 0 ? "ago" : "ahead of this clock");
        } else if (!isfinite(d)) {
                set(ret, MEASURE_NAN, "the value is %.10s", s);
        } else {
                ret->outcome = MEASURE_VALUE;
                (void)snprintf(ret->value, sizeof(ret->value), "%.9g", d);
        }
}

static void read_data(const json_t *data, int64_t now_ms, struct measure_value *ret)
{
        const json_t *result = json_object_get(data, "result");
        const char *type = text_of(data, "resultType");

        if (!json_is_array(result)) {
                set(ret, MEASURE_GARBAGE, "the reply has no result");
                return;
        }
        if (mlc_streq(type, "scalar")) {
                read_sample(result, now_ms, ret);
                return;
        }
        if (!mlc_streq(type, "vector")) {
                set(ret, MEASURE_REFUSED, "the query is of type '%.20s', not an instant value",
                    type);
                return;
        }
        if (json_array_size(result) == 0)
                set(ret, MEASURE_EMPTY, "the query finds no series");
        else if (json_array_size(result) > 1)
                set(ret, MEASURE_SEVERAL, "the query finds several series; aggregate them");
        else
                read_sample(json_object_get(json_array_get(result, 0), "value"), now_ms, ret);
}

void measure_read(const struct measure_reply *in, struct measure_value *ret)
{
        _cleanup_(json_decref_p) json_t *reply = NULL;
        int status = in->status;
        struct mlc_err ignored = {0};

        *ret = (struct measure_value){.outcome = MEASURE_GARBAGE};
        if (mlc_json_parse(in->body, in->len, &reply, &ignored) < 0 || !json_is_object(reply)) {
                set(ret, status == 200 ? MEASURE_GARBAGE : MEASURE_UNAVAILABLE,
                    "Prometheus answers %d, and no JSON", status);
                return;
        }
        if (status == 400 || status == 422)
                set(ret, MEASURE_REFUSED, "Prometheus refuses the query: %.100s",
                    text_of(reply, "error"));
        else if (status != 200)
                set(ret, MEASURE_UNAVAILABLE, "Prometheus answers %d: %.100s", status,
                    text_of(reply, "error"));
        else if (!mlc_streq(text_of(reply, "status"), "success"))
                set(ret, MEASURE_GARBAGE, "Prometheus answers 200, and no success");
        else
                read_data(json_object_get(reply, "data"), in->now_ms, ret);
}
