-- SPDX-License-Identifier: Apache-2.0
-- Replies of creating POSTs, kept for a day under the Idempotency-Key they came with.

create table idempotency (
        user_id        text not null,
        operation      text not null,
        key            text not null check (length(key) between 1 and 128),
        request_digest text not null check (request_digest ~ '^sha256:[0-9a-f]{64}$'),
        status         integer not null check (status between 200 and 299),
        body           json not null,
        created        timestamptz not null default now(),
        primary key (user_id, operation, key)
);
create index idempotency_created on idempotency (created);
