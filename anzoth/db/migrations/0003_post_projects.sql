-- Projects: parts of a tenant that are granted, limited and counted on their own. Every tenant has a
-- default one, where keys live that name none. `post`: the version before makes keys without one.

CREATE TABLE anzoth.projects (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    name text NOT NULL CHECK (name <> ''),
    is_default boolean NOT NULL DEFAULT false,
    created_at timestamptz NOT NULL DEFAULT now(),
    archived_at timestamptz,                -- its keys are revoked then; its usage stays
    UNIQUE (tenant_id, id)
);

CREATE UNIQUE INDEX default_project ON anzoth.projects (tenant_id) WHERE is_default;
CREATE UNIQUE INDEX living_project_name ON anzoth.projects (tenant_id, name)
    WHERE archived_at IS NULL;

ALTER TABLE anzoth.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.projects FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.projects TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.projects TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.projects TO anzoth_app, anzoth_operator;
GRANT INSERT, UPDATE ON anzoth.projects TO anzoth_operator;

-- The owner of the tables is subject to row-level security too: what follows acts as the operator.
ALTER TABLE anzoth.api_keys ADD COLUMN project_id uuid;
ALTER TABLE anzoth.usage ADD COLUMN project_id uuid;
GRANT UPDATE (project_id) ON anzoth.usage TO anzoth_operator;

SET LOCAL ROLE anzoth_operator;
INSERT INTO anzoth.projects (id, tenant_id, name, is_default)
    SELECT gen_random_uuid(), id, 'default', true FROM anzoth.tenants;
UPDATE anzoth.api_keys AS k SET project_id = p.id
    FROM anzoth.projects AS p WHERE p.tenant_id = k.tenant_id AND p.is_default;
UPDATE anzoth.usage AS u SET project_id = p.id
    FROM anzoth.projects AS p WHERE p.tenant_id = u.tenant_id AND p.is_default;
RESET ROLE;

REVOKE UPDATE (project_id) ON anzoth.usage FROM anzoth_operator;
ALTER TABLE anzoth.api_keys ALTER COLUMN project_id SET NOT NULL;
ALTER TABLE anzoth.usage ALTER COLUMN project_id SET NOT NULL;
ALTER TABLE anzoth.api_keys ADD FOREIGN KEY (tenant_id, project_id)
    REFERENCES anzoth.projects (tenant_id, id);
