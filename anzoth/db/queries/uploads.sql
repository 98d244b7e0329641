-- Uploads: files that come in parts.

-- name: insert_upload
INSERT INTO anzoth.uploads (tenant_id, id, file_id, bytes, file_expires_after_s, expires_at)
SELECT tenant_id, $3, id, $4, $5, expires_at FROM anzoth.files WHERE tenant_id = $1 AND id = $2;

-- name: find_upload
-- Its project is its file's.
SELECT u.id, u.file_id, u.bytes, u.file_expires_after_s, u.status, u.created_at, u.expires_at,
    u.expires_at <= now() AS is_expired, f.purpose, f.filename
FROM anzoth.uploads AS u
JOIN anzoth.files AS f ON f.tenant_id = u.tenant_id AND f.id = u.file_id
WHERE u.tenant_id = $1 AND f.project_id = $2 AND u.id = $3;

-- name: lock_upload
-- No row when it is not pending any more. Until the transaction ends nobody adds a part to it.
SELECT id FROM anzoth.uploads
WHERE tenant_id = $1 AND id = $2 AND status = 'pending' AND expires_at > now()
FOR UPDATE;

-- name: begin_upload_part
-- The number of a new part. No row when it takes no more.
UPDATE anzoth.uploads SET num_parts = num_parts + 1
WHERE tenant_id = $1 AND id = $2 AND status = 'pending' AND expires_at > now() AND num_parts < $3
RETURNING num_parts - 1;

-- name: insert_upload_part
INSERT INTO anzoth.upload_parts (tenant_id, id, upload_id, part, bytes)
VALUES ($1, $2, $3, $4, $5)
RETURNING created_at;

-- name: list_upload_parts
SELECT id, part, bytes FROM anzoth.upload_parts WHERE tenant_id = $1 AND upload_id = $2;

-- name: end_upload
UPDATE anzoth.uploads SET status = $3 WHERE tenant_id = $1 AND id = $2;
