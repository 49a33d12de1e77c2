-- SPDX-License-Identifier: Apache-2.0
-- Statements of observations: what versions answered, and labels. $1 of those that take a report is a JSON array of
-- {m: model, e: environment, i: id, v: version or null, o: output or null, l: label or null, t: milliseconds or null}.

-- name: observation_place
-- Versions of a model, and which of them are live and roll out in an environment; no row where neither is so.
select (select max(v.number) from version v join model m on m.id = v.model_id where m.ns || '/' || m.name = $2),
       coalesce(r.version, 0), coalesce(r.from_version, l.version, 0)
from (select 1) one left join environment_live l on l.environment = $1 and l.model = $2
left join rollout r on r.environment = $1 and r.model = $2 and r.ended is null
where l.model is not null or r.id is not null

-- name: observation_route
select model from split where environment = $1 and route = $2 limit 1

-- name: observation_lock
-- Reports come one after the other: a prediction and its label that arrive at once find each other.
select pg_advisory_xact_lock(7305821)

-- name: observation_record
with input as materialized (
        select * from json_to_recordset($1::json) as x(m text, e text, i text, v bigint, o text, l text, t bigint)
), predictions as (
        insert into observation (model, environment, id, version, output, at)
        select distinct on (m, e, i, v) m, e, i, v, o, coalesce(to_timestamp(t / 1000.0), now()) from input
        where o is not null on conflict do nothing returning 1
), labels as (
        insert into observation_label (model, environment, id, label)
        select distinct on (m, e, i) m, e, i, l from input where l is not null on conflict do nothing returning 1
)
select (select count(*) from predictions), (select count(*) from labels)

-- name: observation_join
update observation o set label = l.label, labelled = now() from observation_label l
where (l.model, l.environment, l.id) = (o.model, o.environment, o.id) and o.label is null
  and (o.model, o.environment, o.id) in (select x.m, x.e, x.i
       from json_to_recordset($1::json) as x(m text, e text, i text))

-- name: observation_different
-- Values of a report that are not those that were recorded before.
select count(*) from json_to_recordset($1::json) as x(m text, e text, i text, v bigint, o text, l text)
left join observation o on o.model = x.m and o.environment = x.e and o.id = x.i and o.version = x.v
left join observation_label l on l.model = x.m and l.environment = x.e and l.id = x.i
where x.o <> o.output or x.l <> l.label

-- name: observation_take
-- Counts what is complete, of candidate ($3) and stable ($4), answered since $5 (milliseconds): now and never again.
-- What only one of them answered waits for two seconds for the other's answer.
with due as materialized (
        select distinct id from (select id from observation a
                where model = $1 and environment = $2 and version in ($3::bigint, $4::bigint) and label is not null
                  and not counted and at >= to_timestamp($5::bigint / 1000.0)
                  and (labelled < now() - interval '2 seconds' or exists (select from observation b
                       where b.model = $1 and b.environment = $2 and b.id = a.id and b.version <> a.version
                         and b.version in ($3::bigint, $4::bigint) and b.label is not null and not b.counted))
                limit $6::bigint) few
)
update observation o set counted = true from due
where o.model = $1 and o.environment = $2 and o.id = due.id and o.version in ($3::bigint, $4::bigint)
  and o.label is not null and not o.counted and o.at >= to_timestamp($5::bigint / 1000.0)
returning o.id, o.version = $3::bigint, (extract(epoch from o.at) * 1000)::bigint, o.output = o.label

-- name: observation_forget
delete from observation where ctid in (select ctid from observation
        where created < now() - make_interval(days => $1::int) order by created limit $2::bigint)

-- name: observation_label_forget
delete from observation_label where ctid in (select ctid from observation_label
        where created < now() - make_interval(days => $1::int) order by created limit $2::bigint)
