-- SPDX-License-Identifier: Apache-2.0

-- name: http_idempotency_find
select request_digest, status, body::text
  from idempotency
 where user_id = $1 and operation = $2 and key = $3 and created > now() - interval '24 hours';

-- A row older than a day gives way; no row comes back when a younger one stands there.
-- name: http_idempotency_store
insert into idempotency as i (user_id, operation, key, request_digest, status, body)
values ($1, $2, $3, $4, $5, $6::json)
on conflict (user_id, operation, key) do update
   set request_digest = excluded.request_digest, status = excluded.status, body = excluded.body, created = now()
 where i.created <= now() - interval '24 hours'
returning 1;

-- Each store takes a few expired rows along, so that nobody has to sweep.
-- name: http_idempotency_expire
delete from idempotency
 where ctid = any (array(
        select ctid from idempotency where created <= now() - interval '24 hours'
         order by created limit 20 for update skip locked));

-- What one user was told, and what anybody was told about that user.
-- name: http_idempotency_forget
delete from idempotency
 where user_id = $1 or position(to_json($1::text)::text in body::text) > 0
    or position(to_json($2::text)::text in body::text) > 0;
