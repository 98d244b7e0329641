-- Tenants, as the operator's commands and the gateways see them.

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
-- Reads what the policies show under app.ended.
SELECT id FROM anzoth.tenants WHERE deleted_at IS NOT NULL;
