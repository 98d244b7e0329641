-- How files get into vector stores. A claim is one gateway's until next_attempt_at; it is named by the
-- file, the gateway and the time at which the file was added: a file that was taken out and added
-- again meanwhile is another.

-- name: next_waiting_tenant
-- Reads what the policy shows under app.ingestion: the next tenant in turn that has a file to read.
SELECT tenant_id FROM anzoth.vector_store_files
WHERE status = 'in_progress' AND deleted_at IS NULL AND next_attempt_at <= now() AND tenant_id > $1
ORDER BY tenant_id
LIMIT 1;

-- name: has_waiting_file_of_others
SELECT EXISTS (
    SELECT FROM anzoth.vector_store_files
    WHERE status = 'in_progress' AND deleted_at IS NULL AND next_attempt_at <= now()
        AND tenant_id <> $1
);

-- name: count_waiting_files
-- Of all tenants, under app.ingestion; those that are being read among them.
SELECT count(*) FROM anzoth.vector_store_files WHERE status = 'in_progress' AND deleted_at IS NULL;

-- name: claim_waiting_file
-- The tenant's file that has waited for longest, if one of these models makes its vectors.
WITH waiting AS (
    SELECT f.store_id, f.file_id, s.project_id, s.model, s.dimensions, s.vector_space, t.name
    FROM anzoth.vector_store_files AS f
    JOIN anzoth.vector_stores AS s ON s.tenant_id = f.tenant_id AND s.id = f.store_id
    JOIN anzoth.tenants AS t ON t.id = f.tenant_id
    WHERE f.tenant_id = $1 AND f.status = 'in_progress' AND f.deleted_at IS NULL
        AND f.next_attempt_at <= now()
        AND s.model = ANY ($4::text[]) AND s.deleted_at IS NULL
        AND (s.expires_at IS NULL OR s.expires_at > now()) AND t.deleted_at IS NULL
    ORDER BY f.next_attempt_at
    LIMIT 1
    FOR NO KEY UPDATE OF f SKIP LOCKED
)
UPDATE anzoth.vector_store_files AS f
SET claimed_by = $2, next_attempt_at = now() + make_interval(secs => $3)
FROM waiting
WHERE f.tenant_id = $1 AND f.store_id = waiting.store_id AND f.file_id = waiting.file_id
RETURNING f.tenant_id, waiting.name AS tenant_name, waiting.project_id, f.store_id, f.file_id,
    f.claimed_by AS gateway, f.created_at AS added_at, f.attempts, f.chunking, waiting.model,
    waiting.dimensions, waiting.vector_space;

-- name: tenants_of_claims
-- Of a gateway that has been started again, under app.ingestion.
SELECT DISTINCT tenant_id FROM anzoth.vector_store_files
WHERE status = 'in_progress' AND deleted_at IS NULL AND claimed_by = $1 AND next_attempt_at > now();

-- name: drop_claims
-- All of a gateway's but those of the files (store and file) that it is reading.
UPDATE anzoth.vector_store_files SET claimed_by = NULL, next_attempt_at = now()
WHERE tenant_id = $1 AND claimed_by = $2 AND status = 'in_progress' AND deleted_at IS NULL
    AND next_attempt_at > now() AND (store_id, file_id) NOT IN (
        SELECT * FROM unnest($3::text[], $4::text[])
    );

-- name: hold_claim
-- From now on for so many seconds, with so many more tokens that were embedded. No row: it is lost.
UPDATE anzoth.vector_store_files
SET next_attempt_at = now() + make_interval(secs => $6), num_tokens = num_tokens + $7
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND claimed_by = $4 AND created_at = $5
    AND status = 'in_progress' AND deleted_at IS NULL
RETURNING file_id;

-- name: let_go_of_claim
-- It may be claimed again in so many seconds. No row: it was lost.
UPDATE anzoth.vector_store_files
SET claimed_by = NULL, next_attempt_at = now() + make_interval(secs => $6), attempts = attempts + $7
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND claimed_by = $4 AND created_at = $5
    AND status = 'in_progress' AND deleted_at IS NULL
RETURNING file_id;

-- name: fail_claimed_file
-- No row: the claim was lost.
UPDATE anzoth.vector_store_files
SET status = 'failed', error_code = $6, error_message = $7, claimed_by = NULL
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND claimed_by = $4 AND created_at = $5
    AND status = 'in_progress' AND deleted_at IS NULL
RETURNING file_id;

-- name: complete_claimed_file
-- From now on its chunks are searched. No row: the claim was lost, and the change must be undone.
WITH change AS (
    UPDATE anzoth.vector_stores SET head = head + 1
    WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
    RETURNING head
)
UPDATE anzoth.vector_store_files AS f
SET status = 'completed', changed_seq = change.head, num_chunks = $6, usage_bytes = $7,
    error_code = NULL, error_message = NULL, claimed_by = NULL
FROM change
WHERE f.tenant_id = $1 AND f.store_id = $2 AND f.file_id = $3 AND f.claimed_by = $4
    AND f.created_at = $5 AND f.status = 'in_progress' AND f.deleted_at IS NULL
RETURNING f.file_id;

-- name: chunks_between
-- Those of a file at the positions from $4 up to, and without, $5.
SELECT number, position, digest, content FROM anzoth.chunks
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND position >= $4 AND position < $5
ORDER BY position;

-- name: known_vectors
-- For each of these digests one vector, if the same model made one for any store of the tenant.
SELECT wanted.digest, found.store_id, found.number, found.vector
FROM unnest($2::bytea[]) AS wanted (digest)
CROSS JOIN LATERAL (
    SELECT c.store_id, c.number, c.vector
    FROM anzoth.chunks AS c
    JOIN anzoth.vector_stores AS s ON s.tenant_id = c.tenant_id AND s.id = c.store_id
    WHERE c.tenant_id = $1 AND c.digest = wanted.digest AND s.model = $3 AND s.dimensions = $4
        AND s.vector_space IS NOT DISTINCT FROM $5
    LIMIT 1
) AS found;

-- name: take_chunk_numbers
-- The last of so many numbers that no chunk of the store has had. No row: there is no such store.
UPDATE anzoth.vector_stores SET last_chunk = last_chunk + $3
WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
RETURNING last_chunk;

-- name: insert_chunks
INSERT INTO anzoth.chunks (tenant_id, store_id, file_id, number, position, digest, content, vector)
SELECT $1, $2, $3, *
FROM unnest($4::bigint[], $5::integer[], $6::bytea[], $7::bytea[], $8::bytea[]);

-- name: delete_chunks
DELETE FROM anzoth.chunks WHERE tenant_id = $1 AND store_id = $2 AND number = ANY ($3::bigint[]);

-- name: delete_chunks_from
-- Some of a file's chunks at this position and behind it.
DELETE FROM anzoth.chunks
WHERE tenant_id = $1 AND store_id = $2 AND number IN (
    SELECT number FROM anzoth.chunks
    WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND position >= $4
    LIMIT $5
);

-- name: sum_chunks
SELECT count(*) AS num_chunks,
    coalesce(sum(octet_length(content) + octet_length(vector)), 0)::bigint AS num_bytes
FROM anzoth.chunks WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3;
