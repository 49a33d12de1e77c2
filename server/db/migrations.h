/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* migrations/NNNN_name.sql, made part of the program by lib/api/gen/migrations.py; in ascending
 * order. */
struct db_migration {
        int version;
        const char *name;
        const char *sha256; /* hex, of the file's bytes */
        const char *text;
};

extern const struct db_migration gen_migrations[];
extern const int gen_n_migrations;
