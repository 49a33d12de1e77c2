-- SPDX-License-Identifier: Apache-2.0
-- Statements of promql checks.

-- name: measure_due
-- Checks of rollouts whose step is in force, that were not asked for $1 milliseconds.
select r.id, r.step, c ->> 'id', c ->> 'query', coalesce(c ->> 'source', r.plan::json ->> 'source')
from rollout r cross join lateral json_array_elements(r.plan::json -> 'checks') c
left join measure m on m.rollout = r.id and m.check_id = c ->> 'id' and m.step = r.step
where r.state = 'running' and r.step_since is not null and c ->> 'type' = 'promql'
  and (m.asked is null or m.asked <= now() - make_interval(secs => $1::bigint / 1000.0))
order by m.asked nulls first, r.seq limit $2::bigint

-- name: measure_set
insert into measure (rollout, check_id, step, value, problem)
select id, $2, step, $4, $5 from rollout where id = $1 and step = $3::int and state = 'running'
on conflict (rollout, check_id) do update
set step = excluded.step, value = excluded.value, problem = excluded.problem, counted = false, asked = now()

-- name: measure_take
-- Each value counts once, and only in the step in which it was asked for.
update measure set counted = true where rollout = $1 and step = $2::int and not counted
returning check_id, value, problem
