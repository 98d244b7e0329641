-- Whose a key is: a person's, a service account's, or the tenant's own. Keys end with their owner.
-- Projects and secrets of keys can be changed over the API, which acts as the application.

CREATE TABLE anzoth.service_accounts (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    project_id uuid NOT NULL,
    name text NOT NULL CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,                 -- its keys are revoked then; usage names it still
    UNIQUE (tenant_id, project_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id)
);

ALTER TABLE anzoth.service_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.service_accounts FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.service_accounts TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.service_accounts TO anzoth_operator
    USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.service_accounts TO anzoth_app, anzoth_operator;
GRANT INSERT (id, tenant_id, project_id, name) ON anzoth.service_accounts
    TO anzoth_app, anzoth_operator;
GRANT UPDATE (name, deleted_at) ON anzoth.service_accounts TO anzoth_app, anzoth_operator;

ALTER TABLE anzoth.api_keys
    ADD COLUMN user_id uuid REFERENCES anzoth.users (id),
    ADD COLUMN service_account_id uuid,
    ADD FOREIGN KEY (tenant_id, project_id, service_account_id)
        REFERENCES anzoth.service_accounts (tenant_id, project_id, id),
    ADD CONSTRAINT one_owner CHECK (user_id IS NULL OR service_account_id IS NULL);

CREATE INDEX keys_of_user ON anzoth.api_keys (user_id) WHERE user_id IS NOT NULL;

GRANT UPDATE (kid, digest, hash_alg, pepper_id, redacted, predecessor_kid, predecessor_digest,
    predecessor_hash_alg, predecessor_pepper_id, predecessor_expires_at) ON anzoth.api_keys
    TO anzoth_app;
GRANT UPDATE (name, archived_at) ON anzoth.projects TO anzoth_app;
