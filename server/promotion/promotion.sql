-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/promotion. Times leave as RFC 3339 text or milliseconds, hashes as hex.

-- name: promotion_states_promotion
select id, state from promotion_states where object_kind = 'promotion'

-- name: promotion_states_live
select id, state from promotion_states where object_kind = 'live'

-- name: promotion_state_get
select state from promotion_states where object_kind = $1 and id = $2

-- name: promotion_news_share
-- Held by what begins to depend on documents; documents that change take it whole.
select pg_advisory_xact_lock_shared(7305819)

-- name: promotion_news_lock
select pg_advisory_xact_lock(7305819)

-- name: promotion_model_lock
-- Held by what opens promotions of a model, or changes what is live of it.
select pg_advisory_xact_lock(7305820, hashtext($1))

-- name: promotion_next_id
select 'p' || nextval('promotion_number')

-- name: promotion_version
-- $3: number, 0: the newest
select v.id, v.number, v.digest, v.status, v.author from version v join model m on m.id = v.model_id
where m.ns = $1 and m.name = $2 and v.number = case when $3::bigint = 0 then m.versions else $3::bigint end for share
  of v

-- name: promotion_version_number
-- A digest's or alias' number.
select v.number from version v join model m on m.id = v.model_id where m.ns = $1 and m.name = $2 and v.digest = $3
union all
select a.number from alias a join model m on m.id = a.model_id where m.ns = $1 and m.name = $2 and a.alias = $3
limit 1

-- name: promotion_insert
insert into promotion (id, version_id, model, version, digest, environment, state, requested_by, reason_commitment,
  claimed_until)
values ($1, $2::bigint, $3, $4::bigint, $5, $6, 'evaluating', $7, $8, now() + interval '60 seconds')

-- name: promotion_insert_rollback
insert into promotion (id, version_id, model, version, digest, environment, state, requested_by, reason_commitment,
                       rollback_of, live_since, policy_digest, environment_digest, from_digest)
values ($1, $2::bigint, $3, $4::bigint, $5, $6, case when $14 then 'rolling_out' else 'live' end, $7, $8, $9,
        case when not $14 then $10::timestamptz end, $11, $12, $13)

-- name: promotion_rolling
-- The one that rolls out.
select id from promotion where model = $1 and environment = $2 and state = 'rolling_out'

-- name: promotion_is_rollback
select rollback_of is not null from promotion where id = $1

-- name: promotion_lock
select p.id, p.model, p.version_id, p.version, p.digest, p.environment, p.state, p.requested_by, p.round, p.stale,
       p.verdict_digest, p.policy_digest, p.environment_digest, p.from_digest, p.basis_digest,
         promotion_time(p.expires),
       v.status, v.author, coalesce(p.expires <= now(), false), coalesce(p.verdict, ''), p.retries,
       (extract(epoch from p.created) * 1000)::bigint, coalesce(p.verdict::json ->> 'verdict', '')
from promotion p join version v on v.id = p.version_id where p.id = $1 for update of p

-- name: promotion_read
select p.id, p.model, p.version_id, p.version, p.digest, p.environment, p.state, p.requested_by, p.round, p.stale,
       p.verdict_digest, p.policy_digest, p.environment_digest, p.from_digest, p.basis_digest,
         promotion_time(p.expires),
       v.status, v.author, coalesce(p.expires <= now(), false), coalesce(p.verdict, ''), p.retries,
       (extract(epoch from p.created) * 1000)::bigint, coalesce(p.verdict::json ->> 'verdict', '')
from promotion p join version v on v.id = p.version_id where p.id = $1

-- name: promotion_moments
-- Asked after the lock was waited for: whether it has expired, and whether a moment that it waits for has come.
select coalesce(expires <= clock_timestamp(), false), coalesce(retry_at <= clock_timestamp(), false)
from promotion where id = $1

-- name: promotion_bundle
select coalesce(bundle, 'null') from promotion where id = $1

-- name: promotion_rules
select coalesce(bundle::json -> 'policy' -> 'approvals', '[]'::json)::text from promotion where id = $1

-- name: promotion_excluded
-- Author of the version and who asked, and the owners of those that are services.
select distinct x.id from promotion p join version v on v.id = p.version_id
cross join lateral (values (v.author), (p.requested_by)) a (id)
left join app_user u on u.id = a.id
cross join lateral (values (u.id), (u.owner), (a.id)) x (id)
where p.id = $1 and x.id is not null

