-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/db itself: the record of migrations, session locks and notifications.

-- name: db_migration_table
CREATE TABLE IF NOT EXISTS schema_migration (
        version    integer PRIMARY KEY,
        name       text NOT NULL,
        sha256     text NOT NULL CHECK (sha256 ~ '^[0-9a-f]{64}$'),
        applied_at timestamptz NOT NULL DEFAULT now()
);

-- name: db_migration_table_exists
SELECT to_regclass('schema_migration') IS NOT NULL;

-- name: db_migration_list
SELECT version, name, sha256 FROM schema_migration ORDER BY version;

-- name: db_migration_insert
INSERT INTO schema_migration (version, name, sha256) VALUES ($1::int, $2::text, $3::text);

-- name: db_lock_wait
SELECT pg_advisory_lock($1::bigint);

-- name: db_lock_try
SELECT pg_try_advisory_lock($1::bigint);

-- name: db_lock_held
SELECT 1;
