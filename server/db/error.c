/* SPDX-License-Identifier: Apache-2.0 */
#include "base/str.h"
#include "db/conn.h"

/* SQLSTATE, or a class of them, and what it means to the caller */
static const struct {
        const char *prefix;
        int code;
} CODES[] = {
        {"23502", MLC_E_INTERNAL}, /* not null: a bug of ours */
        {"23", MLC_E_CONFLICT}, /* unique, foreign key, check, exclusion */
        {"40", MLC_E_CONFLICT}, /* serialization failure, deadlock */
        {"P0001", MLC_E_CONFLICT}, /* raised by a trigger */
        {"08", MLC_E_UNAVAILABLE}, /* connection */
        {"53100", MLC_E_NO_SPACE}, /* disk full */
        {"53", MLC_E_UNAVAILABLE}, /* insufficient resources */
        {"55P03", MLC_E_UNAVAILABLE}, /* lock timeout */
        {"57", MLC_E_UNAVAILABLE}, /* statement timeout, shutdown, starting up */
};

static int code_of(const char *sqlstate)
{
        for (size_t i = 0; i < sizeof(CODES) / sizeof(CODES[0]); i++)
                if (mlc_starts_with(sqlstate, CODES[i].prefix))
                        return CODES[i].code;
        return MLC_E_INTERNAL;
}

int db_error(struct mlc_err *err, const PGresult *res, const char *what)
{
        const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
        const char *text = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY);
        const char *field = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME);
        int code;

        if (err == NULL || err->code != 0)
                return err == NULL ? MLC_E_INTERNAL : err->code;
        if (state == NULL) /* made by libpq itself: the connection is gone */
                return mlc_fail(err, MLC_E_UNAVAILABLE, "the database is not available: \"%s\"",
                                what);
        code = code_of(state);
        (void)mlc_fail_field(err, code, field == NULL ? "" : field, "%s: %s", what,
                             text == NULL ? "failed" : text);
        (void)snprintf(err->sqlstate, sizeof(err->sqlstate), "%s", state);
        return code;
}
