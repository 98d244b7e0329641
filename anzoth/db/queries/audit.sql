-- The audit log.

-- name: open_audit_chain
-- Until the end of the transaction nobody else appends to this chain. Taken last: see gateway.audit.
SELECT set_config('app.audit_chain', $1, true),
    pg_advisory_xact_lock(hashtextextended('anzoth.audit.' || $1, 0));

-- name: audit_chain_head
-- A statement after that lock sees what the holder before committed.
SELECT clock_timestamp() AS now, head.seq, head.hash, head.at
FROM (SELECT) AS always
LEFT JOIN LATERAL (
    SELECT seq, hash, at FROM anzoth.audit_log WHERE chain = $1 ORDER BY seq DESC LIMIT 1
) AS head ON true;

-- name: insert_audit_event
INSERT INTO anzoth.audit_log (
    id, tenant_id, seq, at, type, actor_kind, actor_id, actor_ip, project_id, target, details,
    request_id, previous, hash
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14);

-- name: close_audit_chain
SELECT set_config('app.audit_chain', '', true);

-- name: list_audit_events
-- Of any chain, the latest first. NULL: whichever.
SELECT e.id, e.tenant_id, e.seq, e.at, e.type, e.actor_kind, e.actor_id, e.actor_ip, e.project_id,
    e.target, e.details, e.request_id, e.previous, e.hash
FROM anzoth.audit_log AS e
WHERE ($1::uuid IS NULL OR e.chain = $1)
    AND ($2::timestamptz IS NULL OR e.at >= $2)
    AND ($3::text[] IS NULL OR e.type = ANY ($3))
ORDER BY e.at DESC, e.chain, e.seq DESC
LIMIT $4;

-- name: all_audit_events
-- In the order in which they are verified. NULL: every chain.
SELECT e.id, e.tenant_id, e.seq, e.at, e.type, e.actor_kind, e.actor_id, e.actor_ip, e.project_id,
    e.target, e.details, e.request_id, e.previous, e.hash
FROM anzoth.audit_log AS e
WHERE $1::uuid IS NULL OR e.chain = $1
ORDER BY e.chain, e.seq;

-- name: page_of_audit_events
-- Of the tenant's own chain: after $8 (older ones) the latest first, before $9 the next ones up.
SELECT e.id, e.tenant_id, e.seq, e.at, e.type, e.actor_kind, e.actor_id, e.actor_ip, e.project_id,
    e.target, e.details, e.request_id, e.previous, e.hash
FROM anzoth.audit_log AS e
WHERE e.chain = $1
    AND ($2::timestamptz IS NULL OR e.at >= $2)
    AND ($3::timestamptz IS NULL OR e.at < $3)
    AND ($4::uuid[] IS NULL OR e.project_id = ANY ($4))
    AND ($5::text[] IS NULL OR e.type = ANY ($5))
    AND ($6::text[] IS NULL OR e.actor_id = ANY ($6))
    AND ($7::text[] IS NULL OR e.target ->> 'id' = ANY ($7))
    AND ($8::bigint IS NULL OR e.seq < $8)
    AND ($9::bigint IS NULL OR e.seq > $9)
ORDER BY CASE WHEN $9::bigint IS NULL THEN -e.seq ELSE e.seq END
LIMIT $10;

-- name: find_audit_event
-- Its place in the chain.
SELECT seq FROM anzoth.audit_log WHERE chain = $1 AND id = $2;

-- name: tool_calls_of_request
-- Of calls of tools for a request ($2) of a key ($3), in their order. Some proxies repeat ids: only
-- since the request began ($4), by a clock that may be another.
SELECT e.id, e.tenant_id, e.seq, e.at, e.type, e.actor_kind, e.actor_id, e.actor_ip, e.project_id,
    e.target, e.details, e.request_id, e.previous, e.hash
FROM anzoth.audit_log AS e
WHERE e.chain = $1 AND e.request_id = $2 AND e.actor_id = $3 AND e.at >= $4::timestamptz - interval '1 minute'
    AND e.type IN ('tool.called', 'tool.completed', 'tool.refused')
ORDER BY e.seq
LIMIT 1000;

-- name: unsigned_audit_heads
-- Chains that grew since their last signature, where that is older than $1 (or there is none).
SELECT last.tenant_id, last.seq, last.hash
FROM (
    SELECT id FROM anzoth.tenants UNION ALL SELECT '00000000-0000-0000-0000-000000000000'
) AS owner
CROSS JOIN LATERAL (
    SELECT chain, tenant_id, seq, hash FROM anzoth.audit_log WHERE chain = owner.id
    ORDER BY seq DESC LIMIT 1
) AS last
LEFT JOIN LATERAL (
    SELECT seq, signed_at FROM anzoth.audit_heads WHERE chain = last.chain
    ORDER BY seq DESC LIMIT 1
) AS signed ON true
WHERE signed.seq IS NULL OR (signed.seq < last.seq AND signed.signed_at < $1);

-- name: insert_audit_head
-- Nothing where another server was faster.
INSERT INTO anzoth.audit_heads (tenant_id, seq, hash, signed_at, public_key, signature)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT DO NOTHING;

-- name: list_audit_heads
-- NULL: of every chain.
SELECT tenant_id, seq, hash, signed_at, public_key, signature FROM anzoth.audit_heads
WHERE $1::uuid IS NULL OR chain = $1
ORDER BY chain, seq;
