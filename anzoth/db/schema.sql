-- The whole schema as it stands after all migrations: read this, not the migrations, to learn it.
-- A test applies both to empty databases and compares the results.

CREATE SCHEMA anzoth;

-- The second wall between tenants is here: every table that holds a tenant's rows has row-level
-- security, forced on the owner too. The gateway acts as anzoth_app, which sees the rows of the
-- tenant named by the transaction-local setting app.tenant, and none when it is not set. nullif()
-- because a setting that was local to an ended transaction reads '' and not NULL.

CREATE TABLE anzoth.tenants (
    id uuid PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (name <> ''),
    created_at timestamptz NOT NULL DEFAULT now(),
    deleted_at timestamptz,                 -- its keys are revoked then; its usage stays
    shadow_rules text[] NOT NULL DEFAULT '{}' -- patterns of rules that are only watched
);

-- Parts of a tenant that are granted, limited and counted on their own. Every tenant has a default
-- one, where keys live that name none.
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

-- Programs of a project that own keys.
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

-- Of a person, a service account, or neither: then it is the tenant's own. Keys end with their owner.
CREATE TABLE anzoth.api_keys (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    kid text NOT NULL UNIQUE,               -- the public half of the key
    name text NOT NULL,
    digest bytea NOT NULL,                  -- of the whole key; see hash_alg and pepper_id
    hash_alg text NOT NULL,
    pepper_id text NOT NULL,
    redacted text NOT NULL,                 -- what lists show
    scopes text[] NOT NULL,
    models text[],                          -- patterns; NULL: every model
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    revoked_at timestamptz,
    last_used_at timestamptz,               -- coarse; written in batches
    project_id uuid NOT NULL,
    endpoints text[],                       -- patterns of routes; NULL: every one
    networks cidr[],                        -- where it may be used; NULL: anywhere
    knowledge_bases text[],                 -- vector stores; NULL: all of its project
    tools text[],                           -- NULL: none
    last_used_ip inet,                      -- of last_used_at, and as coarse
    predecessor_kid text UNIQUE,            -- the secret before the last rotation
    predecessor_digest bytea,
    predecessor_hash_alg text,
    predecessor_pepper_id text,
    predecessor_expires_at timestamptz,     -- it works until then
    predecessor_uses bigint NOT NULL DEFAULT 0, -- since the last rotation; coarse
    lets_finish boolean NOT NULL DEFAULT false, -- when revoked: its running requests go on
    shadow_rules text[] NOT NULL DEFAULT '{}', -- like its tenant's, and besides those
    user_id uuid,                           -- a member's, or a former member's if it is revoked
    service_account_id uuid,                -- one of the same project
    default_knowledge_bases text[] NOT NULL DEFAULT '{}', -- what its chats are answered from
    UNIQUE (tenant_id, id),                 -- what foreign keys refer to: always with the tenant
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id, service_account_id)
        REFERENCES anzoth.service_accounts (tenant_id, project_id, id),
    CONSTRAINT one_owner CHECK (user_id IS NULL OR service_account_id IS NULL),
    CONSTRAINT whole_predecessor CHECK (
        num_nulls(predecessor_kid, predecessor_digest, predecessor_hash_alg,
            predecessor_pepper_id, predecessor_expires_at) IN (0, 5)
    )
);

CREATE INDEX revoked_keys ON anzoth.api_keys (revoked_at) WHERE revoked_at IS NOT NULL;
CREATE INDEX keys_of_user ON anzoth.api_keys (user_id) WHERE user_id IS NOT NULL;

-- Of a tenant, or of one of its projects or keys; for all models together, or for one. NULL: no such
-- limit. The smallest wins.
CREATE TABLE anzoth.limits (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    project_id uuid,
    key_id uuid,
    model text CHECK (model <> ''),
    rpm integer CHECK (rpm > 0),
    tpm integer CHECK (tpm > 0),            -- prompt and output
    input_tpm integer CHECK (input_tpm > 0),
    output_tpm integer CHECK (output_tpm > 0),
    concurrency integer CHECK (concurrency > 0),
    tokens_per_day bigint CHECK (tokens_per_day > 0),
    budget_per_day bigint CHECK (budget_per_day > 0),       -- in nano-units of the currency
    budget_per_month bigint CHECK (budget_per_month > 0),
    CONSTRAINT of_one CHECK (project_id IS NULL OR key_id IS NULL),
    UNIQUE NULLS NOT DISTINCT (tenant_id, project_id, key_id, model),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id),
    FOREIGN KEY (tenant_id, key_id) REFERENCES anzoth.api_keys (tenant_id, id)
);

