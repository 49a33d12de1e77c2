-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/rollout. Times leave as RFC 3339 text or milliseconds.

-- name: rollout_states_rollout
select id, state from rollout_states where object_kind = 'rollout'

-- name: rollout_states_request
select id, state from rollout_states where object_kind = 'request'

-- name: rollout_states_line
select id, state from rollout_states where object_kind = 'line'

-- name: rollout_state_get
select state from rollout_states where object_kind = $1 and id = $2

-- name: rollout_next_id
select 'r' || nextval('rollout_number')

-- name: rollout_insert
insert into rollout (id, promotion, model, environment, version, digest, from_version, from_digest, plan, plan_digest,
                     requested_by)
values ($1, $2, $3, $4, $5::bigint, $6, nullif($7::bigint, 0), $8, $9, $10, $11)

-- name: rollout_lock
select id, promotion, model, environment, version, digest, coalesce(from_version, 0), from_digest, plan, state, step,
       paused, hold, coalesce((extract(epoch from step_since) * 1000)::bigint, 0), stats, seen, outcome, requested_by,
       (extract(epoch from created) * 1000)::bigint
from rollout where id = $1 for update

-- name: rollout_read
select id, promotion, model, environment, version, digest, coalesce(from_version, 0), from_digest, plan, state, step,
       paused, hold, coalesce((extract(epoch from step_since) * 1000)::bigint, 0), stats, seen, outcome, requested_by,
       (extract(epoch from created) * 1000)::bigint
from rollout where id = $1

-- name: rollout_peek
-- The same columns without what is folded, which is most of a row.
select id, promotion, model, environment, version, digest, coalesce(from_version, 0), from_digest, plan, state, step,
       paused, hold, coalesce((extract(epoch from step_since) * 1000)::bigint, 0), null, null, outcome, requested_by,
       (extract(epoch from created) * 1000)::bigint
from rollout where id = $1

-- name: rollout_find_active
select id from rollout where model = $1 and environment = $2 and ended is null

-- name: rollout_withdrawn
-- Whether the version that it brings was withdrawn.
select 1 from promotion p join version v on v.id = p.version_id where p.id = $1 and v.status = 'withdrawn'

-- name: rollout_active
select id from rollout where ended is null order by seq

-- name: rollout_set
update rollout set state = $2, step = $3::int, paused = $4, hold = $5, outcome = $6, changed = now(),
       step_since = case when $2 = state and $3::int = step then step_since end,
       ended = case when $2 in ('completed', 'rolled_back', 'failed') then now() end
where id = $1

-- name: rollout_step_in_force
update rollout set step_since = now(), changed = now() where id = $1 and step_since is null

-- name: rollout_folded
update rollout set stats = $2, seen = $3, decision = $4, changed = now() where id = $1

-- name: rollout_seen
update rollout set seen = $2 where id = $1

-- name: rollout_in_force
-- Whether every gateway holds the splits of this model in this environment as they shall be.
select not exists (select from split s join gateway g on g.control = s.control
                   where s.model = $1 and s.environment = $2 and g.applied < s.generation)

-- name: served_want
-- What drains is ready again at once, unless unloading has begun.
insert into served (environment, target, instance, name, model, version, digest, driver, settings)
values ($1, $2, $3, $4, $5, $6::bigint, $7, $8, $9)
on conflict (environment, target, instance, name) do update
set state = case when served.state = 'draining' and served.unload_at > '-infinity' then 'ready'
            when served.state in ('draining', 'gone') then 'wanted' else served.state end,
    since = case when served.state in ('draining', 'gone') then now() else served.since end,
    unload_at = null, retry_at = null, tries = 0, problem = case when served.state = 'ready' then served.problem end,
    driver = excluded.driver, settings = excluded.settings

-- name: served_of
select target, instance, name, state, tries, problem from served
where environment = $1 and model = $2 and version = $3::bigint and state <> 'gone' order by target, instance

