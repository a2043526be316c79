-- Webhooks as they came, and passing them on to the application.

-- One row per webhook that was received here: the body byte for byte, before anything was made of it.
CREATE TABLE paidwatch.webhook (
    webhook_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    provider text NOT NULL,
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    body bytea NOT NULL,
    -- [[name, value], …] in the order in which they came, without any that is not on the list of those that are kept.
    headers jsonb NOT NULL DEFAULT '[]',
    -- received: nothing was made of it yet; rejected: not believed; duplicate: the same as an earlier one that was believed.
    state text NOT NULL DEFAULT 'received' CHECK (state IN ('received', 'verified', 'rejected', 'duplicate')),
    signature text,
    problem text,
    dedupe_key text,
    -- Not a foreign key: rows are removed in batches, and each removal would look for those that point at it.
    duplicate_of bigint,
    reference text,
    status text,
    -- The row that says so in the application's log; unlogged: that row is not there, or does not say yet what this one says.
    log_id text,
    unlogged boolean NOT NULL DEFAULT false,
    forward_state text NOT NULL DEFAULT 'none' CHECK (forward_state IN ('none', 'due', 'done', 'dead')),
    forward_at timestamptz,
    forward_attempts integer NOT NULL DEFAULT 0,
    -- Since when it is tried; a person who replays it gives it all its time anew.
    forward_since timestamptz,
    forwarded_at timestamptz,
    lease text,
    lease_until timestamptz,
    last_code text,
    last_error text,
    replayed_by text
);
CREATE UNIQUE INDEX webhook_once ON paidwatch.webhook (provider, dedupe_key) WHERE state = 'verified';
CREATE INDEX webhook_unread ON paidwatch.webhook (received_at) WHERE state = 'received';
CREATE INDEX webhook_unlogged ON paidwatch.webhook (webhook_id) WHERE unlogged;
CREATE INDEX webhook_forward ON paidwatch.webhook (provider, forward_at) WHERE forward_state = 'due';
CREATE INDEX webhook_dead ON paidwatch.webhook (provider) WHERE forward_state = 'dead';
CREATE INDEX webhook_dead_log ON paidwatch.webhook (log_id) WHERE forward_state = 'dead';
-- One expression for a payment, so that no other index fits as well.
CREATE INDEX webhook_order ON paidwatch.webhook ((provider || ' ' || reference), webhook_id) WHERE forward_state = 'due';
CREATE INDEX webhook_reference ON paidwatch.webhook (reference) WHERE reference IS NOT NULL;
CREATE INDEX webhook_at ON paidwatch.webhook (received_at);

-- Every request by which a webhook was passed on.
CREATE TABLE paidwatch.forward_attempt (
    attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    webhook_id bigint NOT NULL REFERENCES paidwatch.webhook ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    took interval NOT NULL,
    result text NOT NULL CHECK (result IN ('passed', 'transient', 'refused')),
    code text NOT NULL DEFAULT '',
    error text
);
CREATE INDEX forward_attempt_webhook ON paidwatch.forward_attempt (webhook_id);

-- What is known over restarts of the application's handler behind one provider: since when it takes nothing, and when to ask it next.
CREATE TABLE paidwatch.forward_target (
    provider text PRIMARY KEY,
    failures integer NOT NULL DEFAULT 0,
    not_before timestamptz,
    down_since timestamptz,
    down_reason text
);

-- One story per provider whose webhooks the application does not take.
CREATE UNIQUE INDEX alert_forward ON paidwatch.alert (method) WHERE kind = 'forward_failed' AND state <> 'resolved';
