-- What of vector stores is searched, and how far each gateway's index of it has come.

-- name: find_indexed_stores
-- Of a project, NULL: of any of the tenant's; expired ones among them.
SELECT s.id, s.model, s.dimensions, s.vector_space, s.analyzer, s.head,
    coalesce(g.generation, 0) AS generation,
    coalesce(s.expires_at <= now(), false) AS is_expired,
    s.last_active_at < now() - interval '1 minute' AS is_quiet
FROM anzoth.vector_stores AS s
LEFT JOIN anzoth.index_generations AS g
    ON g.tenant_id = s.tenant_id AND g.store_id = s.id AND g.gateway = $4
WHERE s.tenant_id = $1 AND ($2::uuid IS NULL OR s.project_id = $2) AND s.id = ANY ($3::text[])
    AND s.deleted_at IS NULL;

-- name: living_stores
-- Of these, those that can be searched. None of a tenant that was deleted.
SELECT s.id FROM anzoth.vector_stores AS s
JOIN anzoth.tenant_keys AS k ON k.tenant_id = s.tenant_id
WHERE s.tenant_id = $1 AND s.id = ANY ($2::text[])
    AND s.deleted_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > now());

-- name: changed_files
-- Which files of a store changed after this change, and the store's last one at that moment: one
-- statement, so that none is missing. One row without a file when none did.
SELECT s.head, f.file_id
FROM anzoth.vector_stores AS s
LEFT JOIN anzoth.vector_store_files AS f
    ON f.tenant_id = s.tenant_id AND f.store_id = s.id AND f.changed_seq > $3
WHERE s.tenant_id = $1 AND s.id = $2 AND s.deleted_at IS NULL
ORDER BY f.changed_seq;

-- name: find_indexed_file
SELECT f.number, f.changed_seq, f.attributes,
    f.status = 'completed' AND f.deleted_at IS NULL AS is_searched
FROM anzoth.vector_store_files AS f
WHERE f.tenant_id = $1 AND f.store_id = $2 AND f.file_id = $3;

-- name: chunks_to_index
-- Some of a file's, in order.
SELECT number, position, digest, content, vector
FROM anzoth.chunks
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND position > $4
ORDER BY position
LIMIT $5;

-- name: found_chunks
-- Those of these numbers whose store and file are there, in the project.
SELECT c.number, c.file_id, c.position, c.digest, c.content, f.attributes, d.filename
FROM anzoth.chunks AS c
JOIN anzoth.vector_stores AS s ON s.tenant_id = c.tenant_id AND s.id = c.store_id
JOIN anzoth.vector_store_files AS f
    ON f.tenant_id = c.tenant_id AND f.store_id = c.store_id AND f.file_id = c.file_id
JOIN anzoth.files AS d ON d.tenant_id = c.tenant_id AND d.id = c.file_id
WHERE c.tenant_id = $1 AND s.project_id = $2 AND c.store_id = $3 AND c.number = ANY ($4::bigint[])
    AND s.deleted_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > now())
    AND f.status = 'completed' AND f.deleted_at IS NULL
    AND d.deleted_at IS NULL AND (d.expires_at IS NULL OR d.expires_at > now());

-- name: last_position
-- Of a file that is searched, in the project; NULL: there is none.
SELECT max(c.position)
FROM anzoth.chunks AS c
JOIN anzoth.vector_stores AS s ON s.tenant_id = c.tenant_id AND s.id = c.store_id
JOIN anzoth.vector_store_files AS f
    ON f.tenant_id = c.tenant_id AND f.store_id = c.store_id AND f.file_id = c.file_id
WHERE c.tenant_id = $1 AND s.project_id = $2 AND c.store_id = $3 AND c.file_id = $4
    AND s.deleted_at IS NULL AND (s.expires_at IS NULL OR s.expires_at > now())
    AND f.status = 'completed' AND f.deleted_at IS NULL;

-- name: chunks_at
SELECT number, position, content
FROM anzoth.chunks
WHERE tenant_id = $1 AND store_id = $2 AND file_id = $3 AND position = ANY ($4::integer[])
ORDER BY position;

-- name: set_generation
INSERT INTO anzoth.index_generations AS g (tenant_id, store_id, gateway, generation)
SELECT tenant_id, id, $3, $4 FROM anzoth.vector_stores WHERE tenant_id = $1 AND id = $2
ON CONFLICT (tenant_id, store_id, gateway)
    DO UPDATE SET generation = greatest(g.generation, excluded.generation);
