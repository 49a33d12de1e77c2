/* SPDX-License-Identifier: Apache-2.0 */
/* When versions may go live: an environment's windows, by PostgreSQL's clock and time zones. */
#include "gen/promotion.sql.h"
#include "promotion/promotion_internal.h"

#define DURATION_MAX_MS (366LL * 86400000)

/* Fields of a schedule: minute, hour, day, month, weekday. */
#define N_FIELDS 5
static const long LOW[N_FIELDS] = {0, 0, 1, 1, 0};
static const long HIGH[N_FIELDS] = {59, 23, 31, 12, 7};

static const char *text_of(const json_t *obj, const char *key)
{
        return json_string_value(json_object_get(obj, key));
}

static long number(const char **s)
{
        char *end;
        long n = strtol(*s, &end, 10);

        *s = end;
        return n;
}

/* "1-5/2,7" as bits. Its form was checked when the document was read. */
static uint64_t field_bits(const char *s, size_t len, long lo, long hi)
{
        const char *end = s + len;
        uint64_t bits = 0;

        while (s < end) {
                long from = lo, to = hi, step = 1;

                if (*s == '*') {
                        s++;
                } else {
                        from = to = number(&s);
                        if (*s == '-') {
                                s++;
                                to = number(&s);
                        }
                }
                if (*s == '/') {
                        s++;
                        step = number(&s);
                }
                for (long i = from; step > 0 && i >= lo && i <= to && i <= hi; i += step)
                        bits |= UINT64_C(1) << i;
                s += s < end; /* the comma */
        }
        return bits;
}

/* As an array of PostgreSQL. */
static const char *bits_array(struct mlc_ctx *ctx, uint64_t bits)
{
        char text[256] = "{";
        size_t at = 1;

        for (int i = 0; i < 64; i++)
                if ((bits >> i & 1) != 0)
                        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%d",
                                               at > 1 ? "," : "", i);
        (void)snprintf(text + at, sizeof(text) - at, "}");
        return ctx_strdup(ctx, text);
}

static int schedule_open(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *w, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *s = text_of(w, "schedule"), *arrays[N_FIELDS];
        int64_t duration = json_integer_value(json_object_get(w, "duration_ms"));
        bool any[N_FIELDS];
        int r;

        for (size_t i = 0; i < N_FIELDS; i++) {
                size_t len = strcspn(s, " ");
                uint64_t bits = field_bits(s, len, LOW[i], HIGH[i]);

                any[i] = *s == '*';
                if (i == N_FIELDS - 1 && (bits >> 7 & 1) != 0)
                        bits = (bits & ~(UINT64_C(1) << 7)) | 1; /* both 0 and 7 are Sunday */
                arrays[i] = bits_array(ctx, bits);
                if (arrays[i] == NULL)
                        return ctx->err.code;
                s += len;
                s += strspn(s, " ");
        }
        r = db_run(tx, SQL_PROMOTION_WINDOW_SCHEDULE, &rows, DB_TEXT(text_of(w, "zone")),
                   DB_INT(duration < DURATION_MAX_MS ? duration : DURATION_MAX_MS),
                   DB_TEXT(arrays[0]), DB_TEXT(arrays[1]), DB_TEXT(arrays[2]), DB_TEXT(arrays[3]),
                   DB_TEXT(arrays[4]), DB_BOOL(!any[2] && !any[4]));
        if (r < 0)
                return r;
        *ret = db_bool(&rows, 0, 0);
        return 0;
}

static int window_open(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *w, bool *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        if (text_of(w, "schedule") != NULL)
                return schedule_open(ctx, tx, w, ret);
        r = db_run(tx, SQL_PROMOTION_WINDOW_DATES, &rows, DB_TEXT(text_of(w, "from")),
                   DB_TEXT(text_of(w, "to")), DB_TEXT(text_of(w, "zone")));
        if (r < 0)
                return r;
        *ret = db_bool(&rows, 0, 0);
        return 0;
}

static int any_open(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *list, bool *ret)
{
        size_t i;
        const json_t *w;

        *ret = false;
        json_array_foreach (list, i, w) {
                int r = window_open(ctx, tx, w, ret);

                if (r < 0 || *ret)
                        return r;
        }
        return 0;
}

int promotion_window_closed(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *environment,
                            bool *ret)
{
        const json_t *windows = json_object_get(environment, "windows");
        const json_t *allow = json_object_get(windows, "allow");
        bool open = true;
        int r = any_open(ctx, tx, json_object_get(windows, "deny"), ret);

        if (r < 0 || *ret || json_array_size(allow) == 0)
                return r;
        r = any_open(ctx, tx, allow, &open);
        *ret = !open;
        return r;
}

static int check_one(struct mlc_ctx *ctx, struct db_tx *tx, const char *at, const json_t *w)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        const char *zone = text_of(w, "zone");
        int r = db_run(tx, SQL_PROMOTION_ZONE, &rows, DB_TEXT(zone));

        if (r < 0)
                return r;
        if (rows.n == 0)
                return ctx_fail_field(ctx, MLC_E_INVALID, at,
                                      "there is no time zone '%s': name one as in Europe/Berlin",
                                      zone);
        if (json_integer_value(json_object_get(w, "duration_ms")) > DURATION_MAX_MS)
                return ctx_fail_field(ctx, MLC_E_INVALID, at, "a window lasts 366d at most");
        return 0;
}

int promotion_window_check(struct mlc_ctx *ctx, struct db_tx *tx, const json_t *environment)
{
        static const char *const kinds[] = {"allow", "deny"};

        for (size_t k = 0; k < ARRAY_LEN(kinds); k++) {
                const json_t *list = json_object_get(json_object_get(environment, "windows"),
                                                     kinds[k]),
                             *w;
                size_t i;

                json_array_foreach (list, i, w) {
                        const char *at = ctx_printf(ctx, "/windows/%s/%zu", kinds[k], i);
                        int r = at != NULL ? check_one(ctx, tx, at, w) : ctx->err.code;

                        if (r < 0)
                                return r;
                }
        }
        return 0;
}
