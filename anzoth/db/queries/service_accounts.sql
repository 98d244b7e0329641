-- Service accounts of a project. Deleted ones are there for the keys and the usage that name them.

-- name: insert_service_account
INSERT INTO anzoth.service_accounts (id, tenant_id, project_id, name) VALUES ($1, $2, $3, $4)
RETURNING id, tenant_id, project_id, name, created_at;

-- name: page_of_service_accounts
-- Of a tenant ($1) and one of its projects ($2; NULL: each), or one alone ($3). After the account $4 in
-- the order in which they were made, at most $5.
SELECT id, tenant_id, project_id, name, created_at FROM anzoth.service_accounts
WHERE tenant_id = $1 AND ($2::uuid IS NULL OR project_id = $2) AND deleted_at IS NULL
    AND ($3::uuid IS NULL OR id = $3)
    AND ($4::uuid IS NULL OR (created_at, id) > (
        SELECT b.created_at, b.id FROM anzoth.service_accounts AS b
        WHERE b.tenant_id = $1 AND b.id = $4
    ))
ORDER BY created_at, id
LIMIT $5;

-- name: rename_service_account
UPDATE anzoth.service_accounts SET name = $2 WHERE id = $1 AND deleted_at IS NULL
RETURNING id, tenant_id, project_id, name, created_at;

-- name: delete_service_account
-- No row when it is deleted already, or was never there.
UPDATE anzoth.service_accounts SET deleted_at = now() WHERE id = $1 AND deleted_at IS NULL
RETURNING id, tenant_id, project_id, name, created_at;
