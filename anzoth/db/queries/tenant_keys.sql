-- The keys that tenants' documents are encrypted with, wrapped.

-- name: find_tenant_key
SELECT wrapped, master_key_id FROM anzoth.tenant_keys WHERE tenant_id = $1;

-- name: insert_tenant_key
-- No row when there is one already, or when the tenant was deleted: what is destroyed stays so.
INSERT INTO anzoth.tenant_keys (tenant_id, wrapped, master_key_id)
SELECT id, $2, $3 FROM anzoth.tenants WHERE id = $1 AND deleted_at IS NULL
ON CONFLICT (tenant_id) DO NOTHING
RETURNING wrapped, master_key_id;

-- name: delete_tenant_key
DELETE FROM anzoth.tenant_keys WHERE tenant_id = $1 RETURNING tenant_id;
