-- Responses that are kept, so that a conversation can go on from one.

CREATE TABLE anzoth.responses (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    content bytea NOT NULL,                 -- sealed with the tenant's key
    bytes bigint NOT NULL,                  -- of the content, as it is stored
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id)
);

ALTER TABLE anzoth.responses ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE INDEX responses_by_age ON anzoth.responses (tenant_id, created_at, id) INCLUDE (bytes);
CREATE INDEX responses_by_expiry ON anzoth.responses (expires_at);

-- In which response an item came into being.
CREATE TABLE anzoth.response_items (
    tenant_id uuid NOT NULL,
    id text NOT NULL,
    response_id text NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, response_id) REFERENCES anzoth.responses (tenant_id, id)
        ON DELETE CASCADE
);

CREATE INDEX items_of_response ON anzoth.response_items (tenant_id, response_id);

CREATE TABLE anzoth.response_sums (
    tenant_id uuid PRIMARY KEY REFERENCES anzoth.tenants (id),
    num_bytes bigint NOT NULL
);

ALTER TABLE anzoth.responses ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.responses FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.response_items ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.response_items FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.response_sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.response_sums FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.responses TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.response_items TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.response_sums TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- Any gateway removes what has expired: it sees which responses these are, of all tenants, where it
-- says so, and does it as the tenant.
CREATE POLICY outdated ON anzoth.responses FOR SELECT TO anzoth_app
    USING (current_setting('app.outdated_responses', true) = 'on' AND expires_at <= now());

CREATE POLICY every_tenant ON anzoth.responses TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.response_items TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.response_sums TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.responses, anzoth.response_items, anzoth.response_sums
    TO anzoth_app, anzoth_operator;
GRANT INSERT, DELETE ON anzoth.responses, anzoth.response_items TO anzoth_app;
GRANT INSERT, UPDATE (num_bytes) ON anzoth.response_sums TO anzoth_app;
GRANT UPDATE (expires_at) ON anzoth.responses TO anzoth_operator;

-- What a tenant's responses take. The row is locked until the transaction ends, so that the bound
-- holds between transactions at the same time, too.
CREATE FUNCTION anzoth.sum_responses() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO anzoth.response_sums AS s (tenant_id, num_bytes)
    SELECT r.tenant_id, CASE TG_OP WHEN 'INSERT' THEN sum(r.bytes) ELSE -sum(r.bytes) END
    FROM changed AS r GROUP BY r.tenant_id ORDER BY r.tenant_id
    ON CONFLICT (tenant_id) DO UPDATE SET num_bytes = s.num_bytes + excluded.num_bytes;
    RETURN NULL;
END
$$;

CREATE TRIGGER sum_inserted AFTER INSERT ON anzoth.responses
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_responses();
CREATE TRIGGER sum_deleted AFTER DELETE ON anzoth.responses
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_responses();
