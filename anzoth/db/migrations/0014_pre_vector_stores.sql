-- Vector stores: which files are in them, and what of those is searched.

-- Vector stores, of a project each. What is in one is numbered: files, chunks, and in the order in
-- which they were made the changes that a search may have to see.
CREATE TABLE anzoth.vector_stores (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    details bytea,                          -- sealed: name, description, metadata. NULL: deleted
    model text NOT NULL,                    -- which makes its vectors
    dimensions integer NOT NULL CHECK (dimensions > 0),
    analyzer text NOT NULL,
    head bigint NOT NULL DEFAULT 0,         -- the last change
    last_file bigint NOT NULL DEFAULT 0,    -- the last number given to a file
    last_chunk bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_active_at timestamptz NOT NULL DEFAULT now(),
    expires_after_days integer CHECK (expires_after_days > 0),
    expires_at timestamptz,
    emptied_at timestamptz,                 -- deleted or expired, and nothing of it is left
    deleted_at timestamptz,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id)
);

CREATE INDEX stores_of_project ON anzoth.vector_stores (tenant_id, project_id, created_at, id);
CREATE INDEX stores_by_end ON anzoth.vector_stores (coalesce(deleted_at, expires_at))
    WHERE deleted_at IS NOT NULL OR expires_at IS NOT NULL;

-- Files added together.
CREATE TABLE anzoth.file_batches (
    tenant_id uuid NOT NULL,
    store_id text NOT NULL,
    id text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    cancelled_at timestamptz,
    PRIMARY KEY (tenant_id, store_id, id),
    FOREIGN KEY (tenant_id, store_id) REFERENCES anzoth.vector_stores (tenant_id, id)
        ON DELETE CASCADE
);

-- A file in a store. One that was taken out stays as long as the store: an index that is behind must
-- hear of it.
CREATE TABLE anzoth.vector_store_files (
    tenant_id uuid NOT NULL,
    store_id text NOT NULL,
    file_id text NOT NULL,
    number bigint NOT NULL,
    batch_id text,
    status text NOT NULL DEFAULT 'in_progress'
        CHECK (status IN ('in_progress', 'completed', 'cancelled', 'failed')),
    error_code text,
    error_message text,
    attributes bytea,                       -- sealed. NULL: none
    chunking jsonb NOT NULL,
    usage_bytes bigint NOT NULL DEFAULT 0,
    num_chunks integer NOT NULL DEFAULT 0,
    num_tokens bigint NOT NULL DEFAULT 0,   -- embedded for it, those that were known before left out
    changed_seq bigint NOT NULL DEFAULT 0,  -- 0: it was never searched
    created_at timestamptz NOT NULL DEFAULT now(),
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    claimed_by uuid,                        -- until next_attempt_at
    deleted_at timestamptz,
    emptied_at timestamptz,                 -- not to be searched, and no chunk of it is left
    PRIMARY KEY (tenant_id, store_id, file_id),
    UNIQUE (tenant_id, store_id, number),
    FOREIGN KEY (tenant_id, store_id) REFERENCES anzoth.vector_stores (tenant_id, id)
        ON DELETE CASCADE,
    FOREIGN KEY (tenant_id, store_id, batch_id)
        REFERENCES anzoth.file_batches (tenant_id, store_id, id)
);

CREATE INDEX stores_of_file ON anzoth.vector_store_files (tenant_id, file_id);
CREATE INDEX files_of_store
    ON anzoth.vector_store_files (tenant_id, store_id, created_at, file_id);
CREATE INDEX files_of_batch ON anzoth.vector_store_files (tenant_id, store_id, batch_id)
    WHERE batch_id IS NOT NULL;
CREATE INDEX changes_of_store ON anzoth.vector_store_files (tenant_id, store_id, changed_seq);
CREATE INDEX waiting_files ON anzoth.vector_store_files (tenant_id, next_attempt_at)
    WHERE status = 'in_progress' AND deleted_at IS NULL;
CREATE INDEX left_over_files ON anzoth.vector_store_files (tenant_id, store_id, file_id)
    WHERE emptied_at IS NULL AND (deleted_at IS NOT NULL OR status IN ('cancelled', 'failed'));

-- What of a file is searched; not seen before the file is completed.
CREATE TABLE anzoth.chunks (
    tenant_id uuid NOT NULL,
    store_id text NOT NULL,
    number bigint NOT NULL,
    file_id text NOT NULL,
    position integer NOT NULL,              -- in the file, from 0
    digest bytea NOT NULL,                  -- under the tenant's key: the same words, the same vector
    content bytea NOT NULL,                 -- sealed
    vector bytea NOT NULL,                  -- sealed
    PRIMARY KEY (tenant_id, store_id, number),
    UNIQUE (tenant_id, store_id, file_id, position),
    FOREIGN KEY (tenant_id, store_id, file_id)
        REFERENCES anzoth.vector_store_files (tenant_id, store_id, file_id) ON DELETE CASCADE
);