CREATE TABLE anzoth.usage (
    tenant_id uuid NOT NULL,
    request_id text NOT NULL,
    started_at timestamptz NOT NULL,
    key_id uuid NOT NULL,
    endpoint text NOT NULL,
    model text,
    prompt_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    finish_reason text,
    streamed boolean NOT NULL,
    status smallint NOT NULL,
    error_code text,
    ttft_ms bigint,
    duration_ms bigint NOT NULL,
    end_user text,
    metadata jsonb,
    project_id uuid NOT NULL,               -- the key's at that time
    reasoning_tokens bigint NOT NULL DEFAULT 0,
    service_tier text,                      -- the one it was served in
    user_id uuid,                           -- whose key it was at that time
    batch boolean NOT NULL DEFAULT false,
    -- Prices of the model at that time, in micro-units of the currency per million tokens; NULL: it
    -- had none. Costs in nano-units.
    input_price bigint,
    cached_input_price bigint,
    output_price bigint,
    input_cost bigint NOT NULL DEFAULT 0,
    cached_input_cost bigint NOT NULL DEFAULT 0,
    output_cost bigint NOT NULL DEFAULT 0,
    rule text,                              -- that refused it
    refusal text,                           -- what the caller was told
    shadow_rules text[] NOT NULL DEFAULT '{}', -- that are only watched, and would have refused it
    target text,                            -- where an alias led to; NULL: none was asked for
    attempts text[] NOT NULL DEFAULT '{}',  -- each of its targets that was tried, and how that went
    retrieval jsonb,                        -- what was found in knowledge bases: ids and numbers
    -- The start is part of it, so that a request id that some proxy repeats drops no row.
    PRIMARY KEY (tenant_id, request_id, started_at),
    FOREIGN KEY (tenant_id, key_id) REFERENCES anzoth.api_keys (tenant_id, id)
);

-- Names that mean something to one tenant.
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
    knowledge_bases text[] NOT NULL DEFAULT '{}', -- vector stores that its chats are answered from
    tools text[] NOT NULL DEFAULT '{}',     -- what it offers to every chat, and the most of any
    UNIQUE (tenant_id, name)
);

CREATE INDEX usage_by_time ON anzoth.usage (tenant_id, started_at);

-- The audit log: who changed what, in chains that show when one was changed itself.
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
CREATE INDEX tool_calls_of_request ON anzoth.audit_log (chain, request_id)
    WHERE type IN ('tool.called', 'tool.completed', 'tool.refused');

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

-- How far each gateway's usage journal has been written into anzoth.usage. Moved in the transaction
-- that inserts the rows.
CREATE TABLE anzoth.journal_cursors (
    writer_id uuid PRIMARY KEY,             -- of one data directory's journal
    segment bigint NOT NULL,
    "offset" bigint NOT NULL,
    moved_at timestamptz NOT NULL DEFAULT now()
);

-- Gateways on this database, and which share of which limit each may use, in parts of 65,536. The
-- rows of limit_shares are the rules of which some gateway asked for more than the others have; those
-- of limit_counts say what each gateway has counted of what is counted by day or month.
CREATE SEQUENCE anzoth.share_versions;

CREATE TABLE anzoth.gateways (
    id uuid PRIMARY KEY,                    -- of its data directory's journal
    beat bigint NOT NULL,                   -- the version of its last exchange
    share integer NOT NULL CHECK (share BETWEEN 0 AND 65536), -- of rules that have no row of their own
    version bigint NOT NULL,                -- up to which it has seen what changed
    joined bigint NOT NULL,                 -- the version when it did
    seen_at timestamptz NOT NULL DEFAULT now() -- for people: nothing is decided by it
);

CREATE FUNCTION anzoth.sum_of(integer[]) RETURNS bigint LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN (SELECT coalesce(sum(part), 0) FROM unnest($1) AS parts (part));

CREATE TABLE anzoth.limit_shares (
    subject uuid NOT NULL,                  -- a tenant, a project or a key
    model text,
    version bigint NOT NULL,                -- of the last change
    credit integer NOT NULL CHECK (credit >= 0), -- of what nobody holds
    holders uuid[] NOT NULL,                -- none: every gateway has its usual share again
    shares integer[] NOT NULL,
    needs integer[] NOT NULL,
    leasts integer[] NOT NULL,
    CONSTRAINT one_rule UNIQUE NULLS NOT DISTINCT (subject, model),
    CONSTRAINT at_most_the_whole CHECK (0 <= ALL (shares) AND anzoth.sum_of(shares) + credit <= 65536)
);

CREATE TABLE anzoth.limit_counts (
    subject uuid NOT NULL,
    model text,
    quota text NOT NULL,                    -- a column of limits
    gateway uuid NOT NULL,
    began bigint NOT NULL,                  -- the version when its process joined
    begin_ns bigint NOT NULL,               -- of the period, since 1970
    used bigint NOT NULL,                   -- by that process, in that period
    version bigint NOT NULL,
    CONSTRAINT one_count UNIQUE NULLS NOT DISTINCT (subject, model, quota, gateway)
);

CREATE INDEX counts_by_version ON anzoth.limit_counts (version);

-- The ledger's sums by the minute, the hour and the day (in UTC, of the time when a request started),
-- for everything that usage pages tell apart: they read these and never the ledger. A model that a
-- client only named does not get in, so that clients cannot make cells. Minutes are deleted after a
-- while, hours and days stay. Cells are updated in place, hence the room in each page.
CREATE TABLE anzoth.usage_rollup (
    tenant_id uuid NOT NULL,
    width text NOT NULL CHECK (width IN ('1m', '1h', '1d')),
    bucket_start timestamptz NOT NULL,
    key_id uuid NOT NULL,
    project_id uuid NOT NULL,
    user_id uuid,
    endpoint text NOT NULL,
    model text,                             -- NULL: no model computed anything (refused, lost)
    service_tier text,
    batch boolean NOT NULL,
    num_requests bigint NOT NULL,
    prompt_tokens bigint NOT NULL,
    cached_tokens bigint NOT NULL,
    completion_tokens bigint NOT NULL,
    reasoning_tokens bigint NOT NULL,
    input_cost bigint NOT NULL,
    cached_input_cost bigint NOT NULL,
    output_cost bigint NOT NULL,
    CONSTRAINT one_cell UNIQUE NULLS NOT DISTINCT (
        tenant_id, width, bucket_start, key_id, project_id, user_id, endpoint, model, service_tier, batch
    )
) WITH (fillfactor = 80);

