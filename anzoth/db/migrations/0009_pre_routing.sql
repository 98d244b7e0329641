-- Which rule refused a request, which would have, and where an alias led it; rules that are only
-- watched; and aliases: names that mean something to one tenant.

ALTER TABLE anzoth.usage ADD COLUMN rule text;
ALTER TABLE anzoth.usage ADD COLUMN refusal text;
ALTER TABLE anzoth.usage ADD COLUMN shadow_rules text[] NOT NULL DEFAULT '{}';
ALTER TABLE anzoth.usage ADD COLUMN target text;
ALTER TABLE anzoth.usage ADD COLUMN attempts text[] NOT NULL DEFAULT '{}';

ALTER TABLE anzoth.tenants ADD COLUMN shadow_rules text[] NOT NULL DEFAULT '{}';
ALTER TABLE anzoth.api_keys ADD COLUMN shadow_rules text[] NOT NULL DEFAULT '{}';

CREATE TRIGGER announce_changed_shadow_rules AFTER UPDATE OF shadow_rules ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();

CREATE TABLE anzoth.model_aliases (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    name text NOT NULL CHECK (name <> ''),
    targets jsonb NOT NULL,                 -- [{"model", "backend", "weight"}, …]
    system_prompt text,
    defaults jsonb NOT NULL DEFAULT '{}',   -- parameters where the request says nothing
    forced jsonb NOT NULL DEFAULT '{}',     -- parameters whatever the request says
    sticky boolean NOT NULL DEFAULT false,  -- the prefix chooses among weights, not the request id
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (tenant_id, name)
);

ALTER TABLE anzoth.model_aliases ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.model_aliases FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.model_aliases TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.model_aliases TO anzoth_operator
    USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, DELETE ON anzoth.model_aliases TO anzoth_app, anzoth_operator;
GRANT UPDATE (name, targets, system_prompt, defaults, forced, sticky, updated_at)
    ON anzoth.model_aliases TO anzoth_app, anzoth_operator;

-- Gateways forget what they know of a tenant's aliases when one changes.
CREATE FUNCTION anzoth.announce_alias_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_aliases', coalesce(NEW.tenant_id, OLD.tenant_id)::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_alias_change AFTER INSERT OR UPDATE OR DELETE ON anzoth.model_aliases
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_alias_change();
