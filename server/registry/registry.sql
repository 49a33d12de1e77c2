-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/registry. Times leave as RFC 3339 text, hashes as hex.

-- name: registry_states_model
select id, state from registry_state where object_kind = 'model'

-- name: registry_states_version
select id, state from registry_state where object_kind = 'version'

-- name: registry_states_alias
select id, state from registry_state where object_kind = 'alias'

-- name: model_insert
insert into model (ns, name, created) values ($1, $2, $3::timestamptz)
on conflict (ns, name) do nothing returning id

-- name: model_lock
-- Whoever holds the row makes the next version; others of this model wait.
select id, versions from model where ns = $1 and name = $2 for update

-- name: model_find
select id, versions from model where ns = $1 and name = $2

-- name: model_count_version
update model set versions = $2::bigint where id = $1::bigint

-- name: model_page
-- $3: namespaces that may be read, null: all
select json_build_object('model', m.ns || '/' || m.name, 'namespace', m.ns, 'name', m.name,
         'created', registry_time(m.created), 'latest', m.versions,
         'aliases', coalesce((select json_object_agg(a.alias, a.number order by a.alias)
                              from alias a where a.model_id = m.id), '{}'::json))::text,
       m.ns, m.name
from model m
where (m.ns, m.name) > ($1, $2) and ($3::text[] is null or m.ns = any ($3::text[]))
  and ($4::text is null or m.ns = $4) and ($5::text is null or position($5 in m.name) > 0)
order by m.ns, m.name limit $6::bigint

-- name: model_show
select json_build_object('model', m.ns || '/' || m.name, 'namespace', m.ns, 'name', m.name,
         'created', registry_time(m.created), 'latest', m.versions,
         'aliases', coalesce((select json_object_agg(a.alias, a.number order by a.alias)
                              from alias a where a.model_id = m.id), '{}'::json))::text
from model m where m.ns = $1 and m.name = $2

-- name: version_by_number
-- $3: 0 is the newest
select * from version_shown
where ns = $1 and model = $2 and number = case when $3::bigint = 0 then versions else $3::bigint end

-- name: version_by_digest
select * from version_shown where ns = $1 and model = $2 and digest = $3

-- name: version_by_alias
select s.* from version_shown s join alias a on a.model_id = s.model_id and a.number = s.number
where s.ns = $1 and s.model = $2 and a.alias = $3

-- name: version_page
-- $3: below this number; $4 label key, $5 its value; $6 metric, $7 at least, $8 at most, $9 open ends; $10 alias;
-- $11 status
select s.* from version_shown s
where s.ns = $1 and s.model = $2 and s.number < $3::bigint
  and ($4::text is null or exists (select 1 from version_label l where l.version_id = s.id and l.key = $4
                                   and ($5::text is null or l.value = $5)))
  and ($6::text is null or exists (select 1 from version_metric t where t.version_id = s.id and t.name = $6
                                   and t.value >= $7::float8 and t.value <= $8::float8
                                   and not ($9::boolean and t.value in ($7::float8, $8::float8))))
  and ($10::text is null or exists (select 1 from alias a where a.model_id = s.model_id and a.number = s.number
                                    and a.alias = $10))
  and ($11::text is null or s.status = $11)
order by s.number desc limit $12::bigint

-- name: version_search_digest
select s.* from version_shown s
where s.id in (select v.id from version v where v.digest = $1
               union select f.version_id from version_file f where f.digest = $1)
  and s.id < $2::bigint and ($3::text[] is null or s.ns = any ($3::text[]))
  and ($4::text is null or exists (select 1 from version_label l where l.version_id = s.id and l.key = $4
                                   and ($5::text is null or l.value = $5)))
  and ($6::text is null or exists (select 1 from version_metric t where t.version_id = s.id and t.name = $6
                                   and t.value >= $7::float8 and t.value <= $8::float8
                                   and not ($9::boolean and t.value in ($7::float8, $8::float8))))
  and ($10::text is null or exists (select 1 from version_dataset d where d.version_id = s.id
                                    and (d.ref = $10 or d.name = $10)))
order by s.id desc limit $11::bigint

