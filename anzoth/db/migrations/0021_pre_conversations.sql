-- Conversations, to which each response adds what it read and said.

CREATE TABLE anzoth.conversations (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    metadata bytea NOT NULL,                -- sealed with the tenant's key
    knowledge_bases text[] NOT NULL,        -- from which there is something in it
    last_position bigint NOT NULL DEFAULT 0,
    bytes bigint NOT NULL,                  -- of the metadata and all items, with their rows
    created_at timestamptz NOT NULL DEFAULT now(),
    changed_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id)
);

CREATE INDEX conversations_by_age
    ON anzoth.conversations (tenant_id, changed_at, id) INCLUDE (bytes);
CREATE INDEX conversations_by_expiry ON anzoth.conversations (expires_at);

-- An item that was deleted is an empty row: a list can go on from where it was.
CREATE TABLE anzoth.conversation_items (
    tenant_id uuid NOT NULL,
    conversation_id text NOT NULL,
    id text NOT NULL,
    position bigint NOT NULL,
    content bytea,                          -- sealed with the tenant's key
    PRIMARY KEY (tenant_id, conversation_id, id),
    FOREIGN KEY (tenant_id, conversation_id) REFERENCES anzoth.conversations (tenant_id, id)
        ON DELETE CASCADE
);

ALTER TABLE anzoth.conversation_items ALTER COLUMN content SET STORAGE EXTERNAL;

CREATE UNIQUE INDEX conversation_items_in_order
    ON anzoth.conversation_items (tenant_id, conversation_id, position);

ALTER TABLE anzoth.conversations ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.conversations FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.conversation_items ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.conversation_items FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.conversations TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.conversation_items TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- As of responses.
CREATE POLICY outdated ON anzoth.conversations FOR SELECT TO anzoth_app
    USING (current_setting('app.outdated_responses', true) = 'on' AND expires_at <= now());

CREATE POLICY every_tenant ON anzoth.conversations
    TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.conversation_items
    TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.conversations, anzoth.conversation_items TO anzoth_app, anzoth_operator;
GRANT INSERT, DELETE ON anzoth.conversations, anzoth.conversation_items TO anzoth_app;
GRANT UPDATE (metadata, knowledge_bases, last_position, bytes, changed_at, expires_at)
    ON anzoth.conversations TO anzoth_app;
GRANT UPDATE (content) ON anzoth.conversation_items TO anzoth_app;
GRANT UPDATE (expires_at) ON anzoth.conversations TO anzoth_operator;

-- They share the tenant's room with responses.
CREATE FUNCTION anzoth.sum_changed_conversation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE anzoth.response_sums SET num_bytes = num_bytes + NEW.bytes - OLD.bytes
    WHERE tenant_id = NEW.tenant_id;
    RETURN NULL;
END
$$;

CREATE TRIGGER sum_inserted AFTER INSERT ON anzoth.conversations
    REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_responses();
CREATE TRIGGER sum_deleted AFTER DELETE ON anzoth.conversations
    REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_responses();
CREATE TRIGGER sum_changed AFTER UPDATE OF bytes ON anzoth.conversations
    FOR EACH ROW EXECUTE FUNCTION anzoth.sum_changed_conversation();