CREATE INDEX minutes_by_age ON anzoth.usage_rollup (bucket_start) WHERE width = '1m';

ALTER TABLE anzoth.tenants ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.tenants FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.projects ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.projects FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.service_accounts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.service_accounts FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.api_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limits ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limits FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.usage ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.usage FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_log ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_log FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_heads ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.audit_heads FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.journal_cursors ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.journal_cursors FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.usage_rollup ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.usage_rollup FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.model_aliases ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.model_aliases FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.gateways ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.gateways FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_shares ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_shares FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_counts FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.tenants TO anzoth_app
    USING (id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.projects TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.service_accounts TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.api_keys TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.limits TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.usage TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.audit_log TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.audit_heads TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.usage_rollup TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.model_aliases TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- Authentication does not know the tenant yet. It may read the key that the caller named by either
-- of its secrets, the tenant that this key belongs to and the limits that hold for it, and nothing
-- else.
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

-- A gateway that was away when a tenant was deleted or a key revoked must still learn of it. It sees
-- what has ended where it asks for it, and never inside another tenant's transaction.
CREATE POLICY ended ON anzoth.tenants FOR SELECT TO anzoth_app
    USING (deleted_at IS NOT NULL AND current_setting('app.ended', true) = 'on');
CREATE POLICY ended ON anzoth.api_keys FOR SELECT TO anzoth_app
    USING (revoked_at IS NOT NULL AND current_setting('app.ended', true) = 'on');

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

-- A journal holds rows of many tenants, and its cursor moves in one transaction with all of them.
-- That transaction names tenant after tenant, and each insert is held to the one it named.
CREATE POLICY own ON anzoth.journal_cursors TO anzoth_app
    USING (writer_id = nullif(current_setting('app.journal', true), '')::uuid)
    WITH CHECK (writer_id = nullif(current_setting('app.journal', true), '')::uuid);

-- Any gateway deletes outdated minutes, of all tenants, where it says so. None deletes anything else.
CREATE POLICY outdated ON anzoth.usage_rollup FOR SELECT TO anzoth_app
    USING (current_setting('app.outdated_usage', true) = 'on');
CREATE POLICY end_of_outdated ON anzoth.usage_rollup FOR DELETE TO anzoth_app
    USING (current_setting('app.outdated_usage', true) = 'on');
CREATE POLICY only_outdated ON anzoth.usage_rollup AS RESTRICTIVE FOR DELETE TO anzoth_app
    USING (width = '1m' AND bucket_start < now() - interval '1 day');

-- Gateways share the limits of all tenants, in transactions that see nothing else.
CREATE POLICY sharing ON anzoth.gateways TO anzoth_app
    USING (current_setting('app.sharing', true) = 'on')
    WITH CHECK (current_setting('app.sharing', true) = 'on');
CREATE POLICY sharing ON anzoth.limit_shares TO anzoth_app
    USING (current_setting('app.sharing', true) = 'on')
    WITH CHECK (current_setting('app.sharing', true) = 'on');
CREATE POLICY sharing ON anzoth.limit_counts TO anzoth_app
    USING (current_setting('app.sharing', true) = 'on')
    WITH CHECK (current_setting('app.sharing', true) = 'on');

-- The operator's commands see every tenant.
CREATE POLICY every_tenant ON anzoth.tenants TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.projects TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.service_accounts TO anzoth_operator
    USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.api_keys TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.limits TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.usage TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.audit_log TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.audit_heads TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.model_aliases TO anzoth_operator
    USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.journal_cursors TO anzoth_operator
    USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.usage_rollup TO anzoth_operator
    USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.gateways TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.limit_shares TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.limit_counts TO anzoth_operator USING (true) WITH CHECK (true);

GRANT USAGE ON SCHEMA anzoth TO anzoth_app, anzoth_operator;
GRANT SELECT ON anzoth.tenants, anzoth.projects, anzoth.api_keys, anzoth.usage TO anzoth_app, anzoth_operator;
-- Who manages a tenant over the API acts as the application: makes, changes, rotates and revokes its
-- keys, but gives none to another owner or project.
GRANT INSERT ON anzoth.api_keys TO anzoth_app;
GRANT UPDATE (last_used_at, last_used_ip, predecessor_uses, name, scopes, models, endpoints,
    networks, knowledge_bases, tools, expires_at, revoked_at, lets_finish, kid, digest, hash_alg,
    pepper_id, redacted, predecessor_kid, predecessor_digest, predecessor_hash_alg,
    predecessor_pepper_id, predecessor_expires_at, default_knowledge_bases) ON anzoth.api_keys
    TO anzoth_app;
GRANT UPDATE (name, archived_at) ON anzoth.projects TO anzoth_app;
GRANT SELECT ON anzoth.service_accounts TO anzoth_app, anzoth_operator;
GRANT INSERT (id, tenant_id, project_id, name) ON anzoth.service_accounts
    TO anzoth_app, anzoth_operator;
GRANT UPDATE (name, deleted_at) ON anzoth.service_accounts TO anzoth_app, anzoth_operator;
GRANT SELECT, INSERT, DELETE ON anzoth.limits TO anzoth_app, anzoth_operator;
GRANT INSERT ON anzoth.usage TO anzoth_app;
GRANT SELECT, INSERT, UPDATE ON anzoth.journal_cursors TO anzoth_app;
GRANT SELECT ON anzoth.journal_cursors TO anzoth_operator;
GRANT USAGE ON SEQUENCE anzoth.share_versions TO anzoth_app;
GRANT SELECT ON SEQUENCE anzoth.share_versions TO anzoth_operator; -- who makes backups
GRANT SELECT, INSERT, UPDATE, DELETE ON anzoth.gateways, anzoth.limit_shares, anzoth.limit_counts TO anzoth_app;
GRANT SELECT ON anzoth.gateways, anzoth.limit_shares, anzoth.limit_counts TO anzoth_operator;
GRANT SELECT, INSERT, DELETE ON anzoth.usage_rollup TO anzoth_app, anzoth_operator;
GRANT UPDATE (
    num_requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, input_cost,
    cached_input_cost, output_cost
) ON anzoth.usage_rollup TO anzoth_app, anzoth_operator;
GRANT INSERT, UPDATE ON anzoth.tenants, anzoth.projects, anzoth.api_keys TO anzoth_operator;
GRANT SELECT, INSERT ON anzoth.audit_log TO anzoth_app, anzoth_operator;
GRANT SELECT ON anzoth.audit_heads TO anzoth_app;
GRANT SELECT, INSERT ON anzoth.audit_heads TO anzoth_operator;
GRANT SELECT, INSERT, DELETE ON anzoth.model_aliases TO anzoth_app, anzoth_operator;
GRANT UPDATE (name, targets, system_prompt, defaults, forced, sticky, updated_at, knowledge_bases,
    tools) ON anzoth.model_aliases TO anzoth_app, anzoth_operator;

-- Gateways forget what they know about a key when it changes. Not when it is merely used.
CREATE FUNCTION anzoth.announce_key_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_keys', changed.kid)
    FROM unnest(ARRAY[NEW.kid, OLD.kid, NEW.predecessor_kid, OLD.predecessor_kid]) AS changed (kid)
    WHERE changed.kid IS NOT NULL;
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_new_key AFTER INSERT OR DELETE ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();
CREATE TRIGGER announce_changed_key
    AFTER UPDATE OF kid, name, digest, hash_alg, pepper_id, scopes, models, expires_at, revoked_at,
        endpoints, networks, knowledge_bases, tools, predecessor_kid, predecessor_expires_at
    ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();
CREATE TRIGGER announce_changed_shadow_rules AFTER UPDATE OF shadow_rules ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();
CREATE TRIGGER announce_changed_default_knowledge_bases
    AFTER UPDATE OF default_knowledge_bases ON anzoth.api_keys
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_key_change();

-- Gateways forget what they know of a tenant's aliases when one changes.
CREATE FUNCTION anzoth.announce_alias_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_aliases', coalesce(NEW.tenant_id, OLD.tenant_id)::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_alias_change AFTER INSERT OR UPDATE OR DELETE ON anzoth.model_aliases
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_alias_change();

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

-- Gateways end the requests of a deleted tenant and have its caches purged.
CREATE FUNCTION anzoth.announce_deleted_tenant() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_tenants', NEW.id::text);
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_deleted_tenant AFTER UPDATE OF deleted_at ON anzoth.tenants
    FOR EACH ROW EXECUTE FUNCTION anzoth.announce_deleted_tenant();

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

-- Accounts: people, what they are in which tenant, and how they prove who they are.

CREATE TABLE anzoth.users (
    id uuid PRIMARY KEY,
    email text NOT NULL UNIQUE CHECK (email <> ''),     -- normalised
    name text NOT NULL,
    password_hash text,                     -- argon2id; NULL: signs in through a provider only
    created_at timestamptz NOT NULL DEFAULT now(),
    email_verified_at timestamptz,          -- NULL: nobody vouched that the address is theirs
    last_sign_in_at timestamptz,
    disabled_at timestamptz,
    totp_secret bytea,                      -- sealed with a key that is not in the database
    totp_confirmed_at timestamptz,          -- NULL: enrolled, not in force
    totp_last_step bigint                   -- no code of this time step or before works again
);

ALTER TABLE anzoth.api_keys ADD FOREIGN KEY (user_id) REFERENCES anzoth.users (id);

CREATE TABLE anzoth.operators (
    user_id uuid PRIMARY KEY REFERENCES anzoth.users (id),
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE anzoth.memberships (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    user_id uuid NOT NULL REFERENCES anzoth.users (id),
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, user_id)
);

CREATE INDEX memberships_of_user ON anzoth.memberships (user_id);

CREATE TABLE anzoth.project_members (
    tenant_id uuid NOT NULL,
    project_id uuid NOT NULL,
    user_id uuid NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'member')),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, project_id, user_id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id),
    FOREIGN KEY (tenant_id, user_id) REFERENCES anzoth.memberships (tenant_id, user_id)
        ON DELETE CASCADE
);

