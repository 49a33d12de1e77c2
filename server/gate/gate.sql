-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/gate. Times leave as RFC 3339 text, hashes as hex. People, roles and keys are read from auth's
-- tables, versions from the registry's.

-- name: gate_states_document
select id, state from gate_state where object_kind = 'document'

-- name: gate_states_evaluation
select id, state from gate_state where object_kind = 'evaluation'

-- name: document_state
select state from gate_state where object_kind = 'document' and id = $1

-- name: document_head_share
-- While it is held no document changes.
select 1 from document_head h where h.id = 0 for share of h

-- name: document_head_lock
-- Whoever holds the row writes the next commit; its oid, '' before the first.
select h.seq, coalesce((select v.commit_oid from document_version v where v.seq = h.seq), '')
from document_head h where h.id = 0 for update of h

-- name: document_head_set
update document_head set seq = $1::bigint where id = 0

-- name: document_find
select d.number, d.digest, v.yaml, v.normal
from document d join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
where d.kind = $1 and d.name = $2

-- name: document_insert
insert into document (kind, name, number, digest) values ($1, $2, 1, $3)

-- name: document_raise
update document set number = number + 1, digest = $3 where kind = $1 and name = $2

-- name: document_version_insert
insert into document_version (kind, name, number, seq, digest, yaml, normal, commit_oid, author, at, leaf)
values ($1, $2, $3::bigint, $4::bigint, $5, $6, $7, $8, $9, $10::timestamptz, decode($11, 'hex'))

-- name: document_commit_insert
insert into document_commit (seq, bytes) values ($1::bigint, $2)

-- name: document_tree
-- Every document as it was at a place of the history.
select distinct on (v.kind, v.name) v.kind, v.name, v.yaml, v.normal from document_version v
where v.seq <= $1::bigint order by v.kind, v.name, v.seq desc

-- name: document_count
select count(*) from document

-- name: document_page
-- $3: namespaces whose models may be read, null: all
select json_build_object('kind', d.kind, 'name', d.name, 'version', d.number, 'digest', d.digest, 'at', gate_time(v.at),
                         'author', json_build_object('id', v.author, 'name', u.name))::text, d.kind, d.name
from document d join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
left join app_user u on u.id = v.author
where (d.kind, d.name) > ($1, $2)
  and ($3::text[] is null or d.kind <> 'Model' or split_part(d.name, '/', 1) = any ($3::text[]))
  and ($4::text is null or d.kind = $4)
order by d.kind, d.name limit $5::bigint

-- name: document_show
-- $3: 0 is the newest version
select json_build_object('kind', v.kind, 'name', v.name, 'version', v.number, 'digest', v.digest, 'at', gate_time(v.at),
         'author', json_build_object('id', v.author, 'name', u.name), 'commit', v.commit_oid,
         'leaf_hash', encode(v.leaf, 'hex'), 'document', v.normal::json, 'yaml', v.yaml,
         'people', coalesce((select json_object_agg(p.id, p.name) from app_user p
                             where p.name is not null and position('user:' || p.id in v.normal) > 0), '{}'::json),
         'protected', case when v.kind = 'Environment' then (v.normal::json ->> 'threshold')::int > 0 end,
         'versions', (select json_agg(json_build_object('version', h.number, 'digest', h.digest, 'at', gate_time(h.at),
                                                        'author', h.author, 'commit', h.commit_oid)
                                      order by h.number desc)
                      from (select * from document_version o where o.kind = v.kind and o.name = v.name
                            order by o.number desc limit 100) h))::text,
       v.digest, v.number = d.number
from document d join document_version v on v.kind = d.kind and v.name = d.name
left join app_user u on u.id = v.author
where d.kind = $1 and d.name = $2 and v.number = case when $3::bigint = 0 then d.number else $3::bigint end

