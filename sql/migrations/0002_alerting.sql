-- Alerting: acknowledgements, silences, incidents, escalations, bundles, and what the watcher tells of itself.

-- A person asked for quiet about something, until a given time.
CREATE TABLE paidwatch.silence (
    silence_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    created_at timestamptz NOT NULL DEFAULT now(),
    author text NOT NULL CHECK (author <> ''),
    reason text NOT NULL DEFAULT '',
    expires_at timestamptz NOT NULL,
    ended_at timestamptz,
    ended_by text,
    user_id paidwatch.user_key,
    plan_id text,
    method text,
    kind text,
    CHECK (expires_at > created_at),
    CHECK (user_id IS NOT NULL OR plan_id IS NOT NULL OR method IS NOT NULL OR kind IS NOT NULL)
);
CREATE INDEX silence_open ON paidwatch.silence (expires_at) WHERE ended_at IS NULL;

ALTER TABLE paidwatch.alert
    DROP CONSTRAINT alert_state_check,
    ADD CONSTRAINT alert_state_check CHECK (state IN ('open', 'acked', 'resolved')),
    ADD COLUMN severity text NOT NULL DEFAULT 'high' CHECK (severity IN ('high', 'low')),
    -- Copied from the payment: what routes, silences and incidents go by.
    ADD COLUMN plan_id text,
    ADD COLUMN method text,
    ADD COLUMN amount numeric,
    ADD COLUMN currency text,
    -- The cause without what differs from payment to payment: gaps of one kind, method and error class are alike.
    ADD COLUMN error_class text NOT NULL DEFAULT '',
    -- The incident that speaks for this alert; for an incident, what its members have in common is in kind_of, method, error_class.
    ADD COLUMN incident_id bigint REFERENCES paidwatch.alert ON DELETE SET NULL,
    ADD COLUMN kind_of text,
    ADD COLUMN silence_id bigint REFERENCES paidwatch.silence,
    ADD COLUMN acked_by text,
    ADD COLUMN acked_at timestamptz,
    ADD COLUMN acked_until timestamptz,
    -- How many steps of the escalation were taken, and when the next one is due.
    ADD COLUMN escalations integer NOT NULL DEFAULT 0,
    ADD COLUMN escalate_at timestamptz,
    -- The earliest moment at which an acknowledgement, a silence, an escalation, an incident's quiet time or the alert's own time
    -- ends. A fresh alert is looked at at once: that look says when the next one is due.
    ADD COLUMN look_at timestamptz DEFAULT now(),
    -- Until then others like it are waited for: an alert that nobody was told of is not told, an incident is not over.
    ADD COLUMN storm_until timestamptz,
    -- The channel that a story about a broken channel is about.
    ADD COLUMN channel text,
    ADD CONSTRAINT alert_acked_check CHECK ((state = 'acked') = (acked_until IS NOT NULL));
-- What is over needs no look.
UPDATE paidwatch.alert SET look_at = NULL WHERE state = 'resolved';
CREATE INDEX alert_look ON paidwatch.alert (look_at) WHERE look_at IS NOT NULL;
CREATE INDEX alert_members ON paidwatch.alert (incident_id) WHERE incident_id IS NOT NULL;
CREATE INDEX alert_members_left ON paidwatch.alert (incident_id) WHERE incident_id IS NOT NULL AND state <> 'resolved';
CREATE INDEX alert_like ON paidwatch.alert (kind, coalesce(method, ''), error_class, opened_at);
CREATE UNIQUE INDEX alert_incident ON paidwatch.alert (kind_of, coalesce(method, ''), error_class) WHERE kind = 'incident' AND state <> 'resolved';
-- An acknowledged gap is as little over as an open one.
DROP INDEX paidwatch.alert_alike;
CREATE INDEX alert_alike ON paidwatch.alert (kind, cause) WHERE state <> 'resolved';
CREATE UNIQUE INDEX alert_channel ON paidwatch.alert (channel) WHERE kind = 'channel_down' AND state <> 'resolved';

-- What happened to an alert, in order: opened, told, acked, ack_expired, escalated, joined, silenced, resolved, dismissed, expired.
CREATE TABLE paidwatch.alert_history (
    history_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES paidwatch.alert ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    what text NOT NULL,
    actor text NOT NULL DEFAULT 'paidwatch',
    note text NOT NULL DEFAULT ''
);
CREATE INDEX alert_history_alert ON paidwatch.alert_history (alert_id, history_id);

-- What the channel took can be changed there: it gave the message a number of its own. An e-mail has one too (beside its subject),
-- but what was sent stays as it is.
CREATE FUNCTION paidwatch.can_edit(reference jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $can$ SELECT reference ?| ARRAY['message_id', 'ts'] AND NOT reference ? 'subject' $can$;

ALTER TABLE paidwatch.delivery
    ADD COLUMN edits boolean NOT NULL GENERATED ALWAYS AS (paidwatch.can_edit(reference)) STORED,
    -- Waits for a digest (quiet hours, a broken channel) instead of going out by itself: `quiet` or `held`.
    ADD COLUMN waits_for text CHECK (waits_for IN ('quiet', 'held')),
    -- The delivery of the digest that tells this one.
    ADD COLUMN bundle_id bigint REFERENCES paidwatch.delivery ON DELETE SET NULL,
    -- What a person did about a dead letter.
    ADD COLUMN replayed_by text,
    -- Added by a step of the escalation, which asks for at least this amount (NULL: for the age alone).
    ADD COLUMN escalated boolean NOT NULL DEFAULT false,
    ADD COLUMN escalated_from numeric;
CREATE INDEX delivery_bundle ON paidwatch.delivery (bundle_id) WHERE bundle_id IS NOT NULL;
CREATE INDEX delivery_waits ON paidwatch.delivery (channel, due_at) WHERE waits_for IS NOT NULL;

ALTER TABLE paidwatch.channel
    -- When a test of the whole pipe last got through.
    ADD COLUMN taken_at timestamptz;

ALTER TABLE paidwatch.installation
    ADD COLUMN digest_at timestamptz,
    ADD COLUMN audited_at timestamptz;
