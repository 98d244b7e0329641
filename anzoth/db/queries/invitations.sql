-- Invitations into a tenant.

-- name: insert_invitation
INSERT INTO anzoth.invitations (id, tenant_id, email, role, projects, digest, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7)
RETURNING id, tenant_id, email, role, projects, created_at, expires_at, accepted_at;

-- name: find_invitation
SELECT id, tenant_id, email, role, projects, created_at, expires_at, accepted_at
FROM anzoth.invitations WHERE tenant_id = $1 AND id = $2;

-- name: find_invitation_by_secret
-- Reads what the policies show under app.secret.
SELECT id, tenant_id, email, role, projects, created_at, expires_at, accepted_at
FROM anzoth.invitations WHERE digest = $1;

-- name: find_invitations_for
-- Those that a person with this email could accept now.
SELECT id, tenant_id, email, role, projects, created_at, expires_at, accepted_at
FROM anzoth.invitations
WHERE tenant_id = $1 AND email = $2 AND accepted_at IS NULL AND expires_at > now();

-- name: accept_invitation
-- No row when it was accepted or ran out meanwhile.
UPDATE anzoth.invitations SET accepted_at = now()
WHERE tenant_id = $1 AND id = $2 AND accepted_at IS NULL AND expires_at > now()
RETURNING id;

-- name: delete_invitation
DELETE FROM anzoth.invitations WHERE tenant_id = $1 AND id = $2 RETURNING id;

-- name: list_invitations
-- After the invitation $2 in the order of making, at most $3.
SELECT id, tenant_id, email, role, projects, created_at, expires_at, accepted_at
FROM anzoth.invitations
WHERE tenant_id = $1
    AND ($2::uuid IS NULL OR (created_at, id) > (
        SELECT a.created_at, a.id FROM anzoth.invitations AS a WHERE a.tenant_id = $1 AND a.id = $2
    ))
ORDER BY created_at, id
LIMIT $3;
