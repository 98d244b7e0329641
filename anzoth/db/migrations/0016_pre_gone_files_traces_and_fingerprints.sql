-- Which files' texts engines must forget, what was found for a request in knowledge bases, and which
-- model made the vectors of a store.

-- A file that was searched in a store and is not any more, each time; kept for some days.
CREATE TABLE anzoth.gone_files (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    file_id text NOT NULL,
    gone_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX gone_files_by_time ON anzoth.gone_files (gone_at);

ALTER TABLE anzoth.gone_files ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.gone_files FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.gone_files TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.gone_files TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY gone ON anzoth.gone_files FOR SELECT TO anzoth_app
    USING (current_setting('app.outdated_stores', true) = 'on');
CREATE POLICY end_of_gone ON anzoth.gone_files FOR DELETE TO anzoth_app
    USING (current_setting('app.outdated_stores', true) = 'on');
CREATE POLICY only_old ON anzoth.gone_files AS RESTRICTIVE FOR DELETE TO anzoth_app
    USING (gone_at < now() - interval '1 day');

GRANT SELECT, INSERT ON anzoth.gone_files TO anzoth_app, anzoth_operator;
GRANT DELETE ON anzoth.gone_files TO anzoth_app;
GRANT SELECT ON SEQUENCE anzoth.gone_files_number_seq TO anzoth_operator; -- who makes backups

-- A file that leaves a store, whoever takes it out. (Stores end as a whole: see delete_store and
-- store_is_empty. Tenants do, too, and what engines have of them is forgotten by tenant.)
CREATE FUNCTION anzoth.note_gone_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO anzoth.gone_files (tenant_id, file_id) VALUES (new.tenant_id, new.file_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER note_gone_file AFTER UPDATE OF deleted_at ON anzoth.vector_store_files
    FOR EACH ROW
    WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL AND old.changed_seq > 0)
    EXECUTE FUNCTION anzoth.note_gone_file();

-- Gateways have their engines forget them.
CREATE FUNCTION anzoth.announce_gone_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_gone_files', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_gone_files AFTER INSERT ON anzoth.gone_files
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.announce_gone_files();

ALTER TABLE anzoth.usage ADD COLUMN retrieval jsonb;

ALTER TABLE anzoth.vector_stores ADD COLUMN vector_space text;
