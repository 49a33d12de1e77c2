-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/approval. Times leave as RFC 3339 text, hashes as hex.

-- name: approval_states_approval
select id, state from approval_state where object_kind = 'approval'

-- name: approval_states_change
select id, state from approval_state where object_kind = 'change'

-- name: approval_state_get
select state from approval_state where object_kind = $1 and id = $2

-- name: approval_signer
-- Who the caller is to a statement.
select name_commitment, kind = 'person' from app_user where id = $1 and status = 'active'

-- name: approval_key_share
-- A key that holds, and goes on to until COMMIT.
select k.id from ssh_key k where k.user_id = $1 and k.public = $2 and not k.revoked for share

-- name: approval_next_id
select 'a' || nextval('approval_number')

-- name: approval_insert
insert into approval (id, subject_kind, subject_id, decision, signer, key_id, statement, statement_digest, signature,
                      signature_digest, role, reason_commitment, nonce, time, expires, leaf)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14::timestamptz, $15::timestamptz, decode($16, 'hex'))
on conflict do nothing returning id

-- name: approval_nonce_used
select 1 from approval where nonce = $1

-- name: approval_reason_insert
insert into audit_pii (commitment, subject, salt, value) values ($1, $2, decode($3, 'hex'), $4)
on conflict do nothing

-- name: approval_people
-- Who approved and stands, for $3 seconds more: people once each.
select distinct a.signer from approval a
join app_user u on u.id = a.signer join ssh_key k on k.id = a.key_id
where a.subject_kind = $1 and a.subject_id = $2 and a.decision = 'approve' and not a.void
  and a.expires > now() + make_interval(secs => $3::bigint)
  and u.status = 'active' and u.kind = 'person' and not k.revoked
order by a.signer limit 1000

-- name: approval_people_held
-- The same; neither they nor their keys change until COMMIT.
select distinct h.signer from (
  select a.signer from approval a
  join app_user u on u.id = a.signer join ssh_key k on k.id = a.key_id
  where a.subject_kind = $1 and a.subject_id = $2 and a.decision = 'approve' and not a.void
    and a.expires > clock_timestamp() + make_interval(secs => $3::bigint)
    and u.status = 'active' and u.kind = 'person' and not k.revoked
  order by a.seq limit 1000 for share of u, k) h
order by h.signer

-- name: approval_shown_list
select approval_shown($1, $2)::text

-- name: approval_standing
select id from approval where subject_kind = $1 and subject_id = $2 and not void and decision <> 'rollback'
order by seq for update

-- name: approval_set_void
update approval set void = true where id = $1

-- name: approval_names
-- Ids as json array in; who they are.
select json_build_object('id', i.id, 'name', u.name)::text
from json_array_elements_text($1::json) i (id) left join app_user u on u.id = i.id order by i.id

-- name: change_next_id
select 'c' || nextval('change_number')

-- name: change_serial
-- One at a time opens a change of a document.
select pg_advisory_xact_lock(7305818, hashtext($1 || '/' || $2))

-- name: change_pending
select id, after_digest, before_digest, need from change_request
  where kind = $1 and name = $2 and state = 'pending' for update

-- name: change_roles_of
-- Roles that wait for a person.
select id from change_request where kind = 'Role' and state = 'pending' and starts_with(name, $1 || '/') order by seq

-- name: change_insert
insert into change_request (id, kind, name, before_digest, after_digest, yaml, normal, protection, need, requested_by,
  expires)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9::int, $10, date_trunc('milliseconds', now() + interval '14 days'))

-- name: change_move
update change_request set state = $2 where id = $1

-- name: change_signers_hold
-- Who signed and who is about to ($2) stay who they are until COMMIT: people come before documents.
select u.id from app_user u
where u.id = $2 or u.id in (select a.signer from approval a where a.subject_kind = 'change' and a.subject_id = $1)
order by u.id for share

-- name: change_lock
select c.id, c.kind, c.name, c.before_digest, c.after_digest, c.yaml, c.normal, c.state, c.requested_by,
       approval_time(c.expires), c.expires <= now(),
       exists (select from json_array_elements(c.protection::json) p where (p -> 'owners')::jsonb ? $2)
from change_request c where c.id = $1 for update

-- name: change_read
select c.id, c.kind, c.name, c.before_digest, c.after_digest, c.yaml, c.normal, c.state, c.requested_by,
       approval_time(c.expires), c.expires <= now(),
       exists (select from json_array_elements(c.protection::json) p where (p -> 'owners')::jsonb ? $2)
from change_request c where c.id = $1

