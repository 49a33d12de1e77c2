/* SPDX-License-Identifier: Apache-2.0 */
#include "gen/store.sql.h"
#include "store/store_internal.h"

int store_db_repo_size(struct db_tx *tx, const char *repo, const struct mlc_digest *d, int64_t *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_STORE_HAS, &rows, DB_TEXT(repo), DB_BYTES(d->b, sizeof(d->b)));

        if (r == 0)
                *ret = rows.n > 0 ? db_int(&rows, 0, 0) : -1;
        return r;
}

int store_db_size(struct db_tx *tx, const struct mlc_digest *d, int64_t *ret)
{
        _cleanup_(db_rows_done) struct db_rows rows = {0};
        int r = db_run(tx, SQL_STORE_HAS_ROW, &rows, DB_BYTES(d->b, sizeof(d->b)));

        if (r == 0)
                *ret = rows.n > 0 ? db_int(&rows, 0, 0) : -1;
        return r;
}

int store_db_lock(struct db_tx *tx, const struct mlc_digest *d, bool exclusive)
{
        if (exclusive)
                return db_run(tx, SQL_STORE_LOCK_EXCLUSIVE, NULL, DB_BYTES(d->b, sizeof(d->b)));
        return db_run(tx, SQL_STORE_LOCK_SHARED, NULL, DB_BYTES(d->b, sizeof(d->b)));
}

int store_db_insert(struct db_tx *tx, const char *repo, const struct mlc_digest *d, uint64_t size)
{
        int r = db_run(tx, SQL_STORE_BLOB_INSERT, NULL, DB_BYTES(d->b, sizeof(d->b)),
                       DB_INT((int64_t)size));

        if (r < 0)
                return r;
        return db_run(tx, SQL_STORE_REPO_INSERT, NULL, DB_TEXT(repo), DB_BYTES(d->b, sizeof(d->b)));
}

int store_db_namespaces(struct db_tx *tx, const struct mlc_digest *d, struct db_rows *ret)
{
        return db_run(tx, SQL_STORE_NAMESPACES_WITH, ret, DB_BYTES(d->b, sizeof(d->b)));
}

int store_db_blobs_after(struct db_tx *tx, const struct mlc_digest *after, struct db_rows *ret)
{
        /* the first page starts before every digest, an all-zero one included */
        size_t len = after != NULL ? sizeof(after->b) : 0;

        return db_run(tx, SQL_STORE_BLOBS_AFTER, ret,
                      DB_BYTES(after != NULL ? (const void *)after->b : "", len));
}

int store_db_blobs_between(struct db_tx *tx, unsigned first_byte, struct db_rows *ret)
{
        struct mlc_digest lo = {{0}}, hi;

        memset(hi.b, 0xff, sizeof(hi.b));
        lo.b[0] = hi.b[0] = (unsigned char)first_byte;
        return db_run(tx, SQL_STORE_BLOBS_BETWEEN, ret, DB_BYTES(lo.b, sizeof(lo.b)),
                      DB_BYTES(hi.b, sizeof(hi.b)));
}