-- name: served_drain
update served set state = 'draining', since = now(), unload_at = now() + make_interval(secs =>
         coalesce((settings::json -> 'serving' ->> 'drain_ms')::bigint, 60000) / 1000.0)
where environment = $1 and model = $2 and version = $3::bigint and state in ('wanted', 'ready')

-- name: served_due
-- What a server has to load, or to take down.
select environment, target, instance, name, model, version, digest, driver, settings, state, tries from served
where (state = 'wanted' or (state = 'draining' and unload_at <= now()))
  and (coalesce(retry_at, '-infinity') <= now() or retry_at > now() + interval '2 minutes') -- the clock was set back
order by since limit $1::bigint

-- name: served_done
update served set state = $5, since = now(), retry_at = null, tries = 0, problem = null,
       address = coalesce($7, address)
where environment = $1 and target = $2 and instance = $3 and name = $4 and state = $6

-- name: served_tree
-- What was put into the repository, before it is loaded: that may fail, and the folder stays.
update served set tree = $5 where environment = $1 and target = $2 and instance = $3 and name = $4

-- name: served_failed
update served set tries = tries + $7::int, problem = $5, retry_at = now() + make_interval(secs => $6::bigint / 1000.0)
where environment = $1 and target = $2 and instance = $3 and name = $4 and state = $8

-- name: served_unloading
-- From here on nobody finds it ready: unload_at says so until it is gone or wanted again.
update served set unload_at = '-infinity'
where environment = $1 and target = $2 and instance = $3 and name = $4 and state = 'draining' and unload_at <= now()
returning 1

-- name: served_watched
select distinct environment, target, instance, driver, settings from served where state = 'ready'

-- name: served_watched_names
select name, model, version, digest, problem is not null, coalesce(address, '') from served
where environment = $1 and target = $2 and instance = $3 and state = 'ready' order by name

-- name: served_lost
-- It has the version no more: it is to be loaded again.
update served set state = 'wanted', since = now(), retry_at = null, tries = 0, problem = $5
where environment = $1 and target = $2 and instance = $3 and name = $4 and state = 'ready' returning 1

-- name: served_doubtful
-- It does not answer for the version ($5 says how), or does again (null).
update served set problem = $5
where environment = $1 and target = $2 and instance = $3 and name = $4 and state = 'ready'
  and (problem is null) = ($5::text is not null) returning 1

-- name: served_moved
-- It answers from another address than before: its name leads elsewhere now.
update served set address = $5
where environment = $1 and target = $2 and instance = $3 and name = $4 and state = 'ready'
  and address is distinct from $5
returning 1

-- name: rollout_lock_active
select id from rollout where model = $1 and environment = $2 and ended is null for update

-- name: gateway_raise
-- The next generation of a gateway's table; a driver of '' stays what it is.
insert into gateway (control, driver, generation) values ($1, $2, 1)
on conflict (control) do update set generation = gateway.generation + 1,
       driver = coalesce(nullif(excluded.driver, ''), gateway.driver) returning generation

-- name: gateway_raise_to
update gateway set generation = greatest(generation, $2::bigint + 1) where control = $1 returning generation

-- name: gateway_list
select control, driver, generation, applied, (select count(*) from split s where s.control = g.control),
       exists (select from split s join rollout r on r.model = s.model and r.environment = s.environment
               where s.control = g.control and r.ended is null)
from gateway g order by control

-- name: gateway_watched
-- The routes of rollouts that go on.
select s.control, s.route from split s join rollout r on r.model = s.model and r.environment = s.environment
where r.ended is null order by s.control, s.route

-- name: gateway_table
select g.generation, s.entry from gateway g left join split s on s.control = g.control where g.control = $1
order by s.route

-- name: gateway_applied
update gateway set applied = $2::bigint, applied_at = now(), problem = null
where control = $1 and generation >= $2::bigint and applied <= $2::bigint

