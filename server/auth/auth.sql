-- SPDX-License-Identifier: Apache-2.0
-- Statements of server/auth. Times leave as RFC 3339 text.

-- name: auth_token_by_hash
-- Who a token belongs to and what the user may; one row per role, or one with nulls.
select t.id, t.user_id, coalesce(u.owner, ''), u.kind = 'service',
       coalesce((extract(epoch from t.expires) * 1000)::bigint, 0), t.revoked,
       u.status = 'active' and (u.owner is null or o.status = 'active'),
       coalesce(array_to_string(t.scope, ' '), '*all*'), g.role, g.ns
from token t
join app_user u on u.id = t.user_id
left join app_user o on o.id = u.owner
left join role_grant g on g.user_id = t.user_id
where t.hash = $1
order by g.ns, g.role

-- name: auth_state_get
select state from auth_state where object_kind = $1 and id = $2

-- name: auth_states_user
select id, state from auth_state where object_kind = 'user'

-- name: auth_states_role
select id, state from auth_state where object_kind = 'role'

-- name: auth_states_token
select id, state from auth_state where object_kind = 'token'

-- name: auth_states_key
select id, state from auth_state where object_kind = 'key'

-- name: auth_user_count
select count(*) from app_user

-- name: auth_bootstrap_lock
select pg_advisory_xact_lock(7305811)

-- name: auth_user_insert
insert into app_user (id, kind, owner, name, name_commitment) values ($1, $2, $3, $4, $5)

-- name: auth_user_find
-- By id or name; locked, so that what is read holds until the change commits.
select u.id, u.name, u.kind, coalesce(u.owner, ''), u.status from app_user u
where u.id = $1 or u.name = $1
order by (u.id = $1) desc limit 1 for update

-- name: auth_user_json
select json_build_object('id', u.id, 'name', u.name, 'kind', u.kind, 'owner', u.owner, 'status', u.status,
         'roles', coalesce((select json_agg(case when g.ns = '*' then g.role else g.role || '@' || g.ns end
                                            order by g.ns, g.role)
                            from role_grant g where g.user_id = u.id), '[]'::json),
         'created', auth_time(u.created))
from app_user u where u.id = $1 or u.name = $1
order by (u.id = $1) desc limit 1

-- name: auth_user_page
select json_build_object('id', u.id, 'name', u.name, 'kind', u.kind, 'owner', u.owner, 'status', u.status,
         'roles', coalesce((select json_agg(case when g.ns = '*' then g.role else g.role || '@' || g.ns end
                                            order by g.ns, g.role)
                            from role_grant g where g.user_id = u.id), '[]'::json),
         'created', auth_time(u.created)), u.id
from app_user u where u.id > $1 order by u.id limit $2::bigint

-- name: auth_user_set_status
update app_user set status = $2 where id = $1

-- name: auth_user_erase
update app_user set status = 'erased', name = null where id = $1

-- name: auth_role_insert
insert into role_grant (user_id, role, ns) values ($1, $2, $3) on conflict do nothing returning 1

-- name: auth_role_delete
delete from role_grant where user_id = $1 and role = $2 and ns = $3 returning 1

-- name: auth_admins_lock
-- The active people who are admin everywhere; locked, so that two cannot remove each other.
select g.user_id from role_grant g join app_user u on u.id = g.user_id
where g.role = 'admin' and g.ns = '*' and u.status = 'active' and u.kind = 'person' for update of g, u

-- name: auth_invite_set
insert into invite (user_id, hash, expires) values ($1, $2, now() + interval '14 days')
on conflict (user_id) do update set hash = excluded.hash, expires = excluded.expires
returning auth_time(expires)

-- name: auth_invite_use
delete from invite where hash = $1 returning user_id, expires > now()

-- name: auth_invite_drop
delete from invite where user_id = $1

-- name: auth_token_insert
insert into token (id, user_id, hash, scope, expires)
values ($1, $2, $3, string_to_array(nullif($4, ''), ' '),
        date_trunc('milliseconds', now() + make_interval(secs => $5::bigint)))

-- name: auth_token_json
select json_build_object('id', t.id, 'user', t.user_id, 'scope', t.scope, 'expires', auth_time(t.expires),
                         'revoked', t.revoked, 'created', auth_time(t.created))
from token t where t.id = $1

-- name: auth_token_list
select json_build_object('id', t.id, 'user', t.user_id, 'scope', t.scope, 'expires', auth_time(t.expires),
                         'revoked', t.revoked, 'created', auth_time(t.created))
from token t join app_user u on u.id = t.user_id
where t.user_id = $1 or u.owner = $1
order by t.created, t.id limit 1000

-- name: auth_token_owner
select t.user_id, coalesce(u.owner, ''), t.revoked
from token t join app_user u on u.id = t.user_id where t.id = $1 for update of t

-- name: auth_token_revoke
update token set revoked = true where id = $1

-- name: auth_name_differs
-- People whose name is not the one behind their commitment.
select u.id from app_user u left join audit_pii p on p.commitment = u.name_commitment
where u.status <> 'erased' and p.value is distinct from u.name order by u.id limit 1

-- name: auth_key_insert
insert into ssh_key (id, user_id, type, public, fingerprint) values ($1, $2, $3, $4, $5)

-- name: auth_key_find
select user_id, revoked from ssh_key where id = $1 for update

-- name: auth_key_by_public
select id, user_id, revoked from ssh_key where public = $1

-- name: auth_key_json
select json_build_object('id', k.id, 'user', k.user_id, 'type', k.type, 'public', k.public,
                         'fingerprint', k.fingerprint, 'revoked', k.revoked, 'created', auth_time(k.created))
from ssh_key k where k.id = $1

-- name: auth_key_list
select json_build_object('id', k.id, 'user', k.user_id, 'type', k.type, 'public', k.public,
                         'fingerprint', k.fingerprint, 'revoked', k.revoked, 'created', auth_time(k.created))
from ssh_key k where k.user_id = $1 order by k.created, k.id limit 1000

-- name: auth_keys_held
-- A person's keys as they are signed for; they stay so until COMMIT.
select k.public from ssh_key k where k.user_id = $1 and not k.revoked order by k.public collate "C" for share

-- name: auth_role_held
select 1 from role_grant where user_id = $1 and role = $2 and ns = $3

-- name: auth_key_revoke
update ssh_key set revoked = true where id = $1

-- name: auth_allowed_signers
-- Approvers' keys for /keys/allowed_signers; principals are ids. A revoked key stays, with the second in which its
-- leaf says that it ended: what was signed before goes on to verify.
select k.user_id, k.type, k.public,
       case when k.revoked then coalesce((
               select to_char(max(l.time) at time zone 'UTC', 'YYYYMMDDHH24MISS"Z"')
               from (select s.time from audit_search s
                     where s.kind = 'key' and s.object_id = k.id and s.action = 'key.revoke'
                     union all select o.time from audit_outbox o
                     where o.kind = 'key' and o.object_id = k.id and o.action = 'key.revoke') l), '19700101000000Z')
       end
from ssh_key k order by k.user_id, k.id
