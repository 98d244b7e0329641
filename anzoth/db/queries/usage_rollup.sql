-- The ledger's sums: what usage pages are made of. How a row gets into them: roll_up_usage in
-- schema.sql. A cell without a model counts requests for which no model computed anything.

-- name: usage_buckets
-- Sums by bucket and by what $5 names, of the cells that pass every filter that is not NULL.
SELECT bucket_start,
    CASE WHEN 'project_id' = ANY ($5::text[]) THEN project_id END AS project_id,
    CASE WHEN 'user_id' = ANY ($5) THEN user_id END AS user_id,
    CASE WHEN 'api_key_id' = ANY ($5) THEN key_id END AS api_key_id,
    CASE WHEN 'model' = ANY ($5) THEN model END AS model,
    CASE WHEN 'batch' = ANY ($5) THEN batch END AS batch,
    CASE WHEN 'service_tier' = ANY ($5) THEN service_tier END AS service_tier,
    sum(num_requests)::bigint AS num_requests,
    sum(prompt_tokens)::bigint AS prompt_tokens,
    sum(cached_tokens)::bigint AS cached_tokens,
    sum(prompt_tokens - cached_tokens)::bigint AS uncached_tokens,
    sum(completion_tokens)::bigint AS completion_tokens,
    sum(reasoning_tokens)::bigint AS reasoning_tokens
FROM anzoth.usage_rollup
WHERE tenant_id = $1 AND width = $2 AND bucket_start >= $3 AND bucket_start < $4
    AND model IS NOT NULL
    AND endpoint = ANY ($6::text[])
    AND ($7::uuid[] IS NULL OR project_id = ANY ($7))
    AND ($8::uuid[] IS NULL OR user_id = ANY ($8))
    AND ($9::uuid[] IS NULL OR key_id = ANY ($9))
    AND ($10::text[] IS NULL OR model = ANY ($10))
    AND ($11::boolean IS NULL OR batch = $11)
GROUP BY 1, 2, 3, 4, 5, 6, 7
ORDER BY 1, 2, 3, 4, 5, 6, 7;

-- name: cost_buckets
-- The same for costs, by the day. Cells are summed first, and only then taken apart into line items,
-- by model where these are asked for.
WITH sums AS (
    SELECT bucket_start,
        CASE WHEN 'project_id' = ANY ($4::text[]) THEN project_id END AS project_id,
        CASE WHEN 'user_id' = ANY ($4) THEN user_id END AS user_id,
        CASE WHEN 'api_key_id' = ANY ($4) THEN key_id END AS api_key_id,
        CASE WHEN 'line_item' = ANY ($4) OR $8::text[] IS NOT NULL THEN model END AS model,
        sum(prompt_tokens - cached_tokens) AS input_tokens,
        sum(cached_tokens) AS cached_tokens,
        sum(completion_tokens) AS output_tokens,
        sum(input_cost) AS input_cost,
        sum(cached_input_cost) AS cached_input_cost,
        sum(output_cost) AS output_cost
    FROM anzoth.usage_rollup
    WHERE tenant_id = $1 AND width = '1d' AND bucket_start >= $2 AND bucket_start < $3
        AND model IS NOT NULL
        AND ($5::uuid[] IS NULL OR project_id = ANY ($5))
        AND ($6::uuid[] IS NULL OR user_id = ANY ($6))
        AND ($7::uuid[] IS NULL OR key_id = ANY ($7))
    GROUP BY 1, 2, 3, 4, 5
)
SELECT bucket_start, project_id, user_id, api_key_id,
    CASE WHEN 'line_item' = ANY ($4) THEN item.name END AS line_item,
    sum(item.tokens)::bigint AS tokens,
    sum(item.cost)::bigint AS cost
