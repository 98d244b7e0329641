-- Tool servers of a tenant, and what was approved of what they say that they can do.

-- name: lock_tool_servers
-- Until the end of the transaction: two must not both make the last one that is allowed.
SELECT pg_advisory_xact_lock(hashtext('anzoth.tool_servers'), hashtext($1::uuid::text));

-- name: count_tool_servers
SELECT count(*) FROM anzoth.tool_servers WHERE tenant_id = $1;

-- name: insert_tool_server
-- No row when the tenant has one of this label, or was deleted.
INSERT INTO anzoth.tool_servers (
    id, tenant_id, label, kind, url, command, method, approval, taint, timeout_ms,
    max_result_bytes, calls_per_minute, credentials
)
SELECT $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13
FROM anzoth.tenants WHERE id = $2 AND deleted_at IS NULL
ON CONFLICT (tenant_id, label) DO NOTHING
RETURNING id;

-- name: list_tool_servers
SELECT id, tenant_id, label, kind, url, command, method, approval, taint, timeout_ms,
    max_result_bytes, calls_per_minute, credentials IS NOT NULL AS has_credentials, created_at,
    updated_at, listed_at, note
FROM anzoth.tool_servers
WHERE tenant_id = $1
ORDER BY created_at, id;

-- name: lock_tool_server
-- Whoever changes it, or what is pinned of it, waits for who does so already.
SELECT id FROM anzoth.tool_servers WHERE tenant_id = $1 AND id = $2 FOR UPDATE;

-- name: update_tool_server
-- $9: whether the credentials are to be $8.
UPDATE anzoth.tool_servers
SET approval = $3, taint = $4, timeout_ms = $5, max_result_bytes = $6, calls_per_minute = $7,
    credentials = CASE WHEN $9 THEN $8 ELSE credentials END, updated_at = now()
WHERE tenant_id = $1 AND id = $2;

-- name: note_tool_server
-- $4: whether it said just now what it can do.
UPDATE anzoth.tool_servers
SET note = $3, listed_at = CASE WHEN $4 THEN now() ELSE listed_at END
WHERE tenant_id = $1 AND id = $2;

-- name: find_tool_credentials
SELECT credentials FROM anzoth.tool_servers WHERE tenant_id = $1 AND id = $2;

-- name: delete_tool_server
DELETE FROM anzoth.tool_servers WHERE tenant_id = $1 AND id = $2 RETURNING label;

-- name: delete_tool_servers
-- All of a tenant.
DELETE FROM anzoth.tool_servers WHERE tenant_id = $1;

-- name: list_tools
SELECT server_id, name, state, digest, definition, changed_digest, changed_definition,
    first_seen_at, approved_at
FROM anzoth.tools
WHERE tenant_id = $1
ORDER BY server_id, name;

-- name: list_tools_of_server
SELECT server_id, name, state, digest, definition, changed_digest, changed_definition,
    first_seen_at, approved_at
FROM anzoth.tools
WHERE tenant_id = $1 AND server_id = $2
ORDER BY name;

-- name: list_approved_tools
SELECT server_id, definition
FROM anzoth.tools
WHERE tenant_id = $1 AND state = 'approved'
ORDER BY server_id, name;

-- name: insert_tool
INSERT INTO anzoth.tools (tenant_id, server_id, name, state, digest, definition, approved_at)
VALUES ($1, $2, $3, $4, $5, $6, CASE WHEN $4 = 'approved' THEN now() END);

-- name: pin_tool
-- It is this definition from now on, and no other.
UPDATE anzoth.tools
SET state = $4, digest = $5, definition = $6, changed_digest = NULL, changed_definition = NULL,
    approved_at = CASE WHEN $4 = 'approved' THEN now() ELSE approved_at END
WHERE tenant_id = $1 AND server_id = $2 AND name = $3;

-- name: quarantine_tool
-- What was pinned stays beside what the server says instead (NULL: it says that again).
UPDATE anzoth.tools
SET state = 'quarantined', changed_digest = $4, changed_definition = $5
WHERE tenant_id = $1 AND server_id = $2 AND name = $3;

-- name: delete_tool
DELETE FROM anzoth.tools WHERE tenant_id = $1 AND server_id = $2 AND name = $3;
