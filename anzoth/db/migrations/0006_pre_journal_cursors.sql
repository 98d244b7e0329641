-- How far each gateway's usage journal has been written into anzoth.usage.

CREATE TABLE anzoth.journal_cursors (
    writer_id uuid PRIMARY KEY,             -- of one data directory's journal
    segment bigint NOT NULL,
    "offset" bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE anzoth.journal_cursors ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.journal_cursors FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.journal_cursors TO anzoth_app
    USING (writer_id = nullif(current_setting('app.journal', true), '')::uuid)
    WITH CHECK (writer_id = nullif(current_setting('app.journal', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.journal_cursors TO anzoth_operator
    USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, UPDATE ON anzoth.journal_cursors TO anzoth_app;
GRANT SELECT ON anzoth.journal_cursors TO anzoth_operator;
