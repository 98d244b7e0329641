-- Keys: where they may be used, what they may reach, rotation, revocation that lets answers finish.
-- Limits move into a table of their own: of tenants, projects and keys, for all models or for one.
-- `post`: the version before reads a key's limits where they were.

ALTER TABLE anzoth.api_keys
    ADD COLUMN endpoints text[],
    ADD COLUMN networks cidr[],
    ADD COLUMN knowledge_bases text[],
    ADD COLUMN tools text[],
    ADD COLUMN last_used_ip inet,
    ADD COLUMN predecessor_kid text UNIQUE,
    ADD COLUMN predecessor_digest bytea,
    ADD COLUMN predecessor_hash_alg text,
    ADD COLUMN predecessor_pepper_id text,
    ADD COLUMN predecessor_expires_at timestamptz,
    ADD COLUMN predecessor_uses bigint NOT NULL DEFAULT 0,
    ADD COLUMN lets_finish boolean NOT NULL DEFAULT false,
    ADD CONSTRAINT whole_predecessor CHECK (
        num_nulls(predecessor_kid, predecessor_digest, predecessor_hash_alg,
            predecessor_pepper_id, predecessor_expires_at) IN (0, 5)
    );

CREATE INDEX revoked_keys ON anzoth.api_keys (revoked_at) WHERE revoked_at IS NOT NULL;

CREATE TABLE anzoth.limits (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    project_id uuid,
    key_id uuid,
    model text CHECK (model <> ''),
    rpm integer CHECK (rpm > 0),
    tpm integer CHECK (tpm > 0),
    input_tpm integer CHECK (input_tpm > 0),
    output_tpm integer CHECK (output_tpm > 0),
    concurrency integer CHECK (concurrency > 0),
    tokens_per_day bigint CHECK (tokens_per_day > 0),
    CONSTRAINT of_one CHECK (project_id IS NULL OR key_id IS NULL),
    UNIQUE NULLS NOT DISTINCT (tenant_id, project_id, key_id, model),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id),
    FOREIGN KEY (tenant_id, key_id) REFERENCES anzoth.api_keys (tenant_id, id)
);

ALTER TABLE anzoth.limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limits FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.limits TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.limits TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT, INSERT, DELETE ON anzoth.limits TO anzoth_app, anzoth_operator;

-- The owner of the tables is subject to row-level security too: this acts as the operator.
SET LOCAL ROLE anzoth_operator;
INSERT INTO anzoth.limits (tenant_id, key_id, rpm, tpm)
    SELECT tenant_id, id, rpm, tpm FROM anzoth.api_keys WHERE rpm IS NOT NULL OR tpm IS NOT NULL;
RESET ROLE;

DROP TRIGGER announce_changed_key ON anzoth.api_keys;
ALTER TABLE anzoth.api_keys DROP COLUMN rpm, DROP COLUMN tpm;

-- Either secret of a key finds it, and the limits that hold for it.
DROP POLICY tenant_of_named_key ON anzoth.tenants;
DROP POLICY named_key ON anzoth.api_keys;
CREATE POLICY named_key ON anzoth.api_keys FOR SELECT TO anzoth_app
    USING (nullif(current_setting('app.kid', true), '') IN (kid, predecessor_kid));
CREATE POLICY tenant_of_named_key ON anzoth.tenants FOR SELECT TO anzoth_app
    USING (id = (
        SELECT named.tenant_id FROM anzoth.api_keys AS named
        WHERE nullif(current_setting('app.kid', true), '') IN (named.kid, named.predecessor_kid)
    ));
CREATE POLICY limits_of_named_key ON anzoth.limits FOR SELECT TO anzoth_app
    USING (EXISTS (
        SELECT FROM anzoth.api_keys AS named
        WHERE nullif(current_setting('app.kid', true), '') IN (named.kid, named.predecessor_kid)
            AND named.tenant_id = limits.tenant_id
            AND coalesce(limits.project_id, named.project_id) = named.project_id
            AND coalesce(limits.key_id, named.id) = named.id
    ));

-- Deleted tenants and revoked keys are learned of in the same way.
DROP POLICY deleted ON anzoth.tenants;
CREATE POLICY ended ON anzoth.tenants FOR SELECT TO anzoth_app
    USING (deleted_at IS NOT NULL AND current_setting('app.ended', true) = 'on');
CREATE POLICY ended ON anzoth.api_keys FOR SELECT TO anzoth_app
    USING (revoked_at IS NOT NULL AND current_setting('app.ended', true) = 'on');

REVOKE UPDATE (last_used_at) ON anzoth.api_keys FROM anzoth_app;
GRANT UPDATE (last_used_at, last_used_ip, predecessor_uses, name, scopes, models, endpoints,
    networks, knowledge_bases, tools, expires_at, revoked_at, lets_finish) ON anzoth.api_keys
    TO anzoth_app;
GRANT INSERT ON anzoth.api_keys TO anzoth_app;

CREATE OR REPLACE FUNCTION anzoth.announce_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_keys', changed.kid)
    FROM unnest(ARRAY[NEW.kid, OLD.kid, NEW.predecessor_kid, OLD.predecessor_kid]) AS changed (kid)
    WHERE changed.kid IS NOT NULL;
    RETURN NULL;
END
$$;
CREATE TRIGGER announce_changed_key
    AFTER UPDATE OF kid, name, digest, hash_alg, pepper_id, scopes, models, expires_at, revoked_at,
        endpoints, networks, knowledge_bases, tools, predecessor_kid, predecessor_expires_at
    ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();

-- Gateways end the requests of a revoked key.
CREATE FUNCTION anzoth.announce_revoked_key() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_revoked_keys', NEW.id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_revoked_key AFTER UPDATE OF revoked_at, lets_finish ON anzoth.api_keys
    FOR EACH ROW WHEN (NEW.revoked_at IS NOT NULL AND NOT NEW.lets_finish)
    EXECUTE FUNCTION anzoth.announce_revoked_key();
