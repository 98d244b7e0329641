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
