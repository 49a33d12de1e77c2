-- SPDX-License-Identifier: Apache-2.0
-- An evaluation is found by its id alone.

create index evaluation_id on evaluation (id);
