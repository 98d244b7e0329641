-- Files that were added to a vector store together.

-- name: insert_file_batch
INSERT INTO anzoth.file_batches (tenant_id, store_id, id) VALUES ($1, $2, $3);

-- name: find_file_batch
SELECT b.id, b.created_at, b.cancelled_at IS NOT NULL AS is_cancelled,
    count(*) FILTER (WHERE f.status = 'in_progress') AS in_progress,
    count(*) FILTER (WHERE f.status = 'completed') AS completed,
    count(*) FILTER (WHERE f.status = 'failed') AS failed,
    count(*) FILTER (WHERE f.status = 'cancelled') AS cancelled
FROM anzoth.file_batches AS b
LEFT JOIN anzoth.vector_store_files AS f
    ON f.tenant_id = b.tenant_id AND f.store_id = b.store_id AND f.batch_id = b.id
        AND f.deleted_at IS NULL
WHERE b.tenant_id = $1 AND b.store_id = $2 AND b.id = $3
GROUP BY b.tenant_id, b.store_id, b.id;

-- name: cancel_files_of_batch
UPDATE anzoth.vector_store_files SET status = 'cancelled', claimed_by = NULL
WHERE tenant_id = $1 AND store_id = $2 AND batch_id = $3
    AND status = 'in_progress' AND deleted_at IS NULL
RETURNING file_id;

-- name: cancel_file_batch
UPDATE anzoth.file_batches SET cancelled_at = now()
WHERE tenant_id = $1 AND store_id = $2 AND id = $3 AND cancelled_at IS NULL;
