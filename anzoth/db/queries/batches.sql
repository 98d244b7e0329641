-- Batches. What callers see of them comes first, then what is done for them. A claim is one gateway's
-- until next_attempt_at.

-- name: insert_batch
-- No row when the tenant has no key: it was deleted.
INSERT INTO anzoth.batches (
    tenant_id, id, project_id, key_id, made_from, endpoint, input_file_id, metadata,
    file_expires_after_s, expires_at
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8::bytea, $9, now() + make_interval(secs => $10)
FROM anzoth.tenant_keys WHERE tenant_id = $1
RETURNING *;

-- name: announce_batches
-- That there is something to do. Sent with the commit.
SELECT pg_notify('anzoth_batches', '');

-- name: count_unfinished_batches
SELECT count(*) FROM anzoth.batches WHERE tenant_id = $1 AND ended_at IS NULL;

-- name: find_batch
SELECT * FROM anzoth.batches WHERE tenant_id = $1 AND project_id = $2 AND id = $3;

-- name: list_batches
-- The newest first, behind the one that was made at $3 with the id $4. NULL: from the newest.
SELECT * FROM anzoth.batches
WHERE tenant_id = $1 AND project_id = $2
    AND ($3::timestamptz IS NULL OR (created_at, id) < ($3, $4))
ORDER BY created_at DESC, id DESC
LIMIT $5;

-- name: cancel_batch
-- No row when there is no such batch, or it is too late.
UPDATE anzoth.batches SET status = 'cancelling', cancelling_at = now()
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND status IN ('validating', 'in_progress')
RETURNING *;

-- name: next_tenant_of_batch
-- Reads what the policy shows under app.batches: the next tenant in turn for which there is something
-- to do.
SELECT tenant_id FROM anzoth.batches
WHERE closed_at IS NULL AND next_attempt_at <= now() AND tenant_id > $1
ORDER BY tenant_id
LIMIT 1;

-- name: claim_batch
-- The tenant's batch that has waited for longest, but for those ($4) that are still worked on.
WITH waiting AS (
    SELECT b.id, t.name, t.deleted_at IS NOT NULL AS is_tenant_deleted
    FROM anzoth.batches AS b
    JOIN anzoth.tenants AS t ON t.id = b.tenant_id
    WHERE b.tenant_id = $1 AND b.closed_at IS NULL AND b.next_attempt_at <= now()
        AND b.id <> ALL ($4::text[])
    ORDER BY b.next_attempt_at
    LIMIT 1
    FOR NO KEY UPDATE OF b SKIP LOCKED
)
UPDATE anzoth.batches AS b
SET claimed_by = $2, next_attempt_at = now() + make_interval(secs => $3)
FROM waiting
WHERE b.tenant_id = $1 AND b.id = waiting.id
RETURNING b.tenant_id, waiting.name AS tenant_name, waiting.is_tenant_deleted, b.id, b.project_id,
    b.key_id, b.made_from, b.endpoint, b.input_file_id, b.file_expires_after_s, b.status,
    b.output_file_id, b.error_file_id, b.claimed_by AS gateway, b.attempts,
    extract(epoch FROM b.expires_at - now())::float8 AS left_s;

-- name: tenants_of_claimed_batches
-- Of a gateway that has been started again, under app.batches.
SELECT DISTINCT tenant_id FROM anzoth.batches
WHERE closed_at IS NULL AND claimed_by = $1 AND next_attempt_at > now();

-- name: drop_claimed_batches
-- All of a gateway's but those that it works on.
UPDATE anzoth.batches SET claimed_by = NULL, next_attempt_at = now()
WHERE tenant_id = $1 AND claimed_by = $2 AND closed_at IS NULL AND next_attempt_at > now()
    AND id <> ALL ($3::text[]);

-- name: hold_batch
-- From now on for so many seconds. No row: the claim is lost.
UPDATE anzoth.batches SET next_attempt_at = now() + make_interval(secs => $4)
WHERE tenant_id = $1 AND id = $2 AND claimed_by = $3 AND closed_at IS NULL
RETURNING status;

-- name: let_go_of_batch
-- It may be claimed again in so many seconds.
UPDATE anzoth.batches
SET claimed_by = NULL, next_attempt_at = now() + make_interval(secs => $4), attempts = attempts + $5
WHERE tenant_id = $1 AND id = $2 AND claimed_by = $3 AND closed_at IS NULL;

-- name: start_batch
-- Its input is as it should be. No row: it was cancelled meanwhile.
UPDATE anzoth.batches
SET num_requests = $3,
    status = CASE status WHEN 'validating' THEN 'in_progress' ELSE status END,
    in_progress_at = CASE status WHEN 'validating' THEN now() ELSE in_progress_at END
WHERE tenant_id = $1 AND id = $2
RETURNING status;

-- name: finalize_batch
-- Nothing more is asked.
UPDATE anzoth.batches
SET status = 'finalizing', finalizing_at = now(), ends_as = $3, errors = coalesce($4::jsonb, errors)
WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL;

-- name: end_batch
UPDATE anzoth.batches
SET status = coalesce($3, ends_as), errors = coalesce($4::jsonb, errors), ended_at = now()
WHERE tenant_id = $1 AND id = $2 AND ended_at IS NULL;

-- name: insert_batch_answers
-- An answer that is there stays, and only those that come now are counted.
WITH given AS (
    SELECT * FROM unnest(
        $3::integer[], $4::boolean[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[],
        $9::bigint[]
    ) AS g (line, is_error, content, input, cached, output, reasoning)
), added AS (
    INSERT INTO anzoth.batch_answers (tenant_id, batch_id, line, is_error, content)
    SELECT $1, $2, line, is_error, content FROM given
    ON CONFLICT DO NOTHING
    RETURNING line
), sums AS (
    SELECT count(*) FILTER (WHERE NOT is_error) AS num_completed,
        count(*) FILTER (WHERE is_error) AS num_failed, coalesce(sum(input), 0) AS input,
        coalesce(sum(cached), 0) AS cached, coalesce(sum(output), 0) AS output,
        coalesce(sum(reasoning), 0) AS reasoning
    FROM given JOIN added USING (line)
)
UPDATE anzoth.batches AS b
SET num_completed = b.num_completed + sums.num_completed,
    num_failed = b.num_failed + sums.num_failed, input_tokens = b.input_tokens + sums.input,
    cached_tokens = b.cached_tokens + sums.cached, output_tokens = b.output_tokens + sums.output,
    reasoning_tokens = b.reasoning_tokens + sums.reasoning
FROM sums
WHERE b.tenant_id = $1 AND b.id = $2;

-- name: answered_lines
SELECT line FROM anzoth.batch_answers WHERE tenant_id = $1 AND batch_id = $2;

-- name: batch_answers_behind
-- Of one kind ($3), behind the line $4: the next ones, about as many as hold so many bytes together.
SELECT line, content FROM (
    SELECT line, content,
        sum(octet_length(content)) OVER (ORDER BY line) - octet_length(content) AS before
    FROM (
        SELECT line, content FROM anzoth.batch_answers
        WHERE tenant_id = $1 AND batch_id = $2 AND is_error = $3 AND line > $4
        ORDER BY line
        LIMIT 256
    ) AS next
) AS counted
WHERE before < $5
ORDER BY line;

-- name: set_batch_file
-- Its error file ($3), or its output file.
UPDATE anzoth.batches
SET error_file_id = CASE WHEN $3 THEN $4 ELSE error_file_id END,
    output_file_id = CASE WHEN $3 THEN output_file_id ELSE $4 END
WHERE tenant_id = $1 AND id = $2;

-- name: delete_batch_answers
DELETE FROM anzoth.batch_answers WHERE tenant_id = $1 AND batch_id = $2 AND line IN (
    SELECT line FROM anzoth.batch_answers WHERE tenant_id = $1 AND batch_id = $2 LIMIT $3
);

-- name: close_batch
-- There is nothing left to do. Of a deleted tenant nothing sealed is kept.
UPDATE anzoth.batches
SET closed_at = now(), claimed_by = NULL, ended_at = coalesce(ended_at, now()),
    status = CASE WHEN ended_at IS NULL THEN 'cancelled' ELSE status END,
    metadata = CASE WHEN $3 THEN NULL ELSE metadata END
WHERE tenant_id = $1 AND id = $2;