-- name: version_search_dataset
select s.* from version_shown s
where s.id in (select d.version_id from version_dataset d where md5(d.ref) = md5($1) and d.ref = $1
               union select d.version_id from version_dataset d where md5(d.name) = md5($1) and d.name = $1)
  and s.id < $2::bigint and ($3::text[] is null or s.ns = any ($3::text[]))
  and ($4::text is null or exists (select 1 from version_label l where l.version_id = s.id and l.key = $4
                                   and ($5::text is null or l.value = $5)))
  and ($6::text is null or exists (select 1 from version_metric t where t.version_id = s.id and t.name = $6
                                   and t.value >= $7::float8 and t.value <= $8::float8
                                   and not ($9::boolean and t.value in ($7::float8, $8::float8))))
order by s.id desc limit $10::bigint

-- name: version_search_label
select s.* from version_shown s
where s.id in (select l.version_id from version_label l where l.key = $1 and ($2::text is null or l.value = $2))
  and s.id < $3::bigint and ($4::text[] is null or s.ns = any ($4::text[]))
  and ($5::text is null or exists (select 1 from version_metric t where t.version_id = s.id and t.name = $5
                                   and t.value >= $6::float8 and t.value <= $7::float8
                                   and not ($8::boolean and t.value in ($6::float8, $7::float8))))
order by s.id desc limit $9::bigint

-- name: version_search_metric
select s.* from version_shown s
where s.id in (select t.version_id from version_metric t where t.name = $1
               and t.value >= $2::float8 and t.value <= $3::float8
               and not ($4::boolean and t.value in ($2::float8, $3::float8)))
  and s.id < $5::bigint and ($6::text[] is null or s.ns = any ($6::text[]))
order by s.id desc limit $7::bigint

-- name: version_find_digest
select id, number, commit_oid, encode(leaf, 'hex'), status from version where model_id = $1::bigint and digest = $2

-- name: version_commit_of
select commit_oid from version where model_id = $1::bigint and number = $2::bigint

-- name: version_base_status
-- The status of what a new version is made from, when it is here
select v.status from version v join model m on m.id = v.model_id where m.ns = $1 and m.name = $2 and v.digest = $3

-- name: version_insert
insert into version (model_id, number, digest, commit_oid, author, labels, labels_digest, metrics, metrics_digest,
                     summary, doc, card, leaf)
values ($1::bigint, $2::bigint, $3, $4, $5, $6::json, $7, $8::json, $9, $10, $11, $12, decode($13, 'hex'))
returning id

-- name: version_insert_commit
insert into version_commit (version_id, bytes) values ($1::bigint, $2)

-- name: version_insert_labels
insert into version_label (version_id, key, value)
select id, l.key, l.value from version, json_each_text(labels) l where id = $1::bigint

-- name: version_insert_metrics
insert into version_metric (version_id, name, value)
select id, t.key, t.value::float8 from version, json_each_text(metrics) t where id = $1::bigint

-- name: version_insert_datasets
-- $2: references, json array; a name ends at the last @
insert into version_dataset (version_id, ref, name)
select $1::bigint, d.ref, regexp_replace(d.ref, '@[^@]*$', '') from json_array_elements_text($2::json) d (ref)

-- name: version_insert_files
insert into version_file (version_id, digest)
select distinct $1::bigint, d.digest from json_array_elements_text($2::json) d (digest)

-- name: version_lock
select v.id, v.number, v.digest, v.commit_oid, v.status, v.author, v.metrics_digest, v.labels_digest, m.id
from version v join model m on m.id = v.model_id
where m.ns = $1 and m.name = $2 and v.number = $3::bigint for no key update of v

-- name: version_set_status
update version set status = $2, reason = $3 where id = $1::bigint

-- name: version_commit_bytes
select bytes from version_commit where version_id = $1::bigint

-- name: version_share
-- What an alias will name; held, so that it is not withdrawn meanwhile.
select m.id, v.digest, v.status from version v join model m on m.id = v.model_id
where m.ns = $1 and m.name = $2 and v.number = $3::bigint for share of v

-- name: alias_lock
select a.number, v.digest from alias a join version v on v.model_id = a.model_id and v.number = a.number
where a.model_id = $1::bigint and a.alias = $2 for update of a

-- name: alias_insert
insert into alias (model_id, alias, number) values ($1::bigint, $2, $3::bigint) on conflict do nothing returning 1

-- name: alias_update
update alias set number = $3::bigint where model_id = $1::bigint and alias = $2

-- name: alias_delete
delete from alias where model_id = $1::bigint and alias = $2

-- name: alias_history_insert
insert into alias_history (model_id, alias, number, at, actor, leaf)
values ($1::bigint, $2, $3::bigint, $4::timestamptz, $5, decode($6, 'hex'))

