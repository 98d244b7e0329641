-- What OpenAI's usage and cost pages tell apart, prices and costs, and the sums from which these
-- pages are answered. `pre`: rows of the version before have the defaults, and are added up too.

ALTER TABLE anzoth.usage
    ADD COLUMN reasoning_tokens bigint NOT NULL DEFAULT 0,
    ADD COLUMN service_tier text,
    ADD COLUMN user_id uuid,
    ADD COLUMN batch boolean NOT NULL DEFAULT false,
    ADD COLUMN input_price bigint,
    ADD COLUMN cached_input_price bigint,
    ADD COLUMN output_price bigint,
    ADD COLUMN input_cost bigint NOT NULL DEFAULT 0,
    ADD COLUMN cached_input_cost bigint NOT NULL DEFAULT 0,
    ADD COLUMN output_cost bigint NOT NULL DEFAULT 0;

CREATE TABLE anzoth.usage_rollup (
    tenant_id uuid NOT NULL,
    width text NOT NULL CHECK (width IN ('1m', '1h', '1d')),
    bucket_start timestamptz NOT NULL,
    key_id uuid NOT NULL,
    project_id uuid NOT NULL,
    user_id uuid,
    endpoint text NOT NULL,
    model text,
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

ALTER TABLE anzoth.usage_rollup ENABLE ROW LEVEL SECURITY;
ALTER TABLE anzoth.usage_rollup FORCE ROW LEVEL SECURITY;

CREATE POLICY own ON anzoth.usage_rollup TO anzoth_app
    USING (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid)
    WITH CHECK (tenant_id = nullif(current_setting('app.tenant', true), '')::uuid);
CREATE POLICY every_tenant ON anzoth.usage_rollup TO anzoth_operator
    USING (true) WITH CHECK (true);

CREATE POLICY outdated ON anzoth.usage_rollup FOR SELECT TO anzoth_app
    USING (current_setting('app.outdated_usage', true) = 'on');
CREATE POLICY end_of_outdated ON anzoth.usage_rollup FOR DELETE TO anzoth_app
    USING (current_setting('app.outdated_usage', true) = 'on');
CREATE POLICY only_outdated ON anzoth.usage_rollup AS RESTRICTIVE FOR DELETE TO anzoth_app
    USING (width = '1m' AND bucket_start < now() - interval '1 day');

GRANT SELECT, INSERT, DELETE ON anzoth.usage_rollup TO anzoth_app;
GRANT UPDATE (
    num_requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, input_cost,
    cached_input_cost, output_cost
) ON anzoth.usage_rollup TO anzoth_app;
GRANT SELECT, INSERT ON anzoth.usage_rollup TO anzoth_operator;

SET LOCAL ROLE anzoth_operator;
INSERT INTO anzoth.usage_rollup
    SELECT u.tenant_id, w.width, date_bin(w.step, u.started_at, 'epoch'), u.key_id, u.project_id,
        NULL, u.endpoint, CASE WHEN u.prompt_tokens + u.completion_tokens > 0 THEN u.model END, NULL,
        false, count(*), sum(u.prompt_tokens), sum(u.cached_tokens), sum(u.completion_tokens),
        0, 0, 0, 0
    FROM anzoth.usage AS u
    CROSS JOIN (VALUES
        ('1m', interval '1 minute'), ('1h', interval '1 hour'), ('1d', interval '1 day')
    ) AS w (width, step)
    GROUP BY 1, 2, 3, 4, 5, 7, 8;
RESET ROLE;
REVOKE INSERT ON anzoth.usage_rollup FROM anzoth_operator;

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
