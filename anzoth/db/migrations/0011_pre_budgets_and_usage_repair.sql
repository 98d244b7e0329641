-- How much may be spent. `pre`: the version before does not read these columns.

ALTER TABLE anzoth.limits
    ADD COLUMN budget_per_day bigint CHECK (budget_per_day > 0),
    ADD COLUMN budget_per_month bigint CHECK (budget_per_month > 0);

-- The operator may mend the sums of the ledger, which are made of its rows; never the rows.
GRANT INSERT, DELETE ON anzoth.usage_rollup TO anzoth_operator;
GRANT UPDATE (
    num_requests, prompt_tokens, cached_tokens, completion_tokens, reasoning_tokens, input_cost,
    cached_input_cost, output_cost
) ON anzoth.usage_rollup TO anzoth_operator;
