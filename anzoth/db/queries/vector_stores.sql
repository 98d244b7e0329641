-- Vector stores. One belongs to a project; nobody outside sees it.
--
-- Locks are taken in this order: files, stores, files in stores, each by id; then the audit log.

-- name: lock_stores_of_tenant
-- Until the end of the transaction: nobody else makes one, so that their number holds.
SELECT pg_advisory_xact_lock(hashtextextended('anzoth.vector_stores ' || $1::uuid::text, 0));

-- name: count_stores
SELECT count(*) FROM anzoth.vector_stores WHERE tenant_id = $1 AND deleted_at IS NULL;

-- name: insert_store
-- No row when the tenant has no key: it was deleted.
INSERT INTO anzoth.vector_stores (
    tenant_id, id, project_id, details, model, dimensions, analyzer, expires_after_days, expires_at,
    vector_space
)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, now() + make_interval(days => $8), $9
FROM anzoth.tenant_keys WHERE tenant_id = $1
RETURNING id;

-- name: find_store
SELECT id, details, model, created_at, last_active_at, expires_after_days, expires_at,
    coalesce(expires_at <= now(), false) AS is_expired
FROM anzoth.vector_stores
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND deleted_at IS NULL;

-- name: store_place
-- Where a list goes on after this store, which may have been deleted a moment ago.
SELECT created_at FROM anzoth.vector_stores WHERE tenant_id = $1 AND project_id = $2 AND id = $3;

-- name: list_stores_up
SELECT id, details, model, created_at, last_active_at, expires_after_days, expires_at,
    coalesce(expires_at <= now(), false) AS is_expired
FROM anzoth.vector_stores
WHERE tenant_id = $1 AND project_id = $2 AND deleted_at IS NULL
    AND ($3::timestamptz IS NULL OR (created_at, id) > ($3, $4::text))
    AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::text))
    AND ($8::text[] IS NULL OR id = ANY ($8))
ORDER BY created_at, id
LIMIT $7;

-- name: list_stores_down
SELECT id, details, model, created_at, last_active_at, expires_after_days, expires_at,
    coalesce(expires_at <= now(), false) AS is_expired
FROM anzoth.vector_stores
WHERE tenant_id = $1 AND project_id = $2 AND deleted_at IS NULL
    AND ($3::timestamptz IS NULL OR (created_at, id) > ($3, $4::text))
    AND ($5::timestamptz IS NULL OR (created_at, id) < ($5, $6::text))
    AND ($8::text[] IS NULL OR id = ANY ($8))
ORDER BY created_at DESC, id DESC
LIMIT $7;

-- name: sum_files_of_stores
SELECT store_id, sum(usage_bytes)::bigint AS usage_bytes,
    count(*) FILTER (WHERE status = 'in_progress') AS in_progress,
    count(*) FILTER (WHERE status = 'completed') AS completed,
    count(*) FILTER (WHERE status = 'failed') AS failed,
    count(*) FILTER (WHERE status = 'cancelled') AS cancelled
FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = ANY ($2::text[]) AND deleted_at IS NULL
GROUP BY store_id;

-- name: store_state
SELECT coalesce(expires_at <= now(), false) AS is_expired
FROM anzoth.vector_stores
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND deleted_at IS NULL;

-- name: lock_store
-- Until the end of the transaction nothing else is changed in it.
SELECT coalesce(expires_at <= now(), false) AS is_expired
FROM anzoth.vector_stores
WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND deleted_at IS NULL
FOR NO KEY UPDATE;

-- name: update_store
-- $4: whether it expires $5 days after its last use from now on, which this is.
UPDATE anzoth.vector_stores
SET details = $3,
    expires_after_days = CASE WHEN $4 THEN $5 ELSE expires_after_days END,
    expires_at = CASE WHEN $4 THEN now() + make_interval(days => $5) ELSE expires_at END,
    last_active_at = CASE WHEN $4 THEN now() ELSE last_active_at END
WHERE tenant_id = $1 AND id = $2;

-- name: touch_store
-- At most once a minute; and not now where somebody else changes the store.
UPDATE anzoth.vector_stores
SET last_active_at = now(), expires_at = now() + make_interval(days => expires_after_days)
WHERE tenant_id = $1 AND id = (
    SELECT id FROM anzoth.vector_stores
    WHERE tenant_id = $1 AND id = $2 AND deleted_at IS NULL
        AND (expires_at IS NULL OR expires_at > now())
        AND last_active_at < now() - interval '1 minute'
    FOR NO KEY UPDATE SKIP LOCKED
);