-- Of every secret below only a keyed digest is kept.
CREATE TABLE anzoth.sessions (
    id uuid PRIMARY KEY,
    user_id uuid NOT NULL REFERENCES anzoth.users (id),
    digest bytea NOT NULL UNIQUE,
    tenant_id uuid REFERENCES anzoth.tenants (id),      -- the one that was chosen last
    awaits_second_factor boolean NOT NULL,
    method text NOT NULL,                   -- how the user signed in
    peer text NOT NULL,
    user_agent text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at timestamptz NOT NULL DEFAULT now(),    -- coarse
    expires_at timestamptz NOT NULL         -- whatever happens
);

CREATE INDEX sessions_of_user ON anzoth.sessions (user_id);

CREATE TABLE anzoth.recovery_codes (
    user_id uuid NOT NULL REFERENCES anzoth.users (id),
    digest bytea NOT NULL,
    PRIMARY KEY (user_id, digest)           -- a used one is deleted
);

CREATE TABLE anzoth.external_identities (
    issuer text NOT NULL,
    subject text NOT NULL,
    user_id uuid NOT NULL REFERENCES anzoth.users (id),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (issuer, subject)
);

CREATE TABLE anzoth.invitations (
    id uuid PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    email text NOT NULL,
    role text NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer')),
    projects jsonb NOT NULL,                -- [{"id", "role"}]
    digest bytea NOT NULL UNIQUE,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    accepted_at timestamptz
);

