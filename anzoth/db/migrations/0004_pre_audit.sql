-- The audit log: who changed what, in chains that show when one was changed itself. See audit_chain.

CREATE TABLE anzoth.audit_log (
    id uuid NOT NULL UNIQUE,
    tenant_id uuid REFERENCES anzoth.tenants (id),      -- NULL: about the installation
    chain uuid NOT NULL                                 -- one for each tenant, and zeros
        GENERATED ALWAYS AS (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')) STORED,
    seq bigint NOT NULL CHECK (seq > 0),                -- from 1, without a gap
    at timestamptz NOT NULL,                            -- never before the event that it follows
    type text NOT NULL,
    actor_kind text NOT NULL,
    actor_id text,
    actor_ip text,
    project_id uuid,
    target jsonb NOT NULL,
    details jsonb NOT NULL,
    request_id text,
    previous bytea NOT NULL CHECK (length(previous) = 32),  -- the hash of the event before it
    hash bytea NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (chain, seq)
);

CREATE INDEX audit_log_by_time ON anzoth.audit_log (chain, at);

-- Signed now and then: a chain that does not lead to its signed head was shortened or rewritten.
CREATE TABLE anzoth.audit_heads (
    tenant_id uuid REFERENCES anzoth.tenants (id),
    chain uuid NOT NULL
        GENERATED ALWAYS AS (coalesce(tenant_id, '00000000-0000-0000-0000-000000000000')) STORED,
    seq bigint NOT NULL,
    hash bytea NOT NULL,
    signed_at timestamptz NOT NULL,
    public_key bytea NOT NULL,                          -- Ed25519
    signature bytea NOT NULL,
    PRIMARY KEY (chain, seq)
);

ALTER TABLE anzoth.audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_log FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_heads FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.audit_log TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.audit_heads TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- Whoever appends names the chain for that moment: the installation's from everywhere, a tenant's
-- from a transaction that names no tenant (a sign-in), but never from another tenant's.
CREATE POLICY appended ON anzoth.audit_log TO anzoth_app
    USING (
        chain = nullif(current_setting('app.audit_chain', true), '')::uuid
        AND (tenant_id IS NULL OR nullif(current_setting('app.tenant', true), '') IS NULL)
    )
    WITH CHECK (
        chain = nullif(current_setting('app.audit_chain', true), '')::uuid
        AND (tenant_id IS NULL OR nullif(current_setting('app.tenant', true), '') IS NULL)
    );

CREATE POLICY every_tenant ON anzoth.audit_log TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.audit_heads TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT ON anzoth.audit_log TO anzoth_app, anzoth_operator;
GRANT SELECT ON anzoth.audit_heads TO anzoth_app;
GRANT SELECT, INSERT ON anzoth.audit_heads TO anzoth_operator;

-- The owner could take this away, and then the chain shows what he did.
CREATE FUNCTION anzoth.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'anzoth.% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
END
$$;

CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON anzoth.audit_log
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON anzoth.audit_heads
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.refuse_change();