-- name: gateway_problem
update gateway set problem = $2 where control = $1 and problem is distinct from $2

-- name: split_set
insert into split (control, route, environment, target, model, entry, generation)
values ($1, $2, $3, $4, $5, $6, $7::bigint)
on conflict (control, route) do update
set environment = excluded.environment, target = excluded.target, model = excluded.model, entry = excluded.entry,
    generation = excluded.generation

-- name: split_of_model
select control, route, target, entry, generation from split where model = $1 and environment = $2
order by control, route

-- name: split_remove
delete from split where control = $1 and route = $2

-- name: line_stopped
select environment from line_stop where stopped and environment in ('*', $1) order by environment limit 1

-- name: line_set
insert into line_stop (environment, stopped, by_user, reason) values ($1, $2, $3, $4)
on conflict (environment) do update set stopped = excluded.stopped, by_user = excluded.by_user,
       reason = excluded.reason, since = now()

-- name: rollout_live
-- What is live now, of a model in an environment.
select version, digest from environment_live where environment = $1 and model = $2

-- name: served_retry
update served set retry_at = null, tries = 0, problem = null
where environment = $1 and model = $2 and version = $3::bigint and state = 'wanted'

-- name: split_counted
-- The routes of a model in an environment, with what counts them.
select s.control, s.route, s.entry, g.driver, s.target, s.generation
from split s join gateway g on g.control = s.control
where s.model = $1 and s.environment = $2

-- name: served_included
-- The version with this digest, when its leaf is below $4 in the log.
select 1 from version v join model m on m.id = v.model_id
where m.ns || '/' || m.name = $1 and v.number = $2::bigint and v.digest = $3
  and exists (select from audit_log l where l.leaf_hash = v.leaf and l.idx < $4::bigint
              and l.log_id = (select max(o.log_id) from audit_origin o))

-- name: rollout_page
-- Newest first, of models in the namespaces $4 (null: all); $1: below this seq.
select r.id, r.seq from rollout r
where r.seq < $1::bigint and ($2::text is null or r.model = $2) and ($3::text is null or r.environment = $3)
  and ($4::text[] is null or split_part(r.model, '/', 1) = any ($4::text[])) and (not $5 or r.ended is null)
order by r.seq desc limit $6::bigint