CREATE INDEX invitations_of_tenant ON anzoth.invitations (tenant_id, created_at);

CREATE TABLE anzoth.one_time_tokens (
    digest bytea PRIMARY KEY,
    purpose text NOT NULL CHECK (purpose IN ('bootstrap', 'password_reset')),
    user_id uuid REFERENCES anzoth.users (id),          -- NULL: makes one
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    used_at timestamptz
);

ALTER TABLE anzoth.users ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.users FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.operators ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.operators FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.memberships ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.memberships FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.project_members ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.project_members FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.sessions ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.sessions FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.recovery_codes ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.recovery_codes FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.external_identities ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.external_identities FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.invitations ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.invitations FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.one_time_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.one_time_tokens FORCE ROW LEVEL SECURITY;

-- A user is no tenant's row. Who is not yet known may read the one row that they name by an email
-- or prove by a secret or a provider's word; app.user is set from what was found there, and opens
-- what belongs to that user.
CREATE POLICY self ON anzoth.users TO anzoth_app
    USING (id = nullif(current_setting('app.user', true), '')::uuid)
    WITH CHECK (id = nullif(current_setting('app.user', true), '')::uuid);
CREATE POLICY self ON anzoth.memberships FOR SELECT TO anzoth_app
    USING (user_id = nullif(current_setting('app.user', true), '')::uuid);
CREATE POLICY self ON anzoth.sessions TO anzoth_app
    USING (user_id = nullif(current_setting('app.user', true), '')::uuid)
    WITH CHECK (user_id = nullif(current_setting('app.user', true), '')::uuid);
CREATE POLICY self ON anzoth.recovery_codes TO anzoth_app
    USING (user_id = nullif(current_setting('app.user', true), '')::uuid)
    WITH CHECK (user_id = nullif(current_setting('app.user', true), '')::uuid);
CREATE POLICY self ON anzoth.external_identities TO anzoth_app
    USING (user_id = nullif(current_setting('app.user', true), '')::uuid)
    WITH CHECK (user_id = nullif(current_setting('app.user', true), '')::uuid);

CREATE POLICY named ON anzoth.users FOR SELECT TO anzoth_app
    USING (email = nullif(current_setting('app.email', true), ''));
CREATE POLICY named ON anzoth.sessions FOR SELECT TO anzoth_app
    USING (digest = decode(nullif(current_setting('app.secret', true), ''), 'hex'));
CREATE POLICY named ON anzoth.invitations FOR SELECT TO anzoth_app
    USING (digest = decode(nullif(current_setting('app.secret', true), ''), 'hex'));
CREATE POLICY named ON anzoth.one_time_tokens TO anzoth_app
    USING (digest = decode(nullif(current_setting('app.secret', true), ''), 'hex'))
    WITH CHECK (digest = decode(nullif(current_setting('app.secret', true), ''), 'hex'));
CREATE POLICY named ON anzoth.external_identities FOR SELECT TO anzoth_app
    USING (issuer || ' ' || subject = nullif(current_setting('app.identity', true), ''));

-- The gateway makes an operator of nobody but the holder of a bootstrap token that still works.
CREATE POLICY self ON anzoth.operators TO anzoth_app
    USING (user_id = nullif(current_setting('app.user', true), '')::uuid)
    WITH CHECK (
        user_id = nullif(current_setting('app.user', true), '')::uuid
        AND EXISTS (
            SELECT FROM anzoth.one_time_tokens AS token
            WHERE token.digest = decode(nullif(current_setting('app.secret', true), ''), 'hex')
                AND token.purpose = 'bootstrap' AND token.used_at IS NULL
                AND token.expires_at > now()
        )
    );

CREATE POLICY own ON anzoth.memberships TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.project_members TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.invitations TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- A tenant sees its members; a user sees the tenants they belong to, an operator all of them.
CREATE POLICY member ON anzoth.users FOR SELECT TO anzoth_app
    USING (EXISTS (
        SELECT FROM anzoth.memberships AS m
        WHERE m.user_id = users.id
            AND m.tenant_id = nullif(current_setting('app.tenant', true), '')::uuid
    ));
CREATE POLICY of_user ON anzoth.tenants FOR SELECT TO anzoth_app
    USING (
        EXISTS (
            SELECT FROM anzoth.memberships AS m
            WHERE m.tenant_id = tenants.id
                AND m.user_id = nullif(current_setting('app.user', true), '')::uuid
        )
        OR EXISTS (
            SELECT FROM anzoth.operators AS o
            WHERE o.user_id = nullif(current_setting('app.user', true), '')::uuid
        )
    );