FROM sums
CROSS JOIN LATERAL (VALUES
    (model || ', input_tokens', input_tokens, input_cost),
    (model || ', cached_input_tokens', sums.cached_tokens, cached_input_cost),
    (model || ', output_tokens', output_tokens, output_cost)
) AS item (name, tokens, cost)
WHERE item.tokens > 0 AND ($8 IS NULL OR item.name = ANY ($8))
GROUP BY 1, 2, 3, 4, 5
ORDER BY 1, 2, 3, 4, 5;

-- name: oldest_bucket
SELECT min(bucket_start) FROM anzoth.usage_rollup WHERE tenant_id = $1 AND width = $2;

-- name: usage_of_key
-- What one key used since a midnight (UTC).
SELECT coalesce(sum(num_requests) FILTER (WHERE model IS NOT NULL), 0)::bigint AS num_requests,
    coalesce(sum(num_requests) FILTER (WHERE model IS NULL), 0)::bigint AS num_refused_requests,
    coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens,
    coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
    coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens,
    coalesce(sum(reasoning_tokens), 0)::bigint AS reasoning_tokens,
    coalesce(sum(input_cost + cached_input_cost + output_cost), 0)::bigint AS cost
FROM anzoth.usage_rollup
WHERE tenant_id = $1 AND width = '1d' AND bucket_start >= $2 AND key_id = $3;

-- name: summarise_usage
-- For an operator: of one tenant (by name) or NULL for all, since a midnight, by what $3 names.
SELECT t.name AS tenant,
    CASE $3::text WHEN 'key' THEN k.id WHEN 'project' THEN p.id END AS id,
    CASE $3 WHEN 'key' THEN k.name WHEN 'project' THEN p.name WHEN 'model' THEN r.model
        WHEN 'day' THEN to_char(r.bucket_start AT TIME ZONE 'UTC', 'YYYY-MM-DD') END AS name,
    coalesce(sum(r.num_requests) FILTER (WHERE r.model IS NOT NULL), 0)::bigint AS num_requests,
    coalesce(sum(r.num_requests) FILTER (WHERE r.model IS NULL), 0)::bigint AS num_refused_requests,
    sum(r.prompt_tokens)::bigint AS prompt_tokens,
    sum(r.cached_tokens)::bigint AS cached_tokens,
    sum(r.completion_tokens)::bigint AS completion_tokens,
    sum(r.reasoning_tokens)::bigint AS reasoning_tokens,
    sum(r.input_cost + r.cached_input_cost + r.output_cost)::bigint AS cost
FROM anzoth.usage_rollup AS r
JOIN anzoth.tenants AS t ON t.id = r.tenant_id
JOIN anzoth.api_keys AS k ON k.id = r.key_id
JOIN anzoth.projects AS p ON p.id = r.project_id
WHERE ($1::text IS NULL OR t.name = $1) AND r.width = '1d' AND r.bucket_start >= $2
GROUP BY 1, 2, 3
ORDER BY 1, 3, 2;

-- name: delete_outdated_buckets
-- Minutes of all tenants before $1, at most $2 of them: see the policies.
DELETE FROM anzoth.usage_rollup
WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM anzoth.usage_rollup WHERE width = '1m' AND bucket_start < $1
    ORDER BY bucket_start LIMIT $2
));

-- name: count_usage
SELECT (SELECT count(*) FROM anzoth.usage) AS num_rows,
    (SELECT count(*) FROM anzoth.usage_rollup) AS num_cells,
    -- Rows that no gateway writes: counts that cannot be, or costs that are not those of the prices.
    (
        SELECT count(*) FROM anzoth.usage
        WHERE least(prompt_tokens - cached_tokens, cached_tokens, completion_tokens) < 0
            OR NOT reasoning_tokens BETWEEN 0 AND completion_tokens
            OR input_cost <> coalesce(((prompt_tokens - cached_tokens) * input_price + 500) / 1000, 0)
            OR cached_input_cost <> coalesce((cached_tokens * cached_input_price + 500) / 1000, 0)
            OR output_cost <> coalesce((completion_tokens * output_price + 500) / 1000, 0)
    ) AS num_wrong_rows;

