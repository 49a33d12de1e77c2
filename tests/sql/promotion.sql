-- SPDX-License-Identifier: Apache-2.0
-- States that a promotion cannot reach, and what is live that no promotion says.
select plan(33);
insert into app_user (id, kind, name, name_commitment) values ('u000000000001', 'person', 'dana', 'x');
insert into ssh_key (id, user_id, type, public, fingerprint) values ('k000000000001', 'u000000000001', 'ssh-ed25519',
  'x', 'x');
insert into model (ns, name, created, versions) values ('t', 'm', now(), 2);
insert into version (model_id, number, digest, commit_oid, author, labels, labels_digest, metrics, metrics_digest,
                     summary, doc, leaf)
select id, n, 'sha256:' || repeat(n::text, 64), repeat(n::text, 40), 'u000000000001', '{}', 'x', '{}', 'x', '', '',
       decode(repeat('00', 32), 'hex') from model, generate_series(1, 2) n;

create function pg_temp.ask(i text, n int, s text, back text default null) returns void language sql as $$
insert into promotion (id, version_id, model, version, digest, environment, state, requested_by, reason_commitment,
  rollback_of)
select i, id, 't/m', number, digest, 'prod', s, 'u000000000001', 'x', back from version where number = n $$;
create function pg_temp.go(i text, s text) returns void language sql as $$
update promotion set state = s, verdict = '{"verdict":"pass"}', verdict_digest = 'x',
       live_since = case when s = 'live' then now() else live_since end where id = i $$;

select throws_ok(format($$select pg_temp.ask('p1', 1, %L)$$, s), '23514', null, 'no promotion begins ' || s)
from unnest(array['held', 'awaiting_approval', 'approved', 'queued', 'live', 'replaced']) s;
select throws_ok($$select pg_temp.ask('p1', 1, 'nonsense')$$, '23514', null, 'states are a closed list');
select lives_ok($$select pg_temp.ask('p1', 1, 'evaluating')$$, 'it begins evaluating');
select throws_ok($$insert into promotion (id, version_id, model, version, digest, environment, state, requested_by,
  reason_commitment)
                   select 'p9', id, 't/other', number, digest, 'prod', 'evaluating', 'u000000000001', 'x' from version
                     limit 1$$,
                 '23514', null, 'of a version that there is');
select throws_ok($$select pg_temp.ask('p2', 2, 'evaluating')$$, '23505', null, 'one is judged at a time');
select throws_ok(format($$select pg_temp.go('p1', %L)$$, s), '23514', null, 'evaluating does not become ' || s)
from unnest(array['live', 'queued', 'rolling_out', 'replaced', 'rolled_back', 'failed']) s;
select throws_ok($$update promotion set state = 'awaiting_approval'$$, '23514', null,
  'nobody is asked without a verdict');
select lives_ok($$select pg_temp.go('p1', 'awaiting_approval')$$, 'a verdict asks people');
select throws_ok($$select pg_temp.go('p1', 'live')$$, '23514', null, 'what waits for people does not go live');
select throws_ok($$update promotion set verdict_digest = 'y'$$, '23514', null, 'a verdict changes only by evaluating');
select throws_ok($$update promotion set version = 2$$, '23514', null, 'what it is about stays');
select throws_ok($$update promotion set environment = 'other'$$, '23514', null, 'where it goes stays');
select throws_ok($$delete from promotion$$, '42501', null, 'it is never deleted');
select lives_ok($$select pg_temp.go('p1', 'approved')$$, 'people approve');
select lives_ok($$select pg_temp.go('p1', 'live')$$, 'it goes live');
select throws_ok($$set constraints all immediate$$, '23514', null, 'but not without the row that says so');
set constraints all deferred;
insert into environment_live values ('prod', 't/m', 1, 'sha256:' || repeat('1', 64), 'p1', now());
select lives_ok($$set constraints all immediate$$, 'with it');
select throws_ok($$update environment_live set version = 2$$, '23514', null, 'what is live is what the promotion says');
select throws_ok($$delete from environment_live$$, '42501', null, 'and stays');
select throws_ok($$select pg_temp.go('p1', 'evaluating')$$, '23514', null, 'what is live is not judged again');

insert into approval (id, subject_kind, subject_id, decision, signer, key_id, statement, statement_digest, signature,
                      signature_digest, role, reason_commitment, nonce, time, expires, leaf)
values ('a1', 'promotion', 'p1', 'approve', 'u000000000001', 'k000000000001', '{}', 'sha256:' || repeat('0', 64), 'x',
        'sha256:' || repeat('0', 64), 'approver', 'x', 'n1', now(), now(), decode(repeat('00', 32), 'hex'));
select throws_ok($$update approval set decision = 'reject'$$, '42501', null, 'a decision stays as it was signed');
select throws_ok($$delete from approval$$, '42501', null, 'and is never deleted');
select throws_ok($$insert into approval (id, subject_kind, subject_id, decision, signer, key_id, statement,
  statement_digest, signature,
                      signature_digest, role, reason_commitment, nonce, time, expires, leaf)
                   select 'a2', subject_kind, subject_id, 'reject', signer, key_id, statement, statement_digest,
                     signature,
                      signature_digest, role, reason_commitment, 'n2', time, expires, leaf from approval$$,
                 '23505', null, 'one person decides once');

select * from finish();