-- A provider's users join the tenant that the configuration names.
CREATE POLICY named ON anzoth.tenants FOR SELECT TO anzoth_app
    USING (name = nullif(current_setting('app.tenant_name', true), ''));

CREATE POLICY every_tenant ON anzoth.users TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.operators TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.memberships TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.project_members TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.sessions TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.recovery_codes TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.external_identities TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.invitations TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.one_time_tokens TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.users, anzoth.operators, anzoth.memberships, anzoth.project_members,
    anzoth.sessions, anzoth.recovery_codes, anzoth.external_identities, anzoth.invitations,
    anzoth.one_time_tokens TO anzoth_app, anzoth_operator;
GRANT INSERT (id, email, name, password_hash, email_verified_at) ON anzoth.users
    TO anzoth_app, anzoth_operator;
GRANT UPDATE (name, password_hash, email_verified_at, last_sign_in_at, totp_secret,
    totp_confirmed_at, totp_last_step) ON anzoth.users TO anzoth_app, anzoth_operator;
GRANT UPDATE (disabled_at) ON anzoth.users TO anzoth_operator;
GRANT INSERT (user_id) ON anzoth.operators TO anzoth_app, anzoth_operator;
GRANT DELETE ON anzoth.operators TO anzoth_operator;
GRANT INSERT, DELETE ON anzoth.memberships, anzoth.project_members, anzoth.sessions,
    anzoth.recovery_codes, anzoth.external_identities, anzoth.invitations
    TO anzoth_app, anzoth_operator;
GRANT UPDATE (role) ON anzoth.memberships, anzoth.project_members TO anzoth_app, anzoth_operator;
GRANT UPDATE (digest, tenant_id, last_seen_at) ON anzoth.sessions TO anzoth_app;
GRANT UPDATE (accepted_at) ON anzoth.invitations TO anzoth_app, anzoth_operator;
GRANT UPDATE (used_at) ON anzoth.one_time_tokens TO anzoth_app, anzoth_operator;
GRANT INSERT, DELETE ON anzoth.one_time_tokens TO anzoth_operator;

-- Open sign-up makes the new user a tenant of their own.
GRANT INSERT (id, name) ON anzoth.tenants TO anzoth_app;
GRANT INSERT (id, tenant_id, name, is_default) ON anzoth.projects TO anzoth_app;

-- Adds new rows to the roll-ups. Only rows that were really inserted are in the transition table, so
-- repeating an insertion adds nothing. Cells are locked in one order: transactions that insert with
-- one statement (or with several in the order of tenants) never wait for each other in a circle.
CREATE FUNCTION anzoth.roll_up_usage() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO anzoth.usage_rollup AS r (
        tenant_id, width, bucket_start, key_id, project_id, user_id, endpoint, model, service_tier, batch,
        num_requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens,
        input_cost, cached_input_cost, output_cost
    )
    SELECT u.tenant_id, w.width, date_bin(w.step, u.started_at, 'epoch'), u.key_id, u.project_id,
        u.user_id, u.endpoint,
        CASE WHEN u.prompt_tokens + u.completion_tokens > 0 THEN u.model END,
        u.service_tier, u.batch,
        count(*), sum(u.prompt_tokens), sum(u.cached_tokens), sum(u.completion_tokens),
        sum(u.reasoning_tokens), sum(u.input_cost), sum(u.cached_input_cost), sum(u.output_cost)
    FROM inserted AS u
    CROSS JOIN (VALUES
        ('1m', interval '1 minute'), ('1h', interval '1 hour'), ('1d', interval '1 day')
    ) AS w (width, step)
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ORDER BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
    ON CONFLICT ON CONSTRAINT one_cell DO UPDATE SET
        num_requests = r.num_requests + excluded.num_requests,
        prompt_tokens = r.prompt_tokens + excluded.prompt_tokens,
        cached_tokens = r.cached_tokens + excluded.cached_tokens,
        completion_tokens = r.completion_tokens + excluded.completion_tokens,
        reasoning_tokens = r.reasoning_tokens + excluded.reasoning_tokens,
        input_cost = r.input_cost + excluded.input_cost,
        cached_input_cost = r.cached_input_cost + excluded.cached_input_cost,
        output_cost = r.output_cost + excluded.output_cost;
    RETURN NULL;
END
$$;

CREATE TRIGGER roll_up_usage AFTER INSERT ON anzoth.usage
    REFERENCING NEW TABLE AS inserted
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.roll_up_usage();

