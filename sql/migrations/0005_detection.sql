-- Detection from the log of webhooks: what each row says in canonical words, and money that no payment row speaks of.

-- What one row of the application's log says, read once, and again where the row changed.
CREATE TABLE paidwatch.reading (
    log_id text PRIMARY KEY,
    -- In small letters, as everywhere where methods are compared.
    method text NOT NULL,
    -- The provider's id of the payment; where it gives none, the order's id, or the row itself ('#' and its key).
    reference text,
    order_id text,
    status text NOT NULL,
    -- The provider's own word.
    said text NOT NULL DEFAULT '',
    valid boolean,
    failed boolean NOT NULL DEFAULT false,
    handled boolean NOT NULL DEFAULT false,
    error text,
    user_id paidwatch.user_key,
    plan_id text,
    amount numeric,
    currency text,
    repeated boolean NOT NULL DEFAULT false,
    problem text NOT NULL DEFAULT '',
    -- When the row came, by the trigger's clock; of rows that no trigger saw, by the row's own.
    at timestamptz NOT NULL,
    read_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX reading_reference ON paidwatch.reading (reference, at) WHERE reference IS NOT NULL;
CREATE INDEX reading_order ON paidwatch.reading (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX reading_method ON paidwatch.reading (method, at);
CREATE INDEX reading_user ON paidwatch.reading (user_id, at) WHERE user_id IS NOT NULL;
CREATE INDEX reading_at ON paidwatch.reading (at);

-- Further ids by which a row names the payment, beside the reference, the order's among them; the application may keep any of them.
CREATE TABLE paidwatch.reading_name (
    log_id text NOT NULL REFERENCES paidwatch.reading ON DELETE CASCADE,
    name text NOT NULL,
    PRIMARY KEY (log_id, name)
);
CREATE INDEX reading_name_name ON paidwatch.reading_name (name);

-- Rows of the log that are to be read: noted by a trigger, or found where none told of them.
CREATE TABLE paidwatch.unread (
    log_id text PRIMARY KEY,
    noted_at timestamptz NOT NULL,
    -- From before the first look at the log: told in one digest.
    history boolean NOT NULL DEFAULT false
);

-- One story of money per provider's reference, for what the payments themselves do not tell. Three references are none and
-- stand for a story of the method as a whole: '' bad signatures, '?' failures that name no payment, '!' silence.
CREATE TABLE paidwatch.claim (
    method text NOT NULL,
    reference text NOT NULL,
    state text NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'gap', 'closed')),
    kind text,
    outcome text,
    user_id paidwatch.user_key,
    due_at timestamptz,
    opened_at timestamptz NOT NULL DEFAULT now(),
    grace_until timestamptz NOT NULL,
    closed_at timestamptz,
    history boolean NOT NULL DEFAULT false,
    failures integer NOT NULL DEFAULT 0,
    PRIMARY KEY (method, reference)
);
CREATE INDEX claim_due ON paidwatch.claim (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX claim_closed ON paidwatch.claim (closed_at) WHERE state = 'closed';
CREATE INDEX claim_gap ON paidwatch.claim (reference) WHERE state = 'gap';
CREATE INDEX claim_gap_user ON paidwatch.claim (user_id) WHERE state = 'gap';
CREATE INDEX claim_history ON paidwatch.claim (method, reference) WHERE history AND state = 'waiting';

-- What an alert about a webhook is about: the provider's reference.
ALTER TABLE paidwatch.alert ADD COLUMN reference text;
CREATE UNIQUE INDEX alert_reference ON paidwatch.alert (method, reference) WHERE state <> 'resolved' AND reference IS NOT NULL;

-- When the log was first looked at: what was in it before is history.
ALTER TABLE paidwatch.installation ADD COLUMN log_read_at timestamptz;

-- What providers said about single payments when they were asked, and what they are to be asked. One row per reference of a method.
CREATE TABLE paidwatch.answer (
    -- In small letters.
    method text NOT NULL,
    reference text NOT NULL,
    -- The [providers.NAME] that has the method.
    provider text NOT NULL,
    -- Whose gap made us ask; NULL: no payment's.
    payment_id paidwatch.payment_key,
    wanted_at timestamptz NOT NULL DEFAULT now(),
    -- When to ask next; NULL: there is nothing to ask.
    ask_at timestamptz,
    tries integer NOT NULL DEFAULT 0,
    asked_at timestamptz,
    -- Why there was no answer the last time, in constant words; '' where there was one.
    problem text NOT NULL DEFAULT '',
    -- The provider wants no question before this, about any payment.
    not_before timestamptz,
    -- The last answer there was.
    status text,
    said text NOT NULL DEFAULT '',
    amount numeric,
    currency text,
    answered_at timestamptz,
    PRIMARY KEY (method, reference)
);
CREATE INDEX answer_due ON paidwatch.answer (provider, ask_at) WHERE ask_at IS NOT NULL;
CREATE INDEX answer_pause ON paidwatch.answer (provider, not_before) WHERE not_before IS NOT NULL;
CREATE INDEX answer_wanted ON paidwatch.answer (wanted_at);
