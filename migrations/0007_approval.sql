-- SPDX-License-Identifier: Apache-2.0
-- Signed decisions about a subject (a promotion, or a change of a protected environment), and those changes.

create sequence approval_number;
create table approval (
        id                text primary key default 'a' || nextval('approval_number'),
        seq               bigint generated always as identity unique,
        subject_kind      text not null check (subject_kind in ('promotion', 'change')),
        subject_id        text not null,
        decision          text not null check (decision in ('approve', 'reject', 'rollback')),
        signer            text not null references app_user (id),
        key_id            text not null references ssh_key (id),
        statement         text not null check (length(statement) between 2 and 65536),
        statement_digest  text not null check (statement_digest ~ '^sha256:[0-9a-f]{64}$'),
        signature         text not null check (length(signature) between 1 and 16384),
        signature_digest  text not null check (signature_digest ~ '^sha256:[0-9a-f]{64}$'),
        role              text not null,
        reason_commitment text not null,
        nonce             text not null unique,
        time              timestamptz not null,
        expires           timestamptz not null,
        void              boolean not null default false,
        created           timestamptz not null default now(),
        leaf              bytea not null check (length(leaf) = 32)
);
comment on column approval.statement is 'exactly what was signed; statement_digest is its SHA-256';
comment on column approval.leaf is 'hash of the leaf of its creation';
create index approval_subject on approval (subject_kind, subject_id, seq);
-- One decision of a person about a subject stands; what is void does not. Rollbacks are about what they take down.
create unique index approval_once on approval (subject_kind, subject_id, signer)
        where not void and decision <> 'rollback';

create function approval_refuse() returns trigger language plpgsql as
$$ begin raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege'; end $$;
create function approval_fixed() returns trigger language plpgsql as
$$
begin
        if (to_jsonb(new) - 'void') is distinct from (to_jsonb(old) - 'void') or old.void then
                raise exception 'an approval only ever becomes void' using errcode = 'insufficient_privilege';
        end if;
        return new;
end
$$;
create trigger approval_stays before delete or truncate on approval for each statement execute function
  approval_refuse();
create trigger approval_fixed before update on approval for each row execute function approval_fixed();

create sequence change_number;
create table change_request (
        id            text primary key default 'c' || nextval('change_number'),
        seq           bigint generated always as identity unique,
        kind          text not null check (kind in ('Environment', 'Policy', 'Model', 'Group', 'Role', 'Key')),
        name          text not null check (length(name) between 1 and 300),
        before_digest text check (before_digest ~ '^sha256:[0-9a-f]{64}$'),
        after_digest  text not null check (after_digest ~ '^sha256:[0-9a-f]{64}$'),
        yaml          text not null,
        normal        text not null,
        protection    text not null,
        need          integer not null check (need > 0),
        state         text not null default 'pending'
                      check (state in ('pending', 'applied', 'rejected', 'superseded', 'expired', 'cancelled')),
        requested_by  text not null references app_user (id),
        created       timestamptz not null default now(),
        expires       timestamptz not null
);
comment on column change_request.normal is 'RFC 8785 form of what takes effect; its SHA-256 is after_digest';
comment on column change_request.protection is 'whose owners had to sign when it was opened; who counts is asked again';
create unique index change_pending on change_request (kind, name) where state = 'pending';
create index change_due on change_request (expires) where state = 'pending';

create function change_fixed() returns trigger language plpgsql as
$$
begin
        if old.state <> 'pending' or (to_jsonb(new) - 'state') is distinct from (to_jsonb(old) - 'state') then
                raise exception 'only the state of a pending change changes' using errcode = 'insufficient_privilege';
        end if;
        return new;
end
$$;
create trigger change_stays before delete or truncate on change_request
        for each statement execute function approval_refuse();
create trigger change_fixed before update on change_request for each row execute function change_fixed();

create function approval_time(t timestamptz) returns text language sql stable as
$$ select to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- Decisions as they are shown, oldest first.
create function approval_shown(k text, s text) returns json language sql stable as
$$
select coalesce(json_agg(a.j order by a.seq), '[]'::json)
from (select json_build_object('id', a.id, 'decision', a.decision, 'signer', json_build_object('id', u.id, 'name',
  u.name),
                               'key', a.key_id, 'role', a.role, 'statement', a.statement,
                               'statement_digest', a.statement_digest, 'signature', a.signature,
                               'reason', (select p.value from audit_pii p where p.commitment = a.reason_commitment),
                               'time', approval_time(a.time), 'expires', approval_time(a.expires), 'void', a.void,
                               'leaf_hash', encode(a.leaf, 'hex')) as j, a.seq
      from approval a join app_user u on u.id = a.signer
      where a.subject_kind = k and a.subject_id = s order by a.seq limit 1000) a
$$;

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create view approval_state as
select 'approval' as object_kind, id,
       json_build_object('subject', subject_kind || ':' || subject_id, 'decision', decision, 'signer', signer,
                         'key', key_id, 'role', role, 'statement', statement_digest, 'signature', signature_digest,
                         'expires', approval_time(expires), 'void', void)::text as state
from approval
union all
select 'change', id,
       json_build_object('document', kind || '/' || name, 'before', before_digest, 'after', after_digest,
                         'environments', (select json_agg(p ->> 'environment')
                           from json_array_elements(protection::json) p),
                         'need', need, 'state', state, 'requested_by', requested_by,
                         'expires', approval_time(expires))::text
from change_request;
