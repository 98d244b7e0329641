-- Files and their encrypted pieces. A file belongs to a project; nobody outside sees it.

-- name: insert_file
-- Seen by nobody until it is received. No row when the tenant has no key: it was deleted.
INSERT INTO anzoth.files (tenant_id, id, project_id, purpose, filename, expires_at)
SELECT $1, $2, $3, $4, $5, now() + make_interval(secs => $6)
FROM anzoth.tenant_keys WHERE tenant_id = $1
RETURNING created_at, expires_at;

-- name: file_sums
SELECT num_bytes, num_files FROM anzoth.file_sums WHERE tenant_id = $1;

-- name: insert_piece
-- No row when the file does not come in any more.
WITH grown AS (
    UPDATE anzoth.files SET bytes = bytes + $6
    WHERE tenant_id = $1 AND id = $2 AND received_at IS NULL AND deleted_at IS NULL
        AND expires_at > now()
    RETURNING tenant_id, id
)
INSERT INTO anzoth.file_parts (tenant_id, file_id, part, piece, content)
SELECT tenant_id, id, $3, $4, $5 FROM grown
RETURNING piece;

-- name: drop_part
-- Of a file that still comes in: a part that will not be whole.
DELETE FROM anzoth.file_parts WHERE tenant_id = $1 AND file_id = $2 AND part = $3;

-- name: shrink_file
UPDATE anzoth.files SET bytes = bytes - $3
WHERE tenant_id = $1 AND id = $2 AND received_at IS NULL AND deleted_at IS NULL;

-- name: drop_other_parts
-- Parts that are not among those that the file is made of.
DELETE FROM anzoth.file_parts WHERE tenant_id = $1 AND file_id = $2 AND part <> ALL ($3::integer[]);

-- name: receive_file
-- From now on it is a file. No row when it does not come in any more, or the tenant was deleted.
UPDATE anzoth.files
SET purpose = $3, filename = $4, layout = $5, bytes = $6, created_at = now(), received_at = now(),
    expires_at = now() + make_interval(secs => $7)
WHERE tenant_id = $1 AND id = $2 AND received_at IS NULL AND deleted_at IS NULL
    AND expires_at > now()
    AND EXISTS (SELECT FROM anzoth.tenant_keys WHERE tenant_id = $1)
RETURNING id, purpose, filename, layout, bytes, created_at, expires_at;

-- name: find_file
SELECT id, purpose, filename, layout, bytes, created_at, expires_at
FROM anzoth.files
WHERE tenant_id = $1 AND project_id = $2 AND id = $3
    AND received_at IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now());

-- name: file_place
-- Where a list goes on after this file, which may have been deleted a moment ago.
SELECT created_at FROM anzoth.files
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND received_at IS NOT NULL;

-- name: list_files_up
SELECT id, purpose, filename, layout, bytes, created_at, expires_at
FROM anzoth.files
WHERE tenant_id = $1 AND project_id = $2
    AND received_at IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    AND ($3::text IS NULL OR purpose = $3)
    AND ($4::timestamptz IS NULL OR (created_at, id) > ($4, $5::text))
ORDER BY created_at, id
LIMIT $6;

-- name: list_files_down
SELECT id, purpose, filename, layout, bytes, created_at, expires_at
FROM anzoth.files
WHERE tenant_id = $1 AND project_id = $2
    AND received_at IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
    AND ($3::text IS NULL OR purpose = $3)
    AND ($4::timestamptz IS NULL OR (created_at, id) < ($4, $5::text))
ORDER BY created_at DESC, id DESC
LIMIT $6;

-- name: find_piece
SELECT content FROM anzoth.file_parts
WHERE tenant_id = $1 AND file_id = $2 AND part = $3 AND piece = $4;

-- name: delete_file
-- No row when there is no such file. Its pieces are deleted soon (see gateway.file_cleanup).
UPDATE anzoth.files SET deleted_at = now(), filename = NULL, layout = NULL
WHERE tenant_id = $1 AND project_id = $2 AND id = $3
    AND received_at IS NOT NULL AND deleted_at IS NULL AND (expires_at IS NULL OR expires_at > now())
RETURNING id;

-- name: give_up_file
-- It will not come in.
UPDATE anzoth.files SET deleted_at = now(), filename = NULL, layout = NULL
WHERE tenant_id = $1 AND id = $2 AND received_at IS NULL AND deleted_at IS NULL;

-- name: delete_files_of_tenant
UPDATE anzoth.files SET deleted_at = now(), filename = NULL, layout = NULL
WHERE tenant_id = $1 AND deleted_at IS NULL;

-- name: outdated_files
-- Reads what the policies show under app.outdated_files: what is to be marked, emptied or forgotten.
SELECT tenant_id, id, bytes, project_id, deleted_at IS NOT NULL AS is_deleted,
    received_at IS NOT NULL AS was_received
FROM anzoth.files
WHERE (deleted_at IS NULL AND expires_at <= now())
    OR (deleted_at IS NOT NULL AND bytes > 0)
    OR deleted_at < now() - make_interval(secs => $1)
ORDER BY deleted_at NULLS FIRST
LIMIT $2;

-- name: expire_file
-- No row when another gateway was faster.
UPDATE anzoth.files SET deleted_at = now(), filename = NULL, layout = NULL
WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL AND expires_at <= now()
RETURNING id;

-- name: delete_pieces
-- Some of them.
DELETE FROM anzoth.file_parts
WHERE tenant_id = $1 AND file_id = $2 AND (part, piece) IN (
    SELECT part, piece FROM anzoth.file_parts
    WHERE tenant_id = $1 AND file_id = $2
    ORDER BY part, piece
    LIMIT $3
);

-- name: file_is_empty
UPDATE anzoth.files SET bytes = 0
WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NOT NULL AND bytes > 0
    AND NOT EXISTS (SELECT FROM anzoth.file_parts WHERE tenant_id = $1 AND file_id = $2)
RETURNING id;

-- name: forget_file
-- Its row, which lists may have been going on after.
DELETE FROM anzoth.files
WHERE tenant_id = $1 AND id = $2 AND bytes = 0 AND deleted_at < now() - make_interval(secs => $3)
RETURNING id;
