-- How much may be spent. `pre`: the version before does not read these columns.

ALTER TABLE anzoth.limits
    ADD COLUMN budget_per_day bigint CHECK (budget_per_day > 0),
    ADD COLUMN budget_per_month bigint CHECK (budget_per_month > 0);
