-- API keys: what authentication reads, what operators and management keys do.

-- name: find_key
-- Reads what the policies show under app.kid: one key with its tenant, or nothing. Either of its
-- secrets finds it.
SELECT k.id, k.tenant_id, t.name AS tenant_name, k.project_id, k.kid, k.digest, k.hash_alg,
    k.pepper_id, k.scopes, k.models, k.endpoints, k.networks, k.knowledge_bases, k.tools,
    k.expires_at, k.revoked_at, k.predecessor_kid, k.predecessor_digest, k.predecessor_hash_alg,
    k.predecessor_pepper_id, k.predecessor_expires_at,
    t.shadow_rules || k.shadow_rules AS shadow_rules,
    coalesce(k.user_id, k.service_account_id) AS owner_id, k.default_knowledge_bases
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE k.kid = $1 OR k.predecessor_kid = $1;

-- name: find_kid
SELECT kid FROM anzoth.api_keys WHERE tenant_id = $1 AND id = $2;

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
    endpoints, networks, knowledge_bases, tools, expires_at, user_id, service_account_id,
    default_knowledge_bases
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19)
RETURNING created_at;

-- name: list_keys
-- $1: a tenant's name, or NULL for all. Never the digest.
SELECT k.id, t.name AS tenant, p.name AS project, k.kid, k.name, k.redacted, k.scopes, k.models,
    k.endpoints, k.networks, k.knowledge_bases, k.tools, l.rpm, l.tpm, l.input_tpm, l.output_tpm,
    l.concurrency, l.tokens_per_day, l.budget_per_day, l.budget_per_month, k.created_at,
    k.expires_at, k.revoked_at, k.last_used_at, k.last_used_ip, k.predecessor_expires_at,
    k.predecessor_uses, coalesce(u.email, a.name) AS owner, k.default_knowledge_bases
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
JOIN anzoth.projects AS p ON p.id = k.project_id
LEFT JOIN anzoth.users AS u ON u.id = k.user_id
LEFT JOIN anzoth.service_accounts AS a ON a.id = k.service_account_id
LEFT JOIN anzoth.limits AS l
    ON l.tenant_id = k.tenant_id AND l.key_id = k.id AND l.model IS NULL
WHERE $1::text IS NULL OR t.name = $1
ORDER BY t.name, k.created_at;

-- name: page_of_keys
-- Of a tenant ($1) those that are not revoked: of one of its projects ($2), or (NULL) its admin keys,
-- which are of no project in particular; or of those one alone ($3). After the key $4 in the order in
-- which they were made, or ($5) the reverse, at most $6. Never the digest.
SELECT k.id, k.project_id, k.kid, k.name, k.redacted, k.scopes, k.models, k.endpoints, k.networks,
    k.knowledge_bases, k.tools, k.created_at, k.expires_at, k.last_used_at,
    k.predecessor_expires_at, k.user_id, u.email AS user_email, u.name AS user_name,
    u.created_at AS user_created_at, coalesce(pm.role, m.role) AS user_role,
    k.service_account_id, a.name AS service_account_name,
    a.created_at AS service_account_created_at, k.default_knowledge_bases
FROM anzoth.api_keys AS k
LEFT JOIN anzoth.users AS u ON u.id = k.user_id
LEFT JOIN anzoth.memberships AS m ON m.tenant_id = k.tenant_id AND m.user_id = k.user_id
LEFT JOIN anzoth.project_members AS pm ON pm.tenant_id = k.tenant_id
    AND pm.project_id = $2 AND pm.user_id = k.user_id
LEFT JOIN anzoth.service_accounts AS a ON a.id = k.service_account_id
WHERE k.tenant_id = $1 AND k.revoked_at IS NULL
    AND CASE WHEN $2::uuid IS NULL THEN 'admin' = ANY (k.scopes)
        ELSE k.project_id = $2 AND NOT 'admin' = ANY (k.scopes) END
    AND ($3::uuid IS NULL OR k.id = $3)
    AND ($4::uuid IS NULL OR CASE WHEN $5 THEN (k.created_at, k.id) < (
            SELECT b.created_at, b.id FROM anzoth.api_keys AS b WHERE b.tenant_id = $1 AND b.id = $4
        ) ELSE (k.created_at, k.id) > (
            SELECT b.created_at, b.id FROM anzoth.api_keys AS b WHERE b.tenant_id = $1 AND b.id = $4
        ) END)
ORDER BY CASE WHEN $5 THEN k.created_at END DESC, CASE WHEN $5 THEN k.id END DESC,
    k.created_at, k.id
LIMIT $6;

-- name: find_tools_of_key
-- What a key may call that a request was begun with: nothing where it was revoked or has expired since.
SELECT coalesce(tools, '{}') FROM anzoth.api_keys
WHERE id = $1 AND revoked_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: lock_key
-- By id or kid, until the end of the transaction.
SELECT k.id, k.tenant_id, t.name AS tenant, k.project_id, k.kid, k.name, k.scopes, k.models,
    k.endpoints, k.networks, k.knowledge_bases, k.tools, k.expires_at, k.revoked_at, k.user_id,
    k.service_account_id, k.default_knowledge_bases
FROM anzoth.api_keys AS k
JOIN anzoth.tenants AS t ON t.id = k.tenant_id
WHERE k.id = $1 OR k.kid = $2 OR k.predecessor_kid = $2
FOR UPDATE OF k;

-- name: update_key
UPDATE anzoth.api_keys
SET name = $2, scopes = $3, models = $4, endpoints = $5, networks = $6, knowledge_bases = $7,
    tools = $8, expires_at = $9, default_knowledge_bases = $10
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

-- name: revoke_keys_of_owner
-- Of a user ($2) or a service account ($3) those that still work: in one tenant ($1; NULL: in each) or
-- one of its projects ($4), where admin keys are of none; all, or those with a scope beyond $5.
UPDATE anzoth.api_keys AS k SET revoked_at = now()
FROM anzoth.tenants AS t
WHERE t.id = k.tenant_id AND ($1::uuid IS NULL OR k.tenant_id = $1) AND k.revoked_at IS NULL
    AND (k.user_id = $2 OR k.service_account_id = $3)
    AND ($4::uuid IS NULL OR k.project_id = $4 AND NOT 'admin' = ANY (k.scopes))
    AND ($5::text[] IS NULL OR NOT k.scopes <@ $5)
RETURNING k.id, k.kid, k.name, t.name AS tenant, k.revoked_at, k.tenant_id, k.project_id,
    true AS was_active;

-- name: list_revoked_keys
-- Reads what the policies show under app.ended: those whose requests end, for as long as a request
-- can have been running since.
SELECT id FROM anzoth.api_keys
WHERE revoked_at > now() - interval '1 day' AND NOT lets_finish;
