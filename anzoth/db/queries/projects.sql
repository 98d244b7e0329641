-- Projects of a tenant.

-- name: insert_project
-- No row when a living project has this name.
INSERT INTO anzoth.projects (id, tenant_id, name, is_default) VALUES ($1, $2, $3, $4)
ON CONFLICT (tenant_id, name) WHERE archived_at IS NULL DO NOTHING
RETURNING id, name, is_default, created_at, archived_at;

-- name: names_of_projects
SELECT id, name FROM anzoth.projects WHERE id = ANY ($1);

-- name: find_project
-- $2: a living project's name, or NULL for the default one.
SELECT id, name, is_default, created_at, archived_at FROM anzoth.projects
WHERE tenant_id = $1 AND archived_at IS NULL
    AND CASE WHEN $2::text IS NULL THEN is_default ELSE name = $2 END;

-- name: list_projects
-- $1: a tenant. Archived ones last.
SELECT id, name, is_default, created_at, archived_at FROM anzoth.projects
WHERE tenant_id = $1
ORDER BY archived_at IS NOT NULL, created_at, name;

-- name: page_of_projects
-- $1: a tenant. $2: archived ones too; $3: one alone. After the project $4 in the order in which they
-- were made, at most $5.
SELECT id, name, is_default, created_at, archived_at FROM anzoth.projects
WHERE tenant_id = $1 AND ($2 OR archived_at IS NULL) AND ($3::uuid IS NULL OR id = $3)
    AND ($4::uuid IS NULL OR (created_at, id) > (
        SELECT b.created_at, b.id FROM anzoth.projects AS b WHERE b.tenant_id = $1 AND b.id = $4
    ))
ORDER BY created_at, id
LIMIT $5;

-- name: rename_project
-- No row when the tenant has no such living project.
UPDATE anzoth.projects SET name = $2 WHERE id = $1 AND archived_at IS NULL
RETURNING id, name, is_default, created_at, archived_at;

-- name: archive_project
-- No row when it is archived already, or the default one, which a tenant always has.
UPDATE anzoth.projects SET archived_at = now()
WHERE id = $1 AND archived_at IS NULL AND NOT is_default
RETURNING id, name, is_default, created_at, archived_at;

-- name: is_living_project
SELECT EXISTS (SELECT FROM anzoth.projects WHERE id = $1 AND archived_at IS NULL);
