-- SPDX-License-Identifier: Apache-2.0
-- What versions answered and what would have been right, as it is reported later.

create table observation (
        model       text not null,
        environment text not null,
        id          text not null check (length(id) between 1 and 128),
        version     bigint not null check (version >= 1),
        output      text not null check (length(output) <= 256),
        label       text check (length(label) <= 256),
        labelled    timestamptz,
        at          timestamptz not null,
        counted     boolean not null default false,
        created     timestamptz not null default now(),
        primary key (model, environment, id, version),
        check ((label is null) = (labelled is null))
);
comment on column observation.id is 'of the request, as its client names it; two versions may have answered it';
comment on column observation.label is 'of observation_label, so that what is complete is found; null until it comes';
comment on column observation.at is 'when it was answered; when it was reported where nobody says';
comment on column observation.counted is 'it is in the statistics of a rollout';
create index observation_complete on observation (model, environment, version, at)
        where label is not null and not counted;
create index observation_age on observation (created);

create table observation_label (
        model       text not null,
        environment text not null,
        id          text not null check (length(id) between 1 and 128),
        label       text not null check (length(label) <= 256),
        created     timestamptz not null default now(),
        primary key (model, environment, id)
);
create index observation_label_age on observation_label (created);

-- What is recorded stays as it is; a label comes once, and counts once.
create function observation_fixed() returns trigger language plpgsql as $$
begin
        if (new.model, new.environment, new.id, new.version, new.output, new.at)
           is distinct from (old.model, old.environment, old.id, old.version, old.output, old.at)
           or (old.label is not null and new.label is distinct from old.label) or (old.counted and not new.counted) then
                raise exception 'an observation does not change' using errcode = 'check_violation';
        end if;
        return new;
end $$;
create trigger observation_fixed before update on observation for each row execute function observation_fixed();
