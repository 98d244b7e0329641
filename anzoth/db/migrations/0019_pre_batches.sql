-- Batches: requests in a file, answered in the background, each once.

CREATE TABLE anzoth.batches (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    key_id uuid NOT NULL,                   -- as which its requests are made
    made_from inet,                         -- NULL: unknown
    endpoint text NOT NULL,
    input_file_id text NOT NULL,
    metadata bytea,                         -- sealed
    file_expires_after_s integer,           -- of the files that it makes
    status text NOT NULL DEFAULT 'validating' CHECK (
        status IN (
            'validating', 'failed', 'in_progress', 'finalizing', 'completed', 'expired',
            'cancelling', 'cancelled'
        )
    ),
    ends_as text CHECK (ends_as IN ('failed', 'completed', 'expired', 'cancelled')),
    errors jsonb,
    num_requests integer NOT NULL DEFAULT 0,
    num_completed integer NOT NULL DEFAULT 0,
    num_failed integer NOT NULL DEFAULT 0,
    input_tokens bigint NOT NULL DEFAULT 0, -- of the answers in its files
    cached_tokens bigint NOT NULL DEFAULT 0,
    output_tokens bigint NOT NULL DEFAULT 0,
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    output_file_id text,
    error_file_id text,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    in_progress_at timestamptz,
    finalizing_at timestamptz,
    cancelling_at timestamptz,
    ended_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    next_attempt_at timestamptz NOT NULL DEFAULT now(),
    claimed_by uuid,                        -- until next_attempt_at
    closed_at timestamptz,                  -- ended, and no answer is left beside its files
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id)
);

CREATE INDEX batches_of_project ON anzoth.batches (tenant_id, project_id, created_at, id);
CREATE INDEX open_batches ON anzoth.batches (tenant_id, next_attempt_at) WHERE closed_at IS NULL;

-- What a line of its input was answered, until its files are written.
CREATE TABLE anzoth.batch_answers (
    tenant_id uuid NOT NULL,
    batch_id text NOT NULL,
    line integer NOT NULL,                  -- from 1
    is_error boolean NOT NULL,
    content bytea NOT NULL,                 -- sealed
    PRIMARY KEY (tenant_id, batch_id, line),
    FOREIGN KEY (tenant_id, batch_id) REFERENCES anzoth.batches (tenant_id, id)
);

ALTER TABLE anzoth.batch_answers ALTER COLUMN content SET STORAGE EXTERNAL;

ALTER TABLE anzoth.batches ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.batches FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.batch_answers ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.batch_answers FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.batches TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.batch_answers TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- Any gateway works on the batches that wait: it sees which these are, of all tenants, where it says
-- so, and does it as the tenant.
CREATE POLICY open ON anzoth.batches FOR SELECT TO anzoth_app
    USING (current_setting('app.batches', true) = 'on' AND closed_at IS NULL);

CREATE POLICY every_tenant ON anzoth.batches TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.batch_answers TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.batches, anzoth.batch_answers TO anzoth_app, anzoth_operator;
GRANT INSERT ON anzoth.batches TO anzoth_app;
GRANT UPDATE (metadata, status, ends_as, errors, num_requests, num_completed, num_failed,
    input_tokens, cached_tokens, output_tokens, reasoning_tokens, output_file_id, error_file_id,
    in_progress_at, finalizing_at, cancelling_at, ended_at, attempts, next_attempt_at, claimed_by,
    closed_at) ON anzoth.batches TO anzoth_app;
GRANT INSERT, DELETE ON anzoth.batch_answers TO anzoth_app;