-- name: rollout_shown
select json_build_object(
         'id', r.id, 'promotion', r.promotion, 'model', r.model, 'version', r.version, 'digest', r.digest,
         'environment', r.environment,
         'from', case when r.from_version is not null
                 then json_build_object('version', r.from_version, 'digest', r.from_digest) end,
         'strategy', r.plan::json ->> 'strategy', 'state', r.state, 'step', r.step, 'steps', r.plan::json -> 'steps',
         'paused', r.paused, 'hold', r.hold,
         'in_force', r.step_since is not null and not exists (select from split s
            join gateway g on g.control = s.control
            where s.model = r.model and s.environment = r.environment and g.applied < s.generation),
         'served', coalesce((select json_agg(json_build_object('target', s.target, 'instance', s.instance,
                'name', s.name, 'state', s.state, 'tries', s.tries, 'problem', coalesce(s.problem,
                  (select left('does not take weights: ' || w.problem, 1000) from weights_told w
                   join split p on p.control = w.control and p.route = w.route and p.model = s.model
                   where w.instance = s.instance and w.environment = s.environment and w.target = s.target
                     and w.problem is not null order by w.route limit 1)))
                order by s.target, s.instance, s.version)
              from served s where s.environment = r.environment and s.model = r.model and s.state <> 'gone'
                and s.version in (r.version, coalesce(r.from_version, 0))), '[]'::json),
         'splits', case when r.ended is null then coalesce((select json_agg(json_build_object('route', s.route,
                'target', s.target, 'generation', s.generation, 'variants', s.entry::json -> 'variants',
                'validation', (select json_build_object('mode', t ->> 'validate', 'inputs',
                                 coalesce(json_array_length(s.entry::json #> '{validate,inputs}'), 0))
                   from document d
                   join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number,
                   json_array_elements(v.normal::json -> 'routes') t
                   where d.kind = 'Model' and d.name = r.model and t ->> 'route' = s.route
                     and t ->> 'validate' in ('flag', 'reject')))
                order by s.control, s.route) from split s where s.environment = r.environment and s.model = r.model),
                '[]'::json) else '[]'::json end,
         'invalid', coalesce(r.seen::json -> 'invalid', '{"candidate": 0, "stable": 0}'::json),
         'approval', (select json_build_object('step', q.step, 'state', q.state, 'need', 0, 'have', 0,
                'evidence', q.evidence, 'opened', rollout_time(q.opened), 'expires', rollout_time(q.expires),
                'waiting_for', '[]'::json, 'approvals', approval_shown('rollout', q.rollout || '/' || q.step + 1))
              from rollout_request q where q.rollout = r.id and q.step = r.step),
         'decision', r.decision::json, 'outcome', r.outcome,
         'requested_by', json_build_object('id', u.id, 'name', u.name),
         'created', rollout_time(r.created), 'changed', rollout_time(r.changed), 'ended', rollout_time(r.ended),
         'url', '/api/v1/rollouts/' || r.id)::text
from rollout r join app_user u on u.id = r.requested_by where r.id = $1

-- name: request_read
-- The request of a step; the last column: it has expired by now, 10 s before what is signed for it: the log's leaf of
-- what follows is later.
select state, evidence, rollout_time(expires), coalesce(expires <= clock_timestamp() + interval '10 seconds', false)
from rollout_request
where rollout = $1 and step = $2::int

-- name: request_open
-- $7: for so many ms; 0: without an end. What is signed holds 10 s longer.
insert into rollout_request (rollout, step, evidence, decision, statistics, inputs, expires)
values ($1, $2::int, $3, $4, $5, $6,
        date_trunc('milliseconds', now() + make_interval(secs => nullif($7::bigint, 0) / 1000.0 + 10)))
on conflict (rollout, step) do update
set state = 'open', evidence = excluded.evidence, decision = excluded.decision, statistics = excluded.statistics,
    inputs = excluded.inputs, opened = excluded.opened, expires = excluded.expires

-- name: request_end
update rollout_request set state = $3 where rollout = $1 and step = $2::int and state = 'open' returning 1

-- name: request_evidence
select json_build_object('id', r.id, 'step', q.step, 'promotion', r.promotion, 'weight', 0, 'plan', r.plan::json,
         'plan_digest', r.plan_digest, 'statistics', q.statistics::json, 'inputs', q.inputs::json,
         'decision', q.decision::json, 'decision_digest', q.evidence, 'opened', rollout_time(q.opened),
         'expires', rollout_time(q.expires))::text
from rollout_request q join rollout r on r.id = q.rollout where q.rollout = $1 and q.step = $2::int

-- name: request_awaiting
-- What waits for people and was not decided by this one.
select r.id, r.step, json_build_object('id', u.id, 'name', u.name)::text,
       (select i.value from audit_pii i join promotion p on p.reason_commitment = i.commitment
        where p.id = r.promotion),
       rollout_time(q.opened), rollout_time(q.expires),
       coalesce((select (v.normal::json ->> 'threshold')::int > 0 from document d
                 join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
                 where d.kind = 'Environment' and d.name = r.environment), false)
from rollout_request q join rollout r on r.id = q.rollout join app_user u on u.id = r.requested_by
where q.state = 'open' and coalesce(q.expires > now() + interval '10 seconds', true)
  and ($2::text[] is null or split_part(r.model, '/', 1) = any ($2::text[]))
  and not exists (select from approval a where a.subject_kind = 'rollout'
                  and a.subject_id = q.rollout || '/' || q.step + 1 and a.signer = $1 and not a.void)
order by r.seq limit 1000

-- name: rollout_waits_for_person
select 1 from rollout r, json_array_elements(r.decision::json -> 'waiting_for') w
where r.id = $1 and w ->> 'what' = 'person' and (r.decision::json ->> 'step')::int = r.step

-- name: rollout_explained
select json_build_object('rollout', r.id, 'plan', r.plan::json, 'statistics', r.stats::json,
         'inputs', r.seen::json -> 'inputs', 'step', r.step, 'decision', r.decision::json)::text
from rollout r where r.id = $1

-- name: line_shown
select coalesce(json_agg(json_build_object('environment', l.environment, 'stopped', l.stopped,
         'by', json_build_object('id', u.id, 'name', u.name),
         'reason', (select p.value from audit_pii p where p.commitment = l.reason),
         'since', rollout_time(l.since)) order by l.environment), '[]'::json)::text
from line_stop l join app_user u on u.id = l.by_user

-- name: rollout_settled
-- What is live, of an environment ($1) or a model ($2), and has no rollout that goes on ($3: that has moved traffic).
select l.environment, l.model, l.version, l.digest from environment_live l
where ($1::text is null or l.environment = $1) and ($2::text is null or l.model = $2)
  and (exists (select from served s where s.environment = l.environment and s.model = l.model)
       or exists (select from document d join document_version v
                  on v.kind = d.kind and v.name = d.name and v.number = d.number
                  where d.kind = 'Environment' and d.name = l.environment
                    and json_array_length(v.normal::json -> 'targets') > 0))
  and not exists (select from rollout r where r.model = l.model and r.environment = l.environment and r.ended is null
                  and (not $3 or r.state <> 'preparing'))
order by l.environment, l.model

-- name: served_leave
-- Instances that the environment no longer names ($4: a JSON array of those that it does, "TARGET URL").
update served set state = 'draining', since = now(), unload_at = now()
where environment = $1 and model = $2 and version = $3::bigint and state in ('wanted', 'ready')
  and target || ' ' || instance not in (select json_array_elements_text($4::json))

-- name: served_endpoints
-- Instances of a target that answer for a name; those in doubt only without another.
select s.instance, coalesce(s.address, '') from served s
where s.environment = $1 and s.target = $2 and s.name = $3 and s.state = 'ready'
  and (s.problem is null or not exists (select from served o where o.environment = s.environment and o.target = s.target
                                        and o.name = s.name and o.state = 'ready' and o.problem is null))
order by s.instance

-- name: rollout_check_snapshot
set transaction isolation level repeatable read, read only

-- name: rollout_check_plans
select id, plan, plan_digest from rollout order by seq

-- name: rollout_check_requests
-- One after the other; the last column counts people whose approval stands.
select q.rollout, q.step, q.state, q.evidence, q.decision, q.statistics, q.inputs, r.plan,
       (select count(distinct a.signer) from approval a
        where a.subject_kind = 'rollout' and a.subject_id = q.rollout || '/' || q.step + 1
          and a.decision = 'approve' and not a.void and a.statement::json -> 'evidence' ->> 0 = q.evidence), r.seq
from rollout_request q join rollout r on r.id = q.rollout
where (r.seq, q.step) > ($1::bigint, $2::int) order by r.seq, q.step limit 1

-- name: rollout_check_steps
-- Steps that were left without the approvals that they ask for.
select r.id, s.number from rollout r
cross join lateral json_array_elements(r.plan::json -> 'steps') with ordinality s (step, number)
where json_array_length(coalesce(s.step -> 'approvals', '[]'::json)) > 0
  and (r.state in ('completing', 'completed') or s.number <= r.step)
  and not exists (select from rollout_request q where q.rollout = r.id and q.step = s.number - 1
                  and q.state = 'approved')
order by r.seq, s.number

-- name: rollout_check_splits
-- Each split with the rollout that goes on there, or what is live.
select s.route, s.model, s.environment, s.entry, r.id, coalesce(l.version, 0), s.target
from split s left join rollout r on r.model = s.model and r.environment = s.environment and r.ended is null
left join environment_live l on l.model = s.model and l.environment = s.environment
order by s.control, s.route

-- name: rollout_check_promotions
-- Promotions that roll out without a rollout, or whose rollout has ended otherwise than they say.
select p.id, p.state, coalesce(r.state, 'none') from promotion p left join rollout r on r.promotion = p.id
where (p.state = 'rolling_out' and (r.id is null or r.ended is not null))
   or (r.state = 'completed' and p.state not in ('live', 'replaced', 'rolled_back'))
   or (r.state in ('rolled_back', 'failed') and p.state <> r.state)

-- name: drift_environments
-- Environments that have instances, and what is live or rolls out of each.
select distinct environment from served order by environment

-- name: drift_instances
select distinct target, instance, driver, settings from served where environment = $1 and state <> 'gone'
order by target, instance

-- name: drift_served
-- Names of an instance, the newest first: those that shall be there, and those that were.
select name, model, version, digest, state, coalesce(tree, '') from served
where environment = $1 and target = $2 and instance = $3 and driver = $4 and settings = $5
order by (state = 'gone'), since desc limit 500

-- name: drift_set
insert into drift (environment, clean, report, since, looked) values ($1, $2, $3, now(), now())
on conflict (environment) do update set looked = now(),
       since = case when drift.report = excluded.report then drift.since else now() end,
       clean = excluded.clean, report = excluded.report
returning since = looked

-- name: rollout_version_number
select v.number, v.digest from version v join model m on m.id = v.model_id
where m.ns = $1 and m.name = $2 and v.digest = $3

-- name: weights_due
-- Instances of webhooks that do not know yet how a route is split, once the gateway holds the split.
select s.environment, s.target, i.instance, s.control, s.route, s.generation, s.entry, i.settings, coalesce(t.tries, 0)
from split s join gateway g on g.control = s.control and g.applied >= s.generation
join (select distinct on (environment, target, instance, model) environment, target, instance, model, settings
      from served where driver = 'webhook' and state = 'ready'
      order by environment, target, instance, model, since desc) i
  on i.environment = s.environment and i.target = s.target and i.model = s.model
left join weights_told t on t.instance = i.instance and t.control = s.control and t.route = s.route
where coalesce(t.generation, 0) < s.generation
  and (coalesce(t.retry_at, '-infinity') <= now() or t.retry_at > now() + interval '2 minutes') -- a clock set back
order by s.generation limit $1::bigint

-- name: weights_told
-- Taken ($7 null), or why not and when to try again. Nothing when the route is gone.
insert into weights_told as w (environment, target, instance, control, route, generation, tries, retry_at, problem)
select $1, $2, $3, $4, $5, case when $7::text is null then $6::bigint else 0 end, ($7 is not null)::int,
       case when $7 is not null then now() + make_interval(secs => $8::bigint / 1000.0) end, $7
from split where control = $4 and route = $5 for key share
on conflict (instance, control, route) do update
set environment = excluded.environment, target = excluded.target,
    generation = greatest(w.generation, excluded.generation),
    tries = case when excluded.problem is null then 0 else w.tries + 1 end,
    retry_at = excluded.retry_at, problem = excluded.problem

-- name: version_digest
select v.digest from version v join model m on m.id = v.model_id
where m.ns || '/' || m.name = $1 and v.number = $2::bigint

-- name: rollout_recent
-- Those that go on, and those that have ended in the last minute, of models in the namespaces $1 (null: all).
select r.id from rollout r
where (r.ended is null or r.ended > now() - interval '60 seconds')
  and ($1::text[] is null or split_part(r.model, '/', 1) = any ($1::text[]))
order by r.seq limit 1000

-- name: drift_recent
select environment, clean, report, rollout_time(since) from drift order by environment