-- name: alias_page
select json_build_object('ref', m.ns || '/' || m.name || ':' || a.alias, 'model', m.ns || '/' || m.name,
         'alias', a.alias, 'version', a.number, 'digest', v.digest)::text, a.alias
from model m join alias a on a.model_id = m.id
join version v on v.model_id = a.model_id and v.number = a.number
where m.ns = $1 and m.name = $2 and a.alias > $3 order by a.alias limit $4::bigint

-- name: alias_get
select a.number, v.digest from model m join alias a on a.model_id = m.id
join version v on v.model_id = a.model_id and v.number = a.number
where m.ns = $1 and m.name = $2 and a.alias = $3

-- name: alias_history_page
-- $5: not after this time, or null
select json_build_object('alias', h.alias, 'version', h.number, 'digest', v.digest, 'at', registry_time(h.at),
         'actor', json_build_object('id', h.actor, 'name', u.name), 'leaf_hash', encode(h.leaf, 'hex'))::text,
       h.id
from model m join alias_history h on h.model_id = m.id
left join version v on v.model_id = h.model_id and v.number = h.number
left join app_user u on u.id = h.actor
where m.ns = $1 and m.name = $2 and h.alias = $3 and h.id < $4::bigint
  and ($5::timestamptz is null or h.at <= $5::timestamptz)
order by h.id desc limit $6::bigint

-- name: manifest_insert
insert into manifest (repo, digest, media_type, artifact_type, subject, size)
values ($1, $2, $3, $4, $5, $6::bigint) on conflict do nothing

-- name: manifest_tag_set
insert into manifest_tag (repo, tag, digest) values ($1, $2, $3)
on conflict (repo, tag) do update set digest = excluded.digest

-- name: manifest_by_digest
select digest, media_type, size from manifest where repo = $1 and digest = $2

-- name: manifest_by_tag
select t.digest, x.media_type, x.size from manifest_tag t join manifest x on x.repo = t.repo and x.digest = t.digest
where t.repo = $1 and t.tag = $2

-- name: manifest_by_number
-- $4: 0 is the newest
select x.digest, x.media_type, x.size from model m join version v on v.model_id = m.id
join manifest x on x.repo = $3 and x.digest = v.digest
where m.ns = $1 and m.name = $2 and v.number = case when $4::bigint = 0 then m.versions else $4::bigint end

-- name: manifest_by_alias
select x.digest, x.media_type, x.size from model m join alias a on a.model_id = m.id and a.alias = $4
join version v on v.model_id = a.model_id and v.number = a.number
join manifest x on x.repo = $3 and x.digest = v.digest
where m.ns = $1 and m.name = $2

-- name: manifest_status
-- The version that this manifest is.
select v.number, v.status from model m join version v on v.model_id = m.id
where m.ns = $1 and m.name = $2 and v.digest = $3

-- name: manifest_any
select 1 from manifest where repo = $1 limit 1

-- name: manifest_tags
select t.tag from (
        select a.alias as tag from model m join alias a on a.model_id = m.id where m.ns = $1 and m.name = $2
        union select 'v' || v.number from model m join version v on v.model_id = m.id where m.ns = $1 and m.name = $2
        union select 'latest' from model m where m.ns = $1 and m.name = $2 and m.versions > 0
        union select g.tag from manifest_tag g where g.repo = $3) t
where $4::text is null or t.tag collate "C" > $4 collate "C" order by t.tag collate "C" limit $5::bigint

-- name: manifest_referrers
select json_strip_nulls(json_build_object('mediaType', media_type, 'digest', digest, 'size', size,
                                          'artifactType', artifact_type))::text
from manifest where repo = $1 and subject = $2 and ($3::text is null or artifact_type = $3)
order by created, digest limit 1000

-- name: git_models
select id, ns, name, versions from model where versions > 0 and id > $1::bigint order by id limit 200

-- name: git_versions
-- Versions after the one that the reference names ('' for none), with their commits.
select v.number, v.digest, v.commit_oid, c.bytes from version v join version_commit c on c.version_id = v.id
where v.model_id = $1::bigint
  and v.number > case when $2 = '' then 0
                      else (select o.number from version o where o.model_id = $1::bigint and o.commit_oid = $2) end
order by v.number limit $3::bigint

-- name: git_known
select 1 from version where model_id = $1::bigint and commit_oid = $2

-- name: check_versions
select m.ns, m.name, v.id, v.number, v.digest, v.commit_oid, v.labels::text, v.labels_digest, v.metrics::text,
       v.metrics_digest, v.summary, v.doc, coalesce(v.card, ''), c.bytes,
       (select d.media_type || ' ' || d.size from manifest d
        where d.repo = m.ns || '/' || m.name and d.digest = v.digest)