-- name: promotion_move
update promotion set state = $2, superseded_by = $3,
       stale = case when $2 = 'evaluating' then false else stale end,
       round = round + case when $2 = 'evaluating' then 1 else 0 end,
       claimed_until = null, retry_at = null,
       live_since = case when $2 = 'live' then $4::timestamptz else live_since end,
       ended = case when $2 in ('rejected', 'rolled_back', 'failed', 'replaced', 'cancelled', 'expired', 'superseded')
               then now() else ended end
where id = $1

-- name: promotion_judged
-- The verdict, with the state that follows from it.
update promotion set state = $2, bundle = $3, verdict = $4, verdict_digest = $5, policy_digest = $6,
  environment_digest = $7,
       from_digest = $8, basis_digest = $9, expires = $10::timestamptz, retry_at = to_timestamp($11::bigint / 1000.0),
       retries = $12::int, claimed_until = null, ended = case when $2 = 'rejected' then now() end
where id = $1

-- name: promotion_verdict_leaf
update promotion set verdict_leaf = decode($2, 'hex') where id = $1

-- name: promotion_unjudged
-- Promotions whose evaluation nobody does (any more). A claim from before the clock was set back holds nobody off.
select id from promotion
where state = 'evaluating'
  and (coalesce(claimed_until, '-infinity') <= now() or claimed_until > now() + interval '61 seconds')
order by seq limit 50

-- name: promotion_claim
update promotion set claimed_until = now() + interval '60 seconds'
where id = $1 and state = 'evaluating'
  and (coalesce(claimed_until, '-infinity') <= now() or claimed_until > now() + interval '61 seconds') returning id

-- name: promotion_unclaim_all
-- By a new leader: whoever judged may have died with the one before.
update promotion set claimed_until = null where state = 'evaluating' and claimed_until is not null

-- name: promotion_unclaim
update promotion set claimed_until = now() + make_interval(secs => $2::bigint) where id = $1 and state = 'evaluating'

-- name: promotion_of_version
-- The one of this version that is open, or else live.
select id, state from promotion
where model = $1 and environment = $2 and version = $3::bigint
  and state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled', 'rolling_out', 'live')
order by (state = 'live'), seq desc limit 1

-- name: promotion_judged_now
-- The one that is judged or waits for people.
select id, version from promotion where model = $1 and environment = $2 and state in ('evaluating', 'held',
  'awaiting_approval')
for update

-- name: promotion_other_judged
select id from promotion where model = $1 and environment = $2 and id <> $3
  and state in ('evaluating', 'held', 'awaiting_approval') limit 1

-- name: promotion_stale_model
update promotion set stale = true
where id in (select id from promotion where model = $1 and id <> $2 and not stale
             and state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled')
               order by id for update)

-- name: promotion_stale_environment
update promotion set stale = true
where id in (select id from promotion where environment = $1 and not stale
             and state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled')
               order by id for update)

-- name: promotion_stale_all
update promotion set stale = true
where id in (select id from promotion where not stale
             and state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled')
               order by id for update)

-- name: promotion_fresh
update promotion set stale = false, retry_at = null where id = $1

-- name: promotion_later
-- Not before so many seconds.
update promotion set retry_at = now() + make_interval(secs => $2::bigint)
where id = $1 and state in ('awaiting_approval', 'approved', 'queued', 'scheduled')

-- name: promotion_earlier
-- One that was asked for earlier goes live first.
select id from promotion
where model = $1 and environment = $2 and state in ('approved', 'queued', 'scheduled')
  and seq < (select o.seq from promotion o where o.id = $3) limit 1

-- name: promotion_window_schedule
-- Whether a window is open that opens by a schedule: $1 zone, $2 how long in ms, then minutes, hours, days, months and
-- weekdays (0 is Sunday). $8: days and weekdays are both restricted, then one of them is enough (as cron has it).
select exists (
  select from generate_series(((now() at time zone $1)::date - ($2::bigint / 86400000 + 2)::int)::timestamp,
                              (now() at time zone $1)::date::timestamp, interval '1 day') d
  cross join lateral (select extract(day from d)::int = any ($5::int[]) as day,
                             extract(dow from d)::int = any ($7::int[]) as weekday) is_on
  cross join unnest($4::int[]) h cross join unnest($3::int[]) m
  cross join lateral (select (d + make_interval(hours => h, mins => m)) at time zone $1 as opens) w
  where extract(month from d)::int = any ($6::int[])
    and case when $8::bool then day or weekday else day and weekday end
    and w.opens <= now() and now() < w.opens + $2::bigint * interval '1 millisecond')

-- name: promotion_window_dates
-- The same from $1 to $2, in zone $3; a date without a time is the whole day.
select now() >= case when length($1) = 10 then $1::timestamp at time zone $3 else $1::timestamptz end
   and now() < case when length($2) = 10 then ($2::timestamp + interval '1 day') at time zone $3
               else $2::timestamptz end

