-- SPDX-License-Identifier: Apache-2.0
-- An instance may be named by its host name; traffic goes to the address that proved to be ready.

alter table served add address text check (length(address) between 9 and 60);
comment on column served.address is
        'ADDRESS:PORT that answered for the version last; null before, or when written by an older server';
