-- Shares of limits: what gateways tell each other. Each exchange is one transaction under one lock.

-- name: lock_shares
-- Held to the end of the transaction; then nextval gives versions in the order of the exchanges.
SELECT pg_advisory_xact_lock($1);

-- name: next_share_version
-- And whose turn it is, of gateways that cannot all be served: $1 seconds each.
SELECT nextval('anzoth.share_versions') AS version, floor(extract(epoch FROM now()) / $1)::bigint AS turn;

-- name: list_gateways
SELECT id, beat, share, version, joined FROM anzoth.gateways;

-- name: find_shares
-- What changed after version $1, the rules named by $2 and $3, and those that some of $4 hold.
SELECT subject, model, version, credit, holders, shares, needs, leasts
FROM anzoth.limit_shares AS s
WHERE version > $1 OR holders && $4::uuid[] OR EXISTS (
    SELECT FROM unnest($2::uuid[], $3::text[]) AS named (subject, model)
    WHERE named.subject = s.subject AND named.model IS NOT DISTINCT FROM s.model
);

-- name: write_gateway
-- Rules without holders go when every gateway has seen that they have none.
WITH gone AS (
    DELETE FROM anzoth.limit_shares
    WHERE holders = '{}' AND version <= (SELECT min(version) FROM anzoth.gateways)
)
INSERT INTO anzoth.gateways (id, beat, share, version, joined) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (id) DO UPDATE SET beat = excluded.beat, share = excluded.share,
    version = excluded.version, joined = excluded.joined, seen_at = now();

-- name: find_counts
-- That changed after version $1.
SELECT subject, model, quota, gateway, began, begin_ns, used FROM anzoth.limit_counts WHERE version > $1;

-- name: write_counts
INSERT INTO anzoth.limit_counts (subject, model, quota, gateway, began, begin_ns, used, version)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT one_count DO UPDATE SET began = excluded.began,
    begin_ns = excluded.begin_ns, used = excluded.used, version = excluded.version;

-- name: delete_gateways
WITH counts AS (DELETE FROM anzoth.limit_counts WHERE gateway = ANY ($1::uuid[]))
DELETE FROM anzoth.gateways WHERE id = ANY ($1::uuid[]);

-- name: write_shares
INSERT INTO anzoth.limit_shares (
    subject, model, version, credit, holders, shares, needs, leasts
)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT ON CONSTRAINT one_rule DO UPDATE SET version = excluded.version,
    credit = excluded.credit, holders = excluded.holders, shares = excluded.shares,
    needs = excluded.needs, leasts = excluded.leasts;

-- name: announce_shares
-- Others should look soon. $1: who says so.
SELECT pg_notify('anzoth_shares', $1);
