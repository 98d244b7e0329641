-- Responses that are kept. One belongs to a project; nobody outside sees it.

-- name: insert_response
-- No row when the tenant has no key: it was deleted.
-- One that runs is claimed for some seconds; null: it has ended.
INSERT INTO anzoth.responses
    (tenant_id, id, project_id, content, bytes, expires_at, running_until)
SELECT $1, $2, $3, $4::bytea, octet_length($4::bytea), now() + make_interval(days => $5),
    now() + make_interval(secs => $6)
FROM anzoth.tenant_keys WHERE tenant_id = $1
RETURNING id;

-- name: insert_response_items
-- Those that were referred to came into being elsewhere.
INSERT INTO anzoth.response_items (tenant_id, id, response_id)
SELECT $1, unnest($3::text[]), $2
ON CONFLICT DO NOTHING;

-- name: response_bytes
SELECT num_bytes FROM anzoth.response_sums WHERE tenant_id = $1;

-- name: forget_oldest_responses
-- And conversations: as many as hold so many bytes together, or a little more. A conversation that
-- somebody is adding to is not waited for: he may be waiting for the sum.
WITH aged AS (
    SELECT id, sum(bytes) OVER (ORDER BY at, id) - bytes AS before
    FROM (
        SELECT id, bytes, created_at AS at FROM anzoth.responses WHERE tenant_id = $1
        UNION ALL
        SELECT id, bytes, changed_at FROM anzoth.conversations WHERE tenant_id = $1
    ) AS kept
), conversations AS (
    SELECT id FROM anzoth.conversations
    WHERE tenant_id = $1 AND id IN (SELECT id FROM aged WHERE before < $2)
    FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM anzoth.conversations
    WHERE tenant_id = $1 AND id IN (SELECT id FROM conversations)
)
DELETE FROM anzoth.responses
WHERE tenant_id = $1 AND id IN (SELECT id FROM aged WHERE before < $2);

-- name: find_response
SELECT content, is_begun, running_until IS NOT NULL AS is_running, running_until <= now() AS is_lost
FROM anzoth.responses
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND expires_at > now();

-- name: renew_responses
-- Of those that run: which were not cancelled, deleted or given up meanwhile.
UPDATE anzoth.responses
SET running_until = now() + make_interval(secs => $4), is_begun = is_begun OR id = ANY ($3::text[])
WHERE tenant_id = $1 AND id = ANY ($2::text[]) AND running_until > now()
RETURNING id;

-- name: end_running_response
-- To be inserted again as what it came to. No row when somebody else has ended it.
DELETE FROM anzoth.responses
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND running_until > now()
RETURNING id;

-- name: find_births
-- The responses in which any of these items came into being.
SELECT DISTINCT i.response_id
FROM anzoth.response_items AS i
JOIN anzoth.responses AS r ON r.tenant_id = i.tenant_id AND r.id = i.response_id
WHERE i.tenant_id = $1 AND r.project_id = $2 AND i.id = ANY ($3::text[]);

-- name: delete_response
DELETE FROM anzoth.responses
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND expires_at > now()
RETURNING id;

-- name: expire_responses_of_tenant
UPDATE anzoth.responses SET expires_at = now() WHERE tenant_id = $1 AND expires_at > now();

-- name: outdated_responses
-- Reads what the policy shows under app.outdated_responses.
SELECT tenant_id, id FROM anzoth.responses WHERE expires_at <= now() ORDER BY expires_at LIMIT $1;

-- name: forget_responses
DELETE FROM anzoth.responses
WHERE tenant_id = $1 AND id = ANY ($2::text[]) AND expires_at <= now();
