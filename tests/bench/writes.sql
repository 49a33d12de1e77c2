-- SPDX-License-Identifier: Apache-2.0
-- What one audited write of an alias means to the business, as one pgbench transaction: who asks, the alias
-- moves between two versions, its history grows. No log, no checks.
\set alias :client_id
\set number 1 + random(0, 1)
begin;
select t.id, t.user_id, t.revoked, u.status from token t join app_user u on u.id = t.user_id where t.id = :token;
insert into alias (model_id, alias, number) values (:model, 'p' || :alias, :number)
on conflict (model_id, alias) do update set number = excluded.number;
insert into alias_history (model_id, alias, number, at, actor, leaf)
values (:model, 'p' || :alias, :number, now(), 'pgbench', decode(repeat('00', 32), 'hex'));
end;
