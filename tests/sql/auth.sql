-- SPDX-License-Identifier: Apache-2.0
-- What the tables of auth refuse, whoever asks.
select plan(9);

insert into app_user (id, kind, name, name_commitment) values ('u000000000001', 'person', 'dana', 'x');

select throws_ok($$ insert into app_user (id, kind, name, name_commitment)
                    values ('u000000000002', 'person', 'dana', 'x') $$, '23505', null,
                 'a name belongs to one');
select throws_ok($$ insert into app_user (id, kind, name, name_commitment)
                    values ('u000000000003', 'service', 'ci', 'x') $$, '23514', null,
                 'a service has an owner');
select throws_ok($$ insert into app_user (id, kind, owner, name, name_commitment)
                    values ('u000000000003', 'person', 'u000000000001', 'eli', 'x') $$, '23514', null,
                 'a person has none');
select throws_ok($$ update app_user set status = 'erased' $$, '23514', null,
                 'erased means without a name');
select lives_ok($$ update app_user set status = 'erased', name = null $$, 'and then it is erased');
select throws_ok($$ insert into role_grant (user_id, role, ns)
                    values ('u000000000001', 'root', 'fraud') $$, '23514', null,
                 'roles are a closed list');
select throws_ok($$ insert into role_grant (user_id, role, ns)
                    values ('u00000000000f', 'admin', 'fraud') $$, '23503', null,
                 'a role is granted to somebody');
select throws_ok($$ insert into token (id, user_id, hash)
                    values ('t000000000001', 'u000000000001', 'short') $$, '23514', null,
                 'a token is kept as a SHA-256');
select throws_ok($$ insert into token (id, user_id, hash)
                    values ('t000000000001', 'u00000000000f', sha256('x')) $$, '23503', null,
                 'a token belongs to somebody');

select * from finish();
