-- SPDX-License-Identifier: Apache-2.0
-- Instances whose driver is told how a route is split, and the split that each knows of.

create table weights_told (
        environment text not null,
        target      text not null,
        instance    text not null,
        control     text not null,
        route       text not null,
        generation  bigint not null default 0 check (generation >= 0),
        tries       integer not null default 0 check (tries >= 0),
        retry_at    timestamptz,
        problem     text check (length(problem) <= 1000),
        primary key (instance, control, route),
        foreign key (control, route) references split (control, route) on delete cascade
);
comment on column weights_told.generation is 'of the split that it took last; 0: none yet';
comment on column weights_told.problem is 'why it did not take the present one at the last try';