-- name: usage_differences
-- The cells, at most $2, that are not the sums of the ledger's rows: what the rows say minus what the
-- cell says. Of the minutes only those from $1 on, a whole one; of one tenant ($3), or NULL for all.
-- Written apart from the trigger.
WITH parts AS (
    SELECT u.tenant_id, w.width, date_trunc(w.unit, u.started_at, 'UTC') AS bucket_start, u.key_id,
        u.project_id, u.user_id, u.endpoint,
        CASE WHEN u.prompt_tokens > 0 OR u.completion_tokens > 0 THEN u.model END AS model,
        u.service_tier, u.batch, 1 AS num_requests, u.prompt_tokens, u.cached_tokens,
        u.completion_tokens, u.reasoning_tokens, u.input_cost, u.cached_input_cost, u.output_cost
    FROM anzoth.usage AS u
    CROSS JOIN (VALUES ('1m', 'minute'), ('1h', 'hour'), ('1d', 'day')) AS w (width, unit)
    WHERE (w.width <> '1m' OR u.started_at >= $1) AND ($3::uuid IS NULL OR u.tenant_id = $3)
    UNION ALL
    SELECT tenant_id, width, bucket_start, key_id, project_id, user_id, endpoint, model, service_tier,
        batch, -num_requests, -prompt_tokens, -cached_tokens, -completion_tokens, -reasoning_tokens,
        -input_cost, -cached_input_cost, -output_cost
    FROM anzoth.usage_rollup
    WHERE (width <> '1m' OR bucket_start >= $1) AND ($3 IS NULL OR tenant_id = $3)
)
SELECT tenant_id, width, bucket_start, key_id, project_id, user_id, endpoint, model, service_tier, batch,
    sum(num_requests)::bigint AS num_requests,
    sum(prompt_tokens)::bigint AS prompt_tokens,
    sum(cached_tokens)::bigint AS cached_tokens,
    sum(completion_tokens)::bigint AS completion_tokens,
    sum(reasoning_tokens)::bigint AS reasoning_tokens,
    sum(input_cost)::bigint AS input_cost,
    sum(cached_input_cost)::bigint AS cached_input_cost,
    sum(output_cost)::bigint AS output_cost
FROM parts
GROUP BY tenant_id, width, bucket_start, key_id, project_id, user_id, endpoint, model, service_tier, batch
HAVING sum(num_requests) <> 0 OR sum(prompt_tokens) <> 0 OR sum(cached_tokens) <> 0
    OR sum(completion_tokens) <> 0 OR sum(reasoning_tokens) <> 0 OR sum(input_cost) <> 0
    OR sum(cached_input_cost) <> 0 OR sum(output_cost) <> 0
ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
LIMIT $2;

-- name: lock_repair
-- Until the end of the transaction: two repairs at once would add every difference twice.
SELECT pg_advisory_xact_lock(hashtext('anzoth.usage_repair'));

-- name: add_to_cell
-- A difference, to a cell that may be missing, or may have grown since the difference was read.
INSERT INTO anzoth.usage_rollup AS r (
    tenant_id, width, bucket_start, key_id, project_id, user_id, endpoint, model, service_tier, batch,
    num_requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,
    input_cost, cached_input_cost, output_cost
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
ON CONFLICT ON CONSTRAINT one_cell DO UPDATE SET
    num_requests = r.num_requests + excluded.num_requests,
    prompt_tokens = r.prompt_tokens + excluded.prompt_tokens,
    cached_tokens = r.cached_tokens + excluded.cached_tokens,
    completion_tokens = r.completion_tokens + excluded.completion_tokens,
    reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens,
    input_cost = r.input_cost + excluded.input_cost,
    cached_input_cost = r.cached_input_cost + excluded.cached_input_cost,
    output_cost = r.output_cost + excluded.output_cost;

-- name: delete_empty_cells
-- Of a tenant: those of no row.
DELETE FROM anzoth.usage_rollup WHERE tenant_id = $1 AND num_requests = 0;