-- name: take_file_numbers
-- The last of so many new ones. Whoever adds files uses the store.
UPDATE anzoth.vector_stores
SET last_file = last_file + $3, last_active_at = now(),
    expires_at = now() + make_interval(days => expires_after_days)
WHERE tenant_id = $1 AND id = $2
RETURNING last_file;

-- name: next_change
UPDATE anzoth.vector_stores SET head = head + 1 WHERE tenant_id = $1 AND id = $2 RETURNING head;

-- name: delete_store
-- What is in it is deleted soon (see gateway.knowledge.store_cleanup).
WITH ended AS (
    UPDATE anzoth.vector_stores SET deleted_at = now(), details = NULL, emptied_at = NULL
    WHERE tenant_id = $1 AND project_id = $2 AND id = $3 AND deleted_at IS NULL
    RETURNING tenant_id, id
), gone AS (
    INSERT INTO anzoth.gone_files (tenant_id, file_id)
    SELECT f.tenant_id, f.file_id FROM anzoth.vector_store_files AS f
    JOIN ended ON f.tenant_id = ended.tenant_id AND f.store_id = ended.id
    WHERE f.deleted_at IS NULL AND f.changed_seq > 0
)
SELECT id FROM ended;

-- name: delete_stores_of_tenant
WITH locked AS (
    SELECT id FROM anzoth.vector_stores
    WHERE tenant_id = $1 AND deleted_at IS NULL
    ORDER BY id
    FOR NO KEY UPDATE
)
UPDATE anzoth.vector_stores AS s SET deleted_at = now(), details = NULL
FROM locked
WHERE s.tenant_id = $1 AND s.id = locked.id;

-- name: outdated_stores
-- Reads what the policies show under app.outdated_stores: what is to be emptied or forgotten.
SELECT tenant_id, id, deleted_at IS NOT NULL AS is_deleted, emptied_at IS NOT NULL AS is_empty
FROM anzoth.vector_stores
WHERE (deleted_at IS NOT NULL OR expires_at IS NOT NULL) AND coalesce(deleted_at, expires_at) <= now()
    AND (emptied_at IS NULL OR deleted_at < now() - make_interval(secs => $1))
ORDER BY coalesce(deleted_at, expires_at)
LIMIT $2;

-- name: ended_stores
-- Those that were deleted or expired in the last so many seconds. NULL: ever.
SELECT tenant_id, id FROM anzoth.vector_stores
WHERE (deleted_at IS NOT NULL OR expires_at IS NOT NULL)
    AND coalesce(deleted_at, expires_at) <= now()
    AND (
        $1::double precision IS NULL
        OR coalesce(deleted_at, expires_at) > now() - make_interval(secs => $1)
    )
ORDER BY coalesce(deleted_at, expires_at);

-- name: delete_chunks_of_store
-- Some of them.
DELETE FROM anzoth.chunks
WHERE tenant_id = $1 AND store_id = $2 AND number IN (
    SELECT number FROM anzoth.chunks WHERE tenant_id = $1 AND store_id = $2 ORDER BY number LIMIT $3
);

-- name: delete_files_of_store
-- Some of them.
DELETE FROM anzoth.vector_store_files
WHERE tenant_id = $1 AND store_id = $2 AND file_id IN (
    SELECT file_id FROM anzoth.vector_store_files
    WHERE tenant_id = $1 AND store_id = $2
    ORDER BY file_id
    LIMIT $3
);

-- name: store_is_empty
-- The files of one that has expired stay in it, and are not searched any more.
WITH ended AS (
    UPDATE anzoth.vector_stores SET emptied_at = now()
    WHERE tenant_id = $1 AND id = $2 AND emptied_at IS NULL
        AND (deleted_at IS NOT NULL OR expires_at <= now())
        AND NOT EXISTS (SELECT FROM anzoth.chunks WHERE tenant_id = $1 AND store_id = $2)
    RETURNING tenant_id, id, deleted_at
), gone AS (
    INSERT INTO anzoth.gone_files (tenant_id, file_id)
    SELECT f.tenant_id, f.file_id FROM anzoth.vector_store_files AS f
    JOIN ended ON f.tenant_id = ended.tenant_id AND f.store_id = ended.id
    WHERE ended.deleted_at IS NULL AND f.deleted_at IS NULL AND f.changed_seq > 0
)
SELECT id FROM ended;

-- name: forget_store
-- Its row, which lists may have been going on after.
DELETE FROM anzoth.vector_stores
WHERE tenant_id = $1 AND id = $2 AND emptied_at IS NOT NULL
    AND deleted_at < now() - make_interval(secs => $3)
RETURNING id;
