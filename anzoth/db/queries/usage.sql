-- The ledger, and how far the gateways' journals are in it.

-- name: stage_usage
-- Where COPY puts rows, on one connection, until they are inserted. Columns that this version does
-- not know take their defaults.
CREATE TEMPORARY TABLE IF NOT EXISTS staged_usage (LIKE anzoth.usage INCLUDING DEFAULTS)
    ON COMMIT DELETE ROWS;

-- name: insert_staged_usage
-- Rows that are there already are skipped: a journal may be read again from anywhere.
WITH staged AS (DELETE FROM pg_temp.staged_usage RETURNING *)
INSERT INTO anzoth.usage SELECT * FROM staged
ON CONFLICT DO NOTHING;

-- name: find_journal_cursor
SELECT segment, "offset" FROM anzoth.journal_cursors WHERE writer_id = $1;

-- name: set_journal_cursor
INSERT INTO anzoth.journal_cursors (writer_id, segment, "offset") VALUES ($1, $2, $3)
ON CONFLICT (writer_id) DO UPDATE
    SET segment = excluded.segment, "offset" = excluded."offset", moved_at = now();
