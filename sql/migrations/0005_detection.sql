-- Detection from the log of webhooks: what each row says in canonical words, and money that no payment row speaks of.

-- What one row of the application's log says, read once.
CREATE TABLE paidwatch.reading (
    log_id text PRIMARY KEY,
    method text,
    reference text,
    status text NOT NULL,
    valid boolean,
    failed boolean NOT NULL DEFAULT false,
    error text,
    user_id paidwatch.user_key,
    plan_id text,
    amount numeric,
    currency text,
    repeated boolean NOT NULL DEFAULT false,
    at timestamptz NOT NULL,
    read_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reading_reference ON paidwatch.reading (reference, at) WHERE reference IS NOT NULL;
CREATE INDEX reading_at ON paidwatch.reading (at);

-- Rows of the log that were noted by a trigger and not read yet.
CREATE TABLE paidwatch.unread (
    log_id text PRIMARY KEY,
    noted_at timestamptz NOT NULL
);

-- One story of money per provider's reference, for what the payments themselves do not tell.
CREATE TABLE paidwatch.claim (
    method text NOT NULL,
    reference text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'gap', 'closed')),
    kind text,
    outcome text,
    due_at timestamptz,
    opened_at timestamptz NOT NULL DEFAULT now(),
    grace_until timestamptz NOT NULL,
    closed_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    PRIMARY KEY (method, reference)
);
CREATE INDEX claim_due ON paidwatch.claim (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX claim_closed ON paidwatch.claim (closed_at) WHERE state = 'closed';

-- What an alert about a webhook is about: the provider's reference.
ALTER TABLE paidwatch.alert ADD COLUMN reference text;
CREATE UNIQUE INDEX alert_reference ON paidwatch.alert (method, reference) WHERE state <> 'resolved' AND reference IS NOT NULL;
CREATE UNIQUE INDEX alert_silent ON paidwatch.alert (method) WHERE kind = 'provider_silent' AND state <> 'resolved';
