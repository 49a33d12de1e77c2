-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/audit.

-- name: audit_origin_get
select log_id, origin, state::text from audit_origin order by log_id desc limit 1

-- name: audit_origin_insert
insert into audit_origin (log_id, origin, state) values ($1, $2, $3::jsonb)

-- name: audit_origin_update
update audit_origin set state = $2::jsonb where log_id = $1

-- name: audit_origin_states
select origin, state::text from audit_origin

-- name: audit_anchor_states
select oid, state::text from audit_anchor

-- name: audit_head_get
select log_id, size, root, frontier, epoch from audit_head where id = 0

-- name: audit_head_lock
select log_id, size, root, frontier, epoch from audit_head where id = 0 for update

-- name: audit_head_insert
insert into audit_head (id, log_id, size, root, frontier, epoch) values (0, $1, $2, $3, $4, $5)

-- name: audit_head_update
update audit_head set log_id = $1, size = $2, root = $3, frontier = $4, epoch = $5 where id = 0

-- name: audit_outbox_insert
insert into audit_outbox (leaf, leaf_hash, actor, action, kind, object_id, model, time)
values ($1, $2, $3, $4, $5, $6, $7, $8::timestamptz)

-- name: audit_outbox_any
select exists (select from audit_outbox)

-- name: audit_outbox_list
select leaf, leaf_hash from audit_outbox order by id

-- name: audit_sequence
-- Moves at most 4096 rows, of at most 16 MiB together, from the outbox to the log $1 at $2, $2 + 1, …
with chosen as (
        select id from (
                select id, sum(length(leaf)) over (order by id) - length(leaf) as before
                from (select id, leaf from audit_outbox order by id limit 4096) o
        ) t where before < 16777216
), gone as (
        delete from audit_outbox where id in (select id from chosen) returning *
), numbered as (
        select *, $2::bigint + row_number() over (order by id) - 1 as idx from gone
), logged as (
        insert into audit_log (log_id, idx, leaf, leaf_hash)
        select $1::integer, idx, leaf, leaf_hash from numbered
), searchable as (
        insert into audit_search (log_id, idx, actor, action, kind, object_id, model, time)
        select $1::integer, idx, actor, action, kind, object_id, model, time from numbered
)
select idx, leaf_hash from numbered order by idx

-- name: audit_leaves
select idx, leaf, leaf_hash from audit_log where log_id = $1 and idx >= $2 order by idx limit $3::bigint

-- name: audit_checkpoint_insert
insert into audit_checkpoint (log_id, size, root, note) values ($1, $2, $3, $4) on conflict do nothing

-- name: audit_pii_insert
insert into audit_pii (commitment, subject, salt, value) values ($1, $2, $3, $4)

-- name: audit_pii_get
select value from audit_pii where commitment = $1

-- name: audit_pii_erase
delete from audit_pii where subject = $1

-- name: audit_snapshot
set transaction isolation level repeatable read, read only

-- name: audit_entries
-- Newest first, below the position ($8, $9). $10: everything; else of the log's keys, of people's
-- roles and keys, who founded environments, and of models in the namespaces $11 (null: all).
select s.idx, encode(l.leaf_hash, 'hex'),
       to_char(s.time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
       s.actor, s.action, s.kind, s.object_id, s.model, convert_from(l.leaf, 'UTF8'), s.log_id
from audit_search s join audit_log l on l.log_id = s.log_id and l.idx = s.idx
where ($1::text is null or s.actor = $1) and ($2::text is null or s.action = $2)
  and ($3::text is null or s.model = $3) and ($4::text is null or s.kind = $4)
  and ($5::text is null or s.object_id = $5)
  and ($6::timestamptz is null or s.time >= $6) and ($7::timestamptz is null or s.time < $7)
  and (s.log_id, s.idx) < ($8::integer, $9::bigint)
  and ($10::boolean or s.kind in ('log', 'key', 'role') or s.action = 'environment.protect' or (s.model is not null
                        and ($11::text[] is null or split_part(s.model, '/', 1) = any ($11))))
order by s.log_id desc, s.idx desc limit $12::bigint

-- name: audit_entry_at
select s.idx, encode(l.leaf_hash, 'hex'),
       to_char(s.time at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'),
       s.actor, s.action, s.kind, s.object_id, s.model, convert_from(l.leaf, 'UTF8'), s.log_id
from audit_search s join audit_log l on l.log_id = s.log_id and l.idx = s.idx
where s.log_id = $1 and s.idx = $2

-- name: audit_index_of
select log_id, idx from audit_log where leaf_hash = decode($1, 'hex') order by log_id desc, idx desc limit 1

-- name: audit_outbox_has
select exists (select from audit_outbox where leaf_hash = decode($1, 'hex'))

-- name: audit_outbox_text
select convert_from(leaf, 'UTF8') from audit_outbox order by id

-- name: audit_anchor_last
select oid, coalesce(state ->> 'parent', ''), log_id, size from audit_anchor order by seq desc limit 1

-- name: audit_anchor_insert
insert into audit_anchor (log_id, oid, size, state, bytes) values ($1, $2, $3, $4::jsonb, $5)

-- name: audit_origins
select o.log_id, o.origin, o.state::text,
       (select count(*) from audit_log l where l.log_id = o.log_id)
from audit_origin o order by o.log_id

-- name: audit_checkpoints
select size, encode(root, 'hex'), note from audit_checkpoint
where log_id = $1 and size <= $2 order by size

-- name: audit_anchors
-- Oldest first, each with the note of its checkpoint and the index of its leaf.
select a.log_id, a.oid, coalesce(p.note, ''), s.idx, a.bytes
from audit_anchor a
left join audit_checkpoint p on p.log_id = a.log_id and p.size = a.size
left join audit_search s on s.kind = 'anchor' and s.object_id = a.oid
order by a.seq

-- name: audit_pii_differs
select commitment from audit_pii
where commitment <> 'sha256:' || encode(sha256(salt || convert_to(value, 'UTF8')), 'hex') order by 1 limit 1

-- name: audit_first_missing
-- The first index below the size that has no row.
select i from generate_series(0, $2::bigint - 1) i
where not exists (select from audit_log l where l.log_id = $1 and l.idx = i) order by i limit 1

-- name: audit_search_differs
select l.idx from audit_log l
left join audit_search s on s.log_id = l.log_id and s.idx = l.idx
cross join lateral (select convert_from(l.leaf, 'UTF8')::json as j) x
where s.idx is null or s.actor <> x.j ->> 'actor' or s.action <> x.j ->> 'action' or s.kind <> x.j ->> 'kind'
   or s.object_id <> x.j ->> 'id' or s.time <> (x.j ->> 'time')::timestamptz
order by l.log_id, l.idx limit 1

-- name: audit_quiesce
lock table audit_outbox in share mode

-- name: audit_export
select pg_export_snapshot()
