-- The ledger.

-- name: insert_usage
-- Again after a lost connection: the rows that made it are skipped.
INSERT INTO anzoth.usage (
    tenant_id, project_id, request_id, started_at, key_id, endpoint, model, prompt_tokens, cached_tokens,
    completion_tokens, finish_reason, streamed, status, error_code, ttft_ms, duration_ms, end_user,
    metadata
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT DO NOTHING;
