-- SPDX-License-Identifier: Apache-2.0
-- What the schema itself refuses, whoever writes to it.
select plan(14);
insert into model (ns, name, created, versions) values ('t', 'm', now(), 1);
insert into version (model_id, number, digest, commit_oid, author, labels, labels_digest, metrics, metrics_digest,
                     summary, doc, leaf)
select id, 1, 'sha256:' || repeat('0', 64), repeat('0', 40), 'u0', '{}', 'x', '{}', 'x', '', '',
       decode(repeat('00', 32), 'hex') from model;
insert into version_commit (version_id, bytes) select id, 'x' from version;
insert into alias (model_id, alias, number) select id, 'champion', 1 from model;
insert into alias_history (model_id, alias, number, at, actor, leaf)
select id, 'champion', 1, now(), 'u0', decode(repeat('00', 32), 'hex') from model;

select throws_ok($$update version set digest = 'sha256:' || repeat('1', 64)$$, '42501');
select throws_ok($$update version set doc = 'y'$$, '42501');
select throws_ok($$update version set author = 'u1'$$, '42501');
select lives_ok($$update version set status = 'deprecated', reason = 'sha256:x'$$);
select throws_ok($$update version set status = 'gone'$$, '23514');
select throws_ok($$delete from version$$, '42501');
select throws_ok($$update version_commit set bytes = 'y'$$, '42501');
select throws_ok($$update alias_history set number = null$$, '42501');
select throws_ok($$delete from alias_history$$, '42501');
select throws_ok($$update alias set number = 2$$, '23503');
select throws_ok($$insert into alias select id, 'latest', 1 from model$$, '23514');
select throws_ok($$insert into alias select id, 'v12', 1 from model$$, '23514');
select throws_ok($$insert into version (model_id, number, digest, commit_oid, author, labels, labels_digest, metrics,
                                        metrics_digest, summary, doc, leaf)
                   select model_id, 2, digest, repeat('1', 40), author, labels, labels_digest, metrics, metrics_digest,
                          summary, doc, leaf from version$$, '23505');
select results_eq($$select object_kind, id from registry_state order by 1, 2$$,
                  $$values ('alias', 't/m:champion'), ('model', 't/m'), ('version', 't/m:1')$$);
