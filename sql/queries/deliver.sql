-- name: claim_deliveries
-- Leases what one channel is due to be told and returns the story as it is now. $1 channel, $2 lease, $3 name of the lease,
-- $4 most.
WITH due AS (
    SELECT d.delivery_id FROM paidwatch.delivery d
    WHERE d.channel = $1::text AND d.due_at <= now()
        AND NOT EXISTS (SELECT FROM paidwatch.channel c WHERE c.name = $1::text AND c.not_before > now())
    ORDER BY d.due_at, d.delivery_id LIMIT $4::integer FOR UPDATE SKIP LOCKED
), leased AS (
    UPDATE paidwatch.delivery d SET lease = $3::text, lease_until = now() + $2::interval, due_at = now() + $2::interval,
        attempts = d.attempts + 1, trying_since = coalesce(d.trying_since, now())
    FROM due WHERE d.delivery_id = due.delivery_id
    RETURNING d.*
)
SELECT d.delivery_id, d.told_revision, d.reference, d.attempts, d.trying_since, i.installation_id::text AS installation_id,
    a.alert_id, a.kind, a.state, a.outcome, a.cause, a.detail, a.delay, a.notes, a.revision, a.reminders, a.opened_at, a.resolved_at,
    a.payment_id::text AS payment_id, a.user_id::text AS user_id, coalesce(u.label, u.name) AS user_label,
    w.plan_id, w.method, w.amount, w.currency, w.paid_at, w.noticed_at, w.grace_until, p.reference AS provider_reference, p.status, now() AS now,
    (SELECT count(*) FROM (SELECT FROM paidwatch.alert b WHERE b.state = 'open' AND b.kind = a.kind AND b.cause = a.cause
        AND b.alert_id <> a.alert_id LIMIT 1000) others)::integer AS sharing
FROM leased d
JOIN paidwatch.alert a ON a.alert_id = d.alert_id
CROSS JOIN paidwatch.installation i
LEFT JOIN paidwatch.watch w ON w.payment_id = a.payment_id
LEFT JOIN paidwatch.payments p ON p.payment_id = a.payment_id
LEFT JOIN paidwatch.subscribers u ON u.user_id = a.user_id
ORDER BY d.delivery_id;

-- name: record_sent
-- The channel took it. A story that moved on meanwhile is due at once. $1 delivery, $2 lease, $3 revision told, $4 reference.
UPDATE paidwatch.delivery d SET told_revision = $3::integer, told_at = now(), reference = d.reference || $4::text::jsonb,
    due_at = CASE WHEN a.revision > $3::integer THEN now() END,
    not_before = NULL, attempts = 0, trying_since = NULL, lease = NULL, lease_until = NULL, dead_at = NULL, last_error = NULL
FROM paidwatch.alert a
WHERE d.delivery_id = $1::bigint AND d.lease = $2::text AND a.alert_id = d.alert_id
RETURNING a.opened_at, d.due_at IS NOT NULL AS moved_on;

-- name: record_retry
-- Not taken; again after $3. $4 says why.
UPDATE paidwatch.delivery SET due_at = now() + $3::interval, not_before = now() + $3::interval, lease = NULL, lease_until = NULL, last_error = $4::text
WHERE delivery_id = $1::bigint AND lease = $2::text
RETURNING delivery_id;

-- name: record_dead
-- Never to be taken, or tried for too long: kept as a dead letter. $3 says why.
UPDATE paidwatch.delivery SET due_at = NULL, lease = NULL, lease_until = NULL, dead_at = now(), last_error = $3::text
WHERE delivery_id = $1::bigint AND lease = $2::text
RETURNING delivery_id;

-- name: record_attempt
-- The delivery log, and a hint to whoever looks at it live. $1 delivery, $2 took, $3 revision, $4 word, $5 result, $6 code,
-- $7 bytes, $8 error.
INSERT INTO paidwatch.attempt (delivery_id, took, revision, word, result, code, size, error)
VALUES ($1::bigint, $2::interval, $3::integer, $4::text, $5::text, $6::text, $7::integer, $8::text)
RETURNING pg_notify('paidwatch_feed', '')::text AS told;

-- name: hold_channel
-- No request to this channel before $2 from now; $3 is the reason while it is broken, NULL while it is only asked to wait.
INSERT INTO paidwatch.channel AS c (name, not_before, down_since, down_reason)
VALUES ($1::text, now() + $2::interval, CASE WHEN $3::text IS NOT NULL THEN now() END, $3::text)
ON CONFLICT (name) DO UPDATE SET not_before = excluded.not_before, down_since = coalesce(c.down_since, excluded.down_since),
    down_reason = coalesce(excluded.down_reason, c.down_reason);

-- name: channel_works
-- A message was taken: the channel is not broken any more. $1 channel.
UPDATE paidwatch.channel SET down_since = NULL, down_reason = NULL WHERE name = $1::text AND down_since IS NOT NULL
RETURNING name;

-- name: next_delivery
-- When this channel has something to be told next, as a span from now. $1 channel.
SELECT greatest((SELECT min(due_at) FROM paidwatch.delivery WHERE channel = $1::text AND due_at IS NOT NULL),
    (SELECT not_before FROM paidwatch.channel WHERE name = $1::text)) - clock_timestamp() AS wait,
    EXISTS (SELECT FROM paidwatch.delivery WHERE channel = $1::text AND due_at IS NOT NULL) AS waiting;

-- name: release_leases
-- A new leader is the only sender: what its predecessor had under way is due now.
UPDATE paidwatch.delivery SET due_at = now(), lease = NULL, lease_until = NULL WHERE lease IS NOT NULL;

-- name: queue_test
-- A marked test story on these channels. $1 channels, $2 lines.
WITH told AS (
    INSERT INTO paidwatch.alert (kind, cause, notes) VALUES ('test', '', $2::text[]) RETURNING alert_id
)
INSERT INTO paidwatch.delivery (alert_id, channel, due_at) SELECT t.alert_id, c.name, now() FROM told t CROSS JOIN unnest($1::text[]) AS c (name)
RETURNING alert_id, delivery_id, channel;

-- name: resolve_test
-- Ends a test story. $1 alert.
WITH done AS (
    UPDATE paidwatch.alert SET state = 'resolved', resolved_at = now(), outcome = 'dismissed', revision = revision + 1 WHERE alert_id = $1::bigint
    RETURNING alert_id
)
UPDATE paidwatch.delivery d SET due_at = now() FROM done WHERE d.alert_id = done.alert_id AND d.told_revision > 0;
