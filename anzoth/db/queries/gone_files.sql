-- Files that are not searched any more. Read and deleted under app.outdated_stores.

-- name: gone_files
-- Those that went so many seconds before $1, or later; NULL: all. One row without a file when none
-- did: every row says what time it is.
SELECT t.now, g.number, g.tenant_id, g.file_id
FROM (SELECT now()) AS t (now)
LEFT JOIN anzoth.gone_files AS g
    ON g.gone_at > coalesce($1::timestamptz - make_interval(secs => $2), '-infinity')
ORDER BY g.number;

-- name: forget_gone_files
-- Those that went so many seconds ago.
DELETE FROM anzoth.gone_files WHERE gone_at < now() - make_interval(secs => $1);
