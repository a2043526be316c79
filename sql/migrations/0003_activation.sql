-- Activation: the strategy http, signed links, the breaker, undo, and what became of shadow activations.

ALTER TABLE paidwatch.activation
    DROP CONSTRAINT activation_state_check,
    -- calling: the application was asked over HTTP, and whether it did it is not known yet. undone: a person took it back.
    ADD CONSTRAINT activation_state_check CHECK (state IN ('claimed', 'calling', 'done', 'refused', 'failed', 'shadow', 'undone')),
    -- What is to be written, computed once: every retry writes the same.
    ADD COLUMN planned jsonb,
    -- The guards that a person overrode, by name.
    ADD COLUMN forced text[] NOT NULL DEFAULT '{}',
    ADD COLUMN calls integer NOT NULL DEFAULT 0,
    ADD COLUMN called_at timestamptz,
    -- It is not asked again before this.
    ADD COLUMN again_at timestamptz,
    -- What the application last answered: a status code, or why there is none.
    ADD COLUMN answer text,
    ADD COLUMN undone_at timestamptz,
    ADD COLUMN undone_by text,
    ADD COLUMN undone_why text,
    -- Of a shadow activation: what happened to the payment afterwards, and whether that was what it would have written.
    ADD COLUMN compared_at timestamptz,
    ADD COLUMN was_right boolean,
    ADD COLUMN comparison text,
    -- When to see whether the application activated the payment as well, and the event by which it did.
    ADD COLUMN look_at timestamptz,
    ADD COLUMN doubled_at timestamptz,
    ADD COLUMN doubled_by text;
DROP INDEX paidwatch.activation_once;
CREATE UNIQUE INDEX activation_once ON paidwatch.activation (payment_id) WHERE state IN ('claimed', 'calling', 'done');
CREATE INDEX activation_undone ON paidwatch.activation (payment_id) WHERE state = 'undone';
CREATE UNIQUE INDEX activation_shadow ON paidwatch.activation (payment_id) WHERE state = 'shadow';
CREATE INDEX activation_compared ON paidwatch.activation (was_right) WHERE was_right IS NOT NULL;
CREATE INDEX activation_claimed ON paidwatch.activation (claimed_at) WHERE actor = 'auto';
CREATE INDEX activation_look ON paidwatch.activation (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX activation_ended ON paidwatch.activation (done_at) WHERE state IN ('done', 'failed');

-- What an alert about one activation is about, and the breaker's own alert.
ALTER TABLE paidwatch.alert ADD COLUMN activation_id bigint REFERENCES paidwatch.activation ON DELETE SET NULL;
-- Supervised mode: every guard holds but the mode, so messages may carry a link that asks a person.
ALTER TABLE paidwatch.alert ADD COLUMN proposed boolean NOT NULL DEFAULT false;
CREATE INDEX alert_opened ON paidwatch.alert (opened_at) WHERE payment_id IS NOT NULL;
CREATE UNIQUE INDEX alert_breaker ON paidwatch.alert (kind) WHERE kind = 'breaker' AND state <> 'resolved';
CREATE UNIQUE INDEX alert_double ON paidwatch.alert (activation_id) WHERE kind = 'double_activation';

-- The breaker: open, it stops the machine until a person arms it again. What happened before `armed_at` is not counted any more.
CREATE TABLE paidwatch.breaker (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    opened_at timestamptz,
    opened_by text,
    reason text,
    armed_at timestamptz NOT NULL DEFAULT now(),
    armed_by text NOT NULL DEFAULT 'install',
    CHECK ((opened_at IS NULL) = (reason IS NULL))
);
INSERT INTO paidwatch.breaker DEFAULT VALUES;

-- Signed links that were used: each acts once, whatever came of it. The link itself is not kept.
CREATE TABLE paidwatch.link_use (
    digest text PRIMARY KEY,
    used_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    payment_id paidwatch.payment_key NOT NULL,
    actor text NOT NULL,
    result text NOT NULL,
    -- The link's own end: until then its use must be remembered.
    expires_at timestamptz NOT NULL
);
CREATE INDEX link_use_expires ON paidwatch.link_use (expires_at);
