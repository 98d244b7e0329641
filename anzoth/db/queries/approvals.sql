-- Approvals of tools' calls that were used.

-- name: use_approval
-- No row when it was used before. Waits for whoever is using it at this moment.
INSERT INTO anzoth.used_approvals (tenant_id, id) VALUES ($1, $2)
ON CONFLICT DO NOTHING
RETURNING id;

-- name: outdated_approvals
-- Reads what the policy shows under app.outdated_responses.
SELECT tenant_id, id FROM anzoth.used_approvals
WHERE used_at <= now() - make_interval(days => $2) ORDER BY used_at LIMIT $1;

-- name: forget_approvals
DELETE FROM anzoth.used_approvals WHERE tenant_id = $1 AND id = ANY ($2::text[]);
