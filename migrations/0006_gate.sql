-- SPDX-License-Identifier: Apache-2.0
-- Documents (Environment, Policy, Model, Group) and evaluations.

-- One row: who holds it writes the next commit of documents.git.
create table document_head (
        id  integer primary key check (id = 0),
        seq bigint not null check (seq >= 0)
);
insert into document_head (id, seq) values (0, 0);

create table document (
        kind   text not null check (kind in ('Environment', 'Policy', 'Model', 'Group')),
        name   text not null check (length(name) between 1 and 201),
        number bigint not null check (number >= 1),
        digest text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
        primary key (kind, name)
);
comment on column document.number is 'the newest version; row and version are written in one transaction';

create table document_version (
        kind       text not null,
        name       text not null,
        number     bigint not null check (number >= 1),
        seq        bigint not null unique check (seq >= 1),
        digest     text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
        yaml       text not null check (length(yaml) between 1 and 4194304),
        normal     text not null check (length(normal) between 2 and 16777216),
        commit_oid text not null unique check (commit_oid ~ '^[0-9a-f]{40}$'),
        author     text not null,
        at         timestamptz not null,
        leaf       bytea not null check (length(leaf) = 32),
        primary key (kind, name, number),
        foreign key (kind, name) references document (kind, name)
);
comment on column document_version.seq is 'position in documents.git, without a gap';
comment on column document_version.yaml is 'as submitted, names of people replaced by their ids';
comment on column document_version.normal is 'RFC 8785 form; its SHA-256 is the digest';

-- Exact bytes, signature included, so that a rebuild does not need the key of then.
create table document_commit (
        seq   bigint primary key references document_version (seq),
        bytes bytea not null check (length(bytes) between 1 and 65536)
);

create table evaluation (
        key         bigint generated always as identity primary key,
        version_id  bigint not null references version (id),
        id          text not null check (id ~ '^sha256:[0-9a-f]{64}$'),
        submitted   text not null check (submitted ~ '^sha256:[0-9a-f]{64}$'),
        examples    text check (examples ~ '^sha256:[0-9a-f]{64}$'),
        dataset     text not null,
        dataset_name text not null,
        document    text not null check (length(document) between 2 and 4194304),
        recomputed  text not null,
        author      text not null,
        at          timestamptz not null,
        leaf        bytea not null check (length(leaf) = 32),
        withdrawn   boolean not null default false,
        reason      text,
        check (withdrawn = (reason is not null)),
        unique (version_id, id)
);
comment on column evaluation.document is 'the bytes submitted; their SHA-256 is `submitted`';
comment on column evaluation.recomputed is 'RFC 8785 form of the metrics that the examples give';
comment on column evaluation.reason is 'commitment of why it was withdrawn';
create index evaluation_dataset on evaluation (md5(dataset), version_id);
create index evaluation_dataset_name on evaluation (md5(dataset_name), key);
comment on index evaluation_dataset is 'a reference may be longer than an index entry';

create function gate_refuse() returns trigger language plpgsql as
$$ begin raise exception '% is append-only', tg_table_name using errcode = 'insufficient_privilege'; end $$;
create function gate_document_next() returns trigger language plpgsql as
$$
begin
        if new.kind <> old.kind or new.name <> old.name or new.number <> old.number + 1 then
                raise exception 'a document only gets its next version' using errcode = 'insufficient_privilege';
        end if;
        return new;
end
$$;
create function gate_evaluation_fixed() returns trigger language plpgsql as
$$
begin
        if old.withdrawn or (to_jsonb(new) - 'withdrawn' - 'reason') <> (to_jsonb(old) - 'withdrawn' - 'reason') then
                raise exception 'an evaluation is only withdrawn, once' using errcode = 'insufficient_privilege';
        end if;
        return new;
end
$$;
create trigger document_version_append_only before update or delete or truncate on document_version
        for each statement execute function gate_refuse();
create trigger document_commit_append_only before update or delete or truncate on document_commit
        for each statement execute function gate_refuse();
create trigger document_stays before delete or truncate on document
        for each statement execute function gate_refuse();
create trigger document_next before update on document
        for each row execute function gate_document_next();
create trigger document_head_stays before delete or truncate on document_head
        for each statement execute function gate_refuse();
create trigger evaluation_stays before delete or truncate on evaluation
        for each statement execute function gate_refuse();
create trigger evaluation_fixed before update on evaluation
        for each row execute function gate_evaluation_fixed();

create function gate_time(t timestamptz) returns text language sql stable as
$$ select to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create view gate_state as
select 'document' as object_kind, d.kind || '/' || d.name as id,
       json_build_object('kind', d.kind, 'name', d.name, 'version', d.number, 'digest', d.digest,
                         'commit', v.commit_oid, 'author', v.author,
                         'owners', v.normal::json -> 'owners', 'threshold', v.normal::json -> 'threshold',
                         'members', v.normal::json -> 'members')::text as state
from document d join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
union all
select 'evaluation', m.ns || '/' || m.name || ':' || v.number || '/' || e.id,
       json_build_object('id', e.id, 'model', m.ns || '/' || m.name, 'version', v.number, 'manifest', v.digest,
                         'submitted', e.submitted, 'examples', e.examples, 'dataset', e.dataset,
                         'recomputed', 'sha256:' || encode(sha256(convert_to(e.recomputed, 'UTF8')), 'hex'),
                         'author', e.author, 'at', gate_time(e.at), 'withdrawn', e.withdrawn)::text
from evaluation e join version v on v.id = e.version_id join model m on m.id = v.model_id;
