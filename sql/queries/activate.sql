-- name: usage
-- What automatic activation did lately, for the caps, and whether the breaker is open. $1 user, $2 activation that does not count.
-- Claims count: they are about to be done; so does what was undone. $3 counts shadow activations too: in shadow mode they stand for done ones.
SELECT count(*) FILTER (WHERE claimed_at > now() - interval '1 hour') AS hour,
    count(*) FILTER (WHERE claimed_at > now() - interval '1 day') AS day,
    count(*) FILTER (WHERE claimed_at > now() - interval '1 day' AND user_id = $1::text::paidwatch.user_key) AS user_day,
    (SELECT b.opened_at IS NOT NULL FROM paidwatch.breaker b) AS breaker_open
FROM paidwatch.activation WHERE (state IN ('claimed', 'calling', 'done', 'undone') OR $3::boolean AND state = 'shadow') AND actor = 'auto'
    AND claimed_at > now() - interval '1 day' AND activation_id IS DISTINCT FROM $2::bigint;

-- name: serialize_activations
-- One activation is decided at a time, so that caps are exact. Held to the end of the transaction.
SELECT pg_advisory_xact_lock(paidwatch.activations());

-- name: claim_activation
-- The ledger's row; none comes back if this payment was granted or is being granted already, under whichever name. $1 payment, or $2
-- method and $3 reference, $4 user, $5 actor, $6 reason, $7 guards, $8 version, $9 strategy, $10 guards that a person overrode.
-- What the application itself refused, or did not show after it was asked, the machine does not ask for again: a person may.
INSERT INTO paidwatch.activation (payment_id, method, reference, names, user_id, state, strategy, actor, reason, guards, version, forced, due_at)
SELECT $1::text::paidwatch.payment_key, $2::text, $3::text, CASE WHEN $3::text IS NULL THEN '{}' ELSE k.names END, $4::text::paidwatch.user_key,
    'claimed', $9::text, $5::text, $6::text, $7::text::jsonb, $8::text, $10::text[], now()
FROM (
    SELECT CASE WHEN $3::text IS NOT NULL THEN paidwatch.told_names($2::text, $3::text)
        ELSE ARRAY(SELECT p.reference FROM paidwatch.payments p WHERE p.payment_id = $1::text::paidwatch.payment_key AND p.reference IS NOT NULL)
        END AS names
) k
WHERE ($5::text <> 'auto' OR NOT EXISTS (
        SELECT FROM paidwatch.activation f WHERE f.user_id = $4::text::paidwatch.user_key AND f.state = 'failed' AND f.strategy = 'http'
            AND (f.payment_id = $1::text::paidwatch.payment_key OR f.names && k.names OR $3::text IS NOT NULL AND f.payment_id IN (
                SELECT p.payment_id FROM paidwatch.payments p WHERE p.reference = ANY (k.names)))))
    AND NOT EXISTS (
        SELECT FROM paidwatch.activation o
        WHERE o.names && k.names AND o.reference IS NOT NULL AND o.state IN ('claimed', 'calling', 'done'))
    AND NOT EXISTS (
        SELECT FROM paidwatch.payments p JOIN paidwatch.activation o ON o.payment_id = p.payment_id
        WHERE $3::text IS NOT NULL AND p.reference = ANY (k.names) AND o.state IN ('claimed', 'calling', 'done'))
ON CONFLICT DO NOTHING
RETURNING activation_id;

-- name: record_shadow
-- What automatic activation would have written; once per payment. $1 payment, or $2 method and $3 reference, $4 user, $5 strategy,
-- $6 guards, $7 what was planned, $8 version. The images are those that `write_subscriber` would have left.
INSERT INTO paidwatch.activation (payment_id, method, reference, user_id, state, strategy, actor, guards, planned, before, after, version, done_at)
SELECT $1::text::paidwatch.payment_key, $2::text, $3::text, $4::text::paidwatch.user_key, 'shadow', $5::text, 'auto', $6::text::jsonb,
    $7::text::jsonb, i.before, i.after, $8::text, now()
FROM paidwatch.planned_subscriber($4::text::paidwatch.user_key, $7::text::jsonb -> 'user') i
ON CONFLICT DO NOTHING
RETURNING activation_id;

-- name: shadowed
-- Those for which a shadow activation is recorded. $1 payments, or $2 methods and $3 references, in threes.
SELECT v.payment_id, v.method, v.reference FROM unnest($1::text[], $2::text[], $3::text[]) AS v (payment_id, method, reference)
WHERE EXISTS (SELECT FROM paidwatch.activation a WHERE a.payment_id = v.payment_id::paidwatch.payment_key AND a.state = 'shadow')
    OR EXISTS (SELECT FROM paidwatch.activation a WHERE a.method = v.method AND a.reference = v.reference AND a.state = 'shadow');

-- name: shadows_to_compare
-- Shadow activations of what is over, with how the user is now. $1 payments, $2 and $3 methods and references, in pairs.
-- What was recorded before there was a plan stands in the image, by the same names.
SELECT a.activation_id, a.claimed_at, k.planned ->> 'tier' AS tier, (k.planned ->> 'paid_until')::timestamptz AS paid_until, w.outcome, w.closed_at, d.actor AS done_by,
    u.user_id IS NOT NULL AS user_exists, u.tier AS now_tier, u.tier_watched, paidwatch.readable(u.paid_until) AS now_paid_until,
    u.paid_until_watched
