-- Users: people, whatever tenants they belong to.

-- name: find_user_id
-- Reads what the policies show under app.email.
SELECT id FROM anzoth.users WHERE email = $1;

-- name: find_user
SELECT u.id, u.email, u.name, u.password_hash, u.created_at, u.email_verified_at, u.last_sign_in_at,
    u.disabled_at, u.totp_secret, u.totp_confirmed_at, u.totp_last_step,
    EXISTS (SELECT FROM anzoth.operators AS o WHERE o.user_id = u.id) AS is_operator
FROM anzoth.users AS u
WHERE u.id = $1;

-- name: insert_user
-- No row when the email is taken.
INSERT INTO anzoth.users (id, email, name, password_hash, email_verified_at)
VALUES ($1, $2, $3, $4, CASE WHEN $5 THEN now() END)
ON CONFLICT (email) DO NOTHING
RETURNING id;

-- name: insert_operator
INSERT INTO anzoth.operators (user_id) VALUES ($1);

-- name: any_operator
-- Who could still sign in.
SELECT EXISTS (
    SELECT FROM anzoth.operators AS o JOIN anzoth.users AS u ON u.id = o.user_id
    WHERE u.disabled_at IS NULL
);

-- name: set_password_hash
UPDATE anzoth.users SET password_hash = $2 WHERE id = $1;

-- name: verify_email
UPDATE anzoth.users SET email_verified_at = coalesce(email_verified_at, now()) WHERE id = $1;

-- name: touch_user
UPDATE anzoth.users SET last_sign_in_at = now() WHERE id = $1;

-- name: set_user_disabled
-- Keeps the first date when it was disabled before.
UPDATE anzoth.users
SET disabled_at = CASE WHEN $2 THEN coalesce(disabled_at, now()) END
WHERE id = $1;

-- name: list_users
-- As the operator's commands show them. $1: a tenant's name, or NULL for all.
SELECT u.id, u.email, u.name, u.created_at, u.last_sign_in_at, u.disabled_at,
    u.totp_confirmed_at IS NOT NULL AS has_second_factor,
    EXISTS (SELECT FROM anzoth.operators AS o WHERE o.user_id = u.id) AS is_operator,
    coalesce(
        array_agg(t.name || ':' || m.role ORDER BY t.name) FILTER (WHERE t.id IS NOT NULL), '{}'
    ) AS roles
FROM anzoth.users AS u
LEFT JOIN anzoth.memberships AS m ON m.user_id = u.id
LEFT JOIN anzoth.tenants AS t ON t.id = m.tenant_id
WHERE $1::text IS NULL OR t.name = $1
GROUP BY u.id
ORDER BY u.email;

-- name: set_totp_secret
-- Enrolled anew, and not in force before it is confirmed.
UPDATE anzoth.users SET totp_secret = $2, totp_confirmed_at = NULL, totp_last_step = NULL
WHERE id = $1;

-- name: use_totp_step
-- No row when a code of this step, or of a later one, was used before: it was seen by somebody.
UPDATE anzoth.users
SET totp_last_step = $2, totp_confirmed_at = coalesce(totp_confirmed_at, now())
WHERE id = $1 AND (totp_last_step IS NULL OR totp_last_step < $2)
RETURNING id;

-- name: insert_recovery_codes
INSERT INTO anzoth.recovery_codes (user_id, digest) SELECT $1, unnest($2::bytea[]);

-- name: delete_recovery_codes
DELETE FROM anzoth.recovery_codes WHERE user_id = $1;

-- name: use_recovery_code
-- No row when it does not exist or was used.
DELETE FROM anzoth.recovery_codes WHERE user_id = $1 AND digest = $2 RETURNING digest;

-- name: find_identity
-- Reads what the policies show under app.identity.
SELECT user_id FROM anzoth.external_identities WHERE issuer = $1 AND subject = $2;

-- name: insert_identity
-- No row when it is somebody's already.
INSERT INTO anzoth.external_identities (issuer, subject, user_id) VALUES ($1, $2, $3)
ON CONFLICT DO NOTHING
RETURNING user_id;