CREATE INDEX chunks_by_digest ON anzoth.chunks (tenant_id, digest);
ALTER TABLE anzoth.chunks ALTER COLUMN content SET STORAGE EXTERNAL;
ALTER TABLE anzoth.chunks ALTER COLUMN vector SET STORAGE EXTERNAL;

-- The last snapshot of a store that each gateway's retriever has written: an older one is refused.
CREATE TABLE anzoth.index_generations (
    tenant_id uuid NOT NULL,
    store_id text NOT NULL,
    gateway uuid NOT NULL,                  -- of its data directory's journal
    generation bigint NOT NULL,
    PRIMARY KEY (tenant_id, store_id, gateway),
    FOREIGN KEY (tenant_id, store_id) REFERENCES anzoth.vector_stores (tenant_id, id)
        ON DELETE CASCADE
);

ALTER TABLE anzoth.vector_stores ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.vector_stores FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_batches ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_batches FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.vector_store_files ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.vector_store_files FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.chunks ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.chunks FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.index_generations ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.index_generations FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.vector_stores TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.file_batches TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.vector_store_files TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.chunks TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.index_generations TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- Any gateway reads the files that wait, and removes what has ended: it sees which these are, of all
-- tenants, where it says so, and does it as the tenant.
CREATE POLICY waiting ON anzoth.vector_store_files FOR SELECT TO anzoth_app
    USING (
        current_setting('app.ingestion', true) = 'on'
        AND status = 'in_progress' AND deleted_at IS NULL
    );
CREATE POLICY outdated ON anzoth.vector_stores FOR SELECT TO anzoth_app
    USING (
        current_setting('app.outdated_stores', true) = 'on'
        AND (deleted_at IS NOT NULL OR expires_at <= now())
    );
CREATE POLICY left_over ON anzoth.vector_store_files FOR SELECT TO anzoth_app
    USING (
        current_setting('app.outdated_stores', true) = 'on'
        AND emptied_at IS NULL AND (deleted_at IS NOT NULL OR status IN ('cancelled', 'failed'))
    );

CREATE POLICY every_tenant ON anzoth.vector_stores TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.file_batches TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.vector_store_files TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.chunks TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.index_generations TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.vector_stores, anzoth.file_batches, anzoth.vector_store_files, anzoth.chunks,
    anzoth.index_generations TO anzoth_app, anzoth_operator;
GRANT INSERT, DELETE ON anzoth.vector_stores, anzoth.file_batches, anzoth.vector_store_files,
    anzoth.chunks, anzoth.index_generations TO anzoth_app;
GRANT UPDATE (details, head, last_file, last_chunk, last_active_at, expires_after_days, expires_at,
    emptied_at, deleted_at) ON anzoth.vector_stores TO anzoth_app;
GRANT UPDATE (cancelled_at) ON anzoth.file_batches TO anzoth_app;
GRANT UPDATE (number, batch_id, status, error_code, error_message, attributes, chunking, usage_bytes,
    num_chunks, num_tokens, changed_seq, created_at, attempts, next_attempt_at, claimed_by, deleted_at,
    emptied_at) ON anzoth.vector_store_files TO anzoth_app;
GRANT UPDATE (generation) ON anzoth.index_generations TO anzoth_app;
GRANT UPDATE (details, head, deleted_at) ON anzoth.vector_stores TO anzoth_operator;
GRANT UPDATE (attributes, changed_seq, deleted_at) ON anzoth.vector_store_files TO anzoth_operator;

-- A file that is deleted, or expires, leaves every store that is there, whoever deletes it.
CREATE FUNCTION anzoth.take_out_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    WITH stores AS (
        UPDATE anzoth.vector_stores AS s SET head = s.head + 1
        FROM (
            SELECT v.tenant_id, v.id
            FROM anzoth.vector_stores AS v
            JOIN anzoth.vector_store_files AS f ON f.tenant_id = v.tenant_id AND f.store_id = v.id
            WHERE f.tenant_id = new.tenant_id AND f.file_id = new.id AND f.deleted_at IS NULL
                AND v.deleted_at IS NULL
            ORDER BY v.id
            FOR NO KEY UPDATE OF v
        ) AS holding
        WHERE s.tenant_id = holding.tenant_id AND s.id = holding.id
        RETURNING s.tenant_id, s.id, s.head
    )
    UPDATE anzoth.vector_store_files AS f
    SET deleted_at = now(), changed_seq = stores.head, attributes = NULL
    FROM stores
    WHERE f.tenant_id = stores.tenant_id AND f.store_id = stores.id AND f.file_id = new.id
        AND f.deleted_at IS NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER take_out_deleted AFTER UPDATE OF deleted_at ON anzoth.files
    FOR EACH ROW WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL)
    EXECUTE FUNCTION anzoth.take_out_file();
