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
