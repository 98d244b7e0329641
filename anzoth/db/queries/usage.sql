-- The ledger, and how far the gateways' journals are in it.

-- name: stage_usage
-- Where COPY puts rows, on one connection, until they are inserted. Columns that this version does
-- not know take their defaults.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_usage (LIKE anzoth.usage INCLUDING DEFAULTS)
    ON COMMIT DELETE ROWS;

-- name: insert_staged_usage
-- Rows that are there already are skipped: a journal may be read again from anywhere.
WITH staged AS (DELETE FROM pg_temp.staged_usage RETURNING *)
INSERT INTO anzoth.usage SELECT * FROM staged
ON CONFLICT DO NOTHING;

-- name: find_journal_cursor
SELECT segment, "offset" FROM anzoth.journal_cursors WHERE writer_id = $1;

-- name: set_journal_cursor
INSERT INTO anzoth.journal_cursors (writer_id, segment, "offset") VALUES ($1, $2, $3)
ON CONFLICT (writer_id) DO UPDATE
    SET segment = excluded.segment, "offset" = excluded."offset", moved_at = now();

-- name: find_request
-- The newest of this id: some proxies repeat ids.
SELECT request_id, started_at, project_id, key_id, endpoint, model, target, attempts, prompt_tokens,
    cached_tokens, completion_tokens, finish_reason, streamed, status, error_code, rule, refusal,
    shadow_rules, ttft_ms, duration_ms, retrieval
FROM anzoth.usage
WHERE tenant_id = $1 AND request_id = $2 AND ($3::uuid IS NULL OR key_id = $3)
ORDER BY started_at DESC
LIMIT 1;
