-- What `anzoth verify-isolation` asks the database.

-- name: try_lock_isolation
-- Until the connection ends: two verifications would disable each other's accounts.
SELECT pg_try_advisory_lock(hashtext('anzoth.isolation'));

-- name: tables_of_tenants
-- Which hold rows of a tenant.
SELECT table_name::text FROM information_schema.columns
WHERE table_schema = 'anzoth' AND column_name = 'tenant_id'
ORDER BY table_name;
