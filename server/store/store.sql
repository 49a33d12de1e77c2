-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/store. Digests travel as bytea of 32 bytes.

-- name: store_has
select b.size from repo_blob r join blob b using (digest) where r.repo = $1 and r.digest = $2

-- name: store_lock_shared
-- Against the sweep, which removes a file only while it holds the same lock alone.
select pg_advisory_xact_lock_shared(hashtextextended('blob ' || encode($1, 'hex'), 0))

-- name: store_lock_exclusive
select pg_advisory_xact_lock(hashtextextended('blob ' || encode($1, 'hex'), 0))

-- name: store_blob_insert
insert into blob (digest, size) values ($1, $2) on conflict do nothing

-- name: store_repo_insert
insert into repo_blob (repo, digest) values ($1, $2) on conflict do nothing

-- name: store_namespaces_with
-- Where a blob is present, for a mount that names no source.
select distinct split_part(repo, '/', 1) from repo_blob where digest = $1

-- name: store_has_row
select size from blob where digest = $1

-- name: store_blobs_after
select encode(digest, 'hex'), size from blob where digest > $1 order by digest limit 1000

-- name: store_blobs_between
select encode(digest, 'hex') from blob where digest between $1 and $2