-- name: change_shown
-- As it is shown, but for what it has and waits for.
select json_build_object('id', c.id, 'document', c.kind || '/' || c.name, 'kind', c.kind, 'name', c.name,
                         'before', c.before_digest, 'after', c.after_digest,
                         'environments', (select json_agg(p ->> 'environment')
                           from json_array_elements(c.protection::json) p),
                         'need', c.need, 'state', c.state, 'requested_by', json_build_object('id', u.id, 'name',
                           u.name),
                         'person', case when c.kind in ('Role', 'Key') then (select json_build_object('id', p.id,
                           'name', p.name) from app_user p where p.id = split_part(c.name, '/', 1)) end,
                         'created', approval_time(c.created), 'expires', approval_time(c.expires),
                         'approvals', approval_shown('change', c.id), 'url', '/api/v1/changes/' || c.id)::text
from change_request c join app_user u on u.id = c.requested_by where c.id = $1

-- name: change_page
select c.id, c.seq, c.kind, c.name from change_request c
where c.seq < $1::bigint and ($2::text is null or c.state = $2)
  and ($3::text is null or exists (select from json_array_elements(c.protection::json) p
    where p ->> 'environment' = $3))
  and ($5::text[] is null or c.kind <> 'Model' or split_part(c.name, '/', 1) = any ($5::text[])
       or exists (select from json_array_elements(c.protection::json) p where (p -> 'owners')::jsonb ? $6))
order by c.seq desc limit $4::bigint

-- name: change_before
select yaml, normal from document_version where kind = $1 and name = $2 and digest = $3 order by number desc limit 1

-- name: change_pending_all
select c.id, c.kind, c.name, c.need, json_build_object('id', u.id, 'name', u.name)::text, approval_time(c.created),
       approval_time(c.expires),
       coalesce((select string_agg(p ->> 'environment', ', ') from json_array_elements(c.protection::json) p), ''),
       case when c.kind in ('Role', 'Key') then (select json_build_object('id', p.id, 'name', p.name)::text
         from app_user p where p.id = split_part(c.name, '/', 1)) else 'null' end
from change_request c join app_user u on u.id = c.requested_by
where c.state = 'pending' and not exists (select from approval a where a.subject_kind = 'change' and a.subject_id = c.id
                                          and a.signer = $1 and not a.void)
order by c.seq limit 1000

-- name: change_due
select id from change_request where state = 'pending' and expires <= now() order by seq limit 100

-- name: check_approvals
select a.id, a.subject_kind, a.subject_id, a.decision, a.signer, a.statement, a.statement_digest, a.signature,
       a.signature_digest, k.public, k.user_id, k.type, a.nonce, a.role, a.reason_commitment, a.seq,
         approval_time(a.expires)
from approval a join ssh_key k on k.id = a.key_id where a.seq > $1::bigint order by a.seq limit 100

-- name: check_approval_leaves
-- Decisions must have the leaf that they name.
select a.id from approval a
left join lateral (
        select convert_from(l.leaf, 'UTF8')::json as j from audit_log l where l.leaf_hash = a.leaf
        union all select convert_from(o.leaf, 'UTF8')::json from audit_outbox o where o.leaf_hash = a.leaf
        limit 1) l on true
where l.j is null or l.j ->> 'kind' <> 'approval' or l.j ->> 'id' <> a.id
   or l.j -> 'detail' ->> 'statement' is distinct from a.statement
   or l.j -> 'detail' ->> 'signature' is distinct from a.signature

-- name: check_changes
-- What was applied is a version of its document.
select c.id from change_request c
where c.state = 'applied' and c.kind not in ('Role', 'Key')
  and not exists (select from document_version v where v.kind = c.kind and v.name = c.name
    and v.digest = c.after_digest)

-- name: guard_snapshot
set transaction isolation level repeatable read, read only

-- name: guard_leaves
-- In the order of the log; what waits to be sequenced comes last.
select x.log_id, x.idx, convert_from(x.leaf, 'UTF8') from (
        (select s.log_id, s.idx, l.leaf from audit_search s join audit_log l on l.log_id = s.log_id and l.idx = s.idx
         where (s.log_id, s.idx) > ($1::bigint, $2::bigint)
           and s.kind in ('user', 'role', 'key', 'document', 'change', 'approval')
         order by s.log_id, s.idx limit $3::bigint)
        union all
        (select 2147483648, o.id, o.leaf from audit_outbox o
         where ($1::bigint < 2147483648 or o.id > $2::bigint)
           and o.kind in ('user', 'role', 'key', 'document', 'change', 'approval')
         order by o.id limit $3::bigint)) x
order by x.log_id, x.idx limit $3::bigint
