-- SPDX-License-Identifier: Apache-2.0
-- Models, versions and aliases, and the manifests behind them.

create table model (
        id       bigint generated always as identity primary key,
        ns       text not null check (length(ns) between 1 and 100),
        name     text not null check (length(name) between 1 and 100),
        created  timestamptz not null,
        versions bigint not null default 0 check (versions >= 0),
        unique (ns, name)
);
comment on column model.versions is 'the newest number; who makes the next one holds this row: no gaps';

-- What the OCI door serves; bytes are blobs of the store. Also manifests that are no version.
create table manifest (
        repo          text not null,
        digest        text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
        media_type    text not null,
        artifact_type text,
        subject       text check (subject ~ '^sha256:[0-9a-f]{64}$'),
        size          bigint not null check (size > 0),
        created       timestamptz not null default now(),
        primary key (repo, digest)
);
create index manifest_subject on manifest (repo, subject) where subject is not null;

-- Tags of indexes and of manifests with a subject, which are no versions; other tags are aliases.
create table manifest_tag (
        repo   text not null,
        tag    text not null check (length(tag) between 1 and 128),
        digest text not null,
        primary key (repo, tag),
        foreign key (repo, digest) references manifest (repo, digest)
);

create table version (
        id             bigint generated always as identity primary key,
        model_id       bigint not null references model (id),
        number         bigint not null check (number >= 1),
        digest         text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
        commit_oid     text not null unique check (commit_oid ~ '^[0-9a-f]{40}$'),
        status         text not null default 'ready' check (status in ('ready', 'deprecated', 'withdrawn')),
        reason         text,
        author         text not null,
        labels         json not null,
        labels_digest  text not null,
        metrics        json not null,
        metrics_digest text not null,
        summary        text not null,
        doc            text not null,
        card           text,
        leaf           bytea not null check (length(leaf) = 32),
        unique (model_id, number),
        unique (model_id, digest)
);
comment on column version.reason is 'commitment of why the status was set';
comment on column version.summary is 'members of the resource in lists that never change, without braces';
comment on column version.doc is 'the further members of the whole resource, without braces';
comment on column version.card is 'digest of README.md';
comment on column version.leaf is 'hash of the leaf of its creation';
create index version_digest on version (digest);

-- Exact bytes, signature included, so that a rebuild does not need the key of then.
create table version_commit (
        version_id bigint primary key references version (id),
        bytes      bytea not null check (length(bytes) between 1 and 65536)
);

create table version_label (
        version_id bigint not null references version (id),
        key        text not null,
        value      text not null,
        primary key (version_id, key)
);
create index version_label_value on version_label (key, value, version_id);

create table version_metric (
        version_id bigint not null references version (id),
        name       text not null,
        value      double precision not null,
        primary key (version_id, name)
);
create index version_metric_value on version_metric (name, value, version_id);

create table version_dataset (
        version_id bigint not null references version (id),
        ref        text not null,
        name       text not null,
        primary key (version_id, ref)
);
create index version_dataset_ref on version_dataset (md5(ref), version_id);
create index version_dataset_name on version_dataset (md5(name), version_id);
comment on index version_dataset_ref is 'a reference may be longer than an index entry';

create table version_file (
        version_id bigint not null references version (id),
        digest     text not null,
        primary key (version_id, digest)
);
create index version_file_digest on version_file (digest, version_id);

create table alias (
        model_id bigint not null references model (id),
        alias    text not null check (alias !~ '^v?[0-9]+$' and alias <> 'latest' and length(alias) <= 128),
        number   bigint not null,
        primary key (model_id, alias),
        foreign key (model_id, number) references version (model_id, number)
);
create index alias_number on alias (model_id, number);

create table alias_history (
        id       bigint generated always as identity primary key,
        model_id bigint not null references model (id),
        alias    text not null,
        number   bigint,
        at       timestamptz not null,
        actor    text not null,
        leaf     bytea not null check (length(leaf) = 32),
        foreign key (model_id, number) references version (model_id, number)
);
create index alias_history_alias on alias_history (model_id, alias, id desc);
comment on column alias_history.number is 'null: the alias was removed';

create function registry_refuse() returns trigger language plpgsql as
$$ begin raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege'; end $$;
create function registry_version_fixed() returns trigger language plpgsql as
$$
begin
        if (to_jsonb(new) - 'status' - 'reason') <> (to_jsonb(old) - 'status' - 'reason') then
                raise exception 'only the status of a version changes' using errcode = 'insufficient_privilege';
        end if;
        return new;
end
$$;
create trigger alias_history_append_only before update or delete or truncate on alias_history
        for each statement execute function registry_refuse();
create trigger version_commit_append_only before update or delete or truncate on version_commit
        for each statement execute function registry_refuse();
create trigger version_stays before delete or truncate on version
        for each statement execute function registry_refuse();
create trigger version_fixed before update on version
        for each row execute function registry_version_fixed();

create function registry_time(t timestamptz) returns text language sql stable as
$$ select to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- A version as it is shown: what never changes as text, what does beside it. People's names and leaf numbers are the
-- business of auth and audit; read here, so that a version is one statement.
create view version_shown as
select m.ns, m.name as model, m.id as model_id, m.versions, v.id, v.number, v.digest, v.commit_oid, v.status, v.reason,
       v.author, u.name as author_name, v.summary, v.doc, v.card, encode(v.leaf, 'hex') as leaf,
       (select l.idx from audit_log l where l.leaf_hash = v.leaf limit 1) as leaf_index,
       coalesce((select json_agg(a.alias order by a.alias)
                 from alias a where a.model_id = v.model_id and a.number = v.number)::text, '[]') as aliases
from version v join model m on m.id = v.model_id left join app_user u on u.id = v.author;

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create view registry_state as
select 'model' as object_kind, ns || '/' || name as id,
       json_build_object('namespace', ns, 'name', name)::text as state
from model
union all
select 'version', m.ns || '/' || m.name || ':' || v.number,
       json_build_object('model', m.ns || '/' || m.name, 'version', v.number, 'digest', v.digest,
                         'commit', v.commit_oid, 'status', v.status, 'author', v.author,
                         'metrics_digest', v.metrics_digest, 'labels_digest', v.labels_digest)::text
from version v join model m on m.id = v.model_id
union all
select 'alias', m.ns || '/' || m.name || ':' || a.alias,
       json_build_object('model', m.ns || '/' || m.name, 'alias', a.alias, 'version', a.number,
                         'digest', v.digest)::text
from alias a join model m on m.id = a.model_id
join version v on v.model_id = a.model_id and v.number = a.number;
