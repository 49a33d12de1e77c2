-- SPDX-License-Identifier: Apache-2.0
-- Rollouts: how traffic moves to a version, what serves it, and the tables that gateways hold.

create sequence rollout_number;
create table rollout (
        id           text primary key default 'r' || nextval('rollout_number'),
        seq          bigint generated always as identity unique,
        promotion    text not null unique references promotion (id),
        model        text not null check (length(model) between 3 and 201),
        environment  text not null check (length(environment) between 1 and 100),
        version      bigint not null check (version >= 1),
        digest       text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
        from_version bigint,
        from_digest  text check (from_digest ~ '^sha256:[0-9a-f]{64}$'),
        plan         text not null check (length(plan) between 2 and 1048576),
        plan_digest  text not null check (plan_digest ~ '^sha256:[0-9a-f]{64}$'),
        state        text not null default 'preparing',
        step         integer not null default 0 check (step >= 0),
        paused       boolean not null default false,
        hold         text check (length(hold) between 1 and 1000),
        step_since   timestamptz,
        stats        text not null default '{}' check (length(stats) <= 4194304),
        seen         text not null default '{}' check (length(seen) <= 4194304),
        decision     text,
        outcome      text check (length(outcome) <= 1000),
        requested_by text not null references app_user (id),
        created      timestamptz not null default now(),
        changed      timestamptz not null default now(),
        ended        timestamptz,
        check (state in ('preparing', 'running', 'completing', 'aborting', 'completed', 'rolled_back', 'failed')),
        check ((from_version is null) = (from_digest is null)),
        check ((ended is not null) = (state in ('completed', 'rolled_back', 'failed')))
);
comment on column rollout.plan is
  'RFC 8785 form of what lib/rollout made of the documents; fixed from the beginning';
comment on column rollout.hold is 'why a step that could go on does not; null while nothing holds it';
comment on column rollout.step_since is 'when the step was seen to be in force; null until then';
comment on column rollout.stats is
  'sufficient statistics of the checks (lib/rollout/analysis.h); what explain computes from';
comment on column rollout.seen is
  'counters of the gateways as they were folded last, and the weight that each generation had';
comment on column rollout.decision is 'the last decision with its checks, as it is shown';
create unique index rollout_active on rollout (model, environment) where ended is null;
create index rollout_of_model on rollout (model, environment, seq);

create table rollout_transition (from_state text not null, to_state text not null, primary key (from_state, to_state));
insert into rollout_transition values
        ('preparing', 'running'), ('preparing', 'aborting'), ('running', 'completing'), ('running', 'aborting'),
        ('completing', 'completed'), ('completing', 'aborting'), ('aborting', 'rolled_back'), ('aborting', 'failed');

create function rollout_guard() returns trigger language plpgsql as $$
begin
        if tg_op = 'INSERT' then
                if new.state <> 'preparing' then
                        raise exception 'a rollout does not begin in state %', new.state
                                using errcode = 'check_violation';
                end if;
                return new;
        end if;
        if (new.id, new.promotion, new.model, new.environment, new.version, new.digest, new.plan, new.requested_by)
           is distinct from
           (old.id, old.promotion, old.model, old.environment, old.version, old.digest, old.plan, old.requested_by) then
                raise exception 'what a rollout is about does not change' using errcode = 'check_violation';
        end if;
        if new.state <> old.state and not exists (select from rollout_transition t
                                                  where t.from_state = old.state and t.to_state = new.state) then
                raise exception 'a rollout does not go from % to %', old.state, new.state
                        using errcode = 'check_violation';
        end if;
        if old.ended is not null and (to_jsonb(new) - 'changed') is distinct from (to_jsonb(old) - 'changed') then
                raise exception 'a rollout that has ended does not change' using errcode = 'check_violation';
        end if;
        return new;
end $$;
create trigger rollout_guard before insert or update on rollout for each row execute function rollout_guard();
create trigger rollout_stays before delete or truncate on rollout
        for each statement execute function promotion_refuse();

-- What each serving instance shall have. A name is never used again for another digest.
create table served (
        environment text not null,
        target      text not null,
        instance    text not null check (length(instance) between 8 and 500),
        name        text not null check (length(name) between 5 and 250),
        model       text not null,
        version     bigint not null,
        digest      text not null,
        driver      text not null,
        settings    text not null,
        tree        text check (tree ~ '^[0-9a-f]{64}$'),
        state       text not null default 'wanted' check (state in ('wanted', 'ready', 'draining', 'gone')),
        since       timestamptz not null default now(),
        unload_at   timestamptz,
        retry_at    timestamptz,
        tries       integer not null default 0,
        problem     text check (length(problem) <= 1000),
        primary key (environment, target, instance, name)
);
comment on column served.instance is 'URL of the inference server';
comment on column served.tree is 'digest over the files that lie in the instance''s repository; null without one';
comment on column served.settings is 'of the instance and its driver, as the environment''s document had them';
create index served_due on served (state) where state <> 'gone';
create index served_version on served (model, version);