-- name: promotion_zone
select 1 from pg_timezone_names where lower(name) = lower($1)
union all select 1 from pg_timezone_abbrevs where lower(abbrev) = lower($1) limit 1

-- name: promotion_live_of
-- What is live in an environment.
select model, version from environment_live where environment = $1 order by model

-- name: promotion_alias_before
-- The alias that the version of its document before the newest named.
select coalesce(normal::json ->> 'alias', '') from document_version where kind = 'Environment' and name = $1
order by number desc offset 1 limit 1

-- name: promotion_due
-- What the leader has to do next, the oldest first. $1: size of the published log.
select p.id, case when v.status = 'withdrawn' then 'withdraw'
                  when p.expires <= now() then 'expire'
                  when p.state = 'held' then 'evaluate'
                  when p.stale then 'compare'
                  else 'effect' end
from promotion p join version v on v.id = p.version_id
where p.state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled')
  and (p.state in ('evaluating', 'held') or coalesce(p.retry_at, '-infinity') <= now()
       or p.retry_at > now() + interval '61 seconds')
  and (v.status = 'withdrawn' or p.expires <= now() or (p.stale and p.state <> 'evaluating')
       or (p.state = 'held' and p.retry_at <= now())
       or (p.state in ('approved', 'queued', 'scheduled')
           and exists (select from audit_log l where l.leaf_hash = p.verdict_leaf and l.idx < $1::bigint
                       and l.log_id = (select max(o.log_id) from audit_origin o))
           and not exists (select from approval a where a.subject_kind = 'promotion' and a.subject_id = p.id
             and not a.void
                           and not exists (select from audit_log l where l.leaf_hash = a.leaf and l.idx < $1::bigint
                                           and l.log_id = (select max(o.log_id) from audit_origin o)))))
order by p.seq limit 200

-- name: promotion_live_get
-- What is live, held until the transaction ends.
select version, digest, promotion, (extract(epoch from since) * 1000)::bigint from environment_live
where environment = $1 and model = $2 for update

-- name: promotion_live_read
select version, digest, promotion, (extract(epoch from since) * 1000)::bigint from environment_live
where environment = $1 and model = $2

-- name: promotion_live_set
insert into environment_live (environment, model, version, digest, promotion, since)
values ($1, $2, $3::bigint, $4, $5, $6::timestamptz)
on conflict (environment, model) do update
set version = excluded.version, digest = excluded.digest, promotion = excluded.promotion, since = excluded.since

-- name: promotion_back
-- What a rollback goes back to: of the versions that were live there before, the newest that is not withdrawn and whose
-- last time live did not end in a rollback.
select l.version from (select distinct on (p.version) p.version, p.version_id, p.state from promotion p
                       where p.model = $1 and p.environment = $2 and p.live_since is not null
                       order by p.version, p.seq desc) l
join version v on v.id = l.version_id
where l.version <> $3::bigint and l.state <> 'rolled_back' and v.status <> 'withdrawn'
order by l.version desc limit 1

-- name: promotion_was_live
-- The digests under which this version was approved when it was last live there.
select p.policy_digest, p.environment_digest from promotion p
where p.model = $1 and p.environment = $2 and p.version = $3::bigint and p.live_since is not null
order by p.seq desc limit 1

-- name: promotion_show
select ns, shown from promotion_shown where id = $1

-- name: promotion_page
-- $1: before this place; $5: namespaces that may be read, null: all; $6: only open ones
select s.seq, s.id, s.shown from promotion_shown s
where s.seq < $1::bigint and ($2::text is null or s.model = $2) and ($3::text is null or s.environment = $3)
  and ($4::text is null or s.state = $4) and ($5::text[] is null or s.ns = any ($5::text[]))
  and (not $6::bool or s.state in ('evaluating', 'held', 'awaiting_approval', 'approved', 'queued', 'scheduled',
    'rolling_out'))
order by s.seq desc limit $7::bigint

-- name: promotion_decision
select p.state, p.verdict::json ->> 'verdict', promotion_time(p.expires), p.live_since is not null,
  split_part(p.model, '/', 1)
from promotion p where p.id = $1

-- name: promotion_awaiting
-- What waits for people and was not decided by this one.
select p.id, p.model, p.version, p.environment, json_build_object('id', u.id, 'name', u.name)::text,
       (select i.value from audit_pii i where i.commitment = p.reason_commitment),
       promotion_time(p.created), promotion_time(p.expires),
       coalesce((select (v.normal::json ->> 'threshold')::int > 0 from document d
                 join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
                 where d.kind = 'Environment' and d.name = p.environment), false)
