-- Responses that are made while nobody waits: which gateway's claim on one has not passed.

ALTER TABLE anzoth.responses
    ADD COLUMN running_until timestamptz,   -- null: it has ended; past: whoever made it is gone
    ADD COLUMN is_begun boolean NOT NULL DEFAULT false;     -- a model has said something

GRANT UPDATE (running_until, is_begun) ON anzoth.responses TO anzoth_app;
