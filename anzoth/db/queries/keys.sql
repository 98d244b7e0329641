-- API keys: what authentication reads, what operators and management keys do.

-- name: find_key
-- Reads what the policies show under app.kid: one key with its tenant, or nothing. Either of its
-- secrets finds it.
SELECT k.id, k.tenant_id, t.name AS tenant_name, k.project_id, k.kid, k.digest, k.hash_alg,
    k.pepper_id, k.scopes, k.models, k.endpoints, k.networks, k.knowledge_bases, k.tools,
    k.expires_at, k.revoked_at, k.predecessor_kid, k.predecessor_digest, k.predecessor_hash_alg,
    k.predecessor_pepper_id, k.predecessor_expires_at, t.shadow_rules || k.shadow_rules AS shadow_rules
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE k.kid = $1 OR k.predecessor_kid = $1;

-- name: touch_keys
-- last_used_at never goes back, whatever order the gateways' batches arrive in.
UPDATE anzoth.api_keys AS k
SET last_used_ip = CASE WHEN k.last_used_at > used.at THEN k.last_used_ip
        ELSE coalesce(used.ip, k.last_used_ip) END,
    last_used_at = greatest(k.last_used_at, used.at),
    predecessor_uses = k.predecessor_uses
        + CASE WHEN k.predecessor_kid = used.predecessor_kid THEN used.predecessor_uses ELSE 0 END
FROM unnest($1::uuid[], $2::timestamptz[], $3::inet[], $4::text[], $5::bigint[])
    AS used (key_id, at, ip, predecessor_kid, predecessor_uses)
WHERE k.id = used.key_id;

-- name: insert_key
INSERT INTO anzoth.api_keys (
    id, tenant_id, project_id, kid, name, digest, hash_alg, pepper_id, redacted, scopes, models,
    endpoints, networks, knowledge_bases, tools, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)
RETURNING created_at;

-- name: list_keys
-- $1: a tenant's name, or NULL for all. Never the digest.
SELECT k.id, t.name AS tenant, p.name AS project, k.kid, k.name, k.redacted, k.scopes, k.models,
    k.endpoints, k.networks, k.knowledge_bases, k.tools, l.rpm, l.tpm, l.input_tpm, l.output_tpm,
    l.concurrency, l.tokens_per_day, l.budget_per_day, l.budget_per_month, k.created_at,
    k.expires_at, k.revoked_at, k.last_used_at, k.last_used_ip, k.predecessor_expires_at,
    k.predecessor_uses
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
JOIN anzoth.projects AS p ON p.id = k.project_id
LEFT JOIN anzoth.limits AS l
    ON l.tenant_id = k.tenant_id AND l.key_id = k.id AND l.model IS NULL
WHERE $1::text IS NULL OR t.name = $1
ORDER BY t.name, k.created_at;

-- name: lock_key
-- By id or kid, until the end of the transaction.
SELECT k.id, k.tenant_id, t.name AS tenant, k.project_id, k.kid, k.name, k.scopes, k.models,
    k.endpoints, k.networks, k.knowledge_bases, k.tools, k.expires_at, k.revoked_at
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE k.id = $1 OR k.kid = $2 OR k.predecessor_kid = $2
FOR UPDATE OF k;

-- name: update_key
UPDATE anzoth.api_keys
SET name = $2, scopes = $3, models = $4, endpoints = $5, networks = $6, knowledge_bases = $7,
    tools = $8, expires_at = $9
WHERE id = $1;

-- name: rotate_key
-- What the key was until now becomes its predecessor, in the place of an earlier one, unless its
-- grace ($7) is NULL.
UPDATE anzoth.api_keys
SET predecessor_kid = CASE WHEN $7::timestamptz IS NULL THEN NULL ELSE kid END,
    predecessor_digest = CASE WHEN $7 IS NULL THEN NULL ELSE digest END,
    predecessor_hash_alg = CASE WHEN $7 IS NULL THEN NULL ELSE hash_alg END,
    predecessor_pepper_id = CASE WHEN $7 IS NULL THEN NULL ELSE pepper_id END,
    predecessor_expires_at = $7, predecessor_uses = 0,
    kid = $2, digest = $3, hash_alg = $4, pepper_id = $5, redacted = $6
WHERE id = $1;

-- name: revoke_key
-- By id or kid. Keeps the first date when it was revoked before; of two at once, one was first. $3:
-- its running requests go on, unless they were ended already.
WITH before AS (
    SELECT id, revoked_at FROM anzoth.api_keys
    WHERE id = $1 OR kid = $2 OR predecessor_kid = $2 FOR UPDATE
)
UPDATE anzoth.api_keys AS k
SET revoked_at = coalesce(k.revoked_at, now()),
    lets_finish = $3 AND (k.revoked_at IS NULL OR k.lets_finish)
FROM before, anzoth.tenants AS t
WHERE k.id = before.id AND t.id = k.tenant_id
RETURNING k.id, k.kid, k.name, t.name AS tenant, k.revoked_at, k.tenant_id, k.project_id,
    before.revoked_at IS NULL AS was_active;

-- name: revoke_keys
-- All of a tenant, or of one of its projects ($2), that still work. Announced to the gateways by a
-- trigger.
UPDATE anzoth.api_keys SET revoked_at = now()
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR project_id = $2) AND revoked_at IS NULL
RETURNING id;

-- name: list_revoked_keys
-- Reads what the policies show under app.ended: those whose requests end, for as long as a request
-- can have been running since.
SELECT id FROM anzoth.api_keys
WHERE revoked_at > now() - interval '1 day' AND NOT lets_finish;
