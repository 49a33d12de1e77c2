-- SPDX-License-Identifier: Apache-2.0
-- Blobs that are durable on disk, and the repositories in which they are present.

create table blob (
        digest  bytea primary key check (octet_length(digest) = 32),
        size    bigint not null check (size >= 0),
        created timestamptz not null default now()
);

-- repo: 'namespace/model'; it may have blobs before it has a version.
create table repo_blob (
        repo    text not null check (repo ~ '^[^/]+/[^/]+$' and length(repo) <= 201),
        digest  bytea not null references blob (digest),
        created timestamptz not null default now(),
        primary key (repo, digest)
);
create index repo_blob_digest on repo_blob (digest);
