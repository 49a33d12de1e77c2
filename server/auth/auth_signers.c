/* SPDX-License-Identifier: Apache-2.0 */
#include "auth/auth.h"
#include "base/cleanup.h"
#include "crypto/sshsig.h"
#include "gen/auth.sql.h"

int auth_allowed_signers(struct mlc_ctx *ctx, struct mlc_str *ret)
{
        _cleanup_(db_tx_done) struct db_tx tx = {0};
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r;

        r = db_tx_begin_read(ctx, &tx);
        if (r < 0)
                return r;
        r = db_run0(&tx, SQL_AUTH_ALLOWED_SIGNERS, &rows);
        if (r < 0)
                return r;
        /* no valid-after: what is signed carries the time at which it was shown, and the key may be
         * registered a moment later */
        for (int i = 0; i < rows.n; i++) {
                mlc_str_addf(ret, "%s namespaces=\"" MLC_SSHSIG_NS_APPROVAL "\"",
                             db_text(&rows, i, 0));
                if (!db_is_null(&rows, i, 3))
                        mlc_str_addf(ret, ",valid-before=\"%s\"", db_text(&rows, i, 3));
                mlc_str_addf(ret, " %s %s\n", db_text(&rows, i, 1), db_text(&rows, i, 2));
        }
        return mlc_str_check(ret, &ctx->err);
}
