-- Files in vector stores.

-- name: share_files
-- Which of these are files of the project; until the end of the transaction they stay so.
SELECT id FROM anzoth.files
WHERE tenant_id = $1 AND project_id = $2 AND id = ANY ($3::text[])
    AND received_at IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
ORDER BY id
FOR SHARE;

-- name: lock_files_of_tenant
-- Whoever adds one to a store waits.
SELECT count(*) FROM (
    SELECT id FROM anzoth.files
    WHERE tenant_id = $1 AND deleted_at IS NULL
    ORDER BY id
    FOR NO KEY UPDATE
) AS locked;

-- name: lock_store_files
-- Those that were taken out among them.
SELECT file_id AS id, created_at, status, error_code, error_message, attributes, chunking,
    usage_bytes, num_chunks, deleted_at IS NOT NULL AS is_taken_out
FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND file_id = ANY ($3::text[])
ORDER BY file_id
FOR NO KEY UPDATE;

-- name: count_store_files
SELECT count(*) FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND deleted_at IS NULL;

-- name: insert_store_files
-- They get numbers behind $3, in this order.
INSERT INTO anzoth.vector_store_files (
    tenant_id, store_id, file_id, number, batch_id, attributes, chunking
)
SELECT $1, $2, n.file_id, $3 + n.place, $4, n.attributes, n.chunking::jsonb
FROM unnest($5::text[], $6::bytea[], $7::text[])
    WITH ORDINALITY AS n (file_id, attributes, chunking, place);

-- name: left_over_of_store
-- Which of these may have chunks although they are not searched.
SELECT file_id FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND file_id = ANY ($3::text[])
    AND emptied_at IS NULL AND (deleted_at IS NOT NULL OR status IN ('cancelled', 'failed'));

-- name: delete_chunks_of_files
DELETE FROM anzoth.chunks WHERE tenant_id = $1 AND store_id = $2 AND file_id = ANY ($3::text[]);

-- name: restart_store_files
-- As if they had never been there, but for their numbers and what an index knows of them.
UPDATE anzoth.vector_store_files AS f
SET status = 'in_progress', batch_id = $3, error_code = NULL, error_message = NULL,
    attributes = n.attributes, chunking = n.chunking::jsonb,
    usage_bytes = 0, num_chunks = 0, num_tokens = 0, created_at = now(),
    attempts = 0, next_attempt_at = now(), claimed_by = NULL, deleted_at = NULL, emptied_at = NULL
FROM unnest($4::text[], $5::bytea[], $6::text[]) AS n (file_id, attributes, chunking)
WHERE f.tenant_id = $1 AND f.store_id = $2 AND f.file_id = n.file_id;

-- name: announce_waiting_files
-- When the transaction ends, gateways hear that files wait to be read.
SELECT pg_notify('anzoth_ingestion', '');

-- name: move_store_files
-- Those that are there belong to the batch that names them last.
UPDATE anzoth.vector_store_files SET batch_id = $3
WHERE tenant_id = $1 AND store_id = $2 AND file_id = ANY ($4::text[]);

-- name: set_file_attributes
-- $5: the change that it is; NULL: nobody searches the file yet.
UPDATE anzoth.vector_store_files SET attributes = $4, changed_seq = coalesce($5, changed_seq)
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3;

-- name: take_out_file
-- No row when it is not there.
UPDATE anzoth.vector_store_files
SET deleted_at = now(), attributes = NULL, claimed_by = NULL, changed_seq = $4
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND deleted_at IS NULL
RETURNING file_id;

-- name: find_store_file
SELECT file_id AS id, created_at, status, error_code, error_message, attributes, chunking,
    usage_bytes, num_chunks, false AS is_taken_out
FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND deleted_at IS NULL;

-- name: store_file_place
-- Where a list goes on after this file, which may have been taken out a moment ago.
SELECT created_at FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3;

-- name: list_store_files_up
SELECT file_id AS id, created_at, status, error_code, error_message, attributes, chunking,
    usage_bytes, num_chunks, false AS is_taken_out
FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND deleted_at IS NULL
    AND ($3::text IS NULL OR batch_id = $3)
    AND ($4::text IS NULL OR status = $4)
    AND ($5::timestamptz IS NULL OR (created_at, file_id) > ($5, $6::text))
    AND ($7::timestamptz IS NULL OR (created_at, file_id) < ($7, $8::text))
ORDER BY created_at, file_id
LIMIT $9;

-- name: list_store_files_down
SELECT file_id AS id, created_at, status, error_code, error_message, attributes, chunking,
    usage_bytes, num_chunks, false AS is_taken_out
FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND deleted_at IS NULL
    AND ($3::text IS NULL OR batch_id = $3)
    AND ($4::text IS NULL OR status = $4)
    AND ($5::timestamptz IS NULL OR (created_at, file_id) > ($5, $6::text))
    AND ($7::timestamptz IS NULL OR (created_at, file_id) < ($7, $8::text))
ORDER BY created_at DESC, file_id DESC
LIMIT $9;

-- name: chunks_of_file
-- The next ones of a file as it was added at $4, if it is still that.
SELECT c.number, c.position, c.content
FROM anzoth.chunks AS c
JOIN anzoth.vector_store_files AS f
    ON f.tenant_id = c.tenant_id AND f.store_id = c.store_id AND f.file_id = c.file_id
WHERE c.tenant_id = $1 AND c.store_id = $2 AND c.file_id = $3
    AND f.created_at = $4 AND f.status = 'completed' AND f.deleted_at IS NULL
    AND c.position > $5
ORDER BY c.position
LIMIT $6;

-- name: cancel_files_of_store
-- Whoever reads one finds that it is not wanted any more.
UPDATE anzoth.vector_store_files SET status = 'cancelled', claimed_by = NULL
WHERE tenant_id = $1 AND store_id = $2 AND status = 'in_progress' AND deleted_at IS NULL;

-- name: left_over_files
-- Reads what the policies show under app.outdated_stores.
SELECT tenant_id, store_id, file_id FROM anzoth.vector_store_files
WHERE emptied_at IS NULL AND (deleted_at IS NOT NULL OR status IN ('cancelled', 'failed'))
LIMIT $1;

-- name: lock_left_over_file
-- No row when it is wanted again.
SELECT file_id FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3
    AND emptied_at IS NULL AND (deleted_at IS NOT NULL OR status IN ('cancelled', 'failed'))
FOR NO KEY UPDATE;

-- name: delete_chunks_of_file
-- Some of them.
DELETE FROM anzoth.chunks
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND position IN (
    SELECT position FROM anzoth.chunks
    WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3
    ORDER BY position
    LIMIT $4
);

-- name: file_is_emptied
UPDATE anzoth.vector_store_files SET emptied_at = now()
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3;
