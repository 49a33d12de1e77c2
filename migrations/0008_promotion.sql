-- SPDX-License-Identifier: Apache-2.0
-- Requests to bring a version into an environment, and what is live there.

create sequence promotion_number;
create table promotion (
        id                 text primary key,
        seq                bigint generated always as identity unique,
        version_id         bigint not null references version (id),
        model              text not null check (length(model) between 3 and 201),
        version            bigint not null check (version >= 1),
        digest             text not null check (digest ~ '^sha256:[0-9a-f]{64}$'),
        environment        text not null check (length(environment) between 1 and 100),
        state              text not null,
        requested_by       text not null references app_user (id),
        reason_commitment  text not null,
        created            timestamptz not null default now(),
        expires            timestamptz,
        bundle             text,
        verdict            text,
        verdict_digest     text,
        policy_digest      text,
        environment_digest text,
        from_digest        text,
        basis_digest       text,
        verdict_leaf       bytea check (length(verdict_leaf) = 32),
        round              bigint not null default 1,
        claimed_until      timestamptz,
        stale              boolean not null default false,
        retry_at           timestamptz,
        retries            integer not null default 0,
        rollback_of        text references promotion (id),
        superseded_by      text references promotion (id) deferrable initially deferred,
        live_since         timestamptz,
        ended              timestamptz,
        check (state in ('evaluating', 'awaiting_approval', 'held', 'approved', 'queued', 'scheduled', 'rolling_out',
          'live',
                         'rejected', 'rolled_back', 'failed', 'replaced', 'cancelled', 'expired', 'superseded')),
        check ((superseded_by is null) or state = 'superseded'),
        check ((live_since is null) or state in ('live', 'replaced', 'rolled_back')),
        check ((verdict is null) = (verdict_digest is null)),
        check (state not in ('awaiting_approval', 'approved', 'queued', 'scheduled') or verdict is not null)
);
comment on column promotion.bundle is 'what was judged, RFC 8785 form; the verdict is a function of it';
comment on column promotion.basis_digest is
  'over what of the bundle decides, without the moment: when it changes, approvals are void';
comment on column promotion.verdict_leaf is 'hash of the leaf that recorded the verdict';
comment on column promotion.round is 'how often it began to be evaluated';
comment on column promotion.claimed_until is 'while evaluating: who judges it has until then, then another may';
comment on column promotion.stale is 'something that it may depend on has changed since it was judged';
-- At most one is being judged, one rolls out, one is live.
create unique index promotion_judged on promotion (model, environment)
        where state in ('evaluating', 'held', 'awaiting_approval');
create unique index promotion_rolling on promotion (model, environment) where state = 'rolling_out';
create unique index promotion_live on promotion (model, environment) where state = 'live';
create index promotion_open on promotion (seq)
        where state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled');
create index promotion_of_model on promotion (model, environment, seq);
create index promotion_of_environment on promotion (environment, seq);

create table promotion_transition (from_state text not null, to_state text not null, primary key (from_state,
  to_state));
insert into promotion_transition values
        ('evaluating', 'awaiting_approval'), ('evaluating', 'approved'), ('evaluating', 'held'), ('evaluating',
          'rejected'),
        ('held', 'evaluating'),
        ('awaiting_approval', 'approved'), ('awaiting_approval', 'rejected'), ('awaiting_approval', 'evaluating'),
        ('approved', 'evaluating'), ('queued', 'evaluating'), ('scheduled', 'evaluating'),
        ('approved', 'queued'), ('approved', 'scheduled'), ('approved', 'rolling_out'), ('approved', 'live'),
        ('queued', 'scheduled'), ('scheduled', 'queued'), ('queued', 'rolling_out'), ('queued', 'live'),
        ('scheduled', 'rolling_out'), ('scheduled', 'live'),
        ('rolling_out', 'live'), ('rolling_out', 'rolled_back'), ('rolling_out', 'failed'),
        ('live', 'replaced'), ('live', 'rolled_back');
insert into promotion_transition
select s, e from unnest(array['evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled']) s,
                 unnest(array['cancelled', 'expired', 'superseded']) e;

