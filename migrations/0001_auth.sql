-- SPDX-License-Identifier: Apache-2.0
-- Who may do what: people and services, their roles, tokens, invitations and SSH keys.

create table app_user (
        id              text primary key check (id ~ '^u[0-9a-f]{12}$'),
        kind            text not null check (kind in ('person', 'service')),
        owner           text references app_user (id),
        name            text unique check (length(name) between 1 and 64),
        name_commitment text not null,
        status          text not null default 'active' check (status in ('active', 'disabled', 'erased')),
        created         timestamptz not null default now(),
        check ((kind = 'service') = (owner is not null)),
        check ((status = 'erased') = (name is null))
);

create table role_grant (
        user_id text not null references app_user (id),
        role    text not null
                check (role in ('contributor', 'evaluator', 'approver', 'operator', 'auditor', 'admin')),
        ns      text not null,
        created timestamptz not null default now(),
        primary key (user_id, role, ns)
);

-- Tokens are random; only their SHA-256 is kept. scope: sorted 'role@ns', null = all that the user may.
create table token (
        id      text primary key check (id ~ '^t[0-9a-f]{12}$'),
        user_id text not null references app_user (id),
        hash    bytea not null unique check (length(hash) = 32),
        scope   text[],
        expires timestamptz,
        revoked boolean not null default false,
        created timestamptz not null default now()
);
create index token_user on token (user_id, id);

-- One invitation at a time for a person; single use.
create table invite (
        user_id text primary key references app_user (id),
        hash    bytea not null unique check (length(hash) = 32),
        expires timestamptz not null
);

-- A public key belongs to one person for ever: rows are revoked, never deleted or moved.
create table ssh_key (
        id          text primary key check (id ~ '^k[0-9a-f]{12}$'),
        user_id     text not null references app_user (id),
        type        text not null,
        public      text not null unique,
        fingerprint text not null unique,
        revoked     boolean not null default false,
        created     timestamptz not null default now()
);
create index ssh_key_user on ssh_key (user_id, id);

create function auth_time(t timestamptz) returns text language sql stable as
$$ select to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create view auth_state as
select 'user' as object_kind, id,
       json_build_object('kind', kind, 'owner', owner, 'name_commitment', name_commitment,
                         'status', status)::text as state
from app_user
union all
select 'role', user_id || '/' || role || '@' || ns,
       json_build_object('user', user_id, 'role', role, 'namespace', ns)::text
from role_grant
union all
select 'token', id,
       json_build_object('user', user_id, 'scope', scope, 'expires', auth_time(expires),
                         'verifier', 'sha256:' || encode(sha256(hash), 'hex'), 'revoked', revoked)::text
from token
union all
select 'key', id,
       json_build_object('user', user_id, 'type', type, 'public', public, 'fingerprint', fingerprint,
                         'revoked', revoked)::text
from ssh_key;
