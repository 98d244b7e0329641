-- Limits of tenants, projects and keys.

-- name: limits_of_named_key
-- Reads what the policies show under app.kid: those of the key, its project and its tenant.
SELECT project_id, key_id, model, rpm, tpm, input_tpm, output_tpm, concurrency, tokens_per_day,
    budget_per_day, budget_per_month
FROM anzoth.limits;

-- name: list_limits
-- $1: a tenant. Its own first, then those of its projects, then those of its keys.
SELECT l.project_id, l.key_id, p.name AS project, k.name AS key, l.model, l.rpm, l.tpm, l.input_tpm,
    l.output_tpm, l.concurrency, l.tokens_per_day, l.budget_per_day, l.budget_per_month
FROM anzoth.limits AS l
LEFT JOIN anzoth.projects AS p ON p.id = l.project_id
LEFT JOIN anzoth.api_keys AS k ON k.id = l.key_id
WHERE l.tenant_id = $1
ORDER BY l.key_id IS NOT NULL, l.project_id IS NOT NULL, p.name, k.name, l.key_id, l.model NULLS FIRST;

-- name: find_limits
-- Of one tenant, project or key: all, whatever the model.
SELECT project_id, key_id, model, rpm, tpm, input_tpm, output_tpm, concurrency, tokens_per_day,
    budget_per_day, budget_per_month
FROM anzoth.limits
WHERE tenant_id = $1 AND project_id IS NOT DISTINCT FROM $2 AND key_id IS NOT DISTINCT FROM $3;

-- name: limits_of_keys
-- Of some keys ($2) of a tenant: all, whatever the model.
SELECT project_id, key_id, model, rpm, tpm, input_tpm, output_tpm, concurrency, tokens_per_day,
    budget_per_day, budget_per_month
FROM anzoth.limits
WHERE tenant_id = $1 AND key_id = ANY ($2);

-- name: delete_limits
DELETE FROM anzoth.limits
WHERE tenant_id = $1 AND project_id IS NOT DISTINCT FROM $2 AND key_id IS NOT DISTINCT FROM $3
    AND model IS NOT DISTINCT FROM $4;

-- name: insert_limits
INSERT INTO anzoth.limits (
    tenant_id, project_id, key_id, model, rpm, tpm, input_tpm, output_tpm, concurrency,
    tokens_per_day, budget_per_day, budget_per_month
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: read_used
-- Of one tenant, project ($2) or key ($3), by one model ($4) or all: of requests that began within
-- [$5, $7), where $5 and $6 are midnights (UTC). What was before $6 is read from the sums of its days.
SELECT coalesce(sum(prompt_tokens + completion_tokens), 0)::bigint AS tokens,
    coalesce(sum(input_cost + cached_input_cost + output_cost), 0)::bigint AS cost
FROM (
    SELECT prompt_tokens, completion_tokens, input_cost, cached_input_cost, output_cost
    FROM anzoth.usage
    WHERE tenant_id = $1 AND ($2::uuid IS NULL OR project_id = $2)
        AND ($3::uuid IS NULL OR key_id = $3) AND ($4::text IS NULL OR model = $4)
        AND started_at >= greatest($5::timestamptz, $6::timestamptz) AND started_at < $7
    UNION ALL
    SELECT prompt_tokens, completion_tokens, input_cost, cached_input_cost, output_cost
    FROM anzoth.usage_rollup
    WHERE tenant_id = $1 AND width = '1d' AND ($2 IS NULL OR project_id = $2)
        AND ($3 IS NULL OR key_id = $3) AND ($4 IS NULL OR model = $4)
        AND bucket_start >= $5 AND bucket_start < $6
) AS used;