FROM paidwatch.activation a
CROSS JOIN LATERAL (SELECT coalesce(a.planned -> 'user', a.after) AS planned) k
CROSS JOIN LATERAL (
    SELECT w.outcome, w.closed_at FROM paidwatch.watch w WHERE w.payment_id = a.payment_id AND w.state = 'closed'
    UNION ALL
    SELECT c.outcome, c.closed_at FROM paidwatch.claim c WHERE c.method = a.method AND c.reference = a.reference AND c.state = 'closed'
) w
LEFT JOIN LATERAL (
    SELECT d.actor FROM paidwatch.activation d WHERE d.payment_id = a.payment_id AND d.state = 'done'
    UNION ALL
    SELECT d.actor FROM paidwatch.activation d WHERE d.method = a.method AND d.reference = a.reference AND d.state = 'done'
) d ON true
LEFT JOIN paidwatch.subscribers u ON u.user_id = a.user_id
WHERE a.compared_at IS NULL AND a.activation_id = ANY (ARRAY(
    SELECT s.activation_id FROM paidwatch.activation s WHERE s.payment_id = ANY ($1::text[]::paidwatch.payment_key[]) AND s.state = 'shadow'
    UNION ALL
    SELECT s.activation_id FROM unnest($2::text[], $3::text[]) AS v (method, reference)
    JOIN paidwatch.activation s ON s.method = v.method AND s.reference = v.reference AND s.state = 'shadow'));

-- name: record_comparisons
-- $1 activations, $2 whether each was right (NULL: it cannot be said), $3 what was found.
UPDATE paidwatch.activation a SET compared_at = now(), was_right = v.was_right, comparison = v.comparison
FROM unnest($1::bigint[], $2::boolean[], $3::text[]) AS v (activation_id, was_right, comparison)
WHERE a.activation_id = v.activation_id AND a.state = 'shadow';

-- name: track_record
-- How often shadow mode would have been right, of the times that can be told; and why the breaker is open, if it is.
SELECT count(*) FILTER (WHERE a.was_right) AS right_ones, count(*) AS compared, (SELECT b.reason FROM paidwatch.breaker b) AS stopped
FROM paidwatch.activation a WHERE a.was_right IS NOT NULL;

-- name: claimed_activations
-- Those to be written by paidwatch itself. $1 most.
SELECT activation_id, payment_id::text AS payment_id, method, reference, user_id::text AS user_id, actor, reason, attempts, strategy, forced
FROM paidwatch.activation WHERE due_at <= now() AND state = 'claimed' AND strategy = 'sql' ORDER BY due_at LIMIT $1::integer;

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
    before = $4::text::jsonb, after = $5::text::jsonb, event_id = $6::text, error = $7::text,
    -- The application may have written its own event meanwhile: see double.sql.
    look_at = CASE WHEN $2::text = 'done' THEN now() END
WHERE activation_id = $1::bigint AND state = 'claimed'
RETURNING activation_id;

-- name: retry_activation
-- $1 activation, $2 after which span, $3 error.
UPDATE paidwatch.activation SET due_at = now() + $2::interval, attempts = attempts + 1, error = $3::text
WHERE activation_id = $1::bigint AND state = 'claimed';

-- name: note_refusal
-- Says on the alert why nothing was activated, and lets its messages go now, unless they wait for others. $1 payment, or $2 method and
-- $3 reference, $4 notes.
WITH said AS (
    UPDATE paidwatch.alert SET notes = $4::text[]
    WHERE alert_id = ANY (ARRAY(
        SELECT a.alert_id FROM paidwatch.alert a WHERE a.payment_id = $1::text::paidwatch.payment_key AND a.state <> 'resolved'
        UNION ALL SELECT a.alert_id FROM paidwatch.alert a WHERE a.method = $2::text AND a.reference = $3::text AND a.state <> 'resolved'))
    RETURNING alert_id, storm_until
)
UPDATE paidwatch.delivery d SET due_at = greatest(now(), said.storm_until, d.not_before) FROM said
WHERE d.alert_id = said.alert_id AND d.told_revision = 0 AND d.due_at IS NOT NULL AND d.lease IS NULL AND d.dead_at IS NULL AND d.waits_for IS NULL;

-- name: note_activation
-- $1 payment, or $2 method and $3 reference, $4 notes.
UPDATE paidwatch.alert SET notes = $4::text[]
WHERE alert_id = ANY (ARRAY(
    SELECT a.alert_id FROM paidwatch.alert a WHERE a.payment_id = $1::text::paidwatch.payment_key AND a.state <> 'resolved'
    UNION ALL SELECT a.alert_id FROM paidwatch.alert a WHERE a.method = $2::text AND a.reference = $3::text AND a.state <> 'resolved'));

-- name: audit
-- $1 actor, $2 act, $3 payment, $4 user, $5 detail as JSON, $6 version.
INSERT INTO paidwatch.audit (actor, act, payment_id, user_id, detail, version)
VALUES ($1::text, $2::text, $3::text::paidwatch.payment_key, $4::text::paidwatch.user_key, $5::text::jsonb, $6::text);

-- name: newest_payment
-- The payment that a person means who names only the user: the newest paid one. $1 user.
SELECT p.payment_id::text AS payment_id FROM paidwatch.payments p LEFT JOIN paidwatch.watch w ON w.payment_id = p.payment_id
WHERE p.user_id = $1::text::paidwatch.user_key AND p.paid
ORDER BY coalesce(w.paid_at, p.settled_at) DESC, p.payment_id DESC LIMIT 1;