create function promotion_guard() returns trigger language plpgsql as $$
begin
        if tg_op = 'INSERT' then
                if not (new.state = 'evaluating' and new.rollback_of is null
                        or new.state in ('rolling_out', 'live') and new.rollback_of is not null) then
                        raise exception 'a promotion does not begin in state %',
                          new.state using errcode = 'check_violation';
                end if;
                if not exists (select from version v join model m on m.id = v.model_id
                               where v.id = new.version_id and v.number = new.version and v.digest = new.digest
                                 and m.ns || '/' || m.name = new.model and v.status <> 'withdrawn') then
                        raise exception 'there is no such version to promote' using errcode = 'check_violation';
                end if;
                return new;
        end if;
        if new.id <> old.id or new.version_id <> old.version_id or new.model <> old.model or new.version <> old.version
           or new.digest <> old.digest or new.environment <> old.environment or new.requested_by <> old.requested_by
           or new.created <> old.created or new.reason_commitment <> old.reason_commitment
           or new.rollback_of is distinct from old.rollback_of then
                raise exception 'what a promotion is about does not change' using errcode = 'check_violation';
        end if;
        if new.state <> old.state and not exists (select from promotion_transition t
                                                  where t.from_state = old.state and t.to_state = new.state) then
                raise exception 'a promotion does not go from % to %', old.state,
                  new.state using errcode = 'check_violation';
        end if;
        if new.state <> 'evaluating' and old.state <> 'evaluating' and new.verdict_digest is distinct
          from old.verdict_digest then
                raise exception 'a verdict changes only by evaluating' using errcode = 'check_violation';
        end if;
        return new;
end $$;
create trigger promotion_guard before insert or update on promotion
        for each row execute function promotion_guard();
create function promotion_refuse() returns trigger language plpgsql as
$$ begin raise exception 'promotions are never deleted' using errcode = 'insufficient_privilege'; end $$;
create trigger promotion_stays before delete or truncate on promotion
        for each statement execute function promotion_refuse();

-- What is live: one row a model and environment, changed together with the environment's alias.
create table environment_live (
        environment text not null,
        model       text not null,
        version     bigint not null,
        digest      text not null,
        promotion   text not null references promotion (id),
        since       timestamptz not null,
        primary key (environment, model)
);
create index environment_live_model on environment_live (model);

-- At COMMIT what is live and the promotions that say so are the same.
create function environment_live_agrees() returns trigger language plpgsql as $$
declare
        p promotion;
        l environment_live;
begin
        select * into p from promotion o where o.model = new.model and o.environment = new.environment
          and o.state = 'live';
        select * into l from environment_live o where o.model = new.model and o.environment = new.environment;
        if l.promotion is distinct from p.id or l.version is distinct from p.version or l.digest is distinct
          from p.digest then
                raise exception 'what is live of % in % is not what its promotion says', new.model, new.environment
                        using errcode = 'check_violation';
        end if;
        return null;
end $$;
create constraint trigger environment_live_agrees after insert or update on environment_live
        deferrable initially deferred for each row execute function environment_live_agrees();
create constraint trigger promotion_live_agrees after insert or update of state on promotion
        deferrable initially deferred for each row execute function environment_live_agrees();
create trigger environment_live_stays before delete or truncate on environment_live
        for each statement execute function promotion_refuse();

create function promotion_time(t timestamptz) returns text language sql stable as
$$ select to_char(t at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"') $$;

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create view promotion_states as
select 'promotion' as object_kind, id,
       json_build_object('model', model, 'version', version, 'digest', digest, 'environment', environment,
                         'state', state, 'verdict', verdict_digest, 'policy', policy_digest,
                         'environment_digest', environment_digest, 'from', from_digest, 'requested_by', requested_by,
                         'reason', reason_commitment, 'rollback_of', rollback_of, 'superseded_by',
                           superseded_by)::text as state
from promotion
union all
select 'live', environment || '/' || model,
       json_build_object('environment', environment, 'model', model, 'version', version, 'digest', digest,
                         'promotion', promotion, 'since', promotion_time(since))::text
from environment_live;

-- A promotion as it is shown, but for what it waits for.
create view promotion_shown as
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
         'rollout', null, 'rollback_of', p.rollback_of, 'superseded_by', p.superseded_by,
         'live_since', promotion_time(p.live_since), 'ended', promotion_time(p.ended),
         'url', '/api/v1/promotions/' || p.id)::text as shown
from promotion p join app_user u on u.id = p.requested_by;
