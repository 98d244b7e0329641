-- Tenants' own data keys, and files: encrypted pieces, and uploads that become files.

CREATE TABLE anzoth.tenant_keys (
    tenant_id uuid PRIMARY KEY REFERENCES anzoth.tenants (id),
    wrapped bytea NOT NULL,
    master_key_id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE anzoth.files (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    purpose text,
    filename bytea,
    layout bytea,
    bytes bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    received_at timestamptz,
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id),
    CONSTRAINT whole_when_received CHECK (
        received_at IS NULL OR deleted_at IS NOT NULL OR num_nulls(purpose, filename, layout) = 0
    ),
    CONSTRAINT unfinished_files_end CHECK (received_at IS NOT NULL OR expires_at IS NOT NULL)
);

CREATE INDEX files_of_project ON anzoth.files (tenant_id, project_id, created_at, id);
CREATE INDEX files_by_expiry ON anzoth.files (expires_at)
    WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX deleted_files ON anzoth.files (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE anzoth.file_parts (
    tenant_id uuid NOT NULL,
    file_id text NOT NULL,
    part integer NOT NULL,
    piece integer NOT NULL,
    content bytea NOT NULL,
    PRIMARY KEY (tenant_id, file_id, part, piece),
    FOREIGN KEY (tenant_id, file_id) REFERENCES anzoth.files (tenant_id, id)
);

ALTER TABLE anzoth.file_parts ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE TABLE anzoth.uploads (
    tenant_id uuid NOT NULL,
    id text NOT NULL,
    file_id text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    file_expires_after_s integer,
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'completed', 'cancelled')),
    num_parts integer NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, file_id),
    FOREIGN KEY (tenant_id, file_id) REFERENCES anzoth.files (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE anzoth.upload_parts (
    tenant_id uuid NOT NULL,
    id text NOT NULL,
    upload_id text NOT NULL,
    part integer NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, upload_id, part),
    FOREIGN KEY (tenant_id, upload_id) REFERENCES anzoth.uploads (tenant_id, id) ON DELETE CASCADE
);

CREATE TABLE anzoth.file_sums (
    tenant_id uuid PRIMARY KEY REFERENCES anzoth.tenants (id),
    num_bytes bigint NOT NULL,
    num_files bigint NOT NULL
);

ALTER TABLE anzoth.tenant_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.tenant_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.files ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.files FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_parts FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.uploads FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.upload_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.upload_parts FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_sums FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.tenant_keys TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.files TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.file_parts TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.uploads TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.upload_parts TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.file_sums TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

CREATE POLICY outdated ON anzoth.files FOR SELECT TO anzoth_app
    USING (
        current_setting('app.outdated_files', true) = 'on'
        AND (deleted_at IS NOT NULL OR expires_at <= now())
    );

CREATE POLICY every_tenant ON anzoth.tenant_keys TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.files TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.file_parts TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.uploads TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.upload_parts TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.file_sums TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.tenant_keys, anzoth.files, anzoth.file_parts, anzoth.uploads,
    anzoth.upload_parts, anzoth.file_sums TO anzoth_app, anzoth_operator;
GRANT INSERT ON anzoth.tenant_keys TO anzoth_app;
GRANT DELETE ON anzoth.tenant_keys TO anzoth_operator;
GRANT INSERT, DELETE ON anzoth.files, anzoth.file_parts, anzoth.uploads, anzoth.upload_parts
    TO anzoth_app;
GRANT UPDATE (purpose, filename, layout, bytes, created_at, expires_at, received_at, deleted_at)
    ON anzoth.files TO anzoth_app;
GRANT UPDATE (status, num_parts) ON anzoth.uploads TO anzoth_app;
GRANT UPDATE (filename, layout, deleted_at) ON anzoth.files TO anzoth_operator;
GRANT INSERT, UPDATE (num_bytes, num_files) ON anzoth.file_sums TO anzoth_app, anzoth_operator;

-- What a tenant has stored, whoever stores or deletes. The row is locked until the transaction ends,
-- so that a quota holds between transactions at the same time, too.
CREATE FUNCTION anzoth.sum_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO anzoth.file_sums AS s (tenant_id, num_bytes, num_files)
        SELECT f.tenant_id, -sum(f.bytes), -count(*) FROM before AS f
        WHERE f.deleted_at IS NULL GROUP BY f.tenant_id ORDER BY f.tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET
            num_bytes = s.num_bytes + excluded.num_bytes,
            num_files = s.num_files + excluded.num_files;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO anzoth.file_sums AS s (tenant_id, num_bytes, num_files)
        SELECT f.tenant_id, sum(f.bytes), count(*) FROM after AS f
        WHERE f.deleted_at IS NULL GROUP BY f.tenant_id ORDER BY f.tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET
            num_bytes = s.num_bytes + excluded.num_bytes,
            num_files = s.num_files + excluded.num_files;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER sum_inserted AFTER INSERT ON anzoth.files
    REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_files();
CREATE TRIGGER sum_updated AFTER UPDATE ON anzoth.files
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_files();
CREATE TRIGGER sum_deleted AFTER DELETE ON anzoth.files
    REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_files();
