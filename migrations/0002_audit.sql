-- SPDX-License-Identifier: Apache-2.0
-- The transparency log: rules append to the outbox, the leader sequences. The guarantee is the Merkle tree
-- (lib/tlog); the triggers and revokes here are seat belts.

-- The log and, after a succession, its predecessors. The state is the governed object of kind `log`.
create table audit_origin (
        log_id  integer primary key check (log_id >= 1),
        origin  text not null unique,
        state   jsonb not null,
        created timestamptz not null default now()
);

-- Consumed by DELETE, never by "id > last seen": a lower id may commit later.
create table audit_outbox (
        id        bigserial primary key,
        leaf      bytea not null check (length(leaf) between 2 and 65535),
        leaf_hash bytea not null check (length(leaf_hash) = 32),
        actor     text not null,
        action    text not null,
        kind      text not null,
        object_id text not null,
        model     text,
        time      timestamptz not null
);

create table audit_log (
        log_id    integer not null,
        idx       bigint not null check (idx >= 0),
        leaf      bytea not null,
        leaf_hash bytea not null check (length(leaf_hash) = 32),
        seq_at    timestamptz not null default now(),
        primary key (log_id, idx)
);
create index audit_log_hash on audit_log (leaf_hash);

-- What `audit log` searches; derived from the leaves, except for model, which is only a filter.
create table audit_search (
        log_id    integer not null,
        idx       bigint not null,
        actor     text not null,
        action    text not null,
        kind      text not null,
        object_id text not null,
        model     text,
        time      timestamptz not null,
        primary key (log_id, idx)
);
create index audit_search_actor on audit_search (actor, log_id, idx);
create index audit_search_action on audit_search (action, log_id, idx);
create index audit_search_object on audit_search (kind, object_id, log_id, idx);
create index audit_search_model on audit_search (model, log_id, idx) where model is not null;
create index audit_search_time on audit_search (time);

-- The tree over audit_log: size, root and right edge after the last batch; the leader's epoch fences others.
create table audit_head (
        id       integer primary key check (id = 0),
        log_id   integer not null,
        size     bigint not null check (size >= 0),
        root     bytea not null check (length(root) = 32),
        frontier bytea not null,
        epoch    bigint not null
);

create table audit_checkpoint (
        log_id       integer not null,
        size         bigint not null,
        root         bytea not null check (length(root) = 32),
        note         text not null,
        published_at timestamptz not null default now(),
        primary key (log_id, size)
);

-- Signed git commits that name a checkpoint; each is the governed object of kind `anchor`.
create table audit_anchor (
        seq      bigserial primary key,
        log_id   integer not null,
        oid      text not null unique check (oid ~ '^[0-9a-f]{40}$'),
        size     bigint not null,
        state    jsonb not null,
        bytes    bytea not null,
        created  timestamptz not null default now()
);

-- Personal values behind the commitments that leaves hold; erasable.
create table audit_pii (
        commitment text primary key check (commitment ~ '^sha256:[0-9a-f]{64}$'),
        subject    text not null,
        salt       bytea not null check (length(salt) = 32),
        value      text not null,
        created    timestamptz not null default now()
);
create index audit_pii_subject on audit_pii (subject);

create function audit_refuse() returns trigger language plpgsql as
$$ begin raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege'; end $$;
create trigger audit_log_append_only before update or delete or truncate on audit_log
        for each statement execute function audit_refuse();
create trigger audit_checkpoint_append_only before update or delete or truncate on audit_checkpoint
        for each statement execute function audit_refuse();
create trigger audit_anchor_append_only before update or delete or truncate on audit_anchor
        for each statement execute function audit_refuse();
create trigger audit_outbox_unchanged before update or truncate on audit_outbox
        for each statement execute function audit_refuse();
revoke update, delete, truncate on audit_log, audit_checkpoint, audit_anchor from current_user;
revoke update, truncate on audit_outbox from current_user;
