-- The ledger.

-- name: insert_usage
-- Each parameter is a column of all rows. Again after a lost connection: the rows that made it are
-- skipped, and the trigger that adds to the roll-ups sees only those that are new.
INSERT INTO anzoth.usage (
    tenant_id, project_id, request_id, started_at, key_id, endpoint, model, prompt_tokens, cached_tokens,
    completion_tokens, finish_reason, streamed, status, error_code, ttft_ms, duration_ms, end_user,
    metadata, reasoning_tokens, service_tier, user_id, batch, input_price, cached_input_price,
    output_price, input_cost, cached_input_cost, output_cost
)
SELECT * FROM unnest(
    $1::uuid[], $2::uuid[], $3::text[], $4::timestamptz[], $5::uuid[], $6::text[], $7::text[],
    $8::bigint[], $9::bigint[], $10::bigint[], $11::text[], $12::boolean[], $13::smallint[],
    $14::text[], $15::bigint[], $16::bigint[], $17::text[], $18::jsonb[], $19::bigint[],
    $20::text[], $21::uuid[], $22::boolean[], $23::bigint[], $24::bigint[], $25::bigint[],
    $26::bigint[], $27::bigint[], $28::bigint[]
)
ON CONFLICT DO NOTHING;
