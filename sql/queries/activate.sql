-- name: usage
-- What automatic activation did lately, for the caps. $1 user. Claims count: they are about to be done.
SELECT count(*) FILTER (WHERE claimed_at > now() - interval '1 hour') AS hour,
    count(*) FILTER (WHERE claimed_at > now() - interval '1 day') AS day,
    count(*) FILTER (WHERE claimed_at > now() - interval '1 day' AND user_id = $1::text::paidwatch.user_key) AS user_day
FROM paidwatch.activation WHERE state IN ('claimed', 'calling', 'done') AND actor = 'auto' AND claimed_at > now() - interval '1 day'
    AND activation_id IS DISTINCT FROM $2::bigint;

-- name: serialize_activations
-- One activation is decided at a time, so that caps are exact. Held to the end of the transaction.
SELECT pg_advisory_xact_lock(paidwatch.leadership() + 1);

-- name: claim_activation
-- The ledger's row; none comes back if this payment was granted or is being granted already. $1 payment, $2 user, $3 actor,
-- $4 reason, $5 guards, $6 version.
INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, reason, guards, version, due_at)
VALUES ($1::text::paidwatch.payment_key, $2::text::paidwatch.user_key, 'claimed', 'sql', $3::text, $4::text, $5::text::jsonb, $6::text, now())
ON CONFLICT (payment_id) WHERE state IN ('claimed', 'calling', 'done') DO NOTHING
RETURNING activation_id;

-- name: record_shadow
-- What automatic activation would have written; once per payment.
INSERT INTO paidwatch.activation (payment_id, user_id, state, strategy, actor, reason, guards, after, version, done_at)
SELECT $1::text::paidwatch.payment_key, $2::text::paidwatch.user_key, 'shadow', 'sql', 'auto', $3::text, $4::text::jsonb, $5::text::jsonb, $6::text, now()
WHERE NOT EXISTS (SELECT FROM paidwatch.activation WHERE payment_id = $1::text::paidwatch.payment_key AND state = 'shadow');

-- name: claimed_activations
-- $1 most.
SELECT activation_id, payment_id::text AS payment_id, user_id::text AS user_id, actor, reason, attempts
FROM paidwatch.activation WHERE due_at <= now() AND state = 'claimed' ORDER BY due_at LIMIT $1::integer;

-- name: take_claim
-- Guards against a second worker: the claim must still be a claim. $1 activation.
SELECT payment_id::text AS payment_id, user_id::text AS user_id FROM paidwatch.activation
WHERE activation_id = $1::bigint AND state = 'claimed' FOR UPDATE;

-- name: lock_subscriber
-- Locks the user's row and returns what an activation may write in it. $1 user.
SELECT paidwatch.lock_subscriber($1::text::paidwatch.user_key)::text AS image;

-- name: write_subscriber
-- $1 user, $2 canonical values as JSON.
SELECT paidwatch.write_subscriber($1::text::paidwatch.user_key, $2::text::jsonb)::text AS image;

-- name: write_event
-- $1 user, $2 type, $3 data as JSON, $4 external id.
SELECT paidwatch.write_event($1::text::paidwatch.user_key, $2::text, $3::text::jsonb, $4::text) AS event_id;

-- name: facts_of
-- $1 payments, $2 methods, $3 graces, $4 grace.
SELECT now() AS now, f.* FROM paidwatch.facts($1::text[]::paidwatch.payment_key[], $2::text[], $3::interval[], $4::interval) f;

-- name: finish_activation
-- $1 activation, $2 state, $3 guards, $4 before, $5 after, $6 event, $7 error.
UPDATE paidwatch.activation SET state = $2::text, done_at = now(), due_at = NULL, attempts = attempts + 1, guards = $3::text::jsonb,
    before = $4::text::jsonb, after = $5::text::jsonb, event_id = $6::text, error = $7::text
WHERE activation_id = $1::bigint AND state = 'claimed'
RETURNING activation_id;

-- name: retry_activation
-- $1 activation, $2 after which span, $3 error.
UPDATE paidwatch.activation SET due_at = now() + $2::interval, attempts = attempts + 1, error = $3::text
WHERE activation_id = $1::bigint AND state = 'claimed';

-- name: note_refusal
-- Says on the alert why nothing was activated, and lets its messages go now, unless they wait for others. $1 payment, $2 notes.
WITH said AS (
    UPDATE paidwatch.alert SET notes = $2::text[] WHERE payment_id = $1::text::paidwatch.payment_key AND state <> 'resolved'
    RETURNING alert_id, storm_until
)
UPDATE paidwatch.delivery d SET due_at = greatest(now(), said.storm_until, d.not_before) FROM said
WHERE d.alert_id = said.alert_id AND d.told_revision = 0 AND d.due_at IS NOT NULL AND d.lease IS NULL AND d.dead_at IS NULL AND d.waits_for IS NULL;

-- name: note_activation
-- $1 payment, $2 notes.
UPDATE paidwatch.alert SET notes = $2::text[] WHERE payment_id = $1::text::paidwatch.payment_key AND state <> 'resolved';

-- name: audit
-- $1 actor, $2 act, $3 payment, $4 user, $5 detail as JSON, $6 version.
INSERT INTO paidwatch.audit (actor, act, payment_id, user_id, detail, version)
VALUES ($1::text, $2::text, $3::text::paidwatch.payment_key, $4::text::paidwatch.user_key, $5::text::jsonb, $6::text);

-- name: newest_payment
-- The payment that a person means who names only the user: the newest paid one. $1 user.
SELECT p.payment_id::text AS payment_id FROM paidwatch.payments p LEFT JOIN paidwatch.watch w ON w.payment_id = p.payment_id
WHERE p.user_id = $1::text::paidwatch.user_key AND p.paid
ORDER BY coalesce(w.paid_at, p.settled_at) DESC, p.payment_id DESC LIMIT 1;