from promotion p join app_user u on u.id = p.requested_by
where p.state = 'awaiting_approval'
  and ($2::text[] is null or split_part(p.model, '/', 1) = any ($2::text[]))
  and not exists (select from approval a where a.subject_kind = 'promotion' and a.subject_id = p.id and a.signer = $1
                  and not a.void)
order by p.seq limit 1000

-- name: promotion_environments
-- $2: only this one; $3: namespaces that may be read, null: all; $4: only this model
select json_build_object(
         'environment', d.name, 'alias', v.normal::json -> 'alias', 'policy', v.normal::json -> 'policy',
         'protected', (v.normal::json ->> 'threshold')::int > 0,
         'threshold', nullif((v.normal::json ->> 'threshold')::int, 0),
         'targets', json_array_length(v.normal::json -> 'targets'),
         'live', coalesce((select json_agg(l.j order by l.model) from (
                               select l.model, json_build_object('model', l.model, 'version', l.version, 'digest',
                                 l.digest,
                                                        'promotion', l.promotion, 'since', promotion_time(l.since)) as j
                               from environment_live l
                               where l.environment = d.name and ($4::text is null or l.model = $4)
                                 and ($3::text[] is null or split_part(l.model, '/', 1) = any ($3::text[]))
                               order by l.model limit 1000) l), '[]'::json))::text, d.name
from document d join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
where d.kind = 'Environment' and d.name > $1 and ($2::text is null or d.name = $2)
order by d.name limit $5::bigint

-- name: check_promotions
-- One after the other; the last column counts people whose approval stands and is about this verdict.
select p.id, p.seq, coalesce(p.bundle, ''), coalesce(p.verdict, ''), coalesce(p.verdict_digest, ''), p.digest,
       p.rollback_of is not null, p.live_since is not null or p.state in ('approved', 'queued', 'scheduled'),
       coalesce(p.policy_digest, ''), coalesce(p.environment_digest, ''),
       (select count(distinct a.signer) from approval a
        where a.subject_kind = 'promotion' and a.subject_id = p.id and a.decision = 'approve' and not a.void
          and a.statement::json ->> 'verdict_digest' = p.verdict_digest)
from promotion p where p.seq > $1::bigint order by p.seq limit 1

-- name: check_live
-- Rows of what is live that no promotion explains, and the other way round.
select 'live row ' || l.environment || '/' || l.model || ' has no live promotion of that version'
  from environment_live l
left join promotion p on p.id = l.promotion
where p.id is null or p.state <> 'live' or p.model <> l.model or p.environment <> l.environment
   or p.version <> l.version or p.digest <> l.digest
union all
select 'promotion ' || p.id || ' says that it is live, but it is not' from promotion p
left join environment_live l on l.environment = p.environment and l.model = p.model and l.promotion = p.id
where p.state = 'live' and l.promotion is null

-- name: check_live_aliases
-- Aliases of environments must name what is live there.
select 'alias ' || l.model || ':' || (e.normal::json ->> 'alias') || ' names '
       || coalesce('version ' || a.number, 'nothing') || ', but version ' || l.version || ' is live in ' ||
         l.environment
from environment_live l
join document d on d.kind = 'Environment' and d.name = l.environment
join document_version e on e.kind = d.kind and e.name = d.name and e.number = d.number
join model m on m.ns || '/' || m.name = l.model
left join alias a on a.model_id = m.id and a.alias = e.normal::json ->> 'alias'
where e.normal::json ->> 'alias' is not null and a.number is distinct from l.version
union all
select 'alias ' || m.ns || '/' || m.name || ':' || a.alias || ' names version ' || a.number ||
       ', but nothing is live in ' || d.name
from document d
join document_version e on e.kind = d.kind and e.name = d.name and e.number = d.number
join alias a on a.alias = e.normal::json ->> 'alias' join model m on m.id = a.model_id
where d.kind = 'Environment' and not exists (select from environment_live l
  where l.environment = d.name and l.model = m.ns || '/' || m.name)

-- name: check_promotion_leaves
-- Verdicts must have the leaf that they name.
select 'promotion ' || p.id || ' has not the leaf of its verdict' from promotion p
left join lateral (
        select convert_from(l.leaf, 'UTF8')::json as j from audit_log l where l.leaf_hash = p.verdict_leaf
        union all select convert_from(o.leaf, 'UTF8')::json from audit_outbox o where o.leaf_hash = p.verdict_leaf
        limit 1) l on true
where p.verdict is not null
  and (l.j is null or l.j ->> 'kind' <> 'promotion' or l.j ->> 'id' <> p.id
       or l.j -> 'state' ->> 'verdict' is distinct from p.verdict_digest)
