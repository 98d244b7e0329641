-- Tool servers of tenants, what each says that it can do, and which of that was approved.

CREATE TABLE anzoth.tool_servers (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    label text NOT NULL CHECK (label ~ '^[a-z0-9]+(_[a-z0-9]+)*$' AND length(label) <= 24),
    kind text NOT NULL CHECK (kind IN ('mcp', 'command', 'http')),
    url text,                               -- of mcp and http
    command text,                           -- of command: a name in the operator's settings
    method text,                            -- of http
    approval text NOT NULL CHECK (approval IN ('never', 'writes', 'always')),
    taint text NOT NULL CHECK (taint IN ('any', 'values')),
    timeout_ms integer NOT NULL CHECK (timeout_ms > 0),
    max_result_bytes integer NOT NULL CHECK (max_result_bytes > 0),
    calls_per_minute integer CHECK (calls_per_minute > 0),
    credentials bytea,                      -- sealed with the tenant's key. NULL: none
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    listed_at timestamptz,                  -- when it last said what it can do
    note text,                              -- why not, or what of that cannot be used
    UNIQUE (tenant_id, label),
    UNIQUE (tenant_id, id),
    CHECK ((kind = 'command') = (command IS NOT NULL) AND (kind <> 'command') = (url IS NOT NULL)
        AND (kind = 'http') = (method IS NOT NULL))
);

-- What a server says of one of its tools: pinned by its digest. Only what is approved is called.
CREATE TABLE anzoth.tools (
    tenant_id uuid NOT NULL,
    server_id uuid NOT NULL,
    name text NOT NULL,
    state text NOT NULL CHECK (state IN ('approved', 'pending', 'quarantined')),
    digest bytea NOT NULL,
    definition bytea NOT NULL,              -- JSON, as the digest was made of it
    changed_digest bytea,                   -- of a quarantined one: what the server says instead
    changed_definition bytea,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    approved_at timestamptz,                -- the last time
    PRIMARY KEY (tenant_id, server_id, name),
    FOREIGN KEY (tenant_id, server_id) REFERENCES anzoth.tool_servers (tenant_id, id)
        ON DELETE CASCADE,
    CHECK ((changed_digest IS NULL) = (changed_definition IS NULL)),
    CHECK (changed_digest IS NULL OR state = 'quarantined')
);

ALTER TABLE anzoth.tool_servers ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.tool_servers FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.tools ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.tools FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.tool_servers TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.tools TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

CREATE POLICY every_tenant ON anzoth.tool_servers TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.tools TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, DELETE ON anzoth.tool_servers, anzoth.tools TO anzoth_app;
GRANT UPDATE (approval, taint, timeout_ms, max_result_bytes, calls_per_minute, credentials,
    updated_at, listed_at, note) ON anzoth.tool_servers TO anzoth_app;
GRANT UPDATE (state, digest, definition, changed_digest, changed_definition, approved_at)
    ON anzoth.tools TO anzoth_app;
GRANT SELECT, DELETE ON anzoth.tool_servers, anzoth.tools TO anzoth_operator;

-- Gateways forget what they know of a tenant's tools when something changes.
CREATE FUNCTION anzoth.announce_tool_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_tools', coalesce(NEW.tenant_id, OLD.tenant_id)::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_tool_server_change
    AFTER INSERT OR DELETE OR UPDATE OF updated_at ON anzoth.tool_servers
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_tool_change();
CREATE TRIGGER announce_tool_change AFTER INSERT OR UPDATE OR DELETE ON anzoth.tools
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_tool_change();

-- What an alias offers to every chat, and beyond which none of its chats can go.
ALTER TABLE anzoth.model_aliases ADD COLUMN tools text[] NOT NULL DEFAULT '{}';
GRANT UPDATE (tools) ON anzoth.model_aliases TO anzoth_app, anzoth_operator;
