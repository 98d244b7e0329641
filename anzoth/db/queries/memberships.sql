-- Memberships: what users are in a tenant and in its projects.

-- name: lock_members
-- Until the end of the transaction: two changes must not both take a tenant's last owner.
SELECT pg_advisory_xact_lock(hashtext('anzoth.members'), hashtext($1::uuid::text));

-- name: insert_membership
-- No row when the user is a member already.
INSERT INTO anzoth.memberships (tenant_id, user_id, role) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING created_at;

-- name: set_role
UPDATE anzoth.memberships SET role = $3 WHERE tenant_id = $1 AND user_id = $2 RETURNING user_id;

-- name: delete_membership
-- Those in the tenant's projects go with it.
DELETE FROM anzoth.memberships WHERE tenant_id = $1 AND user_id = $2 RETURNING user_id;

-- name: count_owners
-- Those who could sign in, but for one.
SELECT count(*) FROM anzoth.memberships AS m JOIN anzoth.users AS u ON u.id = m.user_id
WHERE m.tenant_id = $1 AND m.role = 'owner' AND u.disabled_at IS NULL AND m.user_id <> $2;

-- name: find_member
SELECT u.id, u.email, u.name, m.role, m.created_at AS added_at, u.disabled_at, u.created_at
FROM anzoth.memberships AS m JOIN anzoth.users AS u ON u.id = m.user_id
WHERE m.tenant_id = $1 AND m.user_id = $2;

-- name: list_members
-- $2: emails, or NULL for all. After the member $3 in the order of joining, at most $4.
SELECT u.id, u.email, u.name, m.role, m.created_at AS added_at, u.disabled_at, u.created_at
FROM anzoth.memberships AS m JOIN anzoth.users AS u ON u.id = m.user_id
WHERE m.tenant_id = $1 AND ($2::text[] IS NULL OR u.email = ANY ($2))
    AND ($3::uuid IS NULL OR (m.created_at, m.user_id) > (
        SELECT a.created_at, a.user_id FROM anzoth.memberships AS a
        WHERE a.tenant_id = $1 AND a.user_id = $3
    ))
ORDER BY m.created_at, m.user_id
LIMIT $4;

-- name: find_tenant_of_user
-- Under app.user: a living tenant that the user belongs to or, as an operator, any.
SELECT t.id, t.name, m.role
FROM anzoth.tenants AS t
LEFT JOIN anzoth.memberships AS m ON m.tenant_id = t.id AND m.user_id = $1
WHERE t.id = $2 AND t.deleted_at IS NULL;

-- name: list_tenants_of_user
-- Under app.user: those the user belongs to, in the order of joining.
SELECT t.id, t.name, m.role
FROM anzoth.memberships AS m JOIN anzoth.tenants AS t ON t.id = m.tenant_id
WHERE m.user_id = $1 AND t.deleted_at IS NULL
ORDER BY m.created_at, t.id;

-- name: insert_project_members
-- Projects that are gone meanwhile are left out; who is there already keeps the role.
INSERT INTO anzoth.project_members (tenant_id, project_id, user_id, role)
SELECT p.tenant_id, p.id, $2, wanted.role
FROM unnest($3::uuid[], $4::text[]) AS wanted (project_id, role)
JOIN anzoth.projects AS p ON p.id = wanted.project_id
WHERE p.tenant_id = $1 AND p.archived_at IS NULL
ON CONFLICT DO NOTHING
RETURNING project_id;

-- name: set_project_role
UPDATE anzoth.project_members SET role = $4
WHERE tenant_id = $1 AND project_id = $2 AND user_id = $3
RETURNING user_id;

-- name: delete_project_member
DELETE FROM anzoth.project_members WHERE tenant_id = $1 AND project_id = $2 AND user_id = $3
RETURNING user_id;

-- name: list_project_members
-- $3: one user, or NULL for all. After the user $4 in the order of joining, at most $5.
SELECT u.id, u.email, u.name, m.role, m.created_at AS added_at, u.disabled_at, u.created_at
FROM anzoth.project_members AS m JOIN anzoth.users AS u ON u.id = m.user_id
WHERE m.tenant_id = $1 AND m.project_id = $2 AND ($3::uuid IS NULL OR m.user_id = $3)
    AND ($4::uuid IS NULL OR (m.created_at, m.user_id) > (
        SELECT a.created_at, a.user_id FROM anzoth.project_members AS a
        WHERE a.tenant_id = $1 AND a.project_id = $2 AND a.user_id = $4
    ))
ORDER BY m.created_at, m.user_id
LIMIT $5;

-- name: find_living_project
SELECT id, name, is_default, created_at, archived_at FROM anzoth.projects
WHERE tenant_id = $1 AND id = $2 AND archived_at IS NULL;
