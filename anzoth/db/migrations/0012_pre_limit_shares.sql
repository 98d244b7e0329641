-- Which gateways there are, and which share of which limit each of them may use.

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

ALTER TABLE anzoth.gateways ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.gateways FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_shares ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_shares FORCE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_counts ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.limit_counts FORCE ROW LEVEL SECURITY;

CREATE POLICY sharing ON anzoth.gateways TO anzoth_app
    USING (current_setting('app.sharing', true) = 'on')
    WITH CHECK (current_setting('app.sharing', true) = 'on');
CREATE POLICY sharing ON anzoth.limit_shares TO anzoth_app
    USING (current_setting('app.sharing', true) = 'on')
    WITH CHECK (current_setting('app.sharing', true) = 'on');
CREATE POLICY sharing ON anzoth.limit_counts TO anzoth_app
    USING (current_setting('app.sharing', true) = 'on')
    WITH CHECK (current_setting('app.sharing', true) = 'on');
CREATE POLICY every_tenant ON anzoth.gateways TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.limit_shares TO anzoth_operator USING (true) WITH CHECK (true);
CREATE POLICY every_tenant ON anzoth.limit_counts TO anzoth_operator USING (true) WITH CHECK (true);

GRANT USAGE ON SEQUENCE anzoth.share_versions TO anzoth_app;
GRANT SELECT ON SEQUENCE anzoth.share_versions TO anzoth_operator; -- who makes backups
GRANT SELECT, INSERT, UPDATE, DELETE ON anzoth.gateways, anzoth.limit_shares, anzoth.limit_counts TO anzoth_app;
GRANT SELECT ON anzoth.gateways, anzoth.limit_shares, anzoth.limit_counts TO anzoth_operator;
