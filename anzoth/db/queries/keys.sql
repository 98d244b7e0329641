-- API keys: what authentication reads, what the operator's commands do.

-- name: find_key
-- Reads what the policies show under app.kid: one key with its tenant, or nothing.
SELECT k.id, k.tenant_id, t.name AS tenant_name, k.project_id, k.kid, k.digest, k.hash_alg, k.pepper_id,
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

-- name: insert_key
INSERT INTO anzoth.api_keys (
    id, tenant_id, project_id, kid, name, digest, hash_alg, pepper_id, redacted, scopes, models,
    rpm, tpm, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
RETURNING created_at;

-- name: list_keys
-- $1: a tenant's name, or NULL for all. Never the digest.
SELECT k.id, t.name AS tenant, p.name AS project, k.kid, k.name, k.redacted, k.scopes, k.models, k.rpm, k.tpm,
    k.created_at, k.expires_at, k.revoked_at, k.last_used_at
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
JOIN anzoth.projects AS p ON p.id = k.project_id
WHERE $1::text IS NULL OR t.name = $1
ORDER BY t.name, k.created_at;

-- name: revoke_key
-- By id or kid. Keeps the first date when it was revoked before; of two at once, one was first.
WITH before AS (
    SELECT id, revoked_at FROM anzoth.api_keys WHERE id = $1 OR kid = $2 FOR UPDATE
)
UPDATE anzoth.api_keys AS k
SET revoked_at = coalesce(k.revoked_at, now())
FROM before, anzoth.tenants AS t
WHERE k.id = before.id AND t.id = k.tenant_id
RETURNING k.id, k.kid, k.name, t.name AS tenant, k.revoked_at, k.tenant_id, k.project_id,
    before.revoked_at IS NULL AS was_active;

-- name: revoke_keys
-- All of a tenant that still work. Announced to the gateways by a trigger.
UPDATE anzoth.api_keys SET revoked_at = now() WHERE tenant_id = $1 AND revoked_at IS NULL
RETURNING id;
