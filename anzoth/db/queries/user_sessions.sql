-- Sessions, and the secrets that are worth something once.

-- name: insert_session
INSERT INTO anzoth.sessions (
    id, user_id, digest, tenant_id, awaits_second_factor, method, peer, user_agent, created_at,
    last_seen_at, expires_at
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9, $10);

-- name: find_session
-- Reads what the policies show under app.secret.
SELECT id, user_id, tenant_id, awaits_second_factor, method, peer, user_agent, created_at,
    last_seen_at, expires_at
FROM anzoth.sessions WHERE digest = $1;

-- name: touch_session
UPDATE anzoth.sessions SET last_seen_at = $2 WHERE id = $1;

-- name: choose_tenant
UPDATE anzoth.sessions SET tenant_id = $2 WHERE id = $1;

-- name: rotate_session
-- No row when the secret was rotated or the session ended meanwhile.
UPDATE anzoth.sessions SET digest = $3 WHERE id = $1 AND digest = $2 RETURNING id;

-- name: list_sessions
SELECT id, user_id, tenant_id, awaits_second_factor, method, peer, user_agent, created_at,
    last_seen_at, expires_at
FROM anzoth.sessions
WHERE user_id = $1 AND NOT awaits_second_factor AND expires_at > $2
ORDER BY created_at DESC, id;

-- name: delete_session
DELETE FROM anzoth.sessions WHERE user_id = $1 AND id = $2 RETURNING id;

-- name: delete_sessions
-- All of a user, but for $2 where it is given.
DELETE FROM anzoth.sessions WHERE user_id = $1 AND ($2::uuid IS NULL OR id <> $2) RETURNING id;

-- name: delete_ended_sessions
-- Of one user: what nobody can use any more. $2: now; $3: seen before that is idle for too long.
DELETE FROM anzoth.sessions WHERE user_id = $1 AND (expires_at <= $2 OR last_seen_at <= $3);

-- name: insert_one_time_token
INSERT INTO anzoth.one_time_tokens (digest, purpose, user_id, expires_at) VALUES ($1, $2, $3, $4);

-- name: delete_one_time_tokens
-- A fresh one replaces those before it. $2: whose, or NULL for those of nobody yet.
DELETE FROM anzoth.one_time_tokens WHERE purpose = $1 AND user_id IS NOT DISTINCT FROM $2;

-- name: find_one_time_token
-- Reads what the policies show under app.secret. Locked: the second of two users waits, and sees
-- that it was used.
SELECT user_id FROM anzoth.one_time_tokens
WHERE digest = $1 AND purpose = $2 AND used_at IS NULL AND expires_at > now()
FOR UPDATE;

-- name: use_one_time_token
UPDATE anzoth.one_time_tokens SET used_at = now() WHERE digest = $1 AND used_at IS NULL;