-- The key that a tenant's documents are encrypted with, itself encrypted with the installation's master
-- key. Made when it is first needed. Deleting the row makes everything unreadable that it encrypted, but
-- for whoever has an older backup and the master key.
CREATE TABLE anzoth.tenant_keys (
    tenant_id uuid PRIMARY KEY REFERENCES anzoth.tenants (id),
    wrapped bytea NOT NULL,                 -- nonce, AES-256-GCM(the data key), tag
    master_key_id text NOT NULL,            -- which master key it is wrapped with
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Files. A row is there while a file still comes in: nobody sees it until `received_at`.
CREATE TABLE anzoth.files (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    purpose text,                           -- NULL: not known yet
    filename bytea,                         -- encrypted
    layout bytea,                           -- encrypted: its parts, in order, and their sizes
    bytes bigint NOT NULL DEFAULT 0,        -- what is stored; 0 when a deleted one is emptied
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,                 -- of one that still comes in: when that is given up
    received_at timestamptz,                -- NULL: it still comes in
    deleted_at timestamptz,                 -- nobody sees it; its pieces go soon, the row later
    PRIMARY KEY (tenant_id, id),
    FOREIGN KEY (tenant_id, project_id) REFERENCES anzoth.projects (tenant_id, id),
    CONSTRAINT whole_when_received CHECK (
        received_at IS NULL OR deleted_at IS NOT NULL OR num_nulls(purpose, filename, layout) = 0
    ),
    CONSTRAINT unfinished_files_end CHECK (received_at IS NOT NULL OR expires_at IS NOT NULL)
);

CREATE INDEX files_of_project ON anzoth.files (tenant_id, project_id, created_at, id);
CREATE INDEX files_by_expiry ON anzoth.files (expires_at)
    WHERE deleted_at IS NULL AND expires_at IS NOT NULL;
CREATE INDEX deleted_files ON anzoth.files (deleted_at) WHERE deleted_at IS NOT NULL;

-- The contents of files in encrypted pieces of 1 MiB. A file that was sent at once is the part 0; else
-- `layout` says which parts follow each other.
CREATE TABLE anzoth.file_parts (
    tenant_id uuid NOT NULL,
    file_id text NOT NULL,
    part integer NOT NULL,
    piece integer NOT NULL,                 -- from 0 in each part
    content bytea NOT NULL,                 -- encrypted
    PRIMARY KEY (tenant_id, file_id, part, piece),
    FOREIGN KEY (tenant_id, file_id) REFERENCES anzoth.files (tenant_id, id)
);

-- Compressing what is encrypted only takes time.
ALTER TABLE anzoth.file_parts ALTER COLUMN content SET STORAGE EXTERNAL;

-- Files that come in parts. The row in anzoth.files is there from the beginning, unseen.
CREATE TABLE anzoth.uploads (
    tenant_id uuid NOT NULL,
    id text NOT NULL,
    file_id text NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    file_expires_after_s integer,           -- from its completion
    status text NOT NULL DEFAULT 'pending'
        CHECK (status IN ('pending', 'completed', 'cancelled')),
    num_parts integer NOT NULL DEFAULT 0,   -- that were begun: the number of the next
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, file_id),
    FOREIGN KEY (tenant_id, file_id) REFERENCES anzoth.files (tenant_id, id) ON DELETE CASCADE
);

-- Parts that have come in whole.
CREATE TABLE anzoth.upload_parts (
    tenant_id uuid NOT NULL,
    id text NOT NULL,
    upload_id text NOT NULL,
    part integer NOT NULL,
    bytes bigint NOT NULL CHECK (bytes > 0),
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id),
    UNIQUE (tenant_id, upload_id, part),
    FOREIGN KEY (tenant_id, upload_id) REFERENCES anzoth.uploads (tenant_id, id) ON DELETE CASCADE
);

-- How much of a tenant is stored, also of what still comes in. Kept by a trigger.
CREATE TABLE anzoth.file_sums (
    tenant_id uuid PRIMARY KEY REFERENCES anzoth.tenants (id),
    num_bytes bigint NOT NULL,
    num_files bigint NOT NULL
);

ALTER TABLE anzoth.tenant_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.tenant_keys FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.files ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.files FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_parts FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.uploads ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.uploads FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.upload_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.upload_parts FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_sums ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.file_sums FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.tenant_keys TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.files TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.file_parts TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.uploads TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.upload_parts TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY own ON anzoth.file_sums TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- Any gateway deletes what is outdated: it sees what that is, of all tenants, where it says so, and
-- deletes it as the tenant.
CREATE POLICY outdated ON anzoth.files FOR SELECT TO anzoth_app
    USING (
        current_setting('app.outdated_files', true) = 'on'
        AND (deleted_at IS NOT NULL OR expires_at <= now())
    );

CREATE POLICY every_tenant ON anzoth.tenant_keys TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.files TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.file_parts TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.uploads TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.upload_parts TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.file_sums TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.tenant_keys, anzoth.files, anzoth.file_parts, anzoth.uploads,
    anzoth.upload_parts, anzoth.file_sums TO anzoth_app, anzoth_operator;
GRANT INSERT ON anzoth.tenant_keys TO anzoth_app;
GRANT DELETE ON anzoth.tenant_keys TO anzoth_operator;
GRANT INSERT, DELETE ON anzoth.files, anzoth.file_parts, anzoth.uploads, anzoth.upload_parts
    TO anzoth_app;
GRANT UPDATE (purpose, filename, layout, bytes, created_at, expires_at, received_at, deleted_at)
    ON anzoth.files TO anzoth_app;
GRANT UPDATE (status, num_parts) ON anzoth.uploads TO anzoth_app;
GRANT UPDATE (filename, layout, deleted_at) ON anzoth.files TO anzoth_operator;
GRANT INSERT, UPDATE (num_bytes, num_files) ON anzoth.file_sums TO anzoth_app, anzoth_operator;