-- name: environments_all
-- Every environment with its policy.
select ev.normal, coalesce(pv.normal, 'null')
from document e
join document_version ev on ev.kind = e.kind and ev.name = e.name and ev.number = e.number
left join document p on p.kind = 'Policy' and p.name = ev.normal::json ->> 'policy'
left join document_version pv on pv.kind = p.kind and pv.name = p.name and pv.number = p.number
where e.kind = 'Environment' order by e.name

-- name: environment_of_alias
select e.name from document e
join document_version ev on ev.kind = e.kind and ev.name = e.name and ev.number = e.number
where e.kind = 'Environment' and ev.normal::json ->> 'alias' = $1 order by e.name limit 1

-- name: aliases_astray
-- Aliases of the name $1 that do not name what is live in the environment $2, nor in one that gives the name up for it.
select m.ns, m.ns || '/' || m.name || ':' || a.alias from alias a join model m on m.id = a.model_id
where a.alias = $1 and not exists (
  select from environment_live l
  join document d on d.kind = 'Environment' and d.name = l.environment
  join document_version e on e.kind = d.kind and e.name = d.name and e.number = d.number
  where l.model = m.ns || '/' || m.name and l.version = a.number
    and (l.environment = $2 or e.normal::json ->> 'alias' = $1))
order by 2 limit 1000

-- name: models_with_route
-- Other models whose documents have a route of this name.
select d.name from document d join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
where d.kind = 'Model' and d.name <> $2
  and exists (select 1 from json_array_elements(v.normal::json -> 'routes') r where r ->> 'route' = $1)
order by d.name limit 1

-- name: models_routed_to
-- Models that have a route in the environment $1.
select d.name, v.normal
from document d join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
where d.kind = 'Model' and exists (select from json_array_elements(v.normal::json -> 'routes') r,
                                     json_array_elements_text(r -> 'environments') e where e = $1)
order by d.name

-- name: model_policies
-- Policies that documents of models name, with those models.
select v.normal::json ->> 'policy', d.name from document d
join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
where d.kind = 'Model' and v.normal::json ->> 'policy' is not null order by 1, 2

-- name: person_find
select u.id, u.kind = 'person', u.status = 'active',
       (select count(*) from ssh_key k where k.user_id = u.id and not k.revoked)
from app_user u where u.id = $1 or u.name = $1 order by (u.id = $1) desc limit 1

-- name: person_keys
select k.public from ssh_key k where k.user_id = $1 and not k.revoked order by k.id

-- name: members_user
select u.id from (select * from app_user where id = $1 or name = $1 order by (id = $1) desc limit 1) u
where u.kind = 'person' and u.status = 'active'

-- name: members_group
select u.id from document d
join document_version v on v.kind = d.kind and v.name = d.name and v.number = d.number
cross join json_array_elements_text(v.normal::json -> 'members') m (subject)
join app_user u on 'user:' || u.id = m.subject
where d.kind = 'Group' and d.name = $1 and u.kind = 'person' and u.status = 'active' order by u.id limit 10000

-- name: members_role
-- $2: the namespace, null: any
select distinct u.id from role_grant g join app_user u on u.id = g.user_id
where g.role = $1 and (g.ns = '*' or $2::text is null or g.ns = $2) and u.kind = 'person' and u.status = 'active'
order by u.id limit 10000

-- name: people_names
-- Ids as json array in; who they are.
select json_build_object('id', i.id, 'name', u.name)::text
from json_array_elements_text($1::json) i (id) left join app_user u on u.id = i.id order by i.id

-- name: evaluation_insert
insert into evaluation (version_id, id, submitted, examples, dataset, dataset_name, document, recomputed, author, at,
                        leaf)
values ($1::bigint, $2, $3, $4, $5, $6, $7, $8, $9, $10::timestamptz, decode($11, 'hex'))

-- name: evaluation_find
select e.key, e.withdrawn, encode(e.leaf, 'hex'), e.dataset, json_array_length(e.recomputed::json)
from evaluation e where e.version_id = $1::bigint and e.id = $2

-- name: evaluation_lock
select e.key, e.withdrawn from evaluation e where e.version_id = $1::bigint and e.id = $2 for update

