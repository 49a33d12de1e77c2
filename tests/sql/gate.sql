-- SPDX-License-Identifier: Apache-2.0
-- What the schema itself refuses, whoever writes to it.
select plan(18);
insert into document (kind, name, number, digest) values ('Policy', 'p', 1, 'sha256:' || repeat('0', 64));
insert into document_version (kind, name, number, seq, digest, yaml, normal, commit_oid, author, at, leaf)
values ('Policy', 'p', 1, 1, 'sha256:' || repeat('0', 64), 'x', '{}', repeat('0', 40), 'u0', now(),
        decode(repeat('00', 32), 'hex'));
insert into document_commit (seq, bytes) values (1, 'x');
insert into model (ns, name, created, versions) values ('t', 'm', now(), 1);
insert into version (model_id, number, digest, commit_oid, author, labels, labels_digest, metrics, metrics_digest,
                     summary, doc, leaf)
select id, 1, 'sha256:' || repeat('0', 64), repeat('0', 40), 'u0', '{}', 'x', '{}', 'x', '', '',
       decode(repeat('00', 32), 'hex') from model;
insert into evaluation (version_id, id, submitted, dataset, dataset_name, document, recomputed, author, at, leaf)
select id, 'sha256:' || repeat('1', 64), 'sha256:' || repeat('2', 64), 'd@opaque:1', 'd', '{}', '[]', 'u0', now(),
       decode(repeat('00', 32), 'hex') from version;

select throws_ok($$update document_version set yaml = 'y'$$, '42501');
select throws_ok($$delete from document_version$$, '42501');
select throws_ok($$update document_commit set bytes = 'y'$$, '42501');
select throws_ok($$delete from document$$, '42501');
select throws_ok($$update document set digest = 'sha256:' || repeat('3', 64)$$, '42501', null,
                 'a new digest is a new version');
select throws_ok($$update document set number = 3$$, '42501', null, 'no version is left out');
select lives_ok($$update document set number = 2, digest = 'sha256:' || repeat('3', 64)$$);
select throws_ok($$insert into document (kind, name, number, digest)
                   values ('Namespace', 'n', 1, 'sha256:' || repeat('0', 64))$$, '23514');
select throws_ok($$insert into document_head (id, seq) values (1, 0)$$, '23514', null, 'there is one head');
select throws_ok($$delete from document_head$$, '42501');
select throws_ok($$update evaluation set document = '[]'$$, '42501');
select throws_ok($$update evaluation set dataset_name = 'e'$$, '42501');
select throws_ok($$update evaluation set withdrawn = true$$, '23514', null, 'withdrawing takes a reason');
select lives_ok($$update evaluation set withdrawn = true, reason = 'sha256:x'$$);
select throws_ok($$update evaluation set withdrawn = false, reason = null$$, '42501', null, 'it stays withdrawn');
select throws_ok($$delete from evaluation$$, '42501');
select throws_ok($$insert into evaluation (version_id, id, submitted, dataset, dataset_name, document, recomputed,
                                           author, at, leaf)
                   select version_id, id, submitted, dataset, dataset_name, document, recomputed, author, at, leaf
                   from evaluation$$, '23505');
select results_eq($$select object_kind, id from gate_state order by 1, 2$$,
                  $$values ('evaluation', 't/m:1/sha256:' || repeat('1', 64))$$);