-- What a tenant has stored, whoever stores or deletes. The row is locked until the transaction ends,
-- so that a quota holds between transactions at the same time, too.
CREATE FUNCTION anzoth.sum_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP <> 'INSERT' THEN
        INSERT INTO anzoth.file_sums AS s (tenant_id, num_bytes, num_files)
        SELECT f.tenant_id, -sum(f.bytes), -count(*) FROM before AS f
        WHERE f.deleted_at IS NULL GROUP BY f.tenant_id ORDER BY f.tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET
            num_bytes = s.num_bytes + excluded.num_bytes,
            num_files = s.num_files + excluded.num_files;
    END IF;
    IF TG_OP <> 'DELETE' THEN
        INSERT INTO anzoth.file_sums AS s (tenant_id, num_bytes, num_files)
        SELECT f.tenant_id, sum(f.bytes), count(*) FROM after AS f
        WHERE f.deleted_at IS NULL GROUP BY f.tenant_id ORDER BY f.tenant_id
        ON CONFLICT (tenant_id) DO UPDATE SET
            num_bytes = s.num_bytes + excluded.num_bytes,
            num_files = s.num_files + excluded.num_files;
    END IF;
    RETURN NULL;
END
$$;

CREATE TRIGGER sum_inserted AFTER INSERT ON anzoth.files
    REFERENCING NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_files();
CREATE TRIGGER sum_updated AFTER UPDATE ON anzoth.files
    REFERENCING OLD TABLE AS before NEW TABLE AS after
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_files();
CREATE TRIGGER sum_deleted AFTER DELETE ON anzoth.files
    REFERENCING OLD TABLE AS before
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.sum_files();

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
    vector_space text,                      -- its model's; only vectors of the same can be compared.
                                            -- NULL: made before it was written down; any model's
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

-- A file that was searched in a store and is not any more, each time; kept for some days: what
-- engines computed from its text must be forgotten.
CREATE TABLE anzoth.gone_files (
    number bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    file_id text NOT NULL,
    gone_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX gone_files_by_time ON anzoth.gone_files (gone_at);

ALTER TABLE anzoth.gone_files ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.gone_files FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.gone_files TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.gone_files TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY gone ON anzoth.gone_files FOR SELECT TO anzoth_app
    USING (current_setting('app.outdated_stores', true) = 'on');
CREATE POLICY end_of_gone ON anzoth.gone_files FOR DELETE TO anzoth_app
    USING (current_setting('app.outdated_stores', true) = 'on');
CREATE POLICY only_old ON anzoth.gone_files AS RESTRICTIVE FOR DELETE TO anzoth_app
    USING (gone_at < now() - interval '1 day');

GRANT SELECT, INSERT ON anzoth.gone_files TO anzoth_app, anzoth_operator;
GRANT DELETE ON anzoth.gone_files TO anzoth_app;
GRANT SELECT ON SEQUENCE anzoth.gone_files_number_seq TO anzoth_operator; -- who makes backups

-- A file that leaves a store, whoever takes it out. (Stores end as a whole: see delete_store and
-- store_is_empty. Tenants do, too, and what engines have of them is forgotten by tenant.)
CREATE FUNCTION anzoth.note_gone_file() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO anzoth.gone_files (tenant_id, file_id) VALUES (new.tenant_id, new.file_id);
    RETURN NULL;
END
$$;

CREATE TRIGGER note_gone_file AFTER UPDATE OF deleted_at ON anzoth.vector_store_files
    FOR EACH ROW
    WHEN (old.deleted_at IS NULL AND new.deleted_at IS NOT NULL AND old.changed_seq > 0)
    EXECUTE FUNCTION anzoth.note_gone_file();

-- Gateways have their engines forget them.
CREATE FUNCTION anzoth.announce_gone_files() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('anzoth_gone_files', '');
    RETURN NULL;
END
$$;

CREATE TRIGGER announce_gone_files AFTER INSERT ON anzoth.gone_files
    FOR EACH STATEMENT EXECUTE FUNCTION anzoth.announce_gone_files();

-- Responses that are kept, so that a conversation can go on from one.

CREATE TABLE anzoth.responses (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,
    project_id uuid NOT NULL,
    content bytea NOT NULL,                 -- sealed with the tenant's key
    bytes bigint NOT NULL,                  -- of the content, as it is stored
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz NOT NULL,
    running_until timestamptz,              -- null: it has ended; past: whoever made it is gone
    is_begun boolean NOT NULL DEFAULT false,        -- a model has said something
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
GRANT UPDATE (running_until, is_begun) ON anzoth.responses TO anzoth_app;
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

-- Requests for approval of which the answer was used: it makes one call.

CREATE TABLE anzoth.used_approvals (
    tenant_id uuid NOT NULL REFERENCES anzoth.tenants (id),
    id text NOT NULL,                       -- of the request for approval
    used_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (tenant_id, id)
);

CREATE INDEX used_approvals_by_age ON anzoth.used_approvals (used_at);

ALTER TABLE anzoth.used_approvals ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.used_approvals FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.used_approvals TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);

-- As of responses. Never earlier, also where no response is kept: clients keep conversations too.
CREATE POLICY outdated ON anzoth.used_approvals FOR SELECT TO anzoth_app
    USING (
        current_setting('app.outdated_responses', true) = 'on'
        AND used_at <= now() - interval '30 days'
    );

CREATE POLICY every_tenant ON anzoth.used_approvals TO anzoth_operator USING (true) WITH CHECK (true);

GRANT SELECT ON anzoth.used_approvals TO anzoth_app, anzoth_operator;
GRANT INSERT, DELETE ON anzoth.used_approvals TO anzoth_app;
