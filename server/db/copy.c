/* SPDX-License-Identifier: Apache-2.0 */
/* The contents of one database into the cluster of another, with PostgreSQL's own tools. */
#include <unistd.h>

#include "app.h"
#include "base/run.h"
#include "db/cluster_priv.h"

int db_cluster_load(struct app *to, const char *from_conninfo, const char *snapshot,
                    struct mlc_err *err)
{
        const struct db_cluster *c = to->cluster;
        char dump[CLUSTER_PATH_MAX + 16], file[CLUSTER_PATH_MAX + 32], which[128];
        char pg_dump[300], pg_restore[300];
        const char *const dump_argv[] = {pg_dump, "--format=custom", "--no-owner", file, which,
                                         "-d",    from_conninfo,     NULL};
        const char *const restore_argv[] = {pg_restore,
                                            "--no-owner",
                                            "--exit-on-error",
                                            "--single-transaction",
                                            "-d",
                                            c->conninfo,
                                            dump,
                                            NULL};
        int r;

        (void)snprintf(dump, sizeof(dump), "%s/database.dump", to->config.data);
        (void)snprintf(file, sizeof(file), "--file=%s", dump);
        (void)snprintf(which, sizeof(which), "--snapshot=%s", snapshot);
        (void)snprintf(pg_dump, sizeof(pg_dump), "%s/pg_dump", c->bin);
        (void)snprintf(pg_restore, sizeof(pg_restore), "%s/pg_restore", c->bin);
        r = mlc_run(dump_argv, err);
        if (r == 0)
                r = mlc_run(restore_argv, err);
        (void)unlink(dump);
        return r;
}
