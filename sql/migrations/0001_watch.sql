-- The inbox, the watches, the alerts and their deliveries, the ledger of activations.

-- What the triggers noted and the daemon has not read yet. Narrow, without a key of its own: rows live for milliseconds.
-- kind: P became paid, R was reversed, M moved within the paid set, L left it, D row deleted; U user changed, E event, W webhook.
CREATE TABLE paidwatch.inbox (
    txid xid8 NOT NULL,
    at timestamptz NOT NULL,
    kind "char" NOT NULL,
    payment_id paidwatch.payment_key,
    user_id paidwatch.user_key,
    ref text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_insert_threshold = -1,
        autovacuum_analyze_threshold = 2000000000, toast_tuple_target = 8160);
-- The daemon reads what its last snapshot could not see, so an old snapshot elsewhere that keeps dead rows costs it nothing.
CREATE INDEX inbox_txid ON paidwatch.inbox (txid);

-- One row per payment that ever became paid (or was reversed): waiting for its grace period, a gap, or closed.
CREATE TABLE paidwatch.watch (
    payment_id paidwatch.payment_key PRIMARY KEY,
    user_id paidwatch.user_key,
    state text NOT NULL CHECK (state IN ('waiting', 'gap', 'closed')),
    source text NOT NULL CHECK (source IN ('trigger', 'reconcile', 'baseline')),
    paid_at timestamptz NOT NULL,
    noticed_at timestamptz NOT NULL,
    grace_until timestamptz NOT NULL,
    due_at timestamptz,
    touched_at timestamptz,
    reversed_at timestamptz,
    settled_at timestamptz,
    kind text,
    outcome text,
    closed_at timestamptz,
    failures integer NOT NULL DEFAULT 0,
    plan_id text,
    method text,
    amount numeric,
    currency text,
    CHECK ((state = 'closed') = (closed_at IS NOT NULL)),
    CHECK ((state = 'closed') = (outcome IS NOT NULL))
) WITH (fillfactor = 90);
CREATE INDEX watch_due ON paidwatch.watch (due_at) WHERE due_at IS NOT NULL;
-- The watches of a user are found through the application's payments; only what must be found at once, or without them, is
-- indexed here, so that the ordinary payment costs one index less.
CREATE INDEX watch_gap ON paidwatch.watch (user_id) WHERE state = 'gap';
CREATE INDEX watch_gone ON paidwatch.watch (user_id) WHERE outcome = 'gone';
CREATE INDEX watch_closed ON paidwatch.watch (closed_at) WHERE state = 'closed';

-- One row per story told to people. `revision` grows with everything worth telling.
CREATE TABLE paidwatch.alert (
    alert_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    payment_id paidwatch.payment_key,
    user_id paidwatch.user_key,
    state text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'resolved')),
    outcome text,
    cause text NOT NULL DEFAULT '',
    detail text NOT NULL DEFAULT '',
    delay text NOT NULL DEFAULT '',
    notes text[] NOT NULL DEFAULT '{}',
    revision integer NOT NULL DEFAULT 1,
    reminders integer NOT NULL DEFAULT 0,
    remind_at timestamptz,
    opened_at timestamptz NOT NULL DEFAULT now(),
    resolved_at timestamptz,
    CHECK ((state = 'resolved') = (resolved_at IS NOT NULL))
);
CREATE UNIQUE INDEX alert_story ON paidwatch.alert (payment_id) WHERE state <> 'resolved' AND payment_id IS NOT NULL;
CREATE INDEX alert_alike ON paidwatch.alert (kind, cause) WHERE state = 'open';
CREATE INDEX alert_payment ON paidwatch.alert (payment_id);
CREATE INDEX alert_user ON paidwatch.alert (user_id);
CREATE INDEX alert_remind ON paidwatch.alert (remind_at) WHERE remind_at IS NOT NULL;
CREATE INDEX alert_resolved ON paidwatch.alert (resolved_at) WHERE state = 'resolved';

-- The outbox: what one channel knows of one story, and when to tell it more. Rendered from the present truth when sent.
CREATE TABLE paidwatch.delivery (
    delivery_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id bigint NOT NULL REFERENCES paidwatch.alert ON DELETE CASCADE,
    channel text NOT NULL,
    told_revision integer NOT NULL DEFAULT 0,
    told_at timestamptz,
    reference jsonb NOT NULL DEFAULT '{}',
    due_at timestamptz,
    not_before timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    trying_since timestamptz,
    lease text,
    lease_until timestamptz,
    dead_at timestamptz,
    last_error text,
    UNIQUE (alert_id, channel)
);
CREATE INDEX delivery_due ON paidwatch.delivery (channel, due_at) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_dead ON paidwatch.delivery (dead_at) WHERE dead_at IS NOT NULL;

-- Every request made to a channel.
CREATE TABLE paidwatch.attempt (
    attempt_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    delivery_id bigint NOT NULL REFERENCES paidwatch.delivery ON DELETE CASCADE,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    took interval NOT NULL,
    revision integer NOT NULL,
    word text NOT NULL,
    result text NOT NULL CHECK (result IN ('sent', 'transient', 'message', 'channel')),
    code text NOT NULL DEFAULT '',
    size integer,
    error text
);
CREATE INDEX attempt_delivery ON paidwatch.attempt (delivery_id);
CREATE INDEX attempt_at ON paidwatch.attempt (at);

-- What is known of a channel over restarts: when it may be used again, and whether it is broken.
CREATE TABLE paidwatch.channel (
    name text PRIMARY KEY,
    not_before timestamptz,
    down_since timestamptz,
    down_reason text
);

-- The ledger: one payment is granted once.
CREATE TABLE paidwatch.activation (
    activation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    payment_id paidwatch.payment_key NOT NULL,
    user_id paidwatch.user_key NOT NULL,
    state text NOT NULL CHECK (state IN ('claimed', 'done', 'refused', 'failed', 'shadow')),
    strategy text NOT NULL,
    actor text NOT NULL,
    reason text NOT NULL DEFAULT '',
    claimed_at timestamptz NOT NULL DEFAULT now(),
    done_at timestamptz,
    due_at timestamptz,
    attempts integer NOT NULL DEFAULT 0,
    guards jsonb NOT NULL DEFAULT '[]',
    before jsonb,
    after jsonb,
    event_id text,
    error text,
    version text NOT NULL
);
CREATE UNIQUE INDEX activation_once ON paidwatch.activation (payment_id) WHERE state IN ('claimed', 'done');
CREATE INDEX activation_user ON paidwatch.activation (user_id);
CREATE INDEX activation_due ON paidwatch.activation (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX activation_done ON paidwatch.activation (done_at) WHERE state = 'done';

-- Who did what and why; never changed afterwards.
CREATE TABLE paidwatch.audit (
    audit_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor text NOT NULL,
    act text NOT NULL,
    payment_id paidwatch.payment_key,
    user_id paidwatch.user_key,
    detail jsonb NOT NULL DEFAULT '{}',
    version text NOT NULL
);
CREATE INDEX audit_user ON paidwatch.audit (user_id);

-- What was installed, from which mapping, and since when payments count as news.
CREATE TABLE paidwatch.installation (
    singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
    installation_id uuid NOT NULL DEFAULT gen_random_uuid(),
    mapping json NOT NULL,
    not_watched text[] NOT NULL DEFAULT '{}',
    installed_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    baseline_at timestamptz,
    listening_at timestamptz
);
