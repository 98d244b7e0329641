-- What each transaction says about itself before anything else; sent by `pool`.

-- name: set_tenant
-- For this transaction only: which tenant's rows exist (see the policies in schema.sql).
SELECT set_config('app.tenant', $1, true);

-- name: set_kid
-- For this transaction only: which key authentication may read.
SELECT set_config('app.kid', $1, true);

-- name: set_deleted_tenants
-- For this transaction only: deleted tenants are seen, whoever they were.
SELECT set_config('app.deleted_tenants', $1, true);

-- name: set_journal
-- For this transaction only: which journal's cursor exists.
SELECT set_config('app.journal', $1, true);