-- name: evaluation_state
select state from gate_state where object_kind = 'evaluation' and id = $1

-- name: evaluation_withdraw
update evaluation set withdrawn = true, reason = $2 where key = $1::bigint

-- name: evaluation_page
select json_build_object('evaluation', e.id, 'model', m.ns || '/' || m.name, 'version', v.number,
                         'dataset', e.dataset, 'at', gate_time(e.at),
                         'author', json_build_object('id', e.author, 'name', u.name), 'examples', e.examples,
                         'withdrawn', e.withdrawn)::text, e.key
from evaluation e join version v on v.id = e.version_id join model m on m.id = v.model_id
left join app_user u on u.id = e.author
where e.version_id = $1::bigint and e.key < $2::bigint order by e.key desc limit $3::bigint

-- name: evaluation_show
select e.id, m.ns || '/' || m.name, v.number, v.digest, e.dataset, gate_time(e.at), e.author, u.name, e.submitted,
       e.examples, e.withdrawn, e.reason,
       (select count(distinct o.version_id) from evaluation o
        where md5(o.dataset) = md5(e.dataset) and o.dataset = e.dataset),
       e.document, e.recomputed, encode(e.leaf, 'hex')
from evaluation e join version v on v.id = e.version_id join model m on m.id = v.model_id
left join app_user u on u.id = e.author
where e.version_id = $1::bigint and e.id = $2

-- name: evaluation_bytes
select e.document, e.submitted from evaluation e where e.version_id = $1::bigint and e.id = $2

-- name: evaluation_find_all
-- Wherever the id is, in the namespaces $2 (null: all).
select json_build_object('evaluation', e.id, 'model', m.ns || '/' || m.name, 'version', v.number,
                         'dataset', e.dataset, 'at', gate_time(e.at),
                         'author', json_build_object('id', e.author, 'name', u.name), 'examples', e.examples,
                         'withdrawn', e.withdrawn)::text
from evaluation e join version v on v.id = e.version_id join model m on m.id = v.model_id
left join app_user u on u.id = e.author
where e.id = $1 and ($2::text[] is null or m.ns = any ($2::text[])) order by m.ns, m.name, v.number limit 100

-- name: evaluation_records
-- Records of a version for a bundle, oldest first.
select e.id, v.digest, e.submitted, e.examples, e.withdrawn, gate_time(e.at), e.document, e.recomputed
from evaluation e join version v on v.id = e.version_id where e.version_id = $1::bigint order by e.key

-- name: evaluation_judged
-- How many versions were ever evaluated on each dataset of this one.
select d.dataset, count(distinct o.version_id)
from (select distinct e.dataset from evaluation e where e.version_id = $1::bigint) d
join evaluation o on md5(o.dataset) = md5(d.dataset) and o.dataset = d.dataset
group by d.dataset order by d.dataset

-- name: evaluation_latest
-- Of a dataset, by name or pinned.
select e.document, e.examples is not null from evaluation e
where ((md5(e.dataset_name) = md5($1) and e.dataset_name = $1) or (md5(e.dataset) = md5($1) and e.dataset = $1))
  and not e.withdrawn
order by e.key desc limit 1

-- name: version_subject
-- The facts about a version in a bundle. $3: number, 0 the newest.
select v.id, v.number, v.digest, v.author, v.status, coalesce(v.card, ''), '{' || v.summary || '}', '{' || v.doc || '}'
from version v join model m on m.id = v.model_id
where m.ns = $1 and m.name = $2 and v.number = case when $3::bigint = 0 then m.versions else $3::bigint end

-- name: version_subject_digest
select v.number from version v join model m on m.id = v.model_id where m.ns = $1 and m.name = $2 and v.digest = $3

-- name: version_subject_alias
select a.number from alias a join model m on m.id = a.model_id where m.ns = $1 and m.name = $2 and a.alias = $3

-- name: check_documents
select v.seq, v.kind, v.name, v.number, v.digest, v.yaml, v.normal, v.commit_oid, c.bytes,
       (extract(epoch from v.at) * 1000)::bigint
