-- Rules that are only watched for a tenant or a key; see gateway/shadow.py.

-- name: set_tenant_shadow_rules
-- Running gateways read it with the tenant's keys, within a second.
UPDATE anzoth.tenants SET shadow_rules = $2 WHERE name = $1 AND deleted_at IS NULL RETURNING id;

-- name: set_key_shadow_rules
-- $2: a key's id or kid, as text.
UPDATE anzoth.api_keys AS k SET shadow_rules = $3
FROM anzoth.tenants AS t
WHERE t.id = k.tenant_id AND t.name = $1 AND (k.id::text = $2 OR k.kid = $2)
RETURNING k.id;

-- name: list_shadow_rules
SELECT t.name AS tenant, NULL AS kid, NULL AS key_name, t.shadow_rules AS rules
FROM anzoth.tenants AS t
WHERE t.shadow_rules <> '{}' AND ($1::text IS NULL OR t.name = $1)
UNION ALL
SELECT t.name, k.kid, k.name, k.shadow_rules
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE k.shadow_rules <> '{}' AND ($1::text IS NULL OR t.name = $1)
ORDER BY tenant, kid NULLS FIRST;
