-- Names of models that mean something to one tenant.

-- name: list_aliases
SELECT id, name, targets, system_prompt, defaults, forced, sticky, created_at, updated_at,
    knowledge_bases, tools
FROM anzoth.model_aliases
WHERE tenant_id = $1
ORDER BY created_at, id;

-- name: insert_alias
-- No row when the tenant has an alias of this name.
INSERT INTO anzoth.model_aliases (
    id, tenant_id, name, targets, system_prompt, defaults, forced, sticky, knowledge_bases,
    tools
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
ON CONFLICT (tenant_id, name) DO NOTHING
RETURNING id, name, targets, system_prompt, defaults, forced, sticky, created_at, updated_at,
    knowledge_bases, tools;

-- name: update_alias
UPDATE anzoth.model_aliases
SET name = $3, targets = $4, system_prompt = $5, defaults = $6, forced = $7, sticky = $8,
    knowledge_bases = $9, tools = $10, updated_at = now()
WHERE tenant_id = $2 AND id = $1
RETURNING id, name, targets, system_prompt, defaults, forced, sticky, created_at, updated_at,
    knowledge_bases, tools;

-- name: delete_alias
DELETE FROM anzoth.model_aliases WHERE tenant_id = $2 AND id = $1 RETURNING id;

-- name: delete_aliases
-- All of a tenant: system prompts are its own words.
DELETE FROM anzoth.model_aliases WHERE tenant_id = $1;