from version v join model m on m.id = v.model_id left join version_commit c on c.version_id = v.id
where v.id > $1::bigint order by v.id limit $2::bigint

-- name: check_numbers
select m.ns || '/' || m.name from model m
where m.versions <> (select count(*) from version v where v.model_id = m.id)
   or m.versions <> coalesce((select max(v.number) from version v where v.model_id = m.id), 0)

-- name: check_search
-- Rows that searches use must say what the version says.
select m.ns || '/' || m.name || ':' || v.number from version v join model m on m.id = v.model_id
cross join lateral (select ('{' || v.summary || ',' || v.doc || '}')::json as d) j
where (select coalesce(json_agg(array[l.key, l.value] order by l.key, l.value), '[]')::text
       from version_label l where l.version_id = v.id)
      <> (select coalesce(json_agg(array[e.key, e.value] order by e.key, e.value), '[]')::text
          from json_each_text(v.labels) e)
   or (select coalesce(json_agg(json_build_array(t.name, t.value) order by t.name), '[]')::text
       from version_metric t where t.version_id = v.id)
      <> (select coalesce(json_agg(json_build_array(e.key, e.value::float8) order by e.key), '[]')::text
          from json_each_text(v.metrics) e)
   or (select coalesce(json_agg(array[s.ref, s.name] order by s.ref), '[]')::text
       from version_dataset s where s.version_id = v.id)
      <> (select coalesce(json_agg(array[e.ref, regexp_replace(e.ref, '@[^@]*$', '')] order by e.ref), '[]')::text
          from json_array_elements_text(j.d -> 'lineage' -> 'dataset') e (ref))
   or (select coalesce(json_agg(f.digest order by f.digest), '[]')::text
       from version_file f where f.version_id = v.id)
      <> (select coalesce(json_agg(e.digest order by e.digest), '[]')::text
          from (select distinct x ->> 'digest' as digest from json_array_elements(j.d -> 'files') x) e)

-- name: check_aliases
-- An alias is what its newest history entry says.
select coalesce(m.ns || '/' || m.name, '?') || ':' || coalesce(a.alias, h.alias)
from (select distinct on (model_id, alias) model_id, alias, number from alias_history
      order by model_id, alias, id desc) h
full join alias a on a.model_id = h.model_id and a.alias = h.alias
left join model m on m.id = coalesce(a.model_id, h.model_id)
where a.number is distinct from h.number

-- name: check_leaves
-- History entries and versions must have the leaf that they name.
select 'history of alias ' || m.ns || '/' || m.name || ':' || h.alias from alias_history h
join model m on m.id = h.model_id
left join lateral (
        select convert_from(l.leaf, 'UTF8')::json as j from audit_log l where l.leaf_hash = h.leaf
        union all select convert_from(o.leaf, 'UTF8')::json from audit_outbox o where o.leaf_hash = h.leaf
        limit 1) l on true
where l.j is null or l.j ->> 'id' <> m.ns || '/' || m.name || ':' || h.alias or l.j ->> 'actor' <> h.actor
   or (l.j -> 'state' ->> 'version')::bigint is distinct from h.number
   or l.j -> 'detail' ->> 'at' is distinct from registry_time(h.at)
union all
select 'version ' || m.ns || '/' || m.name || ':' || v.number from version v join model m on m.id = v.model_id
left join lateral (
        select convert_from(l.leaf, 'UTF8')::json as j from audit_log l where l.leaf_hash = v.leaf
        union all select convert_from(o.leaf, 'UTF8')::json from audit_outbox o where o.leaf_hash = v.leaf
        limit 1) l on true
where l.j is null or l.j ->> 'id' <> m.ns || '/' || m.name || ':' || v.number
   or l.j -> 'state' ->> 'digest' <> v.digest or l.j ->> 'action' <> 'version.create'

-- name: check_history
-- Every leaf about an alias has its history entry.
select s.object_id from audit_search s join audit_log l on l.log_id = s.log_id and l.idx = s.idx
where s.kind = 'alias' and not exists (select 1 from alias_history h where h.leaf = l.leaf_hash)

-- name: check_manifests
select repo, digest, media_type, coalesce(artifact_type, ''), coalesce(subject, ''), size from manifest
where (repo, digest) > ($1, $2) order by repo, digest limit $3::bigint
