-- SPDX-License-Identifier: Apache-2.0
-- Signed approvals of steps: what people are asked for when a step's minima are met.

alter table approval drop constraint approval_subject_kind_check;
alter table approval add constraint approval_subject_kind_check
        check (subject_kind in ('promotion', 'change', 'rollout'));

create table rollout_request (
        rollout    text not null references rollout (id),
        step       integer not null check (step >= 0),
        state      text not null default 'open' check (state in ('open', 'approved', 'rejected', 'expired', 'void')),
        evidence   text not null check (evidence ~ '^sha256:[0-9a-f]{64}$'),
        decision   text not null check (length(decision) between 2 and 4194304),
        statistics text not null check (length(statistics) between 2 and 4194304),
        inputs     text not null check (length(inputs) between 2 and 65536),
        opened     timestamptz not null default date_trunc('milliseconds', now()),
        expires    timestamptz,
        primary key (rollout, step)
);
comment on column rollout_request.decision is
  'RFC 8785 form of the decision that the step''s minima are met; evidence is its SHA-256';
comment on column rollout_request.statistics is 'what the decision was computed from, with inputs (rollout.stats)';
comment on column rollout_request.expires is 'by the shortest request_ttl of the step''s rules; null without one';
create unique index rollout_request_open on rollout_request (rollout) where state = 'open';

create function rollout_request_guard() returns trigger language plpgsql as $$
begin
        if old.state = 'open' and (to_jsonb(new) - 'state') = (to_jsonb(old) - 'state')
           or old.state = 'void' and new.state = 'open' and (new.rollout, new.step) = (old.rollout, old.step) then
                return new;
        end if;
        raise exception 'a request of a step ends once; only what is void is opened anew'
                using errcode = 'check_violation';
end $$;
create trigger rollout_request_guard before update on rollout_request
        for each row execute function rollout_request_guard();
create trigger rollout_request_stays before delete or truncate on rollout_request
        for each statement execute function promotion_refuse();

-- The governed objects, as leaves and replay see them (docs/architecture.md).
create or replace view rollout_states as
select 'rollout' as object_kind, id,
       json_build_object('promotion', promotion, 'model', model, 'environment', environment, 'version', version,
                         'digest', digest, 'from', from_digest, 'plan', plan_digest, 'state', state, 'step', step,
                         'paused', paused, 'hold', hold)::text as state
from rollout
union all
select 'request', q.rollout || '/' || q.step + 1,
       json_build_object('rollout', q.rollout, 'step', q.step, 'plan', r.plan_digest, 'evidence', q.evidence,
                         'state', q.state, 'opened', rollout_time(q.opened), 'expires', rollout_time(q.expires))::text
from rollout_request q join rollout r on r.id = q.rollout
union all
select 'line', environment,
       json_build_object('environment', environment, 'stopped', stopped, 'by', by_user, 'reason', reason)::text
from line_stop;