create function served_fixed() returns trigger language plpgsql as $$
begin
        if (new.model, new.version, new.digest) is distinct from (old.model, old.version, old.digest) then
                raise exception 'a served name stays with its version' using errcode = 'check_violation';
        end if;
        return new;
end $$;
create trigger served_fixed before update on served for each row execute function served_fixed();
create trigger served_stays before delete or truncate on served for each statement execute function promotion_refuse();

-- What was found on the instances of an environment at the last look, and since when it is so.
create table drift (
        environment text primary key,
        clean       boolean not null,
        report      text not null check (length(report) <= 16777216),
        since       timestamptz not null,
        looked      timestamptz not null
);

-- A gateway, by its control address, and the generation of the table that it shall hold.
create table gateway (
        control    text primary key check (length(control) between 6 and 500),
        driver     text not null,
        generation bigint not null check (generation >= 0),
        applied    bigint not null default 0 check (applied >= 0 and applied <= generation),
        applied_at timestamptz,
        problem    text check (length(problem) <= 1000)
);

-- How one route is split: the entry of the gateway's table.
create table split (
        control     text not null references gateway (control),
        route       text not null check (length(route) between 1 and 100),
        environment text not null,
        target      text not null,
        model       text not null,
        entry       text not null check (length(entry) between 2 and 1048576),
        generation  bigint not null,
        primary key (control, route)
);
comment on column split.entry is 'the route''s object in the table (server/gateway), without a generation';
create index split_model on split (model, environment);

-- Nothing advances and nothing new begins while the line is stopped; the ways to safety stay open.
create table line_stop (
        environment text primary key,
        stopped     boolean not null,
        by_user     text not null references app_user (id),
        reason      text not null,
        since       timestamptz not null default now()
);
comment on table line_stop is 'environment * is all of them; reason is a commitment';

create function rollout_time(t timestamptz) returns text language sql stable as
$$ select to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create view rollout_states as
select 'rollout' as object_kind, id,
       json_build_object('promotion', promotion, 'model', model, 'environment', environment, 'version', version,
                         'digest', digest, 'from', from_digest, 'plan', plan_digest, 'state', state, 'step', step,
                         'paused', paused, 'hold', hold)::text as state
from rollout
union all
select 'line', environment,
       json_build_object('environment', environment, 'stopped', stopped, 'by', by_user, 'reason', reason)::text
from line_stop;

-- A promotion is shown with its rollout.
create or replace view promotion_shown as
select p.id, p.seq, p.model, split_part(p.model, '/', 1) as ns, p.environment, p.state, p.requested_by,
       json_build_object(
         'id', p.id, 'model', p.model, 'version', p.version, 'digest', p.digest, 'environment', p.environment,
         'protected', coalesce((select (v.normal::json ->> 'threshold')::int > 0 from document d
                                join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
                                where d.kind = 'Environment' and d.name = p.environment), false),
         'state', p.state, 'verdict', p.verdict::json -> 'verdict', 'verdict_digest', p.verdict_digest,
         'policy_digest', p.policy_digest, 'environment_digest', p.environment_digest, 'from', p.from_digest,
         'checks', coalesce(p.verdict::json -> 'checks', '[]'::json),
         'approvals', case when p.rollback_of is null then approval_shown('promotion', p.id)
                      else coalesce((select json_agg(a) from json_array_elements(approval_shown('promotion',
                        p.rollback_of)) a
                                     where a ->> 'decision' = 'rollback'), '[]'::json) end,
         'requested_by', json_build_object('id', u.id, 'name', u.name),
         'reason', (select i.value from audit_pii i where i.commitment = p.reason_commitment),
         'created', promotion_time(p.created), 'expires', promotion_time(p.expires),
         'rollout', (select r.id from rollout r where r.promotion = p.id), 'rollback_of', p.rollback_of,
         'superseded_by', p.superseded_by,
         'live_since', promotion_time(p.live_since), 'ended', promotion_time(p.ended),
         'url', '/api/v1/promotions/' || p.id)::text as shown
from promotion p join app_user u on u.id = p.requested_by;