from document_version v left join document_commit c on c.seq = v.seq
where v.seq > $1::bigint order by v.seq limit $2::bigint

-- name: check_document_rows
-- Heads, numbers and order must agree.
select d.kind || '/' || d.name || ': is not at its newest version' from document d
left join lateral (select v.number, v.digest from document_version v where v.kind = d.kind and v.name = d.name
                   order by v.number desc limit 1) n on true
where n.number is distinct from d.number or n.digest is distinct from d.digest
union all
select v.kind || '/' || v.name || ': its versions have a gap' from document_version v
group by v.kind, v.name having max(v.number) <> count(*)
union all
select 'documents: their order has a gap' from document_head h
where h.seq <> (select count(*) from document_version) or h.seq <> (select coalesce(max(seq), 0) from document_version)

-- name: check_gate_leaves
-- Versions and evaluations must have the leaf that they name.
select 'document ' || v.kind || '/' || v.name || ' version ' || v.number from document_version v
left join lateral (
        select convert_from(l.leaf, 'UTF8')::json as j from audit_log l where l.leaf_hash = v.leaf
        union all select convert_from(o.leaf, 'UTF8')::json from audit_outbox o where o.leaf_hash = v.leaf
        limit 1) l on true
where l.j is null or l.j ->> 'id' <> v.kind || '/' || v.name or l.j ->> 'action' <> 'document.apply'
   or l.j -> 'state' ->> 'digest' is distinct from v.digest or l.j -> 'state' ->> 'commit' is distinct from v.commit_oid
   or (l.j -> 'state' ->> 'version')::bigint is distinct from v.number
   or l.j -> 'state' ->> 'author' is distinct from v.author or l.j -> 'detail' ->> 'at' is distinct from gate_time(v.at)
   or (v.kind <> 'Group' and (l.j -> 'detail' -> 'document')::jsonb is distinct from v.normal::jsonb)
union all
select 'evaluation ' || m.ns || '/' || m.name || ':' || v.number || '/' || e.id
from evaluation e join version v on v.id = e.version_id join model m on m.id = v.model_id
left join lateral (
        select convert_from(l.leaf, 'UTF8')::json as j from audit_log l where l.leaf_hash = e.leaf
        union all select convert_from(o.leaf, 'UTF8')::json from audit_outbox o where o.leaf_hash = e.leaf
        limit 1) l on true
where l.j is null or l.j ->> 'action' <> 'evaluation.create'
   or l.j ->> 'id' <> m.ns || '/' || m.name || ':' || v.number || '/' || e.id

-- name: check_evaluations
select e.key, m.ns || '/' || m.name || ':' || v.number || '/' || e.id, e.id, v.digest, e.submitted,
       coalesce(e.examples, ''), e.dataset, e.dataset_name, e.document, e.recomputed
from evaluation e join version v on v.id = e.version_id join model m on m.id = v.model_id
where e.key > $1::bigint order by e.key limit $2::bigint

-- name: document_git_known
select 1 from document_version where commit_oid = $1

-- name: document_git_after
-- The version after this commit, '' for the first.
select v.seq, v.commit_oid, c.bytes, v.kind || '/' || v.name, v.yaml, v.normal
from document_version v join document_commit c on c.seq = v.seq
where v.seq > coalesce((select o.seq from document_version o where o.commit_oid = $1), 0) order by v.seq limit 1

-- name: document_git_behind
-- How many versions follow this commit.
select count(*) from document_version v
where v.seq > coalesce((select o.seq from document_version o where o.commit_oid = $1), 0)

-- name: document_git_newest
select coalesce((select commit_oid from document_version order by seq desc limit 1), '')

-- name: version_hold
-- Evaluations of a version are added one at a time, and not while its status changes.
select status from version where id = $1::bigint for no key update

-- name: person_owner
-- The owner of a service, '' for a person.
select coalesce(owner, '') from app_user where id = $1
