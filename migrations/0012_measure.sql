-- SPDX-License-Identifier: Apache-2.0
-- Values of promql checks, from when they were asked until they are in the statistics of their rollout.

create table measure (
        rollout text not null references rollout (id),
        check_id text not null check (length(check_id) between 1 and 100),
        step    integer not null,
        value   text check (length(value) <= 40),
        problem text check (length(problem) <= 300),
        counted boolean not null default false,
        asked   timestamptz not null default now(),
        primary key (rollout, check_id),
        check ((value is null) <> (problem is null))
);
comment on table measure is 'the newest of each check; a row stays, so that it is known when it was asked';
