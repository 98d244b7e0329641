-- Every statement that Anzoth sends after the schema is in place. `store` is the only module that
-- executes them. A name line begins a statement; the comment below it is part of it.

-- name: set_tenant
-- For this transaction only: which tenant's rows exist (see the policies in schema.sql).
SELECT set_config('app.tenant', $1, true);

-- name: set_kid
-- For this transaction only: which key authentication may read.
SELECT set_config('app.kid', $1, true);

-- name: set_deleted_tenants
-- For this transaction only: deleted tenants are seen, whoever they were.
SELECT set_config('app.deleted_tenants', $1, true);

-- name: find_key
-- Reads what the policies show under app.kid: one key with its tenant, or nothing.
SELECT k.id, k.tenant_id, t.name AS tenant_name, k.kid, k.digest, k.hash_alg, k.pepper_id,
    k.scopes, k.models, k.rpm, k.tpm, k.expires_at, k.revoked_at
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE k.kid = $1;

-- name: touch_keys
-- last_used_at never goes back, whatever order the gateways' batches arrive in.
UPDATE anzoth.api_keys AS k
SET last_used_at = greatest(k.last_used_at, used.at)
FROM unnest($1::uuid[], $2::timestamptz[]) AS used (key_id, at)
WHERE k.id = used.key_id;

-- name: insert_usage
-- Again after a lost connection: the rows that made it are skipped.
INSERT INTO anzoth.usage (
    tenant_id, request_id, started_at, key_id, endpoint, model, prompt_tokens, cached_tokens,
    completion_tokens, finish_reason, streamed, status, error_code, ttft_ms, duration_ms, end_user,
    metadata
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
ON CONFLICT DO NOTHING;

-- name: lock_directory
-- Until the end of the transaction: two first starts must not both make the default tenant.
SELECT pg_advisory_xact_lock(hashtext('anzoth.directory'));

-- name: any_tenant
SELECT EXISTS (SELECT FROM anzoth.tenants);

-- name: insert_tenant
-- No row when the name is taken.
INSERT INTO anzoth.tenants (id, name) VALUES ($1, $2)
ON CONFLICT (name) DO NOTHING
RETURNING id, name, created_at, deleted_at;

-- name: list_tenants
SELECT t.id, t.name, t.created_at, t.deleted_at,
    count(k.id) FILTER (WHERE k.revoked_at IS NULL) AS num_keys
FROM anzoth.tenants AS t
LEFT JOIN anzoth.api_keys AS k ON k.tenant_id = t.id
GROUP BY t.id
ORDER BY t.name;

-- name: find_tenant
SELECT id, name, created_at, deleted_at FROM anzoth.tenants WHERE name = $1;

-- name: delete_tenant
-- Announced to the gateways by a trigger. No row when it is deleted already.
UPDATE anzoth.tenants SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL
RETURNING deleted_at;

-- name: list_deleted_tenants
-- Reads what the policies show under app.deleted_tenants.
SELECT id FROM anzoth.tenants WHERE deleted_at IS NOT NULL;

-- name: insert_key
INSERT INTO anzoth.api_keys (
    id, tenant_id, kid, name, digest, hash_alg, pepper_id, redacted, scopes, models, rpm, tpm,
    expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
RETURNING created_at;

-- name: list_keys
-- $1: a tenant's name, or NULL for all. Never the digest.
SELECT k.id, t.name AS tenant, k.kid, k.name, k.redacted, k.scopes, k.models, k.rpm, k.tpm,
    k.created_at, k.expires_at, k.revoked_at, k.last_used_at
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE $1::text IS NULL OR t.name = $1
ORDER BY t.name, k.created_at;

-- name: revoke_key
-- By id or kid. Keeps the first date when it was revoked before.
UPDATE anzoth.api_keys AS k
SET revoked_at = coalesce(k.revoked_at, now())
FROM anzoth.tenants AS t
WHERE t.id = k.tenant_id AND (k.id = $1 OR k.kid = $2)
RETURNING k.id, k.kid, k.name, t.name AS tenant, k.revoked_at;

-- name: revoke_keys
-- All of a tenant that still work. Announced to the gateways by a trigger.
UPDATE anzoth.api_keys SET revoked_at = now() WHERE tenant_id = $1 AND revoked_at IS NULL
RETURNING id;
