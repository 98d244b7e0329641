-- What each transaction says about itself before anything else; sent by `pool`.

-- name: set_tenant
-- For this transaction only: which tenant's rows exist (see the policies in schema.sql).
SELECT set_config('app.tenant', $1, true);

-- name: set_kid
-- For this transaction only: which key authentication may read.
SELECT set_config('app.kid', $1, true);

-- name: set_user
-- For this transaction only: which user's own rows exist.
SELECT set_config('app.user', $1, true);

-- name: set_email
-- For this transaction only: which user sign-in may read.
SELECT set_config('app.email', $1, true);

-- name: set_secret
-- For this transaction only: the digest, in hexadecimal digits, of the secret that was shown.
SELECT set_config('app.secret', $1, true);

-- name: set_identity
-- For this transaction only: the issuer, a space, and the subject that it vouched for.
SELECT set_config('app.identity', $1, true);

-- name: set_tenant_name
-- For this transaction only: the tenant of this name is seen.
SELECT set_config('app.tenant_name', $1, true);

-- name: set_journal
-- For this transaction only: which journal's cursor exists.
SELECT set_config('app.journal', $1, true);

-- name: set_ended
-- For this transaction only: deleted tenants and revoked keys are seen, whoever they were.
SELECT set_config('app.ended', $1, true);

-- name: set_outdated_usage
-- For this transaction only: sums by the minute that are outdated may be deleted, of all tenants.
SELECT set_config('app.outdated_usage', $1, true);

-- name: set_sharing
-- For this transaction only: the gateways and their shares of limits are seen and changed.
SELECT set_config('app.sharing', $1, true);

-- name: set_outdated_files
-- For this transaction only: files that are deleted or expired are seen, of all tenants.
SELECT set_config('app.outdated_files', $1, true);

-- name: set_ingestion
-- For this transaction only: files that wait to be read are seen, of all tenants.
SELECT set_config('app.ingestion', $1, true);

-- name: set_outdated_stores
-- For this transaction only: stores that are deleted or expired, files that may have left chunks
-- behind in one, and files that are not searched any more are seen, of all tenants.
SELECT set_config('app.outdated_stores', $1, true);

-- name: set_outdated_responses
-- For this transaction only: responses that have expired are seen, of all tenants.
SELECT set_config('app.outdated_responses', $1, true);

-- name: set_snapshot
-- For this transaction only: all of its statements see the same rows, and none writes.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- name: set_batches
-- For this transaction only: batches on which there is something to do are seen, of all tenants.
SELECT set_config('app.batches', $1, true);
